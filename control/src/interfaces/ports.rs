//! Tenant ports: rows of the port table, built from the configuration and the current state of
//! their interfaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use vtep_dataplane::addr::{PortId, Vni};
use vtep_dataplane::stats::Counters;
use vtep_dataplane::table::port::{Device, PortEntry, Role};

use super::{Interfaces, ManagedInterface, OpenInterface, Purpose};
use crate::config::{InterfaceName, Port, PortKey};
use crate::fib::{Fib, FibError};

/// Length of an Ethernet header, which an MTU does not include, bytes.
const ETHERNET: u32 = 14;

/// A configured port.
#[derive(Debug)]
pub struct TenantPort {
    /// Its VNI.
    pub vni: Vni,
    /// Its ID in the port table.
    pub id: PortId,
    /// Counters of frames from and to the tenant.
    pub counters: Arc<Counters>,
    config: Port,
}

/// All tenant ports.
#[derive(Debug, Default)]
pub struct TenantPorts {
    all: BTreeMap<PortKey, TenantPort>,
}

impl TenantPorts {
    /// Every port.
    pub fn iter(&self) -> impl Iterator<Item = (&PortKey, &TenantPort)> {
        self.all.iter()
    }

    /// The port with this ID.
    #[must_use]
    pub fn by_id(&self, id: PortId) -> Option<&PortKey> {
        self.all
            .iter()
            .find(|(_, state)| state.id == id)
            .map(|(key, _)| key)
    }

    /// The ports of one VNI.
    #[must_use]
    pub fn of_vni(&self, vni: Vni) -> Vec<PortKey> {
        self.all
            .iter()
            .filter(|(_, state)| state.vni == vni)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Adds or replaces a port and its MAC entries; returns the previous configuration. The caller
    /// removes entries of MACs that the port no longer has, and publishes its row
    /// ([`Self::publish`]).
    ///
    /// # Errors
    /// When a table is full.
    pub fn set(&mut self, vni: Vni, port: &Port, fib: &mut Fib) -> Result<Option<Port>, FibError> {
        let id = match self.all.get(&port.key) {
            Some(state) => state.id,
            None => fib.alloc_port_id()?,
        };
        for mac in &port.macs {
            fib.set_local_mac(vni, *mac, id)?;
        }
        let old = self.all.remove(&port.key);
        let (counters, before) = match old {
            Some(state) => (state.counters, Some(state.config)),
            None => (fib.new_counters(), None),
        };
        self.all.insert(
            port.key.clone(),
            TenantPort {
                vni,
                id,
                counters,
                config: port.clone(),
            },
        );
        Ok(before)
    }

    /// Removes a port; returns its configuration. The caller removes its MAC entries.
    pub fn remove(&mut self, key: &PortKey, fib: &mut Fib) -> Option<Port> {
        let state = self.all.remove(key)?;
        fib.remove_port(state.vni, state.id);
        Some(state.config)
    }

    /// True when a port is on this interface.
    #[must_use]
    pub fn uses(&self, interface: &InterfaceName) -> bool {
        self.on(interface).next().is_some()
    }

    fn on(&self, interface: &InterfaceName) -> impl Iterator<Item = (&PortKey, &TenantPort)> {
        let interface = interface.clone();
        self.all
            .iter()
            .filter(move |(key, _)| key.interface == interface)
    }

    /// Writes the current rows of an interface and of all ports on it.
    pub fn publish(
        &self,
        interface: &InterfaceName,
        devices: &Interfaces,
        workers: usize,
        fib: &mut Fib,
    ) {
        let Some(managed) = devices.get(interface) else {
            return;
        };
        let role = match managed.purpose {
            Purpose::Underlay => Role::Underlay,
            Purpose::Tenant | Purpose::Trunk => self.role(interface),
        };
        let device = Device {
            id: managed.id,
            name: interface.to_string(),
            role,
            csum_incomplete: managed
                .open()
                .is_some_and(|open| open.backend.csum_incomplete()),
            multi_buffer: managed.open().is_some_and(OpenInterface::is_multi_buffer),
            tx_worker: managed.tx_workers(workers),
            counters: managed.counters.clone(),
        };
        fib.set_device(managed.id, Some(Arc::new(device)));
        for (key, state) in self.on(interface) {
            if let Some(domain) = fib.domain_id(state.vni) {
                fib.set_port(state.vni, Arc::new(state.row(key, managed, domain)));
            }
        }
    }

    /// One port for all frames, or one for each VLAN. An interface without ports is a trunk without
    /// VLANs.
    fn role(&self, interface: &InterfaceName) -> Role {
        let mut vlans = Vec::new();
        for (key, state) in self.on(interface) {
            match key.vlan {
                None => return Role::Access(state.id),
                Some(vlan) => vlans.push((vlan, state.id)),
            }
        }
        vlans.sort_unstable();
        Role::Trunk(vlans.into())
    }
}

impl TenantPort {
    fn row(
        &self,
        key: &PortKey,
        managed: &ManagedInterface,
        domain: vtep_dataplane::addr::DomainId,
    ) -> PortEntry {
        let mtu = managed.open().map_or(0, |open| open.mtu);
        PortEntry {
            id: self.id,
            device: managed.id,
            vlan: key.vlan,
            domain,
            // Both sets are sorted, as workers expect.
            lock: self
                .config
                .lock
                .then(|| self.config.macs.iter().map(|mac| mac.get()).collect()),
            ips: self.config.ips.iter().copied().collect(),
            learn: self
                .config
                .learn
                .map(|learn| u16::try_from(learn.limit).unwrap_or(u16::MAX)),
            checksum: self.config.checksum,
            storm: self.config.storm,
            max_frame: u16::try_from(mtu + ETHERNET).unwrap_or(u16::MAX),
            counters: self.counters.clone(),
        }
    }
}
