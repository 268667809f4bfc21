//! One cache line of the table: the reader's and the writer's steps in it. Their proof is at the top of [`super`].

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::atomic::{AtomicU32, AtomicU64, own_u32, own_u64};

/// Entries of a bucket.
pub(super) const PLACES: usize = 5;

/// One step of the version; `elsewhere` is below it.
const VERSION: u32 = 1 << 6;

/// `elsewhere` at its highest. It stays there, since the true number is then unknown.
const MANY: u32 = VERSION - 1;

/// Five entries. Methods that take a place are the writer's; only one thread may call them.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(C, align(64)))]
pub(super) struct Bucket {
    keys: [AtomicU64; PLACES],
    /// The destinations, and in place [`STATE`] the state: a key that isn't there is sought a destination there, which
    /// costs less than a branch or a limit.
    words: [AtomicU32; PLACES + 1],
}

/// Where the state is.
const STATE: usize = PLACES;

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64);

/// What a bucket said in one consistent look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Where the key was; [`PLACES`]: it was not there.
    place: usize,
    /// The stored destination; of no meaning when the key was not there.
    pub(super) destination: u32,
    state: u32,
}

impl Look {
    /// Whether the key was there.
    #[inline]
    pub(super) const fn found(self) -> bool {
        self.place < PLACES
    }

    /// The stored destination, if the key was there.
    #[inline]
    pub(super) fn destination(self) -> Option<u32> {
        self.found().then_some(self.destination)
    }

    /// True when keys whose first bucket this is may stand in their second one.
    #[inline]
    pub(super) const fn elsewhere(self) -> bool {
        self.state & MANY != 0
    }
}

impl Bucket {
    pub(super) fn new() -> Self {
        Self {
            keys: std::array::from_fn(|_| AtomicU64::new(0)),
            words: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Looks for a key, which is not 0, until the bucket did not change meanwhile.
    #[inline]
    pub(super) fn look(&self, key: u64) -> Look {
        loop {
            let state = self.state().load(Acquire);
            let place = self.scan(key, |stored| stored.load(Acquire));
            let destination = self.words[place].load(Acquire);
            if self.state().load(Relaxed) == state {
                return Look {
                    place,
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

    /// True when the bucket is as it was at `look`. All loads before must have been `Acquire`.
    #[inline]
    pub(super) fn is_still(&self, look: Look) -> bool {
        self.state().load(Relaxed) == look.state
    }

    /// The place of a key, to the writer.
    pub(super) fn place_of(&self, key: u64) -> Option<usize> {
        let place = self.scan(key, own_u64);
        (place < PLACES).then_some(place)
    }

    /// A free place, to the writer.
    pub(super) fn free(&self) -> Option<usize> {
        self.place_of(0)
    }

    /// The place of a key, [`PLACES`] if it is not there. Compares all five without a branch: which one matches can't be
    /// predicted.
    #[inline]
    fn scan(&self, key: u64, load: impl Fn(&AtomicU64) -> u64) -> usize {
        self.keys.iter().enumerate().fold(
            PLACES,
            |place, (at, stored)| if load(stored) == key { at } else { place },
        )
    }

    /// The entry in a place: key (0 = free) and destination.
    pub(super) fn entry(&self, place: usize) -> (u64, u32) {
        (own_u64(&self.keys[place]), own_u32(&self.words[place]))
    }

    /// What is in all places.
    pub(super) fn entries(&self) -> [(u64, u32); PLACES] {
        std::array::from_fn(|place| self.entry(place))
    }

    /// Fills a free place.
    pub(super) fn put(&self, place: usize, key: u64, destination: u32) {
        self.new_version();
        self.words[place].store(destination, Release);
        self.keys[place].store(key, Release);
    }

    /// Tells readers that scanned before the last `put` that they may have missed a key that came from its other bucket.
    pub(super) fn new_version(&self) {
        self.state()
            .store(own_u32(self.state()).wrapping_add(VERSION), Release);
    }

    /// Points the key in a place elsewhere; returns the destination before.
    pub(super) fn redirect(&self, place: usize, destination: u32) -> u32 {
        let old = own_u32(&self.words[place]);
        self.words[place].store(destination, Release);
        old
    }

    /// Frees a place.
    pub(super) fn clear(&self, place: usize) {
        self.keys[place].store(0, Release);
    }

    /// True when all keys whose first bucket this is stand in it, to the writer.
    #[inline]
    pub(super) fn none_elsewhere(&self) -> bool {
        own_u32(self.state()) & MANY == 0
    }

    /// One more key of this bucket goes to its second one. Call before it is there.
    pub(super) fn one_elsewhere(&self) {
        let state = own_u32(self.state());
        if state & MANY != MANY {
            self.state().store(state + 1, Release);
        }
    }

    /// One key of this bucket has left its second one. Call after it has.
    pub(super) fn one_less_elsewhere(&self) {
        let state = own_u32(self.state());
        if state & MANY != MANY {
            self.state().store(state - 1, Release);
        }
    }
}
