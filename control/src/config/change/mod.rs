//! Changes: the only way that a configuration changes, whether from the file or the control socket.
//!
//! ```text
//! Change   -> Config::apply   checked against the whole configuration; rejected = nothing changed
//! [Change] -> apply_all       in order, all or none: on failure what was applied is undone
//! ```
//!
//! Each kind of entry is a file here; [`KINDS`] lists them, and `step` selects the one that applies
//! a change.

mod apply;
mod bgp;
mod fdb;
mod flood;
pub(super) mod kind;
mod neighbor;
mod port;
mod vni;

use std::net::IpAddr;
use std::time::Duration;

use vtep_dataplane::addr::{AddrError, HostMac, Vni, VtepAddr};

pub(super) use self::bgp::diff as bgp_diff;
use self::kind::EntryKind;
pub use self::vni::content_changes as vni_content;
pub(super) use self::vni::diff as vni_diff;
use super::bgp::BgpSettings;
use super::bgp_neighbor::BgpNeighbor;
use super::group::GroupAddr;
use super::interface::{InterfaceName, PortKey};
use super::model::{Config, FdbEntry, NeighborEntry, VniConfig};
use super::port::Port;
use super::subject::Subject;
use super::vni::VniSettings;
use super::vtep::Tunnel;
use crate::bgp::wire::Rd;

/// The kinds of entries of a VNI, in the order in which they are loaded and saved.
pub(super) const KINDS: &[&dyn EntryKind] = &[
    &port::Ports,
    &flood::FloodList,
    &fdb::Fdb,
    &neighbor::Neighbors,
];

/// Limit on VNIs: bridge domains have 16-bit numbers.
pub const MAX_VNIS: usize = 65_535;
/// Limit on tenant ports: the size of the workers' tables.
pub const MAX_PORTS: usize = 4096;
/// Limit on interfaces: those of as many ports as there can be, and of the underlay.
pub const MAX_INTERFACES: usize = MAX_PORTS + 256;

/// One step from one valid configuration to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// New settings for all outer headers.
    Tunnel(Tunnel),
    /// A new, empty VNI.
    VniAdd {
        /// The VNI.
        vni: Vni,
        /// Its settings.
        settings: VniSettings,
    },
    /// New settings for a VNI that exists.
    VniSet {
        /// The VNI.
        vni: Vni,
        /// Its new settings.
        settings: VniSettings,
    },
    /// A VNI is deleted, with its ports, flood list, FDB and neighbors.
    VniDel {
        /// The VNI.
        vni: Vni,
    },
    /// A new port.
    PortAdd {
        /// Its VNI.
        vni: Vni,
        /// The port.
        port: Port,
    },
    /// New settings for a port that exists in this VNI.
    PortSet {
        /// Its VNI.
        vni: Vni,
        /// The port with its new settings.
        port: Port,
    },
    /// A port is deleted, with its local MACs.
    PortDel {
        /// Its VNI.
        vni: Vni,
        /// The port.
        port: PortKey,
    },
    /// A static remote MAC.
    FdbAdd {
        /// The VNI.
        vni: Vni,
        /// The remote host.
        mac: HostMac,
        /// The VTEP that it is behind.
        vtep: VtepAddr,
        /// How long it stays; `None` = forever. Adding an entry with a lifetime again renews it.
        lifetime: Option<Duration>,
    },
    /// A static remote MAC is deleted.
    FdbDel {
        /// The VNI.
        vni: Vni,
        /// The remote host.
        mac: HostMac,
    },
    /// BUM frames are sent to a multicast group.
    GroupAdd {
        /// The VNI.
        vni: Vni,
        /// The group.
        group: GroupAddr,
    },
    /// BUM frames are no longer sent to a multicast group.
    GroupDel {
        /// The VNI.
        vni: Vni,
        /// The group.
        group: GroupAddr,
    },
    /// New settings of BGP, which start it if it was off; `None` ends it, and requires that no
    /// neighbor is left.
    BgpSet {
        /// The new settings.
        settings: Option<BgpSettings>,
    },
    /// A new BGP neighbor.
    BgpNeighborAdd {
        /// The neighbor.
        neighbor: Box<BgpNeighbor>,
    },
    /// New settings for a BGP neighbor that exists.
    BgpNeighborSet {
        /// The neighbor with its new settings.
        neighbor: Box<BgpNeighbor>,
    },
    /// A BGP neighbor is deleted, with its routes.
    BgpNeighborDel {
        /// Its address.
        address: IpAddr,
    },
    /// A VTEP is added to the static flood list.
    FloodAdd {
        /// The VNI.
        vni: Vni,
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// A VTEP is deleted from the static flood list.
    FloodDel {
        /// The VNI.
        vni: Vni,
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// A static neighbor entry.
    NeighborAdd {
        /// The VNI.
        vni: Vni,
        /// Its IP address.
        ip: IpAddr,
        /// Its MAC.
        mac: HostMac,
        /// It is an IPv6 router.
        router: bool,
        /// As in [`Change::FdbAdd`].
        lifetime: Option<Duration>,
    },
    /// A static neighbor entry is deleted.
    NeighborDel {
        /// The VNI.
        vni: Vni,
        /// Its IP address.
        ip: IpAddr,
    },
}

impl Change {
    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::Tunnel(_) => Subject::Vtep,
            Self::VniAdd { vni, .. } | Self::VniSet { vni, .. } | Self::VniDel { vni } => {
                Subject::Vni(*vni)
            }
            Self::PortAdd { vni, port } | Self::PortSet { vni, port } => {
                Subject::Port(*vni, port.key.clone())
            }
            Self::PortDel { vni, port } => Subject::Port(*vni, port.clone()),
            Self::FdbAdd { vni, mac, .. } | Self::FdbDel { vni, mac } => Subject::Fdb(*vni, *mac),
            Self::GroupAdd { vni, group } | Self::GroupDel { vni, group } => {
                Subject::Flood(*vni, group.get())
            }
            Self::FloodAdd { vni, vtep } | Self::FloodDel { vni, vtep } => {
                Subject::Flood(*vni, VtepAddr::get(*vtep))
            }
            Self::BgpSet { .. } => Subject::Bgp,
            Self::BgpNeighborAdd { neighbor } | Self::BgpNeighborSet { neighbor } => {
                Subject::BgpNeighbor(neighbor.address)
            }
            Self::BgpNeighborDel { address } => Subject::BgpNeighbor(*address),
            Self::NeighborAdd { vni, ip, .. } | Self::NeighborDel { vni, ip } => {
                Subject::Neighbor(*vni, *ip)
            }
        }
    }
}

