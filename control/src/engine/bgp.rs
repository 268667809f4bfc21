//! BGP neighbors of the configuration as sessions of the speaker, and the operator's actions on
//! them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use vtep_dataplane::addr::{HostMac, Vni};

use super::Engine;
use crate::api::action::{BgpClear, BgpShutdown, Clear};
use crate::speaker::NeighborConfig;
use crate::speaker::socket::{Md5Password, TcpOptions};

/// How long after the start sessions set the Restart State bit: neighbors keep stale routes for 120
/// s by default (RFC 4724 section 3 leaves the time to them).
pub(super) const RESTART: Duration = Duration::from_secs(120);

/// Neighbors whose sessions start, or restart, when the batch of changes is complete: several
/// changes of one batch may concern the same neighbor, and each start costs it a TCP connection.
pub(super) type SessionStarts = BTreeSet<IpAddr>;

impl Engine {
    /// Starts the sessions that a batch of changes has requested, once each.
    pub(super) fn start_sessions(&mut self, now: Instant) {
        for address in std::mem::take(&mut self.session_starts) {
            self.start_session(address, now);
        }
    }

    /// Starts the session with a new or changed neighbor, if it is still configured.
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
        let config = NeighborConfig {
            address: SocketAddr::new(neighbor.address, neighbor.port),
            tcp: TcpOptions {
                local: neighbor.local_address,
                password: neighbor
                    .password
                    .as_ref()
                    .map(|password| Md5Password(password.key().into())),
                ttl_security: neighbor.ttl_security,
            },
            peer: neighbor.peer_config(settings, hostname),
            restarting: self.restart_ends.is_some(),
        };
        self.evpn.neighbor_remove(address, now);
        self.evpn.neighbor_add(address);
        self.bgp
            .add_neighbor(config, &self.registry, &mut self.evpn, now);
    }

    /// Removes a neighbor that is no longer configured.
    pub(super) fn bgp_neighbor_gone(&mut self, address: IpAddr, now: Instant) {
        self.bgp
            .remove_neighbor(address, &self.registry, &mut self.evpn, now);
        self.evpn.neighbor_remove(address, now);
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
        self.install_routes(now);
    }

    /// How long [`Self::poll_bgp`] may wait.
    pub(super) fn bgp_timeout(&self, now: Instant) -> Option<Duration> {
        let tasks = self
            .evpn
            .speaker
            .poll_timeout()
            .map(|at| at.saturating_duration_since(now));
        self.bgp.poll_timeout(now).into_iter().chain(tasks).min()
    }

    /// `bgp.clear`. Returns false for an unknown neighbor.
    pub fn bgp_clear(&mut self, request: &BgpClear, now: Instant) -> bool {
        self.bgp.with_peer(
            request.neighbor,
            &self.registry,
            &mut self.evpn,
            now,
            |peer| match request.soft {
                Clear::Hard => peer.clear_hard(now, None),
                Clear::In => drop(peer.clear_soft_in(now)),
                Clear::Out => drop(peer.clear_soft_out()),
                Clear::Both => {
                    peer.clear_soft_in(now);
                    peer.clear_soft_out();
                }
            },
        )
    }

    /// `bgp.shutdown`. Returns false for an unknown neighbor.
    pub fn bgp_shutdown(&mut self, request: &BgpShutdown, now: Instant) -> bool {
        let message = request.message.as_deref();
        self.bgp.with_peer(
            request.neighbor,
            &self.registry,
            &mut self.evpn,
            now,
            |peer| {
                peer.shutdown(now, message);
            },
        )
    }

    /// `mac.unfreeze`. Returns false for a MAC that is not frozen.
    pub fn mac_unfreeze(&mut self, vni: Vni, mac: HostMac, now: Instant) -> bool {
        let freed = self.evpn.speaker.unfreeze(now, vni, mac);
        self.commit(now);
        freed
    }

    /// `bgp.enable`. Returns false for an unknown neighbor.
    pub fn bgp_enable(&mut self, neighbor: IpAddr, now: Instant) -> bool {
        self.bgp
            .with_peer(neighbor, &self.registry, &mut self.evpn, now, |peer| {
                peer.start(now);
            })
    }
}
