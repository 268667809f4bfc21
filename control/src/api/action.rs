//! One-time actions of requests, which do not change the saved configuration.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vtep_dataplane::addr::{HostMac, Vni};

use super::serde_form::{text, vni};
use crate::config::{InterfaceName, PortKey};

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Attaches a host that moved to a local port, as by live migration, with a higher sequence
    /// number, and announces it. Answers `{}`.
    MacMove(MacMove),
    /// Unfreezes a MAC that was frozen as a duplicate. Answers `{}`.
    MacUnfreeze(MacUnfreeze),
    /// Clears a BGP session. Answers `{}`.
    BgpClear(BgpClear),
    /// Ends a BGP session until it is enabled. Answers `{}`.
    BgpShutdown(BgpShutdown),
    /// Starts a BGP session that was shut down. Answers `{}`.
    BgpEnable(BgpEnable),
}

/// `mac.move`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacMove {
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// The host.
    #[serde(with = "text")]
    pub mac: HostMac,
    /// The interface that the host is behind now.
    #[serde(with = "text")]
    pub interface: InterfaceName,
    /// The VLAN of a trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Its IP addresses, which are announced too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpAddr>,
}

impl MacMove {
    /// The port.
    #[must_use]
    pub fn port(&self) -> PortKey {
        PortKey {
            interface: self.interface.clone(),
            vlan: self.vlan,
        }
    }
}

/// `mac.unfreeze`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacUnfreeze {
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// The MAC.
    #[serde(with = "text")]
    pub mac: HostMac,
}

/// How a session is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clear {
    /// The neighbor is asked to send its routes again.
    In,
    /// Local routes are sent again.
    Out,
    /// Both.
    Both,
    /// The session is ended and restarted; neither side keeps routes.
    #[default]
    Hard,
}

/// The neighbors that a request concerns: an address, or `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbors {
    /// Every configured neighbor.
    All,
    /// This one.
    One(IpAddr),
}

impl fmt::Display for Neighbors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::One(address) => address.fmt(f),
        }
    }
}

impl FromStr for Neighbors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let address = text.parse().map(Self::One);
        address.map_err(|_| format!("invalid neighbor {text:?}: must be an IP address or \"all\""))
    }
}

/// `bgp.clear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpClear {
    /// Whose sessions.
    #[serde(with = "text")]
    pub neighbor: Neighbors,
    /// Which routes are exchanged again.
    #[serde(default)]
    pub soft: Clear,
}

/// `bgp.shutdown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpShutdown {
    /// Whose sessions.
    #[serde(with = "text")]
    pub neighbor: Neighbors,
    /// Shutdown communication sent to the neighbor, at most 255 bytes (RFC 9003).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `bgp.enable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpEnable {
    /// Whose sessions.
    #[serde(with = "text", alias = "address")]
    pub neighbor: Neighbors,
}

/// `show.bgp.neighbor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpPeer {
    /// The neighbor.
    #[serde(alias = "address")]
    pub neighbor: IpAddr,
}
