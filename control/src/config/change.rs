//! Changes: the only way that a configuration changes, whether from the file or from the control socket.
//!
//! ```text
//! Change -> Config::apply   checked against all that stands; refused = nothing changed
//! [Change] -> apply_all     in order, all or none: what was applied is undone, last first
//! ```

use super::model::{Config, InterfaceName, Port, PortKey, Tunnel, VniConfig, VniSettings};
use std::net::IpAddr;
use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

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
    },
    /// A static remote MAC goes.
    FdbDel {
        /// The VNI.
        vni: Vni,
        /// The remote host.
        mac: HostMac,
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
#[allow(missing_docs, reason = "the message of each variant says what it means")]
pub enum ChangeError {
    #[error("VNI {0} is there already; each VNI has one entry")]
    VniExists(Vni),
    #[error("VNI {0} is not configured; add it first")]
    NoVni(Vni),
    #[error("no room for another VNI: {MAX_VNIS} are the most")]
    TooManyVnis,
    #[error("no room for another port: {MAX_PORTS} are the most")]
    TooManyPorts,
    #[error(
        "an interface used twice: {wanted} is wanted here and {taken} is in VNI {vni}; take another interface, or give each port a vlan of its own"
    )]
    InterfaceTwice { wanted: PortKey, taken: PortKey, vni: Vni },
    #[error("{0} is an underlay interface and can't be a tenant port too; take another interface")]
    Underlay(InterfaceName),
    #[error("VNI {1} has no port {0}; `show ports` lists what is there")]
    NoPort(PortKey, Vni),
    #[error("{mac} is already behind port {port} of VNI {vni}; a MAC has one place in a VNI")]
    MacTwice { mac: HostMac, port: PortKey, vni: Vni },
    #[error("{mac} is in the fdb of VNI {vni} behind VTEP {vtep}; delete that entry first")]
    MacRemote { mac: HostMac, vtep: VtepAddr, vni: Vni },
    #[error("{mac} is already in the fdb of VNI {vni} behind VTEP {vtep}; delete that entry first")]
    FdbExists { mac: HostMac, vtep: VtepAddr, vni: Vni },
    #[error("{mac} is a local MAC behind port {port} of VNI {vni}; it can't be remote too")]
    FdbLocal { mac: HostMac, port: PortKey, vni: Vni },
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
            Self::TooManyPorts | Self::InterfaceTwice { .. } | Self::Underlay(_) | Self::NoPort(..) => {
                "interface"
            }
            Self::MacTwice { .. } | Self::MacRemote { .. } => "macs",
            Self::FdbExists { .. } | Self::FdbLocal { .. } | Self::NoFdb { .. } => "mac",
            Self::OwnAddress(_) | Self::Family(_) | Self::FloodExists { .. } | Self::NoFlood { .. } => "vtep",
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
enum Undo {
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
                        self.take_back(back);
                    }
                    return Err(BatchError { index, error });
                }
            }
        }
        Ok(())
    }

    fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Change(change) => {
                let undone = self.step(&change);
                debug_assert!(undone.is_ok(), "the inverse of an applied change fits");
            }
            Undo::Vni(vni, content) => {
                for key in content.ports.keys() {
                    self.claim(key, vni);
                }
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
            Change::VniAdd { vni, settings } => self.vni_add(*vni, *settings),
            Change::VniSet { vni, settings } => {
                let old = std::mem::replace(&mut self.vni_mut(*vni)?.settings, *settings);
                Ok(Undo::Change(Change::VniSet { vni: *vni, settings: old }))
            }
            Change::VniDel { vni } => self.vni_del(*vni),
            Change::PortAdd { vni, port } => self.port_add(*vni, port),
            Change::PortSet { vni, port } => self.port_set(*vni, port),
            Change::PortDel { vni, port } => self.port_del(*vni, port),
            Change::FdbAdd { vni, mac, vtep } => self.fdb_add(*vni, *mac, *vtep),
            Change::FdbDel { vni, mac } => {
                let gone = self.vni_mut(*vni)?.fdb.remove(mac);
                let vtep = gone.ok_or(ChangeError::NoFdb { mac: *mac, vni: *vni })?;
                Ok(Undo::Change(Change::FdbAdd { vni: *vni, mac: *mac, vtep }))
            }
            Change::FloodAdd { vni, vtep } => self.flood_add(*vni, *vtep),
            Change::FloodDel { vni, vtep } => {
                if !self.vni_mut(*vni)?.flood.remove(vtep) {
                    return Err(ChangeError::NoFlood { vtep: *vtep, vni: *vni });
                }
                Ok(Undo::Change(Change::FloodAdd { vni: *vni, vtep: *vtep }))
            }
            Change::NeighborAdd { vni, ip, mac } => self.neighbor_add(*vni, *ip, *mac),
            Change::NeighborDel { vni, ip } => {
                let gone = self.vni_mut(*vni)?.neighbors.remove(ip);
                let mac = gone.ok_or(ChangeError::NoNeighbor { ip: *ip, vni: *vni })?;
                Ok(Undo::Change(Change::NeighborAdd { vni: *vni, ip: *ip, mac }))
            }
        }
    }

    fn vni_mut(&mut self, vni: Vni) -> Result<&mut VniConfig, ChangeError> {
        self.vnis.get_mut(&vni).ok_or(ChangeError::NoVni(vni))
    }

    fn vni_add(&mut self, vni: Vni, settings: VniSettings) -> Result<Undo, ChangeError> {
        if self.vnis.contains_key(&vni) {
            return Err(ChangeError::VniExists(vni));
        }
        if self.vnis.len() >= MAX_VNIS {
            return Err(ChangeError::TooManyVnis);
        }
        self.vnis.insert(vni, VniConfig { settings, ..VniConfig::default() });
        Ok(Undo::Change(Change::VniDel { vni }))
    }

    fn vni_del(&mut self, vni: Vni) -> Result<Undo, ChangeError> {
        let content = self.vnis.remove(&vni).ok_or(ChangeError::NoVni(vni))?;
        for key in content.ports.keys() {
            self.release(key);
        }
        Ok(Undo::Vni(vni, Box::new(content)))
    }

    fn claim(&mut self, key: &PortKey, vni: Vni) {
        self.interfaces.entry(key.interface.clone()).or_default().insert(key.vlan, vni);
        self.port_count += 1;
    }

    fn release(&mut self, key: &PortKey) {
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
        let Some(vlans) = self.interfaces.get(&key.interface) else { return Ok(()) };
        let same = vlans.get_key_value(&key.vlan);
        let whole = same.or_else(|| vlans.get_key_value(&None));
        let any = whole.or_else(|| vlans.first_key_value().filter(|_| key.vlan.is_none()));
        any.map_or(Ok(()), |(vlan, vni)| {
            let taken = PortKey { interface: key.interface.clone(), vlan: *vlan };
            Err(ChangeError::InterfaceTwice { wanted: key.clone(), taken, vni: *vni })
        })
    }

    fn port_add(&mut self, vni: Vni, port: &Port) -> Result<Undo, ChangeError> {
        let content = self.vnis.get(&vni).ok_or(ChangeError::NoVni(vni))?;
        self.interface_free(&port.key)?;
        content.macs_free(vni, port)?;
        if self.port_count >= MAX_PORTS {
            return Err(ChangeError::TooManyPorts);
        }
        self.claim(&port.key, vni);
        self.vni_mut(vni)?.put_port(port.clone());
        Ok(Undo::Change(Change::PortDel { vni, port: port.key.clone() }))
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
        self.release(key);
        Ok(Undo::Change(Change::PortAdd { vni, port }))
    }

    /// A remote VTEP is not us, and we can send to its family. Before `[vtep]` has an address any will do.
    fn remote(&self, vtep: VtepAddr) -> Result<(), ChangeError> {
        let own = self.vtep.addresses;
        if own.iter().any(|address| address == vtep) {
            return Err(ChangeError::OwnAddress(vtep));
        }
        if !own.is_empty() && own.for_remote(vtep).is_none() {
            return Err(ChangeError::Family(vtep));
        }
        Ok(())
    }

    fn fdb_add(&mut self, vni: Vni, mac: HostMac, vtep: VtepAddr) -> Result<Undo, ChangeError> {
        self.remote(vtep)?;
        let content = self.vni_mut(vni)?;
        if let Some(port) = content.local.get(&mac) {
            return Err(ChangeError::FdbLocal { mac, port: port.clone(), vni });
        }
        if let Some(vtep) = content.fdb.get(&mac) {
            return Err(ChangeError::FdbExists { mac, vtep: *vtep, vni });
        }
        content.fdb.insert(mac, vtep);
        Ok(Undo::Change(Change::FdbDel { vni, mac }))
    }

    fn flood_add(&mut self, vni: Vni, vtep: VtepAddr) -> Result<Undo, ChangeError> {
        self.remote(vtep)?;
        if !self.vni_mut(vni)?.flood.insert(vtep) {
            return Err(ChangeError::FloodExists { vtep, vni });
        }
        Ok(Undo::Change(Change::FloodDel { vni, vtep }))
    }

    fn neighbor_add(&mut self, vni: Vni, ip: IpAddr, mac: HostMac) -> Result<Undo, ChangeError> {
        let neighbors = &mut self.vni_mut(vni)?.neighbors;
        if let Some(mac) = neighbors.get(&ip) {
            return Err(ChangeError::NeighborExists { ip, mac: *mac, vni });
        }
        neighbors.insert(ip, mac);
        Ok(Undo::Change(Change::NeighborDel { vni, ip }))
    }
}

impl VniConfig {
    fn macs_free(&self, vni: Vni, port: &Port) -> Result<(), ChangeError> {
        for mac in &port.macs {
            if let Some(other) = self.local.get(mac).filter(|other| **other != port.key) {
                return Err(ChangeError::MacTwice { mac: *mac, port: other.clone(), vni });
            }
            if let Some(vtep) = self.fdb.get(mac) {
                return Err(ChangeError::MacRemote { mac: *mac, vtep: *vtep, vni });
            }
        }
        Ok(())
    }

    fn put_port(&mut self, port: Port) {
        self.local.extend(port.macs.iter().map(|mac| (*mac, port.key.clone())));
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
