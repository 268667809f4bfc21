//! Events for clients that have subscribed with `monitor.subscribe`: one notification a line.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vtep_dataplane::addr::{MacAddr, Vni, VtepAddr};

use super::serde_form::{optional_text, optional_vni, text, vni};
use super::show::PortState;
use crate::config::PortKey;

/// What events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// [`MacEvent`].
    Mac,
    /// [`BgpEvent`].
    Bgp,
    /// [`MissEvent`].
    Miss,
    /// [`PortEvent`].
    Port,
    /// Each of them.
    All,
}

/// Subscribed clients at a time. They stay connected indefinitely, so some of the server's
/// `MAX_CLIENTS` connections are reserved for commands.
pub const MAX_SUBSCRIBERS: usize = 48;

/// `monitor.subscribe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Takes the place of what the connection had subscribed to before; empty = nothing.
    pub topics: Vec<Topic>,
}

impl Subscription {
    /// No topics.
    pub(super) const NOTHING: Self = Self { topics: Vec::new() };

    /// True when events of this topic are wanted.
    #[must_use]
    pub fn wants(&self, topic: Topic) -> bool {
        self.topics
            .iter()
            .any(|wanted| *wanted == topic || *wanted == Topic::All)
    }
}

/// What happened to a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacChange {
    /// It is new.
    Added,
    /// It is in another place.
    Moved,
    /// It is gone.
    Removed,
    /// Another VTEP claims a MAC that is ours.
    Claimed,
    /// It moved too often and stays where it is.
    Frozen,
    /// It may move again.
    Unfrozen,
}

/// A MAC came, moved or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacEvent {
    /// What happened.
    pub event: MacChange,
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// The MAC.
    #[serde(with = "text")]
    pub mac: MacAddr,
    /// Where a local MAC is now.
    #[serde(with = "optional_text")]
    pub port: Option<PortKey>,
    /// The VTEP that a remote one is behind now, or that claims it.
    #[serde(with = "optional_text")]
    pub vtep: Option<VtepAddr>,
    /// Sequence of MAC mobility (RFC 7432 section 7.7).
    pub sequence: u32,
}

/// A BGP session changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpEvent {
    /// The neighbour.
    pub neighbor: IpAddr,
    /// The state that the session is in now, as `show.bgp.summary` names it.
    pub state: super::bgp::SessionState,
    /// Why a session ended.
    pub reason: Option<String>,
}

/// A frame asked for what nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissEvent {
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// An unknown destination MAC: `fdb.add` answers it.
    #[serde(with = "optional_text")]
    pub mac: Option<MacAddr>,
    /// An unknown address that ARP or ND asked for: `neigh.add` answers it.
    pub ip: Option<IpAddr>,
}

/// A port changed its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortEvent {
    /// The port.
    #[serde(with = "text")]
    pub port: PortKey,
    /// The VNI of a tenant port; null for the underlay.
    #[serde(with = "optional_vni")]
    pub vni: Option<Vni>,
    /// The state that it is in now.
    pub state: PortState,
    /// Why it is not up.
    pub reason: Option<String>,
}

/// What happened: the `params` of a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "topic", rename_all = "lowercase")]
pub enum ApiEvent {
    /// A MAC.
    Mac(MacEvent),
    /// A BGP session.
    Bgp(BgpEvent),
    /// An unknown destination.
    Miss(MissEvent),
    /// A port.
    Port(PortEvent),
    /// The client did not read fast enough.
    Lost {
        /// So many events were not sent since the one before.
        lost: u64,
    },
}

impl ApiEvent {
    /// What it is about; `None` = every subscriber must know.
    #[must_use]
    pub const fn topic(&self) -> Option<Topic> {
        match self {
            Self::Mac(_) => Some(Topic::Mac),
            Self::Bgp(_) => Some(Topic::Bgp),
            Self::Miss(_) => Some(Topic::Miss),
            Self::Port(_) => Some(Topic::Port),
            Self::Lost { .. } => None,
        }
    }

    /// The notification that carries it.
    #[must_use]
    pub fn notification(&self) -> Value {
        json!({"jsonrpc": "2.0", "method": "event", "params": self})
    }
}
