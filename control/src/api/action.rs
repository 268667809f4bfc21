//! One-time actions of requests, which do not change the saved configuration.

use std::net::IpAddr;

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
    BgpEnable(BgpPeer),
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

/// `bgp.clear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpClear {
    /// The neighbor.
    pub neighbor: IpAddr,
    /// Which routes are exchanged again.
    #[serde(default)]
    pub soft: Clear,
}

/// `bgp.shutdown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpShutdown {
    /// The neighbor.
    pub neighbor: IpAddr,
    /// Shutdown communication sent to the neighbor, at most 255 bytes (RFC 9003).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `bgp.enable`, `show.bgp.neighbor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpPeer {
    /// The neighbor.
    #[serde(alias = "address")]
    pub neighbor: IpAddr,
}
