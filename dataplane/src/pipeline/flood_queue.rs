//! Frames that wait to be flooded, in order, bounded in total and per port.

use std::collections::VecDeque;

use super::meta::TenantFrame;
use crate::addr::{DeviceId, DomainId, PortId, VtepId};
use crate::frame::{BURST, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::port::Device;
use crate::wire::checksum::Sum;

/// Pending floods of all ports.
const MAX_PENDING: usize = 512;

/// Pending floods of one port: two bursts.
const MAX_PENDING_PER_PORT: usize = 2 * BURST;

/// The pending floods of a worker. Nothing is allocated after [`FloodQueue::new`].
#[derive(Debug)]
pub(super) struct FloodQueue {
    pub(super) pending: VecDeque<PendingFlood>,
}

impl FloodQueue {
    /// An empty queue.
    pub(super) fn new() -> Self {
        Self {
            pending: VecDeque::with_capacity(MAX_PENDING),
        }
    }

    /// The ingress device of the first frame; `None` when the queue is empty. Frees frames whose
    /// device has been removed from the tables, without counting them: the counters are gone too.
    #[inline]
    pub(super) fn first_device<'t, M: FrameMemory>(
        &mut self,
        snapshot: &'t Snapshot,
        pool: &mut Pool<M>,
    ) -> Option<&'t Device> {
        while let Some(first) = self.pending.front() {
            let device = snapshot.ports.device(first.device);
            if device.is_some() {
                return device;
            }
            self.pending
                .pop_front()
                .into_iter()
                .for_each(|flood| flood.free(pool));
        }
        None
    }

    /// Frees all pending frames.
    pub(super) fn clear<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        self.pending.drain(..).for_each(|flood| flood.free(pool));
    }

    /// True when a frame of `port` is pending.
    pub(super) fn has_pending(&self, port: PortId) -> bool {
        self.pending
            .iter()
            .any(|flood| flood.frame.meta.port == port)
    }

    /// True when one more frame of `port` may be queued.
    pub(super) fn has_capacity(&self, port: PortId) -> bool {
        let of_port = || {
            self.pending
                .iter()
                .filter(|flood| flood.frame.meta.port == port)
                .count()
        };
        self.pending.len() < MAX_PENDING
            && (self.pending.len() < MAX_PENDING_PER_PORT || of_port() < MAX_PENDING_PER_PORT)
    }
}

/// A frame that is being flooded.
#[derive(Debug)]
pub(super) struct PendingFlood {
    pub(super) frame: TenantFrame,
    /// The ingress device.
    pub(super) device: DeviceId,
    pub(super) domain: DomainId,
    /// The sender may still be sent an ICMP error when the frame is too long for a path. It gets
    /// one at most, however many paths are too narrow.
    pub(super) report_too_big: bool,
    pub(super) next: NextReceiver,
    /// How many more copies may share its chunks; `None` while no copy does.
    pub(super) copies_left: Option<u32>,
    /// Internet checksum of its bytes, once a header has needed it.
    pub(super) sum: Option<Sum>,
}

/// The next receiver: the first one after this in its sorted list, or the first of the list.
#[derive(Debug, Clone, Copy)]
pub(super) enum NextReceiver {
    /// A local port.
    Port(Option<PortId>),
    /// A VTEP.
    Vtep(Option<VtepId>),
    /// The last VTEP, which gets the frame itself.
    Last(VtepId),
    /// None: all receivers were served.
    Done,
}

impl PendingFlood {
    /// Frees the frame: its chunks, or its references to them and those of copies that were not
    /// made.
    pub(super) fn free<M: FrameMemory>(self, pool: &mut Pool<M>) {
        match self.copies_left {
            None => pool.free(self.frame.frame),
            Some(copies_left) => pool.release_shared(self.frame.frame, copies_left + 1),
        }
    }
}
