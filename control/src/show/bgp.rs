//! `show bgp`: live state of the sessions, and the routes of the RIB, each with whether it is
//! installed, and why not.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Instant;

use serde_json::Value;

use super::page::Page;
use super::to_json;
use crate::api::bgp::{
    BgpNeighborDetail, BgpSummary, RestartRow, RouteRow, SessionState, SummaryRow,
};
use crate::api::message::ApiError;
use crate::api::show::{MAX_ROWS, Rows, ShowQuery};
use crate::bgp::wire::{EvpnRoute, MAX_MESSAGE_LEN};
use crate::bgp::{Negotiated, PeerStatus};
use crate::config::{BgpNeighbor, ChangeError};
use crate::engine::EngineView;
use crate::evpn::{NeighborId, RouteStatus, RouteView};
use crate::speaker::transport::NeighborTransport;

/// Counts of a neighbor's routes.
#[derive(Debug, Clone, Copy, Default)]
struct RouteCounts {
    installed: u64,
    stale: u64,
}

/// Sort key of routes: type, NLRI, then the sending neighbor. Local routes come first.
type RouteCursor = Vec<u8>;

impl EngineView<'_> {
    fn no_bgp(&self) -> Result<(), ApiError> {
        match self.config.bgp() {
            Some(_) => Ok(()),
            None => Err(ApiError::refused(ChangeError::NoBgp.to_string())),
        }
    }

    pub(super) fn show_bgp_summary(&self, now: Instant) -> Result<Value, ApiError> {
        self.no_bgp()?;
        let config = self.evpn.speaker.config();
        let counts = self.route_counts();
        let row = |(ip, neighbor): (&IpAddr, &NeighborTransport)| {
            let known = self.config.bgp_neighbors().get(ip)?;
            Some(self.summary_row(known, neighbor, &counts, now))
        };
        to_json(Ok(BgpSummary {
            asn: config.local_as,
            router_id: config.router_id,
            routes: self.evpn.speaker.totals().0 as u64,
            neighbors: self.bgp.neighbors().iter().filter_map(row).collect(),
        }))
    }

    pub(super) fn show_bgp_neighbor(
        &self,
        address: IpAddr,
        now: Instant,
    ) -> Result<Value, ApiError> {
        self.no_bgp()?;
        let known = self
            .config
            .bgp_neighbors()
            .get(&address)
            .zip(self.bgp.neighbors().get(&address));
        let Some((config, neighbor)) = known else {
            let message = format!("unknown BGP neighbor {address}; see `show bgp summary`");
            return Err(ApiError::refused(message));
        };
        let counts = self.route_counts();
        let summary = self.summary_row(config, neighbor, &counts, now);
        let id = self.evpn.id(address);
        let stale = id
            .and_then(|id| counts.get(&id))
            .map_or(0, |counts| counts.stale);
        let silent = self.bgp.is_silent(address);
        to_json(Ok(detail(
            summary,
            config,
            &neighbor.peer.status(),
            stale,
            silent,
            now,
        )))
    }

    /// Route counts of all neighbors.
    fn route_counts(&self) -> hashbrown::HashMap<NeighborId, RouteCounts> {
        let mut all: hashbrown::HashMap<NeighborId, RouteCounts> = hashbrown::HashMap::new();
        for route in self.evpn.speaker.routes() {
            let Some(neighbor) = route.neighbor else {
                continue;
            };
            let counts = all.entry(neighbor).or_default();
            counts.installed += u64::from(route.status == Some(RouteStatus::Installed));
            counts.stale += u64::from(route.stale);
        }
        all
    }

    fn summary_row(
        &self,
        config: &BgpNeighbor,
        neighbor: &NeighborTransport,
        counts: &hashbrown::HashMap<NeighborId, RouteCounts>,
        now: Instant,
    ) -> SummaryRow {
        let status = neighbor.peer.status();
        let id = self.evpn.id(config.address);
        let up = status
            .up_since
            .map(|since| now.saturating_duration_since(since).as_secs());
        let own = self.evpn.speaker.own_routes().count() as u64;
        SummaryRow {
            address: config.address,
            description: config.description.clone(),
            remote_as: config.remote_asn,
            state: SessionState::from(&status),
            uptime: up,
            messages_received: status.received,
            messages_sent: status.sent,
            routes_received: id.map_or(0, |id| self.evpn.speaker.prefix_count(id) as u64),
            routes_installed: id
                .and_then(|id| counts.get(&id))
                .map_or(0, |counts| counts.installed),
            routes_advertised: if up.is_some() { own } else { 0 },
            last_down: match (&status.last_down, &neighbor.last_error) {
                (_, Some(error)) if up.is_none() => Some(error.clone()),
                (Some(reason), _) => Some(reason.to_string()),
                (None, _) => None,
            },
        }
    }

    /// One page of routes, by type and NLRI.
    pub(super) fn show_bgp_routes(&self, query: &ShowQuery) -> Result<Value, ApiError> {
        self.no_bgp()?;
        let after = match &query.after {
            None => None,
            Some(text) => Some(from_hex(text).ok_or_else(|| {
                ApiError::refused(format!(
                    "invalid cursor {text:?} in `after`: must be the `next` of a page"
                ))
            })?),
        };
        let neighbor = match query.neighbor {
            None => None,
            Some(address) => Some(
                self.evpn
                    .id(address)
                    .ok_or_else(|| ApiError::refused(format!("unknown BGP neighbor {address}")))?,
            ),
        };
        let mut page = Page::new(query.limit.clamp(1, MAX_ROWS));
        let speaker = &self.evpn.speaker;
        for view in speaker.own_routes().chain(speaker.routes()) {
            let wanted = query.vni.is_none_or(|vni| view.vni == Some(vni))
                && query
                    .kind
                    .is_none_or(|kind| view.route.route_type() == kind)
                && neighbor.is_none_or(|id| view.neighbor == Some(id));
            if !wanted {
                continue;
            }
            let cursor = self.cursor(&view);
            if after.as_ref().is_none_or(|after| cursor > *after) {
                page.offer(cursor, || view);
            }
        }
        let (rows, more) = page.finish();
        let next = rows
            .last()
            .filter(|_| more)
            .map(|(cursor, _)| to_hex(cursor));
        let rows = rows
            .into_iter()
            .map(|(_, view)| self.route_row(&view))
            .collect();
        to_json(Ok(Rows::<RouteRow> { rows, next }))
    }

    fn cursor(&self, view: &RouteView) -> RouteCursor {
        let mut cursor = vec![view.route.route_type()];
        let (rd, tag) = rd_and_tag(&view.route);
        cursor.extend(rd.0);
        cursor.extend(tag.to_be_bytes());
        match &view.route {
            EvpnRoute::MacIp(r) => {
                cursor.extend(r.mac.0);
                r.ip.into_iter().for_each(|ip| push_ip(&mut cursor, ip));
            }
            EvpnRoute::InclusiveMulticast(r) => push_ip(&mut cursor, r.originator),
            EvpnRoute::EthernetAd(r) => cursor.extend(r.esi.0),
            EvpnRoute::EthernetSegment(r) => {
                cursor.extend(r.esi.0);
                push_ip(&mut cursor, r.originator);
            }
            EvpnRoute::IpPrefix(r) => {
                cursor.push(r.length);
                push_ip(&mut cursor, r.prefix);
            }
        }
        let from = view.neighbor.and_then(|id| self.evpn.address(id));
        from.into_iter().for_each(|ip| push_ip(&mut cursor, ip));
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

fn rd_and_tag(route: &EvpnRoute) -> (crate::bgp::wire::Rd, u32) {
    match route {
        EvpnRoute::EthernetAd(r) => (r.rd, r.tag),
        EvpnRoute::MacIp(r) => (r.rd, r.tag),
        EvpnRoute::InclusiveMulticast(r) => (r.rd, r.tag),
        EvpnRoute::EthernetSegment(r) => (r.rd, 0),
        EvpnRoute::IpPrefix(r) => (r.rd, r.tag),
    }
}

fn push_ip(cursor: &mut RouteCursor, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            cursor.push(4);
            cursor.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            cursor.push(6);
            cursor.extend(v6.octets());
        }
    }
}

