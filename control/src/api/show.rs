//! Requests and answers of `show`: filled by the daemon, rendered by `vtepctl`.
//!
//! Tables are paged: [`Rows::next`] is the cursor of the next page.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vtep_dataplane::addr::{MacAddr, Vni, VtepAddr};

use super::action::BgpPeer;
pub use super::interface::{AttachMode, BindMode, InterfaceRole, InterfaceRow, XdpStatistics};
use super::serde_form::{optional_text, optional_vni, text, texts, vni};
use crate::config::PortKey;

/// Selects a part of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShowQuery {
    /// Only this VNI.
    #[serde(with = "optional_vni", skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// Only this MAC (`show.mac`).
    #[serde(with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Only routes of this type, 1 to 5 (`show.bgp.routes`).
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<u8>,
    /// Only routes of this neighbor (`show.bgp.routes`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbor: Option<IpAddr>,
    /// How to group (`show.drops`).
    pub by: DropsBy,
    /// The cursor of the previous page; none = from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Limit on rows in the answer, 1..=[`MAX_ROWS`].
    pub limit: usize,
}

/// Limit on rows of one page.
pub const MAX_ROWS: usize = 5000;

impl Default for ShowQuery {
    fn default() -> Self {
        Self {
            vni: None,
            mac: None,
            kind: None,
            neighbor: None,
            by: DropsBy::Reason,
            after: None,
            limit: 1000,
        }
    }
}

/// How `show.drops` groups its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DropsBy {
    /// One row per reason.
    #[default]
    Reason,
    /// One row per port and reason.
    Port,
    /// One row per VNI and reason.
    Vni,
    /// One row per remote VTEP and reason.
    Vtep,
}

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShowRequest {
    /// [`DaemonStatus`].
    Status,
    /// [`Rows`] of [`VniRow`], in the order of VNIs.
    Vni(ShowQuery),
    /// [`Rows`] of [`MacRow`], in the order of [`MacCursor`].
    Mac(ShowQuery),
    /// [`Rows`] of [`FloodRow`], in the order of VNIs.
    Flood(ShowQuery),
    /// [`Rows`] of [`PortRow`], in the order of [`PortKey`].
    Ports(ShowQuery),
    /// [`Rows`] of [`WorkerRow`].
    Workers(ShowQuery),
    /// [`Rows`] of [`UnderlayRow`], in the order of VTEPs.
    Underlay(ShowQuery),
    /// [`Rows`] of [`DropRow`].
    Drops(ShowQuery),
    /// [`Rows`] of [`NeighborRow`], in the order of [`NeighborCursor`].
    Neighbors(ShowQuery),
    /// [`BgpSummary`](super::bgp::BgpSummary).
    BgpSummary,
    /// [`BgpNeighborDetail`](super::bgp::BgpNeighborDetail).
    BgpNeighbor(BgpPeer),
    /// [`Rows`] of [`RouteRow`](super::bgp::RouteRow), in unspecified order.
    BgpRoutes(ShowQuery),
}

/// One page of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The value of `after` for the next page; null on the last.
    pub next: Option<String>,
}

impl<T> Rows<T> {
    /// One page of `rows`, which are ordered by `key`. For tables of moderate size: it iterates
    /// from the start.
    ///
    /// # Errors
    /// `query.after` is not a cursor.
    pub fn page<K: Ord + FromStr + Display>(
        rows: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> K,
        query: &ShowQuery,
    ) -> Result<Self, String> {
        let after: Option<K> = query.cursor()?;
        let limit = query.limit.clamp(1, MAX_ROWS);
        let mut rows = rows
            .into_iter()
            .filter(|row| after.as_ref().is_none_or(|after| key(row) > *after));
        let page: Vec<_> = rows.by_ref().take(limit).collect();
        let next = rows
            .next()
            .and_then(|_| page.last())
            .map(|last| key(last).to_string());
        Ok(Self { rows: page, next })
    }
}

impl ShowQuery {
    /// The cursor in `after`.
    ///
    /// # Errors
    /// `after` is not a cursor.
    pub fn cursor<K: FromStr>(&self) -> Result<Option<K>, String> {
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                format!("invalid cursor {text:?}: must be `next` of the previous page")
            })
        };
        self.after.as_ref().map(parse).transpose()
    }
}

/// Declares a cursor of two parts, written `A/B`.
macro_rules! cursor {
    ($(#[$doc:meta])* $name:ident, $second:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub Vni, pub $second);

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.0, self.1)
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                let (vni, second) = text.split_once('/').ok_or(())?;
                Ok(Self(vni.parse().map_err(|_| ())?, second.parse().map_err(|_| ())?))
            }
        }
    };
}

cursor!(
    /// Position of a row of `show.mac`.
    MacCursor,
    MacAddr
);
cursor!(
    /// Position of a row of `show.neighbors`.
    NeighborCursor,
    IpAddr
);

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

