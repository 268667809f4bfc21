//! Rows of devices and of tenant ports.

use std::sync::Arc;

use vtep_dataplane::addr::{DeviceId, DomainId, PortId, Vni};
use vtep_dataplane::table::port::{Device, PortEntry};

use super::{Fib, FibError};
use crate::config::{MAX_INTERFACES, MAX_PORTS};

impl Fib {
    /// Allocates a device ID.
    ///
    /// # Errors
    /// [`FibError::NoId`] when there are [`MAX_INTERFACES`] devices.
    pub fn alloc_device_id(&mut self) -> Result<DeviceId, FibError> {
        let index = self
            .device_ids
            .alloc(MAX_INTERFACES)
            .ok_or(FibError::NoId(MAX_INTERFACES, "interfaces"))?;
        Ok(DeviceId(index as u16))
    }

    /// Sets a device's row; `None` removes it and frees the ID.
    pub fn set_device(&mut self, id: DeviceId, device: Option<Arc<Device>>) {
        let version = self.next_version();
        match (&device, self.ports.device(id)) {
            (None, _) => self.device_ids.free(id.index()),
            (Some(_), None) => Arc::make_mut(&mut self.since).set_device(id, version),
            (Some(_), Some(_)) => {}
        }
        set_row(&mut self.ports.devices, id.index(), device);
        self.ports_dirty = true;
    }

    /// The staged row of a device.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.ports.device(id)
    }

    /// Allocates a port ID.
    ///
    /// # Errors
    /// [`FibError::NoId`] when there are [`MAX_PORTS`] ports.
    pub fn alloc_port_id(&mut self) -> Result<PortId, FibError> {
        let index = self
            .port_ids
            .alloc(MAX_PORTS)
            .ok_or(FibError::NoId(MAX_PORTS, "ports"))?;
        Ok(PortId(index as u16))
    }

    /// Sets a port's row and adds it to its VNI's flood list.
    pub fn set_port(&mut self, vni: Vni, entry: Arc<PortEntry>) {
        let id = entry.id;
        let is_same = |old: &PortEntry| {
            (old.domain, old.device, old.vlan) == (entry.domain, entry.device, entry.vlan)
        };
        if !self.ports.port(id).is_some_and(is_same) {
            let version = self.next_version();
            Arc::make_mut(&mut self.since).set_port(id, version);
        }
        set_row(&mut self.ports.ports, id.index(), Some(entry));
        self.ports_dirty = true;
        self.edit_domain(vni, |state| {
            if !state.ports.contains(&id) {
                state.ports.push(id);
            }
        });
    }

    /// Removes a port's row and its flood list entry, and frees its ID.
    pub fn remove_port(&mut self, vni: Vni, id: PortId) {
        set_row(&mut self.ports.ports, id.index(), None);
        self.port_ids.free(id.index());
        self.ports_dirty = true;
        self.edit_domain(vni, |state| state.ports.retain(|port| *port != id));
    }

    /// Whether a port and a domain of snapshot `version` are still the same in the staged tables.
    #[must_use]
    pub fn is_valid_since(&self, version: u64, port: Option<PortId>, domain: DomainId) -> bool {
        port.is_none_or(|id| self.ports.port(id).is_some() && self.since.port(id) <= version)
            && self.since.domain(domain) <= version
    }

    /// The staged row of a port.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&PortEntry> {
        self.ports.port(id)
    }
}

/// Sets one row of a table, which grows as needed.
fn set_row<T>(table: &mut Vec<Option<T>>, index: usize, value: Option<T>) {
    if table.len() <= index {
        table.resize_with(index + 1, || None);
    }
    table[index] = value;
}
