//! Targets of broadcast, unknown unicast and multicast: a VTEP, or a multicast group.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use vtep_dataplane::addr::VtepAddr;

use super::node::{Located, Node};
use super::value::{Read, text};

/// A routable multicast group of the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupAddr(IpAddr);

impl GroupAddr {
    /// A group.
    ///
    /// # Errors
    /// Not a multicast address, or one of host or link scope (RFC 5771 section 4, RFC 7346).
    pub fn new(address: IpAddr) -> Result<Self, String> {
        let near = match address {
            IpAddr::V4(v4) => matches!(v4.octets(), [224, 0, 0, _]),
            IpAddr::V6(v6) => v6.octets()[1] & 0x0f <= 2,
        };
        if !address.is_multicast() {
            return Err(format!(
                "invalid multicast group {address}: must be a group such as 239.1.1.1"
            ));
        }
        if near {
            return Err(format!(
                "invalid multicast group {address}: must be routed, such as 239.1.1.1 or ff05::100"
            ));
        }
        Ok(Self(address))
    }

    /// The address itself.
    #[must_use]
    pub const fn get(self) -> IpAddr {
        self.0
    }

    /// True for IPv6.
    #[must_use]
    pub const fn is_v6(self) -> bool {
        matches!(self.0, IpAddr::V6(_))
    }
}

impl fmt::Display for GroupAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GroupAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(
            text.parse().map_err(|_| {
                format!("invalid IP address {text:?}: must be an IPv4 or IPv6 address")
            })?,
        )
    }
}

/// An element of `flood`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FloodTarget {
    Vtep(VtepAddr),
    Group(GroupAddr),
}

/// A VTEP or a group, distinguished by the address.
pub(super) fn flood_target(value: &Located) -> Read<FloodTarget> {
    match &value.node {
        Node::Text(given) if given.parse().is_ok_and(|ip: IpAddr| ip.is_multicast()) => {
            text(value).map(FloodTarget::Group)
        }
        _ => text(value).map(FloodTarget::Vtep),
    }
}
