//! The MAC table: (bridge domain, MAC) -> local port or remote VTEP. One writer, wait-free readers.
//!
//! The table is an array of buckets. A bucket is one cache line with slots for five entries:
//!
//! ```text
//! | key 0 | key 1 | key 2 | key 3 | key 4 | dest 0 | .. | dest 4 | state |      64 bytes
//!    8 B: domain 16, MAC 48; 0 = free         4 B: kind 4, id 28     4 B: version 26, displaced 6
//! ```
//!
//! A hash of the key selects two buckets, its first and its second (cuckoo hashing with two
//! choices). An entry is in one of them, in the first if that had a free slot. Each bucket counts
//! in `displaced` the entries whose first bucket it is but which are in their second one. While
//! that is zero a lookup ends after one cache line, hit or miss.
//!
//! ```text
//! key --hash--> first  [ a b K c d | displaced 0 ]        found, one line
//!                      [ a b c d e | displaced 0 ]        absent, one line
//!                      [ a b c d e | displaced 1 ] --> second [ f K - - - | .. ]
//! ```
//!
//! When both buckets are full, the writer searches breadth first for a short chain of entries that
//! can each move to their other bucket, the last one into a free slot. It moves them starting with
//! the last, each copied first and deleted then, so that no entry is missing at any time. Before the
//! load reaches 7/8, it fills an array of twice the size, some buckets with each new entry: all at
//! once would take tens of milliseconds for a million. Until that array has all entries, only the
//! writer has it, and changes both; then it publishes it. When there is no such chain, it copies the
//! array at once.
//! Readers switch to it in [`MacReader::refresh`], and the writer frees the old array once no
//! reader holds it ([`super::publish`]).
//!
//! # Why readers need no lock
//!
//! All fields are atomic and one thread writes. Its stores are `Release` and the reader's loads are
//! `Acquire`, except for the reader's final load of `state`, before which all its earlier loads are
//! complete. A reader that loads a value therefore also sees everything that the writer stored
//! before that value. The steps:
//!
//! ```text
//! insert K        version += 1;  destination;  key = K
//! update K        destination                                    (K stays in its slot: one store)
//! remove K        key = 0
//! move K, X to Y  [X is K's first: X.displaced += 1]
//!                 Y: version += 1;  destination;  key = K;  version += 1
//!                 X: key = 0
//!                 [Y is K's first: Y.displaced -= 1]
//! lookup          state;  keys;  destination of the key;  state again: retry if it differs
//! ```
//!
//! There is no "locked" state: a reader retries only when the writer has made progress meanwhile,
//! however long either of them is preempted.
//!
//! *A destination that is found belongs to the key.* The reader saw K in slot s, so it sees the
//! destination that was stored with K or a later one. If it is later and not K's, it belongs to an
//! entry L that was put into s after K had left. Reading it makes L's `version += 1` visible, which
//! was stored before, so the second load of `state` differs from the first. If the first load had
//! already seen that version, K's removal, which was stored before it, would have been visible too,
//! and K would not have been seen in s.
//!
//! *A key that is present all the time is not missed.* Consider the successive stays of K in its
//! buckets. Each begins with the second `version += 1` of a move and ends, after the next stay has
//! begun, with `key = 0`. Take the last stay in the first bucket that the first load of `state`
//! includes. If the scan does not see K there, it saw something later in its slot: that stay is
//! over, and everything up to the next stay, in the second bucket, is visible, including the
//! increment of `displaced`. If the scan of the first bucket ends the lookup (`displaced` was 0),
//! the second load of `state` differs for that reason. Otherwise the scan of the second bucket
//! either sees K or something later in its slot. In that case the stay after it, again in the first
//! bucket, has begun, and its second `version += 1` is visible to the last load of `state` but was
//! not to the first. So a miss counts only if the state of the first bucket is unchanged after all
//! scans; the state of the second does not matter. The `version += 1` before the destination would
//! not suffice alone: between it and `key = K` a reader could scan the first bucket without finding
//! K, and scan the second one after the removal there.
//!
//! The version wraps after 2^26 steps. To miss a change, a reader would have to be preempted within
//! one lookup for an exact multiple of 67,108,864 changes of one bucket.

mod array;
mod atomic;
mod bucket;
mod destination;
mod key;
mod lookup;
#[cfg(all(test, loom))]
mod loom;
mod next_array;
#[cfg(all(test, not(loom)))]
mod tests;

use self::array::{Array, COPY_BATCH, Seed};
pub use self::destination::Destination;
pub use self::key::MacKey;
pub use self::lookup::{LookupResult, Lookups};
use self::next_array::NextArray;
use super::publish::{Publisher, Reader};
use crate::addr::{DomainId, HostMac};

