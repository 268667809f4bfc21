//! `show mac`.

use std::time::Instant;

use vtep_dataplane::addr::{HostMac, MacAddr, Vni, VtepId};
use vtep_dataplane::table::mac::{Destination, MacKey};
use vtep_dataplane::table::vtep::RemoteVtep;

use super::portion::{FoundRows, Page, Portion};
use crate::api::message::ApiError;
use crate::api::show::{MacCursor, MacKind, MacRow, ShowQuery};
use crate::engine::EngineView;
use crate::evpn::EntryOrigin;

/// MACs of a VNI that are read in one portion, about as long as the others are; those of a larger VNI
/// take several.
const LARGE: usize = 1 << 14;

/// How far a page of `show.mac` is: VNI by VNI, in order.
#[derive(Debug)]
pub struct MacPass {
    page: Page<MacCursor, ()>,
    /// The VNI that is read next.
    vni: Option<Vni>,
    /// In a large VNI: the next place of the speaker's table.
    place: Option<u32>,
    /// Once all VNIs are read.
    found: Option<FoundRows<MacCursor>>,
}

impl EngineView<'_> {
    /// The next page of MACs in the order of (VNI, MAC). `None`: to be continued.
    pub(super) fn mac_page(
        &self,
        query: &ShowQuery,
        pass: &mut MacPass,
        now: Instant,
    ) -> Option<Result<String, ApiError>> {
        let mut portion = Portion::begin();
        if pass.found.is_none() {
            self.find_macs(query, pass, &mut portion)?;
            let (places, more) = pass.page.finish();
            let last = places.last().filter(|_| more);
            let next = last.map(|(last, ())| last.to_string());
            let places = places.into_iter().map(|(place, ())| place).collect();
            pass.found = Some(FoundRows::new(places, next));
        }
        let found = pass.found.as_mut()?;
        let reader = self.fib.mac_reader();
        let row = |MacCursor(vni, mac)| {
            let domain = self.fib.domain_id(vni)?;
            // Not all that the speaker knows has an entry: a full table refuses some.
            let to = reader.lookup(MacKey::new(domain, mac))?;
            Some(self.mac_row((vni, mac), to, now))
        };
        match found.write(&mut portion, row) {
            Ok(false) => None,
            Ok(true) => Some(mac_answer(found, query)),
            Err(error) => Some(Err(error)),
        }
    }

    /// Finds the places of a page. `None`: to be continued.
    fn find_macs(
        &self,
        query: &ShowQuery,
        pass: &mut MacPass,
        portion: &mut Portion,
    ) -> Option<()> {
        let after: Option<MacCursor> = query.cursor().ok()?;
        let reader = self.fib.mac_reader();
        while let Some(vni) = pass.vni {
            if pass.place.is_none() && pass.page.is_complete() {
                break;
            }
            let offer = |page: &mut Page<_, _>, mac: HostMac| {
                let place = MacCursor(vni, mac.get());
                if after.is_none_or(|after| place > after) {
                    page.offer(place, ());
                }
            };
            let speaker = &self.evpn.speaker;
            if let Some(mac) = query.mac {
                let domain = self.fib.domain_id(vni);
                let known = domain.and_then(|of| reader.lookup(MacKey::new(of, mac)));
                let host = HostMac::new(mac).ok().filter(|_| known.is_some());
                host.into_iter().for_each(|mac| offer(&mut pass.page, mac));
            } else if let Some(place) = pass.place {
                let end = speaker.mac_places();
                let mut place = place;
                while place < end && !portion.is_over() {
                    let known = speaker.mac_at(place).filter(|(of, _)| *of == vni);
                    known
                        .into_iter()
                        .for_each(|(_, mac)| offer(&mut pass.page, mac));
                    place += 1;
                }
                pass.place = Some(place);
                if place < end {
                    return None;
                }
                // Hosts that have become local meanwhile.
                speaker
                    .own_macs(vni)
                    .for_each(|mac| offer(&mut pass.page, mac));
                pass.place = None;
            } else {
                speaker
                    .own_macs(vni)
                    .for_each(|mac| offer(&mut pass.page, mac));
                let counts = self.fib.entry_counts(vni);
                if counts.macs_remote > LARGE {
                    pass.place = Some(0);
                    continue;
                }
                let remote = speaker.route_macs(vni);
                remote.for_each(|mac| {
                    portion.is_over();
                    offer(&mut pass.page, mac);
                });
            }
            pass.vni = match query.vni {
                Some(_) => None,
                None => self.fib.vnis_after(vni).next(),
            };
            if portion.is_over_now() {
                return None;
            }
        }
        Some(())
    }

    /// The first state of a pass.
    pub(super) fn mac_pass(&self, query: &ShowQuery) -> Result<MacPass, String> {
        let after: Option<MacCursor> = query.cursor()?;
        let first = after.map(|after| after.0);
        Ok(MacPass {
            page: Page::new(query.rows()),
            vni: query.vni.or_else(|| self.fib.vnis_from(first).next()),
            place: None,
            found: None,
        })
    }

    /// The VTEPs of a row: one, or those of a group.
    fn hops(&self, id: VtepId) -> Vec<&RemoteVtep> {
        let table = &self.fib.current().vteps;
        match table.group(id) {
            Some(group) => group
                .members
                .iter()
                .filter_map(|member| table.get(*member))
                .collect(),
            None => table.get(id).into_iter().collect(),
        }
    }

    fn mac_row(&self, (vni, mac): (Vni, MacAddr), to: Destination, now: Instant) -> MacRow {
        let host = HostMac::new(mac).ok();
        let known = host.and_then(|host| self.evpn.speaker.mac(vni, host));
        let mut flags = Vec::new();
        let mut vteps = Vec::new();
        let (kind, port, vtep) = match to {
            Destination::Port(id) => {
                let locked = self.fib.port(id).is_some_and(|port| port.lock.is_some());
                flags.extend(locked.then_some("locked"));
                (MacKind::Local, self.ports.by_id(id).cloned(), None)
            }
            Destination::Vtep(id) => {
                let hops = self.hops(id);
                let is_unresolved = hops.iter().all(|hop| hop.paths.is_empty());
                let group = self.fib.current().vteps.group(id);
                flags.extend(match (group, is_unresolved) {
                    (Some(_), _) if hops.is_empty() => Some("flushed"),
                    (_, unresolved) => unresolved.then_some("unresolved"),
                });
                let announced = known.and_then(|known| known.vtep);
                let vtep = match group {
                    Some(_) => announced,
                    None => hops.first().map(|hop| hop.vtep),
                };
                if group.is_some() {
                    vteps = hops.iter().map(|hop| hop.vtep).collect();
                }
                let remote = known.is_some_and(|known| known.origin == EntryOrigin::Evpn);
                let kind = if remote {
                    MacKind::Remote
                } else {
                    MacKind::Static
                };
                (kind, None, vtep)
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
            esi: known.and_then(|known| known.esi),
            vteps,
            sequence,
            flags,
            age,
            addresses: host.and_then(|host| self.evpn.speaker.address_count(vni, host)),
        }
    }
}

/// A MAC that was asked for and is not known is an error: an empty table would pass for an answer.
fn mac_answer(found: &mut FoundRows<MacCursor>, query: &ShowQuery) -> Result<String, ApiError> {
    if let (Some(mac), None, true) = (query.mac, &query.after, found.is_empty()) {
        let place = query
            .vni
            .map_or_else(|| "any VNI".to_owned(), |vni| format!("VNI {vni}"));
        return Err(ApiError::refused(format!("{mac} is not known in {place}")));
    }
    found.finish()
}
