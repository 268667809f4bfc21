//! Events for clients that have subscribed with `monitor.subscribe`: one notification per line.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vtep_dataplane::addr::{MacAddr, Vni, VtepAddr};

use super::serde_form::{optional_text, optional_vni, text, vni};
use super::show::PortState;
use crate::config::PortKey;

/// Topic of events.
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
    /// Replaces the previous topics of the connection; empty = none.
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
    /// It moved to another port or VTEP.
    Moved,
    /// It was removed.
    Removed,
    /// Another VTEP announces a local MAC.
    Claimed,
    /// It moved too often and is frozen at its location.
    Frozen,
    /// It may move again.
    Unfrozen,
    /// An address moved to it from another MAC.
    #[serde(rename = "address-moved")]
    AddressMoved,
    /// A limit, or another host, keeps the MAC or an address of it from being learned.
    Refused,
}

impl MacChange {
    /// Its word in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Moved => "moved",
            Self::Removed => "removed",
            Self::Claimed => "claimed",
            Self::Frozen => "frozen",
            Self::Unfrozen => "unfrozen",
            Self::AddressMoved => "address-moved",
            Self::Refused => "refused",
        }
    }
}

/// A MAC was added, moved or removed.
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
    /// The port of a local MAC.
    #[serde(with = "optional_text")]
    pub port: Option<PortKey>,
    /// The VTEP of a remote MAC, or the one that announces a local MAC.
    #[serde(with = "optional_text")]
    pub vtep: Option<VtepAddr>,
    /// Sequence of MAC mobility (RFC 7432 section 7.7).
    pub sequence: u32,
    /// The address that moved or was refused.
    pub ip: Option<IpAddr>,
    /// Why it was refused.
    pub reason: Option<String>,
}

impl MacEvent {
    /// An event without a place.
    #[must_use]
    pub const fn new(event: MacChange, vni: Vni, mac: MacAddr) -> Self {
        Self {
            event,
            vni,
            mac,
            port: None,
            vtep: None,
            sequence: 0,
            ip: None,
            reason: None,
        }
    }
}

/// What happened to a BGP session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionEvent {
    /// It was established.
    Established,
    /// It ended.
    Ended,
    /// An attempt to establish it failed.
    Failed,
}

/// A BGP session changed, or could not be established.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpEvent {
    /// The neighbor.
    pub neighbor: IpAddr,
    /// What happened.
    pub event: SessionEvent,
    /// The new state of the session, as in `show.bgp.summary`.
    pub state: super::bgp::SessionState,
    /// Why a session ended or was not established.
    pub reason: Option<String>,
}

/// A frame had an unknown destination, or requested an unknown address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissEvent {
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// An unknown destination MAC, to be added with `fdb.add`.
    #[serde(with = "optional_text")]
    pub mac: Option<MacAddr>,
    /// An unknown address that ARP or ND requested, to be added with `neigh.add`.
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
    /// The new state.
    pub state: PortState,
    /// Why it is not up.
    pub reason: Option<String>,
}

/// An event: the `params` of a notification.
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
        /// Number of events lost since the previous one.
        lost: u64,
    },
}

impl ApiEvent {
    /// Its topic; `None` = for every subscriber.
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
