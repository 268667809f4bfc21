//! The user space ends of AF_XDP rings: producer of fill and tx, consumer of rx and completion.
//!
//! ```text
//! kernel header net/xdp/xsk_queue.h, "The structure of the shared state of the rings":
//!
//!      producer                         consumer
//!
//!      if (LOAD ->consumer) {  (A)      LOAD.acq ->producer  (C)
//!         STORE $data                   LOAD $data
//!         STORE.rel ->producer (B)      STORE.rel ->consumer (D)
//!      }
//!
//!      (A) -> (D) control dependency (an acquire here), (B) pairs with (C), (D) pairs with (A)
//! ```
//!
//! Indices are free-running u32; the slot is the index modulo the size, a power of two. Each end
//! keeps copies of both indices, and reads the other side's cache line only when its copy does not
//! suffice.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// `XDP_RING_NEED_WAKEUP` (include/uapi/linux/if_xdp.h): the kernel sleeps and must be kicked by a
/// system call.
pub(crate) const NEED_WAKEUP: u32 = libc::XDP_RING_NEED_WAKEUP;

/// The addresses of the parts of a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout<T> {
    pub(crate) producer: NonNull<AtomicU32>,
    pub(crate) consumer: NonNull<AtomicU32>,
    pub(crate) flags: NonNull<AtomicU32>,
    pub(crate) slots: NonNull<T>,
    /// Slots in the ring: a power of two.
    pub(crate) size: u32,
}

/// Memory that holds a ring.
///
/// # Safety
/// The pointers of [`Memory::layout`] must be aligned and valid for reads and writes as long as
/// `self` lives, also when `self` is moved; `slots` for `size` values, a power of two. In this
/// process only the one end made from `self` may access slots of its side.
pub(crate) unsafe trait Memory<T> {
    /// The addresses of the ring, the same at every call.
    fn layout(&self) -> Layout<T>;
}

/// What both kinds of ends consist of.
#[derive(Debug)]
struct RingEnd<T, M> {
    layout: Layout<T>,
    /// The free-running index of this side, as published.
    own_index: u32,
    /// A copy of the other side's index.
    peer_index: u32,
    /// Keeps the pointers valid.
    _memory: M,
}

// SAFETY: the pointers refer to `_memory`, which is Send, and an end is the only user of its side.
unsafe impl<T: Send, M: Send> Send for RingEnd<T, M> {}

impl<T: Copy, M: Memory<T>> RingEnd<T, M> {
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: valid as long as `_memory` lives (contract of `Memory`).
        unsafe { self.layout.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.layout.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.layout.flags.as_ref() }
    }

    /// The slot of a free-running index.
    fn slot(&self, index: u32) -> NonNull<T> {
        // SAFETY: the mask keeps the offset below `size`, so that it stays inside the slots.
        unsafe {
            self.layout
                .slots
                .add((index & (self.layout.size - 1)) as usize)
        }
    }
}

/// The producing end: fill and tx rings.
#[derive(Debug)]
pub(crate) struct Producer<T, M> {
    end: RingEnd<T, M>,
    /// Slots written but not yet published, behind `own_index`.
    written: u32,
}

impl<T: Copy, M: Memory<T>> Producer<T, M> {
    /// The producer of the ring in `memory`, continuing at the index found there.
    pub(crate) fn new(memory: M) -> Self {
        let layout = memory.layout();
        let mut end = RingEnd {
            layout,
            own_index: 0,
            peer_index: 0,
            _memory: memory,
        };
        end.own_index = end.producer().load(Ordering::Relaxed);
        end.peer_index = end.consumer().load(Ordering::Acquire);
        Self { end, written: 0 }
    }

    /// Free slots. Reads the consumer's index only when the copy of it leaves fewer than `wanted`.
    #[inline]
    pub(crate) fn free(&mut self, wanted: u32) -> u32 {
        self.free_of(self.end.layout.size, wanted)
    }

    /// As [`Producer::free`], in a ring that is to hold `limit` entries, at most its size.
    #[inline]
    pub(crate) fn free_of(&mut self, limit: u32, wanted: u32) -> u32 {
        let next = self.end.own_index.wrapping_add(self.written);
        let free = |peer_index: u32| limit.saturating_sub(next.wrapping_sub(peer_index));
        let known = free(self.end.peer_index);
        if known >= wanted {
            return known;
        }
        // (A): released slots may be overwritten only after this load.
        self.end.peer_index = self.end.consumer().load(Ordering::Acquire);
        free(self.end.peer_index)
    }

    /// Slots of the ring.
    pub(crate) const fn size(&self) -> u32 {
        self.end.layout.size
    }

    /// Writes `value` to the next slot; false, with nothing written, when the ring is full. The
    /// other side sees it only after [`Producer::publish`].
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> bool {
        if self.free(1) == 0 {
            return false;
        }
        let slot = self.end.slot(self.end.own_index.wrapping_add(self.written));
        // SAFETY: inside the slots; `free` has checked that the consumer has released this slot,
        // and this is the only producer.
        unsafe { slot.write(value) };
        self.written += 1;
        true
    }

    /// Publishes the written slots to the other side.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.written == 0 {
            return;
        }
        self.end.own_index = self.end.own_index.wrapping_add(self.written);
        self.written = 0;
        // (B): the slots' contents before the index.
        self.end
            .producer()
            .store(self.end.own_index, Ordering::Release);
    }

    /// Entries that the other side has not consumed yet.
    #[inline]
    pub(crate) fn pending(&mut self) -> u32 {
        self.end.peer_index = self.end.consumer().load(Ordering::Acquire);
        self.end
            .own_index
            .wrapping_sub(self.end.peer_index)
            .min(self.end.layout.size)
    }

    /// The other side's free-running index, as last read.
    #[inline]
    pub(crate) fn consumed(&self) -> u32 {
        self.end.peer_index
    }

    /// True when the kernel waits for a system call before it processes this ring.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.end.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// The consuming end: rx and completion rings.
