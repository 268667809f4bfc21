//! Values at numbered places, and values stored once: the two ways in which the RIB avoids allocation.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};
use vtep_dataplane::table::mac::memory::{prefetch, reserve};

/// The place of nothing.
pub const NONE: u32 = u32::MAX;

/// Values at numbered places in parts, each twice as large as the one before: no value is ever moved to make room, and no
/// memory that was left behind stays with the allocator.
#[derive(Debug)]
pub struct Parts<T> {
    parts: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }
}

/// Values in the first part, as a power of two.
const FIRST: u32 = 10;

impl<T> Parts<T> {
    /// The part of a place, and the place in it.
    #[inline]
    const fn split(place: usize) -> (usize, usize) {
        let shifted = place + (1 << FIRST);
        let part = shifted.ilog2();
        ((part - FIRST) as usize, shifted - (1 << part))
    }

    /// Stores a value at the next place.
    #[inline]
    pub fn push(&mut self, value: T) {
        let (part, _) = Self::split(self.len);
        if part == self.parts.len() {
            self.parts.push(reserve(1 << FIRST << part));
        }
        self.parts[part].push(value);
        self.len += 1;
    }

    /// The value at a place.
    #[inline]
    pub fn get(&self, place: usize) -> &T {
        let (part, at) = Self::split(place);
        &self.parts[part][at]
    }

    /// The value at a place.
    #[inline]
    pub fn get_mut(&mut self, place: usize) -> &mut T {
        let (part, at) = Self::split(place);
        &mut self.parts[part][at]
    }

    /// Forgets all values, and gives back all memory but that of the first part.
    pub fn clear(&mut self) {
        self.parts.truncate(1);
        self.parts.iter_mut().for_each(Vec::clear);
        self.len = 0;
    }

    /// How many values there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }
}

/// Values at places that are used again.
#[derive(Debug)]
pub struct Slab<T> {
    items: Parts<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { items: Parts::default(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Stores a value; its place.
    pub fn add(&mut self, item: T) -> u32 {
        if let Some(place) = self.free.pop() {
            *self.items.get_mut(place as usize) = item;
            return place;
        }
        self.items.push(item);
        // A place costs far more than a byte: memory ends long before 2^32 of them.
        (self.items.len() - 1) as u32
    }

    /// Frees a place. What stands there stays readable until the place is used again.
    pub fn remove(&mut self, place: u32) {
        self.free.push(place);
        if self.free.len() == self.items.len() {
            self.free.clear();
            self.items.clear();
        }
    }

    /// The value at a place in use.
    #[inline]
    pub fn get(&self, place: u32) -> &T {
        self.items.get(place as usize)
    }

    /// The value at a place in use.
    #[inline]
    pub fn get_mut(&mut self, place: u32) -> &mut T {
        self.items.get_mut(place as usize)
    }

    /// Starts to load the value at a place.
    #[inline]
    pub fn fetch(&self, place: u32) {
        prefetch(self.get(place));
    }

    /// Places, in use or free.
    pub const fn len(&self) -> usize {
        self.items.len()
    }
}

/// Values stored once, with reference counts; each is a number for the others.
#[derive(Debug)]
pub struct Interner<T> {
    slots: Slab<(Option<T>, u32)>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { slots: Slab::default(), index: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }
}

impl<T> Interner<T> {
    /// The hash of what identifies a value.
    pub fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The number of a value, without a reference to it.
    pub fn find_by(&self, hash: u64, same: impl Fn(&T) -> bool) -> Option<u32> {
        self.index.find(hash, |id| self.slots.get(*id).0.as_ref().is_some_and(&same)).copied()
    }

    /// Stores a value that is not there, with one reference. `key` hashes what identifies a value.
    pub fn add(&mut self, hash: u64, value: T, key: impl Fn(&T, &DefaultHashBuilder) -> u64) -> u32 {
        let id = self.slots.add((Some(value), 1));
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, id, |id| slots.get(*id).0.as_ref().map_or(0, |v| key(v, hasher)));
        id
    }

    /// One more reference.
    #[inline]
    pub fn retain(&mut self, id: u32) {
        self.slots.get_mut(id).1 += 1;
    }

    /// One reference less; the last one frees the value.
    pub fn release(&mut self, id: u32, key: impl Fn(&T, &DefaultHashBuilder) -> u64) {
        let slot = self.slots.get_mut(id);
        slot.1 -= 1;
        if slot.1 > 0 {
            return;
        }
        let Some(value) = slot.0.take() else { return };
        let hash = key(&value, &self.hasher);
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == id) {
            entry.remove();
        }
        self.slots.remove(id);
    }

    /// The value of a number that has a reference.
    ///
    /// # Panics
    /// If the number has none: a reference was given back twice.
    #[inline]
    pub fn get(&self, id: u32) -> &T {
        self.slots.get(id).0.as_ref().expect("a number with a reference")
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }
}

impl<T: Hash + Eq + Clone> Interner<T> {
    /// The number of a value, without a reference to it.
    pub fn find(&self, value: &T) -> Option<u32> {
        self.find_by(self.hash(value), |found| found == value)
    }

    /// The number of a value, with one more reference.
    pub fn hold(&mut self, value: &T) -> u32 {
        if let Some(id) = self.find(value) {
            self.retain(id);
            return id;
        }
        let hash = self.hash(value);
        self.add(hash, value.clone(), |v, hasher| hasher.hash_one(v))
    }

    /// One reference less.
    pub fn drop_ref(&mut self, id: u32) {
        self.release(id, |v, hasher| hasher.hash_one(v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_stored_once_and_freed_with_the_last_reference() {
        let mut names = Interner::default();
        let a = names.hold(&"a".to_owned());
        let b = names.hold(&"b".to_owned());
        assert_ne!(a, b);
        assert_eq!(names.hold(&"a".to_owned()), a);
        names.drop_ref(a);
        assert_eq!((names.find(&"a".to_owned()), names.len()), (Some(a), 2));
        names.drop_ref(a);
        assert_eq!((names.find(&"a".to_owned()), names.len()), (None, 1));
        assert_eq!(names.hold(&"c".to_owned()), a, "the place is used again");
        assert_eq!(names.get(b), "b");
    }

    #[test]
    fn parts_hold_values_in_their_places() {
        let mut parts = Parts::default();
        for round in 0..2 {
            (0..100_000_u32).for_each(|value| parts.push(value + round));
            *parts.get_mut(1024) = 7;
            let right = |place: &usize| *parts.get(*place) == *place as u32 + round;
            let wrong: Vec<_> = (0..parts.len()).filter(|place| !right(place)).collect();
            assert_eq!((parts.len(), wrong), (100_000, vec![1024]));
            parts.clear();
            assert_eq!(parts.len(), 0);
        }
    }

    #[test]
    fn a_slab_gives_places_out_again() {
        let mut slab = Slab::default();
        let places: Vec<_> = (0..3).map(|i| slab.add(i)).collect();
        slab.remove(places[1]);
        assert_eq!(slab.add(9), places[1]);
        for place in places {
            slab.remove(place);
        }
        assert_eq!(slab.len(), 0);
    }
}
