//! The BGP speaker: the socket I/O for [`crate::bgp`], which is sans I/O.
//!
//! ```text
//! TCP -> transport -> bgp::Peer -> SessionHandler (EVPN) -> FIB
//! TCP <- transport <- bgp::Peer <- SessionHandler (EVPN) <- local MACs, VNIs
//! ```

mod listener;
mod segment_drops;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod transport;
mod ttl_filter;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use self::listener::Listeners;
pub use self::segment_drops::SegmentDrops;
use self::socket::TcpOptions;
use self::transport::{NeighborTransport, SessionHandler, SharedLimits};
use crate::bgp::{Peer, PeerConfig, RECONNECT_DELAY, SilentSessions};

/// Maximum number of connections accepted per call, so that other events are not delayed.
const MAX_ACCEPTS: usize = 64;

/// Connections from addresses that are no neighbors are logged once in this time.
const REFUSED_LOG: Duration = Duration::from_secs(60);

/// Connections refused.
#[derive(Debug, Default)]
struct Refused {
    count: u64,
    /// Those from addresses that are no neighbors.
    unknown: u64,
    /// Time of the last log line, and the count of them then.
    logged: Option<(Instant, u64)>,
}

impl Refused {
    fn record(&mut self, from: IpAddr, now: Instant) {
        self.count += 1;
        self.unknown += 1;
        let (at, before) = self.logged.unzip();
        if at.is_none_or(|at| now.saturating_duration_since(at) >= REFUSED_LOG) {
            let suppressed = self.unknown - before.unwrap_or_default() - 1;
            self.logged = Some((now, self.unknown));
            tracing::warn!(%from, suppressed, "BGP connection refused: not a configured neighbor");
        }
    }
}

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

/// The BGP speaker with all its neighbors.
#[derive(Debug)]
pub struct BgpSpeaker {
    shared: SharedLimits,
    listeners: Listeners,
    neighbors: BTreeMap<IpAddr, NeighborTransport>,
    /// The neighbor that is served first in the next turn.
    first: Option<IpAddr>,
    silent: SilentSessions,
    /// When the connections of neighbors removed less than [`RECONNECT_DELAY`] ago were closed.
    last_closed: BTreeMap<IpAddr, Instant>,
    refused: Refused,
    /// Segments dropped before this speaker started.
    earlier_drops: SegmentDrops,
    seed: u64,
}

impl BgpSpeaker {
    /// A speaker without neighbors; it listens on `port` while it has some. Uses tokens after `first`. `seed`
    /// initializes the jitter of timers.
    #[must_use]
    pub fn new(port: u16, first: Token, seed: u64) -> Self {
        Self {
            shared: SharedLimits::new(first),
            listeners: Listeners::new(port),
            neighbors: BTreeMap::new(),
            first: None,
            silent: SilentSessions::new(),
            last_closed: BTreeMap::new(),
            refused: Refused::default(),
            earlier_drops: SegmentDrops::read(),
            seed,
        }
    }

    /// Adds a neighbor, or applies another configuration to one. Its session is reset only if it
    /// consists of what has changed; other values change while it is established, and a session
    /// that was shut down stays so.
    pub fn set_neighbor(
        &mut self,
        config: NeighborConfig,
        registry: &Registry,
        handler: &mut impl SessionHandler,
        now: Instant,
    ) {
        let ip = config.address.ip();
        let mut context = self.shared.context(registry, handler, now);
        if let Some(known) = self.neighbors.get_mut(&ip) {
            known.reconfigure(config.address, config.tcp, config.peer, &mut context);
            return self.sync_listeners(registry, now);
        }
        self.seed = self
            .seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        let mut peer = Peer::new(config.peer, self.seed);
        peer.set_restarting(config.restarting);
        peer.set_last_closed(self.last_closed.remove(&ip));
        peer.start(now);
        let neighbor = NeighborTransport::new(config.address, config.tcp, peer);
        self.neighbors.insert(ip, neighbor);
        self.sync_listeners(registry, now);
        self.with_peer(ip, registry, handler, now, |_| ());
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
        neighbor.peer.deconfigure(now);
        self.last_closed
            .extend(neighbor.peer.last_closed().map(|at| (ip, at)));
        neighbor.close_all(&mut self.shared.context(registry, handler, now));
        self.sync_listeners(registry, now);
    }

    /// Ends all sessions, and removes the routes of all neighbors, before the identity of this
    /// speaker changes. The sessions start again with [`Self::set_neighbor`].
    pub fn end_sessions(
        &mut self,
        registry: &Registry,
        handler: &mut impl SessionHandler,
        now: Instant,
    ) {
        for neighbor in self.neighbors.values_mut() {
            neighbor.peer.end_for_change(now);
            neighbor.close_all(&mut self.shared.context(registry, handler, now));
        }
    }

    /// Makes the listeners match the neighbors.
    fn sync_listeners(&mut self, registry: &Registry, now: Instant) {
        let neighbors = self.neighbors.iter();
        self.listeners.sync(
            neighbors.map(|(ip, neighbor)| (*ip, &neighbor.options)),
            registry,
            &mut self.shared.tokens,
            now,
        );
    }

