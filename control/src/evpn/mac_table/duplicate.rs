//! Duplicate MAC detection (RFC 7432 section 15.1): a MAC that moves too often is frozen where it
//! is.
//!
//! A VTEP counts the moves that it takes part in: a count begins when a MAC that was behind another
//! VTEP becomes local, as the timer of RFC 7432 section 15.1 and FRR's do. Moves between two other
//! VTEPs are theirs to count: several next hops for one MAC are normal (multihoming, anycast
//! gateways, a table that arrives in any order), and only the VTEPs themselves can tell.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni};

use crate::evpn::config::DuplicateConfig;

/// The direction of a move, as seen from this VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From another VTEP to this one: it begins a count.
    Here,
    /// From this VTEP to another one: it counts only after a move to this one.
    Away,
}

/// The history of one MAC that moved.
#[derive(Debug, Default)]
struct History {
    /// The last moves, oldest first.
    moves: VecDeque<Instant>,
    frozen: bool,
}

/// The MACs that moved within the window.
#[derive(Debug)]
pub(super) struct DuplicateDetector {
    config: DuplicateConfig,
    histories: BTreeMap<(Vni, HostMac), History>,
}

impl DuplicateDetector {
    pub(super) fn new(config: DuplicateConfig) -> Self {
        Self {
            config,
            histories: BTreeMap::new(),
        }
    }

    /// Sets when MACs are frozen, and how long those that are frozen from now on stay so.
    pub(super) const fn set_config(&mut self, config: DuplicateConfig) {
        self.config = config;
    }

    /// Counts a move. True if it is one too many: the MAC is frozen from now on.
    /// [`DuplicateDetector::expire`] must be called at the time returned.
    pub(super) fn record_move(
        &mut self,
        now: Instant,
        at: (Vni, HostMac),
        direction: Direction,
    ) -> (bool, Option<Instant>) {
        let DuplicateConfig {
            moves,
            window,
            recovery,
        } = self.config;
        if moves == 0 {
            return (false, None);
        }
        if direction == Direction::Away && !self.histories.contains_key(&at) {
            return (false, None);
        }
        let history = self.histories.entry(at).or_default();
        if history.frozen {
            return (false, None);
        }
        history
            .moves
            .retain(|moved| now.duration_since(*moved) < window);
        if direction == Direction::Away && history.moves.is_empty() {
            return (false, None);
        }
        history.moves.push_back(now);
        history.frozen = history.moves.len() >= usize::from(moves);
        if history.frozen {
            (true, recovery.map(|time| now + time))
        } else {
            (false, Some(now + window))
        }
    }

    /// True if it is frozen.
    pub(super) fn is_frozen(&self, at: (Vni, HostMac)) -> bool {
        self.histories
            .get(&at)
            .is_some_and(|history| history.frozen)
    }

    /// Must be called at the time that [`DuplicateDetector::record_move`] returned. True if the MAC
    /// was frozen and no longer is.
    pub(super) fn expire(&mut self, now: Instant, at: (Vni, HostMac)) -> bool {
        let Some(history) = self.histories.get(&at) else {
            return false;
        };
        let last = history.moves.back().copied();
        let wait = match (history.frozen, self.config.recovery) {
            (true, None) => return false,
            (true, Some(recovery)) => recovery,
            (false, _) => self.config.window,
        };
        last.is_none_or(|last| now.duration_since(last) >= wait) && self.forget(at)
    }

    /// Removes the history of a MAC. True if it was frozen.
    pub(super) fn forget(&mut self, at: (Vni, HostMac)) -> bool {
        self.histories
            .remove(&at)
            .is_some_and(|history| history.frozen)
    }

    /// The frozen MACs.
    pub(super) fn frozen(&self) -> impl Iterator<Item = (Vni, HostMac)> + '_ {
        self.histories
            .iter()
            .filter(|(_, history)| history.frozen)
            .map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Direction::{Away, Here};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn host() -> (Vni, HostMac) {
        (
            Vni::new(100).expect("valid VNI"),
            "02:00:00:00:00:01".parse().expect("valid MAC"),
        )
    }

    #[test]
    fn the_fifth_move_in_180_seconds_freezes_until_recovery() {
        let start = Instant::now();
        let mut duplicates = DuplicateDetector::new(DuplicateConfig::default());
        for second in 0..4 {
            let direction = if second % 2 == 0 { Here } else { Away };
            let (frozen, _) = duplicates.record_move(start + second * SECOND, host(), direction);
            assert!(!frozen);
        }
        let (frozen, look) = duplicates.record_move(start + 179 * SECOND, host(), Here);
        assert_eq!((frozen, look), (true, Some(start + 359 * SECOND)));
        assert!(!duplicates.expire(start + 358 * SECOND, host()));
        assert!(duplicates.is_frozen(host()));
        assert!(duplicates.expire(start + 359 * SECOND, host()));
        assert!(!duplicates.is_frozen(host()));
    }

    #[test]
    fn slow_moves_never_freeze_and_are_forgotten() {
        let start = Instant::now();
        let mut duplicates = DuplicateDetector::new(DuplicateConfig::default());
        for round in 0..20 {
            assert!(
                !duplicates
                    .record_move(start + round * 50 * SECOND, host(), Here)
                    .0,
                "round {round}"
            );
        }
        assert!(!duplicates.expire(start + (19 * 50 + 180) * SECOND, host()));
        assert!(duplicates.histories.is_empty());
    }

    #[test]
    fn zero_moves_disable_the_detection() {
        let now = Instant::now();
        let mut duplicates = DuplicateDetector::new(DuplicateConfig {
            moves: 0,
            ..DuplicateConfig::default()
        });
        assert!((0..100).all(|_| duplicates.record_move(now, host(), Here) == (false, None)));
    }

    #[test]
    fn a_count_begins_with_a_move_to_this_vtep() {
        let start = Instant::now();
        let mut duplicates = DuplicateDetector::new(DuplicateConfig::default());
        for _ in 0..20 {
            assert_eq!(
                duplicates.record_move(start, host(), Away),
                (false, None),
                "nothing counts before it"
            );
        }
        duplicates.record_move(start, host(), Here);
        for last in [false, false, false, true] {
            let (frozen, _) = duplicates.record_move(start + SECOND, host(), Away);
            assert_eq!(frozen, last);
        }
        let mut duplicates = DuplicateDetector::new(DuplicateConfig::default());
        duplicates.record_move(start, host(), Here);
        for _ in 0..20 {
            let (frozen, _) = duplicates.record_move(start + 180 * SECOND, host(), Away);
            assert!(!frozen, "the count has ended");
        }
    }
}
