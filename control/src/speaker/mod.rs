//! The BGP speaker: sockets, sessions and EVPN joined. `bgp`, `rib` and `evpn` are pure; here is their I/O.
//!
//! ```text
//! TCP -> transport -> bgp::Peer -> Routes (EVPN) -> tables
//! TCP <- transport <- bgp::Peer <- Routes (EVPN) <- local MACs, VNIs
//! ```

pub mod socket;
#[cfg(test)]
mod tests;
pub mod transport;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};

use crate::bgp::{Peer, PeerConfig, RECONNECT_PAUSE, SilentSessions};
use socket::TcpOptions;
use transport::{Context, Neighbor, Routes, Tokens};

/// Connections accepted in one go.
const ACCEPTS: usize = 64;

/// How a neighbour is reached and spoken to.
#[derive(Debug, Clone)]
pub struct NeighborConfig {
    /// Its address and port.
    pub address: SocketAddr,
    /// Sockets.
    pub tcp: TcpOptions,
    /// Sessions.
    pub peer: PeerConfig,
    /// We have just started: a neighbour that kept our routes over a restart is told so (the R bit of RFC 4724).
    pub restarting: bool,
}

/// A listening socket and its token.
#[derive(Debug)]
struct Listener {
    v6: bool,
    token: Token,
    socket: TcpListener,
}

/// All neighbours.
#[derive(Debug)]
pub struct Speaker {
    /// The port that neighbours connect to (179, RFC 4271).
    port: u16,
    tokens: Tokens,
    listeners: Vec<Listener>,
    neighbors: BTreeMap<IpAddr, Neighbor>,
    /// Why nobody can connect to us, by family.
    deaf: BTreeMap<bool, String>,
    silent: SilentSessions,
    /// When we ended the connections with neighbours that were removed less than [`RECONNECT_PAUSE`] ago.
    ended: BTreeMap<IpAddr, Instant>,
    refused: u64,
    seed: u64,
}

impl Speaker {
    /// Without neighbours; it listens when there is one. Uses tokens after `first`. `seed` feeds the timers' jitter.
    #[must_use]
    pub const fn new(port: u16, first: Token, seed: u64) -> Self {
        Self {
            port,
            tokens: Tokens::from(first),
            listeners: Vec::new(),
            neighbors: BTreeMap::new(),
            deaf: BTreeMap::new(),
            silent: SilentSessions::new(),
            ended: BTreeMap::new(),
            refused: 0,
            seed,
        }
    }

    /// Adds a neighbour, or replaces one: its session ends and begins anew.
    pub fn put(
        &mut self,
        config: NeighborConfig,
        registry: &Registry,
        routes: &mut impl Routes,
        now: Instant,
    ) {
        let ip = config.address.ip();
        self.remove(ip, registry, routes, now);
        self.listen(ip.is_ipv6(), registry);
        if let Some(password) = &config.tcp.password
            && let Some(listener) = self.listeners.iter().find(|listener| listener.v6 == ip.is_ipv6())
            && let Err(error) = socket::set_password(&listener.socket, ip, password)
        {
            tracing::error!(neighbor = %ip, %error, "the TCP-MD5 password can't be set: the neighbour can't connect");
        }
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let mut peer = Peer::new(config.peer, self.seed);
        peer.set_restarting(config.restarting);
        peer.set_last_ended(self.ended.remove(&ip));
        peer.start(now);
        let mut neighbor = Neighbor::new(config.address, config.tcp, peer);
        let mut context = Context { registry, tokens: &mut self.tokens, routes, now };
        neighbor.work(&mut context);
        self.neighbors.insert(ip, neighbor);
    }

    /// Ends the session with a neighbour (CEASE/3, peer de-configured) and forgets it.
    pub fn remove(&mut self, ip: IpAddr, registry: &Registry, routes: &mut impl Routes, now: Instant) {
        let Some(mut neighbor) = self.neighbors.remove(&ip) else { return };
        self.ended.retain(|_, ended| now.saturating_duration_since(*ended) < RECONNECT_PAUSE);
        neighbor.peer.shutdown(now, None);
        self.ended.extend(neighbor.peer.last_ended().map(|ended| (ip, ended)));
        neighbor.close_all(&mut Context { registry, tokens: &mut self.tokens, routes, now });
    }

    fn listen(&mut self, v6: bool, registry: &Registry) {
        if self.listeners.iter().any(|listener| listener.v6 == v6) {
            return;
        }
        let token = self.tokens.take();
        let opened = socket::listen(v6, self.port).and_then(|mut socket| {
            registry.register(&mut socket, token, Interest::READABLE)?;
            Ok(Listener { v6, token, socket })
        });
        match opened {
            Ok(listener) => {
                self.deaf.remove(&v6);
                self.listeners.push(listener);
            }
            Err(error) => {
                let family = if v6 { "IPv6" } else { "IPv4" };
                let port = self.port;
                let why = format!(
                    "BGP can't listen on {family} port {port}: {error}; sessions come up only as we connect ourselves"
                );
                tracing::warn!("{why}");
                self.deaf.insert(v6, why);
            }
        }
    }

