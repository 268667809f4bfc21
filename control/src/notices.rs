//! Limits how often an operator is told of what others can cause without end.

use std::time::{Duration, Instant};

/// Notices of one kind: so many at once, then so many in each [`WINDOW`].
const NOTICES: u32 = 10;

/// The time in which so many notices are allowed.
const WINDOW: Duration = Duration::from_secs(60);

/// The notices of one kind, such as log lines of one text.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Notices {
    count: u32,
    since: Option<Instant>,
    suppressed: u64,
}

impl Notices {
    /// `Some`: tell, with how many notices were suppressed since the last one.
    pub(crate) fn allow(&mut self, now: Instant) -> Option<u64> {
        let in_window = |start: Instant| now.saturating_duration_since(start) < WINDOW;
        if !self.since.is_some_and(in_window) {
            (self.count, self.since) = (0, Some(now));
        }
        if self.count >= NOTICES {
            self.suppressed += 1;
            return None;
        }
        self.count += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_minute_are_allowed_and_the_others_counted() {
        let (mut notices, start) = (Notices::default(), Instant::now());
        let mut allowed = |second| {
            let at = start + Duration::from_secs(second);
            let allowed = (0..100).filter_map(|_| notices.allow(at));
            allowed.collect::<Vec<_>>()
        };
        assert_eq!(allowed(0), [0; 10]);
        assert_eq!(allowed(59), [0_u64; 0]);
        let mut next = vec![0; 10];
        next[0] = 190;
        assert_eq!(allowed(60), next);
    }
}
