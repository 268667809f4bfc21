//! Rows of devices and of tenant ports.

use std::sync::Arc;

use vtep_dataplane::addr::{DeviceId, PortId, Vni};
use vtep_dataplane::table::port::{Device, PortEntry};

use super::{Fib, FibError, MAX_PORTS};

impl Fib {
    /// A free device identifier.
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

    /// A device's row: `None` takes it out and frees the identifier.
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

    /// A free port identifier.
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

    /// A port's row: also enters it into its VNI's flood list.
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

    /// Takes a port out of its VNI's flood list and frees its identifier.
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

/// Sets one place of a table that grows as needed.
fn set_row<T>(table: &mut Vec<Option<T>>, index: usize, value: Option<T>) {
    if table.len() <= index {
        table.resize_with(index + 1, || None);
    }
    table[index] = value;
}
