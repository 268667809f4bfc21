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

use self::socket::TcpOptions;
use self::transport::{NeighborTransport, SessionHandler, TokenAllocator, TransportContext};
use crate::bgp::{Peer, PeerConfig, RECONNECT_DELAY, SilentSessions};

/// Connections accepted in one go.
const MAX_ACCEPTS: usize = 64;

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
pub struct BgpSpeaker {
    /// The port that neighbours connect to (179, RFC 4271).
    port: u16,
    tokens: TokenAllocator,
    listeners: Vec<Listener>,
    neighbors: BTreeMap<IpAddr, NeighborTransport>,
    /// Why nobody can connect to us, by family.
    listen_errors: BTreeMap<bool, String>,
    silent: SilentSessions,
    /// When we ended the connections with neighbours that were removed less than [`RECONNECT_DELAY`] ago.
    last_closed: BTreeMap<IpAddr, Instant>,
    refused: u64,
    seed: u64,
}

impl BgpSpeaker {
    /// Without neighbours; it listens when there is one. Uses tokens after `first`. `seed` feeds the timers' jitter.
    #[must_use]
    pub const fn new(port: u16, first: Token, seed: u64) -> Self {
        Self {
            port,
            tokens: TokenAllocator::from(first),
            listeners: Vec::new(),
            neighbors: BTreeMap::new(),
            listen_errors: BTreeMap::new(),
            silent: SilentSessions::new(),
            last_closed: BTreeMap::new(),
            refused: 0,
            seed,
        }
    }

    /// Adds a neighbour, or replaces one: its session ends and begins anew.
    pub fn add_neighbor(
        &mut self,
        config: NeighborConfig,
        registry: &Registry,
        handler: &mut impl SessionHandler,
        now: Instant,
    ) {
        let ip = config.address.ip();
        self.remove_neighbor(ip, registry, handler, now);
        self.listen(ip.is_ipv6(), registry);
        if let Some(password) = &config.tcp.password
            && let Some(listener) = self
                .listeners
                .iter()
                .find(|listener| listener.v6 == ip.is_ipv6())
            && let Err(error) = socket::set_password(&listener.socket, ip, password)
        {
            tracing::error!(neighbor = %ip, %error, "the TCP-MD5 password can't be set: the neighbour can't connect");
        }
        self.seed = self
            .seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        let mut peer = Peer::new(config.peer, self.seed);
        peer.set_restarting(config.restarting);
        peer.set_last_closed(self.last_closed.remove(&ip));
        peer.start(now);
        let mut neighbor = NeighborTransport::new(config.address, config.tcp, peer);
        let mut context = TransportContext {
            registry,
            tokens: &mut self.tokens,
            handler,
            now,
        };
        neighbor.run(&mut context);
        self.neighbors.insert(ip, neighbor);
    }

    /// Ends the session with a neighbour (CEASE/3, peer de-configured) and forgets it.
    pub fn remove_neighbor(
        &mut self,
        ip: IpAddr,
        registry: &Registry,
        handler: &mut impl SessionHandler,
        now: Instant,
    ) {
        let Some(mut neighbor) = self.neighbors.remove(&ip) else {
            return;
        };
        self.last_closed
            .retain(|_, at| now.saturating_duration_since(*at) < RECONNECT_DELAY);
        neighbor.peer.shutdown(now, None);
        self.last_closed
            .extend(neighbor.peer.last_closed().map(|at| (ip, at)));
        neighbor.close_all(&mut TransportContext {
            registry,
            tokens: &mut self.tokens,
            handler,
            now,
        });
    }

    fn listen(&mut self, v6: bool, registry: &Registry) {
        if self.listeners.iter().any(|listener| listener.v6 == v6) {
            return;
        }
        let token = self.tokens.allocate();
        let opened = socket::listen(v6, self.port).and_then(|mut socket| {
            registry.register(&mut socket, token, Interest::READABLE)?;
            Ok(Listener { v6, token, socket })
        });
        match opened {
            Ok(listener) => {
                self.listen_errors.remove(&v6);
                self.listeners.push(listener);
            }
            Err(error) => {
                let family = if v6 { "IPv6" } else { "IPv4" };
                let port = self.port;
                let why = format!(
                    "BGP can't listen on {family} port {port}: {error}; sessions come up only as we connect ourselves"
                );
                tracing::warn!("{why}");
                self.listen_errors.insert(v6, why);
            }
        }
    }

    /// Why neighbours can't connect to us, and which of them bring no routes.
    pub fn degraded(&self) -> impl Iterator<Item = String> {
        let silent = self.silent.iter().map(|neighbor| {
            format!(
                "BGP session with {neighbor} is established and has brought no handler, not even End-of-RIB, while others \
                 have; see what {neighbor} says of it, or begin it anew: vtepctl bgp clear {neighbor}"
            )
        });
        self.listen_errors.values().cloned().chain(silent)
    }

