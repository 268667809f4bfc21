//! What a request may ask the daemon to do once, without a change of its configuration text.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vtep_dataplane::addr::{HostMac, Vni};

use super::serde_form::{text, vni};
use crate::config::{InterfaceName, PortKey};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A host came to a local port, as by live migration: attach it, raise its sequence, announce it. Answers `{}`.
    MacMove(MacMove),
    /// A MAC that was frozen as a duplicate is free again. Answers `{}`.
    MacUnfreeze(MacPlace),
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
    /// The interface that it is behind now.
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
pub struct MacPlace {
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
    /// The neighbour is asked for its routes again.
    In,
    /// Our routes are sent again.
    Out,
    /// Both.
    Both,
    /// The session ends and comes back; neither side keeps routes.
    #[default]
    Hard,
}

/// `bgp.clear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpClear {
    /// The neighbour.
    pub neighbor: IpAddr,
    /// How.
    #[serde(default)]
    pub soft: Clear,
}

/// `bgp.shutdown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpShutdown {
    /// The neighbour.
    pub neighbor: IpAddr,
    /// What the neighbour is told, at most 255 bytes (RFC 9003).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `bgp.enable`, `show.bgp.neighbor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpPeer {
    /// The neighbour.
    #[serde(alias = "address")]
    pub neighbor: IpAddr,
}
