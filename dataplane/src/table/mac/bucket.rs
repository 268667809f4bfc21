//! One cache line of the table: the reader's and the writer's steps in it. [`super`] has the proof.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::atomic::{AtomicU32, AtomicU64, own_u32, own_u64};

/// Slots of a bucket.
pub(super) const SLOTS: usize = 5;

/// One step of the version; `displaced` is in the bits below.
const VERSION: u32 = 1 << 6;

/// The highest value of `displaced`. It saturates, since the true number is unknown from then on.
const DISPLACED_MAX: u32 = VERSION - 1;

/// Five entries. Methods that take a slot are for the writer: only one thread may call them.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(C, align(64)))]
pub(super) struct Bucket {
    keys: [AtomicU64; SLOTS],
    /// The destinations, and at [`STATE`] the state: an absent key has its destination read there,
    /// which costs less than a branch or a bounds check.
    words: [AtomicU32; SLOTS + 1],
}

/// Index of the state.
const STATE: usize = SLOTS;

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64);

/// The result of one consistent probe of a bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    /// The slot of the key; [`SLOTS`] when it was absent.
    slot: usize,
    /// The stored destination; without meaning when the key was absent.
    pub(super) destination: u32,
    state: u32,
}

impl Probe {
    /// Whether the key was present.
    #[inline]
    pub(super) const fn found(self) -> bool {
        self.slot < SLOTS
    }

    /// The stored destination, if the key was present.
    #[inline]
    pub(super) fn destination(self) -> Option<u32> {
        self.found().then_some(self.destination)
    }

    /// True when keys whose first bucket this is may be in their second one.
    #[inline]
    pub(super) const fn has_displaced(self) -> bool {
        self.state & DISPLACED_MAX != 0
    }
}

impl Bucket {
    pub(super) fn new() -> Self {
        Self {
            keys: std::array::from_fn(|_| AtomicU64::new(0)),
            words: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Searches for a key, not 0; retries until the bucket did not change meanwhile.
    #[inline]
    pub(super) fn probe(&self, key: u64) -> Probe {
        loop {
            let state = self.state().load(Acquire);
            let slot = self.scan(key, |stored| stored.load(Acquire));
            let destination = self.words[slot].load(Acquire);
            if self.state().load(Relaxed) == state {
                return Probe {
                    slot,
                    destination,
                    state,
                };
            }
        }
    }

    #[inline]
    const fn state(&self) -> &AtomicU32 {
        &self.words[STATE]
    }

    /// True when the bucket is unchanged since `probe`. All loads before must have been `Acquire`.
    #[inline]
    pub(super) fn is_unchanged(&self, probe: Probe) -> bool {
        self.state().load(Relaxed) == probe.state
    }

    /// The slot of a key. Writer only.
    pub(super) fn slot_of(&self, key: u64) -> Option<usize> {
        let slot = self.scan(key, own_u64);
        (slot < SLOTS).then_some(slot)
    }

    /// A free slot. Writer only.
    pub(super) fn free_slot(&self) -> Option<usize> {
        self.slot_of(0)
    }

    /// The slot of a key, [`SLOTS`] if it is absent. Compares all five without a branch, since
    /// which one matches can't be predicted.
    #[inline]
    fn scan(&self, key: u64, load: impl Fn(&AtomicU64) -> u64) -> usize {
        self.keys.iter().enumerate().fold(
            SLOTS,
            |slot, (at, stored)| if load(stored) == key { at } else { slot },
        )
    }

    /// The entry in a slot: key (0 = free) and destination.
    pub(super) fn entry(&self, slot: usize) -> (u64, u32) {
        (own_u64(&self.keys[slot]), own_u32(&self.words[slot]))
    }

    /// The entries of all slots.
    pub(super) fn entries(&self) -> [(u64, u32); SLOTS] {
        std::array::from_fn(|slot| self.entry(slot))
    }

    /// Fills a free slot.
    pub(super) fn put(&self, slot: usize, key: u64, destination: u32) {
        self.bump_version();
        self.words[slot].store(destination, Release);
        self.keys[slot].store(key, Release);
    }

    /// Makes readers that scanned before the last `put` retry: they may have missed a key that came
    /// from its other bucket.
    pub(super) fn bump_version(&self) {
        self.state()
            .store(own_u32(self.state()).wrapping_add(VERSION), Release);
    }

    /// Changes the destination of the key in a slot; returns the previous one.
    pub(super) fn set_destination(&self, slot: usize, destination: u32) -> u32 {
        let old = own_u32(&self.words[slot]);
        self.words[slot].store(destination, Release);
        old
    }

    /// Frees a slot.
    pub(super) fn clear(&self, slot: usize) {
        self.keys[slot].store(0, Release);
    }

    /// True when all keys whose first bucket this is are in it. Writer only.
    #[inline]
    pub(super) fn has_no_displaced(&self) -> bool {
        own_u32(self.state()) & DISPLACED_MAX == 0
    }

    /// One more key of this bucket moves to its second one. Must be called before the move.
    pub(super) fn increment_displaced(&self) {
        let state = own_u32(self.state());
        if state & DISPLACED_MAX != DISPLACED_MAX {
            self.state().store(state + 1, Release);
        }
    }

    /// One key of this bucket has left its second one. Must be called after the move.
    pub(super) fn decrement_displaced(&self) {
        let state = own_u32(self.state());
        if state & DISPLACED_MAX != DISPLACED_MAX {
            self.state().store(state - 1, Release);
        }
    }
}
