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
//! lookup ends at the first greater hash, and the entries move to a larger table in their order, without
//! reading the keys. A lookup reads one cache line, rarely the next one too; [`Index::fetch`] prefetches
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

/// Entries that one change moves to a larger table. The move is over when an eighth more have been
/// added, long before the larger table is full, and takes a hundred thousand changes for a million
/// entries: a turn of the control thread makes a tenth of them.
const MOVED: usize = 8;

/// Numbers by the hash of what they stand for.
///
/// A larger table takes over the entries in the order of their hashes, some with each change: all at
/// once would take tens of milliseconds for a million. Hashes below [`Self::border`] are in the
/// larger table, the others still in the outgrown one.
#[derive(Debug)]
pub struct Index {
    table: Table,
    /// The table that `table` replaces; empty unless entries are being moved.
    outgrown: Table,
    /// The place in `outgrown` of the first entry that is not moved.
    next: usize,
    /// Hashes from here on are in `outgrown`.
    border: u64,
    len: usize,
}

/// Greater than every hash: no entries are being moved.
const NO_BORDER: u64 = 1 << 32;

impl Default for Index {
    fn default() -> Self {
        Self {
            table: Table::default(),
            outgrown: Table::default(),
            next: 0,
            border: NO_BORDER,
            len: 0,
        }
    }
}

impl Index {
    /// The 32 bits of a hash that the index uses.
    #[inline]
    pub const fn short(hash: u64) -> u32 {
        (hash >> 32) as u32
    }

    /// The table of a hash.
    #[inline]
    const fn of(&self, hash: u32) -> &Table {
        if (hash as u64) < self.border {
            &self.table
        } else {
            &self.outgrown
        }
    }

    const fn of_mut(&mut self, hash: u32) -> &mut Table {
        if (hash as u64) < self.border {
            &mut self.table
        } else {
            &mut self.outgrown
        }
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
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let rest = self.outgrown.slots.iter().skip(self.next);
        let all = self.table.slots.iter().chain(rest);
        all.filter(|slot| **slot != EMPTY).map(|slot| *slot as u32)
    }

    /// Prefetches what a lookup of this hash reads.
    #[inline]
    pub fn fetch(&self, hash: u32) {
        self.of(hash).fetch(hash);
    }

    /// The number with this hash for which `same` is true.
    #[inline]
    pub fn find(&self, hash: u32, same: impl FnMut(u32) -> bool) -> Option<u32> {
        let table = self.of(hash);
        table.slot(hash, same).map(|at| table.slots[at] as u32)
    }

    /// Adds a number, which must not be there yet.
    pub fn insert(&mut self, hash: u32, number: u32) {
        if self.len >= self.table.capacity() {
            self.grow();
        }
        self.move_some();
        self.of_mut(hash).insert(hash, number);
        self.len += 1;
    }

    /// Replaces a number by another. False if it is not there.
    pub fn replace(&mut self, hash: u32, number: u32, by: u32) -> bool {
        self.of_mut(hash).replace(hash, number, by)
    }

    /// Removes a number. False if it is not there.
    pub fn remove(&mut self, hash: u32, number: u32) -> bool {
        self.move_some();
        let removed = self.of_mut(hash).remove(hash, number);
        self.len -= usize::from(removed);
        removed
    }

    /// Begins to move the entries to a table of twice the size.
    fn grow(&mut self) {
        while self.border < NO_BORDER {
            self.move_some();
        }
        let larger = Table::new((self.table.lines * 2).max(FIRST));
        self.outgrown = std::mem::replace(&mut self.table, larger);
        (self.next, self.border) = (0, 0);
        self.table.fill(0);
    }

    /// Moves [`MOVED`] entries, and those with the same hash as the last of them.
    #[inline]
    fn move_some(&mut self) {
        if self.border < NO_BORDER {
            self.do_move_some();
        }
    }

    #[inline(never)]
    fn do_move_some(&mut self) {
        let (mut moved, mut last) = (0, 0);
        let mut border = NO_BORDER;
        let rest = self.outgrown.slots.iter().enumerate().skip(self.next);
        for (at, slot) in rest.filter(|(_, slot)| **slot != EMPTY) {
            let hash = slot >> 32;
            if moved >= MOVED && hash != last {
                (self.next, border) = (at, hash);
                break;
            }
            self.table.append(*slot);
            (moved, last) = (moved + 1, hash);
        }
        self.border = border;
        if border == NO_BORDER {
            self.outgrown = Table::default();
            self.table.fill_all();
        } else {
            self.table.fill(border as u32);
        }
    }
}

