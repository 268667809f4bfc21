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

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

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
/// Limit on tenant ports: ports have 16-bit numbers.
pub const MAX_PORTS: usize = 65_535;

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

/// Why a change conflicts with the running configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant describes it")]
pub enum ChangeError {
    #[error("VNI {0} exists already; each VNI has one entry")]
    VniExists(Vni),
    #[error(
        "{rd} is already the route distinguisher of VNI {vni}; give each VNI its own, or write \
         \"auto\""
    )]
    RdTwice { rd: Rd, vni: Vni },
    #[error("VNI {0} is not configured; add it first")]
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
            Self::RdTwice { .. } => "rd",
            Self::TooManyPorts
            | Self::InterfaceTwice { .. }
            | Self::Underlay(_)
            | Self::NoPort(..) => "interface",
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
            Self::NeighborExists { .. } | Self::NoNeighbor { .. } => "ip",
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
            lifetime,
        } => neighbor::add(config, vni, ip, NeighborEntry { mac, lifetime }),
        Change::NeighborDel { vni, ip } => neighbor::del(config, vni, ip),
        Change::BgpSet { ref settings } => bgp::set(config, settings.clone()),
        Change::BgpNeighborAdd { ref neighbor } => bgp::add_neighbor(config, neighbor),
        Change::BgpNeighborSet { ref neighbor } => bgp::set_neighbor(config, neighbor),
        Change::BgpNeighborDel { address } => bgp::del_neighbor(config, address),
    }
}

/// A change in words, as `config diff` shows it: the command that has the same effect.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(_) => f.write_str("vtep set"),
            Self::VniAdd { vni, .. } => write!(f, "vni add {vni}"),
            Self::VniSet { vni, .. } => write!(f, "vni set {vni}"),
            Self::VniDel { vni } => write!(f, "vni del {vni}"),
            Self::PortAdd { vni, port } => {
                write!(f, "port add {} --vni {vni}", PortOptions(&port.key))
            }
            Self::PortSet { vni, port } => {
                write!(f, "port set {} --vni {vni}", PortOptions(&port.key))
            }
            Self::PortDel { vni, port } => write!(f, "port del {} --vni {vni}", PortOptions(port)),
            Self::FdbAdd {
                vni,
                mac,
                vtep,
                lifetime,
            } => {
                write!(
                    f,
                    "fdb add {mac} --vni {vni} --vtep {vtep}{}",
                    Lifetime(*lifetime)
                )
            }
            Self::FdbDel { vni, mac } => write!(f, "fdb del {mac} --vni {vni}"),
            Self::FloodAdd { vni, vtep } => write!(f, "flood add {vtep} --vni {vni}"),
            Self::FloodDel { vni, vtep } => write!(f, "flood del {vtep} --vni {vni}"),
            Self::GroupAdd { vni, group } => write!(f, "flood add {group} --vni {vni}"),
            Self::GroupDel { vni, group } => write!(f, "flood del {group} --vni {vni}"),
            Self::BgpSet { settings: Some(_) } => f.write_str("bgp set"),
            Self::BgpSet { settings: None } => f.write_str("bgp del"),
            Self::BgpNeighborAdd { neighbor } => write!(f, "bgp neighbor add {}", neighbor.address),
            Self::BgpNeighborSet { neighbor } => write!(f, "bgp neighbor set {}", neighbor.address),
            Self::BgpNeighborDel { address } => write!(f, "bgp neighbor del {address}"),
            Self::NeighborAdd {
                vni,
                ip,
                mac,
                lifetime,
            } => {
                write!(
                    f,
                    "neigh add {ip} --vni {vni} --mac {mac}{}",
                    Lifetime(*lifetime)
                )
            }
            Self::NeighborDel { vni, ip } => write!(f, "neigh del {ip} --vni {vni}"),
        }
    }
}

/// A port as the options of a command.
struct PortOptions<'a>(&'a PortKey);

impl fmt::Display for PortOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.interface.fmt(f)?;
        self.0
            .vlan
            .map_or(Ok(()), |vlan| write!(f, " --vlan {vlan}"))
    }
}

/// A lifetime as an option of a command, if there is one.
struct Lifetime(Option<Duration>);

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |lifetime| {
            write!(f, " --lifetime {}", lifetime.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Change;
    use crate::config::port::Port;

    #[test]
    fn changes_read_as_commands() {
        let vni = "100".parse().unwrap();
        let port = Port::new("vnet10 vlan 7".parse().unwrap());
        assert_eq!(
            Change::PortAdd { vni, port }.to_string(),
            "port add vnet10 --vlan 7 --vni 100"
        );
        let (mac, vtep) = (
            "02:00:00:00:00:01".parse().unwrap(),
            "203.0.113.3".parse().unwrap(),
        );
        let lifetime = Some(Duration::from_secs(60));
        let add = Change::FdbAdd {
            vni,
            mac,
            vtep,
            lifetime,
        };
        assert_eq!(
            add.to_string(),
            "fdb add 02:00:00:00:00:01 --vni 100 --vtep 203.0.113.3 --lifetime 60"
        );
    }
}