/// Why a change conflicts with the running configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant describes it")]
pub enum ChangeError {
    #[error(transparent)]
    Address(AddrError),
    #[error("VNI {0} exists already; each VNI has one entry")]
    VniExists(Vni),
    #[error(
        "{rd} is already the route distinguisher of VNI {vni}; give each VNI its own, or write \
         \"auto\""
    )]
    RdTwice { rd: Rd, vni: Vni },
    #[error(
        "{rd} of VNI {by} is the automatic route distinguisher of VNI {vni}; write another one for \
         VNI {by}, or set rd for VNI {vni} too"
    )]
    RdAutomatic { rd: Rd, vni: Vni, by: Vni },
    #[error("VNI {0} is not configured; `show vni` lists the VNIs")]
    NoVni(Vni),
    #[error("too many VNIs: at most {MAX_VNIS} are supported")]
    TooManyVnis,
    #[error("too many ports: at most {MAX_PORTS} are supported")]
    TooManyPorts,
    #[error(
        "interface used twice: {wanted} conflicts with {taken} in VNI {vni}; use another \
         interface, or give each port a vlan of its own"
    )]
    InterfaceTwice {
        wanted: PortKey,
        taken: PortKey,
        vni: Vni,
    },
    #[error(
        "{wanted} has io = \"{io}\", and {other} of the same interface \"{others}\"; write one io for \
         all ports of an interface"
    )]
    IoTwice {
        wanted: PortKey,
        io: &'static str,
        other: PortKey,
        others: &'static str,
    },
    #[error("{0} is an underlay interface and can't be a tenant port too; use another interface")]
    Underlay(InterfaceName),
    #[error("VNI {1} has no port {0}; `show ports` lists the ports")]
    NoPort(PortKey, Vni),
    #[error("{mac} is already behind port {port} of VNI {vni}; a MAC belongs to one port of a VNI")]
    MacTwice {
        mac: HostMac,
        port: PortKey,
        vni: Vni,
    },
    #[error("{mac} is in the fdb of VNI {vni} behind VTEP {vtep}; delete that entry first")]
    MacRemote {
        mac: HostMac,
        vtep: VtepAddr,
        vni: Vni,
    },
    #[error("{mac} is already in the fdb of VNI {vni} behind VTEP {vtep}; delete that entry first")]
    FdbExists {
        mac: HostMac,
        vtep: VtepAddr,
        vni: Vni,
    },
    #[error("{mac} is a local MAC behind port {port} of VNI {vni}; it can't be remote too")]
    FdbLocal {
        mac: HostMac,
        port: PortKey,
        vni: Vni,
    },
    #[error("{mac} is not in the fdb of VNI {vni}")]
    NoFdb { mac: HostMac, vni: Vni },
    #[error("{0} is a local VTEP address; name the remote VTEP")]
    OwnAddress(VtepAddr),
    #[error("{0} is {family}, and no local VTEP address is of that family; add one to \
        vtep.address", family = if .0.is_v6() { "IPv6" } else { "IPv4" })]
    Family(VtepAddr),
    #[error("{vtep} is already in the flood list of VNI {vni}")]
    FloodExists { vtep: VtepAddr, vni: Vni },
    #[error("{vtep} is not in the static flood list of VNI {vni}")]
    NoFlood { vtep: VtepAddr, vni: Vni },
    #[error(
        "VNI {vni} floods to the group {group}; flood to one multicast group or to a list of \
         VTEPs, not to both"
    )]
    GroupOrList { group: GroupAddr, vni: Vni },
    #[error("{group} is not the multicast group of VNI {vni}")]
    NoGroup { group: GroupAddr, vni: Vni },
    #[error(
        "{0} is an {family} group, and no local VTEP address is of that family; add one to \
         vtep.address",
        family = if .0.is_v6() { "IPv6" } else { "IPv4" }
    )]
    GroupFamily(GroupAddr),
    #[error("BGP is not configured; add [bgp] with asn first")]
    NoBgp,
    #[error("BGP still has neighbors; delete them first")]
    BgpInUse,
    #[error("{0} is already a BGP neighbor; each has one entry")]
    BgpNeighborExists(IpAddr),
    #[error("{0} is not a BGP neighbor; `show bgp summary` lists them")]
    NoBgpNeighbor(IpAddr),
    #[error("{0} is a local VTEP address; write the neighbor's")]
    BgpOwnAddress(IpAddr),
    #[error("{ip} is already a neighbor in VNI {vni}, with MAC {mac}; delete that entry first")]
    NeighborExists { ip: IpAddr, mac: HostMac, vni: Vni },
    #[error("{ip} is not a static neighbor in VNI {vni}")]
    NoNeighbor { ip: IpAddr, vni: Vni },
}

