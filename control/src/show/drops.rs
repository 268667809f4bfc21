//! `show drops`.

use std::net::IpAddr;

use vtep_dataplane::addr::Vni;
use vtep_dataplane::drop::DropReason;
use vtep_dataplane::stats::Totals;

use super::vnis::vni_totals;
use crate::api::show::{DropRow, DropsBy, Rows, ShowQuery};
use crate::config::PortKey;
use crate::engine::EngineView;
use crate::interfaces::Purpose;

/// Counters that are looked at at once: most of them are zero, and have no row.
const LOOKS: usize = 4096;

/// Counters with what they are grouped by.
type Counted<'a> = Box<dyn Iterator<Item = (String, Totals)> + 'a>;

impl EngineView<'_> {
    /// Drops by reason are those of the interfaces, which count each frame once. The other
    /// groupings show the same frames by port, VNI or VTEP.
    ///
    /// The rows end between two ports, VNIs or VTEPs; the cursor is the last one.
    pub(super) fn drop_page(&self, query: &ShowQuery) -> Result<Rows<DropRow>, String> {
        let mut counted = match query.by {
            DropsBy::Reason => return Ok(self.drops_by_reason()),
            DropsBy::Port => self.drops_by_port(query)?,
            DropsBy::Vni => self.drops_by_vni(query)?,
            DropsBy::Vtep => self.drops_by_vtep(query)?,
        };
        let (mut rows, mut last) = (Vec::new(), None);
        for (by, totals) in counted.by_ref().take(LOOKS) {
            push_drops(&mut rows, Some(&by), &totals);
            last = Some(by);
            if rows.len() >= query.rows() {
                break;
            }
        }
        let next = counted.next().and(last);
        Ok(Rows { rows, next })
    }

    fn drops_by_reason(&self) -> Rows<DropRow> {
        let mut sum = Totals::default();
        for managed in self.interfaces.all().values() {
            let totals = managed.totals();
            let drops = sum.drops.iter_mut().zip(totals.drops);
            drops.for_each(|(sum, more)| *sum += more);
        }
        let mut rows = Vec::new();
        push_drops(&mut rows, None, &sum);
        Rows { rows, next: None }
    }

    fn drops_by_port(&self, query: &ShowQuery) -> Result<Counted<'_>, String> {
        let after: Option<PortKey> = query.cursor()?;
        let underlay = self.interfaces.all().iter();
        let underlay = underlay.filter(|(_, managed)| managed.purpose == Purpose::Underlay);
        let underlay = underlay.map(|(name, _)| PortKey {
            interface: name.clone(),
            vlan: None,
        });
        let tenants = self.ports.iter();
        let tenants = tenants.filter(|(_, p)| query.vni.is_none_or(|vni| vni == p.vni));
        let mut keys: Vec<_> = underlay
            .chain(tenants.map(|(key, _)| key.clone()))
            .filter(|key| after.as_ref().is_none_or(|after| key > after))
            .collect();
        keys.sort_unstable();
        Ok(Box::new(keys.into_iter().map(|key| {
            let managed = self.interfaces.get(&key.interface);
            let totals = managed.map(|managed| match self.ports.get(&key) {
                Some(port) => port.totals(&key, managed),
                None => managed.totals(),
            });
            (key.to_string(), totals.unwrap_or_default())
        })))
    }

    fn drops_by_vni(&self, query: &ShowQuery) -> Result<Counted<'_>, String> {
        let after: Option<Vni> = query.cursor()?;
        let only = query.vni;
        let vnis = self.fib.vnis_from(only.max(after));
        let wanted = vnis
            .take_while(move |vni| only.is_none_or(|only| only == *vni))
            .filter(move |vni| after.is_none_or(|after| *vni > after));
        let snapshot = self.fib.current();
        let own = self.own_interfaces();
        Ok(Box::new(wanted.filter_map(move |vni| {
            let domain = snapshot.vnis.by_vni(vni.get())?;
            Some((vni.to_string(), vni_totals(domain, &own)))
        })))
    }

    fn drops_by_vtep(&self, query: &ShowQuery) -> Result<Counted<'_>, String> {
        let after: Option<IpAddr> = query.cursor()?;
        let hops = self.fib.current().vteps.iter();
        let mut hops: Vec<_> = hops
            .map(|(_, hop)| (hop.vtep.get(), &hop.counters))
            .filter(|(vtep, _)| after.is_none_or(|after| *vtep > after))
            .collect();
        hops.sort_unstable_by_key(|(vtep, _)| *vtep);
        let rows = hops.into_iter();
        Ok(Box::new(rows.map(|(vtep, counters)| {
            (vtep.to_string(), counters.totals())
        })))
    }
}

fn push_drops(rows: &mut Vec<DropRow>, by: Option<&String>, totals: &Totals) {
    for reason in DropReason::ALL {
        let count = totals.drops[*reason as usize];
        if count > 0 {
            let (reason, explain) = (reason.name().to_owned(), reason.explain().to_owned());
            rows.push(DropRow {
                reason,
                explain,
                count,
                by: by.cloned(),
            });
        }
    }
}
