//! Rings in ordinary memory, for tests: this module is compiled only for them.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::ring::{Layout, Memory};

#[derive(Debug)]
struct Shared<T> {
    producer: AtomicU32,
    consumer: AtomicU32,
    flags: AtomicU32,
    slots: Box<[UnsafeCell<T>]>,
}

// SAFETY: the indices divide the slots between the two ends of a ring.
unsafe impl<T: Send> Sync for Shared<T> {}

/// A ring whose clones share its memory: one for each end.
#[derive(Debug)]
pub(super) struct FakeRing<T>(Arc<Shared<T>>);

impl<T> Clone for FakeRing<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Copy> FakeRing<T> {
    /// An empty ring of `size` slots whose indices begin at `start`.
    pub(super) fn new(size: u32, start: u32) -> Self {
        assert!(size.is_power_of_two());
        // SAFETY: only integer structs are used, for which all-zero bytes are valid.
        let slots = (0..size)
            .map(|_| UnsafeCell::new(unsafe { std::mem::zeroed() }))
            .collect();
        let [producer, consumer] = [start, start].map(AtomicU32::new);
        Self(Arc::new(Shared {
            producer,
            consumer,
            flags: AtomicU32::new(0),
            slots,
        }))
    }

    pub(super) fn set_producer(&self, index: u32) {
        self.0.producer.store(index, Ordering::Release);
    }

    pub(super) fn set_consumer(&self, index: u32) {
        self.0.consumer.store(index, Ordering::Release);
    }

    pub(super) fn set_flags(&self, flags: u32) {
        self.0.flags.store(flags, Ordering::Relaxed);
    }
}

// SAFETY: the Arc keeps everything in place; the slots are UnsafeCells that only the two ends
// access.
unsafe impl<T: Copy> Memory<T> for FakeRing<T> {
    fn layout(&self) -> Layout<T> {
        let slots = NonNull::from(&*self.0.slots).cast::<T>();
        Layout {
            producer: NonNull::from(&self.0.producer),
            consumer: NonNull::from(&self.0.consumer),
            flags: NonNull::from(&self.0.flags),
            slots,
            size: self.0.slots.len() as u32,
        }
    }
}
