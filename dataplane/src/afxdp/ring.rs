//! The two halves of an AF_XDP ring that user space drives: producer of fill and tx, consumer of rx and completion.
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
//!      (A) -> (D) control dependency (we use an acquire), (B) pairs with (C), (D) pairs with (A)
//! ```
//!
//! Indices are free-running u32; the slot is the index modulo the size, a power of two. Each half keeps copies of
//! both indices and reads the other side's cache line only when its copy says that there is not enough.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// `XDP_RING_NEED_WAKEUP` (include/uapi/linux/if_xdp.h): the other side sleeps and must be kicked by a system call.
pub(crate) const NEED_WAKEUP: u32 = libc::XDP_RING_NEED_WAKEUP;

/// Where the parts of a ring lie.
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
/// The pointers of [`Memory::layout`] must be aligned and valid for reads and writes as long as `self` lives, also
/// when `self` is moved; `slots` for `size` values, a power of two. Nobody in this process but the one half made from
/// `self` may touch slots of that half's side.
pub(crate) unsafe trait Memory<T> {
    /// Where the ring lies. The same at every call.
    fn layout(&self) -> Layout<T>;
}

/// What both halves are made of.
#[derive(Debug)]
struct Half<T, M> {
    layout: Layout<T>,
    /// Our index, free-running: what we have published.
    ours: u32,
    /// Our copy of the other side's index.
    theirs: u32,
    /// Keeps the pointers valid.
    _memory: M,
}

// SAFETY: the pointers lead into `_memory`, which is Send, and a half is the only user of its side.
unsafe impl<T: Send, M: Send> Send for Half<T, M> {}

impl<T: Copy, M: Memory<T>> Half<T, M> {
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

/// The side that puts in: fill and tx rings.
#[derive(Debug)]
pub(crate) struct Producer<T, M> {
    half: Half<T, M>,
    /// Slots written but not yet published, behind `ours`.
    written: u32,
}

impl<T: Copy, M: Memory<T>> Producer<T, M> {
    /// The producer of the ring in `memory`, going on at the index that stands there.
    pub(crate) fn new(memory: M) -> Self {
        let layout = memory.layout();
        let mut half = Half {
            layout,
            ours: 0,
            theirs: 0,
            _memory: memory,
        };
        half.ours = half.producer().load(Ordering::Relaxed);
        half.theirs = half.consumer().load(Ordering::Acquire);
        Self { half, written: 0 }
    }

    /// Free slots; looks at the consumer's index only when the copy of it leaves fewer than `wanted`.
    #[inline]
    pub(crate) fn free(&mut self, wanted: u32) -> u32 {
        let next = self.half.ours.wrapping_add(self.written);
        let free = |theirs: u32| {
            self.half
                .layout
                .size
                .saturating_sub(next.wrapping_sub(theirs))
        };
        let known = free(self.half.theirs);
        if known >= wanted {
            return known;
        }
        // (A): the slots that the consumer has let go may be overwritten only after this load.
        self.half.theirs = self.half.consumer().load(Ordering::Acquire);
        let next = self.half.ours.wrapping_add(self.written);
        self.half
            .layout
            .size
            .saturating_sub(next.wrapping_sub(self.half.theirs))
    }

    /// Writes `value` to the next slot; false, and nothing written, when the ring is full. Seen by the other side only
    /// after [`Producer::publish`].
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> bool {
        if self.free(1) == 0 {
            return false;
        }
        let slot = self.half.slot(self.half.ours.wrapping_add(self.written));
        // SAFETY: inside the slots; `free` says that the consumer has left this slot, and we are the only producer.
        unsafe { slot.write(value) };
        self.written += 1;
        true
    }

    /// Shows the written slots to the other side.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.written == 0 {
            return;
        }
        self.half.ours = self.half.ours.wrapping_add(self.written);
        self.written = 0;
        // (B): the slots' contents before the index.
        self.half
            .producer()
            .store(self.half.ours, Ordering::Release);
    }

    /// Entries that the other side has not taken yet.
    #[inline]
    pub(crate) fn pending(&mut self) -> u32 {
        self.half.theirs = self.half.consumer().load(Ordering::Acquire);
        self.half
            .ours
            .wrapping_sub(self.half.theirs)
            .min(self.half.layout.size)
    }

    /// The other side's free-running index, as it was at the last look.
    #[inline]
    pub(crate) fn taken(&self) -> u32 {
        self.half.theirs
    }

    /// True when the kernel waits for a system call before it looks at this ring.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.half.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// The side that takes out: rx and completion rings.
#[derive(Debug)]
pub(crate) struct Consumer<T, M> {
    half: Half<T, M>,
    /// Slots read but not yet released, behind `ours`.
    read: u32,
}

impl<T: Copy, M: Memory<T>> Consumer<T, M> {
    /// The consumer of the ring in `memory`, going on at the index that stands there.
    pub(crate) fn new(memory: M) -> Self {
        let layout = memory.layout();
        let mut half = Half {
            layout,
            ours: 0,
            theirs: 0,
            _memory: memory,
        };
        half.ours = half.consumer().load(Ordering::Relaxed);
        half.theirs = half.ours;
        Self { half, read: 0 }
    }

    /// Takes the next entry. Its slot goes back to the other side with [`Consumer::release`].
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let next = self.half.ours.wrapping_add(self.read);
        if next == self.half.theirs {
            // (C): the slots' contents only after the index.
            let theirs = self.half.producer().load(Ordering::Acquire);
            // A producer index out of range would make us read slots twice: such a ring counts as empty.
            if theirs.wrapping_sub(self.half.ours) > self.half.layout.size {
                return None;
            }
            self.half.theirs = theirs;
            if next == theirs {
                return None;
            }
        }
        // SAFETY: inside the slots; the producer has published it and leaves it alone until `release`. Any bytes are
        // a valid T: only the kernel's integer structs are used.
        let value = unsafe { self.half.slot(next).read() };
        self.read += 1;
        Some(value)
    }

    /// Our free-running index: entries that have gone back to the other side.
    #[inline]
    pub(crate) fn released(&self) -> u32 {
        self.half.ours
    }

    /// Gives the slots of popped entries back to the other side.
    #[inline]
    pub(crate) fn release(&mut self) {
        if self.read == 0 {
            return;
        }
        self.half.ours = self.half.ours.wrapping_add(self.read);
        self.read = 0;
        // (D): our reads of the slots before the index.
        self.half
            .consumer()
            .store(self.half.ours, Ordering::Release);
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