    /// What does not work: listening, sessions that are not established, and established sessions
    /// without routes.
    pub fn degraded(&self, now: Instant) -> impl Iterator<Item = String> {
        let (dropped, at_listeners) = (self.segment_drops(), self.listener_drops());
        let down = self.neighbors.iter().filter_map(move |(ip, neighbor)| {
            let status = neighbor.peer.status();
            let why = status.not_up_text(now).filter(|_| status.is_overdue(now))?;
            let hint = drop_hint(&neighbor.options, dropped, at_listeners);
            Some(format!(
                "BGP session with {ip} is not established: {why}{hint}"
            ))
        });
        let silent = self.silent.iter().map(|neighbor| {
            format!(
                "BGP session with {neighbor} is established without routes, not even End-of-RIB, \
                 for more than a minute; check the session on {neighbor}, or restart it: \
                 vtepctl bgp clear {neighbor}"
            )
        });
        self.listeners.errors().chain(down).chain(silent)
    }

    /// Segments that the kernel has dropped since this speaker started, of all programs.
    #[must_use]
    pub fn segment_drops(&self) -> SegmentDrops {
        SegmentDrops::read() - self.earlier_drops
    }

    /// Segments that the kernel has dropped at the listening sockets: by `ttl-security`, for their
    /// TCP-MD5 signature, or because too many connections wait.
    #[must_use]
    pub fn listener_drops(&self) -> u64 {
        self.listeners.drops()
    }

    /// True if the session with `neighbor` is established without routes.
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
                "BGP session is established without routes, not even End-of-RIB, for a minute"
            );
        }
    }

    /// Number of connections refused: their source address is not a neighbor, its TCP-MD5 password is
    /// not set, or its session takes none now.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused.count
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
        neighbor.run(&mut self.shared.context(registry, handler, now));
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
        if let Some(place) = self.listeners.place(event.token()) {
            return self.accept(place, registry, handler, now);
        }
        let mut context = self.shared.context(registry, handler, now);
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
            let (stream, from) = match self.listeners.accept(place) {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_transient(&error) => continue,
                Err(error) => {
                    if let Some(suppressed) = self.shared.accept_notices.allow(now) {
                        tracing::warn!(%error, suppressed, "BGP: accept failed");
                    }
                    return;
                }
            };
            match self.neighbors.get_mut(&from.ip()) {
                // What its TCP-MD5 password should keep out; `show status` says why.
                Some(neighbor) if !self.listeners.has_key(place, from.ip(), &neighbor.options) => {
                    self.refused.count += 1;
                }
                Some(neighbor) => {
                    let mut context = self.shared.context(registry, handler, now);
                    if !neighbor.accept(stream, &mut context) {
                        self.refused.count += 1;
                    }
                }
                // Not a neighbor: closed before anything is read.
                None => self.refused.record(from.ip(), now),
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
        let mut context = self.shared.context(registry, handler, now);
        // Each turn begins with another neighbor, so that one that sends all the time does not keep
        // the others from being read.
        let first = self.first.take();
        let from = first.map_or(Bound::Unbounded, Bound::Included);
        let before = first.map(|first| (Bound::Unbounded, Bound::Excluded(first)));
        let mut order = self
            .neighbors
            .range((from, Bound::Unbounded))
            .map(|(ip, _)| *ip)
            .collect::<Vec<_>>();
        order.extend(
            before
                .into_iter()
                .flat_map(|range| self.neighbors.range(range))
                .map(|(ip, _)| *ip),
        );
        self.first = order.get(1).copied();
        for ip in order {
            if let Some(neighbor) = self.neighbors.get_mut(&ip) {
                neighbor.run(&mut context);
            }
        }
        self.shared.begin_turn();
        if self.listeners.retry_at().is_some_and(|at| at <= now) {
            self.sync_listeners(registry, now);
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
        let has_work = self.neighbors.values().any(NeighborTransport::has_work);
        if has_work || self.listeners.has_waiting() {
            return Some(Duration::ZERO);
        }
        let timers = self
            .neighbors
            .values()
            .filter_map(|neighbor| neighbor.peer.poll_timeout());
        let all = timers.chain(self.listeners.retry_at());
        all.min().map(|at| at.saturating_duration_since(now))
    }

    /// Closes all sessions for a restart. Neighbors that keep our routes until we are back get no
    /// NOTIFICATION, as after a crash; the others get 6/2.
    pub fn stop(&mut self, registry: &Registry, handler: &mut impl SessionHandler, now: Instant) {
        for neighbor in self.neighbors.values_mut() {
            if neighbor
                .peer
                .status()
                .negotiated
                .is_none_or(|negotiated| !negotiated.helper)
            {
                neighbor.peer.shutdown(now, Some("vtepd is stopping"));
                neighbor.close_all(&mut self.shared.context(registry, handler, now));
            }
        }
        self.neighbors.clear();
    }
}

/// What the kernel has dropped that may be segments of a neighbor: which one's it does not say.
fn drop_hint(options: &TcpOptions, dropped: SegmentDrops, at_listeners: u64) -> String {
    let mut hint = String::new();
    let SegmentDrops { signature, ttl } = dropped;
    if options.password.is_some() && signature > 0 {
        hint = format!(
            "; this host has dropped {signature} TCP segments without the right TCP-MD5 signature \
             since vtepd started"
        );
    }
    if options.ttl_security.is_some() && ttl + at_listeners > 0 {
        let more = format!(
            "; since vtepd started, this host has dropped {ttl} TCP segments with a TTL below that \
             of their connection, and {at_listeners} at the BGP port for their TTL, for their \
             signature, or because too many connections wait"
        );
        hint.push_str(&more);
    }
    hint
}

/// True for errors of accept(2) that concern a single connection and not the listening socket.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
    )
}
