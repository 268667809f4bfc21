//! `show bgp routes`: the originated routes and those of the RIB, each with whether it is installed,
//! and why not; and the numbers of installed routes. There may be millions: see [`super::portion`].

use std::fmt::Write;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::portion::{FoundRows, Page, Portion};
use crate::api::bgp::RouteRow;
use crate::api::message::ApiError;
use crate::api::show::ShowQuery;
use crate::bgp::wire::{EvpnRoute, Rd};
use crate::engine::EngineView;
use crate::evpn::{NeighborId, RouteNote, RouteStatus, RouteView};

/// Numbers of a neighbor's routes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RouteCount {
    pub(super) installed: u64,
    pub(super) stale: u64,
    /// Those whose address no host can have.
    pub(super) invalid_addresses: u64,
}

/// Those of all neighbors.
pub(super) type RouteCounts = HashMap<NeighborId, RouteCount>;

/// How far the numbers of routes are: a pass over the RIB, in which a route keeps its slot.
#[derive(Debug, Default)]
pub struct CountPass {
    counts: RouteCounts,
    slot: u32,
}

/// Octets of the longest cursor: type, RD, tag, MAC, address, neighbor.
const CURSOR: usize = 56;

/// Sort key of routes: type, NLRI, then the sending neighbor. Local routes come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RouteCursor {
    octets: [u8; CURSOR],
    length: u8,
}

/// Where the row of a route comes from.
#[derive(Debug, Clone, Copy)]
enum RouteSource {
    /// It is originated here.
    Own(EvpnRoute),
    /// The path of a neighbor, in a slot of the RIB.
    Path(u32, NeighborId),
}

/// How far a page of `show.bgp.routes` is: a pass over the originated routes, then over the RIB.
#[derive(Debug)]
pub struct RoutePass {
    after: Option<RouteCursor>,
    neighbor: Option<NeighborId>,
    page: Page<RouteCursor, RouteSource>,
    /// The last originated route that was looked at, until all were.
    own: Option<Option<EvpnRoute>>,
    slot: u32,
    /// Once all routes were looked at.
    found: Option<FoundRows<(RouteCursor, RouteSource)>>,
}

