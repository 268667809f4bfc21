//! The frames that wait to be flooded, in order and bounded for each port.

use std::collections::VecDeque;

use super::meta::TenantFrame;
use crate::addr::{DeviceId, DomainId, PortId, VtepId};
use crate::frame::{BURST, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::port::Device;
use crate::wire::checksum::Sum;

/// Frames that wait to be flooded: of all ports, and of one, which may give two bursts at once.
const MAX_PENDING: usize = 512;
const MAX_PENDING_PER_PORT: usize = 2 * BURST;

/// The frames that wait to be flooded. Nothing is allocated after [`FloodQueue::new`].
#[derive(Debug)]
pub(super) struct FloodQueue {
    pub(super) pending: VecDeque<PendingFlood>,
}

impl FloodQueue {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self {
            pending: VecDeque::with_capacity(MAX_PENDING),
        }
    }

    /// The device that the first frame came from; `None` when nothing waits. Gives up frames whose device was removed from
    /// the tables meanwhile: there is no row to count them in.
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

    /// Gives up what waits.
    pub(super) fn clear<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        self.pending.drain(..).for_each(|flood| flood.free(pool));
    }

    pub(super) fn has_pending(&self, port: PortId) -> bool {
        self.pending
            .iter()
            .any(|flood| flood.frame.meta.port == port)
    }

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
    /// Where it came from.
    pub(super) device: DeviceId,
    pub(super) domain: DomainId,
    /// Its tenant may be told that it is too long for a path: one frame has one report_too_big, however many are too narrow.
    pub(super) report_too_big: bool,
    pub(super) next: NextReceiver,
    /// How many more copies may end in its chunks; `None` while they are its own.
    pub(super) copies_left: Option<u32>,
    /// The sum of its bytes, once a header needed it.
    pub(super) sum: Option<Sum>,
}

/// Who comes next: the first one behind this, or the first of all.
#[derive(Debug, Clone, Copy)]
pub(super) enum NextReceiver {
    Port(Option<PortId>),
    Vtep(Option<VtepId>),
    /// This VTEP gets the frame itself.
    Last(VtepId),
    /// Everybody was served.
    Done,
}

impl PendingFlood {
    /// Gives up the frame: its chunks, or its hold on them and those of copies that were not made.
    pub(super) fn free<M: FrameMemory>(self, pool: &mut Pool<M>) {
        match self.copies_left {
            None => pool.free(self.frame.frame),
            Some(copies_left) => pool.release_shared(self.frame.frame, copies_left + 1),
        }
    }
}
