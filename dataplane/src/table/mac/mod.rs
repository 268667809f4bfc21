//! The MAC table: (bridge domain, MAC) -> local port or next hop. One writer, readers that never wait.
//!
//! The table is an array of buckets. A bucket is one cache line and has room for five entries:
//!
//! ```text
//! | key 0 | key 1 | key 2 | key 3 | key 4 | dest 0 | .. | dest 4 | state |      64 bytes
//!    8 B: domain 16, MAC 48; 0 = free         4 B each             4 B: version 26, elsewhere 6
//! ```
//!
//! A hash of the key names two buckets, its first and its second (cuckoo hashing with two choices). An entry stands in
//! one of them, in the first when that has room. Each bucket counts in `elsewhere` the entries that it is the first
//! bucket of but that stand in their second one: at zero, a look-up ends after one cache line, also in a miss.
//!
//! ```text
//! key --hash--> first  [ a b K c d | elsewhere 0 ]        found, one line
//!                      [ a b c d e | elsewhere 0 ]        absent, one line
//!                      [ a b c d e | elsewhere 1 ] --> second [ f K - - - | .. ]
//! ```
//!
//! When both buckets are full, the writer searches breadth first for a short chain of entries that can each step over
//! to their other bucket, the last into a free place, and moves them, last one first: copied first, then deleted, so
//! that no entry is ever missing on the way. At 7/8 load, or when there is no chain, it builds an array of twice the
//! size and publishes it; readers take it up in [`MacReader::refresh`], and the writer frees the old one when no reader
//! holds it ([`super::publish`]).
//!
//! # Why a reader needs no lock
//!
//! All fields are atomic, one thread writes. Its stores are `Release` and the reader's loads are `Acquire`, except for
//! the reader's last look at `state`, which no load before it can be moved behind. Who reads a value so also sees all
//! that the writer did before it stored that value. The steps:
//!
//! ```text
//! new entry K     version += 1;  destination;  key = K
//! other way       destination                                    (K stays where it is: one store)
//! removal         key = 0
//! step X -> Y     [X is K's first: X.elsewhere += 1]
//!                 Y: version += 1;  destination;  key = K;  version += 1
//!                 X: key = 0
//!                 [Y is K's first: Y.elsewhere -= 1]
//! look-up         state;  keys;  destination of the key;  state again: another one? anew
//! ```
//!
//! A reader never meets a "locked" state: it goes round again only when the writer got on in between, however long
//! either of them is preempted.
//!
//! *A destination that is found belongs to the key.* The reader saw K in place s, so it sees the destination that was
//! stored with K, or a later one. If later and not K's, it is that of an entry L that came to s after K had left. Reading
//! it shows L's `version += 1`, which came before, so the second look at `state` finds it. Had the first look found it
//! already, then K's removal, which came before that, would have been visible too, and K not seen in s.
//!
//! *A key that is there all the time is not missed.* Take the stays of K in its buckets one after the other; each begins
//! with a step's second `version += 1` and ends, after the next stay has begun, with `key = 0`. Let the stay in the first
//! bucket be the last one that the first look at `state` knows of. The scan does not see K there: so it saw something
//! later in its place, so that stay is over, and all that led to the next stay, in the second bucket, is visible:
//! `elsewhere` was raised. If the scan of the first bucket ends the look-up (`elsewhere` was 0), the second look at
//! `state` differs by that. If not, the scan of the second bucket either sees K, or something later in its place: then
//! the stay after that, again in the first bucket, has begun, and its second `version += 1` is visible to the last look
//! at `state` and was not to the first. So a miss counts only if the state of the first bucket is the same after all
//! scans; that of the second does not matter. The version before the destination alone would not do: between it and
//! `key = K` a reader could scan the first bucket in vain, and the second one after the removal there.
//!
//! The version wraps after 2^26 steps. To be fooled, a reader would have to sleep in the middle of one look-up for a
//! multiple of 67,108,864 changes of one bucket, to the exact number.

mod array;
mod atomic;
mod bucket;
mod destination;
mod key;
mod lookup;
#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, not(loom)))]
mod tests;

use self::array::{Array, Seed};
pub use self::destination::Destination;
pub use self::key::MacKey;
pub use self::lookup::{Lookup, LookupResult};
use super::publish::{Publisher, Reader};
use crate::addr::{DomainId, HostMac};

/// The table is as large as it may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the MAC table is full: {limit} entries; remove some or raise the limit")]
pub struct MacTableFull {
    /// The most entries that it may hold.
    pub limit: usize,
}

/// How large a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacTableSize {
    /// Entries held.
    pub entries: usize,
    /// Entries that it may hold at most.
    pub limit: usize,
    /// Slots in the array that is in use; it grows when 7/8 of them are taken.
    pub slots: usize,
    /// Bytes of that array.
    pub bytes: usize,
    /// Entries that do not stand in their first bucket: a look-up of them costs two cache lines.
    pub displaced: usize,
    /// Outgrown arrays that a reader still holds.
    pub outgrown: usize,
}

/// The writing end.
#[derive(Debug)]
pub struct MacTable {
    arrays: Publisher<Array>,
    len: usize,
    limit: usize,
}

