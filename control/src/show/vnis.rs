//! `show vni` and `show flood`.

use vtep_dataplane::addr::Vni;
use vtep_dataplane::table::vni::Domain;

use crate::api::show::{FloodRow, Rows, ShowQuery, VniRow};
use crate::engine::EngineView;

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

    pub(super) fn vni_page(self, query: &ShowQuery) -> Result<Rows<VniRow>, String> {
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
            traffic: domain.counters.totals().into(),
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
