//! The BGP decision process: which of two paths of a route is better, and at which step that is
//! decided.
//!
//! ```text
//! eligible -> not long-lived stale -> not stale -> MAC mobility (type 2) -> LOCAL_PREF -> AS_PATH
//!          -> ORIGIN -> MED -> eBGP -> router ID -> CLUSTER_LIST -> neighbor address
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::path_info::PathInfo;

/// The peer that sent a path, as far as the decision process depends on it.
#[derive(Debug, Clone, Copy)]
pub struct PathSender {
    /// The session is internal (iBGP).
    pub internal: bool,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
}

/// One path of a route, as the decision process reads it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its attributes.
    pub info: &'a PathInfo,
    /// Kept by this speaker beyond the restart time (RFC 9494).
    pub long_lived: bool,
    /// Its session ended, or its peer has not sent it again yet (RFC 4724).
    pub stale: bool,
    /// The peer that sent it.
    pub sender: PathSender,
}

/// The step of the decision process at which a path loses to a better one. The words are stable:
/// the API and `vtepctl` show them as the reason why a path is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DecisionStep {
    /// The better path is eligible, this one is not (see [`super::Ineligible`]).
    Eligibility,
    /// The better path leads to a VTEP that is reachable, this one does not (type 2, RFC 4271
    /// section 9.1.2.1).
    Unreachable,
    /// This path is stale beyond the restart time (RFC 9494 section 4.3).
    LongLivedStale,
    /// This path is stale, the better one is not: what a peer said before its session ended is not
    /// news (RFC 4724).
    Stale,
    /// The better path has a sticky MAC (RFC 7432 section 15.2).
    StickyMac,
    /// The better path has a later mobility sequence (RFC 7432 section 7.7).
    MobilitySequence,
    /// The better path has the lower VTEP address at the same sequence (RFC 7432 section 15).
    VtepAddress,
    /// LOCAL_PREF (RFC 4271 section 9.1.1).
    LocalPref,
    /// The length of AS_PATH (RFC 4271 section 9.1.2.2 a).
    AsPathLength,
    /// ORIGIN (RFC 4271 section 9.1.2.2 b).
    Origin,
    /// MULTI_EXIT_DISC (RFC 4271 section 9.1.2.2 c).
    Med,
    /// The better path was received over eBGP (RFC 4271 section 9.1.2.2 d).
    SessionType,
    /// The BGP identifier, or ORIGINATOR_ID (RFC 4271 section 9.1.2.2 f, RFC 4456 section 9).
    RouterId,
    /// The length of CLUSTER_LIST (RFC 4456 section 9).
    ClusterListLength,
    /// The neighbor's address (RFC 4271 section 9.1.2.2 g).
    NeighborAddress,
}

impl DecisionStep {
    /// A stable kebab-case word: what is worse about the path that lost.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Eligibility => "ineligible",
            Self::Unreachable => "vtep-unreachable",
            Self::LongLivedStale => "long-lived-stale",
            Self::Stale => "stale",
            Self::StickyMac => "not-sticky",
            Self::MobilitySequence => "lower-mobility-sequence",
            Self::VtepAddress => "higher-vtep-address",
            Self::LocalPref => "lower-local-pref",
            Self::AsPathLength => "longer-as-path",
            Self::Origin => "higher-origin",
            Self::Med => "higher-med",
            Self::SessionType => "ibgp-path",
            Self::RouterId => "higher-router-id",
            Self::ClusterListLength => "longer-cluster-list",
            Self::NeighborAddress => "higher-neighbor-address",
        }
    }
}

impl fmt::Display for DecisionStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// `Greater` if `a` is the better path of a route, with the step that decides. `is_mac_ip`: the
/// route is a type 2, whose mobility counts before RFC 4271 (RFC 7432 section 15). `None`: both
/// paths are equal, which paths of different neighbors never are.
#[must_use]
pub fn decide(
    a: &Candidate<'_>,
    b: &Candidate<'_>,
    is_mac_ip: bool,
) -> Option<(Ordering, DecisionStep)> {
    use DecisionStep as Step;
    let (x, y) = (a.info, b.info);
    let long_lived = |c: &Candidate<'_>| c.long_lived || c.info.long_lived;
    let step = |ordering: Ordering, step| ordering.is_ne().then_some((ordering, step));
    let eligible = x.ineligible.is_none().cmp(&y.ineligible.is_none());
    let mobility = || {
        step(x.mobility.sticky.cmp(&y.mobility.sticky), Step::StickyMac)
            .or_else(|| step(x.mobility.compare(y.mobility), Step::MobilitySequence))
            .or_else(|| step(y.next_hop.cmp(&x.next_hop), Step::VtepAddress))
    };
    let med = || match x.first_as == y.first_as {
        true => y.med.cmp(&x.med),
        false => Ordering::Equal,
    };
    let id = |c: &Candidate<'_>| c.info.originator.unwrap_or(c.sender.router_id);
    step(eligible, Step::Eligibility)
        .or_else(|| step(long_lived(b).cmp(&long_lived(a)), Step::LongLivedStale))
        .or_else(|| step(b.stale.cmp(&a.stale), Step::Stale))
        .or_else(|| if is_mac_ip { mobility() } else { None })
        .or_else(|| step(x.preference.cmp(&y.preference), Step::LocalPref))
        .or_else(|| step(y.hops.cmp(&x.hops), Step::AsPathLength))
        .or_else(|| step(y.origin.cmp(&x.origin), Step::Origin))
        .or_else(|| step(med(), Step::Med))
        .or_else(|| step(b.sender.internal.cmp(&a.sender.internal), Step::SessionType))
        .or_else(|| step(id(b).cmp(&id(a)), Step::RouterId))
        .or_else(|| step(y.clusters.cmp(&x.clusters), Step::ClusterListLength))
        .or_else(|| {
            step(
                b.sender.address.cmp(&a.sender.address),
                Step::NeighborAddress,
            )
        })
}

