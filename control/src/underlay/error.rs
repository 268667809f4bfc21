//! Why a VTEP, or one path to it, can't be used: a stable name for programs, and a text for
//! operators.

use std::net::IpAddr;
use std::sync::Arc;

use rustix::io::Errno;
use vtep_dataplane::addr::VtepAddr;

use super::neighbors::NudState;

/// Why a VTEP has no path, or a next hop of its route is not used. The text names the remedy where
/// there is one; [`Self::name`] is part of the API and does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The route was not looked up yet.
    #[error("not looked up yet")]
    Pending,
    /// The configuration has no local VTEP address of the family.
    #[error("{vtep} is {family}, but [vtep] address has no {family} address", family = family(*.vtep))]
    NoLocalAddress {
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// No interface has the local VTEP address.
    #[error("local VTEP address {address} is not on this host; add it to an interface")]
    LocalAddressMissing {
        /// The local VTEP address.
        address: IpAddr,
    },
    /// The local VTEP address is not a unicast address.
    #[error("invalid local VTEP address {address}: must be a unicast address")]
    LocalAddressInvalid {
        /// The local VTEP address.
        address: IpAddr,
    },
    /// The kernel has no route (ENETUNREACH).
    #[error("no route to {vtep}")]
    NoRoute {
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// The route discards packets (RTN_BLACKHOLE).
    #[error("route to {vtep} is blackhole")]
    RouteBlackhole {
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// The route answers "unreachable" (RTN_UNREACHABLE).
    #[error("route to {vtep} is unreachable")]
    RouteUnreachable {
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// The route answers "prohibited" (RTN_PROHIBIT).
    #[error("route to {vtep} is prohibit")]
    RouteProhibited {
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// The lookup ended at a route of type RTN_THROW.
    #[error("route to {vtep} is throw, and no other table has one")]
    RouteThrow {
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// The kernel refused the lookup.
    #[error("the kernel refuses to look up the route to {vtep}: {errno}")]
    LookupFailed {
        /// The VTEP.
        vtep: VtepAddr,
        /// Its error number.
        errno: Errno,
    },
    /// The VTEP is this host.
    #[error("{vtep} is an address of this host")]
    LocalDestination {
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// The route is of a type that VXLAN can't use.
    #[error("route {prefix} is of type {kind}, not unicast")]
    RouteType {
        /// The route's prefix.
        prefix: String,
        /// Its type (RTN_*).
        kind: String,
    },
    /// The kernel returns a nexthop object by its ID only.
    #[error(
        "the kernel does not report the next hops of nexthop object {id} of route {prefix}; \
         set sysctl net.ipv4.nexthop_compat_mode=1"
    )]
    NexthopObject {
        /// The object.
        id: u32,
        /// The route's prefix.
        prefix: String,
    },
    /// The route has no next hop.
    #[error("route {prefix} has no interface")]
    RouteWithoutInterface {
        /// The route's prefix.
        prefix: String,
    },
    /// The route's interface is not known.
    #[error("route uses unknown interface {ifindex}")]
    UnknownInterface {
        /// The interface's index.
        ifindex: u32,
    },
    /// The next hop requires MPLS, SRv6 or another tunnel.
    #[error(
        "route via {interface} adds another encapsulation, which can't be combined with VXLAN here"
    )]
    RouteEncapsulated {
        /// The interface.
        interface: Arc<str>,
    },
    /// The interface does not carry VXLAN.
    #[error("route uses {interface}, which is not in [vtep] underlay")]
    NotUnderlayInterface {
        /// The interface.
        interface: Arc<str>,
    },
    /// The bond's members carry no VXLAN.
    #[error(
        "route uses bond {bond}, whose members in use are not in [vtep] underlay; write its members \
         there: {members}"
    )]
    BondNotInUnderlay {
        /// The bond.
        bond: Arc<str>,
        /// Its members.
        members: String,
    },
    /// The bond has no member that sends.
    #[error("bond {bond} has no active member with a carrier")]
    BondWithoutActiveMember {
        /// The bond.
        bond: Arc<str>,
    },
    /// The bond's mode requires more than the choice of one member for each frame.
    #[error(
        "bond {bond} is of mode {mode}, which is not supported; use active-backup, 802.3ad, balance-xor, \
         balance-rr or balance-tlb"
    )]
    BondMode {
        /// The bond.
        bond: Arc<str>,
        /// Its mode.
        mode: String,
    },
    /// The VLAN's tag is 802.1ad.
    #[error("{interface} is an 802.1ad VLAN; the underlay carries 802.1Q tags only")]
    ServiceVlan {
        /// The interface.
        interface: Arc<str>,
    },
    /// The interface carries no Ethernet frames.
    #[error("{interface} is not an Ethernet interface")]
    NotEthernet {
        /// The interface.
        interface: Arc<str>,
    },
    /// The interface is administratively down.
    #[error("{interface} is down")]
    InterfaceDown {
        /// The interface.
        interface: Arc<str>,
    },
    /// The interface has no carrier.
    #[error("{interface} has no carrier")]
    NoCarrier {
        /// The interface.
        interface: Arc<str>,
    },
    /// The interface has no MAC address of six octets.
    #[error("{interface} has no MAC address")]
    NoInterfaceMac {
        /// The interface.
        interface: Arc<str>,
    },
    /// The kernel does not use the next hop (RTNH_F_DEAD).
    #[error("the kernel considers the next hop via {interface} dead")]
    NexthopDead {
        /// The interface.
        interface: Arc<str>,
    },
    /// The kernel has no entry for the neighbor.
    #[error("neighbor {address} on {interface} is not resolved yet")]
    NeighborUnresolved {
        /// The neighbor's address.
        address: IpAddr,
        /// The interface.
        interface: Arc<str>,
    },
    /// The kernel's entry for the neighbor has no usable MAC.
    #[error("neighbor {address} on {interface} is {state}", state = nud_name(*.state))]
    NeighborUnusable {
        /// The neighbor's address.
        address: IpAddr,
        /// The interface.
        interface: Arc<str>,
        /// The entry's state.
        state: NudState,
    },
    /// The MTU does not suffice for the outer headers and an Ethernet header.
    #[error(
        "MTU {mtu} of the path by {interface} leaves no space for a frame after {headers} bytes of \
         headers"
    )]
    MtuTooSmall {
        /// MTU of the path, bytes.
        mtu: u32,
        /// The interface.
        interface: Arc<str>,
        /// Outer IP, UDP and VXLAN headers, bytes.
        headers: u32,
    },
    /// No next hop of the route is usable; those are the causes, each once.
    #[error("{}", join(.0))]
    NoUsablePath(Vec<ResolveError>),
}

