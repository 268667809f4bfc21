//! Tenant ports: rows of the port table, built from the configuration and the current state of
//! their interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashMap;
use vtep_dataplane::addr::{PortId, Vni};
use vtep_dataplane::stats::{Counters, Totals};
use vtep_dataplane::table::port::{Device, PortEntry, Role};

use super::{Interfaces, ManagedInterface, OpenInterface, Purpose};
use crate::config::{InterfaceName, Port, PortKey};
use crate::fib::{Fib, FibError};
use crate::underlay::Reception;

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
    /// The keys of the ports by their IDs.
    ids: HashMap<PortId, PortKey>,
    /// The keys of the ports by their VNIs.
    vnis: HashMap<Vni, BTreeSet<PortKey>>,
}

impl TenantPorts {
    /// Every port.
    pub fn iter(&self) -> impl Iterator<Item = (&PortKey, &TenantPort)> {
        self.all.iter()
    }

    /// The port with this ID.
    #[must_use]
    pub fn get(&self, key: &PortKey) -> Option<&TenantPort> {
        self.all.get(key)
    }

    /// The key of the port with an ID.
    #[must_use]
    pub fn by_id(&self, id: PortId) -> Option<&PortKey> {
        self.ids.get(&id)
    }

    /// The ports of one VNI.
    #[must_use]
    pub fn of_vni(&self, vni: Vni) -> Vec<PortKey> {
        self.vnis.get(&vni).into_iter().flatten().cloned().collect()
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
        self.ids.insert(id, port.key.clone());
        self.vnis.entry(vni).or_default().insert(port.key.clone());
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
        self.ids.remove(&state.id);
        if let Some(keys) = self.vnis.get_mut(&state.vni) {
            keys.remove(key);
            if keys.is_empty() {
                self.vnis.remove(&state.vni);
            }
        }
        fib.remove_port(state.vni, state.id);
        Some(state.config)
    }

    /// True when a port is on this interface.
    #[must_use]
    pub fn uses(&self, interface: &InterfaceName) -> bool {
        self.on(interface).next().is_some()
    }

    /// The ports on an interface.
    pub fn on(&self, interface: &InterfaceName) -> impl Iterator<Item = (&PortKey, &TenantPort)> {
        let first = PortKey {
            interface: interface.clone(),
            vlan: None,
        };
        let interface = interface.clone();
        self.all
            .range(first..)
            .take_while(move |(key, _)| key.interface == interface)
    }

    /// The ports after a key, in the order of their keys.
    pub fn after(&self, key: Option<&PortKey>) -> impl Iterator<Item = (&PortKey, &TenantPort)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.all.range::<PortKey, _>((from, Bound::Unbounded))
    }

    /// Number of ports.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// True when there is no port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Writes the current rows of an interface and of all ports on it. `reception`: what this host
    /// receives on an underlay interface.
    pub fn publish(
        &self,
        interface: &InterfaceName,
        reception: Reception,
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
            macs: reception.macs.into(),
            standby: reception.standby,
            superframes: managed
                .open()
                .is_some_and(|open| open.backend.superframes()),
            multi_buffer: managed.open().is_some_and(OpenInterface::is_multi_buffer),
            link_up: managed.open().is_some_and(|open| open.link_up),
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
    /// Everything that is counted for it. Frames that the interface's program dropped are the
    /// port's unless it is one of a trunk.
    #[must_use]
    pub fn totals(&self, key: &PortKey, managed: &ManagedInterface) -> Totals {
        let mut totals = self.counters.totals();
        if key.vlan.is_none() {
            managed.program_drops().add_to(&mut totals);
        }
        totals
    }

    fn row(
        &self,
        key: &PortKey,
        managed: &ManagedInterface,
        domain: vtep_dataplane::addr::DomainId,
    ) -> PortEntry {
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
            max_frame: managed.open().map_or(0, |open| {
                u16::try_from(open.mtu + ETHERNET).unwrap_or(u16::MAX)
            }),
            counters: self.counters.clone(),
        }
    }
}