/// `Greater` if `a` is the better path: the ordering of [`decide`].
#[must_use]
pub fn compare(a: &Candidate<'_>, b: &Candidate<'_>, is_mac_ip: bool) -> Ordering {
    decide(a, b, is_mac_ip).map_or(Ordering::Equal, |(ordering, _)| ordering)
}

#[cfg(test)]
mod tests {
    use super::super::path_info::{LocalIdentity, Mobility};
    use super::*;
    use crate::bgp::wire::{AsPath, AsPathSegment, Attributes};

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    fn info(attributes: &Attributes) -> PathInfo {
        let local = LocalIdentity {
            asn: 65000,
            router_id: address(1),
            own: Vec::new(),
        };
        PathInfo::new(attributes, &local)
    }

    const fn candidate(info: &PathInfo) -> Candidate<'_> {
        let sender = PathSender {
            internal: true,
            router_id: Ipv4Addr::new(192, 0, 2, 7),
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        };
        Candidate {
            info,
            long_lived: false,
            stale: false,
            sender,
        }
    }

    /// The step at which a path with `change` loses to one without, in both orders.
    fn lost_at(change: impl FnOnce(&mut Attributes, &mut PathSender)) -> DecisionStep {
        let better = Attributes::local(IpAddr::V4(address(2)));
        let mut worse = better.clone();
        let (a, mut sender) = (info(&better), candidate(&info(&better)).sender);
        change(&mut worse, &mut sender);
        let b = info(&worse);
        let (a, b) = (
            candidate(&a),
            Candidate {
                sender,
                ..candidate(&b)
            },
        );
        let (ordering, step) = decide(&a, &b, true).expect("not equal");
        assert_eq!(ordering, Ordering::Greater);
        assert_eq!(decide(&b, &a, true), Some((Ordering::Less, step)));
        assert_eq!(compare(&b, &a, true), Ordering::Less);
        step
    }

    #[test]
    fn each_step_names_itself() {
        use DecisionStep as Step;
        let path = |asn| AsPath(vec![AsPathSegment::Sequence(asn)]);
        let steps = [
            lost_at(|attributes, _| attributes.as_path = path(vec![65000])),
            lost_at(|attributes, _| attributes.communities = vec![0xffff_0006]),
            lost_at(|attributes, _| attributes.next_hop = IpAddr::V4(address(3))),
            lost_at(|attributes, _| attributes.local_pref = Some(99)),
            lost_at(|attributes, _| attributes.as_path = path(vec![65001])),
            lost_at(|attributes, _| attributes.med = Some(1)),
            lost_at(|attributes, _| attributes.originator_id = Some(address(8))),
            lost_at(|_, sender| sender.router_id = address(8)),
            lost_at(|attributes, _| attributes.cluster_list = vec![address(9)]),
            lost_at(|_, sender| sender.address = IpAddr::V4(address(8))),
        ];
        let expected = [
            Step::Eligibility,
            Step::LongLivedStale,
            Step::VtepAddress,
            Step::LocalPref,
            Step::AsPathLength,
            Step::Med,
            Step::RouterId,
            Step::RouterId,
            Step::ClusterListLength,
            Step::NeighborAddress,
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn mobility_counts_for_type_2_only() {
        let attributes = Attributes::local(IpAddr::V4(address(2)));
        let (mut a, b) = (info(&attributes), info(&attributes));
        a.mobility = Mobility {
            sticky: false,
            sequence: 1,
        };
        let step = decide(&candidate(&a), &candidate(&b), true).map(|(_, step)| step);
        assert_eq!(step, Some(DecisionStep::MobilitySequence));
        assert_eq!(decide(&candidate(&a), &candidate(&b), false), None);
        a.mobility.sticky = true;
        let step = decide(&candidate(&a), &candidate(&b), true).map(|(_, step)| step);
        assert_eq!(step.map(DecisionStep::word), Some("not-sticky"));
    }
}
