//! Applies a change that the configuration has accepted: to interfaces, the FIB, EVPN and BGP.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::setup::{settings, underlay_config};
use super::{Engine, EngineError, MAX_MACS};
use crate::config::{self, Change, InterfaceName, PortKey};
use crate::fib::FibError;
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
        let mut macs = self.fib.macs().len();
        for (index, change) in changes.iter().enumerate() {
            match change {
                Change::FdbAdd { .. } => macs += 1,
                Change::PortAdd { port, .. } | Change::PortSet { port, .. } => {
                    macs += port.macs.len();
                }
                _ => {}
            }
            if macs > MAX_MACS {
                let error = vtep_dataplane::table::mac::MacTableFull { limit: MAX_MACS };
                let error = FibError::MacsFull(error);
                return Err(EngineError::Table { index, error });
            }
        }
        Ok(())
    }

    /// Opens the interfaces of new ports. Those that don't exist yet, the second ones, are waited for,
    /// as at the start; if one can't be opened for another reason, the whole batch is rejected.
    pub(super) fn prepare(
        &mut self,
        changes: &[Change],
    ) -> Result<
        (
            BTreeMap<InterfaceName, PreparedInterface>,
            BTreeSet<InterfaceName>,
        ),
        EngineError,
    > {
        let (mut all, mut absent) = (BTreeMap::new(), BTreeSet::new());
        for (index, change) in changes.iter().enumerate() {
            let Change::PortAdd { port, .. } = change else {
                continue;
            };
            let name = &port.key.interface;
            if self.interfaces.get(name).is_some() || all.contains_key(name) {
                continue;
            }
            self.check_suitable(name);
            match self.interfaces.prepare(name, purpose(&port.key), port.io) {
                Ok(prepared) => drop(all.insert(name.clone(), prepared)),
                Err(error) if error.is_absent() => drop(absent.insert(name.clone())),
                Err(error) => {
                    all.into_values()
                        .for_each(|prepared| self.interfaces.discard(prepared));
                    return Err(EngineError::Interface {
                        index,
                        error: Box::new(error),
                    });
                }
            }
        }
        Ok((all, absent))
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
                self.finish_leaving(*vni, now);
                self.fib
                    .add_vni(*vni, settings.inner_vlan == config::InnerVlan::Pass)?;
                self.fib
                    .set_resolution(*vni, settings.suppress, settings.miss_events);
                self.fib.set_storm(*vni, settings.storm);
                self.apply_to_evpn(change, None, now);
            }
            Change::VniDel { vni } => {
                for key in self.ports.of_vni(*vni) {
                    self.remove_port(*vni, &key, now);
                }
                self.apply_to_evpn(change, None, now);
                // Its entries are removed in portions, it with the last one.
                self.fib.leave_vni(*vni);
                self.groups_changed |= !self.groups.is_empty();
            }
            Change::PortAdd { vni, port } | Change::PortSet { vni, port } => {
                let name = &port.key.interface;
                self.request_interface(name, purpose(&port.key), port.io)?;
                self.interfaces.set_io(name, port.io, &mut self.workers);
                for mac in &port.macs {
                    self.learned.attach(*vni, *mac, &port.key, now);
                }
                self.install_decided(now);
                let before = self.ports.set(*vni, port, &mut self.fib)?;
                if let Some(before) = &before {
                    self.learning_changed(before, port, now);
                }
                self.apply_to_evpn(change, before.as_ref(), now);
                self.check_suitable(name);
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
            Change::GroupAdd { .. } | Change::GroupDel { .. } => self.groups_changed = true,
            Change::BgpSet { .. } => self.bgp_settings_changed(now),
            Change::BgpNeighborAdd { neighbor } | Change::BgpNeighborSet { neighbor } => {
                self.session_starts.insert(neighbor.address);
            }
            Change::BgpNeighborDel { address } => self.bgp_neighbor_removed(*address, now),
            _ => {}
        }
        Ok(())
    }
}