/// The table has reached its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the MAC table is full: {limit} entries; remove some or raise the limit")]
pub struct MacTableFull {
    /// Maximum number of entries.
    pub limit: usize,
}

/// Size and load of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacTableSize {
    /// Number of entries.
    pub entries: usize,
    /// Maximum number of entries.
    pub limit: usize,
    /// Slots of the current array, which grows when 7/8 of them are in use.
    pub slots: usize,
    /// Memory of the current array, bytes.
    pub bytes: usize,
    /// Entries in their second bucket: looking one up costs two cache lines.
    pub displaced: usize,
    /// Replaced arrays that a reader still holds.
    pub retired: usize,
}

/// The write side.
#[derive(Debug)]
pub struct MacTable {
    arrays: Publisher<Array>,
    /// The next array, while its buckets are being created.
    next: Option<NextArray>,
    /// The next array, while entries are being copied to it.
    larger: Option<LargerArray>,
    len: usize,
    limit: usize,
}

/// An array that will replace the current one. It has the entries of the buckets that were copied,
/// as they are now, and those that were added or moved since the first was.
#[derive(Debug)]
struct LargerArray {
    array: Array,
    /// Buckets of the current array that were copied.
    copied: usize,
    /// Entries added meanwhile.
    added: usize,
}

/// A read side; each worker has its own.
#[derive(Debug, Clone)]
pub struct MacReader {
    arrays: Reader<Array>,
}

/// New entries between two copies to a larger array: copying all takes a tenth of the entries, so
/// that no turn of the control thread, which adds some thousand, makes many of them.
const ADDED_PER_COPY: usize = 3;

/// Buckets of an empty table: 4 KiB.
const FIRST_BUCKETS: usize = 64;

