//! The part of the metrics page about BGP.

use std::time::Instant;

use super::metrics::{Field, column, flag, one};
use crate::api::bgp::SessionState;
use crate::bgp::{NotUp, PeerStatus};
use crate::engine::EngineView;
use crate::metrics::{Labels, PageBuilder};

/// A session for the metrics.
struct Session {
    status: PeerStatus,
    /// Routes received.
    routes: usize,
}

impl EngineView<'_> {
    pub(super) fn metrics_of_bgp(&self, page: &mut PageBuilder, now: Instant) {
        let all: Vec<_> = self
            .bgp
            .neighbors()
            .iter()
            .map(|(address, neighbor)| {
                let routes = self
                    .evpn
                    .id(*address)
                    .map_or(0, |id| self.evpn.speaker.prefix_count(id));
                let status = neighbor.peer.status();
                (one("neighbor", address), Session { status, routes })
            })
            .collect();
        // Each state of each session, so that a query for one state does not find nothing.
        let states = all.iter().flat_map(|(labels, session)| {
            let now = SessionState::from(&session.status);
            SessionState::ALL.iter().map(move |state| {
                let state_labels = one("state", format!("{state:?}"));
                ([labels.clone(), state_labels].concat(), flag(*state == now))
            })
        });
        page.gauge(
            "vtepd_bgp_session_state",
            "1 = the state that the session is in",
            states,
        );
        let up = |session: &Session| {
            let since = session.status.up_since;
            since.map_or(0.0, |since| {
                now.saturating_duration_since(since).as_secs_f64()
            })
        };
        page.gauge(
            "vtepd_bgp_session_uptime_seconds",
            "Time since it was established; 0 = down",
            column(&all, up),
        );
        page.gauge(
            "vtepd_bgp_routes_received",
            "Routes received from the neighbor",
            column(&all, |session| session.routes as f64),
        );
        count_messages(page, &all);
        page.counter(
            "vtepd_bgp_refused_connections",
            "Connections refused because their source address is not a neighbor, its TCP-MD5 \
             password could not be set, or its session takes none now",
            [(Vec::new(), self.bgp.refused())],
        );
        self.count_dropped_segments(page);
        count_not_established(page, &all);
        let routes = self.evpn.speaker.route_count();
        page.gauge(
            "vtepd_evpn_routes",
            "EVPN routes of all neighbors",
            [(Vec::new(), routes as f64)],
        );
        let invalid = self.evpn.speaker.invalid_address_count();
        page.gauge(
            "vtepd_evpn_invalid_addresses",
            "Type 2 routes whose MAC is used, but not their address, which no host can have",
            [(Vec::new(), invalid as f64)],
        );
    }

    /// Segments that the kernel has dropped.
    fn count_dropped_segments(&self, page: &mut PageBuilder) {
        page.counter(
            "vtepd_bgp_listener_drops",
            "TCP segments dropped at the BGP port: by ttl-security, for their TCP-MD5 signature, or \
             because too many connections wait",
            [(Vec::new(), self.bgp.listener_drops())],
        );
        let drops = self.bgp.segment_drops();
        page.counter(
            "vtepd_tcp_dropped_segments",
            "TCP segments of all programs that the kernel dropped since vtepd started, by cause",
            [
                (one("cause", "signature"), drops.signature),
                (one("cause", "ttl"), drops.ttl),
            ],
        );
    }
}

/// Sessions that are not established, by cause.
fn count_not_established(page: &mut PageBuilder, all: &[(Labels, Session)]) {
    let causes: Vec<_> = all.iter().filter_map(|row| row.1.status.not_up()).collect();
    let not_up = NotUp::ALL.iter().map(|cause| {
        let count = causes.iter().filter(|other| *other == cause).count();
        (one("cause", cause.word()), count as f64)
    });
    page.gauge(
        "vtepd_bgp_sessions_not_established",
        "Configured sessions that are not established, by cause",
        not_up,
    );
}

/// Counters of the BGP sessions.
fn count_messages(page: &mut PageBuilder, all: &[(Labels, Session)]) {
    let count = |value: Field<PeerStatus>| column(all, move |session| value(&session.status));
    page.counter(
        "vtepd_bgp_established",
        "How often the session came up",
        count(|s| s.established),
    );
    page.counter(
        "vtepd_bgp_failed_attempts",
        "How often an attempt to establish the session failed",
        count(|s| s.failures.count),
    );
    page.counter(
        "vtepd_bgp_messages_received",
        "Messages received",
        count(|s| s.received),
    );
    page.counter(
        "vtepd_bgp_messages_sent",
        "Messages sent",
        count(|s| s.sent),
    );
    let help = "UPDATEs whose routes were treated as withdrawn (RFC 7606)";
    page.counter(
        "vtepd_bgp_treated_as_withdrawn",
        help,
        count(|s| s.treated_as_withdrawn),
    );
}
