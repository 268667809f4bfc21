//! Deadlines of entries that age or expire: each costs the logarithm of their number to set, and
//! what is due is taken in bounded portions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The deadline of each entry.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    by_key: BTreeMap<K, Instant>,
    queue: BTreeSet<(Instant, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
            queue: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord> Deadlines<K> {
    /// Sets the deadline of an entry, or changes it.
    pub(super) fn set(&mut self, key: K, at: Instant) {
        if let Some(before) = self.by_key.insert(key, at) {
            self.queue.remove(&(before, key));
        }
        self.queue.insert((at, key));
    }

    /// The entry has no deadline any more.
    pub(super) fn remove(&mut self, key: K) {
        if let Some(at) = self.by_key.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes at most `limit` entries that are due, the earliest first. They have no deadline any
    /// more.
    pub(super) fn take_due(&mut self, now: Instant, limit: usize) -> Vec<K> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some((at, key)) = self.queue.first().copied()
            && at <= now
        {
            self.remove(key);
            due.push(key);
        }
        due
    }

    /// Removes the entries from `first` on for which `selects` is true, up to the first for which it
    /// is not.
    pub(super) fn remove_from(&mut self, first: K, selects: impl Fn(&K) -> bool) {
        while let Some((key, _)) = self.by_key.range(first..).next()
            && selects(key)
        {
            self.remove(*key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_due_is_taken_in_order_and_in_portions() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut deadlines = Deadlines::default();
        for key in 0..10_u64 {
            deadlines.set(key, at(key));
        }
        deadlines.set(0, at(20));
        deadlines.remove(1);
        assert_eq!(deadlines.next(), Some(at(2)));
        assert_eq!(deadlines.take_due(at(5), 3), [2, 3, 4]);
        assert_eq!(deadlines.take_due(at(5), 3), [5]);
        deadlines.remove_from(7, |key| *key > 6);
        assert_eq!(deadlines.take_due(at(30), 9), [6, 0]);
        assert_eq!(deadlines.next(), None);
    }
}
