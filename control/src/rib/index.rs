//! A hash index: numbers by the hash of what they stand for, in a table whose memory can be
//! prefetched.
//!
//! ```text
//! home = hash * lines >> 32      | hash: 32 | number: 32 |   8 octets per slot, 8 slots per line
//!
//! slots | 0a.. 0b.. ---- .. | 31.. 32.. 32.. 38.. 3f.. 41.. 42.. 43.. | 44.. 51.. ---- .. |
//!                             ^ home of 31 to 44, in order of their hashes from here on
//! ```
//!
//! Linear probing from the start of a cache line. Slots are in the order of their hashes, so that a
//! lookup ends at the first greater hash, and a larger table is written in one pass without reading
//! the keys. A lookup reads one cache line, rarely the next one too; [`Index::fetch`] prefetches
//! it. One UPDATE carries hundreds of routes: the memory for all of them is being loaded before the
//! first is processed. `hashbrown` offers no prefetch, and keeps its tags and its values in two
//! places.

use vtep_dataplane::mem::{prefetch, reserve};

/// An empty slot. Greater than all others: no number is [`super::slab::NONE`].
const EMPTY: u64 = u64::MAX;

/// Slots in a cache line.
const LINE: usize = 8;

/// Octets in a cache line.
const ALIGNMENT: usize = LINE * size_of::<u64>();

/// Lines of the smallest table that is not empty.
const FIRST: usize = 4;

/// Lines after the last home, for overflow.
const TAIL: usize = 4;

/// Numbers by the hash of what they stand for.
#[derive(Debug, Default)]
pub struct Index {
    /// In the order of the hashes, apart from empty slots; no empty slot between a number and its
    /// home. The last slot is empty.
    slots: Vec<u64>,
    /// Empty slots before the first line: the allocator does not align to cache lines.
    skew: usize,
    /// Lines that are homes of hashes.
    lines: usize,
    len: usize,
}

impl Index {
    /// The 32 bits of a hash that the index uses.
    #[inline]
    pub const fn short(hash: u64) -> u32 {
        (hash >> 32) as u32
    }

    #[inline]
    const fn home(&self, hash: u32) -> usize {
        self.skew + LINE * ((hash as u64 * self.lines as u64) >> 32) as usize
    }

