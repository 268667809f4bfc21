//! Routes that were set on this host, rather than learned by a routing protocol, by the interface that
//! they use: taking its frames would end them.
//!
//! In: a dump of the routes of some protocols from all tables, and route messages. Out: a route for
//! each such interface. The kernel selects the routes, which takes some 70 ns for each route of the
//! host and each protocol.

use std::io;
use std::net::IpAddr;

use hashbrown::HashMap;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::RequestSocket;
use super::route;

/// RTPROT_BOOT, as `ip route` sets it, RTPROT_STATIC, and RTPROT_ZSTATIC of FRR.
const PROTOCOLS: [RouteProtocol; 3] = [
    RouteProtocol::Boot,
    RouteProtocol::Static,
    RouteProtocol::Other(196),
];

/// RT_TABLE_MAIN.
const MAIN: u32 = 254;

/// A route of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetRoute {
    /// Its prefix, or `default`.
    pub(super) prefix: String,
    v6: bool,
    table: u32,
}

impl SetRoute {
    /// The command that removes it.
    pub(super) fn removal(&self, interface: &str) -> String {
        let family = if self.v6 { " -6" } else { "" };
        let table = match self.table {
            MAIN => String::new(),
            other => format!(" table {other}"),
        };
        format!(
            "ip{family} route del {} dev {interface}{table}",
            self.prefix
        )
    }
}

/// One such route for each interface that has one, by the index of the interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SetRoutes(HashMap<u32, SetRoute>);

impl SetRoutes {
    /// Reads them.
    pub(super) fn read() -> io::Result<Self> {
        let mut socket = RequestSocket::open_strict()?;
        let mut all = Self::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for protocol in PROTOCOLS {
                let mut request = RouteMessage::default();
                request.header.address_family = family;
                request.header.protocol = protocol;
                for entry in socket.dump(&Message::GetRoute(request))? {
                    if let Message::NewRoute(route) = &entry {
                        all.add(route);
                    }
                }
            }
        }
        Ok(all)
    }

    /// A route that was set and uses this interface.
    pub(super) fn on(&self, link: u32) -> Option<&SetRoute> {
        self.0.get(&link)
    }

    /// Applies RTM_NEWROUTE.
    pub(super) fn add(&mut self, message: &RouteMessage) {
        let Some(found) = set_route(message) else {
            return;
        };
        for hop in route::parse(message).hops {
            self.0.entry(hop.ifindex).or_insert_with(|| found.clone());
        }
    }

    /// Applies RTM_DELROUTE. Another route of the same interface is found when they are read again.
    pub(super) fn remove(&mut self, message: &RouteMessage) {
        let Some(removed) = set_route(message) else {
            return;
        };
        for hop in route::parse(message).hops {
            if self.0.get(&hop.ifindex) == Some(&removed) {
                self.0.remove(&hop.ifindex);
            }
        }
    }
}

/// A route that was set, and by which the host sends.
fn set_route(message: &RouteMessage) -> Option<SetRoute> {
    let header = &message.header;
    let sends = header.kind == RouteType::Unicast && PROTOCOLS.contains(&header.protocol);
    let destination = route::event_prefix(message).map(|prefix| prefix.0);
    let links = destination.is_some_and(|destination| match destination {
        IpAddr::V4(v4) => v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
    });
    let table = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    (sends && !links).then(|| SetRoute {
        prefix: route::prefix(message),
        v6: header.address_family == AddressFamily::Inet6,
        table: table.unwrap_or_else(|| header.table.into()),
    })
}
