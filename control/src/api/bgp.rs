//! What `show.bgp` answers.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use vtep_dataplane::addr::MacAddr;

use super::serde_form::{optional_text, rd, targets};
use crate::bgp::wire::{ExtendedCommunity, Rd};

/// The states of RFC 4271 section 8.2.2, and one of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// Waiting after an error.
    Idle,
    /// Shut down by an operator.
    Shutdown,
    /// A TCP connection is being opened.
    Connect,
    /// Waiting for the neighbour, or for the next try.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// Both OPENs are there.
    OpenConfirm,
    /// Routes flow.
    Established,
}

impl From<&crate::bgp::PeerStatus> for SessionState {
    fn from(status: &crate::bgp::PeerStatus) -> Self {
        use crate::bgp::FsmState;
        match status.state {
            FsmState::Idle if !status.enabled => Self::Shutdown,
            FsmState::Idle => Self::Idle,
            FsmState::Connect => Self::Connect,
            FsmState::Active => Self::Active,
            FsmState::OpenSent => Self::OpenSent,
            FsmState::OpenConfirm => Self::OpenConfirm,
            FsmState::Established => Self::Established,
        }
    }
}

/// A row of `show.bgp.summary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryRow {
    /// The neighbour.
    pub address: IpAddr,
    /// What the configuration calls it.
    pub description: Option<String>,
    /// The AS that it must have.
    pub remote_as: u32,
    /// The state of the session.
    pub state: SessionState,
    /// How long it is established, seconds; null when it is not.
    pub uptime: Option<u64>,
    /// Messages read.
    pub messages_received: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Routes that the neighbour announces.
    pub routes_received: u64,
    /// Those of them that are in our tables.
    pub routes_installed: u64,
    /// Routes that the neighbour is told.
    pub routes_advertised: u64,
    /// Why the last session ended.
    pub last_down: Option<String>,
}

/// The answer of `show.bgp.summary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpSummary {
    /// Our AS.
    pub asn: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Routes of all neighbours.
    pub routes: u64,
    /// The neighbours, by address.
    pub neighbors: Vec<SummaryRow>,
}

/// Graceful restart of a neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRow {
    /// Seconds that the neighbour may be away.
    pub restart_time: u64,
    /// The neighbour kept its forwarding state when it restarted.
    pub preserved: bool,
    /// Routes of it that are stale now.
    pub stale_routes: u64,
}

/// The answer of `show.bgp.neighbor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpNeighborDetail {
    /// What the summary says.
    #[serde(flatten)]
    pub summary: SummaryRow,
    /// The address that we connect from; null = the kernel chooses.
    pub local_address: Option<IpAddr>,
    /// TCP port.
    pub port: u16,
    /// We wait for the neighbour to connect.
    pub passive: bool,
    /// TCP-MD5 is on.
    pub password: bool,
    /// Hops that the neighbour may be away (GTSM).
    pub ttl_security: Option<u8>,
    /// The BGP identifier of the neighbour.
    pub router_id: Option<Ipv4Addr>,
    /// Host name that it told.
    pub hostname: Option<String>,
    /// Software that it told.
    pub software: Option<String>,
    /// Capabilities that both sides have, by name.
    pub capabilities: Vec<String>,
    /// Hold time that was agreed, seconds.
    pub hold_time: Option<u64>,
    /// Time between keepalives, seconds.
    pub keepalive: Option<u64>,
    /// When Idle ends by itself, seconds from now.
    pub idle_for: Option<u64>,
    /// How often the session was established.
    pub established: u64,
    /// It is established for a minute and has brought no UPDATE, not even End-of-RIB, while other sessions have.
    pub silent: bool,
    /// UPDATEs whose routes were treated as withdrawn (RFC 7606).
    pub treated_as_withdrawn: u64,
    /// UPDATEs of which attributes were discarded.
    pub attributes_discarded: u64,
    /// Routes of unknown types.
    pub routes_skipped: u64,
    /// Octets that wait to be sent.
    pub queued: u64,
    /// Most routes that it may announce.
    pub max_prefixes: Option<u32>,
    /// Null where it is not negotiated.
    pub graceful_restart: Option<RestartRow>,
}

/// A row of `show.bgp.routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// Who announced it; null for our own.
    pub neighbor: Option<IpAddr>,
    /// Route distinguisher.
    #[serde(with = "rd")]
    pub rd: Rd,
    /// Route type, 1 to 5.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Ethernet tag.
    pub tag: u32,
    /// The MAC of type 2.
    #[serde(with = "optional_text")]
    pub mac: Option<MacAddr>,
    /// The address of type 2, where it has one.
    pub ip: Option<IpAddr>,
    /// The originator of types 3 and 4.
    pub originator: Option<IpAddr>,
    /// Address and length of type 5.
    pub prefix: Option<String>,
    /// Next hop.
    pub next_hop: IpAddr,
    /// VNI of the label, or of the tag where the label is 0.
    pub vni: Option<u32>,
    /// Route targets.
    #[serde(with = "targets")]
    pub route_targets: Vec<ExtendedCommunity>,
    /// AS_PATH, as people write it.
    pub as_path: String,
    /// Sequence of MAC mobility.
    pub sequence: u32,
    /// The MAC never moves.
    pub sticky: bool,
    /// The best of the routes with this key.
    pub best: bool,
    /// It is in our tables.
    pub installed: bool,
    /// Why it is not in our tables.
    pub unused_reason: Option<String>,
    /// The neighbour is away and its route is kept.
    pub stale: bool,
}
