//! A map whose keys belong to VNIs: the keys of one VNI are found without a walk over the others.

use std::collections::BTreeMap;

use vtep_dataplane::addr::Vni;

/// A map from (VNI, `K`) to `T`, in that order.
#[derive(Debug)]
pub(crate) struct VniMap<K, T> {
    vnis: BTreeMap<Vni, BTreeMap<K, T>>,
}

impl<K, T> Default for VniMap<K, T> {
    fn default() -> Self {
        Self {
            vnis: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy, T> VniMap<K, T> {
    pub(crate) fn get(&self, at: &(Vni, K)) -> Option<&T> {
        self.vnis.get(&at.0)?.get(&at.1)
    }

    pub(crate) fn get_mut(&mut self, at: &(Vni, K)) -> Option<&mut T> {
        self.vnis.get_mut(&at.0)?.get_mut(&at.1)
    }

    pub(crate) fn contains_key(&self, at: &(Vni, K)) -> bool {
        self.get(at).is_some()
    }

    /// Sets the value of a key; returns the previous one.
    pub(crate) fn insert(&mut self, (vni, key): (Vni, K), value: T) -> Option<T> {
        self.vnis.entry(vni).or_default().insert(key, value)
    }

    /// Removes a key; returns its value.
    pub(crate) fn remove(&mut self, at: &(Vni, K)) -> Option<T> {
        let keys = self.vnis.get_mut(&at.0)?;
        let old = keys.remove(&at.1)?;
        if keys.is_empty() {
            self.vnis.remove(&at.0);
        }
        Some(old)
    }

    /// True if there are no keys.
    pub(crate) fn is_empty(&self) -> bool {
        self.vnis.is_empty()
    }

    /// The VNIs that have keys, in order.
    pub(crate) fn vnis(&self) -> impl Iterator<Item = Vni> + '_ {
        self.vnis.keys().copied()
    }

    /// True if a VNI has keys.
    pub(crate) fn has(&self, vni: Vni) -> bool {
        self.vnis.contains_key(&vni)
    }

    /// The keys of a VNI with their values, in order.
    pub(crate) fn of(&self, vni: Vni) -> impl Iterator<Item = (&K, &T)> {
        self.vnis.get(&vni).into_iter().flatten()
    }

    /// The keys of a VNI, in order.
    pub(crate) fn keys_of(&self, vni: Vni) -> Vec<K> {
        self.of(vni).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_their_vni() {
        let vni = |number| Vni::new(number).unwrap();
        let mut map = VniMap::default();
        for (number, key) in [(2, 'b'), (1, 'z'), (2, 'a')] {
            assert_eq!(map.insert((vni(number), key), ()), None);
        }
        assert_eq!(map.insert((vni(2), 'a'), ()), Some(()));
        assert_eq!(map.keys_of(vni(2)), vec!['a', 'b']);
        assert!(map.vnis().eq([vni(1), vni(2)]));
        assert!(map.has(vni(1)) && !map.has(vni(3)) && !map.is_empty());
        assert_eq!(map.remove(&(vni(3), 'a')), None);
        assert_eq!(map.remove(&(vni(2), 'a')), Some(()));
        assert_eq!(map.get(&(vni(2), 'b')), Some(&()));
        assert_eq!(map.remove(&(vni(2), 'b')), Some(()));
        assert!(map.vnis.len() == 1 && !map.contains_key(&(vni(2), 'b')));
    }
}
