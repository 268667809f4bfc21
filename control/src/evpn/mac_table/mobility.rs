//! Which of several paths a MAC is behind (RFC 7432 sections 7.7 and 15).

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::rib::{DecisionStep, Mobility, PathInfo, compare_sequence, next_sequence};

/// What decides between the paths of different routes for one MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::evpn) struct MacCandidate {
    /// Stale beyond the restart time: the last choice (RFC 9494).
    pub(super) long_lived: bool,
    /// Sticky flag and sequence.
    pub(super) mobility: Mobility,
    /// The VTEP.
    pub(super) vtep: IpAddr,
}

impl MacCandidate {
    pub(in crate::evpn) const fn new(info: &PathInfo, long_lived: bool) -> Self {
        Self {
            long_lived: long_lived || info.long_lived,
            mobility: info.mobility,
            vtep: info.next_hop,
        }
    }

    /// `Greater` if this candidate is better, with the step that decides: sticky, then the later
    /// sequence, then the lower VTEP address. Only candidates of one VTEP are equal.
    pub(in crate::evpn) fn decide(&self, other: &Self) -> Option<(Ordering, DecisionStep)> {
        let step = |ordering: Ordering, step| ordering.is_ne().then_some((ordering, step));
        let (a, b) = (self.mobility, other.mobility);
        step(
            other.long_lived.cmp(&self.long_lived),
            DecisionStep::LongLivedStale,
        )
        .or_else(|| step(a.sticky.cmp(&b.sticky), DecisionStep::StickyMac))
        .or_else(|| {
            let by_sequence = compare_sequence(a.sequence, b.sequence);
            step(by_sequence, DecisionStep::MobilitySequence)
        })
        .or_else(|| step(other.vtep.cmp(&self.vtep), DecisionStep::VtepAddress))
    }

    /// `Greater` if this candidate is better: the ordering of [`Self::decide`].
    pub(in crate::evpn) fn compare(&self, other: &Self) -> Ordering {
        self.decide(other)
            .map_or(Ordering::Equal, |(ordering, _)| ordering)
    }
}

/// The sequence for a MAC that becomes local, from the sequences of its routes and whether each is
/// a route of this VTEP: above all others. Own sequences from before a restart are exceeded too,
/// because some peers ignore a lower sequence than they have seen.
pub(super) fn sequence_above(seen: impl Iterator<Item = (u32, bool)>) -> u32 {
    let needed = seen
        .filter(|(sequence, ours)| !ours || *sequence > 0)
        .map(|(sequence, _)| sequence);
    needed
        .max_by(|a, b| compare_sequence(*a, *b))
        .map_or(0, next_sequence)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn candidate(sticky: bool, sequence: u32, last: u8) -> MacCandidate {
        let vtep = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        MacCandidate {
            long_lived: false,
            mobility: Mobility { sticky, sequence },
            vtep,
        }
    }

    #[test]
    fn sticky_then_sequence_then_the_lower_address() {
        assert!(
            candidate(true, 0, 9)
                .compare(&candidate(false, 5, 1))
                .is_gt()
        );
        assert!(
            candidate(false, 6, 9)
                .compare(&candidate(false, 5, 1))
                .is_gt()
        );
        assert!(
            candidate(false, 5, 1)
                .compare(&candidate(false, 5, 9))
                .is_gt()
        );
        assert!(
            candidate(false, 5, 1)
                .compare(&candidate(false, 5, 1))
                .is_eq()
        );
        let old = MacCandidate {
            long_lived: true,
            ..candidate(true, 9, 1)
        };
        assert!(candidate(false, 0, 9).compare(&old).is_gt());
    }

    #[test]
    fn the_sequence_wraps() {
        assert!(
            candidate(false, 1, 9)
                .compare(&candidate(false, u32::MAX, 1))
                .is_gt()
        );
        assert!(
            candidate(false, 0, 1)
                .compare(&candidate(false, u32::MAX, 9))
                .is_lt(),
            "0 is not a valid sequence"
        );
        assert!(
            candidate(false, 1 << 31, 9)
                .compare(&candidate(false, 1, 1))
                .is_gt()
        );
        assert_eq!(next_sequence(u32::MAX), 1);
    }

    #[test]
    fn a_mac_that_becomes_local_gets_a_sequence_above_all_seen() {
        assert_eq!(sequence_above([].into_iter()), 0);
        assert_eq!(sequence_above([(0, false)].into_iter()), 1);
        assert_eq!(
            sequence_above([(3, false), (7, true), (5, false)].into_iter()),
            8
        );
        assert_eq!(
            sequence_above([(0, true)].into_iter()),
            0,
            "our own first route, sent back"
        );
    }
}