fn to_hex(cursor: &[u8]) -> String {
    cursor.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<RouteCursor> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

/// Negotiated capabilities, as their RFCs name them.
fn capabilities(negotiated: &Negotiated) -> Vec<String> {
    let mut all = vec!["multiprotocol L2VPN EVPN"];
    all.extend(negotiated.four_octet.then_some("4-octet AS"));
    all.extend(negotiated.refresh.then_some("route refresh"));
    all.extend(
        negotiated
            .enhanced_refresh
            .then_some("enhanced route refresh"),
    );
    all.extend((negotiated.send_limit > MAX_MESSAGE_LEN).then_some("extended messages"));
    all.extend(negotiated.restart.as_ref().map(|_| "graceful restart"));
    all.extend(negotiated.hard_reset.then_some("hard reset"));
    all.into_iter().map(str::to_owned).collect()
}

fn detail(
    summary: SummaryRow,
    config: &BgpNeighbor,
    status: &PeerStatus,
    stale: u64,
    silent: bool,
    now: Instant,
) -> BgpNeighborDetail {
    let negotiated = status.negotiated.as_deref();
    BgpNeighborDetail {
        summary,
        local_address: config.local_address,
        port: config.port,
        passive: config.passive,
        password: config.password.is_some(),
        ttl_security: config.ttl_security,
        router_id: negotiated.map(|negotiated| negotiated.router_id),
        hostname: negotiated.and_then(|negotiated| negotiated.hostname.clone()),
        software: negotiated.and_then(|negotiated| negotiated.software.clone()),
        capabilities: negotiated.map(capabilities).unwrap_or_default(),
        hold_time: negotiated.map(|negotiated| negotiated.hold.as_secs()),
        keepalive: negotiated.map(|negotiated| negotiated.hold.as_secs() / 3),
        idle_for: status
            .idle_until
            .map(|at| at.saturating_duration_since(now).as_secs()),
        established: status.established,
        silent,
        treated_as_withdrawn: status.treated_as_withdrawn,
        attributes_discarded: status.attributes_discarded,
        routes_skipped: status.routes_skipped,
        queued: status.queued as u64,
        max_prefixes: config.max_prefixes.map(|limit| limit.limit),
        graceful_restart: negotiated
            .and_then(|negotiated| negotiated.restart.as_ref())
            .map(|restart| RestartRow {
                restart_time: restart.time.as_secs(),
                preserved: restart.preserved,
                stale_routes: stale,
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_through_text() {
        let cursor = vec![2, 0, 255, 16];
        assert_eq!(from_hex(&to_hex(&cursor)), Some(cursor));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("zz"), None);
    }
}
