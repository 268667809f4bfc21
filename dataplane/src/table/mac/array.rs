//! An array of buckets: two-choice lookup, and the writer's search for a free slot.

use std::hash::{BuildHasher, RandomState};

use super::bucket::{Bucket, SLOTS};
use super::key::MacKey;
use super::lookup::{Lookup, LookupResult};
use crate::mem::{allocate, prefetch};

/// The secret of the hash: tenants that choose their MACs can't make them collide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed {
    xor: u64,
    factor: u64,
}

impl Seed {
    /// A seed from the operating system's random numbers.
    pub(super) fn random() -> Self {
        let state = RandomState::new();
        Self::new(state.hash_one(0), state.hash_one(1))
    }

    /// A seed from two numbers.
    pub(super) const fn new(xor: u64, factor: u64) -> Self {
        // Some bits are fixed, so that no factor is weak, such as 0 or a power of two.
        Self {
            xor,
            factor: factor & 0x00ff_ffff_ffff_fff0 | 0x9e00_0000_0000_0005,
        }
    }

    /// Two folded products. With one, some seeds distributed regular keys so unevenly that an array
    /// was full before 7/8 load.
    #[inline]
    fn hash(self, key: u64) -> u64 {
        fold(
            fold(key ^ self.xor, self.factor) ^ self.factor,
            0x9e37_79b9_7f4a_7c15,
        )
    }
}

/// Both halves of the full product, folded.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Keys that are looked up together: few enough that their cache lines stay in L1.
const BURST: usize = 64;

/// Keys between the prefetch of a bucket and its probe. A core has about 20 cache line fills in
/// flight; more at a time stall it, and probing only after all prefetches leaves the memory idle
/// meanwhile.
const AHEAD: usize = 32;

/// Buckets whose entries are copied together: a few more than a core has line fills in flight.
const COPY_BATCH: usize = 8;

/// Buckets that the search for a chain of displacements visits before it gives up.
const SEARCH: usize = 512;

/// The buckets, a power of two of them, at least two.
#[derive(Debug)]
pub(super) struct Array {
    buckets: Box<[Bucket]>,
    mask: usize,
    seed: Seed,
}

/// A bucket that the search has reached: the entry in `slot` of the bucket of step `from` can move
/// to it.
#[derive(Clone, Copy)]
struct Step {
    bucket: usize,
    from: usize,
    slot: usize,
}

/// `from` of the buckets where the search starts.
const START: usize = usize::MAX;

impl Array {
    /// An empty array.
    pub(super) fn new(buckets: usize, seed: Seed) -> Self {
        assert!(
            buckets.is_power_of_two() && buckets >= 2,
            "{buckets} buckets"
        );
        Self {
            buckets: allocate(buckets, Bucket::new),
            mask: buckets - 1,
            seed,
        }
    }

    #[inline]
    fn pair(&self, hash: u64) -> (usize, usize) {
        pair(hash, self.mask)
    }

    /// The first bucket of a key in an array of two buckets.
    #[cfg(all(test, loom))]
    pub(super) fn first_of_two(seed: Seed, key: u64) -> usize {
        seed.hash(key) as usize & 1
    }

    #[inline]
    fn buckets_of(&self, key: u64) -> (&Bucket, &Bucket) {
        let (first, second) = self.pair(self.seed.hash(key));
        (&self.buckets[first], &self.buckets[second])
    }

    /// The stored destination of a key.
    #[inline]
    pub(super) fn lookup(&self, key: u64) -> Option<u32> {
        self.lookup_hashed(key, self.seed.hash(key))
    }

    #[inline]
    fn lookup_hashed(&self, key: u64, hash: u64) -> Option<u32> {
        let key = search_key(key);
        let (first, second) = self.pair(hash);
        let (first, second) = (&self.buckets[first], &self.buckets[second]);
        loop {
            let probe = first.probe(key);
            if probe.found() || !probe.has_displaced() {
                return probe.destination();
            }
            if let found @ Some(_) = second.probe(key).destination() {
                return found;
            }
            if first.is_unchanged(probe) {
                return None;
            }
        }
    }

    /// Prefetches the first bucket of a key.
    #[inline(always)]
    pub(super) fn lookup_start(&self, key: MacKey) -> Lookup {
        let hash = self.seed.hash(key.0);
        prefetch(&raw const *bucket(&self.buckets, self.pair(hash).0));
        Lookup {
            key,
            hash,
            result: LookupResult::PENDING,
        }
    }

