//! `show bgp summary` and `show bgp neighbor`: live state of the sessions.

use std::net::IpAddr;
use std::time::Instant;

use super::routes::{RouteCount, RouteCounts};
use super::to_json;
use crate::api::bgp::{
    BgpNeighborDetail, BgpSummary, NotEstablished, PastEvent, RestartRow, SessionState, SummaryRow,
};
use crate::api::message::ApiError;
use crate::api::show::SessionCounts;
use crate::bgp::wire::MAX_MESSAGE_LEN;
use crate::bgp::{Ended, Negotiated, PeerStatus};
use crate::config::{BgpNeighbor, ChangeError};
use crate::engine::EngineView;
use crate::speaker::transport::NeighborTransport;

impl EngineView<'_> {
    pub(super) fn check_bgp(&self) -> Result<(), ApiError> {
        match self.config.bgp() {
            Some(_) => Ok(()),
            None => Err(ApiError::refused(ChangeError::NoBgp.to_string())),
        }
    }

    /// Numbers of sessions, for `show status`.
    pub(super) fn session_counts(&self) -> Option<SessionCounts> {
        self.config.bgp()?;
        let neighbors = self.bgp.neighbors();
        let up = |neighbor: &&NeighborTransport| neighbor.peer.status().up_since.is_some();
        Some(SessionCounts {
            configured: neighbors.len(),
            established: neighbors.values().filter(up).count(),
            listener_drops: self.bgp.listener_drops(),
        })
    }

    pub(super) fn show_bgp_summary(
        &self,
        counts: &RouteCounts,
        now: Instant,
    ) -> Result<String, ApiError> {
        let config = self.evpn.speaker.config();
        let row = |(ip, neighbor): (&IpAddr, &NeighborTransport)| {
            let known = self.config.bgp_neighbors().get(ip)?;
            Some(self.summary_row(known, neighbor, counts, now))
        };
        to_json(Ok(BgpSummary {
            asn: config.local_as,
            router_id: config.router_id,
            routes: self.evpn.speaker.route_count() as u64,
            neighbors: self.bgp.neighbors().iter().filter_map(row).collect(),
        }))
    }

    pub(super) fn show_bgp_neighbor(
        &self,
        address: IpAddr,
        counts: &RouteCounts,
        now: Instant,
    ) -> Result<String, ApiError> {
        let (config, neighbor) = self.check_neighbor(address)?;
        let summary = self.summary_row(config, neighbor, counts, now);
        let id = self.evpn.id(address);
        let counted = id.and_then(|id| counts.get(&id)).copied();
        let silent = self.bgp.is_silent(address);
        to_json(Ok(detail(
            summary,
            config,
            &neighbor.peer.status(),
            counted.unwrap_or_default(),
            silent,
            now,
        )))
    }

    /// A configured neighbor, with its sessions.
    pub(super) fn check_neighbor(
        &self,
        address: IpAddr,
    ) -> Result<(&BgpNeighbor, &NeighborTransport), ApiError> {
        let config = self.config.bgp_neighbors().get(&address);
        let known = config.zip(self.bgp.neighbors().get(&address));
        known.ok_or_else(|| {
            ApiError::refused(format!(
                "unknown BGP neighbor {address}; see `show bgp summary`"
            ))
        })
    }

    fn summary_row(
        &self,
        config: &BgpNeighbor,
        neighbor: &NeighborTransport,
        counts: &RouteCounts,
        now: Instant,
    ) -> SummaryRow {
        let status = neighbor.peer.status();
        let id = self.evpn.id(config.address);
        let up = status
            .up_since
            .map(|since| now.saturating_duration_since(since).as_secs());
        let own = self.evpn.speaker.own_route_count() as u64;
        let failures = &status.failures;
        let last = failures.session.as_ref().or(failures.open.as_ref());
        let last = last.or(failures.connect.as_ref());
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
            last_down: last.map(|ended| ended.reason.to_string()),
            down_for: status
                .failures
                .session
                .as_ref()
                .filter(|_| up.is_none())
                .map(|ended| now.saturating_duration_since(ended.at).as_secs()),
            not_established: not_established(&status, now),
        }
    }
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
    all.extend(match (&negotiated.restart, negotiated.helper) {
        (Some(_), _) => Some("graceful restart"),
        (None, true) => Some("graceful restart (helper)"),
        (None, false) => None,
    });
    all.extend(negotiated.hard_reset.then_some("hard reset"));
    all.into_iter().map(str::to_owned).collect()
}

fn not_established(status: &PeerStatus, now: Instant) -> Option<NotEstablished> {
    Some(NotEstablished {
        cause: status.not_up()?.word().to_owned(),
        reason: status.not_up_text(now)?,
    })
}

fn past(ended: Option<&Ended>, now: Instant) -> Option<PastEvent> {
    ended.map(|ended| PastEvent {
        ago: now.saturating_duration_since(ended.at).as_secs(),
        reason: ended.reason.to_string(),
    })
}

fn detail(
    summary: SummaryRow,
    config: &BgpNeighbor,
    status: &PeerStatus,
    counts: RouteCount,
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
        last_session_ended: past(status.failures.session.as_ref(), now),
        last_open_failed: past(status.failures.open.as_ref(), now),
        last_connect_failed: status.failures.connect.as_ref().map(|ended| PastEvent {
            ago: now.saturating_duration_since(ended.at).as_secs(),
            reason: format!("{}: {}", ended.kind, ended.reason),
        }),
        failed_attempts: status.failures.count,
        treated_as_withdrawn: status.treated_as_withdrawn,
        attributes_discarded: status.attributes_discarded,
        routes_skipped: status.routes_skipped,
        invalid_addresses: counts.invalid_addresses,
        queued: status.queued as u64,
        max_prefixes: config.max_prefixes.map(|limit| limit.limit),
        graceful_restart: negotiated
            .and_then(|negotiated| negotiated.restart.as_ref())
            .map(|restart| RestartRow {
                restart_time: restart.time.as_secs(),
                preserved: restart.preserved,
                stale_routes: counts.stale,
            }),
    }
}