    /// Whether the session with a neighbour is established and brings no routes while others do.
    #[must_use]
    pub fn is_silent(&self, neighbor: IpAddr) -> bool {
        self.silent.contains(neighbor)
    }

    fn check_silent_sessions(&mut self, now: Instant) {
        let brought = self
            .neighbors
            .iter()
            .filter_map(|(ip, neighbor)| Some((*ip, neighbor.peer.session_updates()?)));
        for neighbor in self.silent.check(&brought.collect::<Vec<_>>(), now) {
            tracing::warn!(
                %neighbor,
                "the BGP session is established and has brought no handler, not even End-of-RIB, while others have"
            );
        }
    }

    /// Connections from addresses that are no neighbours, which were closed at once.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Our restart is over: sessions that come up from now on say nothing of it.
    pub fn finish_restart(&mut self) {
        self.neighbors
            .values_mut()
            .for_each(|neighbor| neighbor.peer.set_restarting(false));
    }

    /// The neighbours.
    #[must_use]
    pub const fn neighbors(&self) -> &BTreeMap<IpAddr, NeighborTransport> {
        &self.neighbors
    }

    /// Does something with a neighbour's peer (clear, shutdown, start) and what follows from it. False: no such
    /// neighbour.
    pub fn with_peer(
        &mut self,
        ip: IpAddr,
        registry: &Registry,
        handler: &mut impl SessionHandler,
        now: Instant,
        act: impl FnOnce(&mut Peer),
    ) -> bool {
        let Some(neighbor) = self.neighbors.get_mut(&ip) else {
            return false;
        };
        act(&mut neighbor.peer);
        neighbor.run(&mut TransportContext {
            registry,
            tokens: &mut self.tokens,
            handler,
            now,
        });
        true
    }

    /// Handles an event, if its token is one of ours.
    pub fn handle_event(
        &mut self,
        event: &mio::event::Event,
        registry: &Registry,
        handler: &mut impl SessionHandler,
        now: Instant,
    ) {
        if let Some(place) = self
            .listeners
            .iter()
            .position(|listener| listener.token == event.token())
        {
            return self.accept(place, registry, handler, now);
        }
        let mut context = TransportContext {
            registry,
            tokens: &mut self.tokens,
            handler,
            now,
        };
        if let Some(neighbor) = self
            .neighbors
            .values_mut()
            .find(|neighbor| neighbor.owns(event.token()))
        {
            neighbor.handle_event(event, &mut context);
        }
    }

    fn accept(
        &mut self,
        place: usize,
        registry: &Registry,
        handler: &mut impl SessionHandler,
        now: Instant,
    ) {
        for _ in 0..MAX_ACCEPTS {
            let (stream, from) = match self.listeners[place].socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_transient(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "BGP: accept failed");
                    return;
                }
            };
            match self.neighbors.get_mut(&from.ip()) {
                Some(neighbor) => {
                    let mut context = TransportContext {
                        registry,
                        tokens: &mut self.tokens,
                        handler,
                        now,
                    };
                    neighbor.accept(stream, &mut context);
                }
                // No neighbour: closed before a byte is read.
                None => self.refused += 1,
            }
        }
    }

    /// Does what is due: timers, connections with more to read, routes that wait to be sent.
    pub fn poll_once(
        &mut self,
        registry: &Registry,
        handler: &mut impl SessionHandler,
        now: Instant,
    ) {
        let mut context = TransportContext {
            registry,
            tokens: &mut self.tokens,
            handler,
            now,
        };
        for neighbor in self.neighbors.values_mut() {
            neighbor.run(&mut context);
        }
        // Edge-triggered: what `accept` left behind gets no new event.
        for place in 0..self.listeners.len() {
            self.accept(place, registry, handler, now);
        }
        self.check_silent_sessions(now);
    }

    /// How long the owner may wait before the next [`Self::turn`].
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Duration> {
        if self.neighbors.values().any(NeighborTransport::has_unread) {
            return Some(Duration::ZERO);
        }
        let timers = self
            .neighbors
            .values()
            .filter_map(|neighbor| neighbor.peer.poll_timeout());
        timers.min().map(|at| at.saturating_duration_since(now))
    }

    /// Ends all sessions: neighbours that negotiated graceful restart keep our routes for a while, as they would if we
    /// had crashed, so that a restart loses no frame.
    pub fn stop(&mut self, registry: &Registry, handler: &mut impl SessionHandler, now: Instant) {
        for neighbor in self.neighbors.values_mut() {
            if neighbor
                .peer
                .status()
                .negotiated
                .is_none_or(|negotiated| negotiated.restart.is_none())
            {
                neighbor.peer.shutdown(now, Some("vtepd stops"));
                neighbor.close_all(&mut TransportContext {
                    registry,
                    tokens: &mut self.tokens,
                    handler,
                    now,
                });
            }
        }
        self.neighbors.clear();
    }
}

/// Errors of accept(2) that concern one connection and not the socket.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
    )
}
