//! What the nodes of a burst share: tables, queues, counters and the path caches.

use super::cache::{PathCache, RxPort, RxTunnel, TxPort, TxTunnel};
use super::flood_queue::{FloodOrigin, FloodQueue, FloodSource, Pending};
use super::gro::Gro;
use super::learn_event::{CHANGE_INTERVAL_NS, LearnEvent, LearnEvents, REFRESH_INTERVAL_NS};
use super::meta::{DropScope, IngressPort, TxFrame};
use super::rate_limit::RateLimits;
use super::superframe::WireSize;
use super::tx_queues::TxQueues;
use crate::addr::{DeviceId, DomainId, HostMac, PortId, WorkerId};
use crate::drop::DropReason;
use crate::frame::assembly::ChainBuilder;
use crate::frame::chain::{MAX_SEGMENTS, Segment};
use crate::frame::offload::ChecksumState;
use crate::frame::{self, BURST, Frame, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::mac::{Destination, LookupResult, MacKey, MacReader};
use crate::table::neighbor::NeighborReader;
use crate::table::port::{Device, PortEntry};
use crate::table::vni::Domain;
use crate::table::vtep::RemoteVtep;

/// The state of one burst. `'t`: lifetime of the tables; `'p`: of the worker's own state.
#[derive(Debug)]
pub(super) struct BurstContext<'t, 'p, M> {
    pub(super) snapshot: &'t Snapshot,
    pub(super) macs: &'t MacReader,
    pub(super) neighbors: &'t NeighborReader,
    pub(super) worker: WorkerId,
    pub(super) now_ns: u64,
    /// The device that received the burst.
    pub(super) device: &'t Device,
    /// The only port of that device and its domain; `None` for trunks and underlay devices.
    pub(super) access: Option<IngressPort<'t>>,
    pub(super) pool: &'p mut Pool<M>,
    pub(super) limits: &'p mut RateLimits,
    pub(super) events: &'p mut LearnEvents,
    pub(super) floods: &'p mut FloodQueue,
    /// Source MACs of frames from ports that learn, to be looked up together.
    pub(super) sources: &'p mut Vec<(PortId, MacKey)>,
    /// TCP segments from the overlay that may be joined; none after a burst.
    pub(super) gro: &'p mut Gro,
    /// The last IPv4 identification that was used for a packet that may be fragmented (RFC 6864).
    pub(super) identification: &'p mut u16,
    /// Whether the last superframe for one receiver was cut.
    pub(super) cuts: Option<bool>,
    pub(super) out: &'p mut TxQueues,
    pub(super) rx_port: PathCache<RxPort<'t>>,
    pub(super) rx_tunnel: PathCache<RxTunnel<'t>>,
    pub(super) tx_tunnel: PathCache<TxTunnel<'t>>,
    pub(super) tx_port: PathCache<TxPort<'t>>,
}

impl<'t, M: FrameMemory> BurstContext<'t, '_, M> {
    /// Counts `frames` drops for `device` and for each member of `scope`.
    pub(super) fn count_drops_at(
        &self,
        device: &Device,
        reason: DropReason,
        scope: DropScope<'_>,
        frames: u64,
    ) {
        let DropScope { port, domain, vtep } = scope;
        let counters = [
            Some(&device.counters),
            port.map(|port| &port.counters),
            domain.map(|domain| &domain.counters),
            vtep.map(|vtep| &vtep.counters),
        ];
        for counters in counters.into_iter().flatten() {
            counters.row(self.worker).dropped_many(reason, frames);
        }
    }

    /// Counts a drop for `device` and for each member of `scope`.
    pub(super) fn count_drop_at(&self, device: &Device, reason: DropReason, scope: DropScope<'_>) {
        self.count_drops_at(device, reason, scope, 1);
    }

    /// Counts a drop for the device that received the burst, and for each member of `scope`.
    pub(super) fn count_drop(&self, reason: DropReason, scope: DropScope<'_>) {
        self.count_drop_at(self.device, reason, scope);
    }

    /// Notifies the control thread, unless it was notified of the same less than `period_ns` ago.
    /// An event above the port's limit is suppressed and counted.
    pub(super) fn notify(&mut self, port: &PortEntry, event: LearnEvent, period_ns: u64) {
        if !self.events.notify(
            (port.id, self.snapshot.since.port(port.id)),
            event,
            period_ns,
            self.now_ns,
            self.limits,
        ) {
            port.counters.row(self.worker).event_suppressed();
        }
    }

    /// Looks up all collected source MACs, and notifies the control thread of each: at once when it
    /// is new or has moved, else at the refresh interval.
    #[inline]
    pub(super) fn notify_sources(&mut self) {
        if !self.sources.is_empty() {
            self.lookup_sources();
        }
    }

    #[inline(never)]
    fn lookup_sources(&mut self) {
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
            let event = LearnEvent::MacSeen {
                port: id,
                domain: key.domain(),
                mac,
            };
            self.notify(
                port,
                event,
                if known {
                    REFRESH_INTERVAL_NS
                } else {
                    CHANGE_INTERVAL_NS
                },
            );
        }
        self.sources.clear();
    }

    /// The number of frames that `frame` is on the wire.
    #[inline]
    pub(super) fn frames_of(&self, frame: &Frame) -> u64 {
        WireSize::of(self.pool.memory(), frame).frames
    }

    /// Drops a frame: counts it for the device that received the burst, and frees it.
    pub(super) fn drop_frame(&mut self, frame: Frame, reason: DropReason, scope: DropScope<'_>) {
        self.count_drops_at(self.device, reason, scope, self.frames_of(&frame));
        self.pool.free(frame);
    }

    /// The origin of a flood that is queued now.
    pub(super) fn flood_origin(&self, domain: DomainId) -> FloodOrigin {
        FloodOrigin {
            version: self.snapshot.version,
            device: self.device.id,
            domain,
        }
    }

    /// Queues a flood; without capacity, drops and counts it.
    pub(super) fn queue_flood(
        &mut self,
        source: FloodSource,
        flood: Pending,
        scope: DropScope<'_>,
    ) {
        let rejected = if self.floods.has_capacity(source) {
            self.floods.push(source, flood).err()
        } else {
            Some(flood)
        };
        if let Some(flood) = rejected {
            let frames = self.frames_of(flood.frame());
            self.count_drops_at(self.device, DropReason::FloodFull, scope, frames);
            flood.free(self.pool);
        }
    }

    /// Makes `tunnel` the current path, unless it already is.
    #[inline]
    pub(super) fn set_tx_tunnel(&mut self, tunnel: TxTunnel<'t>) {
        if self
            .tx_tunnel
            .current()
            .is_none_or(|current| !current.is_same(&tunnel))
        {
            self.tx_tunnel.switch(tunnel);
        }
    }

    /// Queues a frame for `device`. When the device accepts no more, the frame is dropped and
    /// counted, and the result is false.
    #[inline(always)]
    pub(super) fn enqueue(
        &mut self,
        device: &'t Device,
        frame: impl TxFrame,
        scope: DropScope<'_>,
    ) -> bool {
        let frame = frame.into_frame();
        let chunks = self.pool.memory().chunks(&frame);
        match self.out.push(device.id, frame, chunks) {
            Ok(()) => true,
            Err(frame) => {
                self.refused(device, frame, scope);
                false
            }
        }
    }

    /// [`BurstContext::enqueue`] for a frame to a tenant's port; a drop is counted for its VNI too.
    #[inline(always)]
    pub(super) fn enqueue_to_port(
        &mut self,
        device: &'t Device,
        frame: impl TxFrame,
        port: &PortEntry,
    ) -> bool {
        let frame = frame.into_frame();
        let chunks = self.pool.memory().chunks(&frame);
        match self.out.push(device.id, frame, chunks) {
            Ok(()) => true,
            Err(frame) => {
                let scope = DropScope {
                    port: Some(port),
                    domain: self.snapshot.vnis.domain(port.domain),
                    vtep: None,
                };
                self.refused(device, frame, scope);
                false
            }
        }
    }

    /// [`BurstContext::enqueue`] for a frame of `chunks` chunks to a VTEP; the drop scope is built
    /// only when needed.
    #[inline(always)]
    pub(super) fn enqueue_to_vtep(
        &mut self,
        device: &'t Device,
        (frame, chunks): (impl TxFrame, usize),
        domain: &Domain,
        vtep: &RemoteVtep,
    ) -> bool {
        let frame = frame.into_frame();
        debug_assert_eq!(chunks, self.pool.memory().chunks(&frame));
        match self.out.push(device.id, frame, chunks) {
            Ok(()) => true,
            Err(frame) => {
                self.refused(
                    device,
                    frame,
                    DropScope {
                        port: None,
                        domain: Some(domain),
                        vtep: Some(vtep),
                    },
                );
                false
            }
        }
    }

    /// Queues frames of `chunks` chunks each for `device`, which accepts them
    /// ([`TxQueues::accepts`]).
    #[inline(always)]
    pub(super) fn enqueue_all(
        &mut self,
        device: DeviceId,
        frames: impl ExactSizeIterator<Item = impl TxFrame>,
        chunks: usize,
    ) {
        self.out
            .extend(device, frames.map(TxFrame::into_frame), chunks);
    }

    /// Counts frames that `device` has refused.
    #[cold]
    pub(super) fn count_refused(&self, device: &Device, scope: DropScope<'_>, frames: u64) {
        self.count_drops_at(device, self.out.refusal(device.id), scope, frames);
    }

    /// Counts frames that `device` has refused, and frees them. Returns their length, bytes.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        device: &Device,
        frames: &mut [Frame],
        scope: DropScope<'_>,
    ) -> usize {
        let bytes = frames.iter().map(Frame::len).sum();
        for frame in frames {
            self.refused(device, frame.take(), scope);
        }
        bytes
    }

    #[cold]
    fn refused(&mut self, device: &Device, frame: Frame, scope: DropScope<'_>) {
        self.count_refused(device, scope, self.frames_of(&frame));
        self.pool.free(frame);
    }

    /// Copies a frame into newly allocated chunks, segment by segment. `None` when chunks run out,
    /// or are too small.
    pub(super) fn copy(&mut self, frame: &Frame) -> Option<Frame> {
        let copy = self.copy_segment(frame, frame.first(), None)?;
        if frame.is_plain() {
            return Some(copy);
        }
        let mut copy = self.copy_rest(frame, copy)?;
        let segments = self.pool.memory().buffers();
        let mut offload = segments.offload(frame);
        if let ChecksumState::Partial { start, .. } = &mut offload.checksum {
            // It counts from the start of the chunk.
            *start = (*start + copy.start()).saturating_sub(frame.start());
        }
        segments.set_offload(&mut copy, offload);
        Some(copy)
    }

    #[cold]
    fn copy_rest(&mut self, frame: &Frame, first: Frame) -> Option<Frame> {
        let mut copy = ChainBuilder::new(first);
        let mut segments = [frame.first(); MAX_SEGMENTS];
        let rest = segments
            .iter_mut()
            .zip(self.pool.memory().buffers().rest(frame));
        let count = rest.map(|(to, from)| *to = from).count();
        for segment in segments.into_iter().take(count) {
            let appended = self
                .copy_segment(frame, segment, Some(0))
                .map(|segment| copy.push(self.pool.memory().buffers(), segment));
            if appended != Some(Ok(())) {
                appended
                    .and_then(Result::err)
                    .into_iter()
                    .for_each(|segment| self.pool.free(segment));
                self.pool.free(copy.finish());
                return None;
            }
        }
        Some(copy.finish())
    }

    /// Copies one segment of a frame to offset `start` of a new chunk; `None`: after the headroom.
    #[inline]
    fn copy_segment(
        &mut self,
        frame: &Frame,
        segment: Segment,
        start: Option<u16>,
    ) -> Option<Frame> {
        let mut copy = self.pool.alloc()?;
        let chunk_size = self.pool.memory().chunk_size();
        let start =
            start.unwrap_or_else(|| frame::cache_color(copy.chunk(), segment.len(), chunk_size));
        if copy.set_extent(start, segment.len(), chunk_size).is_err() {
            self.pool.free(copy);
            return None;
        }
        let (from, to) = self.pool.memory_mut().read_write(frame, segment, &mut copy);
        to.copy_from_slice(from);
        Some(copy)
    }
}
