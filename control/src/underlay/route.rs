//! Route lookup: the route by which the kernel would send VXLAN to a VTEP.
//!
//! RTM_GETROUTE with RTM_F_FIB_MATCH returns the matching route itself rather than one selected
//! next hop: all ECMP next hops with their weights, policy rules and nexthop objects applied.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteType, RouteVia,
};
use rustix::io::Errno;
use vtep_dataplane::addr::VtepAddr;

use super::error::ResolveError;

/// One next hop of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextHop {
    /// Index of its interface.
    pub(super) ifindex: u32,
    /// The gateway; of another family for `via inet6`. `None`: the destination is on the link.
    pub(super) via: Option<IpAddr>,
    /// Weight, 1..=256.
    pub(super) weight: u16,
    /// The kernel does not use it: its interface is down.
    pub(super) dead: bool,
    /// It adds another encapsulation (MPLS, SRv6, IP in IP).
    pub(super) encapsulated: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// Its type (RTN_*).
    pub(super) kind: RouteType,
    /// Its prefix as text, `default` for the default route.
    pub(super) prefix: String,
    /// Its own MTU (RTAX_MTU), if any, bytes.
    pub(super) mtu: Option<u32>,
    /// Its next hops.
    pub(super) hops: Vec<NextHop>,
    /// The ID of the nexthop object that it uses.
    pub(super) nexthop_id: Option<u32>,
}

/// Result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RouteLookup {
    /// A route.
    Found(Route),
    /// The kernel's error number.
    Failed(i32),
    /// No lookup was made, for example without a local VTEP address.
    Skipped(ResolveError),
}

/// The request for the route of a packet from `source` to UDP port `udp_port` of `vtep`.
pub(super) fn lookup_request(vtep: VtepAddr, source: IpAddr, udp_port: u16) -> RouteMessage {
    const UDP: u8 = 17;
    let mut message = RouteMessage::default();
    let (family, bits) = if vtep.is_v6() {
        (AddressFamily::Inet6, 128)
    } else {
        (AddressFamily::Inet, 32)
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.header.flags = RouteFlags::FibMatch;
    message.attributes = vec![
        RouteAttribute::Destination(vtep.get().into()),
        RouteAttribute::IpProto(UDP),
        RouteAttribute::Dport(udp_port),
    ];
    // With a source, the kernel sends to a group by the source's interface whatever the routes are,
    // and returns no route (ip_route_output_key_hash_rcu(), net/ipv4/route.c).
    if !vtep.is_group() {
        message.header.source_prefix_length = bits;
        message
            .attributes
            .push(RouteAttribute::Source(source.into()));
    }
    message
}

/// The request for the route to an address.
pub(super) fn plain_request(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, bits) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.header.flags = RouteFlags::FibMatch;
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    message
}

/// Whether a reply is a default route, or a part of one (0.0.0.0/1, 2000::/3).
pub(super) fn is_default(message: &RouteMessage) -> bool {
    message.header.destination_prefix_length <= 3
}

/// The request for the route that the kernel would use through interface `link`, with the path MTU
/// that it has discovered, which a match of prefixes leaves out.
pub(super) fn exception_request(
    vtep: VtepAddr,
    source: IpAddr,
    udp_port: u16,
    link: u32,
) -> RouteMessage {
    let mut message = lookup_request(vtep, source, udp_port);
    message.header.flags = RouteFlags::empty();
    message.attributes.push(RouteAttribute::Oif(link));
    message
}

/// The path MTU in the answer, bytes, and how long it is used; `None` when the kernel has
/// discovered none.
pub(super) fn exception(message: &RouteMessage) -> Option<(u32, Duration)> {
    /// USER_HZ: the unit of `rta_expires` (include/uapi/linux/rtnetlink.h).
    const TICKS: u64 = 100;
    let left = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::CacheInfo(info) => Some(u64::from(info.expires)),
            _ => None,
        });
    let left = left.filter(|left| *left > 0)?;
    let mtu = metric_mtu(&message.attributes)?;
    Some((mtu, Duration::from_millis(left * 1000 / TICKS)))
}

/// RTAX_MTU, bytes.
fn metric_mtu(attributes: &[RouteAttribute]) -> Option<u32> {
    let metrics = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    });
    let mtu = metrics?.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    mtu.filter(|mtu| *mtu > 0)
}

/// Parses a route.
pub(super) fn parse(message: &RouteMessage) -> Route {
    let mut nexthop_id = None;
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::NhId(id) => nexthop_id = Some(*id),
            RouteAttribute::MultiPath(many) => hops.extend(many.iter().map(multipath_hop)),
            _ => {}
        }
    }
    if hops.is_empty() {
        let dead = message.header.flags.contains(RouteFlags::Dead);
        hops.extend(
            output(&message.attributes).map(|link| hop(link, 1, dead, &message.attributes)),
        );
    }
    Route {
        kind: message.header.kind,
        prefix: prefix(message),
        mtu: metric_mtu(&message.attributes),
        hops,
        nexthop_id,
    }
}

/// The prefix of a route event. `None` when the message has none that can be parsed: it may concern
/// any route.
pub(super) fn event_prefix(message: &RouteMessage) -> Option<(IpAddr, u8)> {
    let length = message.header.destination_prefix_length;
    destination(&message.attributes).map(|address| (address, length))
}

