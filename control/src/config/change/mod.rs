//! Changes: the only way that a configuration changes, whether from the file or from the control socket.
//!
//! ```text
//! Change -> Config::apply   checked against all that stands; refused = nothing changed
//! [Change] -> apply_all     in order, all or none: what was applied is undone, last first
//! ```

use std::net::IpAddr;
use std::time::Duration;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use crate::bgp::wire::Rd;
use crate::config::bgp_neighbor::{BgpNeighbor, BgpSettings};
use crate::config::group::GroupAddr;
use crate::config::model::{
    Config, FdbEntry, InterfaceName, Port, PortKey, Tunnel, VniConfig, VniSettings,
};

mod bgp;

/// VNIs that a daemon can have: bridge domains are numbered with 16 bits.
pub const MAX_VNIS: usize = 65_535;
/// Tenant ports that a daemon can have: ports are numbered with 16 bits.
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
    /// The VNI goes, with its ports, flood list, FDB and neighbours.
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
        /// The port as it is to be.
        port: Port,
    },
    /// A port goes, with its local MACs.
    PortDel {
        /// Its VNI.
        vni: Vni,
        /// Which one.
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
        /// How long it stays; `None` = for ever. An entry that has one may be added again, which renews it.
        lifetime: Option<Duration>,
    },
    /// A static remote MAC goes.
    FdbDel {
        /// The VNI.
        vni: Vni,
        /// The remote host.
        mac: HostMac,
    },
    /// BUM goes to a multicast group.
    GroupAdd {
        /// The VNI.
        vni: Vni,
        /// The group.
        group: GroupAddr,
    },
    /// BUM no longer goes to a multicast group.
    GroupDel {
        /// The VNI.
        vni: Vni,
        /// The group.
        group: GroupAddr,
    },
    /// New settings of BGP, which starts it where there was none; `None` ends it, and fits without neighbours only.
    BgpSet {
        /// The new settings.
        settings: Option<BgpSettings>,
    },
    /// A new neighbour of BGP.
    BgpNeighborAdd {
        /// The neighbour.
        neighbor: Box<BgpNeighbor>,
    },
    /// New settings for a neighbour that exists.
    BgpNeighborSet {
        /// The neighbour as it is to be.
        neighbor: Box<BgpNeighbor>,
    },
    /// A neighbour of BGP goes, with its routes.
    BgpNeighborDel {
        /// Its address.
        address: IpAddr,
    },
    /// A VTEP joins the static flood list.
    FloodAdd {
        /// The VNI.
        vni: Vni,
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// A VTEP leaves the static flood list.
    FloodDel {
        /// The VNI.
        vni: Vni,
        /// The VTEP.
        vtep: VtepAddr,
    },
    /// A static neighbour.
    NeighborAdd {
        /// The VNI.
        vni: Vni,
        /// Its IP address.
        ip: IpAddr,
        /// Its MAC.
        mac: HostMac,
        /// As that of [`Change::FdbAdd`].
        lifetime: Option<Duration>,
    },
    /// A static neighbour goes.
    NeighborDel {
        /// The VNI.
        vni: Vni,
        /// Its IP address.
        ip: IpAddr,
    },
}

/// Why a change does not fit the configuration that stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the message of each variant says what it means"
)]
pub enum ChangeError {
    #[error("VNI {0} is there already; each VNI has one entry")]
    VniExists(Vni),
    #[error(
        "{rd} is the route distinguisher of VNI {vni} already; give each VNI its own, or write \"auto\""
    )]
    RdTwice { rd: Rd, vni: Vni },
    #[error("VNI {0} is not configured; add it first")]
    NoVni(Vni),
    #[error("no room for another VNI: {MAX_VNIS} are the most")]
    TooManyVnis,
    #[error("no room for another port: {MAX_PORTS} are the most")]
    TooManyPorts,
    #[error(
        "an interface used twice: {wanted} is wanted here and {taken} is in VNI {vni}; take another interface, or give each port a vlan of its own"
    )]
    InterfaceTwice {
        wanted: PortKey,
        taken: PortKey,
        vni: Vni,
    },
    #[error("{0} is an underlay interface and can't be a tenant port too; take another interface")]
    Underlay(InterfaceName),
    #[error("VNI {1} has no port {0}; `show ports` lists what is there")]
    NoPort(PortKey, Vni),
    #[error("{mac} is already behind port {port} of VNI {vni}; a MAC has one place in a VNI")]
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
    #[error("{0} is our own address; name the remote VTEP")]
    OwnAddress(VtepAddr),
    #[error("{0} is {family}, and we have no local address of that family; add one to vtep.address", family = if .0.is_v6() { "IPv6" } else { "IPv4" })]
    Family(VtepAddr),
    #[error("{vtep} is already in the flood list of VNI {vni}")]
    FloodExists { vtep: VtepAddr, vni: Vni },
    #[error("{vtep} is not in the static flood list of VNI {vni}")]
    NoFlood { vtep: VtepAddr, vni: Vni },
    #[error(
        "VNI {vni} floods to the group {group}; flood to one multicast group or to a list of VTEPs, not to both"
    )]
    GroupOrList { group: GroupAddr, vni: Vni },
    #[error("{group} is not the multicast group of VNI {vni}")]
    NoGroup { group: GroupAddr, vni: Vni },
    #[error(
        "{0} is a group of {family}, and we have no local address of that family; add one to vtep.address",
        family = if .0.is_v6() { "IPv6" } else { "IPv4" }
    )]
    GroupFamily(GroupAddr),
    #[error("BGP is not configured; add [bgp] with asn first")]
    NoBgp,
    #[error("BGP still has neighbours; delete them first")]
    BgpInUse,
    #[error("{0} is a BGP neighbour already; each has one entry")]
    BgpNeighborExists(IpAddr),
    #[error("{0} is no BGP neighbour; `show bgp summary` lists those that are")]
    NoBgpNeighbor(IpAddr),
    #[error("{0} is our own address; name the neighbour's")]
    BgpOwnAddress(IpAddr),
    #[error("{ip} is already a neighbour in VNI {vni}, with MAC {mac}; delete that entry first")]
    NeighborExists { ip: IpAddr, mac: HostMac, vni: Vni },
    #[error("{ip} is no static neighbour of VNI {vni}")]
    NoNeighbor { ip: IpAddr, vni: Vni },
}