impl EngineView<'_> {
    /// Counts the routes of all neighbors. `None`: to be continued.
    pub(super) fn route_counts<'p>(&self, pass: &'p mut CountPass) -> Option<&'p RouteCounts> {
        let mut portion = Portion::begin();
        let speaker = &self.evpn.speaker;
        while pass.slot < speaker.route_slots() {
            for route in speaker.routes_at(pass.slot) {
                let Some(neighbor) = route.neighbor else {
                    continue;
                };
                let count = pass.counts.entry(neighbor).or_default();
                count.installed += u64::from(route.status == Some(RouteStatus::Installed));
                count.stale += u64::from(route.stale);
                count.invalid_addresses += u64::from(route.note == Some(RouteNote::InvalidAddress));
            }
            pass.slot += 1;
            if portion.is_over() {
                return None;
            }
        }
        Some(&pass.counts)
    }

    /// The first state of a pass.
    pub(super) fn route_pass(&self, query: &ShowQuery) -> Result<RoutePass, ApiError> {
        let parse = |text: &String| {
            RouteCursor::parse(text).ok_or_else(|| {
                ApiError::refused(format!(
                    "invalid cursor {text:?} in `after`: must be the `next` of a page"
                ))
            })
        };
        let id = |address: IpAddr| {
            let unknown = || ApiError::refused(format!("unknown BGP neighbor {address}"));
            self.evpn.id(address).ok_or_else(unknown)
        };
        Ok(RoutePass {
            after: query.after.as_ref().map(parse).transpose()?,
            neighbor: query.neighbor.map(id).transpose()?,
            page: Page::new(query.rows()),
            own: Some(None),
            slot: 0,
            found: None,
        })
    }

    /// The next page of routes. `None`: to be continued.
    pub(super) fn route_page(
        &self,
        query: &ShowQuery,
        pass: &mut RoutePass,
    ) -> Option<Result<String, ApiError>> {
        let mut portion = Portion::begin();
        if pass.found.is_none() {
            self.find_routes(query, pass, &mut portion)?;
            let (places, more) = pass.page.finish();
            let unknown = query
                .vni
                .filter(|vni| !self.config.vnis().contains_key(vni));
            if let Some(vni) = unknown
                && places.is_empty()
                && pass.after.is_none()
            {
                return Some(Err(ApiError::refused(format!(
                    "VNI {vni} is not configured, and no route is for it"
                ))));
            }
            let last = places.last().filter(|_| more);
            let next = last.map(|(cursor, _)| cursor.to_hex());
            pass.found = Some(FoundRows::new(places, next));
        }
        let found = pass.found.as_mut()?;
        match found.write(&mut portion, |place| self.route_row_at(place)) {
            Ok(false) => None,
            Ok(true) => Some(found.finish()),
            Err(error) => Some(Err(error)),
        }
    }

    /// Finds the places of a page. `None`: to be continued.
    fn find_routes(
        &self,
        query: &ShowQuery,
        pass: &mut RoutePass,
        portion: &mut Portion,
    ) -> Option<()> {
        if let Some(last) = pass.own {
            let last = self.own_routes(query, pass, last, portion);
            pass.own = last.map(Some);
        }
        let all = pass.own.is_none() && self.rib_routes(query, pass, portion);
        all.then_some(())
    }

    /// The row at a place, if that still has the route.
    fn route_row_at(&self, (cursor, source): (RouteCursor, RouteSource)) -> Option<RouteRow> {
        let speaker = &self.evpn.speaker;
        let view = match source {
            RouteSource::Own(key) => speaker.own_route(&key),
            RouteSource::Path(slot, from) => {
                let mut paths = speaker.routes_at(slot);
                paths.find(|path| path.neighbor == Some(from))
            }
        };
        // The slot may have another route by now.
        let view = view.filter(|view| self.cursor(&view.route, view.neighbor) == cursor)?;
        Some(self.route_row(&view))
    }

    /// Offers the originated routes after `last`. Returns the last one of this portion, if there may
    /// be more.
    fn own_routes(
        &self,
        query: &ShowQuery,
        pass: &mut RoutePass,
        last: Option<EvpnRoute>,
        portion: &mut Portion,
    ) -> Option<EvpnRoute> {
        if pass.neighbor.is_some() {
            return None;
        }
        for view in self.evpn.speaker.own_routes_after(last) {
            let key = view.route.key();
            if wants(query, &view.route) && query.vni.is_none_or(|vni| view.vni == Some(vni)) {
                let cursor = self.cursor(&key, None);
                pass.offer(cursor, RouteSource::Own(key));
            }
            if portion.is_over() {
                return Some(key);
            }
        }
        None
    }

    /// Offers the routes of the RIB. True once all were.
    fn rib_routes(&self, query: &ShowQuery, pass: &mut RoutePass, portion: &mut Portion) -> bool {
        let speaker = &self.evpn.speaker;
        while pass.slot < speaker.route_slots() {
            let slot = pass.slot;
            if let Some(key) = speaker.route_key(slot).filter(|key| wants(query, key)) {
                for (from, vni) in speaker.paths_at(slot, &key, query.vni.is_some()) {
                    let wanted = pass.neighbor.is_none_or(|id| id == from)
                        && query.vni.is_none_or(|wanted| vni == Some(wanted));
                    if wanted {
                        let cursor = self.cursor(&key, Some(from));
                        pass.offer(cursor, RouteSource::Path(slot, from));
                    }
                }
            }
            pass.slot += 1;
            if portion.is_over() {
                return false;
            }
        }
        true
    }

    fn cursor(&self, route: &EvpnRoute, from: Option<NeighborId>) -> RouteCursor {
        let mut cursor = RouteCursor::EMPTY;
        cursor.push(&[route.route_type()]);
        let (rd, tag) = rd_and_tag(route);
        cursor.push(&rd.0);
        cursor.push(&tag.to_be_bytes());
        match route {
            EvpnRoute::MacIp(r) => {
                cursor.push(&r.mac.0);
                r.ip.into_iter().for_each(|ip| cursor.push_ip(ip));
            }
            EvpnRoute::InclusiveMulticast(r) => cursor.push_ip(r.originator),
            EvpnRoute::EthernetAd(r) => cursor.push(&r.esi.0),
            EvpnRoute::EthernetSegment(r) => {
                cursor.push(&r.esi.0);
                cursor.push_ip(r.originator);
            }
            EvpnRoute::IpPrefix(r) => {
                cursor.push(&[r.length]);
                cursor.push_ip(r.prefix);
            }
        }
        let from = from.and_then(|id| self.evpn.address(id));
        from.into_iter().for_each(|ip| cursor.push_ip(ip));
        cursor
    }

    fn route_row(&self, view: &RouteView) -> RouteRow {
        let (rd, tag) = rd_and_tag(&view.route);
        let attributes = &view.attributes;
        let mobility = attributes
            .extended
            .iter()
            .find_map(|community| community.as_mac_mobility());
        let (sticky, sequence) = mobility.unwrap_or_default();
        let installed = view.status == Some(RouteStatus::Installed);
        let mut row = RouteRow {
            neighbor: view.neighbor.and_then(|id| self.evpn.address(id)),
            rd,
            kind: view.route.route_type(),
            tag,
            mac: None,
            ip: None,
            originator: None,
            prefix: None,
            next_hop: attributes.next_hop,
            vni: view.vni.map(vtep_dataplane::addr::Vni::get),
            route_targets: attributes
                .extended
                .iter()
                .copied()
                .filter(|c| c.is_route_target())
                .collect(),
            as_path: attributes.as_path.to_string(),
            sequence,
            sticky,
            best: view.best,
            installed,
            unused_reason: view
                .status
                .filter(|_| !installed)
                .map(|status| status.to_string()),
            note: view.note.map(|note| note.word().to_owned()),
            stale: view.stale,
        };
        match &view.route {
            EvpnRoute::MacIp(r) => (row.mac, row.ip) = (Some(r.mac), r.ip),
            EvpnRoute::InclusiveMulticast(r) => row.originator = Some(r.originator),
            EvpnRoute::EthernetSegment(r) => row.originator = Some(r.originator),
            EvpnRoute::IpPrefix(r) => row.prefix = Some(format!("{}/{}", r.prefix, r.length)),
            EvpnRoute::EthernetAd(_) => {}
        }
        row
    }
}

