//! Rows of devices and of tenant ports.

use std::sync::Arc;

use vtep_dataplane::addr::{DeviceId, PortId, Vni};
use vtep_dataplane::table::port::{Device, PortEntry};

use super::{Fib, FibError, MAX_PORTS};

impl Fib {
    /// Allocates a device ID.
    ///
    /// # Errors
    /// [`FibError::NoId`] when there are [`MAX_PORTS`] devices.
    pub fn alloc_device_id(&mut self) -> Result<DeviceId, FibError> {
        let index = self
            .device_ids
            .alloc(MAX_PORTS)
            .ok_or(FibError::NoId(MAX_PORTS, "interfaces"))?;
        Ok(DeviceId(index as u16))
    }

    /// Sets a device's row; `None` removes it and frees the ID.
    pub fn set_device(&mut self, id: DeviceId, device: Option<Arc<Device>>) {
        if device.is_none() {
            self.device_ids.free(id.index());
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
