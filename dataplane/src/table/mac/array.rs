//! An array of buckets: two-choice lookup, and the writer's search for a free slot.

use std::hash::{BuildHasher, RandomState};

use super::bucket::{Bucket, SLOTS};
use super::key::{MacKey, search_key};
use super::lookup::{LookupResult, Lookups, places};
use crate::frame::BURST;
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

/// Keys between the prefetch of a bucket and its probe. A core has about 20 cache line fills in
/// flight; more at a time stall it, and probing only after all prefetches leaves the memory idle
/// meanwhile.
const AHEAD: usize = 32;

/// Buckets whose entries are copied together: a few more than a core has line fills in flight.
pub(super) const COPY_BATCH: usize = 8;

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
        Self::of(allocate(buckets, Bucket::new), seed)
    }

    /// An array of these buckets, which are empty.
    pub(super) fn of(buckets: Box<[Bucket]>, seed: Seed) -> Self {
        let count = buckets.len();
        assert!(count.is_power_of_two() && count >= 2, "{count} buckets");
        Self {
            buckets,
            mask: count - 1,
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

    /// Sets key `at`, and prefetches its first bucket.
    #[inline(always)]
    pub(super) fn lookup_start(&self, lookups: &mut Lookups, at: usize, key: MacKey) {
        if lookups.set_key(at, key) {
            lookups.hashes[at % BURST] = self.prefetch_first(key);
        }
    }

    /// The results for the first `count` keys, after [`Self::lookup_start`] for each.
    #[inline(always)]
    pub(super) fn lookup_finish(&self, lookups: &mut Lookups, count: usize) {
        if lookups.fresh & 1 == 0 {
            lookups.hashes[0] = self.prefetch_first(lookups.keys[0]);
            lookups.fresh |= 1;
        }
        let mut displaced = 0u64;
        for at in places(lookups.fresh) {
            let (result, may_be_in_second) = self.probe_first(lookups.keys[at], lookups.hashes[at]);
            lookups.results[at] = result;
            displaced |= u64::from(may_be_in_second) << at;
        }
        for at in places(displaced) {
            lookups.results[at] = self.lookup_again(lookups.keys[at], lookups.hashes[at]);
        }
        if lookups.fresh == 1 {
            let result = lookups.results[0];
            return lookups.results[..count].fill(result);
        }
        let equal = !lookups.fresh & u64::MAX >> (BURST - count.clamp(1, BURST));
        for at in places(equal) {
            lookups.results[at] = lookups.results[at.wrapping_sub(1) % BURST];
        }
    }

    /// The result for a key that may be in its second bucket.
    #[inline(never)]
    fn lookup_again(&self, key: MacKey, hash: u64) -> LookupResult {
        self.lookup_hashed(key.0, hash)
            .map_or(LookupResult::NONE, LookupResult::of)
    }

    /// [`Self::lookup`] of many keys. The first bucket of a key is prefetched [`AHEAD`] keys before
    /// it is probed, so that the core compares keys while cache lines are being filled. Keys that
    /// may be in their second bucket are looked up again at the end. No branch depends on where a
    /// key is, which can't be predicted.
    pub(super) fn lookup_burst(&self, keys: &[MacKey], results: &mut [LookupResult]) {
        for (keys, found) in keys.chunks(BURST).zip(results.chunks_mut(BURST)) {
            // Only the hashes are kept: what a probe finds is written where it is wanted.
            let mut hashes = [0; BURST];
            for (hash, key) in hashes.iter_mut().zip(keys).take(AHEAD) {
                *hash = self.prefetch_first(*key);
            }
            let mut displaced = 0u64;
            for (at, (key, found)) in keys.iter().zip(&mut *found).enumerate() {
                if let Some(key) = keys.get(at + AHEAD) {
                    hashes[(at + AHEAD) % BURST] = self.prefetch_first(*key);
                }
                let (result, may_be_in_second) = self.probe_first(*key, hashes[at % BURST]);
                *found = result;
                displaced |= u64::from(may_be_in_second) << at;
            }
            for at in places(displaced) {
                found[at] = self.lookup_again(keys[at], hashes[at]);
            }
        }
    }

    /// Hashes a key, and prefetches its first bucket.
    #[inline(always)]
    fn prefetch_first(&self, key: MacKey) -> u64 {
        let hash = self.seed.hash(key.0);
        prefetch(&raw const *bucket(&self.buckets, self.pair(hash).0));
        hash
    }

    /// What the first bucket of a key has, and whether the key may be in the second one, which is
    /// prefetched then.
    #[inline(always)]
    fn probe_first(&self, key: MacKey, hash: u64) -> (LookupResult, bool) {
        let (first, second) = self.pair(hash);
        let probe = bucket(&self.buckets, first).probe(search_key(key.0));
        let may_be_in_second = !probe.found() & probe.has_displaced();
        let next = if may_be_in_second { second } else { first };
        prefetch(&raw const *bucket(&self.buckets, next));
        let result = match probe.destination() {
            Some(word) => LookupResult::of(word),
            None => LookupResult::NONE,
        };
        (result, may_be_in_second)
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
        self.insert_noting(key, to, &mut |_, _| ())
    }

    /// As [`Self::insert`]; passes the entries that move to their other bucket to `moved`.
    pub(super) fn insert_noting(
        &self,
        key: u64,
        to: u32,
        moved: &mut impl FnMut(u64, u32),
    ) -> bool {
        let (first, second) = self.buckets_of(key);
        if let Some(slot) = first.free_slot() {
            first.put(slot, key, to);
        } else if let Some(slot) = second.free_slot() {
            first.increment_displaced();
            second.put(slot, key, to);
        } else {
            return self.free_slot_for(key, moved) && self.insert(key, to);
        }
        true
    }

    /// An array of another size or hash with the same entries and a new one; `None` if they don't
    /// all fit.
    pub(super) fn copy_with(&self, buckets: usize, seed: Seed, key: u64, to: u32) -> Option<Self> {
        let copy = Self::new(buckets, seed);
        let mut batches = (0..self.buckets.len()).step_by(COPY_BATCH);
        let complete =
            batches.all(|first| self.copy_batch(first, |key, to| copy.insert(key, to), &copy));
        (complete && copy.insert(key, to)).then_some(copy)
    }

    /// Copies the entries of the [`COPY_BATCH`] buckets from `first` on to another array, unless
    /// they are there already. False if they don't fit. Writer only.
    pub(super) fn copy_portion(&self, first: usize, copy: &Self) -> bool {
        self.copy_batch(first, |key, to| copy.put(key, to), copy)
    }

    fn copy_batch(&self, first: usize, put: impl Fn(u64, u32) -> bool, copy: &Self) -> bool {
        let mut batch = [(0, 0); COPY_BATCH * SLOTS];
        let mut count = 0;
        let buckets = self.buckets.iter().skip(first).take(COPY_BATCH);
        for (key, to) in buckets.flat_map(Bucket::entries) {
            batch[count] = (key, to);
            count += usize::from(key != 0);
        }
        for (key, _) in &batch[..count] {
            prefetch(copy.buckets_of(*key).0);
        }
        batch[..count].iter().all(|(key, to)| put(*key, *to))
    }

    /// Inserts a key, or changes its destination. False when no slot can be freed. Writer only.
    pub(super) fn put(&self, key: u64, to: u32) -> bool {
        self.update(key, to).is_some() || self.insert(key, to)
    }

    /// Frees a slot in one of the two buckets of `key`, both full, by moving entries to their other
    /// buckets.
    fn free_slot_for(&self, key: u64, moved: &mut impl FnMut(u64, u32)) -> bool {
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
                    self.shift_chain(steps, step, moved);
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
    fn shift_chain(&self, steps: &[Step], last: Step, moved: &mut impl FnMut(u64, u32)) {
        let mut step = &last;
        while let Some(from) = steps.get(step.from) {
            let (key, to) = self.buckets[from.bucket].entry(step.slot);
            moved(key, to);
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

    /// Entries from which on the next array is created, and then filled: 25/32 of the slots.
    /// [`super::next_array::CREATE_BATCH`] of its buckets are created with each entry that is added, so that all exist
    /// with 83%. It is complete with 91% at the latest, as [`COPY_BATCH`] buckets are copied with
    /// every third entry.
    pub(super) fn fill_from(&self) -> usize {
        self.slots() * 25 / 32
    }

    /// The most entries while a larger array is being filled: 15/16 of the slots.
    pub(super) fn filling_capacity(&self) -> usize {
        self.slots() * 15 / 16
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