impl RoutePass {
    fn offer(&mut self, cursor: RouteCursor, source: RouteSource) {
        if self.after.is_none_or(|after| cursor > after) {
            self.page.offer(cursor, source);
        }
    }
}

impl RouteCursor {
    const EMPTY: Self = Self {
        octets: [0; CURSOR],
        length: 0,
    };

    /// Appends octets; there are never more than [`CURSOR`].
    fn push(&mut self, octets: &[u8]) {
        let rest = &mut self.octets[usize::from(self.length)..];
        let end = octets.len().min(rest.len());
        rest[..end].copy_from_slice(&octets[..end]);
        self.length += end as u8;
    }

    fn push_ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => {
                self.push(&[4]);
                self.push(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.push(&[6]);
                self.push(&v6.octets());
            }
        }
    }

    fn to_hex(self) -> String {
        let octets = &self.octets[..usize::from(self.length)];
        octets.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn parse(text: &str) -> Option<Self> {
        if !text.len().is_multiple_of(2) || !text.is_ascii() || text.len() > 2 * CURSOR {
            return None;
        }
        let mut cursor = Self::EMPTY;
        for at in (0..text.len()).step_by(2) {
            cursor.push(&[u8::from_str_radix(&text[at..at + 2], 16).ok()?]);
        }
        Some(cursor)
    }
}

fn wants(query: &ShowQuery, route: &EvpnRoute) -> bool {
    query.kind.is_none_or(|kind| route.route_type() == kind)
}

fn rd_and_tag(route: &EvpnRoute) -> (Rd, u32) {
    match route {
        EvpnRoute::EthernetAd(r) => (r.rd, r.tag),
        EvpnRoute::MacIp(r) => (r.rd, r.tag),
        EvpnRoute::InclusiveMulticast(r) => (r.rd, r.tag),
        EvpnRoute::EthernetSegment(r) => (r.rd, 0),
        EvpnRoute::IpPrefix(r) => (r.rd, r.tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_through_text() {
        let mut cursor = RouteCursor::EMPTY;
        cursor.push(&[2, 0, 255, 16]);
        assert_eq!(cursor.to_hex(), "0200ff10");
        assert_eq!(RouteCursor::parse("0200ff10"), Some(cursor));
        for wrong in ["0", "zz", &"00".repeat(CURSOR + 1)] {
            assert_eq!(RouteCursor::parse(wrong), None);
        }
    }
}
