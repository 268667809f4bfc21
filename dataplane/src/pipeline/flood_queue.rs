//! Frames that wait to be flooded: a queue for each port, and one for each domain that the overlay
//! floods to, served by deficit round robin (Shreedhar and Varghese, 1996). All steps take constant
//! time.
//!
//! ```text
//! active:  port 3 -> domain 7 -> port 9       each is served QUANTUM copies, then goes to the end
//!          |         |           |
//!          frame     frame       frame        a queue is as long as the space that is left
//!          frame     frame
//! ```

use std::collections::VecDeque;

use super::meta::{TenantBoundFrame, TenantFrame, TxFrame};
use crate::addr::{DeviceId, DomainId, PortId, VtepId};
use crate::frame::{BURST, Frame, FrameMemory, Pool};
use crate::wire::checksum::Sum;

/// Pending floods of all sources.
const MAX_PENDING: usize = 1024;

/// Space that only sources without a pending flood may use.
const RESERVED: u16 = 512;

/// Pending floods of one source: two bursts.
const MAX_PENDING_PER_SOURCE: u16 = 2 * BURST as u16;

/// Copies that are made for one source before the next one is served.
const QUANTUM: usize = 16;

/// No slot, no queue.
const NONE: u16 = u16::MAX;

/// Whose floods share a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FloodSource {
    /// Frames from a tenant's port.
    Port(PortId),
    /// Frames from the overlay, for the ports of a domain.
    Overlay(DomainId),
}

/// The queue of a source, linked through the slots.
#[derive(Debug, Clone, Copy)]
struct SourceQueue {
    source: FloodSource,
    first: u16,
    last: u16,
    len: u16,
    /// Copies that may still be made before the next source is served.
    deficit: u16,
}

/// A place for a flood.
#[derive(Debug)]
pub(super) struct Slot {
    /// `None`: free.
    pub(super) flood: Option<Pending>,
    /// The next slot of the same queue.
    pub(super) next: u16,
}

/// The pending floods of a worker. Nothing is allocated after [`FloodQueue::new`].
#[derive(Debug)]
pub(super) struct FloodQueue {
    slots: Box<[Slot]>,
    free_slots: Vec<u16>,
    queues: Box<[SourceQueue]>,
    free_queues: Vec<u16>,
    /// Queues by source, [`NONE`] without one. Pages of IDs that don't exist are never touched.
    of_port: Box<[u16]>,
    of_domain: Box<[u16]>,
    /// The queues in the order in which they are served; each has at least one flood.
    active: VecDeque<u16>,
    /// Copies of floods that were not queued, in this iteration.
    at_once: usize,
}

impl FloodQueue {
    /// An empty queue.
    pub(super) fn new() -> Self {
        let empty = SourceQueue {
            source: FloodSource::Port(PortId(0)),
            first: NONE,
            last: NONE,
            len: 0,
            deficit: 0,
        };
        let slot = |_| Slot {
            flood: None,
            next: NONE,
        };
        let all = usize::from(u16::MAX) + 1;
        Self {
            slots: (0..MAX_PENDING).map(slot).collect(),
            free_slots: (0..MAX_PENDING as u16).collect(),
            queues: vec![empty; MAX_PENDING].into(),
            free_queues: (0..MAX_PENDING as u16).collect(),
            of_port: vec![NONE; all].into(),
            of_domain: vec![NONE; all].into(),
            active: VecDeque::with_capacity(MAX_PENDING),
            at_once: 0,
        }
    }

    fn entry(&mut self, source: FloodSource) -> &mut u16 {
        match source {
            FloodSource::Port(port) => &mut self.of_port[port.index()],
            FloodSource::Overlay(domain) => &mut self.of_domain[domain.index()],
        }
    }

    /// Pending floods of `source`.
    fn len(&self, source: FloodSource) -> u16 {
        let queue = match source {
            FloodSource::Port(port) => self.of_port[port.index()],
            FloodSource::Overlay(domain) => self.of_domain[domain.index()],
        };
        self.queues.get(usize::from(queue)).map_or(0, |q| q.len)
    }

    /// True when a frame of `source` is pending.
    pub(super) fn has_pending(&self, source: FloodSource) -> bool {
        self.len(source) > 0
    }

    /// True when a flood to `receivers` may be served without being queued: none waits, and all such
    /// floods of an iteration together make [`QUANTUM`] copies at most, as those of a source that
    /// waits.
    #[inline]
    pub(super) fn may_serve_at_once(&mut self, receivers: usize) -> bool {
        let copies = self.at_once + receivers;
        let may = self.active.is_empty() && copies <= QUANTUM;
        if may {
            self.at_once = copies;
        }
        may
    }

