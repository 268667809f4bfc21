//! Where a MAC is when several claim it (RFC 7432 sections 7.7 and 15).

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::rib::{Mobility, PathInfo, next_sequence};

/// One claim to a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MacCandidate {
    /// Kept in long-lived restart: the last choice.
    pub(super) long_lived: bool,
    /// Sticky flag and sequence.
    pub(super) mobility: Mobility,
    /// The VTEP.
    pub(super) vtep: IpAddr,
}

impl MacCandidate {
    pub(super) const fn new(info: &PathInfo, long_lived: bool) -> Self {
        Self {
            long_lived: long_lived || info.long_lived,
            mobility: info.mobility,
            vtep: info.next_hop,
        }
    }

    /// `Greater` if this claim wins: sticky, then the later sequence, then the lower VTEP address.
    /// Equal are only claims of one VTEP.
    pub(super) fn rank(&self, other: &Self) -> Ordering {
        let fresh = other.long_lived.cmp(&self.long_lived);
        fresh
            .then_with(|| self.mobility.rank(other.mobility))
            .then_with(|| other.vtep.cmp(&self.vtep))
    }
}

/// The sequence for a MAC that comes to us, from what others announce for it, with their VTEP: above all of others;
/// what we said ourselves before a restart is exceeded too, because some peers drop a lower one than they have seen.
pub(super) fn sequence_here(seen: impl Iterator<Item = (u32, bool)>) -> u32 {
    let needed = seen
        .filter(|(sequence, ours)| !ours || *sequence > 0)
        .map(|(sequence, _)| sequence);
    needed
        .max_by(|a, b| crate::rib::compare_sequence(*a, *b))
        .map_or(0, next_sequence)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn claim(sticky: bool, sequence: u32, last: u8) -> MacCandidate {
        let vtep = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        MacCandidate {
            long_lived: false,
            mobility: Mobility { sticky, sequence },
            vtep,
        }
    }

    #[test]
    fn sticky_then_sequence_then_the_lower_address() {
        assert!(claim(true, 0, 9).rank(&claim(false, 5, 1)).is_gt());
        assert!(claim(false, 6, 9).rank(&claim(false, 5, 1)).is_gt());
        assert!(claim(false, 5, 1).rank(&claim(false, 5, 9)).is_gt());
        assert!(claim(false, 5, 1).rank(&claim(false, 5, 1)).is_eq());
        let old = MacCandidate {
            long_lived: true,
            ..claim(true, 9, 1)
        };
        assert!(claim(false, 0, 9).rank(&old).is_gt());
    }

    #[test]
    fn the_sequence_wraps() {
        assert!(claim(false, 1, 9).rank(&claim(false, u32::MAX, 1)).is_gt());
        assert!(
            claim(false, 0, 1).rank(&claim(false, u32::MAX, 9)).is_lt(),
            "0 is no sequence at all"
        );
        assert!(claim(false, 1 << 31, 9).rank(&claim(false, 1, 1)).is_gt());
        assert_eq!(next_sequence(u32::MAX), 1);
    }

    #[test]
    fn a_mac_that_comes_here_gets_more_than_all_have_seen() {
        assert_eq!(sequence_here([].into_iter()), 0);
        assert_eq!(sequence_here([(0, false)].into_iter()), 1);
        assert_eq!(
            sequence_here([(3, false), (7, true), (5, false)].into_iter()),
            8
        );
        assert_eq!(
            sequence_here([(0, true)].into_iter()),
            0,
            "our own first route, sent back"
        );
    }
}
