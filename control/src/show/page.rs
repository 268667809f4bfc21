//! One page of an unordered table: the smallest keys after a cursor, found in one pass.

use std::collections::BinaryHeap;

/// A row, ordered by its key alone.
#[derive(Debug)]
struct Entry<K, T>(K, T);

impl<K: Ord, T> PartialEq for Entry<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K: Ord, T> Eq for Entry<K, T> {}
impl<K: Ord, T> PartialOrd for Entry<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K: Ord, T> Ord for Entry<K, T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// Collects the rows with the `limit` smallest keys, and records whether there were more.
#[derive(Debug)]
pub(super) struct Page<K, T> {
    limit: usize,
    /// At most `limit` + 1, the greatest on top.
    smallest: BinaryHeap<Entry<K, T>>,
}

impl<K: Ord, T> Page<K, T> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            smallest: BinaryHeap::with_capacity(limit + 2),
        }
    }

    /// Offers a row; `value` is called only if the row may belong to the page.
    pub(super) fn offer(&mut self, key: K, value: impl FnOnce() -> T) {
        if self.smallest.len() <= self.limit
            || self.smallest.peek().is_some_and(|last| key < last.0)
        {
            self.smallest.push(Entry(key, value()));
            if self.smallest.len() > self.limit + 1 {
                self.smallest.pop();
            }
        }
    }

    /// The rows in order, and whether more follow.
    pub(super) fn finish(self) -> (Vec<(K, T)>, bool) {
        let mut rows = self.smallest.into_sorted_vec();
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        (
            rows.into_iter()
                .map(|Entry(key, value)| (key, value))
                .collect(),
            more,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_the_table_in_order() {
        let table: Vec<u32> = (0..1000).map(|n| n * 7919 % 1000).collect();
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let mut page = Page::new(64);
            for key in table
                .iter()
                .filter(|key| after.is_none_or(|after| **key > after))
            {
                page.offer(*key, || *key * 2);
            }
            let (rows, more) = page.finish();
            after = rows.last().map(|row| row.0);
            all.extend(rows);
            if !more {
                break;
            }
        }
        assert_eq!(all, (0..1000).map(|n| (n, n * 2)).collect::<Vec<_>>());
    }
}