impl ResolveError {
    /// The stable name, in kebab case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::NoLocalAddress { .. } => "no-local-address",
            Self::LocalAddressMissing { .. } => "local-address-missing",
            Self::LocalAddressInvalid { .. } => "local-address-invalid",
            Self::NoRoute { .. } => "no-route",
            Self::RouteBlackhole { .. } => "route-blackhole",
            Self::RouteUnreachable { .. } => "route-unreachable",
            Self::RouteProhibited { .. } => "route-prohibited",
            Self::RouteThrow { .. } => "route-throw",
            Self::LookupFailed { .. } => "lookup-failed",
            Self::LocalDestination { .. } => "local-destination",
            Self::RouteType { .. } => "route-type",
            Self::NexthopObject { .. } => "nexthop-object",
            Self::RouteWithoutInterface { .. } => "route-without-interface",
            Self::UnknownInterface { .. } => "unknown-interface",
            Self::RouteEncapsulated { .. } => "route-encapsulated",
            Self::NotUnderlayInterface { .. } => "not-underlay-interface",
            Self::BondNotInUnderlay { .. } => "bond-not-in-underlay",
            Self::BondWithoutActiveMember { .. } => "bond-without-active-member",
            Self::BondMode { .. } => "bond-mode",
            Self::ServiceVlan { .. } => "service-vlan",
            Self::NotEthernet { .. } => "not-ethernet",
            Self::InterfaceDown { .. } => "interface-down",
            Self::NoCarrier { .. } => "no-carrier",
            Self::NoInterfaceMac { .. } => "no-interface-mac",
            Self::NexthopDead { .. } => "nexthop-dead",
            Self::NeighborUnresolved { .. } => "neighbor-unresolved",
            Self::NeighborUnusable { .. } => "neighbor-unusable",
            Self::MtuTooSmall { .. } => "mtu-too-small",
            Self::NoUsablePath(causes) => match &causes[..] {
                [only] => only.name(),
                _ => "no-usable-path",
            },
        }
    }
}

const fn family(vtep: VtepAddr) -> &'static str {
    if vtep.is_v6() { "IPv6" } else { "IPv4" }
}

/// A neighbor's state as `ip neigh` writes it.
pub(super) fn nud_name(state: NudState) -> String {
    state.to_string().to_uppercase()
}

fn join(causes: &[ResolveError]) -> String {
    let causes: Vec<_> = causes.iter().map(ToString::to_string).collect();
    causes.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_is_named_itself_and_several_share_a_name() {
        let interface: Arc<str> = "eth0".into();
        let down = ResolveError::InterfaceDown {
            interface: interface.clone(),
        };
        let dead = ResolveError::NexthopDead { interface };
        let one = ResolveError::NoUsablePath(vec![down.clone()]);
        assert_eq!(
            (one.name(), one.to_string()),
            ("interface-down", "eth0 is down".to_owned())
        );
        let two = ResolveError::NoUsablePath(vec![down, dead]);
        assert_eq!(two.name(), "no-usable-path");
        assert_eq!(
            two.to_string(),
            "eth0 is down; the kernel considers the next hop via eth0 dead"
        );
    }
}