    /// Ends an iteration. Returns how many copies were made in it of floods that were not queued.
    pub(super) const fn end_iteration(&mut self) -> usize {
        std::mem::replace(&mut self.at_once, 0)
    }

    /// True when one more frame of `source` may be queued. The first one may use the reserve, so
    /// that sources that fill their queues leave space for one that rarely floods. Of the rest, a
    /// source may use as much as it leaves free (dynamic threshold, Choudhury and Hahne, 1998).
    pub(super) fn has_capacity(&self, source: FloodSource) -> bool {
        let free = self.free_slots.len() as u16;
        match self.len(source) {
            0 => free > 0,
            len => len < MAX_PENDING_PER_SOURCE.min(free.saturating_sub(RESERVED)),
        }
    }

    /// Queues a flood.
    ///
    /// # Errors
    /// The flood, when there is no capacity.
    pub(super) fn push(&mut self, source: FloodSource, flood: Pending) -> Result<(), Pending> {
        let Some(slot) = self.free_slots.pop() else {
            return Err(flood);
        };
        self.slots[usize::from(slot)] = Slot {
            flood: Some(flood),
            next: NONE,
        };
        let number = match *self.entry(source) {
            NONE => self.open_queue(source),
            number => number,
        };
        let queue = &mut self.queues[usize::from(number)];
        match queue.last {
            NONE => queue.first = slot,
            last => self.slots[usize::from(last)].next = slot,
        }
        queue.last = slot;
        queue.len += 1;
        Ok(())
    }

    fn open_queue(&mut self, source: FloodSource) -> u16 {
        let number = self
            .free_queues
            .pop()
            .expect("as many queues as slots, and each has a flood");
        self.queues[usize::from(number)] = SourceQueue {
            source,
            first: NONE,
            last: NONE,
            len: 0,
            deficit: 0,
        };
        *self.entry(source) = number;
        self.active.push_back(number);
        number
    }

    /// The device that received the flood that is served next.
    #[inline]
    pub(super) fn first_device(&self) -> Option<DeviceId> {
        let queue = &self.queues[usize::from(*self.active.front()?)];
        let flood = self.slots[usize::from(queue.first)].flood.as_ref()?;
        Some(flood.origin().device)
    }

    /// Takes all floods out, to be served where they are ([`FloodQueue::next`]). None may be queued
    /// until they are put back ([`FloodQueue::restore`]).
    pub(super) fn take_slots(&mut self) -> Box<[Slot]> {
        std::mem::take(&mut self.slots)
    }

    /// Puts back what [`FloodQueue::take_slots`] returned.
    pub(super) fn restore(&mut self, slots: Box<[Slot]>) {
        self.slots = slots;
    }

    /// The slot of the flood that is served next, and how many copies of it may be made: [`QUANTUM`]
    /// at a time, unless no other source waits. Must be followed by [`FloodQueue::served`].
    pub(super) fn next(&mut self) -> Option<(usize, usize)> {
        let queue = &mut self.queues[usize::from(*self.active.front()?)];
        if queue.deficit == 0 {
            queue.deficit = QUANTUM as u16;
        }
        // No other source waits for its turn.
        let alone = self.active.len() == 1;
        let allowed = if alone {
            usize::MAX
        } else {
            queue.deficit.into()
        };
        Some((queue.first.into(), allowed))
    }

    /// Ends what [`FloodQueue::next`] began: `copies` were made, at most as many as allowed. `after`:
    /// the flood was taken out of its slot, after which this is the next one of its source.
    pub(super) fn served(&mut self, copies: usize, after: Option<u16>) {
        let Some(&number) = self.active.front() else {
            return;
        };
        let queue = &mut self.queues[usize::from(number)];
        queue.deficit = queue.deficit.saturating_sub(copies as u16);
        if let Some(next) = after {
            self.free_slots.push(queue.first);
            queue.first = next;
            queue.len -= 1;
        }
        let SourceQueue {
            source,
            len,
            deficit,
            ..
        } = *queue;
        if len == 0 {
            self.active.pop_front();
            self.free_queues.push(number);
            *self.entry(source) = NONE;
        } else if deficit == 0 {
            self.active.rotate_left(1);
        }
    }

    /// Removes every flood for which `is_valid` is false, and gives it to `free`. The others keep
    /// their order.
    pub(super) fn retain(
        &mut self,
        is_valid: impl Fn(&Pending) -> bool,
        mut free: impl FnMut(Pending),
    ) {
        for _ in 0..self.active.len() {
            let Some(&number) = self.active.front() else {
                return;
            };
            let SourceQueue { source, len, .. } = self.queues[usize::from(number)];
            for _ in 0..len {
                let Some((slot, _)) = self.next() else {
                    return;
                };
                let Slot { flood, next } = &mut self.slots[slot];
                let (flood, next) = (flood.take(), *next);
                self.served(0, Some(next));
                let Some(flood) = flood else {
                    continue;
                };
                if !is_valid(&flood) {
                    free(flood);
                } else if let Err(flood) = self.push(source, flood) {
                    free(flood);
                }
            }
            // Unless it went to the end already, because it was empty for a moment.
            if self.active.front() == Some(&number) {
                self.active.rotate_left(1);
            }
        }
    }