/// The slots of a size.
#[derive(Debug, Default)]
struct Table {
    /// In the order of the hashes, apart from empty slots; no empty slot between a number and its
    /// home. The last slot is empty. While entries are being moved, a larger table ends at the home
    /// of the border, and an outgrown one begins with entries that were moved, which no lookup
    /// finds.
    slots: Vec<u64>,
    /// Empty slots before the first line: the allocator does not align to cache lines.
    skew: usize,
    /// Lines that are homes of hashes.
    lines: usize,
}

impl Table {
    /// A table without slots, but with memory for those of so many lines.
    fn new(lines: usize) -> Self {
        let slots = reserve::<u64>((lines + TAIL + 1) * LINE);
        let skew = slots.as_ptr().align_offset(ALIGNMENT).min(LINE);
        Self { slots, skew, lines }
    }

    /// The most entries.
    const fn capacity(&self) -> usize {
        self.lines * (LINE / 4 * 3)
    }

    #[inline]
    const fn home(&self, hash: u32) -> usize {
        self.skew + LINE * ((hash as u64 * self.lines as u64) >> 32) as usize
    }

    #[inline]
    fn fetch(&self, hash: u32) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(slot);
        }
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

    fn insert(&mut self, hash: u32, number: u32) {
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
        if end + 1 == self.slots.len() {
            self.slots.push(EMPTY);
        }
    }

    fn replace(&mut self, hash: u32, number: u32, by: u32) -> bool {
        let Some(at) = self.slot(hash, |found| found == number) else {
            return false;
        };
        self.slots[at] = u64::from(hash) << 32 | u64::from(by);
        true
    }

    fn remove(&mut self, hash: u32, number: u32) -> bool {
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
        true
    }

    /// Adds an entry with a hash that no other exceeds.
    fn append(&mut self, slot: u64) {
        let home = self.home((slot >> 32) as u32);
        while self.slots.len() > home && self.slots.last() == Some(&EMPTY) {
            self.slots.pop();
        }
        while self.slots.len() < home {
            self.slots.push(EMPTY);
        }
        self.slots.push(slot);
    }

    /// Adds empty slots up to the home of a hash, and one after the last entry.
    fn fill(&mut self, hash: u32) {
        let end = self.home(hash) + 1;
        self.slots.resize(end.max(self.slots.len() + 1), EMPTY);
    }

    /// Adds all empty slots that are missing.
    fn fill_all(&mut self) {
        let end = (self.lines + TAIL + 1) * LINE;
        self.slots.resize(end.max(self.slots.len() + 1), EMPTY);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl Index {
        /// Checks the invariants that the documentation of [`Table`] describes.
        fn assert_sound(&self) {
            let moved = self.table.assert_sound(0);
            let rest = self.outgrown.assert_sound(self.next);
            assert_eq!(moved.len() + rest.len(), self.len);
            assert!(moved.iter().all(|slot| slot >> 32 < self.border));
            assert!(rest.iter().all(|slot| slot >> 32 >= self.border));
        }
    }

    impl Table {
        /// Checks the slots from `first` on; returns the entries.
        fn assert_sound(&self, first: usize) -> Vec<u64> {
            let slots = self.slots.iter().copied().enumerate().skip(first);
            let full: Vec<_> = slots.filter(|(_, slot)| *slot != EMPTY).collect();
            assert!(full.is_sorted_by_key(|(_, slot)| slot >> 32));
            for (at, slot) in &full {
                let home = self.home((slot >> 32) as u32);
                assert!(
                    home <= *at && !self.slots[home..*at].contains(&EMPTY),
                    "{slot:x} in {at}, not {home}"
                );
            }
            assert!(self.slots.last().is_none_or(|slot| *slot == EMPTY));
            full.into_iter().map(|(_, slot)| slot).collect()
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
                assert!(
                    (index.table.slots.len() * 8) <= 22 * index.len(),
                    "{number}"
                );
            }
        }
        index.assert_sound();
    }

    /// A table with millions of entries grows without a pause.
    #[test]
    fn a_change_moves_a_portion_of_the_entries() {
        let mut index = Index::default();
        let (mut growths, mut most) = (0, 0);
        for number in 0..100_000_u32 {
            let (before, lines) = (index.table.slots.len(), index.table.lines);
            index.insert(number.wrapping_mul(0x9e37_79b9), number);
            if index.table.lines == lines {
                most = most.max(index.table.slots.len() - before);
            } else {
                growths += 1;
            }
            if number % 4096 == 0 {
                index.assert_sound();
            }
        }
        assert!(growths > 10, "{growths}");
        // Half of the slots of a larger table are empty at first, or more.
        assert!(most < 20 * MOVED, "{most} slots");
        for number in 0..100_000_u32 {
            let hash = number.wrapping_mul(0x9e37_79b9);
            assert_eq!(index.find(hash, |found| found == number), Some(number));
        }
    }
}
