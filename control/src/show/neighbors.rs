//! `show neighbors`.

use vtep_dataplane::table::mac::{Destination, MacKey};

use crate::api::show::{MacKind, NeighborRow, ShowQuery};
use crate::engine::EngineView;

impl EngineView<'_> {
    /// The rows of `show neighbors`, from the workers' own table.
    pub(super) fn neighbor_rows(&self, query: &ShowQuery) -> Vec<NeighborRow> {
        let vnis = &self.fib.current().vnis;
        let reader = self.fib.mac_reader();
        let mut rows = Vec::new();
        self.fib.neighbors().for_each(|domain, ip, neighbor| {
            let Some(vni) = vnis.domain(domain).map(|domain| domain.vni) else {
                return;
            };
            if query.vni.is_some_and(|wanted| wanted != vni) {
                return;
            }
            let mac = neighbor.mac.get();
            let fixed = self
                .config
                .vnis()
                .get(&vni)
                .is_some_and(|vni| vni.neighbors().contains_key(&ip));
            let kind = match reader.lookup(MacKey::new(domain, mac)) {
                _ if fixed => MacKind::Static,
                Some(Destination::Port(_)) => MacKind::Local,
                _ => MacKind::Remote,
            };
            rows.push(NeighborRow { vni, ip, mac, kind });
        });
        rows
    }
}
