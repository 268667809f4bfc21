//! A burst of frames of one device, through all stages.
//!
//! ```text
//! frames --> admit each (parse, check, hash) --> look all keys up --> forward each (resolve, write) --> outbox
//!                      \-> pool, counted                                          \-> pool, counted
//! ```
//!
//! Frames for everybody wait until all ports are served (replicate.rs). The look-ups of a burst go together, so that their cache misses overlap. Frames of one flow keep their order.

use super::frame::{BURST, Frame, FrameMemory, Pool};
use super::limit::Limits;
use super::notice::{Notice, Notices};
use super::outbox::Outbox;
use super::overlay::OverlayFrame;
use super::replicate::{self, Floods};
use super::tally::Tally;
use super::tenant::TenantFrame;
use super::turn::Turn;
use crate::addr::{DeviceId, PortId, WorkerId};
use crate::table::Snapshot;
use crate::table::mac::{Destination, MacKey, MacReader};
use crate::table::neighbor::NeighborReader;
use crate::table::port::{Device, Role};

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
    kept: Kept,
    unknown_devices: u64,
    stages: Stages,
}

/// What the turns use, one after the other.
#[derive(Debug)]
struct Kept {
    worker: WorkerId,
    limits: Limits,
    identification: u16,
    notices: Notices,
    floods: Floods,
    sources: Vec<(PortId, MacKey)>,
}

impl Kept {
    fn turn<'t, 'p, M>(
        &'p mut self,
        tables: Tables<'t>,
        now_ns: u64,
        device: &'t Device,
        pool: &'p mut Pool<M>,
        out: &'p mut Outbox,
    ) -> Turn<'t, 'p, M> {
        Turn {
            snapshot: tables.snapshot,
            macs: tables.macs,
            neighbors: tables.neighbors,
            worker: self.worker,
            now_ns,
            device,
            pool,
            limits: &mut self.limits,
            notices: &mut self.notices,
            floods: &mut self.floods,
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
        }
    }
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
            kept: Kept {
                worker,
                limits: Limits::new(),
                // Workers that send to one VTEP should not use the same numbers at the same time.
                identification: worker.0.wrapping_mul(0x2f1b),
                notices: Notices::new(),
                floods: Floods::new(),
                sources: Vec::with_capacity(BURST),
            },
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
    /// [`super::verdict::Reason`], or waits for [`Pipeline::replicate`]. `now_ns`: any clock that doesn't go back.
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
        device.counters.row(self.kept.worker).received(frames.len() as u64, bytes);
        let mut turn = self.kept.turn(tables, now_ns, device, pool, out);
        let mut frames = frames.drain(..);
        while frames.len() > 0 {
            let burst = frames.by_ref().take(BURST);
            match device.role {
                Role::Underlay => self.stages.overlay_burst(&mut turn, burst),
                Role::Access(_) | Role::Trunk(_) => self.stages.tenant_burst(&mut turn, burst),
            }
        }
    }

    /// Goes on flooding the frames that wait for it, with up to [`replicate::COPIES`] receivers: once a turn, when all ports were
    /// served. Returns how many receivers it served: less than that means that nothing waits.
    pub fn replicate<M: FrameMemory>(
        &mut self,
        tables: Tables<'_>,
        now_ns: u64,
        pool: &mut Pool<M>,
        out: &mut Outbox,
    ) -> usize {
        match self.kept.floods.first_device(tables.snapshot, pool) {
            Some(device) => replicate::replicate(&mut self.kept.turn(tables, now_ns, device, pool, out)),
            None => 0,
        }
    }

    /// Gives the chunks of all frames that wait back to `pool`: the worker ends.
    pub fn close<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        self.kept.floods.clear(pool);
    }

    /// What the control thread should know of the last burst, until there is no more. To be asked after each burst: what
    /// is left fills the room of the next one.
    #[inline]
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.kept.notices.next()
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