#[derive(Debug)]
pub(crate) struct Consumer<T, M> {
    end: RingEnd<T, M>,
    /// Slots read but not yet released, behind `own_index`.
    read: u32,
}

impl<T: Copy, M: Memory<T>> Consumer<T, M> {
    /// The consumer of the ring in `memory`, continuing at the index found there.
    pub(crate) fn new(memory: M) -> Self {
        let layout = memory.layout();
        let mut end = RingEnd {
            layout,
            own_index: 0,
            peer_index: 0,
            _memory: memory,
        };
        end.own_index = end.consumer().load(Ordering::Relaxed);
        end.peer_index = end.own_index;
        Self { end, read: 0 }
    }

    /// Takes the next entry. Its slot is returned to the other side by [`Consumer::release`].
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let next = self.end.own_index.wrapping_add(self.read);
        if next == self.end.peer_index {
            // (C): the slots' contents only after the index.
            let peer_index = self.end.producer().load(Ordering::Acquire);
            // A producer index out of range would have slots read twice: treat such a ring as
            // empty.
            if peer_index.wrapping_sub(self.end.own_index) > self.end.layout.size {
                return None;
            }
            self.end.peer_index = peer_index;
            if next == peer_index {
                return None;
            }
        }
        // SAFETY: inside the slots; the producer has published this one and does not access it
        // until `release`. Any bytes are a valid T: only the kernel's integer structs are used.
        let value = unsafe { self.end.slot(next).read() };
        self.read += 1;
        Some(value)
    }

    /// Entries that the other side has published and that are not taken yet.
    pub(crate) fn pending(&self) -> u32 {
        let published = self.end.producer().load(Ordering::Acquire);
        published
            .wrapping_sub(self.end.own_index.wrapping_add(self.read))
            .min(self.end.layout.size)
    }

    /// This side's free-running index: entries returned to the other side.
    #[inline]
    pub(crate) fn released(&self) -> u32 {
        self.end.own_index
    }

    /// Returns the slots of popped entries to the other side.
    #[inline]
    pub(crate) fn release(&mut self) {
        if self.read == 0 {
            return;
        }
        self.end.own_index = self.end.own_index.wrapping_add(self.read);
        self.read = 0;
        // (D): our reads of the slots before the index.
        self.end
            .consumer()
            .store(self.end.own_index, Ordering::Release);
    }
}
#[cfg(test)]
mod tests {
    use super::super::fake::FakeRing;
    use super::*;

    fn pair(size: u32, start: u32) -> (Producer<u64, FakeRing<u64>>, Consumer<u64, FakeRing<u64>>) {
        let ring = FakeRing::new(size, start);
        (Producer::new(ring.clone()), Consumer::new(ring))
    }

    #[test]
    fn entries_arrive_in_order_across_the_wrap_of_the_indices() {
        for start in [0, u32::MAX - 2, u32::MAX, 1 << 31] {
            let (mut producer, mut consumer) = pair(4, start);
            for value in 0..100 {
                assert!(producer.push(value));
                assert_eq!(consumer.pop(), None, "seen before publish");
                producer.publish();
                assert_eq!(consumer.pop(), Some(value));
                consumer.release();
            }
            assert_eq!(producer.pending(), 0);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_until_slots_are_released() {
        let (mut producer, mut consumer) = pair(4, u32::MAX - 1);
        assert_eq!(producer.free(4), 4);
        assert!((0..4).all(|value| producer.push(value)));
        assert!(!producer.push(4));
        producer.publish();
        assert_eq!((producer.free(1), producer.pending()), (0, 4));
        assert_eq!(consumer.pop(), Some(0));
        assert!(!producer.push(4), "a slot that is read but not released");
        consumer.release();
        assert!(producer.push(4));
        assert!(!producer.push(5));
        producer.publish();
        assert_eq!(
            std::iter::from_fn(|| consumer.pop()).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
    }

    #[test]
    fn an_index_out_of_range_reads_as_empty_or_full() {
        let ring = FakeRing::<u64>::new(4, 0);
        let mut consumer = Consumer::new(ring.clone());
        ring.set_producer(5);
        assert_eq!(consumer.pop(), None);
        let ring = FakeRing::<u64>::new(4, 0);
        let mut producer = Producer::new(ring.clone());
        assert!((0..4).all(|value| producer.push(value)));
        producer.publish();
        ring.set_consumer(u32::MAX - 7);
        assert!(!producer.push(4));
        assert_eq!(producer.pending(), 4);
    }

    #[test]
    fn the_wakeup_flag_is_the_kernels() {
        let ring = FakeRing::<u64>::new(4, 0);
        let producer = Producer::new(ring.clone());
        assert!(!producer.needs_wakeup());
        ring.set_flags(NEED_WAKEUP);
        assert!(producer.needs_wakeup());
    }

    #[test]
    fn two_threads_see_each_entry_once_and_in_order() {
        let count = if cfg!(miri) { 300 } else { 200_000 };
        let (mut producer, mut consumer) = pair(8, u32::MAX - 100);
        let sender = std::thread::spawn(move || {
            for value in 0..count {
                while !producer.push(value) {
                    std::thread::yield_now();
                }
                producer.publish();
            }
        });
        for expected in 0..count {
            let value = loop {
                match consumer.pop() {
                    Some(value) => break value,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(value, expected);
            consumer.release();
        }
        sender.join().unwrap();
    }
}
