//! `show drops`.

use vtep_dataplane::drop::DropReason;
use vtep_dataplane::stats::Totals;

use crate::api::show::{DropRow, DropsBy, Rows, ShowQuery};
use crate::engine::EngineView;
use crate::interfaces::Purpose;

impl EngineView<'_> {
    /// Drops by reason are those of the interfaces, which count each frame once. The other
    /// groupings show the same frames by port, VNI or VTEP.
    pub(super) fn drop_rows(&self, query: &ShowQuery) -> Rows<DropRow> {
        let snapshot = self.fib.current();
        let mut rows = Vec::new();
        match query.by {
            DropsBy::Reason => {
                let mut sum = Totals::default();
                for managed in self.interfaces.all().values() {
                    let totals = managed.counters.totals();
                    sum.drops
                        .iter_mut()
                        .zip(totals.drops)
                        .for_each(|(sum, more)| *sum += more);
                }
                push_drops(&mut rows, None, &sum);
            }
            DropsBy::Port => {
                for (name, managed) in self
                    .interfaces
                    .all()
                    .iter()
                    .filter(|(_, m)| m.purpose == Purpose::Underlay)
                {
                    push_drops(
                        &mut rows,
                        Some(name.to_string()),
                        &managed.counters.totals(),
                    );
                }
                for (key, port) in self
                    .ports
                    .iter()
                    .filter(|(_, p)| query.vni.is_none_or(|vni| vni == p.vni))
                {
                    push_drops(&mut rows, Some(key.to_string()), &port.counters.totals());
                }
            }
            DropsBy::Vni => {
                for domain in snapshot
                    .vnis
                    .iter()
                    .filter(|d| query.vni.is_none_or(|vni| vni == d.vni))
                {
                    push_drops(
                        &mut rows,
                        Some(domain.vni.to_string()),
                        &domain.counters.totals(),
                    );
                }
            }
            DropsBy::Vtep => {
                for (_, hop) in snapshot.vteps.iter() {
                    push_drops(
                        &mut rows,
                        Some(hop.vtep.to_string()),
                        &hop.counters.totals(),
                    );
                }
            }
        }
        Rows { rows, next: None }
    }
}

fn push_drops(rows: &mut Vec<DropRow>, by: Option<String>, totals: &Totals) {
    for reason in DropReason::ALL {
        let count = totals.drops[*reason as usize];
        if count > 0 {
            let (reason, explain) = (reason.name().to_owned(), reason.explain().to_owned());
            rows.push(DropRow {
                reason,
                explain,
                count,
                by: by.clone(),
            });
        }
    }
}
