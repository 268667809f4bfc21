//! `show vni` and `show flood`.

use std::collections::HashMap;

use vtep_dataplane::addr::Vni;
use vtep_dataplane::stats::Totals;
use vtep_dataplane::table::vni::Domain;

use crate::api::show::{FloodRow, Rows, ShowQuery, VniRow};
use crate::engine::EngineView;
use crate::interfaces::ManagedInterface;

/// Interfaces by the VNI that all their frames are of.
pub(super) type OwnInterfaces<'e> = HashMap<Vni, Vec<&'e ManagedInterface>>;

/// Everything that is counted for a VNI.
pub(super) fn vni_totals(domain: &Domain, own: &OwnInterfaces<'_>) -> Totals {
    let mut totals = domain.counters.totals();
    for managed in own.get(&domain.vni).into_iter().flatten() {
        managed.program_drops().add_to(&mut totals);
    }
    totals
}

impl<'e> EngineView<'e> {
    /// The domains from the VNI of the query's cursor on, in order.
    fn domains(self, query: &ShowQuery) -> Result<impl Iterator<Item = &'e Domain>, String> {
        let first: Option<Vni> = query.cursor()?;
        let only = query.vni;
        let vnis = self.fib.vnis_from(only.max(first));
        let wanted = vnis.take_while(move |vni| only.is_none_or(|only| only == *vni));
        let snapshot = self.fib.current();
        Ok(wanted.filter_map(|vni| snapshot.vnis.by_vni(vni.get())))
    }

    /// The interfaces of tenant ports that have one for themselves, by VNI: what the kernel counts of
    /// such an interface is of that VNI.
    pub(super) fn own_interfaces(self) -> OwnInterfaces<'e> {
        let mut by_vni = OwnInterfaces::default();
        let own = self.ports.iter().filter(|(key, _)| key.vlan.is_none());
        for (key, port) in own {
            if let Some(managed) = self.interfaces.get(&key.interface) {
                by_vni.entry(port.vni).or_default().push(managed);
            }
        }
        by_vni
    }

    pub(super) fn vni_page(self, query: &ShowQuery) -> Result<Rows<VniRow>, String> {
        let own = self.own_interfaces();
        let rows = self.domains(query)?.map(|domain| VniRow {
            vni: domain.vni,
            ports: domain.flood.ports.len(),
            remote_vteps: self
                .fib
                .member_count(domain.vni)
                .saturating_sub(usize::from(domain.group.is_some())),
            macs_local: self.fib.entry_counts(domain.vni).macs_local,
            macs_remote: self.fib.entry_counts(domain.vni).macs_remote,
            neighbors: self.fib.entry_counts(domain.vni).neighbors,
            addresses: self.learned.addresses_in(domain.vni),
            max_addresses: self.max_addresses(domain.vni),
            traffic: vni_totals(domain, &own).into(),
        });
        Rows::page(rows, |row| row.vni, query)
    }

    fn max_addresses(&self, vni: Vni) -> u32 {
        let content = self.config.vnis().get(&vni);
        content.map_or(0, |content| content.settings().max_addresses)
    }

    pub(super) fn flood_page(self, query: &ShowQuery) -> Result<Rows<FloodRow>, String> {
        let snapshot = self.fib.current();
        let rows = self.domains(query)?.map(|domain| FloodRow {
            vni: domain.vni,
            vteps: domain
                .flood
                .vteps
                .iter()
                .filter_map(|id| Some(snapshot.vteps.get(*id)?.vtep.get()))
                .collect(),
            ports: domain
                .flood
                .ports
                .iter()
                .filter_map(|id| self.ports.by_id(*id).cloned())
                .collect(),
        });
        Rows::page(rows, |row| row.vni, query)
    }
}
