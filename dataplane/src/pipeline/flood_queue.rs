//! The frames that wait to be flooded, in order and bounded for each port.

use std::collections::VecDeque;

use super::meta::TenantFrame;
use crate::addr::{DeviceId, DomainId, PortId, VtepId};
use crate::frame::{BURST, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::port::Device;
use crate::wire::checksum::Sum;

/// Frames that wait to be flooded: of all ports, and of one, which may give two bursts at once.
const WAITING: usize = 512;
const WAITING_OF_PORT: usize = 2 * BURST;

/// The frames that wait to be flooded. Nothing is allocated after [`Floods::new`].
#[derive(Debug)]
pub(super) struct Floods {
    pub(super) waiting: VecDeque<Flood>,
}

impl Floods {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::with_capacity(WAITING),
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
        while let Some(first) = self.waiting.front() {
            let device = snapshot.ports.device(first.device);
            if device.is_some() {
                return device;
            }
            self.waiting
                .pop_front()
                .into_iter()
                .for_each(|flood| flood.end(pool));
        }
        None
    }

    /// Gives up what waits.
    pub(super) fn clear<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        self.waiting.drain(..).for_each(|flood| flood.end(pool));
    }

    pub(super) fn has(&self, port: PortId) -> bool {
        self.waiting
            .iter()
            .any(|flood| flood.frame.facts.port == port)
    }

    pub(super) fn has_room(&self, port: PortId) -> bool {
        let of_port = || {
            self.waiting
                .iter()
                .filter(|flood| flood.frame.facts.port == port)
                .count()
        };
        self.waiting.len() < WAITING
            && (self.waiting.len() < WAITING_OF_PORT || of_port() < WAITING_OF_PORT)
    }
}

/// A frame that is being flooded.
#[derive(Debug)]
pub(super) struct Flood {
    pub(super) frame: TenantFrame,
    /// Where it came from.
    pub(super) device: DeviceId,
    pub(super) domain: DomainId,
    /// Its tenant may be told that it is too long for a path: one frame has one answer, however many are too narrow.
    pub(super) answer: bool,
    pub(super) next: Next,
    /// How many more copies may end in its chunks; `None` while they are its own.
    pub(super) shared: Option<u32>,
    /// The sum of its bytes, once a header needed it.
    pub(super) sum: Option<Sum>,
}

/// Who comes next: the first one behind this, or the first of all.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    Port(Option<PortId>),
    Hop(Option<VtepId>),
    /// This VTEP gets the frame itself.
    Last(VtepId),
    /// Everybody was served.
    Nobody,
}

impl Flood {
    /// Gives up the frame: its chunks, or its hold on them and those of copies that were not made.
    pub(super) fn end<M: FrameMemory>(self, pool: &mut Pool<M>) {
        match self.shared {
            None => pool.free(self.frame.frame),
            Some(copies_left) => pool.release_shared(self.frame.frame, copies_left + 1),
        }
    }
}
