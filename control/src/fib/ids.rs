//! Identifiers of rows in the workers' tables: places that are used again, but not too early.

/// Hands out the lowest free index. MAC entries are written in place while small tables are published: a worker that
/// still has the old snapshot may meet an entry written after it. An index is therefore not used again before every
/// worker has a snapshot from which its former meaning is gone.
#[derive(Debug, Default)]
pub(super) struct IdPool {
    used: Vec<bool>,
    /// Given back, but still in the newest published snapshot.
    freed: Vec<usize>,
    /// ReleasedVtep from the newest snapshot, perhaps not from those that workers hold.
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

    /// A snapshot without the freed ones is published.
    pub(super) fn mark_published(&mut self) {
        self.quarantined.append(&mut self.freed);
    }

    /// Every worker has the newest snapshot.
    pub(super) fn end_quarantine(&mut self) {
        for index in self.quarantined.drain(..) {
            self.used[index] = false;
        }
    }
}
