//! BGP neighbors of the configuration as sessions of the speaker, and the operator's actions on
//! them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use vtep_dataplane::addr::{HostMac, Vni};

use super::Engine;
use super::evpn::SessionNews;
use crate::api::action::{BgpClear, BgpEnable, BgpShutdown, Clear, Neighbors};
use crate::api::event::{ApiEvent, BgpEvent, SessionEvent};
use crate::bgp::Peer;
use crate::iteration::IterationPart;
use crate::speaker::NeighborConfig;
use crate::speaker::socket::{Md5Password, TcpOptions};

/// How long after the start sessions set the Restart State bit: neighbors keep stale routes for 120
/// s by default (RFC 4724 section 3 leaves the time to them).
pub(super) const RESTART: Duration = Duration::from_secs(120);

/// Neighbors whose sessions start, or get another configuration, when the batch of changes is
/// complete: several changes of one batch may concern the same neighbor, and each start costs it a
/// TCP connection.
pub(super) type SessionStarts = BTreeSet<IpAddr>;

impl Engine {
    /// Starts or configures the sessions that a batch of changes concerns, once each.
    pub(super) fn start_sessions(&mut self, now: Instant) {
        for address in std::mem::take(&mut self.session_starts) {
            self.start_session(address, now);
        }
    }

    /// Starts the session with a new neighbor, or configures that with a known one, which is reset
    /// only if it consists of what has changed.
    fn start_session(&mut self, address: IpAddr, now: Instant) {
        let (Some(settings), Some(neighbor)) =
            (self.config.bgp(), self.config.bgp_neighbors().get(&address))
        else {
            return;
        };
        let hostname = rustix::system::uname()
            .nodename()
            .to_str()
            .ok()
            .map(str::to_owned);
        let (local, port, key, ttl_security) = neighbor.connection();
        let config = NeighborConfig {
            address: SocketAddr::new(neighbor.address, port),
            tcp: TcpOptions {
                local,
                password: key.map(|key| Md5Password(key.into())),
                ttl_security,
            },
            peer: neighbor.peer_config(settings, hostname),
            restarting: self.restart_ends.is_some(),
        };
        self.evpn.neighbor_add(address);
        self.bgp
            .set_neighbor(config, &self.registry, &mut self.evpn, now);
    }

    /// Removes a neighbor that is no longer configured.
    pub(super) fn bgp_neighbor_removed(&mut self, address: IpAddr, now: Instant) {
        self.bgp
            .remove_neighbor(address, &self.registry, &mut self.evpn, now);
        self.evpn.neighbor_remove(address);
        self.session_log.forget(address);
    }

    /// Logs and reports what happened to sessions.
    pub(super) fn session_events(&mut self, now: Instant) {
        for (neighbor, news) in std::mem::take(&mut self.evpn.sessions) {
            let (event, reason) = match &news {
                SessionNews::Established => (SessionEvent::Established, None),
                SessionNews::Ended(reason) => (SessionEvent::Ended, Some(reason.to_string())),
                SessionNews::Failed(reason) => (SessionEvent::Failed, Some(reason.to_string())),
            };
            self.log_session(neighbor, event, reason.as_deref(), now);
            let Some(known) = self.bgp.neighbors().get(&neighbor) else {
                continue;
            };
            let state = (&known.peer.status()).into();
            self.events.push(ApiEvent::Bgp(BgpEvent {
                neighbor,
                event,
                state,
                reason,
            }));
        }
    }

    fn log_session(
        &mut self,
        neighbor: IpAddr,
        event: SessionEvent,
        reason: Option<&str>,
        now: Instant,
    ) {
        let reason = reason.unwrap_or_default();
        let allowed = match event {
            SessionEvent::Failed => self.session_log.failed(neighbor, reason, now),
            SessionEvent::Established | SessionEvent::Ended => {
                self.session_log.changed(neighbor, now)
            }
        };
        // Lines about this neighbor that were left out since the last one.
        let Some(suppressed) = allowed else { return };
        match event {
            SessionEvent::Established => {
                tracing::info!(%neighbor, suppressed, "BGP session established");
            }
            SessionEvent::Ended => {
                tracing::warn!(%neighbor, reason, suppressed, "BGP session ended");
            }
            SessionEvent::Failed => {
                tracing::warn!(%neighbor, reason, suppressed, "BGP session not established");
            }
        }
    }

    /// Handles an event of the daemon's poll that may belong to the speaker.
    pub fn speaker_event(&mut self, event: &mio::event::Event, now: Instant) {
        self.bgp
            .handle_event(event, &self.registry, &mut self.evpn, now);
    }

    /// Runs the timers of sessions and routes, and installs what they and received messages
    /// changed.
    pub(super) fn poll_bgp(&mut self, now: Instant) {
        if self.restart_ends.is_some_and(|at| at <= now) {
            self.restart_ends = None;
            self.bgp.finish_restart();
        }
        self.evpn.speaker.tick(now);
        self.bgp.poll_once(&self.registry, &mut self.evpn, now);
        self.turns.end_part(IterationPart::Sessions);
        self.install_routes(now);
    }

    /// How long [`Self::poll_bgp`] may wait.
    pub(super) fn bgp_timeout(&self, now: Instant) -> Option<Duration> {
        let evpn_timeout = self
            .evpn
            .speaker
            .poll_timeout(now)
            .map(|at| at.saturating_duration_since(now));
        self.bgp
            .poll_timeout(now)
            .into_iter()
            .chain(evpn_timeout)
            .min()
    }

    /// Applies `act` to the sessions that a request names. Returns false for an unknown neighbor.
    fn with_peers(&mut self, which: Neighbors, now: Instant, act: impl Fn(&mut Peer)) -> bool {
        let all: Vec<_> = match which {
            Neighbors::One(address) => vec![address],
            Neighbors::All => self.bgp.neighbors().keys().copied().collect(),
        };
        let configured = self.config.bgp().is_some();
        configured
            && all.into_iter().all(|address| {
                self.bgp
                    .with_peer(address, &self.registry, &mut self.evpn, now, &act)
            })
    }

    /// `bgp.clear`. Returns false for an unknown neighbor.
    pub fn bgp_clear(&mut self, request: &BgpClear, now: Instant) -> bool {
        self.with_peers(request.neighbor, now, |peer| match request.soft {
            Clear::Hard => peer.clear_hard(now, None),
            Clear::In => drop(peer.clear_soft_in(now)),
            Clear::Out => drop(peer.clear_soft_out()),
            Clear::Both => {
                peer.clear_soft_in(now);
                peer.clear_soft_out();
            }
        })
    }

    /// `bgp.shutdown`. Returns false for an unknown neighbor.
    pub fn bgp_shutdown(&mut self, request: &BgpShutdown, now: Instant) -> bool {
        let message = request.message.as_deref();
        self.with_peers(request.neighbor, now, |peer| peer.shutdown(now, message))
    }

    /// `bgp.enable`. Returns false for an unknown neighbor.
    pub fn bgp_enable(&mut self, request: &BgpEnable, now: Instant) -> bool {
        self.with_peers(request.neighbor, now, |peer| peer.start(now))
    }

    /// `mac.unfreeze`. Returns false for a MAC that is not frozen.
    pub fn mac_unfreeze(&mut self, vni: Vni, mac: HostMac, now: Instant) -> bool {
        let freed = self.evpn.speaker.unfreeze(now, vni, mac);
        self.commit(now);
        freed
    }
}
