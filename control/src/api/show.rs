//! What `show` asks for and what it answers: the shape of the API. The engine fills it, `vtepctl` renders it.
//!
//! Tables come in pages: [`Rows::next`] is the cursor that asks for what follows.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vtep_dataplane::addr::{MacAddr, Vni, VtepAddr};

use super::action::BgpPeer;
pub use super::interface::{AttachMode, BindMode, InterfaceRole, InterfaceRow};
use super::serde_form::{optional_text, optional_vni, text, texts, vni};
use crate::config::PortKey;

/// Which part of a table.
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
    /// Only routes of this neighbour (`show.bgp.routes`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbor: Option<IpAddr>,
    /// How to group (`show.drops`).
    pub by: DropsBy,
    /// The cursor of the page before; none = from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The most rows to answer, 1..=[`MAX_ROWS`].
    pub limit: usize,
}

/// The most rows of one page.
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
    /// One row a reason.
    #[default]
    Reason,
    /// A row a port and reason.
    Port,
    /// A row a VNI and reason.
    Vni,
    /// A row a remote VTEP and reason.
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
    /// [`Rows`] of [`RouteRow`](super::bgp::RouteRow), in an order that the daemon chooses.
    BgpRoutes(ShowQuery),
}

/// One page of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The cursor for `after` to get the next page; null on the last.
    pub next: Option<String>,
}

impl<T> Rows<T> {
    /// One page of `rows`, which come in the order of `key`. For tables of moderate size: it walks from the start.
    ///
    /// # Errors
    /// The remedy when `query.after` is no cursor.
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
    /// The remedy when it is none.
    pub fn cursor<K: FromStr>(&self) -> Result<Option<K>, String> {
        let parse = |text: &String| {
            text.parse()
                .map_err(|_| format!("after: {text:?} is no cursor; pass on what `next` said"))
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
    /// The place of a row of `show.mac`.
    MacCursor,
    MacAddr
);
cursor!(
    /// The place of a row of `show.neighbors`.
    NeighborCursor,
    IpAddr
);

/// Frames and bytes both ways.
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
    /// How long it runs, seconds.
    pub uptime: u64,
    /// Why it does not work as configured; empty = all is well.
    pub degraded: Vec<String>,
    /// Our VTEP addresses.
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
    /// Neighbours.
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
    /// MACs behind our ports.
    pub macs_local: usize,
    /// MACs behind other VTEPs.
    pub macs_remote: usize,
    /// Neighbours.
    pub neighbors: usize,
    /// Frames from (rx) and to (tx) the overlay.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Where a MAC comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacKind {
    /// Behind one of our ports.
    Local,
    /// Behind a VTEP, as EVPN says.
    Remote,
    /// Behind a VTEP, as configured.
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
    /// Where it comes from.
    pub kind: MacKind,
    /// The port of a local MAC.
    #[serde(with = "optional_text")]
    pub port: Option<PortKey>,
    /// The VTEP of any other.
    #[serde(with = "optional_text")]
    pub vtep: Option<VtepAddr>,
    /// Sequence of MAC mobility (RFC 7432 section 7.7); null where BGP has no part in it.
    pub sequence: Option<u32>,
    /// `sticky`, `frozen`, `stale`, `locked`, `learned`, `unresolved`.
    pub flags: Vec<String>,
    /// Seconds since it came; null when it does not age.
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
    /// There is no such interface.
    Absent,
    /// Set-up failed; `reason` says why.
    Failed,
}

/// One receive queue of an interface and who serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Receive queue, from 0.
    pub queue: u32,
    /// The worker that owns its socket.
    pub worker: u16,
}

/// Counters of AF_XDP sockets (`struct xdp_statistics`, linux/if_xdp.h), summed over queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct XdpStatistics {
    /// Dropped for other reasons than those below.
    pub rx_dropped: u64,
    /// Dropped for invalid descriptors in the receive direction.
    pub rx_invalid_descs: u64,
    /// Invalid descriptors that we gave for sending.
    pub tx_invalid_descs: u64,
    /// Dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times the fill ring was found empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Times the transmit ring was found empty.
    pub tx_ring_empty_descs: u64,
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
    /// What it is for.
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
    /// Notices to the control thread (hosts seen, misses) beyond what the port may tell a second: held back, not lost for
    /// the frames, which went on.
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
    /// Share of time with work, percent, since the last look.
    pub busy: f64,
    /// Turns of its loop.
    pub iterations: u64,
    /// Frames processed.
    pub frames: u64,
    /// UMEM frames that it has free.
    pub frames_free: usize,
}

/// The state of the way to a VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathState {
    /// Ready to send.
    Up,
    /// The kernel is asked for the neighbour's MAC.
    Resolving,
    /// No way; `reason` says why.
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
    /// The interface that frames leave by.
    pub device: Option<String>,
    /// The MAC that frames go to.
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
    /// The name of the reason.
    pub reason: String,
    /// What it means.
    pub explain: String,
    /// Frames.
    pub count: u64,
    /// The port, VNI or VTEP when grouped so.
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
    /// Where it comes from.
    pub kind: MacKind,
}