    /// Probes the first bucket of a key; prefetches the second one if the key may be there.
    #[inline(always)]
    pub(super) fn lookup_probe(&self, lookup: &mut Lookup) {
        let (first, second) = self.pair(lookup.hash);
        let probe = bucket(&self.buckets, first).probe(search_key(lookup.key.0));
        // The slot of a key can't be predicted, but the key is nearly always in its first bucket.
        lookup.result = if probe.found() {
            LookupResult::of(probe.destination)
        } else if probe.has_displaced() {
            prefetch(&raw const *bucket(&self.buckets, second));
            LookupResult::PENDING
        } else {
            LookupResult::NONE
        };
    }

    /// The result for a key after [`Self::lookup_start`] and [`Self::lookup_probe`].
    #[inline(always)]
    pub(super) fn lookup_finish(&self, lookup: &Lookup) -> LookupResult {
        if lookup.result == LookupResult::PENDING {
            self.lookup_finish_slow(lookup)
        } else {
            lookup.result
        }
    }

    #[inline(never)]
    fn lookup_finish_slow(&self, lookup: &Lookup) -> LookupResult {
        self.lookup_hashed(lookup.key.0, lookup.hash)
            .map_or(LookupResult::NONE, LookupResult::of)
    }

    /// [`Self::lookup`] of many keys. The first bucket of a key is prefetched [`AHEAD`] keys before
    /// it is probed, so that the core compares keys while cache lines are being filled; then the
    /// second buckets that are needed.
    pub(super) fn lookup_burst(&self, keys: &[MacKey], results: &mut [LookupResult]) {
        for (keys, found) in keys.chunks(BURST).zip(results.chunks_mut(BURST)) {
            let mut lookups = [Lookup::NONE; BURST];
            for (lookup, key) in lookups.iter_mut().zip(keys).take(AHEAD) {
                *lookup = self.lookup_start(*key);
            }
            for at in 0..keys.len() {
                if let (Some(key), Some(lookup)) =
                    (keys.get(at + AHEAD), lookups.get_mut(at + AHEAD))
                {
                    *lookup = self.lookup_start(*key);
                }
                self.lookup_probe(&mut lookups[at]);
            }
            for (lookup, found) in lookups.iter().zip(found) {
                *found = self.lookup_finish(lookup);
            }
        }
    }

    /// The bucket and slot of a key, and its first bucket if that is another one.
    fn find(&self, key: u64) -> Option<(&Bucket, usize, Option<&Bucket>)> {
        let (first, second) = self.buckets_of(key);
        if let Some(slot) = first.slot_of(key) {
            return Some((first, slot, None));
        }
        if first.has_no_displaced() {
            return None;
        }
        second.slot_of(key).map(|slot| (second, slot, Some(first)))
    }

    /// Prefetches what updates of these keys need, including the second bucket of a key that may be
    /// there, or that may be put there because its first one is full. Writer only.
    pub(super) fn prefetch(&self, keys: &[MacKey]) {
        for keys in keys.chunks(BURST) {
            for key in keys {
                prefetch(self.buckets_of(key.0).0);
            }
            for key in keys {
                let (first, second) = self.buckets_of(key.0);
                if !first.has_no_displaced() || first.free_slot().is_none() {
                    prefetch(second);
                }
            }
        }
    }

    /// Changes the destination of a key; returns the previous one, `None` if the key is absent.
    /// Writer only.
    pub(super) fn update(&self, key: u64, to: u32) -> Option<u32> {
        self.find(key)
            .map(|(bucket, slot, _)| bucket.set_destination(slot, to))
    }

    /// Removes a key; returns its destination. Writer only.
    pub(super) fn remove(&self, key: u64) -> Option<u32> {
        let (bucket, slot, first) = self.find(key)?;
        let (_, old) = bucket.entry(slot);
        bucket.clear(slot);
        if let Some(first) = first {
            first.decrement_displaced();
        }
        Some(old)
    }

    /// Inserts an absent key. False, with nothing changed, when no slot can be freed. Writer only.
    pub(super) fn insert(&self, key: u64, to: u32) -> bool {
        let (first, second) = self.buckets_of(key);
        if let Some(slot) = first.free_slot() {
            first.put(slot, key, to);
        } else if let Some(slot) = second.free_slot() {
            first.increment_displaced();
            second.put(slot, key, to);
        } else {
            return self.free_slot_for(key) && self.insert(key, to);
        }
        true
    }