/// `show.status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Version of the daemon.
    pub version: String,
    /// When it started, seconds since 1970.
    pub since: u64,
    /// Time since it started, seconds.
    pub uptime: u64,
    /// Reasons why it does not work as configured; empty = none.
    pub degraded: Vec<String>,
    /// Local VTEP addresses.
    #[serde(with = "texts")]
    pub addresses: Vec<VtepAddr>,
    /// UDP port for VXLAN.
    pub udp_port: u16,
    /// Number of workers.
    pub workers: usize,
    /// Sizes of the tables.
    pub tables: TableSizes,
    /// Each interface with AF_XDP sockets.
    pub interfaces: Vec<InterfaceRow>,
}

/// Sizes of the tables, entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableSizes {
    /// VNIs.
    pub vnis: usize,
    /// Tenant ports.
    pub ports: usize,
    /// MACs, local and remote.
    pub macs: usize,
    /// Remote VTEPs.
    pub vteps: usize,
    /// Neighbors.
    pub neighbors: usize,
    /// UMEM frames in all.
    pub frames: usize,
}

/// A row of `show.vni`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VniRow {
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// Tenant ports.
    pub ports: usize,
    /// VTEPs in the flood list or with a MAC behind them.
    pub remote_vteps: usize,
    /// MACs behind local ports.
    pub macs_local: usize,
    /// MACs behind remote VTEPs.
    pub macs_remote: usize,
    /// Neighbors.
    pub neighbors: usize,
    /// Frames from (rx) and to (tx) the overlay.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Origin of a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacKind {
    /// Behind a local port.
    Local,
    /// Behind a VTEP, from EVPN.
    Remote,
    /// Behind a VTEP, from the configuration.
    Static,
}

/// A row of `show.mac`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacRow {
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// The MAC.
    #[serde(with = "text")]
    pub mac: MacAddr,
    /// Its origin.
    pub kind: MacKind,
    /// The port of a local MAC.
    #[serde(with = "optional_text")]
    pub port: Option<PortKey>,
    /// The VTEP of any other MAC.
    #[serde(with = "optional_text")]
    pub vtep: Option<VtepAddr>,
    /// Sequence of MAC mobility (RFC 7432 section 7.7); null without BGP.
    pub sequence: Option<u32>,
    /// `sticky`, `frozen`, `stale`, `locked`, `learned`, `unresolved`.
    pub flags: Vec<String>,
    /// Seconds since it was added; null when it does not age.
    pub age: Option<u64>,
}

/// A row of `show.flood`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloodRow {
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// The VTEPs that get a copy, or the multicast group.
    pub vteps: Vec<IpAddr>,
    /// The local ports that get a copy.
    #[serde(with = "texts")]
    pub ports: Vec<PortKey>,
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

/// One receive queue of an interface and its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Receive queue, from 0.
    pub queue: u32,
    /// The worker that owns its socket.
    pub worker: u16,
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
    /// Null while it has no program.
    pub attach: Option<AttachMode>,
    /// Null while it has no socket.
    pub bind: Option<BindMode>,
    /// Whether frames may span several chunks (`XDP_USE_SG`). Null while it has no socket.
    pub multi_buffer: Option<bool>,
    /// Queues and their workers.
    pub queues: Vec<QueueRow>,
    /// Frames from (rx) and to (tx) the interface.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Events to the control thread (hosts seen, misses) suppressed by the rate limit of the port;
    /// the frames themselves are forwarded.
    pub events_suppressed: u64,
    /// The kernel's counters.
    pub xdp: XdpStatistics,
}

/// A row of `show.workers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// The worker, from 0.
    pub id: u16,
    /// The CPU that it is pinned to; null = not pinned.
    pub core: Option<usize>,
    /// Share of time with work, percent, since the previous request.
    pub busy: f64,
    /// Iterations of its loop.
    pub iterations: u64,
    /// Frames processed.
    pub frames: u64,
    /// Free UMEM frames of the worker.
    pub frames_free: usize,
}

/// The state of a path to a VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathState {
    /// Ready to send.
    Up,
    /// The neighbor's MAC is being resolved by the kernel.
    Resolving,
    /// Not usable; `reason` gives the cause.
    Unresolved,
}

/// A row of `show.underlay`: one path to a VTEP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderlayRow {
    /// The remote VTEP, or a multicast group.
    pub vtep: IpAddr,
    /// The state of this path.
    pub state: PathState,
    /// The gateway; null when the VTEP is on the link.
    pub via: Option<IpAddr>,
    /// The outgoing interface.
    pub device: Option<String>,
    /// The destination MAC of frames.
    #[serde(with = "optional_text")]
    pub mac: Option<MacAddr>,
    /// MTU of the path, bytes.
    pub mtu: Option<u32>,
    /// Why it is not up.
    pub reason: Option<String>,
    /// The stable name of the reason, in kebab case.
    pub error: Option<String>,
    /// Frames from (rx) and to (tx) the VTEP.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// A row of `show.drops`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// Name of the reason.
    pub reason: String,
    /// What it means.
    pub explain: String,
    /// Frames.
    pub count: u64,
    /// The port, VNI or VTEP by which the rows are grouped.
    pub by: Option<String>,
}

/// A row of `show.neighbors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborRow {
    /// The VNI.
    #[serde(with = "vni")]
    pub vni: Vni,
    /// The IP address.
    pub ip: IpAddr,
    /// Its MAC.
    #[serde(with = "text")]
    pub mac: MacAddr,
    /// Its origin.
    pub kind: MacKind,
}
