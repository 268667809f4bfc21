//! Table changes: what the FIB writes.

use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};
use vtep_dataplane::wire::nd::NdFlags;

use crate::bgp::wire::Esi;

/// Where an entry comes from, in the order of priority: local, static, EVPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryOrigin {
    /// A local port.
    Local,
    /// Static configuration or the control socket.
    Static,
    /// An EVPN route.
    Evpn,
}

/// The MACs behind an Ethernet segment that one VTEP announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentKey {
    /// The Ethernet segment.
    pub esi: Esi,
    /// The VTEP that announces the MACs.
    pub vtep: VtepAddr,
}

/// One table change, the result of all three origins: to be applied in order, without further
/// checks.
///
/// `FloodAdd` comes with the first source of a flood list entry, `FloodDel` when the last is gone:
/// the speaker counts the sources. A `MacSet` overwrites what the table holds for the MAC. The
/// entry of a local MAC is written by the owner of the ports; `MacDel` follows when the MAC is
/// removed and no other origin has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// Broadcast of the VNI is replicated to the VTEP too.
    FloodAdd(Vni, VtepAddr),
    /// Broadcast of the VNI is no longer replicated to the VTEP.
    FloodDel(Vni, VtepAddr),
    /// The MAC is behind the VTEP.
    MacSet {
        /// The VNI.
        vni: Vni,
        /// The MAC.
        mac: HostMac,
        /// The VTEP: that of the route for it.
        vtep: VtepAddr,
        /// The Ethernet segment that it is on: it is reachable through the VTEPs of the last
        /// [`TableChange::SegmentSet`] for this segment and `vtep`. Zero: through `vtep`.
        esi: Esi,
        /// The origin: [`EntryOrigin::Static`] or [`EntryOrigin::Evpn`].
        origin: EntryOrigin,
    },
    /// MACs with this segment are reachable through these VTEPs; none: not at all.
    SegmentSet {
        /// The VNI.
        vni: Vni,
        /// The segment, and the VTEP that announces the MACs.
        segment: SegmentKey,
        /// The VTEPs, in order.
        members: Vec<VtepAddr>,
    },
    /// No MAC has the segment any more.
    SegmentDel(Vni, SegmentKey),
    /// The MAC has no entry.
    MacDel {
        /// The VNI.
        vni: Vni,
        /// The MAC.
        mac: HostMac,
    },
    /// The paths to the VTEP are to be resolved, or no longer, whether an entry refers to it or not.
    VtepWatch(VtepAddr, bool),
    /// ARP and neighbor discovery for the address are answered with the MAC.
    NeighborSet {
        /// The VNI.
        vni: Vni,
        /// The address.
        ip: IpAddr,
        /// The MAC.
        mac: HostMac,
        /// The flags of advertisements, if they are known (RFC 9047).
        nd: Option<NdFlags>,
        /// The origin.
        origin: EntryOrigin,
    },
    /// The address has no entry.
    NeighborDel {
        /// The VNI.
        vni: Vni,
        /// The address.
        ip: IpAddr,
    },
}