    /// Why neighbours can't connect to us, and which of them bring no routes.
    pub fn degraded(&self) -> impl Iterator<Item = String> {
        let silent = self.silent.iter().map(|neighbor| {
            format!(
                "BGP session with {neighbor} is established and has brought no routes, not even End-of-RIB, while others \
                 have; see what {neighbor} says of it, or begin it anew: vtepctl bgp clear {neighbor}"
            )
        });
        self.deaf.values().cloned().chain(silent)
    }

    /// Whether the session with a neighbour is established and brings no routes while others do.
    #[must_use]
    pub fn is_silent(&self, neighbor: IpAddr) -> bool {
        self.silent.contains(neighbor)
    }

    fn look_for_silent_sessions(&mut self, now: Instant) {
        let brought =
            self.neighbors.iter().filter_map(|(ip, neighbor)| Some((*ip, neighbor.peer.brought()?)));
        for neighbor in self.silent.look(&brought.collect::<Vec<_>>(), now) {
            tracing::warn!(
                %neighbor,
                "the BGP session is established and has brought no routes, not even End-of-RIB, while others have"
            );
        }
    }

    /// Connections from addresses that are no neighbours, which were closed at once.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Our restart is over: sessions that come up from now on say nothing of it.
    pub fn restart_over(&mut self) {
        self.neighbors.values_mut().for_each(|neighbor| neighbor.peer.set_restarting(false));
    }

    /// The neighbours.
    #[must_use]
    pub const fn neighbors(&self) -> &BTreeMap<IpAddr, Neighbor> {
        &self.neighbors
    }

    /// Does something with a neighbour's peer (clear, shutdown, start) and what follows from it. False: no such
    /// neighbour.
    pub fn with_peer(
        &mut self,
        ip: IpAddr,
        registry: &Registry,
        routes: &mut impl Routes,
        now: Instant,
        act: impl FnOnce(&mut Peer),
    ) -> bool {
        let Some(neighbor) = self.neighbors.get_mut(&ip) else { return false };
        act(&mut neighbor.peer);
        neighbor.work(&mut Context { registry, tokens: &mut self.tokens, routes, now });
        true
    }

    /// Handles an event, if its token is one of ours.
    pub fn event(
        &mut self,
        event: &mio::event::Event,
        registry: &Registry,
        routes: &mut impl Routes,
        now: Instant,
    ) {
        if let Some(place) = self.listeners.iter().position(|listener| listener.token == event.token()) {
            return self.accept(place, registry, routes, now);
        }
        let mut context = Context { registry, tokens: &mut self.tokens, routes, now };
        if let Some(neighbor) = self.neighbors.values_mut().find(|neighbor| neighbor.owns(event.token())) {
            neighbor.event(event, &mut context);
        }
    }

    fn accept(&mut self, place: usize, registry: &Registry, routes: &mut impl Routes, now: Instant) {
        for _ in 0..ACCEPTS {
            let (stream, from) = match self.listeners[place].socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_passing(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "BGP: accept failed");
                    return;
                }
            };
            match self.neighbors.get_mut(&from.ip()) {
                Some(neighbor) => {
                    let mut context = Context { registry, tokens: &mut self.tokens, routes, now };
                    neighbor.accept(stream, &mut context);
                }
                // No neighbour: closed before a byte is read.
                None => self.refused += 1,
            }
        }
    }

    /// Does what is due: timers, connections with more to read, routes that wait to be sent.
    pub fn turn(&mut self, registry: &Registry, routes: &mut impl Routes, now: Instant) {
        let mut context = Context { registry, tokens: &mut self.tokens, routes, now };
        for neighbor in self.neighbors.values_mut() {
            neighbor.work(&mut context);
        }
        // Edge-triggered: what `accept` left behind gets no new event.
        for place in 0..self.listeners.len() {
            self.accept(place, registry, routes, now);
        }
        self.look_for_silent_sessions(now);
    }

    /// How long the owner may wait before the next [`Self::turn`].
    #[must_use]
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        if self.neighbors.values().any(Neighbor::impatient) {
            return Some(Duration::ZERO);
        }
        let timers = self.neighbors.values().filter_map(|neighbor| neighbor.peer.poll_timeout());
        timers.min().map(|at| at.saturating_duration_since(now))
    }

    /// Ends all sessions: neighbours that negotiated graceful restart keep our routes for a while, as they would if we
    /// had crashed, so that a restart loses no frame.
    pub fn stop(&mut self, registry: &Registry, routes: &mut impl Routes, now: Instant) {
        for neighbor in self.neighbors.values_mut() {
            if neighbor.peer.status().negotiated.is_none_or(|agreed| agreed.restart.is_none()) {
                neighbor.peer.shutdown(now, Some("vtepd stops"));
                neighbor.close_all(&mut Context { registry, tokens: &mut self.tokens, routes, now });
            }
        }
        self.neighbors.clear();
    }
}

/// Errors of accept(2) that concern one connection and not the socket.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted)
}