/// Whether the prefix covers the address.
pub(super) fn covers((prefix, length): (IpAddr, u8), address: IpAddr) -> bool {
    let length = u32::from(length);
    match (prefix, address) {
        (IpAddr::V4(p), IpAddr::V4(a)) => {
            (p.to_bits() ^ a.to_bits())
                .checked_shr(32 - length.min(32))
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(p), IpAddr::V6(a)) => {
            (p.to_bits() ^ a.to_bits())
                .checked_shr(128 - length.min(128))
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

/// What an error number of RTM_GETROUTE means: those of fib_props[] (net/ipv4/fib_semantics.c) and
/// ip6_rt_type_to_error() (net/ipv6/route.c).
pub(super) fn lookup_error(vtep: VtepAddr, errno: i32) -> ResolveError {
    match Errno::from_raw_os_error(errno) {
        Errno::NETUNREACH => ResolveError::NoRoute { vtep },
        Errno::INVAL => ResolveError::RouteBlackhole { vtep },
        Errno::HOSTUNREACH => ResolveError::RouteUnreachable { vtep },
        Errno::ACCESS => ResolveError::RouteProhibited { vtep },
        Errno::AGAIN => ResolveError::RouteThrow { vtep },
        errno => ResolveError::LookupFailed { vtep, errno },
    }
}

fn multipath_hop(one: &RouteNextHop) -> NextHop {
    let dead = one.flags.contains(RouteNextHopFlags::Dead);
    hop(
        one.interface_index,
        u16::from(one.hops) + 1,
        dead,
        &one.attributes,
    )
}

fn hop(ifindex: u32, weight: u16, dead: bool, attributes: &[RouteAttribute]) -> NextHop {
    let encapsulated = attributes
        .iter()
        .any(|a| matches!(a, RouteAttribute::EncapType(_)));
    NextHop {
        ifindex,
        via: gateway(attributes),
        weight,
        dead,
        encapsulated,
    }
}

fn output(attributes: &[RouteAttribute]) -> Option<u32> {
    attributes.iter().find_map(|a| {
        if let RouteAttribute::Oif(index) = a {
            Some(*index)
        } else {
            None
        }
    })
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

fn destination(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|a| {
        if let RouteAttribute::Destination(address) = a {
            ip(address)
        } else {
            None
        }
    })
}

pub(super) fn prefix(message: &RouteMessage) -> String {
    let length = message.header.destination_prefix_length;
    destination(&message.attributes).map_or_else(
        || "default".to_owned(),
        |address| format!("{address}/{length}"),
    )
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_with_one_gateway_has_one_hop() {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.header.destination_prefix_length = 24;
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet("203.0.113.0".parse().unwrap())),
            RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap())),
            RouteAttribute::Oif(7),
            RouteAttribute::Metrics(vec![RouteMetric::Advmss(1), RouteMetric::Mtu(1400)]),
        ];
        let route = parse(&message);
        let via = Some("fe80::1".parse().unwrap());
        assert_eq!(
            route.hops,
            [NextHop {
                ifindex: 7,
                via,
                weight: 1,
                dead: false,
                encapsulated: false
            }]
        );
        assert_eq!(
            (route.prefix.as_str(), route.mtu, route.nexthop_id),
            ("203.0.113.0/24", Some(1400), None)
        );
    }

    #[test]
    fn a_route_with_many_gateways_has_weights_and_dead_hops() {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        let many = [
            (1, 0, RouteNextHopFlags::empty()),
            (2, 2, RouteNextHopFlags::Dead),
        ]
        .map(|(link, hops, flags)| {
            let gateway = RouteAddress::Inet([10, 0, link as u8, 1].into());
            let mut one = RouteNextHop::default();
            (one.interface_index, one.hops, one.flags) = (link, hops, flags);
            one.attributes = vec![RouteAttribute::Gateway(gateway)];
            one
        });
        message.attributes = vec![
            RouteAttribute::MultiPath(many.to_vec()),
            RouteAttribute::NhId(5),
        ];
        let route = parse(&message);
        let seen: Vec<_> = route
            .hops
            .iter()
            .map(|hop| (hop.ifindex, hop.weight, hop.dead))
            .collect();
        assert_eq!(seen, [(1, 1, false), (2, 3, true)]);
        assert_eq!(
            (route.prefix.as_str(), route.nexthop_id),
            ("default", Some(5))
        );
    }

    #[test]
    fn prefixes_cover_their_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (prefix, length, address, expected) in [
            ("203.0.113.0", 24, "203.0.113.9", true),
            ("203.0.113.0", 24, "203.0.114.9", false),
            ("203.0.113.9", 32, "203.0.113.9", true),
            ("203.0.113.9", 32, "203.0.113.8", false),
            ("0.0.0.0", 0, "203.0.113.9", true),
            ("0.0.0.0", 0, "2001:db8::1", false),
            ("2001:db8::", 32, "2001:db8::1", true),
            ("2001:db8::", 32, "2001:db9::1", false),
            ("::", 0, "2001:db9::1", true),
            ("2001:db8::1", 128, "2001:db8::2", false),
        ] {
            assert_eq!(
                covers((ip(prefix), length), ip(address)),
                expected,
                "{prefix}/{length} {address}"
            );
        }
    }

    #[test]
    fn lookup_errors_have_texts() {
        let vtep = "203.0.113.9".parse().unwrap();
        assert_eq!(
            lookup_error(vtep, Errno::NETUNREACH.raw_os_error()).to_string(),
            "no route to 203.0.113.9"
        );
        assert_eq!(
            lookup_error(vtep, Errno::INVAL.raw_os_error()).to_string(),
            "route to 203.0.113.9 is blackhole"
        );
    }
}
