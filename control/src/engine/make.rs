//! A change that the configuration has accepted, carried into interfaces, tables, EVPN and BGP.

use std::collections::BTreeMap;
use std::time::Instant;

use vtep_dataplane::addr::VtepAddr;

use super::devices::{Prepared, Purpose};
use super::setup::{settings, underlay_config};
use super::{Engine, EngineError, MAX_MACS, MAX_PORTS, TableError};
use crate::config::{self, Change, InterfaceName, PortKey};

const fn purpose(key: &PortKey) -> Purpose {
    if key.vlan.is_some() { Purpose::Trunk } else { Purpose::Tenant }
}

impl Engine {
    /// Checks that the tables have room for all that a batch adds.
    pub(super) fn room(&self, changes: &[Change]) -> Result<(), EngineError> {
        let (mut macs, mut ports) = (self.tables.macs().len(), self.ports.iter().count());
        let full = |index, error| Err(EngineError::Table { index, error });
        for (index, change) in changes.iter().enumerate() {
            match change {
                Change::FdbAdd { .. } => macs += 1,
                Change::PortAdd { port, .. } | Change::PortSet { port, .. } => {
                    macs += port.macs.len();
                    ports += usize::from(matches!(change, Change::PortAdd { .. }));
                }
                _ => {}
            }
            if macs > MAX_MACS {
                let error = vtep_dataplane::table::mac::Full { limit: MAX_MACS };
                return full(index, TableError::MacsFull(error));
            }
            if ports > MAX_PORTS {
                return full(index, TableError::NoId(MAX_PORTS, "ports"));
            }
        }
        Ok(())
    }

    /// Opens the interfaces of new ports, so that one that can't be opened refuses the batch.
    pub(super) fn prepare(
        &mut self,
        changes: &[Change],
    ) -> Result<BTreeMap<InterfaceName, (Purpose, Prepared)>, EngineError> {
        let mut all = BTreeMap::new();
        for (index, change) in changes.iter().enumerate() {
            let Change::PortAdd { port, .. } = change else { continue };
            let name = &port.key.interface;
            if self.devices.get(name).is_some() || all.contains_key(name) {
                continue;
            }
            match self.devices.prepare(name, purpose(&port.key)) {
                Ok(prepared) => drop(all.insert(name.clone(), (purpose(&port.key), prepared))),
                Err(error) => {
                    all.into_values().for_each(|(_, p)| self.devices.discard(p));
                    return Err(EngineError::Interface { index, error: Box::new(error) });
                }
            }
        }
        Ok(all)
    }

    /// Carries a change that the configuration has accepted into the tables.
    pub(super) fn make(&mut self, change: &Change, now: Instant) -> Result<(), TableError> {
        match change {
            Change::Tunnel(_) => {
                self.tables.set_settings(settings(self.config.vtep()));
                self.underlay.set_config(underlay_config(self.config.vtep()));
            }
            Change::VniAdd { vni, settings } | Change::VniSet { vni, settings } => {
                self.tables.add_vni(*vni, settings.inner_vlan == config::InnerVlan::Pass)?;
                self.tables.set_resolution(*vni, settings.suppress, settings.miss_events);
                self.evpn_vni(*vni, settings, now);
            }
            Change::VniDel { vni } => {
                for key in self.ports.of_vni(*vni) {
                    self.remove_port(*vni, &key, now);
                }
                self.evpn.instance.statics_del(*vni);
                self.evpn.instance.vni_del(*vni);
                self.carry(now);
                self.tables.remove_vni(*vni);
                self.sync_groups();
            }
            Change::PortAdd { vni, port } | Change::PortSet { vni, port } => {
                let name = &port.key.interface;
                self.want(name, purpose(&port.key))?;
                port.macs.iter().for_each(|mac| self.unlearn(*vni, *mac));
                let before = self.ports.put(*vni, port, &mut self.tables)?;
                self.evpn_port(*vni, before.as_ref(), Some(port), now);
                self.devices.try_open(name, &self.workers, now);
                self.publish_interface(name);
            }
            Change::PortDel { vni, port } => self.remove_port(*vni, port, now),
            _ => self.make_entry(change, now)?,
        }
        Ok(())
    }

    /// The part of [`Self::make`] that touches no interface: entries of VNIs, and BGP.
    fn make_entry(&mut self, change: &Change, now: Instant) -> Result<(), TableError> {
        let instance = &mut self.evpn.instance;
        match change {
            Change::FdbAdd { vni, mac, vtep, .. } => instance.static_mac_add(*vni, *mac, *vtep),
            Change::FdbDel { vni, mac } => instance.static_mac_del(*vni, *mac),
            Change::FloodAdd { vni, vtep } => instance.static_flood_add(*vni, *vtep),
            Change::FloodDel { vni, vtep } => instance.static_flood_del(*vni, *vtep),
            Change::NeighborAdd { vni, ip, mac, .. } => instance.static_address_add(*vni, *ip, *mac, false),
            Change::NeighborDel { vni, ip } => instance.static_address_del(*vni, *ip),
            Change::GroupAdd { vni, group } => {
                if let Ok(group) = VtepAddr::group(group.get()) {
                    instance.static_flood_add(*vni, group);
                }
                self.sync_groups();
            }
            Change::GroupDel { vni, group } => {
                if let Ok(group) = VtepAddr::group(group.get()) {
                    instance.static_flood_del(*vni, group);
                }
                self.sync_groups();
            }
            Change::BgpSet { .. } => self.evpn_restart(now),
            Change::BgpNeighborAdd { neighbor } | Change::BgpNeighborSet { neighbor } => {
                self.session_starts.insert(neighbor.address);
            }
            Change::BgpNeighborDel { address } => self.bgp_neighbor_gone(*address, now),
            _ => {}
        }
        Ok(())
    }
}
