//! One turn of the pipeline: what the stages of a burst share.

use super::cache::{Exit, Ingress, Origin, Run, Tunnel};
use super::flood_queue::Floods;
use super::learn_event::{NEWS_NS, Notice, Notices, STILL_THERE_NS};
use super::meta::{Blame, Leaving, Member};
use super::rate_limit::Limits;
use super::tx_queues::TxQueues;
use crate::addr::{HostMac, PortId, WorkerId};
use crate::drop::DropReason;
use crate::frame::assembly::ChainBuilder;
use crate::frame::chain::{MAX_SEGMENTS, Segment};
use crate::frame::{self, BURST, Frame, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::mac::{Destination, LookupResult, MacKey, MacReader};
use crate::table::neighbor::NeighborReader;
use crate::table::port::{Device, PortEntry};
use crate::table::vni::Domain;
use crate::table::vtep::RemoteVtep;

/// The tables, the way out and the counters of a burst. `'t` is the snapshot's life, `'p` the worker's parts.
#[derive(Debug)]
pub(super) struct Turn<'t, 'p, M> {
    pub(super) snapshot: &'t Snapshot,
    pub(super) macs: &'t MacReader,
    pub(super) neighbors: &'t NeighborReader,
    pub(super) worker: WorkerId,
    pub(super) now_ns: u64,
    /// The device that the burst came from.
    pub(super) device: &'t Device,
    /// The one port of that device and its domain, if it has one port.
    pub(super) access: Option<Member<'t>>,
    pub(super) pool: &'p mut Pool<M>,
    pub(super) limits: &'p mut Limits,
    pub(super) notices: &'p mut Notices,
    pub(super) floods: &'p mut Floods,
    /// Source MACs of frames from ports that learn.
    pub(super) sources: &'p mut Vec<(PortId, MacKey)>,
    /// The next IPv4 identification, for packets that may be fragmented (RFC 6864).
    pub(super) identification: &'p mut u16,
    pub(super) out: &'p mut TxQueues,
    pub(super) ingress: Run<Ingress<'t>>,
    pub(super) origin: Run<Origin<'t>>,
    pub(super) tunnel: Run<Tunnel<'t>>,
    pub(super) exit: Run<Exit<'t>>,
}

impl<'t, M: FrameMemory> Turn<'t, '_, M> {
    /// Counts a drop once for `device`, and once for each that is to blame.
    pub(super) fn count_at(&self, device: &Device, reason: DropReason, blame: Blame<'_>) {
        device.counters.row(self.worker).dropped(reason);
        if let Some(port) = blame.port {
            port.counters.row(self.worker).dropped(reason);
        }
        if let Some(domain) = blame.domain {
            domain.counters.row(self.worker).dropped(reason);
        }
        if let Some(hop) = blame.hop {
            hop.counters.row(self.worker).dropped(reason);
        }
    }

    /// Counts a drop for the device that the burst came from.
    pub(super) fn count(&self, reason: DropReason, blame: Blame<'_>) {
        self.count_at(self.device, reason, blame);
    }

    /// Tells the control thread; counts it for the port when there is too much to tell.
    pub(super) fn tell(&mut self, port: &PortEntry, notice: Notice, period_ns: u64) {
        if !self
            .notices
            .tell(port.id, notice, period_ns, self.now_ns, self.limits)
        {
            port.counters.row(self.worker).untold();
        }
    }

    /// Looks all collected source MACs up together, and tells of those that are new, moved, or not told of lately.
    #[inline]
    pub(super) fn tell_sources(&mut self) {
        if !self.sources.is_empty() {
            self.look_at_sources();
        }
    }

    #[inline(never)]
    fn look_at_sources(&mut self) {
        let mut keys = [MacKey::default(); BURST];
        let mut found = [LookupResult::NONE; BURST];
        let count = self.sources.len().min(BURST);
        keys.iter_mut()
            .zip(&*self.sources)
            .for_each(|(key, source)| *key = source.1);
        self.macs.lookup_burst(&keys[..count], &mut found);
        for (at, found) in found[..count].iter().enumerate() {
            let (id, key) = self.sources[at];
            let (Some(port), Ok(mac)) = (self.snapshot.ports.port(id), HostMac::new(key.mac()))
            else {
                continue;
            };
            let known = found.destination() == Some(Destination::Port(id));
            let notice = Notice::MacSeen {
                port: id,
                domain: key.domain(),
                mac,
            };
            self.tell(port, notice, if known { STILL_THERE_NS } else { NEWS_NS });
        }
        self.sources.clear();
    }

    /// Drops a frame that can't go on from the device it came from.
    pub(super) fn refuse(&mut self, frame: Frame, reason: DropReason, blame: Blame<'_>) {
        self.count(reason, blame);
        self.pool.free(frame);
    }

    /// Takes the way to a VTEP.
    #[inline]
    pub(super) fn enter(&mut self, tunnel: Tunnel<'t>) {
        if self.tunnel.way().is_none_or(|way| !way.is(&tunnel)) {
            self.tunnel.turn_to(tunnel);
        }
    }

    /// Queues a frame for `device`. False when its queue is full: the frame is dropped and counted.
    #[inline(always)]
    pub(super) fn queue(
        &mut self,
        device: &'t Device,
        frame: impl Leaving,
        blame: Blame<'_>,
    ) -> bool {
        match self.out.push(device.id, frame.into_frame()) {
            Ok(()) => true,
            Err(frame) => {
                self.not_queued(device, frame, blame);
                false
            }
        }
    }

    /// [`Turn::queue`] for a VTEP.
    #[inline(always)]
    pub(super) fn queue_for(
        &mut self,
        device: &'t Device,
        frame: impl Leaving,
        domain: &Domain,
        hop: &RemoteVtep,
    ) -> bool {
        match self.out.push(device.id, frame.into_frame()) {
            Ok(()) => true,
            Err(frame) => {
                self.not_queued(
                    device,
                    frame,
                    Blame {
                        port: None,
                        domain: Some(domain),
                        hop: Some(hop),
                    },
                );
                false
            }
        }
    }

    #[cold]
    fn not_queued(&mut self, device: &Device, frame: Frame, blame: Blame<'_>) {
        self.count_at(device, DropReason::TxFull, blame);
        self.pool.free(frame);
    }

    /// Copies a frame into fresh chunks, laid out like its own. `None` when there are not enough, or they are too small.
    pub(super) fn copy(&mut self, frame: &Frame) -> Option<Frame> {
        let copy = self.copy_piece(frame, frame.first(), None)?;
        if frame.is_chained() {
            self.copy_rest(frame, copy)
        } else {
            Some(copy)
        }
    }

    #[cold]
    fn copy_rest(&mut self, frame: &Frame, first: Frame) -> Option<Frame> {
        let mut copy = ChainBuilder::new(first);
        let mut pieces = [None; MAX_SEGMENTS];
        pieces
            .iter_mut()
            .zip(self.pool.memory().segments().rest(frame))
            .for_each(|(to, from)| *to = Some(from));
        for piece in pieces.into_iter().flatten() {
            let appended = self
                .copy_piece(frame, piece, Some(0))
                .map(|piece| copy.push(self.pool.memory().segments(), piece));
            if appended != Some(Ok(())) {
                appended
                    .and_then(Result::err)
                    .into_iter()
                    .for_each(|piece| self.pool.free(piece));
                self.pool.free(copy.finish());
                return None;
            }
        }
        Some(copy.finish())
    }

    /// Copies one piece of a frame to `start` in a fresh chunk; `None`: behind headroom.
    #[inline]
    fn copy_piece(&mut self, frame: &Frame, piece: Segment, start: Option<u16>) -> Option<Frame> {
        let mut copy = self.pool.alloc()?;
        let chunk_size = self.pool.memory().chunk_size();
        let start =
            start.unwrap_or_else(|| frame::cache_color(copy.chunk(), piece.len(), chunk_size));
        if copy.set_extent(start, piece.len(), chunk_size).is_err() {
            self.pool.free(copy);
            return None;
        }
        let (from, to) = self.pool.memory_mut().read_write(frame, piece, &mut copy);
        to.copy_from_slice(from);
        Some(copy)
    }
}
