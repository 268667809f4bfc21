//! `show ports`.

use vtep_dataplane::addr::Vni;

use crate::api::show::{
    InterfaceRole, InterfaceRow, LearningRow, PortRow, QueueRow, Rows, ShowQuery,
};
use crate::config::{InterfaceName, PortKey};
use crate::engine::{EngineView, NotLearned};
use crate::interfaces::{ManagedInterface, OpenInterface, Purpose, QueueDrops};

impl EngineView<'_> {
    /// The next page of ports, in the order of their keys.
    pub(super) fn port_page(&self, query: &ShowQuery) -> Result<Rows<PortRow>, String> {
        let after: Option<PortKey> = query.cursor()?;
        let tenants = self.ports.iter();
        let mut keys: Vec<_> = tenants
            .filter(|(_, port)| query.vni.is_none_or(|vni| vni == port.vni))
            .map(|(key, _)| key.clone())
            .collect();
        for (name, managed) in self.interfaces.all() {
            if managed.purpose == Purpose::Underlay && query.vni.is_none() {
                let (interface, vlan) = (name.clone(), None);
                keys.push(PortKey { interface, vlan });
            }
        }
        keys.retain(|key| after.as_ref().is_none_or(|after| key > after));
        keys.sort_unstable();
        keys.dedup();
        // The ports of a trunk follow each other, and their interface is read once.
        let interfaces = keys.chunk_by(|one, other| one.interface == other.interface);
        let rows = interfaces.flat_map(|keys| {
            let of_interface = self.interface_port_row(&keys[0].interface);
            keys.iter()
                .filter_map(move |key| self.any_port_row(key, of_interface.as_ref()?))
        });
        Rows::page(rows, port_key, query)
    }

    /// The row of a tenant port, or of an underlay interface, from what its interface tells.
    fn any_port_row(&self, key: &PortKey, of_interface: &PortRow) -> Option<PortRow> {
        let managed = self.interfaces.get(&key.interface)?;
        let mut row = PortRow {
            vlan: key.vlan,
            ..of_interface.clone()
        };
        if let Some(port) = self.ports.get(key) {
            row.vni = Some(port.vni);
            let totals = port.totals(key, managed);
            row.events_suppressed = totals.events_suppressed;
            row.traffic = totals.into();
            row.learning = self.learning_row(port.vni, key);
        }
        Some(row)
    }

    fn learning_row(&self, vni: Vni, key: &PortKey) -> Option<LearningRow> {
        let port = self.config.vnis().get(&vni)?.ports().get(key)?;
        let usage = self.learned.usage(key);
        let refused = NotLearned::ALL.iter().zip(usage.refused);
        Some(LearningRow {
            macs: usage.macs,
            learn_limit: port.learn.map(|learn| learn.limit),
            addresses: usage.addresses,
            learn_addresses: port.learn_addresses,
            max_addresses: port.max_addresses,
            refused: refused
                .filter(|(_, count)| *count > 0)
                .map(|(refusal, count)| (refusal.word().to_owned(), count))
                .collect(),
        })
    }

    /// What the ports of an interface have in common.
    fn interface_port_row(&self, name: &InterfaceName) -> Option<PortRow> {
        let managed = self.interfaces.get(name)?;
        let (state, reason) = self.port_state(name, managed);
        let interface = interface_row(name, managed);
        Some(PortRow {
            interface: name.to_string(),
            vlan: None,
            vni: None,
            role: interface.role,
            state,
            reason,
            io: interface.io,
            io_reason: managed.open().map(|open| open.choice.why.to_owned()),
            offloads: managed
                .open()
                .filter(|_| managed.purpose != Purpose::Underlay)
                .map_or_else(Vec::new, offloads),
            host_frames: managed.open().and_then(|open| open.backend.host_frames()),
            attach: interface.attach,
            bind: interface.bind,
            multi_buffer: interface.multi_buffer,
            queues: managed.open().map_or_else(Vec::new, queue_rows),
            traffic: managed.totals().into(),
            events_suppressed: 0,
            learning: None,
            xdp: managed.statistics().into(),
        })
    }
}

/// What senders on an interface may leave to vtepd.
fn offloads(open: &OpenInterface) -> Vec<String> {
    let checksum = open.backend.csum_incomplete() || open.backend.superframes();
    let segmentation = open.backend.superframes();
    let all = [
        ("checksum", checksum),
        ("tso", segmentation),
        ("uso", segmentation),
    ];
    let named = all.into_iter().filter(|(_, offered)| *offered);
    named.map(|(word, _)| word.to_owned()).collect()
}

/// The queues that have a socket, should have one, or dropped frames while they had none.
fn queue_rows(open: &OpenInterface) -> Vec<QueueRow> {
    let drops = open.backend.drops();
    let row = |(queue, drops): (u32, &QueueDrops)| {
        let bound = open.queues.iter().find(|bound| bound.number == queue);
        let expected = open.unbound.iter().any(|unbound| unbound.number == queue);
        (bound.is_some() || expected || drops.no_socket > 0).then(|| QueueRow {
            queue,
            worker: bound.map(|bound| bound.worker.0),
            no_socket: drops.no_socket,
        })
    };
    (0..).zip(&drops).filter_map(row).collect()
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
        io: open.map(|open| open.backend.io().into()),
        attach: open
            .and_then(|open| open.backend.attach_mode())
            .map(Into::into),
        bind: open
            .and_then(|open| open.queues.first()?.mode)
            .map(Into::into),
        multi_buffer: open.map(OpenInterface::is_multi_buffer),
        queues: open.map_or(0, |open| open.queues.len() as u32),
        notes: Vec::new(),
    }
}
