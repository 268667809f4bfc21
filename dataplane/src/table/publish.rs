//! Snapshots: one writer publishes, and readers switch to the newest when they refresh. Neither
//! waits.
//!
//! A reader holds its snapshot by a counted reference. The writer keeps every snapshot that it has
//! replaced until it is the last holder, so that memory is always freed by the writer, never on the
//! packet path.
//!
//! ```text
//! writer   store new ---------------- free old (last holder)
//! reader          ^ refresh: load new, release old (never the last reference)
//! ```

use std::sync::Arc;

use arc_swap::ArcSwap;

/// The write side.
#[derive(Debug)]
pub struct Publisher<T> {
    shared: Arc<ArcSwap<T>>,
    current: Arc<T>,
    retired: Vec<Arc<T>>,
}

/// A read side; each worker has its own.
#[derive(Debug)]
pub struct Reader<T> {
    shared: Arc<ArcSwap<T>>,
    held: Arc<T>,
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            held: self.held.clone(),
        }
    }
}

impl<T> Publisher<T> {
    /// Publishes the first snapshot.
    #[must_use]
    pub fn new(first: T) -> Self {
        let current = Arc::new(first);
        Self {
            shared: Arc::new(ArcSwap::new(current.clone())),
            current,
            retired: Vec::new(),
        }
    }

    /// The newest snapshot.
    #[must_use]
    pub fn current(&self) -> &Arc<T> {
        &self.current
    }

    /// Replaces the snapshot and frees the older ones that no reader holds.
    pub fn publish(&mut self, next: T) {
        let next = Arc::new(next);
        self.shared.store(next.clone());
        self.retired
            .push(std::mem::replace(&mut self.current, next));
        self.reclaim();
    }

    /// Frees replaced snapshots that no reader holds; returns how many are still held.
    ///
    /// A count of one stays one: replaced snapshots are not shared any more, so only their holders
    /// could clone a reference.
    pub fn reclaim(&mut self) -> usize {
        self.retired.retain(|old| Arc::strong_count(old) > 1);
        self.retired.len()
    }

    /// Replaced snapshots that a reader still held at the last [`Publisher::reclaim`].
    #[must_use]
    pub fn retired(&self) -> usize {
        self.retired.len()
    }

    /// A new read side.
    #[must_use]
    pub fn reader(&self) -> Reader<T> {
        Reader {
            shared: self.shared.clone(),
            held: self.current.clone(),
        }
    }
}

impl<T> Reader<T> {
    /// Switches to the newest snapshot. Returns whether it is a newer one.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        let newest = self.shared.load();
        if Arc::ptr_eq(&newest, &self.held) {
            return false;
        }
        self.held = Arc::clone(&newest);
        true
    }

    /// The snapshot of the last refresh.
    #[inline]
    #[must_use]
    pub fn get(&self) -> &T {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn old_snapshots_are_freed_by_the_writer_alone() {
        static DROPPED_BY_READER: AtomicBool = AtomicBool::new(false);
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        struct Tracked(u64, thread::ThreadId);
        impl Drop for Tracked {
            fn drop(&mut self) {
                DROPPED.fetch_add(1, Ordering::Relaxed);
                if thread::current().id() != self.1 {
                    DROPPED_BY_READER.store(true, Ordering::Relaxed);
                }
            }
        }
        let writer = thread::current().id();
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        let mut publisher = Publisher::new(Tracked(0, writer));
        thread::scope(|scope| {
            for _ in 0..2 {
                let mut reader = publisher.reader();
                scope.spawn(move || {
                    let mut seen = 0;
                    while seen < rounds {
                        reader.refresh();
                        assert!(
                            reader.get().0 >= seen,
                            "an older snapshot after a newer one"
                        );
                        seen = reader.get().0;
                    }
                });
            }
            for round in 1..=rounds {
                publisher.publish(Tracked(round, writer));
            }
        });
        assert_eq!(publisher.reclaim(), 0);
        assert_eq!(DROPPED.load(Ordering::Relaxed) as u64, rounds);
        assert!(!DROPPED_BY_READER.load(Ordering::Relaxed));
    }
}
