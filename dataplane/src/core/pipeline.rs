//! A burst of frames of one device, through all stages.
//!
//! ```text
//! frames --> admit each (parse, check, hash) --> look all keys up --> forward each (resolve, write) --> outbox
//!                      \-> pool, counted                                          \-> pool, counted
//! ```
//!
//! The look-ups of a burst go together, so that their cache misses overlap. Frames of one flow keep their order.

use super::frame::{BURST, Frame, FrameMemory, Pool};
use super::limit::Limits;
use super::notice::{Notice, Notices};
use super::outbox::Outbox;
use super::overlay::OverlayFrame;
use super::tally::Tally;
use super::tenant::TenantFrame;
use super::turn::Turn;
use crate::addr::{DeviceId, PortId, WorkerId};
use crate::table::Snapshot;
use crate::table::mac::{Destination, MacKey, MacReader};
use crate::table::neighbor::NeighborReader;
use crate::table::port::Role;

/// The tables that hold for one burst.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'t> {
    /// All but the two below.
    pub snapshot: &'t Snapshot,
    /// The MAC table.
    pub macs: &'t MacReader,
    /// The neighbour table.
    pub neighbors: &'t NeighborReader,
}

/// What a worker keeps from burst to burst: token buckets, and room for the stages. Nothing is allocated after
/// [`Pipeline::new`].
#[derive(Debug)]
pub struct Pipeline {
    worker: WorkerId,
    limits: Limits,
    identification: u16,
    notices: Notices,
    sources: Vec<(PortId, MacKey)>,
    unknown_devices: u64,
    stages: Stages,
}

/// Room for the frames between two stages.
#[derive(Debug)]
struct Stages {
    tenant: Vec<TenantFrame>,
    overlay: Vec<OverlayFrame>,
    keys: Vec<MacKey>,
    found: [Option<Destination>; BURST],
}

impl Pipeline {
    /// The pipeline of one worker, whose rows of all counters it writes.
    #[must_use]
    pub fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            limits: Limits::new(),
            // Workers that send to one VTEP should not use the same numbers at the same time.
            identification: worker.0.wrapping_mul(0x2f1b),
            notices: Notices::new(),
            sources: Vec::with_capacity(BURST),
            unknown_devices: 0,
            stages: Stages {
                tenant: Vec::with_capacity(BURST),
                overlay: Vec::with_capacity(BURST),
                keys: Vec::with_capacity(BURST),
                found: [None; BURST],
            },
        }
    }

    /// Consumes `frames`, which `device` received: each ends in `out`, or in `pool` and is counted with a
    /// [`super::verdict::Reason`]. `now_ns`: any clock that doesn't go back.
    ///
    /// Counts what is received from, and queued for, devices, ports, VNIs and VTEPs; bytes of devices are those of whole
    /// frames, all others those of the tenant's frame without VLAN tag and outer header.
    pub fn burst<M: FrameMemory>(
        &mut self,
        tables: Tables<'_>,
        now_ns: u64,
        device: DeviceId,
        frames: &mut Vec<Frame>,
        pool: &mut Pool<M>,
        out: &mut Outbox,
    ) {
        let Some(device) = tables.snapshot.ports.device(device) else {
            // Removed from the tables a moment ago: there is no row to count in.
            self.unknown_devices += frames.len() as u64;
            frames.drain(..).for_each(|frame| pool.give(frame));
            return;
        };
        let bytes = frames.iter().map(|frame| frame.len() as u64).sum();
        device.counters.row(self.worker).received(frames.len() as u64, bytes);
        let mut turn = Turn {
            snapshot: tables.snapshot,
            macs: tables.macs,
            neighbors: tables.neighbors,
            worker: self.worker,
            now_ns,
            device,
            pool,
            limits: &mut self.limits,
            notices: &mut self.notices,
            sources: &mut self.sources,
            identification: &mut self.identification,
            out,
            from_port: Tally::default(),
            from_domain: Tally::default(),
            from_hop: Tally::default(),
            to_device: Tally::default(),
            to_port: Tally::default(),
            to_domain: Tally::default(),
            to_hop: Tally::default(),
        };
        let mut frames = frames.drain(..);
        while frames.len() > 0 {
            let burst = frames.by_ref().take(BURST);
            match device.role {
                Role::Underlay => self.stages.overlay_burst(&mut turn, burst),
                Role::Access(_) | Role::Trunk(_) => self.stages.tenant_burst(&mut turn, burst),
            }
        }
    }

    /// What the control thread should know of the last burst, until there is no more. To be asked after each burst: what
    /// is left fills the room of the next one.
    #[inline]
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.next()
    }

    /// Frames of devices that the tables did not have (any more).
    #[must_use]
    pub const fn unknown_devices(&self) -> u64 {
        self.unknown_devices
    }
}

impl Stages {
    fn tenant_burst<M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'_, '_, M>,
        frames: impl Iterator<Item = Frame>,
    ) {
        for frame in frames {
            if let Some((frame, key)) = TenantFrame::admit(turn, frame) {
                self.tenant.push(frame);
                self.keys.push(key);
            }
        }
        turn.macs.lookup_burst(&self.keys, &mut self.found);
        for ((frame, key), found) in self.tenant.drain(..).zip(self.keys.drain(..)).zip(self.found) {
            frame.forward(turn, key, found);
        }
        if !turn.sources.is_empty() {
            turn.tell_sources();
        }
    }

    fn overlay_burst<M: FrameMemory>(
        &mut self,
        turn: &mut Turn<'_, '_, M>,
        frames: impl Iterator<Item = Frame>,
    ) {
        for frame in frames {
            if let Some((frame, key)) = OverlayFrame::admit(turn, frame) {
                self.overlay.push(frame);
                self.keys.push(key);
            }
        }
        turn.macs.lookup_burst(&self.keys, &mut self.found);
        for ((frame, key), found) in self.overlay.drain(..).zip(self.keys.drain(..)).zip(self.found) {
            frame.forward(turn, key, found);
        }
    }
}
