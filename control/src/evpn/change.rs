//! What comes out of an [`super::EvpnSpeaker`]: changes of the tables, and events.

use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

/// Who an entry comes from, the strongest first: local truth, then static configuration, then EVPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryOrigin {
    /// A port of ours.
    Local,
    /// Static configuration or the control socket.
    Static,
    /// A route.
    Evpn,
}

/// One change of the tables, the result of all three origins: to be applied in order, each as it is.
///
/// Flood membership has reference counts by source in the instance: `FloodAdd` comes with the first source of a
/// VTEP, `FloodDel` when the last is gone. A `MacSet` overwrites what the table holds for the MAC. An entry
/// for a local MAC is written by the owner of the ports; `MacDel` follows when it leaves and nobody else has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableChange {
    /// Broadcast of the VNI goes to the VTEP too.
    FloodAdd(Vni, VtepAddr),
    /// Broadcast of the VNI no longer goes to the VTEP.
    FloodDel(Vni, VtepAddr),
    /// The MAC is behind the VTEP.
    MacSet {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
        /// Where it is.
        vtep: VtepAddr,
        /// Who says so: [`EntryOrigin::Static`] or [`EntryOrigin::Evpn`].
        origin: EntryOrigin,
    },
    /// Nobody says where the MAC is.
    MacDel {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
    },
    /// ARP and neighbour discovery for the address are answered with the MAC.
    NeighborSet {
        /// The VNI.
        vni: Vni,
        /// The address.
        ip: IpAddr,
        /// The host that has it.
        mac: HostMac,
        /// The host is an IPv6 router: the R flag of an answer (RFC 9047).
        router: bool,
        /// Who says so.
        origin: EntryOrigin,
    },
    /// The address is not known.
    NeighborDel {
        /// The VNI.
        vni: Vni,
        /// The address.
        ip: IpAddr,
    },
}
