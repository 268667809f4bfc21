//! What comes out of an [`super::EvpnSpeaker`]: changes of the tables, and events.

use std::fmt;
use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::NeighborId;

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

/// What happened that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvpnEvent {
    /// The MAC went from one VTEP to another; None is this one.
    Moved {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
        /// Where it was.
        from: Option<VtepAddr>,
        /// Where it is.
        to: Option<VtepAddr>,
        /// The mobility sequence that won.
        sequence: u32,
    },
    /// Another VTEP claims a MAC that is attached here. The local entry stays.
    Contested {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
        /// Who claims it.
        vtep: VtepAddr,
        /// Its mobility sequence.
        sequence: u32,
    },
    /// A MAC that was learned from frames is elsewhere now: its owner here must forget it.
    LearnedGone {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
        /// Where it is.
        vtep: VtepAddr,
    },
    /// The MAC moved too often: its entry stays as it is.
    Frozen {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
    },
    /// The MAC may move again.
    Unfrozen {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
    },
    /// A VNI has as many MACs of EVPN as it may have; told once, until there is room again.
    LimitReached {
        /// The VNI.
        vni: Vni,
        /// The limit.
        limit: u32,
    },
    /// A type 3 route whose tunnel endpoint is not its originator; broadcast goes to the endpoint.
    EndpointMismatch {
        /// The VNI.
        vni: Vni,
        /// Where broadcast goes.
        endpoint: IpAddr,
        /// Who sent the route.
        originator: IpAddr,
    },
    /// Routes came back to us, or went round: ignored.
    Looped {
        /// Who sent them.
        neighbor: NeighborId,
        /// How many in this message.
        routes: u32,
    },
}

/// Why a route is, or is not, in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteStatus {
    /// It is in the tables.
    Installed,
    /// A better path of the same route is used.
    NotBest,
    /// Another route for the same MAC or address is used.
    LostMobility,
    /// A host here has the MAC or the address.
    LocalWins,
    /// Static configuration has the MAC or the address.
    StaticWins,
    /// Our AS, router identifier or cluster is in its path already.
    Looped,
    /// The next hop is this VTEP.
    OwnNextHop,
    /// The next hop, or the tunnel endpoint, can be no VTEP.
    Martian,
    /// Neither label nor tag is a VNI.
    NoVni,
    /// The VNI is not configured here.
    UnknownVni,
    /// No route target matches the VNI's.
    NoTarget,
    /// The route is for another encapsulation than VXLAN.
    Encapsulation,
    /// The MAC is not one that a host can have.
    NotUnicast,
    /// The MAC moved too often.
    Frozen,
    /// The VNI has as many MACs as it may have.
    Limit,
    /// The broadcast tunnel is not ingress replication.
    Tunnel,
    /// Routes of this type change no table.
    NoTable,
}

impl fmt::Display for RouteStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Installed => "installed",
            Self::NotBest => "a better path is used",
            Self::LostMobility => "another route for this host is better",
            Self::LocalWins => "the host is local",
            Self::StaticWins => "a static entry is stronger",
            Self::Looped => "looped: our AS, router id or cluster is in its path",
            Self::OwnNextHop => "the next hop is this VTEP",
            Self::Martian => "the next hop can be no VTEP",
            Self::NoVni => "neither label nor tag is a VNI",
            Self::UnknownVni => "the VNI is not configured",
            Self::NoTarget => "no route target matches",
            Self::Encapsulation => "the encapsulation is not VXLAN",
            Self::NotUnicast => "the MAC is no unicast address",
            Self::Frozen => "frozen: the MAC moved too often",
            Self::Limit => "the VNI has as many MACs as it may have",
            Self::Tunnel => "the broadcast tunnel is not ingress replication",
            Self::NoTable => "routes of this type change no table",
        })
    }
}
