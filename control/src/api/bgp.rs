//! The answers of `show.bgp`.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use vtep_dataplane::addr::{MacAddr, Vni, VtepAddr};

use super::serde_form::{optional_text, rd, targets, text, vni};
use crate::bgp::wire::{Esi, ExtendedCommunity, Rd};

/// The states of RFC 4271 section 8.2.2, and administrative shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// Waiting after an error.
    Idle,
    /// Shut down by an operator.
    Shutdown,
    /// A TCP connection is being opened.
    Connect,
    /// Waiting for the neighbor, or for the next attempt to connect.
    Active,
    /// OPEN sent.
    OpenSent,
    /// OPEN sent and received.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl SessionState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Idle,
        Self::Shutdown,
        Self::Connect,
        Self::Active,
        Self::OpenSent,
        Self::OpenConfirm,
        Self::Established,
    ];
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
    /// The neighbor.
    pub address: IpAddr,
    /// Its description in the configuration.
    pub description: Option<String>,
    /// The AS that it must have.
    pub remote_as: u32,
    /// The state of the session.
    pub state: SessionState,
    /// Time since it was established, seconds; null when it is not.
    pub uptime: Option<u64>,
    /// Messages read.
    pub messages_received: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Routes received from the neighbor.
    pub routes_received: u64,
    /// Routes of it that are installed.
    pub routes_installed: u64,
    /// Routes advertised to the neighbor.
    pub routes_advertised: u64,
    /// Why the last session ended, or if none was established, why the last attempt failed.
    pub last_down: Option<String>,
    /// Time since the last session ended, seconds; null while one is established, or if none was.
    pub down_for: Option<u64>,
    /// Why the session is not established.
    pub not_established: Option<NotEstablished>,
}

/// Why a session is not established.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotEstablished {
    /// `shutdown`, `max-prefixes`, `session-ended`, `open-failed`, `connect-failed` or `waiting`.
    pub cause: String,
    /// The cause in words, and what has happened since.
    pub reason: String,
}

/// When and why something ended or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastEvent {
    /// How long ago, seconds.
    pub ago: u64,
    /// Why.
    pub reason: String,
}

/// The answer of `show.bgp.summary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpSummary {
    /// Local AS.
    pub asn: u32,
    /// Local BGP identifier.
    pub router_id: Ipv4Addr,
    /// Routes of all neighbors.
    pub routes: u64,
    /// The neighbors, by address.
    pub neighbors: Vec<SummaryRow>,
}

/// Graceful restart of a neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRow {
    /// Restart time of the neighbor, seconds.
    pub restart_time: u64,
    /// The neighbor preserved its forwarding state when it restarted.
    pub preserved: bool,
    /// Its stale routes.
    pub stale_routes: u64,
}

/// The answer of `show.bgp.neighbor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpNeighborDetail {
    /// Its row of the summary.
    #[serde(flatten)]
    pub summary: SummaryRow,
    /// Source address of the session; null = chosen by the kernel.
    pub local_address: Option<IpAddr>,
    /// TCP port.
    pub port: u16,
    /// vtepd never connects; it waits for the neighbor to connect.
    pub passive: bool,
    /// TCP-MD5 is on.
    pub password: bool,
    /// Maximum number of hops to the neighbor (GTSM).
    pub ttl_security: Option<u8>,
    /// The BGP identifier of the neighbor.
    pub router_id: Option<Ipv4Addr>,
    /// Host name that it announced.
    pub hostname: Option<String>,
    /// Software version that it announced.
    pub software: Option<String>,
    /// Capabilities that both sides have, by name.
    pub capabilities: Vec<String>,
    /// Negotiated hold time, seconds.
    pub hold_time: Option<u64>,
    /// Keepalive interval, seconds.
    pub keepalive: Option<u64>,
    /// Time until Idle ends, seconds.
    pub idle_for: Option<u64>,
    /// Number of times the session was established.
    pub established: u64,
    /// The session has been established for a minute without an UPDATE, not even End-of-RIB.
    pub silent: bool,
    /// The last end of an established session.
    pub last_session_ended: Option<PastEvent>,
    /// The last connection that ended with a NOTIFICATION before the session was established.
    pub last_open_failed: Option<PastEvent>,
    /// The last connection that could not be opened, or was closed without a NOTIFICATION before
    /// the session was established.
    pub last_connect_failed: Option<PastEvent>,
    /// How many attempts to establish the session failed.
    pub failed_attempts: u64,
    /// UPDATEs whose routes were treated as withdrawn (RFC 7606).
    pub treated_as_withdrawn: u64,
    /// UPDATEs with discarded attributes (RFC 7606).
    pub attributes_discarded: u64,
    /// Routes of unknown type.
    pub routes_skipped: u64,
    /// Type 2 routes whose MAC is used, but not their address, which no host can have.
    pub invalid_addresses: u64,
    /// Octets queued for sending.
    pub queued: u64,
    /// Limit on its routes.
    pub max_prefixes: Option<u32>,
    /// Null where it is not negotiated.
    pub graceful_restart: Option<RestartRow>,
}

/// A row of `show.bgp.routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// The neighbor that announced it; null for a local route.
    pub neighbor: Option<IpAddr>,
    /// Route distinguisher.
    #[serde(with = "rd")]
    pub rd: Rd,
    /// Route type.
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
    /// AS_PATH as text.
    pub as_path: String,
    /// Sequence of MAC mobility.
    pub sequence: u32,
    /// The MAC is sticky.
    pub sticky: bool,
    /// The best of the routes with this key.
    pub best: bool,
    /// It is installed.
    pub installed: bool,
    /// Why it is not installed.
    pub unused_reason: Option<String>,
    /// Something unusual about a route that is installed.
    pub note: Option<String>,
    /// Stale: the session is down and the route is kept (graceful restart).
    pub stale: bool,
}

/// A VTEP of an Ethernet segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMemberRow {
    /// The VTEP.
    #[serde(with = "text")]
    pub vtep: VtepAddr,
    /// It has announced the Ethernet A-D route per ES.
    pub per_es: bool,
    /// It has announced the Ethernet A-D route per EVI.
    pub per_evi: bool,
    /// MACs behind the segment by its routes.
    pub macs: u32,
    /// Frames to MACs behind the segment may be sent to it.
    pub used: bool,
}

/// A row of `show.bgp.segments`: an Ethernet segment of other VTEPs in a VNI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// The segment.
    #[serde(with = "text")]
    pub esi: Esi,
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// One VTEP forwards at a time (RFC 7432 section 14.1.1); else all do.
    pub single_active: bool,
    /// Its VTEPs, in order.
    pub vteps: Vec<SegmentMemberRow>,
}

impl SegmentRow {
    /// Its cursor, whose order is that of the rows.
    #[must_use]
    pub fn cursor(&self) -> String {
        format!("{}/{:08}", self.esi, self.vni.get())
    }
}
