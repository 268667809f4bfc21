//! Allocation of row IDs in the workers' tables. A freed ID is quarantined before it is reused.

use std::collections::BTreeSet;

/// Allocates the lowest free ID. MAC entries are written in place, small tables are published as
/// snapshots: a worker that still has an old snapshot may read a MAC entry written after it. A
/// freed ID is therefore quarantined until every worker has a snapshot in which its former row is
/// gone.
#[derive(Debug, Default)]
pub(super) struct IdPool {
    /// One more than the greatest ID that was ever used.
    end: usize,
    /// IDs below `end` that may be allocated.
    free: BTreeSet<usize>,
    /// Freed, but still in the latest published snapshot.
    freed: Vec<usize>,
    /// Gone from the latest snapshot, but perhaps not from those that workers hold.
    quarantined: Vec<usize>,
}

impl IdPool {
    pub(super) fn alloc(&mut self, limit: usize) -> Option<usize> {
        if let Some(id) = self.free.pop_first() {
            return Some(id);
        }
        (self.end < limit).then(|| {
            self.end += 1;
            self.end - 1
        })
    }

    pub(super) fn free(&mut self, index: usize) {
        self.freed.push(index);
    }

    /// A snapshot without the freed IDs was published.
    pub(super) fn mark_published(&mut self) {
        self.quarantined.append(&mut self.freed);
    }

    /// Every worker has the latest snapshot: quarantined IDs may be allocated again.
    pub(super) fn end_quarantine(&mut self) {
        self.free.extend(self.quarantined.drain(..));
    }
}