impl ChangeError {
    /// The field that is to blame, as files and requests call it.
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

/// Which change of a batch was refused. Nothing of the batch stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {index}: {error}")]
pub struct BatchError {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// Why.
    pub error: ChangeError,
}

/// How to take a change back.
pub(in crate::config) enum Undo {
    Change(Change),
    Vni(Vni, Box<VniConfig>),
}

impl Config {
    /// Applies one change. Costs O(log n) in the size of the tables, but for [`Change::VniDel`].
    ///
    /// # Errors
    /// [`ChangeError`] when it does not fit; nothing has changed then.
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        self.step(change).map(drop)
    }

    /// Applies changes in order, all or none.
    ///
    /// # Errors
    /// [`BatchError`] names the first that does not fit; nothing has changed then.
    pub fn apply_all(&mut self, changes: &[Change]) -> Result<(), BatchError> {
        let mut undo = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            match self.step(change) {
                Ok(back) => undo.push(back),
                Err(error) => {
                    while let Some(back) = undo.pop() {
                        self.revert(back);
                    }
                    return Err(BatchError { index, error });
                }
            }
        }
        Ok(())
    }

    fn revert(&mut self, undo: Undo) {
        match undo {
            Undo::Change(change) => {
                let undone = self.step(&change);
                debug_assert!(undone.is_ok(), "the inverse of an applied change fits");
            }
            Undo::Vni(vni, content) => {
                for key in content.ports.keys() {
                    self.index_port(key, vni);
                }
                self.distinguishers
                    .extend(content.settings.evpn.rd.map(|rd| (rd, vni)));
                self.vnis.insert(vni, *content);
            }
        }
    }

    fn step(&mut self, change: &Change) -> Result<Undo, ChangeError> {
        match change {
            Change::Tunnel(new) => {
                let old = std::mem::replace(&mut self.vtep.tunnel, new.clone());
                Ok(Undo::Change(Change::Tunnel(old)))
            }
            Change::VniAdd { vni, settings } => self.vni_add(*vni, settings.clone()),
            Change::VniSet { vni, settings } => self.vni_set(*vni, settings.clone()),
            Change::VniDel { vni } => self.vni_del(*vni),
            Change::PortAdd { vni, port } => self.port_add(*vni, port),
            Change::PortSet { vni, port } => self.port_set(*vni, port),
            Change::PortDel { vni, port } => self.port_del(*vni, port),
            Change::BgpSet { .. }
            | Change::BgpNeighborAdd { .. }
            | Change::BgpNeighborSet { .. }
            | Change::BgpNeighborDel { .. } => self.bgp_step(change),
            _ => self.entry_step(change),
        }
    }

    pub(in crate::config) fn vni_mut(&mut self, vni: Vni) -> Result<&mut VniConfig, ChangeError> {
        self.vnis.get_mut(&vni).ok_or(ChangeError::NoVni(vni))
    }

    fn vni_add(&mut self, vni: Vni, settings: VniSettings) -> Result<Undo, ChangeError> {
        if self.vnis.contains_key(&vni) {
            return Err(ChangeError::VniExists(vni));
        }
        if self.vnis.len() >= MAX_VNIS {
            return Err(ChangeError::TooManyVnis);
        }
        self.set_distinguisher(vni, None, settings.evpn.rd)?;
        self.vnis.insert(
            vni,
            VniConfig {
                settings,
                ..VniConfig::default()
            },
        );
        Ok(Undo::Change(Change::VniDel { vni }))
    }

    fn vni_set(&mut self, vni: Vni, settings: VniSettings) -> Result<Undo, ChangeError> {
        let before = self.vni_mut(vni)?.settings.evpn.rd;
        self.set_distinguisher(vni, before, settings.evpn.rd)?;
        let old = std::mem::replace(&mut self.vni_mut(vni)?.settings, settings);
        Ok(Undo::Change(Change::VniSet { vni, settings: old }))
    }

    /// Two VNIs with one route distinguisher would announce one another's routes: their keys are the same.
    fn set_distinguisher(
        &mut self,
        vni: Vni,
        old: Option<Rd>,
        new: Option<Rd>,
    ) -> Result<(), ChangeError> {
        if let Some(rd) = new {
            match self.distinguishers.get(&rd) {
                Some(other) if *other != vni => {
                    return Err(ChangeError::RdTwice { rd, vni: *other });
                }
                _ => {}
            }
        }
        if let Some(old) = old {
            self.distinguishers.remove(&old);
        }
        self.distinguishers.extend(new.map(|rd| (rd, vni)));
        Ok(())
    }

    fn vni_del(&mut self, vni: Vni) -> Result<Undo, ChangeError> {
        let content = self.vnis.remove(&vni).ok_or(ChangeError::NoVni(vni))?;
        for key in content.ports.keys() {
            self.unindex_port(key);
        }
        if let Some(rd) = content.settings.evpn.rd {
            self.distinguishers.remove(&rd);
        }
        Ok(Undo::Vni(vni, Box::new(content)))
    }

    fn index_port(&mut self, key: &PortKey, vni: Vni) {
        self.interfaces
            .entry(key.interface.clone())
            .or_default()
            .insert(key.vlan, vni);
        self.port_count += 1;
    }

    fn unindex_port(&mut self, key: &PortKey) {
        if let Some(vlans) = self.interfaces.get_mut(&key.interface) {
            if vlans.remove(&key.vlan).is_some() {
                self.port_count -= 1;
            }
            if vlans.is_empty() {
                self.interfaces.remove(&key.interface);
            }
        }
    }

    fn interface_free(&self, key: &PortKey) -> Result<(), ChangeError> {
        if self.vtep.underlay.contains(&key.interface) {
            return Err(ChangeError::Underlay(key.interface.clone()));
        }
        let Some(vlans) = self.interfaces.get(&key.interface) else {
            return Ok(());
        };
        let same = vlans.get_key_value(&key.vlan);
        let whole = same.or_else(|| vlans.get_key_value(&None));
        let any = whole.or_else(|| vlans.first_key_value().filter(|_| key.vlan.is_none()));
        any.map_or(Ok(()), |(vlan, vni)| {
            let taken = PortKey {
                interface: key.interface.clone(),
                vlan: *vlan,
            };
            Err(ChangeError::InterfaceTwice {
                wanted: key.clone(),
                taken,
                vni: *vni,
            })
        })
    }

    fn port_add(&mut self, vni: Vni, port: &Port) -> Result<Undo, ChangeError> {
        let content = self.vnis.get(&vni).ok_or(ChangeError::NoVni(vni))?;
        self.interface_free(&port.key)?;
        content.macs_free(vni, port)?;
        if self.port_count >= MAX_PORTS {
            return Err(ChangeError::TooManyPorts);
        }
        self.index_port(&port.key, vni);
        self.vni_mut(vni)?.put_port(port.clone());
        Ok(Undo::Change(Change::PortDel {
            vni,
            port: port.key.clone(),
        }))
    }

    fn port_set(&mut self, vni: Vni, port: &Port) -> Result<Undo, ChangeError> {
        let content = self.vni_mut(vni)?;
        content.macs_free(vni, port)?;
        let old = content.take_port(&port.key);
        let old = old.ok_or_else(|| ChangeError::NoPort(port.key.clone(), vni))?;
        content.put_port(port.clone());
        Ok(Undo::Change(Change::PortSet { vni, port: old }))
    }

    fn port_del(&mut self, vni: Vni, key: &PortKey) -> Result<Undo, ChangeError> {
        let gone = self.vni_mut(vni)?.take_port(key);
        let port = gone.ok_or_else(|| ChangeError::NoPort(key.clone(), vni))?;
        self.unindex_port(key);
        Ok(Undo::Change(Change::PortAdd { vni, port }))
    }
}

impl VniConfig {
    fn macs_free(&self, vni: Vni, port: &Port) -> Result<(), ChangeError> {
        for mac in &port.macs {
            if let Some(other) = self.local.get(mac).filter(|other| **other != port.key) {
                return Err(ChangeError::MacTwice {
                    mac: *mac,
                    port: other.clone(),
                    vni,
                });
            }
            if let Some(FdbEntry { vtep, .. }) = self.fdb.get(mac) {
                return Err(ChangeError::MacRemote {
                    mac: *mac,
                    vtep: *vtep,
                    vni,
                });
            }
        }
        Ok(())
    }

    fn put_port(&mut self, port: Port) {
        self.local
            .extend(port.macs.iter().map(|mac| (*mac, port.key.clone())));
        self.ports.insert(port.key.clone(), port);
    }

    fn take_port(&mut self, key: &PortKey) -> Option<Port> {
        let port = self.ports.remove(key)?;
        for mac in &port.macs {
            self.local.remove(mac);
        }
        Some(port)
    }
}
