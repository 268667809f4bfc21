//! Which events of BGP sessions are logged: a neighbor that fails again and again, or whose session
//! comes and goes, does not fill the log.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A failure with the same reason is logged again after this time.
const REPEAT: Duration = Duration::from_secs(600);

/// Reasons remembered for a neighbor; a neighbor may choose some of the text.
const REASONS: usize = 8;

/// Lines about sessions that were established or ended, for a neighbor, at once.
const BURST: u32 = 10;

/// A further such line is allowed after this time.
const REFILL: Duration = Duration::from_secs(6);

/// What was logged about one neighbor.
#[derive(Debug)]
struct NeighborLines {
    failures: Vec<(String, Instant)>,
    tokens: u32,
    refilled: Instant,
    suppressed: u64,
}

/// What was logged about each neighbor. Bounded by the number of neighbors.
#[derive(Debug, Default)]
pub(super) struct SessionLog(BTreeMap<IpAddr, NeighborLines>);

impl SessionLog {
    fn lines(&mut self, neighbor: IpAddr, now: Instant) -> &mut NeighborLines {
        self.0.entry(neighbor).or_insert_with(|| NeighborLines {
            failures: Vec::new(),
            tokens: BURST,
            refilled: now,
            suppressed: 0,
        })
    }

    /// An attempt failed. `Some`: log it, with how many lines about this neighbor were suppressed
    /// since the last one.
    pub(super) fn failed(&mut self, neighbor: IpAddr, reason: &str, now: Instant) -> Option<u64> {
        let lines = self.lines(neighbor, now);
        lines
            .failures
            .retain(|(_, at)| now.saturating_duration_since(*at) < REPEAT);
        let known = lines.failures.iter().any(|(known, _)| known == reason);
        if known || lines.failures.len() >= REASONS {
            lines.suppressed += 1;
            return None;
        }
        lines.failures.push((reason.to_owned(), now));
        Some(std::mem::take(&mut lines.suppressed))
    }

    /// A session was established or ended; as [`Self::failed`].
    pub(super) fn changed(&mut self, neighbor: IpAddr, now: Instant) -> Option<u64> {
        let lines = self.lines(neighbor, now);
        let passed = now.saturating_duration_since(lines.refilled);
        let more = (passed.as_secs() / REFILL.as_secs()) as u32;
        if more > 0 {
            lines.tokens = lines.tokens.saturating_add(more).min(BURST);
            lines.refilled = now;
        }
        let Some(tokens) = lines.tokens.checked_sub(1) else {
            lines.suppressed += 1;
            return None;
        };
        lines.tokens = tokens;
        Some(std::mem::take(&mut lines.suppressed))
    }

    /// Forgets a neighbor that is no longer configured.
    pub(super) fn forget(&mut self, neighbor: IpAddr) {
        self.0.remove(&neighbor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEIGHBOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const SECOND: Duration = Duration::from_secs(1);

    /// Log lines are bounded, whatever a neighbor does (finding O1).
    #[test]
    fn a_reason_is_logged_once_in_ten_minutes() {
        let (mut log, start) = (SessionLog::default(), Instant::now());
        for second in 0..600 {
            let logged = log.failed(NEIGHBOR, "refused", start + second * SECOND);
            assert_eq!(logged, (second == 0).then_some(0), "{second}");
        }
        assert_eq!(
            log.failed(NEIGHBOR, "other", start + 600 * SECOND),
            Some(599)
        );
        assert_eq!(
            log.failed(NEIGHBOR, "refused", start + 600 * SECOND),
            Some(0)
        );
    }

    #[test]
    fn different_reasons_are_bounded() {
        let (mut log, start) = (SessionLog::default(), Instant::now());
        let lines = (0..1000).filter(|n| log.failed(NEIGHBOR, &n.to_string(), start).is_some());
        assert_eq!(lines.count(), REASONS);
    }

    #[test]
    fn a_session_that_comes_and_goes_is_bounded() {
        let (mut log, start) = (SessionLog::default(), Instant::now());
        let all =
            (0..600).filter(|second| log.changed(NEIGHBOR, start + *second * SECOND).is_some());
        assert!((100..=110).contains(&all.count()));
    }
}