impl ChangeError {
    /// The field at fault, as files and requests spell it.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::VniExists(_) | Self::NoVni(_) | Self::TooManyVnis => "vni",
            Self::RdTwice { .. } | Self::RdAutomatic { .. } => "rd",
            Self::TooManyPorts
            | Self::InterfaceTwice { .. }
            | Self::Underlay(_)
            | Self::NoPort(..) => "interface",
            Self::IoTwice { .. } => "io",
            Self::MacTwice { .. } | Self::MacRemote { .. } => "macs",
            Self::FdbExists { .. } | Self::FdbLocal { .. } | Self::NoFdb { .. } => "mac",
            Self::GroupOrList { .. } | Self::NoGroup { .. } | Self::GroupFamily(_) => "flood",
            Self::NoBgp | Self::BgpInUse => "bgp",
            Self::BgpNeighborExists(_) | Self::NoBgpNeighbor(_) | Self::BgpOwnAddress(_) => {
                "address"
            }
            Self::OwnAddress(_)
            | Self::Family(_)
            | Self::FloodExists { .. }
            | Self::NoFlood { .. } => "vtep",
            Self::Address(_) | Self::NeighborExists { .. } | Self::NoNeighbor { .. } => "ip",
        }
    }
}

/// Which change of a batch was rejected. Nothing of the batch was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {index}: {error}")]
pub struct BatchError {
    /// Its position in the batch, from 0.
    pub index: usize,
    /// Why.
    pub error: ChangeError,
}

/// The inverse of a change.
enum Undo {
    Change(Change),
    Vni(Vni, Box<VniConfig>),
}

/// Applies one change and returns its inverse.
fn step(config: &mut Config, change: &Change) -> Result<Undo, ChangeError> {
    match *change {
        Change::Tunnel(ref new) => {
            let old = std::mem::replace(&mut config.vtep.tunnel, new.clone());
            Ok(Undo::Change(Change::Tunnel(old)))
        }
        Change::VniAdd { vni, ref settings } => vni::add(config, vni, settings.clone()),
        Change::VniSet { vni, ref settings } => vni::set(config, vni, settings.clone()),
        Change::VniDel { vni } => vni::del(config, vni),
        Change::PortAdd { vni, ref port } => port::add(config, vni, port),
        Change::PortSet { vni, ref port } => port::set(config, vni, port),
        Change::PortDel { vni, ref port } => port::del(config, vni, port),
        Change::FdbAdd {
            vni,
            mac,
            vtep,
            lifetime,
        } => fdb::add(config, vni, mac, FdbEntry { vtep, lifetime }),
        Change::FdbDel { vni, mac } => fdb::del(config, vni, mac),
        Change::FloodAdd { vni, vtep } => flood::add(config, vni, vtep),
        Change::FloodDel { vni, vtep } => flood::del(config, vni, vtep),
        Change::GroupAdd { vni, group } => flood::add_group(config, vni, group),
        Change::GroupDel { vni, group } => flood::del_group(config, vni, group),
        Change::NeighborAdd {
            vni,
            ip,
            mac,
            router,
            lifetime,
        } => {
            let entry = NeighborEntry {
                mac,
                router,
                lifetime,
            };
            neighbor::add(config, vni, ip, entry)
        }
        Change::NeighborDel { vni, ip } => neighbor::del(config, vni, ip),
        Change::BgpSet { ref settings } => bgp::set(config, settings.clone()),
        Change::BgpNeighborAdd { ref neighbor } => bgp::add_neighbor(config, neighbor),
        Change::BgpNeighborSet { ref neighbor } => bgp::set_neighbor(config, neighbor),
        Change::BgpNeighborDel { address } => bgp::del_neighbor(config, address),
    }
}