    /// Frees all pending frames.
    pub(super) fn clear<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        self.retain(|_| false, |flood| flood.free(pool));
    }
}

/// A frame that waits to be flooded.
#[derive(Debug)]
pub(super) enum Pending {
    /// From a tenant: to ports and VTEPs.
    Tenant(PendingFlood),
    /// From the overlay: to ports only (split horizon).
    Overlay(OverlayFlood),
}

/// Where and when a frame was received. Identifiers mean what they meant in snapshot `version`.
#[derive(Debug, Clone, Copy)]
pub(super) struct FloodOrigin {
    /// The version of the snapshot under which it was queued.
    pub(super) version: u64,
    /// The ingress device.
    pub(super) device: DeviceId,
    /// The bridge domain.
    pub(super) domain: DomainId,
}

/// A frame that is being flooded.
#[derive(Debug)]
pub(super) struct PendingFlood {
    pub(super) frame: TenantFrame,
    pub(super) origin: FloodOrigin,
    /// The sender may still be sent an ICMP error when the frame is too long for a path. It gets
    /// one at most, however many paths are too narrow.
    pub(super) report_too_big: bool,
    pub(super) next: NextReceiver,
    /// VTEPs that were served, in the list as it was.
    pub(super) served: u32,
    /// Its references to its chunks, one for each copy that may still share them; `None` while no
    /// copy does.
    pub(super) references: Option<u32>,
    /// Internet checksum of its bytes, once a header has needed it.
    pub(super) sum: Option<Sum>,
}

/// A frame from the overlay that is being flooded to the ports of its domain.
#[derive(Debug)]
pub(super) struct OverlayFlood {
    pub(super) frame: TenantBoundFrame,
    pub(super) origin: FloodOrigin,
    /// The last port that was served.
    pub(super) last: Option<PortId>,
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

/// The part of a sorted list after `last`.
pub(super) fn after<T: Ord + Copy>(list: &[T], last: Option<T>) -> &[T] {
    last.map_or(list, |last| {
        &list[list.partition_point(|one| *one <= last)..]
    })
}

/// [`after`], where `last` was at `place - 1`: a search is needed only when the list has changed.
pub(super) fn after_place<T: Ord + Copy>(list: &[T], last: Option<T>, place: usize) -> &[T] {
    let before = place.checked_sub(1).and_then(|before| list.get(before));
    if last.is_some() && before.copied() == last {
        &list[place..]
    } else {
        after(list, last)
    }
}

impl Pending {
    pub(super) const fn origin(&self) -> &FloodOrigin {
        match self {
            Self::Tenant(flood) => &flood.origin,
            Self::Overlay(flood) => &flood.origin,
        }
    }

    /// The frame.
    pub(super) const fn frame(&self) -> &Frame {
        match self {
            Self::Tenant(flood) => &flood.frame.frame,
            Self::Overlay(flood) => flood.frame.frame(),
        }
    }

    /// The ingress port, of a frame from a tenant.
    pub(super) const fn port(&self) -> Option<PortId> {
        match self {
            Self::Tenant(flood) => Some(flood.frame.meta.port),
            Self::Overlay(_) => None,
        }
    }

    /// Frees the frame.
    pub(super) fn free<M: FrameMemory>(self, pool: &mut Pool<M>) {
        match self {
            Self::Tenant(flood) => flood.free(pool),
            Self::Overlay(flood) => pool.free(flood.frame.into_frame()),
        }
    }
}

impl PendingFlood {
    /// Frees the frame: its chunks, or the references to them that no copy has taken.
    pub(super) fn free<M: FrameMemory>(self, pool: &mut Pool<M>) {
        match self.references {
            None => pool.free(self.frame.frame),
            Some(0) => {}
            Some(references) => pool.release_shared(self.frame.frame, references),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_only_a_hint() {
        let list = [2, 4, 6, 8];
        for last in [None, Some(1), Some(2), Some(5), Some(6), Some(8), Some(9)] {
            for place in 0..6 {
                assert_eq!(
                    after_place(&list, last, place),
                    after(&list, last),
                    "{last:?} {place}"
                );
            }
        }
        assert_eq!(after_place::<u32>(&[], None, 0), [0; 0]);
    }
}
