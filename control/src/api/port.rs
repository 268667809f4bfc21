//! The row of `show.ports`, and traffic, which other rows have too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vtep_dataplane::addr::Vni;

use super::interface::{AttachMode, BindMode, InterfaceRole, Io, XdpStatistics};
use super::serde_form::optional_vni;

/// Frames and bytes in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames dropped, for any reason.
    pub drops: u64,
}

/// The state of a tenant port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// Frames pass.
    Up,
    /// Its interface is down.
    Down,
    /// The interface does not exist.
    Absent,
    /// Setup failed; `reason` gives the cause.
    Failed,
}

/// One receive queue of an interface, or one of its packet sockets, and its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Receive queue or packet socket, from 0.
    pub queue: u32,
    /// The worker that owns its socket. Null: it has no socket.
    pub worker: Option<u16>,
    /// Frames dropped on it while it had no socket; of packet sockets, all are in the first row.
    pub no_socket: u64,
}

/// What was learned from frames on a port, and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearningRow {
    /// MACs.
    pub macs: u32,
    /// Limit on them (`learn-limit`); null when the port learns none.
    pub learn_limit: Option<u32>,
    /// Addresses.
    pub addresses: u32,
    /// Limit on the addresses of one MAC (`learn-addresses`).
    pub learn_addresses: u32,
    /// Limit on the addresses of the port (`max-addresses`).
    pub max_addresses: u32,
    /// What a limit, or another host, kept from being learned, by reason. Reasons without a refusal
    /// are left out.
    pub refused: BTreeMap<String, u64>,
}

/// A row of `show.ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRow {
    /// The Linux interface.
    pub interface: String,
    /// The VLAN of a trunk.
    pub vlan: Option<u16>,
    /// The VNI of a tenant port; null for the underlay.
    #[serde(with = "optional_vni")]
    pub vni: Option<Vni>,
    /// Its role.
    pub role: InterfaceRole,
    /// Its state.
    pub state: PortState,
    /// Why it is not up.
    pub reason: Option<String>,
    /// How its frames enter and leave. Null while the interface is not open.
    pub io: Option<Io>,
    /// Why it is this `io`. Null while the interface is not open.
    pub io_reason: Option<String>,
    /// What senders on the interface may leave to vtepd: `checksum`, and segmentation of TCP (`tso`)
    /// and UDP (`uso`).
    pub offloads: Vec<String>,
    /// Frames of the host that were kept from the tenant. Null where only the tenant's frames are
    /// seen.
    pub host_frames: Option<u64>,
    /// Null while it has no XDP program.
    pub attach: Option<AttachMode>,
    /// Null while it has no AF_XDP socket.
    pub bind: Option<BindMode>,
    /// Whether frames may span several chunks (`XDP_USE_SG`). Null while the interface is not open.
    pub multi_buffer: Option<bool>,
    /// Queues and their workers.
    pub queues: Vec<QueueRow>,
    /// Frames from (rx) and to (tx) the interface.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Events to the control thread (hosts seen, misses) suppressed by the rate limit of the port;
    /// the frames themselves are forwarded.
    pub events_suppressed: u64,
    /// What was learned on a tenant port, and its limits.
    pub learning: Option<LearningRow>,
    /// The kernel's counters.
    pub xdp: XdpStatistics,
}