    /// The number of entries.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there are no entries.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All numbers, in no useful order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots
            .iter()
            .filter(|slot| **slot != EMPTY)
            .map(|slot| *slot as u32)
    }

    /// Prefetches what a lookup of this hash reads.
    #[inline]
    pub fn fetch(&self, hash: u32) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(slot);
        }
    }

    /// The number with this hash for which `same` is true.
    #[inline]
    pub fn find(&self, hash: u32, same: impl FnMut(u32) -> bool) -> Option<u32> {
        self.slot(hash, same).map(|at| self.slots[at] as u32)
    }

    /// The slot of a number.
    #[inline]
    fn slot(&self, hash: u32, mut same: impl FnMut(u32) -> bool) -> Option<usize> {
        let (home, least) = (self.home(hash), u64::from(hash) << 32);
        for (step, slot) in self.slots.get(home..)?.iter().enumerate() {
            if *slot >= least | u64::from(u32::MAX) {
                return None;
            }
            if *slot >= least && same(*slot as u32) {
                return Some(home + step);
            }
        }
        None
    }

    /// Adds a number, which must not be there yet.
    pub fn insert(&mut self, hash: u32, number: u32) {
        if self.len >= self.lines * (LINE / 4 * 3) {
            self.grow();
        }
        let slot = u64::from(hash) << 32 | u64::from(number);
        let at = self.home(hash);
        let at = at
            + self.slots[at..]
                .iter()
                .take_while(|other| **other < slot)
                .count();
        let end = at
            + self.slots[at..]
                .iter()
                .take_while(|other| **other != EMPTY)
                .count();
        // Usually the slot is empty, or one or two slots before an empty one.
        for place in (at..end).rev() {
            self.slots[place + 1] = self.slots[place];
        }
        self.slots[at] = slot;
        self.len += 1;
        if end + 1 == self.slots.len() {
            self.slots.push(EMPTY);
        }
    }

    /// Replaces a number by another. False if it is not there.
    pub fn replace(&mut self, hash: u32, number: u32, by: u32) -> bool {
        let Some(at) = self.slot(hash, |found| found == number) else {
            return false;
        };
        self.slots[at] = u64::from(hash) << 32 | u64::from(by);
        true
    }

    /// Removes a number. False if it is not there.
    pub fn remove(&mut self, hash: u32, number: u32) -> bool {
        let Some(mut at) = self.slot(hash, |found| found == number) else {
            return false;
        };
        // The following numbers that are not at home move one slot closer to it.
        while let Some(next) = self.slots.get(at + 1).copied()
            && next != EMPTY
            && self.home((next >> 32) as u32) <= at
        {
            self.slots[at] = next;
            at += 1;
        }
        self.slots[at] = EMPTY;
        self.len -= 1;
        true
    }

    /// Doubles the table: one pass over both tables, as the order is the same.
    fn grow(&mut self) {
        self.lines = (self.lines * 2).max(FIRST);
        let most = (self.lines + TAIL + 1) * LINE;
        let mut slots = reserve::<u64>(most);
        self.skew = slots.as_ptr().align_offset(ALIGNMENT).min(LINE);
        for slot in self.slots.iter().filter(|slot| **slot != EMPTY) {
            let home = self.home((*slot >> 32) as u32);
            while slots.len() < home {
                slots.push(EMPTY);
            }
            slots.push(*slot);
        }
        slots.resize(most.max(slots.len() + 1), EMPTY);
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl Index {
        /// Checks the invariants of the slots that the module documentation describes.
        fn assert_sound(&self) {
            let full: Vec<_> = self
                .slots
                .iter()
                .copied()
                .filter(|slot| *slot != EMPTY)
                .collect();
            assert!(full.is_sorted_by_key(|slot| slot >> 32));
            assert_eq!(full.len(), self.len);
            for (at, slot) in self
                .slots
                .iter()
                .enumerate()
                .filter(|(_, slot)| **slot != EMPTY)
            {
                let home = self.home((slot >> 32) as u32);
                assert!(
                    home <= at && !self.slots[home..at].contains(&EMPTY),
                    "{slot:x} in {at}, not {home}"
                );
            }
            assert!(self.slots.last().is_none_or(|slot| *slot == EMPTY));
        }
    }

    /// Few hashes, so that many collide, and the extremes.
    fn hash() -> impl Strategy<Value = u32> {
        prop_oneof![
            any::<u32>(),
            0..3_u32,
            u32::MAX - 2..=u32::MAX,
            (0..20_u32).prop_map(|n| n << 27)
        ]
    }

    fn steps() -> impl Strategy<Value = Vec<(u32, u32, u8)>> {
        prop::collection::vec((hash(), 0..8_u32, 0..3_u8), 1..400)
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in steps()) {
            let (mut index, mut set) = (Index::default(), BTreeSet::new());
            for (hash, number, step) in steps {
                let there = set.contains(&(hash, number));
                index.fetch(hash);
                match step {
                    0 => prop_assert_eq!(index.remove(hash, number), set.remove(&(hash, number))),
                    1 if there && !set.contains(&(hash, number + 8)) => {
                        prop_assert!(index.replace(hash, number, number + 8));
                        set.remove(&(hash, number));
                        set.insert((hash, number + 8));
                    }
                    _ if !there => {
                        prop_assert!(!index.replace(hash, number, 99));
                        index.insert(hash, number);
                        set.insert((hash, number));
                    }
                    _ => {}
                }
                index.assert_sound();
                for number in 0..16 {
                    let found = index.find(hash, |found| found == number);
                    prop_assert_eq!(found, set.contains(&(hash, number)).then_some(number));
                }
            }
            let all: BTreeSet<_> = index.iter().collect();
            prop_assert_eq!(all, set.iter().map(|(_, number)| *number).collect());
        }
    }

    #[test]
    fn hashes_that_are_all_the_same_or_all_the_greatest_fit() {
        for hash in [0, 77, u32::MAX] {
            let mut index = Index::default();
            (0..500).for_each(|number| index.insert(hash, number));
            index.assert_sound();
            assert_eq!(index.find(hash, |number| number == 499), Some(499));
            assert!((0..500).all(|number| index.remove(hash, number)));
            assert!(index.is_empty());
        }
    }

    #[test]
    fn a_number_costs_at_most_22_octets() {
        let mut index = Index::default();
        for number in 0..200_000_u32 {
            index.insert(number.wrapping_mul(0x9e37_79b9), number);
            if number > 10_000 {
                assert!((index.slots.len() * 8) <= 22 * index.len(), "{number}");
            }
        }
        index.assert_sound();
    }
}