/// A reading end; each worker has its own.
#[derive(Debug, Clone)]
pub struct MacReader {
    arrays: Reader<Array>,
}

/// Buckets of an empty table: 4 KiB.
const FIRST_BUCKETS: usize = 64;

impl MacTable {
    /// An empty table for at most `limit` entries. Its memory grows with the entries, by powers of two.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self::with_array(limit, Array::new(FIRST_BUCKETS, Seed::random()))
    }

    fn with_array(limit: usize, first: Array) -> Self {
        Self {
            arrays: Publisher::new(first),
            len: 0,
            limit,
        }
    }

    /// Inserts or moves; returns what was there.
    ///
    /// # Errors
    /// [`MacTableFull`] when `limit` entries are there; nothing changes.
    ///
    /// # Panics
    /// If `to` is a next hop with an identifier of 2^31 or more.
    pub fn insert(
        &mut self,
        domain: DomainId,
        mac: HostMac,
        to: Destination,
    ) -> Result<Option<Destination>, MacTableFull> {
        let (key, to) = (MacKey::new(domain, mac.get()).0, to.to_word());
        let array = self.arrays.current();
        if let Some(old) = array.update(key, to) {
            return Ok(Some(Destination::from_word(old)));
        }
        if self.len >= self.limit {
            return Err(MacTableFull { limit: self.limit });
        }
        if self.len >= array.capacity() || !array.insert(key, to) {
            self.grow(key, to)?;
        }
        self.len += 1;
        Ok(None)
    }

    /// Removes; returns what was there.
    pub fn remove(&mut self, domain: DomainId, mac: HostMac) -> Option<Destination> {
        let old = self
            .arrays
            .current()
            .remove(MacKey::new(domain, mac.get()).0)?;
        self.len -= 1;
        Some(Destination::from_word(old))
    }

    /// Builds and publishes a larger array with all entries and this new one.
    fn grow(&mut self, key: u64, to: u32) -> Result<(), MacTableFull> {
        let array = self.arrays.current();
        // An array that is full long before its time has met keys that its hash does not spread: take another hash.
        let mut seed = if self.len >= array.capacity() / 2 {
            array.seed()
        } else {
            Seed::random()
        };
        let mut buckets = array.buckets() * 2;
        // Four times what `limit` entries take. Chance fills none that large, and nobody can choose keys for a hash
        // that is secret: so this ends an endless search, not a table's life.
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

    /// Starts to load the memory that changes of these keys will need. Of more than some dozen keys the first may be gone
    /// from the cache again when they are changed.
    pub fn prefetch(&self, keys: &[MacKey]) {
        self.arrays.current().prefetch(keys);
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when no entry is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `visit` with every entry, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(MacKey, Destination)) {
        self.arrays
            .current()
            .entries()
            .for_each(|(key, to)| visit(MacKey(key), Destination::from_word(to)));
    }

    /// Frees outgrown arrays that no reader holds any more. Growth does so too; between two growths nothing else does,
    /// so call this now and then.
    pub fn reclaim(&mut self) {
        self.arrays.reclaim();
    }

    /// Entries, memory and load. Walks the whole table for `displaced`.
    #[must_use]
    pub fn size(&self) -> MacTableSize {
        let array = self.arrays.current();
        MacTableSize {
            entries: self.len,
            limit: self.limit,
            slots: array.slots(),
            bytes: array.bytes(),
            displaced: array.displaced(),
            outgrown: self.arrays.retired(),
        }
    }

    /// A new reading end.
    #[must_use]
    pub fn reader(&self) -> MacReader {
        MacReader {
            arrays: self.arrays.reader(),
        }
    }
}

impl MacReader {
    /// Takes up a grown table, if there is one. Call it once a turn: a reader sees every change of entries at once, but
    /// after a growth only from its next refresh on, and the memory of the outgrown table is kept for it until then.
    #[inline]
    pub fn refresh(&mut self) {
        self.arrays.refresh();
    }

    /// Looks one key up.
    #[inline]
    #[must_use]
    pub fn lookup(&self, key: MacKey) -> Option<Destination> {
        self.arrays.get().lookup(key.0).map(Destination::from_word)
    }

    /// The first step of a look-up in three: starts to load the memory that it needs. Between the steps there should be
    /// other work, so that nothing has to wait; all three must be taken before the next [`MacReader::refresh`].
    #[inline(always)]
    #[must_use]
    pub fn lookup_start(&self, key: MacKey) -> Lookup {
        self.arrays.get().lookup_start(key)
    }

    /// The second step: looks where the key should be, and if it may be elsewhere, starts to load that.
    #[inline(always)]
    pub fn lookup_probe(&self, lookup: &mut Lookup) {
        self.arrays.get().lookup_probe(lookup);
    }

    /// The last step: what the key is behind.
    #[inline(always)]
    #[must_use]
    pub fn lookup_finish(&self, lookup: &Lookup) -> LookupResult {
        self.arrays.get().lookup_finish(lookup)
    }

    /// Looks up `keys` together (memory is asked for some keys ahead): `results[i]` is for `keys[i]`.
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
