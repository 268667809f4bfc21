//! What the decision process and import read of attributes, computed once for each set of them.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr};

use vtep_dataplane::addr::VtepAddr;
use vtep_dataplane::wire::nd::NdFlags;

use crate::bgp::wire::{AsPath, Attributes, ExtendedCommunity};

/// LLGR_STALE (RFC 9494 section 4.1).
const LLGR_STALE: u32 = 0xffff_0006;
/// NO_LLGR (RFC 9494 section 4.1).
const NO_LLGR: u32 = 0xffff_0007;
/// LOCAL_PREF of a route without one (RFC 4271 leaves it open; all implementations use this value).
const DEFAULT_PREFERENCE: u32 = 100;
/// The tunnel type VXLAN (RFC 9012 section 6.1).
const VXLAN: u16 = 8;

/// The identity of this speaker, as far as eligibility depends on it.
#[derive(Debug, Clone)]
pub struct LocalIdentity {
    /// Our AS.
    pub asn: u32,
    /// Our BGP identifier, which is also our cluster identifier (RFC 4456 section 7).
    pub router_id: Ipv4Addr,
    /// All addresses of this VTEP.
    pub own: Vec<VtepAddr>,
}

/// Why no path with these attributes can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ineligible {
    /// Our AS is in AS_PATH, our BGP identifier is ORIGINATOR_ID or in CLUSTER_LIST (RFC 4271
    /// section 9.1.2, RFC 4456 section 8).
    Looped,
    /// The next hop is an address of this VTEP.
    OwnNextHop,
    /// The next hop is not a valid VTEP address.
    Martian,
    /// There are Encapsulation communities, and none is VXLAN (RFC 8365 section 5.1.2.4).
    Encapsulation,
}

impl Ineligible {
    /// A stable kebab-case word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Looped => "looped",
            Self::OwnNextHop => "own-next-hop",
            Self::Martian => "invalid-next-hop",
            Self::Encapsulation => "encapsulation-not-vxlan",
        }
    }
}

/// Sticky flag and sequence of a MAC (RFC 7432 section 7.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mobility {
    /// The MAC never moves.
    pub sticky: bool,
    /// The mobility sequence number.
    pub sequence: u32,
}

impl Mobility {
    /// `Greater` if it is better: sticky first, then the later sequence (RFC 7432 section 15).
    #[must_use]
    pub fn compare(self, other: Self) -> Ordering {
        self.sticky
            .cmp(&other.sticky)
            .then_with(|| compare_sequence(self.sequence, other.sequence))
    }
}

/// Distance from zero and from 2^32 within which sequences count as wrapped.
const WRAP: u32 = 1 << 16;

/// `Greater` if `a` is later. The sequence has 32 bits and wraps; peers compare plain numbers, so
/// only numbers right before and right after the wrap count as wrapped. Zero is the sequence of a
/// route without the community.
#[must_use]
pub fn compare_sequence(a: u32, b: u32) -> Ordering {
    let wrapped = |low: u32, high: u32| (1..WRAP).contains(&low) && high > u32::MAX - WRAP;
    match (wrapped(a, b), wrapped(b, a)) {
        (true, _) => Ordering::Greater,
        (_, true) => Ordering::Less,
        _ => a.cmp(&b),
    }
}

/// The sequence after `sequence`; 1 follows the last one.
#[must_use]
pub fn next_sequence(sequence: u32) -> u32 {
    sequence.checked_add(1).unwrap_or(1)
}

/// What the decision process and import read of one attribute set.
#[derive(Debug, Clone, Copy)]
pub struct PathInfo {
    /// Why no path with these attributes can be used.
    pub ineligible: Option<Ineligible>,
    /// The next hop.
    pub next_hop: IpAddr,
    /// The next hop as a VTEP address, if it is a valid one.
    pub vtep: Option<VtepAddr>,
    /// Sticky flag and sequence of the MAC (type 2).
    pub mobility: Mobility,
    /// The flags of advertisements for its IPv6 address, if the route tells them (RFC 9047).
    pub nd: Option<NdFlags>,
    /// The address never moves to another MAC: the flag I (RFC 9047).
    pub immutable: bool,
    /// The MAC is that of a default gateway, which several VTEPs may have (RFC 7432 sections 7.8
    /// and 10.1).
    pub gateway: bool,
    /// LLGR_STALE: another speaker keeps the path beyond the restart time (RFC 9494).
    pub long_lived: bool,
    /// NO_LLGR: the path must not be kept beyond the restart time (RFC 9494).
    pub no_long_lived: bool,
    /// The first AS of AS_PATH, for the comparison of MED.
    pub(super) first_as: Option<u32>,
    pub(super) preference: u32,
    pub(super) hops: u32,
    pub(super) origin: u8,
    pub(super) med: u32,
    pub(super) originator: Option<Ipv4Addr>,
    pub(super) clusters: u32,
}

impl PathInfo {
    /// Computes it.
    pub fn new(attributes: &Attributes, local: &LocalIdentity) -> Self {
        let extended = &attributes.extended;
        let mobility = extended
            .iter()
            .find_map(|c| c.as_mac_mobility())
            .unwrap_or_default();
        let nd = extended.iter().find_map(|c| c.as_nd());
        Self {
            ineligible: ineligible(attributes, local),
            next_hop: attributes.next_hop,
            vtep: VtepAddr::new(attributes.next_hop).ok(),
            mobility: Mobility {
                sticky: mobility.0,
                sequence: mobility.1,
            },
            nd: nd.map(|(flags, _)| flags),
            immutable: nd.is_some_and(|(_, immutable)| immutable),
            gateway: extended.iter().any(|c| c.is_default_gateway()),
            long_lived: attributes.communities.contains(&LLGR_STALE),
            no_long_lived: attributes.communities.contains(&NO_LLGR),
            first_as: AsPath::first(&attributes.as_path),
            preference: attributes.local_pref.unwrap_or(DEFAULT_PREFERENCE),
            hops: attributes.as_path.path_len() as u32,
            origin: attributes.origin as u8,
            med: attributes.med.unwrap_or(0),
            originator: attributes.originator_id,
            clusters: attributes.cluster_list.len() as u32,
        }
    }
}

fn ineligible(attributes: &Attributes, local: &LocalIdentity) -> Option<Ineligible> {
    let encapsulations = || {
        attributes
            .extended
            .iter()
            .filter_map(|c: &ExtendedCommunity| c.as_encapsulation())
    };
    if attributes.originator_id == Some(local.router_id)
        || attributes.cluster_list.contains(&local.router_id)
        || attributes.as_path.contains(local.asn)
    {
        return Some(Ineligible::Looped);
    }
    match VtepAddr::new(attributes.next_hop) {
        Err(_) => Some(Ineligible::Martian),
        Ok(vtep) if local.own.contains(&vtep) => Some(Ineligible::OwnNextHop),
        Ok(_)
            if encapsulations().next().is_some() && encapsulations().all(|kind| kind != VXLAN) =>
        {
            Some(Ineligible::Encapsulation)
        }
        Ok(_) => None,
    }
}
