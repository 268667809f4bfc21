//! `show mac`.

use std::time::Instant;

use vtep_dataplane::addr::{HostMac, MacAddr, Vni};
use vtep_dataplane::table::mac::Destination;

use super::page::Page;
use crate::api::show::{MAX_ROWS, MacCursor, MacKind, MacRow, Rows, ShowQuery};
use crate::engine::EngineView;
use crate::evpn::EntryOrigin;

impl EngineView<'_> {
    /// The next page of MACs in the order of (VNI, MAC): one pass over the table, which is
    /// unordered.
    pub(super) fn mac_page(&self, query: &ShowQuery, now: Instant) -> Result<Rows<MacRow>, String> {
        let after: Option<MacCursor> = query.cursor()?;
        let limit = query.limit.clamp(1, MAX_ROWS);
        let snapshot = self.fib.current();
        let mut page = Page::new(limit);
        self.fib.macs().for_each(|key, to| {
            let Some(domain) = snapshot.vnis.domain(key.domain()) else {
                return;
            };
            let place = (domain.vni, key.mac());
            let wanted = query.vni.is_none_or(|vni| vni == place.0)
                && query.mac.is_none_or(|mac| mac == place.1)
                && after.is_none_or(|after| place > (after.0, after.1));
            if wanted {
                page.offer(place, || to);
            }
        });
        let (places, more) = page.finish();
        let rows: Vec<_> = places
            .into_iter()
            .map(|(place, to)| self.mac_row(place, to, now))
            .collect();
        let next = rows
            .last()
            .filter(|_| more)
            .map(|row| MacCursor(row.vni, row.mac).to_string());
        Ok(Rows { rows, next })
    }

    fn mac_row(&self, (vni, mac): (Vni, MacAddr), to: Destination, now: Instant) -> MacRow {
        let host = HostMac::new(mac).ok();
        let known = host.and_then(|host| self.evpn.speaker.mac(vni, host));
        let mut flags = Vec::new();
        let (kind, port, vtep) = match to {
            Destination::Port(id) => {
                let locked = self.fib.port(id).is_some_and(|port| port.lock.is_some());
                flags.extend(locked.then_some("locked"));
                (MacKind::Local, self.ports.by_id(id).cloned(), None)
            }
            Destination::Vtep(id) => {
                let hop = self.fib.current().vteps.get(id);
                flags.extend(
                    hop.is_none_or(|hop| hop.paths.is_empty())
                        .then_some("unresolved"),
                );
                let remote = known.is_some_and(|known| known.origin == EntryOrigin::Evpn);
                let kind = if remote {
                    MacKind::Remote
                } else {
                    MacKind::Static
                };
                (kind, None, hop.map(|hop| hop.vtep))
            }
        };
        let age = host.and_then(|host| self.learned.age(vni, host, now));
        flags.extend(age.map(|_| "learned"));
        flags.extend(
            known
                .filter(|known| known.mobility.sticky)
                .map(|_| "sticky"),
        );
        flags.extend(known.filter(|known| known.frozen).map(|_| "frozen"));
        let sequence = known
            .filter(|known| known.origin != EntryOrigin::Static)
            .map(|known| known.mobility.sequence);
        let flags = flags.into_iter().map(str::to_owned).collect();
        MacRow {
            vni,
            mac,
            kind,
            port,
            vtep,
            sequence,
            flags,
            age,
        }
    }
}
