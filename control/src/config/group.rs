//! Who gets broadcast, unknown unicast and multicast of a VNI: VTEPs one by one, or a multicast group.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use vtep_dataplane::addr::VtepAddr;

use super::node::{Located, Node};
use super::table::{Read, text};

/// A multicast group of the underlay that can be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupAddr(IpAddr);

impl GroupAddr {
    /// A group.
    ///
    /// # Errors
    /// No multicast address, or one that stays on the host or the link (RFC 5771 section 4, RFC 7346).
    pub fn new(address: IpAddr) -> Result<Self, String> {
        let near = match address {
            IpAddr::V4(v4) => matches!(v4.octets(), [224, 0, 0, _]),
            IpAddr::V6(v6) => v6.octets()[1] & 0x0f <= 2,
        };
        if !address.is_multicast() {
            return Err(format!(
                "{address} is no multicast group; write one such as 239.1.1.1"
            ));
        }
        if near {
            return Err(format!(
                "{address} is a group that is not routed; write one such as 239.1.1.1 or ff05::100"
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
            text.parse()
                .map_err(|_| format!("{text:?} is no IPv4 or IPv6 address"))?,
        )
    }
}

/// An element of `flood`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FloodTarget {
    Vtep(VtepAddr),
    Group(GroupAddr),
}

/// A VTEP or a group, told apart by the address.
pub(super) fn member(value: &Located) -> Read<FloodTarget> {
    match &value.node {
        Node::Text(given) if given.parse().is_ok_and(|ip: IpAddr| ip.is_multicast()) => {
            text(value).map(FloodTarget::Group)
        }
        _ => text(value).map(FloodTarget::Vtep),
    }
}
