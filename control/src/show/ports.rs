//! `show ports`.

use crate::api::show::{InterfaceRole, InterfaceRow, PortRow, QueueRow, ShowQuery};
use crate::config::{InterfaceName, PortKey};
use crate::engine::EngineView;
use crate::interfaces::{ManagedInterface, OpenInterface, Purpose};

impl EngineView<'_> {
    pub(super) fn port_rows(&self, query: &ShowQuery) -> Vec<PortRow> {
        let mut rows = Vec::new();
        for (name, managed) in self.interfaces.all() {
            let underlay = managed.purpose == Purpose::Underlay;
            if underlay && query.vni.is_none() {
                rows.push(self.port_row(name, managed, None));
            }
        }
        for (key, port) in self
            .ports
            .iter()
            .filter(|(_, port)| query.vni.is_none_or(|vni| vni == port.vni))
        {
            if let Some(managed) = self.interfaces.get(&key.interface) {
                let mut row = self.port_row(&key.interface, managed, key.vlan);
                row.vni = Some(port.vni);
                let totals = port.counters.totals();
                row.events_suppressed = totals.events_suppressed;
                row.traffic = totals.into();
                rows.push(row);
            }
        }
        rows.sort_by_cached_key(port_key);
        rows
    }

    fn port_row(
        &self,
        name: &InterfaceName,
        managed: &ManagedInterface,
        vlan: Option<u16>,
    ) -> PortRow {
        let (state, reason) = self.port_state(name, managed);
        let interface = interface_row(name, managed);
        PortRow {
            interface: name.to_string(),
            vlan,
            vni: None,
            role: interface.role,
            state,
            reason,
            attach: interface.attach,
            bind: interface.bind,
            multi_buffer: interface.multi_buffer,
            queues: managed.open().map_or_else(Vec::new, |open| {
                open.queues
                    .iter()
                    .map(|queue| QueueRow {
                        queue: queue.number,
                        worker: queue.worker.0,
                    })
                    .collect()
            }),
            traffic: managed.counters.totals().into(),
            events_suppressed: 0,
            xdp: managed
                .open()
                .map(|open| self.interfaces.statistics(open).into())
                .unwrap_or_default(),
        }
    }
}

pub(super) fn port_key(row: &PortRow) -> PortKey {
    let interface = row.interface.parse().expect("rows are made of valid names");
    PortKey {
        interface,
        vlan: row.vlan,
    }
}

pub(super) fn interface_row(name: &InterfaceName, managed: &ManagedInterface) -> InterfaceRow {
    let open = managed.open();
    InterfaceRow {
        interface: name.to_string(),
        role: match managed.purpose {
            Purpose::Underlay => InterfaceRole::Underlay,
            Purpose::Tenant | Purpose::Trunk => InterfaceRole::Tenant,
        },
        attach: open.map(|open| open.backend.attach_mode().into()),
        bind: open
            .and_then(|open| open.queues.first())
            .map(|queue| queue.mode.into()),
        multi_buffer: open.map(OpenInterface::is_multi_buffer),
        queues: open.map_or(0, |open| open.queues.len() as u32),
        notes: Vec::new(),
    }
}
