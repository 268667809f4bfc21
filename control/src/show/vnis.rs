//! `show vni` and `show flood`.

use vtep_dataplane::table::mac::Destination;

use crate::api::show::{FloodRow, ShowQuery, VniRow};
use crate::engine::EngineView;

impl EngineView<'_> {
    pub(super) fn vni_rows(&self, query: &ShowQuery) -> Vec<VniRow> {
        let snapshot = self.fib.current();
        let mut local = vec![0; usize::from(u16::MAX) + 1];
        let (mut remote, mut neighbors) = (local.clone(), local.clone());
        self.fib
            .neighbors()
            .for_each(|domain, _, _| neighbors[domain.index()] += 1);
        self.fib.macs().for_each(|key, to| match to {
            Destination::Port(_) => local[key.domain().index()] += 1,
            Destination::Vtep(_) => remote[key.domain().index()] += 1,
        });
        let mut rows: Vec<_> = snapshot
            .vnis
            .iter()
            .filter(|domain| query.vni.is_none_or(|vni| vni == domain.vni))
            .map(|domain| VniRow {
                vni: domain.vni,
                ports: domain.flood.ports.len(),
                remote_vteps: snapshot
                    .vteps
                    .iter()
                    .filter(|(id, hop)| domain.sources.contains(*id) && !hop.vtep.is_group())
                    .count(),
                macs_local: local[domain.id.index()],
                macs_remote: remote[domain.id.index()],
                neighbors: neighbors[domain.id.index()],
                traffic: domain.counters.totals().into(),
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.vni);
        rows
    }

    pub(super) fn flood_rows(&self, query: &ShowQuery) -> Vec<FloodRow> {
        let snapshot = self.fib.current();
        let domains = snapshot
            .vnis
            .iter()
            .filter(|domain| query.vni.is_none_or(|vni| vni == domain.vni));
        let mut rows: Vec<_> = domains
            .map(|domain| FloodRow {
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
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.vni);
        rows
    }
}
