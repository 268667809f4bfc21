//! Table changes: what the FIB writes.

use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

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

/// One table change, the result of all three origins: to be applied in order, without further
/// checks.
///
/// `FloodAdd` comes with the first source of a flood list entry, `FloodDel` when the last is gone:
/// the speaker counts the sources. A `MacSet` overwrites what the table holds for the MAC. The
/// entry of a local MAC is written by the owner of the ports; `MacDel` follows when the MAC is
/// removed and no other origin has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        /// The VTEP.
        vtep: VtepAddr,
        /// The origin: [`EntryOrigin::Static`] or [`EntryOrigin::Evpn`].
        origin: EntryOrigin,
    },
    /// The MAC has no entry.
    MacDel {
        /// The VNI.
        vni: Vni,
        /// The MAC.
        mac: HostMac,
    },
    /// ARP and neighbor discovery for the address are answered with the MAC.
    NeighborSet {
        /// The VNI.
        vni: Vni,
        /// The address.
        ip: IpAddr,
        /// The MAC.
        mac: HostMac,
        /// It is an IPv6 router: the R flag of the answer (RFC 9047).
        router: bool,
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
