//! Slabs and interners: values at numbered places, and values stored once. With these two the RIB
//! avoids allocations. Neither moves its values when it grows.

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;
use vtep_dataplane::mem::prefetch;

use super::index::Index;
use super::segmented::SegmentedVec;

/// The place that means "none".
pub const NONE: u32 = u32::MAX;

/// Values at places that are reused.
#[derive(Debug)]
pub struct Slab<T> {
    items: SegmentedVec<T>,
    free: SegmentedVec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            items: SegmentedVec::default(),
            free: SegmentedVec::default(),
        }
    }
}

impl<T> Slab<T> {
    /// Stores a value and returns its place.
    pub fn add(&mut self, item: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self.items[place as usize] = item;
            return place;
        }
        self.items.push(item);
        // A place takes far more than one octet: memory ends long before 2^32 places.
        (self.items.len() - 1) as u32
    }

    /// Frees a place. Its value stays readable until the place is reused.
    pub fn remove(&mut self, place: u32) {
        self.free.push(place);
        if self.free.len() == self.items.len() {
            *self = Self::default();
        }
    }

    /// The value at a place in use.
    #[inline]
    pub fn get(&self, place: u32) -> &T {
        &self.items[place as usize]
    }

    /// The value at a place that may be free or no longer exist.
    #[inline]
    pub fn try_get(&self, place: u32) -> Option<&T> {
        self.items.get(place as usize)
    }

    /// The value at a place in use.
    #[inline]
    pub fn get_mut(&mut self, place: u32) -> &mut T {
        &mut self.items[place as usize]
    }

    /// Prefetches the value at a place.
    #[inline]
    pub fn fetch(&self, place: u32) {
        prefetch(self.get(place));
    }

    /// The number of places, used or free.
    pub const fn len(&self) -> usize {
        self.items.len()
    }
}

/// Values stored once, with reference counts; each has a number.
#[derive(Debug)]
pub struct Interner<T> {
    slots: Slab<(Option<T>, u32)>,
    index: Index,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            slots: Slab::default(),
            index: Index::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<T> Interner<T> {
    /// The hash of the identifying part of a value.
    pub fn hash(&self, key: &impl Hash) -> u32 {
        Index::short(self.hasher.hash_one(key))
    }

    /// The number of a value; takes no reference.
    pub fn find_by(&self, hash: u32, same: impl Fn(&T) -> bool) -> Option<u32> {
        self.index
            .find(hash, |id| self.slots.get(id).0.as_ref().is_some_and(&same))
    }

    /// Stores a new value with one reference. `hash` is that of its identifying part.
    pub fn add(&mut self, hash: u32, value: T) -> u32 {
        let id = self.slots.add((Some(value), 1));
        self.index.insert(hash, id);
        id
    }

    /// Adds a reference.
    #[inline]
    pub fn retain(&mut self, id: u32) {
        self.slots.get_mut(id).1 += 1;
    }

    /// Drops a reference; the last one frees the value. True if it did. `key` hashes the identifying
    /// part of the value.
    #[inline]
    pub fn release(&mut self, id: u32, key: impl Fn(&T, &DefaultHashBuilder) -> u64) -> bool {
        let slot = self.slots.get_mut(id);
        slot.1 -= 1;
        if slot.1 == 0 {
            self.free(id, key);
            return true;
        }
        false
    }

    fn free(&mut self, id: u32, key: impl Fn(&T, &DefaultHashBuilder) -> u64) {
        let Some(value) = self.slots.get_mut(id).0.take() else {
            return;
        };
        let hash = Index::short(key(&value, &self.hasher));
        self.index.remove(hash, id);
        self.slots.remove(id);
    }

    /// The value of a number with a reference.
    ///
    /// # Panics
    /// If the number has no reference: one was dropped twice.
    #[inline]
    pub fn get(&self, id: u32) -> &T {
        self.slots
            .get(id)
            .0
            .as_ref()
            .expect("a number with a reference")
    }

    /// Changes all values, but not their identifying parts.
    pub fn for_each_mut(&mut self, change: impl FnMut(&mut T)) {
        self.slots
            .items
            .iter_mut()
            .filter_map(|slot| slot.0.as_mut())
            .for_each(change);
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.index.len()
    }
}

impl<T: Hash + Eq + Clone> Interner<T> {
    /// The number of a value; takes no reference.
    pub fn find(&self, value: &T) -> Option<u32> {
        self.find_by(self.hash(value), |found| found == value)
    }

    /// The number of a value, with one more reference.
    pub fn hold(&mut self, value: &T) -> u32 {
        if let Some(id) = self.find(value) {
            self.retain(id);
            return id;
        }
        self.add(self.hash(value), value.clone())
    }

    /// Drops a reference. True if it was the last one: the number may be reused for another value.
    pub fn drop_ref(&mut self, id: u32) -> bool {
        self.release(id, |v, hasher| hasher.hash_one(v))
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
    fn a_slab_reuses_places() {
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
