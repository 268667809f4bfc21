//! Which of several paths a MAC is behind (RFC 7432 sections 7.7 and 15).

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::rib::{DecisionStep, Mobility, PathInfo, compare_sequence, next_sequence};

/// What decides between the paths of different routes for one MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::evpn) struct MacCandidate {
    /// Its VTEP, or one of its segment, is reachable (RFC 4271 section 9.1.2.1).
    pub(super) reachable: bool,
    /// Stale beyond the restart time: the last choice (RFC 9494).
    pub(super) long_lived: bool,
    /// Its session ended, or its peer has not sent it again yet (RFC 4724).
    pub(super) stale: bool,
    /// Sticky flag and sequence.
    pub(in crate::evpn) mobility: Mobility,
    /// The VTEP.
    pub(super) vtep: IpAddr,
}

impl MacCandidate {
    pub(in crate::evpn) const fn new(info: &PathInfo, long_lived: bool, stale: bool) -> Self {
        Self {
            reachable: true,
            long_lived: long_lived || info.long_lived,
            stale,
            mobility: info.mobility,
            vtep: info.next_hop,
        }
    }

    /// `Greater` if this candidate is better, with the step that decides: reachable, not
    /// long-lived stale, sticky, then the later sequence, then not stale, then the lower VTEP
    /// address. Only candidates of one VTEP are equal.
    ///
    /// What a peer said before its session ended counts (RFC 4724), but not against what a live
    /// one says at the same sequence: only the address would decide.
    pub(in crate::evpn) fn decide(&self, other: &Self) -> Option<(Ordering, DecisionStep)> {
        let step = |ordering: Ordering, step| ordering.is_ne().then_some((ordering, step));
        let (a, b) = (self.mobility, other.mobility);
        step(
            self.reachable.cmp(&other.reachable),
            DecisionStep::Unreachable,
        )
        .or_else(|| {
            step(
                other.long_lived.cmp(&self.long_lived),
                DecisionStep::LongLivedStale,
            )
        })
        .or_else(|| step(a.sticky.cmp(&b.sticky), DecisionStep::StickyMac))
        .or_else(|| {
            let by_sequence = compare_sequence(a.sequence, b.sequence);
            step(by_sequence, DecisionStep::MobilitySequence)
        })
        .or_else(|| step(other.stale.cmp(&self.stale), DecisionStep::Stale))
        .or_else(|| step(other.vtep.cmp(&self.vtep), DecisionStep::VtepAddress))
    }

    /// `Greater` if this candidate is better: the ordering of [`Self::decide`].
    pub(in crate::evpn) fn compare(&self, other: &Self) -> Ordering {
        self.decide(other)
            .map_or(Ordering::Equal, |(ordering, _)| ordering)
    }
}

/// Where a claim of another VTEP stands against a local MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is better.
    Better,
    /// The sequence of the local MAC has wrapped, so it is later here; VTEPs that compare sequences
    /// as plain numbers take the claim.
    HigherNumber,
}

impl Claim {
    /// `None`: it is not better for anyone.
    pub(super) fn of(theirs: &MacCandidate, ours: &MacCandidate) -> Option<Self> {
        let (a, b) = (theirs.mobility, ours.mobility);
        if theirs.compare(ours).is_gt() {
            Some(Self::Better)
        } else {
            (a.sticky == b.sticky && a.sequence > b.sequence && theirs.reachable)
                .then_some(Self::HigherNumber)
        }
    }
}

/// The sequence for a MAC that becomes local, from the one that it had here (`own`), the sequences
/// of its routes and whether each is a route of this VTEP: above all others. Sequences from before
/// a restart are exceeded too, because some peers ignore a lower sequence than they have seen.
pub(super) fn sequence_above(own: Option<u32>, seen: impl Iterator<Item = (u32, bool)>) -> u32 {
    let own = own.unwrap_or(0);
    let needed = seen
        .filter(|(sequence, ours)| !ours || compare_sequence(*sequence, own).is_gt())
        .map(|(sequence, _)| next_sequence(sequence));
    needed
        .chain([own])
        .max_by(|a, b| compare_sequence(*a, *b))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn candidate(sticky: bool, sequence: u32, last: u8) -> MacCandidate {
        let vtep = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        MacCandidate {
            reachable: true,
            long_lived: false,
            stale: false,
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
        let stale = MacCandidate {
            stale: true,
            ..candidate(false, 5, 1)
        };
        assert!(candidate(false, 5, 9).compare(&stale).is_gt());
        assert!(candidate(false, 4, 9).compare(&stale).is_lt());
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
        assert_eq!(sequence_above(None, [].into_iter()), 0);
        assert_eq!(sequence_above(None, [(0, false)].into_iter()), 1);
        assert_eq!(
            sequence_above(None, [(3, false), (7, true), (5, false)].into_iter()),
            8
        );
        assert_eq!(
            sequence_above(None, [(0, true)].into_iter()),
            0,
            "our own first route, sent back"
        );
        assert_eq!(
            sequence_above(Some(5), [(5, true), (3, false)].into_iter()),
            5,
            "our own current route, sent back"
        );
        assert_eq!(sequence_above(Some(5), [(5, false)].into_iter()), 6);
    }
}
