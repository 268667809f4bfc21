//! The BGP speaker: the socket I/O for [`crate::bgp`], which is sans I/O.
//!
//! ```text
//! TCP -> transport -> bgp::Peer -> SessionHandler (EVPN) -> FIB
//! TCP <- transport <- bgp::Peer <- SessionHandler (EVPN) <- local MACs, VNIs
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

/// Maximum number of connections accepted per call, so that other events are not delayed.
const MAX_ACCEPTS: usize = 64;

/// Configuration of a neighbor and its sockets.
#[derive(Debug, Clone)]
pub struct NeighborConfig {
    /// Address and port of the neighbor.
    pub address: SocketAddr,
    /// Socket options.
    pub tcp: TcpOptions,
    /// Session parameters.
    pub peer: PeerConfig,
    /// The daemon has just started: OPENs have the R and F bits set (RFC 4724 section 3).
    pub restarting: bool,
}

/// A listening socket of one address family.
#[derive(Debug)]
struct Listener {
    v6: bool,
    token: Token,
    socket: TcpListener,
}

/// The BGP speaker with all its neighbors.
#[derive(Debug)]
pub struct BgpSpeaker {
    /// Port to listen on (179, RFC 4271 section 8).
    port: u16,
    tokens: TokenAllocator,
    listeners: Vec<Listener>,
    neighbors: BTreeMap<IpAddr, NeighborTransport>,
    /// Errors of listening; the key is true for IPv6.
    listen_errors: BTreeMap<bool, String>,
    silent: SilentSessions,
    /// When the connections of neighbors removed less than [`RECONNECT_DELAY`] ago were closed.
    last_closed: BTreeMap<IpAddr, Instant>,
    refused: u64,
    seed: u64,
}

impl BgpSpeaker {
    /// A speaker without neighbors; it listens once one is added. Uses tokens after `first`. `seed`
    /// initializes the jitter of timers.
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

    /// Adds a neighbor, or replaces one, whose session restarts.
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
            tracing::error!(
                neighbor = %ip,
                %error,
                "cannot set the TCP-MD5 password: the neighbor cannot connect"
            );
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

    /// Ends the session with a neighbor and removes it.
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
                let error = format!(
                    "BGP cannot listen on {family} port {port}: {error}; \
                     only sessions that this side opens are established"
                );
                tracing::warn!("{error}");
                self.listen_errors.insert(v6, error);
            }
        }
    }

    /// What does not work: listening, and established sessions without routes.
    pub fn degraded(&self) -> impl Iterator<Item = String> {
        let silent = self.silent.iter().map(|neighbor| {
            format!(
                "BGP session with {neighbor} is established without routes, not even \
                 End-of-RIB, while other neighbors have sent some; check the session on \
                 {neighbor}, or restart it: vtepctl bgp clear {neighbor}"
            )
        });
        self.listen_errors.values().cloned().chain(silent)
    }

    /// True if the session with `neighbor` is established without routes while others have some.
    #[must_use]
    pub fn is_silent(&self, neighbor: IpAddr) -> bool {
        self.silent.contains(neighbor)
    }

    fn check_silent_sessions(&mut self, now: Instant) {
        let sessions = self
            .neighbors
            .iter()
            .filter_map(|(ip, neighbor)| Some((*ip, neighbor.peer.session_updates()?)));
        for neighbor in self.silent.check(&sessions.collect::<Vec<_>>(), now) {
            tracing::warn!(
                %neighbor,
                "BGP session is established without routes, not even End-of-RIB, \
                 while others have some"
            );
        }
    }

    /// Number of connections refused because their source address is not a neighbor.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// The restart of this speaker is over: later OPENs do not have the R and F bits set.
    pub fn finish_restart(&mut self) {
        self.neighbors
            .values_mut()
            .for_each(|neighbor| neighbor.peer.set_restarting(false));
    }

    /// The neighbors by address.
    #[must_use]
    pub const fn neighbors(&self) -> &BTreeMap<IpAddr, NeighborTransport> {
        &self.neighbors
    }

    /// Applies `act` (clear, shutdown, start) to a neighbor's peer and performs its outputs. False
    /// if there is no such neighbor.
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

    /// Handles an event if its token belongs to this speaker.
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
                // Not a neighbor: closed before anything is read.
                None => self.refused += 1,
            }
        }
    }

    /// Handles expired timers, unread octets and pending advertisements.
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
        // Edge-triggered: connections beyond `MAX_ACCEPTS` cause no further event.
        for place in 0..self.listeners.len() {
            self.accept(place, registry, handler, now);
        }
        self.check_silent_sessions(now);
    }

    /// Longest time to wait before the next [`Self::poll_once`]; `None`: until an event.
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

    /// Closes all sessions. Those with graceful restart are closed without a NOTIFICATION, so that
    /// the neighbors keep our routes during a restart, as after a crash.
    pub fn stop(&mut self, registry: &Registry, handler: &mut impl SessionHandler, now: Instant) {
        for neighbor in self.neighbors.values_mut() {
            if neighbor
                .peer
                .status()
                .negotiated
                .is_none_or(|negotiated| negotiated.restart.is_none())
            {
                neighbor.peer.shutdown(now, Some("vtepd is stopping"));
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

/// True for errors of accept(2) that concern a single connection and not the listening socket.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
    )
}