    /// An array of another size or hash with the same entries and a new one; `None` if they don't
    /// all fit.
    pub(super) fn copy_with(&self, buckets: usize, seed: Seed, key: u64, to: u32) -> Option<Self> {
        let copy = Self::new(buckets, seed);
        let mut batch = [(0, 0); COPY_BATCH * SLOTS];
        for buckets in self.buckets.chunks(COPY_BATCH) {
            let mut count = 0;
            for (key, to) in buckets.iter().flat_map(Bucket::entries) {
                batch[count] = (key, to);
                count += usize::from(key != 0);
            }
            for (key, _) in &batch[..count] {
                prefetch(copy.buckets_of(*key).0);
            }
            if !batch[..count]
                .iter()
                .all(|(key, to)| copy.insert(*key, *to))
            {
                return None;
            }
        }
        copy.insert(key, to).then_some(copy)
    }

    /// Frees a slot in one of the two buckets of `key`, both full, by moving entries to their other
    /// buckets.
    fn free_slot_for(&self, key: u64) -> bool {
        let (first, second) = self.pair(self.seed.hash(key));
        let start = |bucket| Step {
            bucket,
            from: START,
            slot: 0,
        };
        let (mut all, mut reached, mut at) = ([start(first); SEARCH], 2, 0);
        all[1] = start(second);
        while at < reached {
            for slot in 0..SLOTS {
                let (steps, rest) = all.split_at_mut(reached);
                let bucket = steps[at].bucket;
                let (moving, _) = self.buckets[bucket].entry(slot);
                let (one, two) = self.pair(self.seed.hash(moving));
                let other = if one == bucket { two } else { one };
                if is_on_path(steps, at, other) {
                    continue;
                }
                let step = Step {
                    bucket: other,
                    from: at,
                    slot,
                };
                if self.buckets[other].free_slot().is_some() {
                    self.shift_chain(steps, step);
                    return true;
                }
                if let Some(next) = rest.first_mut() {
                    *next = step;
                    reached += 1;
                }
            }
            at += 1;
        }
        false
    }

    /// Moves the entries of a chain, starting with the last, which moves into the free slot.
    fn shift_chain(&self, steps: &[Step], last: Step) {
        let mut step = &last;
        while let Some(from) = steps.get(step.from) {
            self.displace(from.bucket, step.slot, step.bucket);
            step = from;
        }
    }

    /// Moves one entry to its other bucket, which has a free slot.
    pub(super) fn displace(&self, bucket: usize, slot: usize, other: usize) {
        let (old, new) = (&self.buckets[bucket], &self.buckets[other]);
        let (key, to) = old.entry(slot);
        let Some(free) = new.free_slot() else { return };
        let leaves_first = self.pair(self.seed.hash(key)).0 == bucket;
        if leaves_first {
            old.increment_displaced();
        }
        new.put(free, key, to);
        new.bump_version();
        old.clear(slot);
        if !leaves_first {
            new.decrement_displaced();
        }
    }

    /// Every entry.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u32)> {
        self.buckets
            .iter()
            .flat_map(Bucket::entries)
            .filter(|(key, _)| *key != 0)
    }

    /// Entries in their second bucket.
    pub(super) fn displaced(&self) -> usize {
        self.entries()
            .filter(|(key, _)| self.find(*key).is_some_and(|(_, _, first)| first.is_some()))
            .count()
    }

    /// Entries above which the array must grow: 7/8 of the slots. Above that, chains become long.
    pub(super) fn capacity(&self) -> usize {
        self.slots() / 8 * 7
    }

    /// Number of slots.
    pub(super) fn slots(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// Number of buckets.
    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// The secret of the hash.
    pub(super) fn seed(&self) -> Seed {
        self.seed
    }
}

/// The two buckets of a key, never the same one.
#[inline]
const fn pair(hash: u64, mask: usize) -> (usize, usize) {
    let first = hash as usize & mask;
    (first, first ^ ((hash >> 32) as usize & mask | 1))
}

/// The bucket at an index that a mask of `len - 1` has been applied to.
#[inline(always)]
#[allow(unsafe_code)]
fn bucket(buckets: &[Bucket], index: usize) -> &Bucket {
    debug_assert!(index < buckets.len(), "bucket {index} of {}", buckets.len());
    // SAFETY: every caller has the index from `pair`, which masks with `Array::mask`: one less than
    // the number of buckets, a power of two, both set once by `Array::new`.
    unsafe { buckets.get_unchecked(index) }
}

/// The key to search for. Key 0 marks free slots: a group address, which no entry has either, is
/// searched for instead.
#[inline]
const fn search_key(key: u64) -> u64 {
    key | ((key == 0) as u64) << 40
}

/// True when `bucket` is on the path to step `at`: a chain must not cross itself.
fn is_on_path(steps: &[Step], mut at: usize, bucket: usize) -> bool {
    while let Some(step) = steps.get(at) {
        if step.bucket == bucket {
            return true;
        }
        at = step.from;
    }
    false
}
