//! Requests and answers of `show`: filled by the daemon, rendered by `vtepctl`.
//!
//! Tables are paged: [`Rows::next`] is the cursor of the next page.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vtep_dataplane::addr::{MacAddr, Vni, VtepAddr};

use super::action::BgpPeer;
pub use super::cursor::{MacCursor, NeighborCursor};
pub use super::interface::{AttachMode, BindMode, InterfaceRole, InterfaceRow, Io, XdpStatistics};
pub use super::port::{LearningRow, PortRow, PortState, QueueRow, Traffic};
use super::serde_form::{optional_text, optional_vni, text, texts, vni};
use crate::bgp::wire::Esi;
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
    /// Limit on rows in the answer, 1..=[`MAX_ROWS`]; it has at most [`PAGE_ROWS`].
    pub limit: usize,
}

/// Limit on [`ShowQuery::limit`].
pub const MAX_ROWS: usize = 5000;

/// Limit on rows of one page: to build and encode one must not keep others waiting. A page of fewer
/// rows than [`ShowQuery::limit`] is not the last one if it has a cursor.
pub const PAGE_ROWS: usize = 1000;

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
    /// [`Rows`] of [`SegmentRow`](super::bgp::SegmentRow), in the order of segments and VNIs.
    BgpSegments(ShowQuery),
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
        let limit = query.rows();
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
    /// The most rows of a page.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.limit.clamp(1, PAGE_ROWS)
    }

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
    /// BGP sessions; null without `[bgp]`.
    pub bgp: Option<SessionCounts>,
    /// Sizes of the tables.
    pub tables: TableSizes,
    /// The longest turn of the control thread since the start.
    pub longest_turn: LongestIteration,
    /// Each interface with AF_XDP or packet sockets.
    pub interfaces: Vec<InterfaceRow>,
}

/// A turn of the control thread: everything that was due at once. Nothing else happens on the thread
/// meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LongestIteration {
    /// How long it took, seconds.
    pub seconds: f64,
    /// How long the thread ran in it, seconds: less when it waited for the kernel or for a core.
    pub cpu_seconds: f64,
    /// The part that took longest: `clients`, `metrics`, `sessions`, `tables`, `hosts`, `underlay`.
    pub part: String,
    /// How long that part took, seconds.
    pub part_seconds: f64,
}

/// Numbers of BGP sessions; `degraded` says why one is not established.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounts {
    /// Configured neighbors.
    pub configured: usize,
    /// Established sessions.
    pub established: usize,
    /// TCP segments that the kernel has dropped at the listening sockets: by `ttl-security`, for their
    /// TCP-MD5 signature, or because too many connections wait.
    pub listener_drops: u64,
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
    /// Addresses learned from frames.
    pub addresses: u32,
    /// Limit on them (`max-addresses`).
    pub max_addresses: u32,
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
    /// The Ethernet segment of a MAC behind several VTEPs.
    #[serde(
        with = "optional_text",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub esi: Option<Esi>,
    /// The VTEPs that a MAC behind an Ethernet segment is reachable through; `vtep` announces it.
    #[serde(with = "texts", default, skip_serializing_if = "Vec::is_empty")]
    pub vteps: Vec<VtepAddr>,
    /// Sequence of MAC mobility (RFC 7432 section 7.7); null without BGP.
    pub sequence: Option<u32>,
    /// `sticky`, `frozen`, `stale`, `locked`, `learned`, `unresolved`, `flushed`.
    pub flags: Vec<String>,
    /// Seconds since it was added; null when it does not age.
    pub age: Option<u64>,
    /// Number of addresses of a local MAC, configured and learned.
    pub addresses: Option<usize>,
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
    /// Frames dropped because their port, interface or VNI was removed while they waited.
    pub removed: u64,
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
    /// The members that frames are sent on if that is a bond, or a VLAN of one; else empty.
    pub members: Vec<String>,
    /// How VXLAN enters and leaves the interface, or the first of the members. Null while it is not
    /// open.
    pub io: Option<Io>,
    /// Why it is of this kind.
    pub io_reason: Option<String>,
    /// The destination MAC of frames.
    #[serde(with = "optional_text")]
    pub mac: Option<MacAddr>,
    /// MTU of the path, bytes.
    pub mtu: Option<u32>,
    /// The path MTU that a router or the kernel has reported, bytes; null when none is known.
    pub path_mtu: Option<u32>,
    /// The router that reported it; null when the kernel did.
    pub path_mtu_reporter: Option<IpAddr>,
    /// Seconds until it is forgotten.
    pub path_mtu_expires: Option<u64>,
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