impl MacTable {
    /// An empty table for at most `limit` entries. Its memory grows with the number of entries, by
    /// powers of two.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self::with_array(limit, Array::new(FIRST_BUCKETS, Seed::random()))
    }

    fn with_array(limit: usize, first: Array) -> Self {
        Self {
            arrays: Publisher::new(first),
            next: None,
            larger: None,
            len: 0,
            limit,
        }
    }

    /// Inserts or updates an entry; returns the destination that it had.
    ///
    /// # Errors
    /// [`MacTableFull`] when the table holds `limit` entries; nothing changes.
    ///
    /// # Panics
    /// If `to` is a VTEP whose identifier is above [`Destination::MAX_ID`].
    pub fn insert(
        &mut self,
        domain: DomainId,
        mac: HostMac,
        to: Destination,
    ) -> Result<Option<Destination>, MacTableFull> {
        let (key, to) = (MacKey::new(domain, mac.get()).0, to.to_word());
        let array = self.arrays.current();
        if let Some(old) = array.update(key, to) {
            if let Some(larger) = &self.larger {
                larger.array.update(key, to);
            }
            return Ok(Some(Destination::from_word(old)));
        }
        if self.len >= self.limit {
            return Err(MacTableFull { limit: self.limit });
        }
        self.fill_larger();
        if self.len >= self.capacity() || !self.insert_new(key, to) {
            self.grow(key, to)?;
        }
        self.len += 1;
        Ok(None)
    }

    /// Removes an entry; returns the destination that it had.
    pub fn remove(&mut self, domain: DomainId, mac: HostMac) -> Option<Destination> {
        let key = MacKey::new(domain, mac.get()).0;
        let old = self.arrays.current().remove(key)?;
        if let Some(larger) = &self.larger {
            larger.array.remove(key);
        }
        self.len -= 1;
        Some(Destination::from_word(old))
    }

    /// The most entries of the current array.
    fn capacity(&self) -> usize {
        let array = self.arrays.current();
        match self.larger {
            Some(_) => array.filling_capacity(),
            None => array.capacity(),
        }
    }

    /// Inserts an absent key. False when no slot can be freed.
    fn insert_new(&mut self, key: u64, to: u32) -> bool {
        let array = self.arrays.current();
        let Some(larger) = &self.larger else {
            return array.insert(key, to);
        };
        // An entry that moves to a bucket that was copied would not be copied any more.
        let mut fits = larger.array.put(key, to);
        let mut copy = |key, to| fits &= larger.array.put(key, to);
        let inserted = array.insert_noting(key, to, &mut copy);
        if !fits {
            self.larger = None;
        }
        inserted
    }

    /// Creates a larger array and copies some more entries to it, if the current one will be full
    /// soon, and publishes it when it has all.
    fn fill_larger(&mut self) {
        let array = self.arrays.current();
        let larger = match &mut self.larger {
            Some(larger) => larger,
            None if self.len < array.fill_from() || array.capacity() >= self.limit => return,
            none => {
                let buckets = array.buckets() * 2;
                let next = self.next.get_or_insert_with(|| NextArray::new(buckets));
                if !next.create_some() {
                    return;
                }
                let Some(next) = self.next.take() else {
                    return;
                };
                none.insert(LargerArray {
                    array: next.finish(array.seed()),
                    copied: 0,
                    added: 0,
                })
            }
        };
        larger.added += 1;
        if !larger.added.is_multiple_of(ADDED_PER_COPY) {
            return;
        }
        let fits = array.copy_portion(larger.copied, &larger.array);
        larger.copied += COPY_BATCH;
        let complete = larger.copied >= array.buckets();
        if !fits {
            // Another hash is needed: `grow` finds one when the current array is full.
            self.larger = None;
        } else if complete && let Some(larger) = self.larger.take() {
            self.arrays.publish(larger.array);
        }
    }

    /// Builds and publishes a larger array with all entries and a new one.
    fn grow(&mut self, key: u64, to: u32) -> Result<(), MacTableFull> {
        (self.next, self.larger) = (None, None);
        let array = self.arrays.current();
        // An array that is full far below 7/8 load met keys that its hash does not distribute:
        // change the hash.
        let mut seed = if self.len >= array.capacity() / 2 {
            array.seed()
        } else {
            Seed::random()
        };
        let mut buckets = array.buckets() * 2;
        // Four times the size that `limit` entries need. Keys cannot be chosen against a secret
        // hash and chance does not fill an array that large, so this only bounds the search.
        let most = (self.limit / 4).max(FIRST_BUCKETS).next_power_of_two() * 4;
        while buckets <= most {
            if let Some(larger) = array.copy_with(buckets, seed, key, to) {
                self.arrays.publish(larger);
                return Ok(());
            }
            seed = Seed::random();
            buckets *= 2;
        }
        Err(MacTableFull { limit: self.limit })
    }

    /// Prefetches the memory that updates of these keys need. With more than a few dozen keys the
    /// first may have been evicted from the cache when they are updated.
    pub fn prefetch(&self, keys: &[MacKey]) {
        self.arrays.current().prefetch(keys);
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Maximum number of entries.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// True when the table has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `visit` with every entry, in no particular order.
    pub fn for_each(&self, mut visit: impl FnMut(MacKey, Destination)) {
        self.arrays
            .current()
            .entries()
            .for_each(|(key, to)| visit(MacKey(key), Destination::from_word(to)));
    }

    /// Frees replaced arrays that no reader holds any more. Growing does so too, but nothing else
    /// does between two growths: must be called periodically.
    pub fn reclaim(&mut self) {
        self.arrays.reclaim();
    }

    /// Size and load. Walks the whole table to count `displaced`.
    #[must_use]
    pub fn size(&self) -> MacTableSize {
        let array = self.arrays.current();
        MacTableSize {
            entries: self.len,
            limit: self.limit,
            slots: array.slots(),
            bytes: array.bytes(),
            displaced: array.displaced(),
            retired: self.arrays.retired(),
        }
    }

    /// A new read side.
    #[must_use]
    pub fn reader(&self) -> MacReader {
        MacReader {
            arrays: self.arrays.reader(),
        }
    }
}

impl MacReader {
    /// Switches to the current array after the table has grown. Must be called once per iteration:
    /// a reader sees every change at once, but after a growth only from its next refresh on, and
    /// the memory of the replaced array is kept until then.
    #[inline]
    pub fn refresh(&mut self) {
        self.arrays.refresh();
    }

    /// Looks up one key.
    #[inline]
    #[must_use]
    pub fn lookup(&self, key: MacKey) -> Option<Destination> {
        self.arrays.get().lookup(key.0).map(Destination::from_word)
    }

    /// First of the two steps of lookups: sets key `at`, and prefetches its first bucket. Keys are
    /// set in order, from 0 on. Other work before the second step hides the latency of memory.
    #[inline(always)]
    pub fn lookup_start(&self, lookups: &mut Lookups, at: usize, key: MacKey) {
        self.arrays.get().lookup_start(lookups, at, key);
    }

    /// Second step, before the next [`MacReader::refresh`]: the results for the first `count` keys.
    #[inline(always)]
    pub fn lookup_finish(&self, lookups: &mut Lookups, count: usize) {
        self.arrays.get().lookup_finish(lookups, count);
    }

    /// Looks up many keys, prefetching some keys ahead: `results[i]` is for `keys[i]`.
    ///
    /// # Panics
    /// If `results` is shorter than `keys`.
    #[inline]
    pub fn lookup_burst(&self, keys: &[MacKey], results: &mut [LookupResult]) {
        self.arrays
            .get()
            .lookup_burst(keys, &mut results[..keys.len()]);
    }
}
