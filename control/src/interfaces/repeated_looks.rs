//! A finding that counts only if looks in a row have it, and what follows it: the interface is opened
//! again, not too often.

use std::time::{Duration, Instant};

use super::{ManagedInterface, RETRY};

/// Looks in a row that must have a finding: single frames pass a program by, or are lost, while a queue
/// is added or the program is attached.
pub(super) const LOOKS: u32 = 2;

/// Shortest time between two looks: link events may follow each other at once.
const LOOK: Duration = Duration::from_millis(500);

/// What the last look has found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastLook<T>(Option<(Instant, T)>);

impl<T: Copy> LastLook<T> {
    /// What the look before has found; `None` at the first look, and when that one was just now: then
    /// this is no look.
    pub(super) fn replace(&mut self, found: T, now: Instant) -> Option<T> {
        let before = self.0;
        if before.is_some_and(|(at, _)| now.saturating_duration_since(at) < LOOK) {
            return None;
        }
        self.0 = Some((now, found));
        before.map(|(_, before)| before)
    }
}

impl ManagedInterface {
    /// Whether it may be opened again now, since it was not shortly before; then that is noted.
    pub(super) fn may_open_again(&mut self, now: Instant) -> bool {
        let recently = self
            .attached_again
            .is_some_and(|last| now.saturating_duration_since(last) < RETRY);
        if !recently {
            self.attached_again = Some(now);
        }
        !recently
    }
}
