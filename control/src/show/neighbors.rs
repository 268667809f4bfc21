//! `show neighbors`.

use std::net::IpAddr;

use vtep_dataplane::addr::{DomainId, Vni};
use vtep_dataplane::table::mac::{Destination, MacKey};
use vtep_dataplane::table::neighbor::{NeighborEntry, NeighborTable};

use super::portion::{FoundRows, Page, Portion};
use crate::api::message::ApiError;
use crate::api::show::{MacKind, NeighborCursor, NeighborRow, ShowQuery};
use crate::engine::EngineView;

/// How far a page of `show.neighbors` is: shard by shard of the workers' own table, in which an
/// entry never changes its shard.
#[derive(Debug)]
pub struct NeighborPass {
    page: Page<NeighborCursor, ()>,
    shard: usize,
    /// Once all shards are read.
    found: Option<FoundRows<NeighborCursor>>,
}

impl NeighborPass {
    /// The first state of a pass.
    pub(super) fn new(query: &ShowQuery) -> Result<Self, String> {
        query.cursor::<NeighborCursor>()?;
        Ok(Self {
            page: Page::new(query.rows()),
            shard: 0,
            found: None,
        })
    }
}

impl EngineView<'_> {
    /// The next page of neighbors in the order of (VNI, address). `None`: to be continued.
    pub(super) fn neighbor_page(
        &self,
        query: &ShowQuery,
        pass: &mut NeighborPass,
    ) -> Option<Result<String, ApiError>> {
        let mut portion = Portion::begin();
        if pass.found.is_none() {
            self.find_neighbors(query, pass, &mut portion)?;
            let (places, more) = pass.page.finish();
            let last = places.last().filter(|_| more);
            let next = last.map(|(place, ())| place.to_string());
            let places = places.into_iter().map(|(place, ())| place).collect();
            pass.found = Some(FoundRows::new(places, next));
        }
        let found = pass.found.as_mut()?;
        let row = |NeighborCursor(vni, ip)| {
            let domain = self.fib.domain_id(vni)?;
            let neighbor = self.fib.neighbors().get(domain, ip)?;
            Some(self.neighbor_row(vni, ip, domain, neighbor))
        };
        match found.write(&mut portion, row) {
            Ok(false) => None,
            Ok(true) => Some(found.finish()),
            Err(error) => Some(Err(error)),
        }
    }

    /// Finds the places of a page. `None`: to be continued.
    fn find_neighbors(
        &self,
        query: &ShowQuery,
        pass: &mut NeighborPass,
        portion: &mut Portion,
    ) -> Option<()> {
        let after: Option<NeighborCursor> = query.cursor().ok()?;
        let vnis = &self.fib.current().vnis;
        let table = self.fib.neighbors();
        while pass.shard < NeighborTable::SHARDS {
            table.for_each_of(pass.shard, |domain, ip, _| {
                portion.is_over();
                let Some(vni) = vnis.domain(domain).map(|domain| domain.vni) else {
                    return;
                };
                let place = NeighborCursor(vni, ip);
                if query.vni.is_none_or(|wanted| wanted == vni)
                    && after.is_none_or(|after| place > after)
                {
                    pass.page.offer(place, ());
                }
            });
            pass.shard += 1;
            if pass.shard.is_multiple_of(16) && portion.is_over_now() {
                return None;
            }
        }
        Some(())
    }

    fn neighbor_row(
        &self,
        vni: Vni,
        ip: IpAddr,
        domain: DomainId,
        neighbor: NeighborEntry,
    ) -> NeighborRow {
        let mac = neighbor.mac.get();
        let fixed = self
            .config
            .vnis()
            .get(&vni)
            .is_some_and(|vni| vni.neighbors().contains_key(&ip));
        let kind = match self.fib.mac_reader().lookup(MacKey::new(domain, mac)) {
            _ if fixed => MacKind::Static,
            Some(Destination::Port(_)) => MacKind::Local,
            _ => MacKind::Remote,
        };
        NeighborRow { vni, ip, mac, kind }
    }
}
