//! Applies a change that the configuration has accepted: to interfaces, the FIB, EVPN and BGP.

use std::collections::BTreeMap;
use std::time::Instant;

use super::setup::{settings, underlay_config};
use super::{Engine, EngineError, MAX_MACS};
use crate::config::{self, Change, InterfaceName, PortKey};
use crate::fib::{FibError, MAX_PORTS};
use crate::interfaces::{PreparedInterface, Purpose};

const fn purpose(key: &PortKey) -> Purpose {
    if key.vlan.is_some() {
        Purpose::Trunk
    } else {
        Purpose::Tenant
    }
}

impl Engine {
    /// Checks that the tables can hold everything that a batch adds.
    pub(super) fn check_capacity(&self, changes: &[Change]) -> Result<(), EngineError> {
        let (mut macs, mut ports) = (self.fib.macs().len(), self.ports.iter().count());
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
                let error = vtep_dataplane::table::mac::MacTableFull { limit: MAX_MACS };
                return full(index, FibError::MacsFull(error));
            }
            if ports > MAX_PORTS {
                return full(index, FibError::NoId(MAX_PORTS, "ports"));
            }
        }
        Ok(())
    }

    /// Opens the interfaces of new ports; if one can't be opened, the whole batch is rejected.
    pub(super) fn prepare(
        &mut self,
        changes: &[Change],
    ) -> Result<BTreeMap<InterfaceName, (Purpose, PreparedInterface)>, EngineError> {
        let mut all = BTreeMap::new();
        for (index, change) in changes.iter().enumerate() {
            let Change::PortAdd { port, .. } = change else {
                continue;
            };
            let name = &port.key.interface;
            if self.interfaces.get(name).is_some() || all.contains_key(name) {
                continue;
            }
            match self.interfaces.prepare(name, purpose(&port.key)) {
                Ok(prepared) => drop(all.insert(name.clone(), (purpose(&port.key), prepared))),
                Err(error) => {
                    all.into_values()
                        .for_each(|(_, p)| self.interfaces.discard(p));
                    return Err(EngineError::Interface {
                        index,
                        error: Box::new(error),
                    });
                }
            }
        }
        Ok(all)
    }

    /// Applies one change that the configuration has accepted.
    pub(super) fn apply(&mut self, change: &Change, now: Instant) -> Result<(), FibError> {
        match change {
            Change::Tunnel(_) => {
                self.fib.set_settings(settings(self.config.vtep()));
                self.underlay
                    .set_config(underlay_config(self.config.vtep()));
            }
            Change::VniAdd { vni, settings } | Change::VniSet { vni, settings } => {
                self.fib
                    .add_vni(*vni, settings.inner_vlan == config::InnerVlan::Pass)?;
                self.fib
                    .set_resolution(*vni, settings.suppress, settings.miss_events);
                self.apply_to_evpn(change, None, now);
            }
            Change::VniDel { vni } => {
                for key in self.ports.of_vni(*vni) {
                    self.remove_port(*vni, &key, now);
                }
                self.apply_to_evpn(change, None, now);
                self.install_routes(now);
                self.fib.remove_vni(*vni);
                self.sync_groups();
            }
            Change::PortAdd { vni, port } | Change::PortSet { vni, port } => {
                let name = &port.key.interface;
                self.request_interface(name, purpose(&port.key))?;
                port.macs.iter().for_each(|mac| self.unlearn(*vni, *mac));
                let before = self.ports.set(*vni, port, &mut self.fib)?;
                self.apply_to_evpn(change, before.as_ref(), now);
                self.interfaces.try_open(name, &self.workers, now);
                self.publish_interface(name);
            }
            Change::PortDel { vni, port } => self.remove_port(*vni, port, now),
            _ => self.apply_entry(change, now)?,
        }
        Ok(())
    }

    /// The changes that concern no interface: entries of VNIs, and BGP.
    fn apply_entry(&mut self, change: &Change, now: Instant) -> Result<(), FibError> {
        self.apply_to_evpn(change, None, now);
        match change {
            Change::GroupAdd { .. } | Change::GroupDel { .. } => self.sync_groups(),
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
