//! Allocation of row IDs in the workers' tables. A freed ID is quarantined before it is reused.

/// Allocates the lowest free ID. MAC entries are written in place, small tables are published as
/// snapshots: a worker that still has an old snapshot may read a MAC entry written after it. A
/// freed ID is therefore quarantined until every worker has a snapshot in which its former row is
/// gone.
#[derive(Debug, Default)]
pub(super) struct IdPool {
    used: Vec<bool>,
    /// Freed, but still in the latest published snapshot.
    freed: Vec<usize>,
    /// Gone from the latest snapshot, but perhaps not from those that workers hold.
    quarantined: Vec<usize>,
}

impl IdPool {
    pub(super) fn alloc(&mut self, limit: usize) -> Option<usize> {
        let free = self
            .used
            .iter()
            .position(|used| !used)
            .unwrap_or(self.used.len());
        if free >= limit {
            return None;
        }
        if free == self.used.len() {
            self.used.push(true);
        } else {
            self.used[free] = true;
        }
        Some(free)
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
        for index in self.quarantined.drain(..) {
            self.used[index] = false;
        }
    }
}
