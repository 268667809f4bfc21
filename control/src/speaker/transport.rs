//! The TCP connections of one neighbor: transfers octets between sockets and its [`Peer`], and
//! passes the peer's outputs to the [`SessionHandler`].

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::socket::{self, TcpOptions};
use crate::bgp::{ConnectionId, Peer, PeerConfig, PeerOutput};
use crate::notices::Notices;

/// Maximum number of octets per read.
const READ_LEN: usize = 1 << 16;

/// Maximum number of reads of one connection before the next is served.
const MAX_READS: usize = 32;

/// Consumer of received routes and source of advertised ones.
pub trait SessionHandler {
    /// Handles a session or route event of a neighbor.
    fn on_output(&mut self, neighbor: IpAddr, output: PeerOutput<'_>, now: Instant);

    /// Number of routes from the neighbor in the Adj-RIB-In.
    fn route_count(&self, neighbor: IpAddr) -> usize;

    /// Queues pending routes until the peer's send queue is full, or messages of `octets` are
    /// queued, which is what is left of them afterwards: 0 if the next message does not fit. Called
    /// again once the queue drains.
    fn advertise(&mut self, neighbor: IpAddr, peer: &mut Peer, now: Instant, octets: &mut usize);
}

/// One TCP connection.
#[derive(Debug)]
struct Connection {
    conn: ConnectionId,
    token: Token,
    stream: TcpStream,
    /// TCP is established.
    up: bool,
    /// There may be more to read without a further event.
    unread: bool,
}

/// Allocates tokens of the daemon's poll.
#[derive(Debug)]
pub struct TokenAllocator {
    next: usize,
}

impl TokenAllocator {
    /// Allocates the tokens after `first`.
    #[must_use]
    pub const fn from(first: Token) -> Self {
        Self { next: first.0 }
    }

    /// The next token.
    pub(super) fn allocate(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }
}

/// Octets that all neighbors together are read in one turn: some 6,000 routes, which take five
/// milliseconds to evaluate and install, and three times as long while other programs use the caches.
/// The rest waits in the kernel, and TCP slows the sender.
pub(super) const TURN_OCTETS: usize = 256 << 10;

/// Octets of routes that are queued for all neighbors together in one turn: a few milliseconds of
/// encoding.
pub(super) const TURN_ROUTES: usize = 256 << 10;

/// What all neighbors share.
#[derive(Debug)]
pub(super) struct SharedLimits {
    /// Tokens for new connections.
    pub(super) tokens: TokenAllocator,
    /// Octets that may still be read in this turn.
    octets: usize,
    /// Octets of routes that may still be queued in this turn.
    routes: usize,
    /// Log lines about connections that could not be accepted.
    pub(super) accept_notices: Notices,
}

impl SharedLimits {
    /// Uses the tokens after `first`.
    pub(super) fn new(first: Token) -> Self {
        Self {
            tokens: TokenAllocator::from(first),
            octets: TURN_OCTETS,
            routes: TURN_ROUTES,
            accept_notices: Notices::default(),
        }
    }

    /// The next turn begins.
    pub(super) const fn begin_turn(&mut self) {
        (self.octets, self.routes) = (TURN_OCTETS, TURN_ROUTES);
    }

    /// What a [`NeighborTransport`] needs for a call.
    pub(super) const fn context<'a, R>(
        &'a mut self,
        registry: &'a Registry,
        handler: &'a mut R,
        now: Instant,
    ) -> TransportContext<'a, R> {
        TransportContext {
            registry,
            shared: self,
            handler,
            now,
        }
    }
}

/// What a [`NeighborTransport`] needs for each call.
pub struct TransportContext<'a, R> {
    /// The daemon's poll.
    registry: &'a Registry,
    shared: &'a mut SharedLimits,
    /// Consumer of outputs.
    handler: &'a mut R,
    /// The current time.
    now: Instant,
}

/// One neighbor with its TCP connections.
#[derive(Debug)]
pub struct NeighborTransport {
    /// Address and port that the neighbor listens on.
    pub address: SocketAddr,
    /// Socket options of all its connections.
    pub options: TcpOptions,
    /// Its BGP sessions.
    pub peer: Peer,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    /// The octets of a turn were used up before all routes were queued.
    is_unsent: bool,
}

impl NeighborTransport {
    /// A neighbor without connections. The caller starts the peer.
    #[must_use]
    pub fn new(address: SocketAddr, options: TcpOptions, peer: Peer) -> Self {
        Self {
            address,
            options,
            peer,
            connections: Vec::new(),
            buffer: vec![0; READ_LEN],
            is_unsent: false,
        }
    }

    /// Applies another configuration of the same neighbor. Connections are closed if they consist
    /// of what has changed.
    pub fn reconfigure<R: SessionHandler>(
        &mut self,
        address: SocketAddr,
        options: TcpOptions,
        config: PeerConfig,
        context: &mut TransportContext<'_, R>,
    ) {
        let ip = self.address.ip();
        let reset = (&self.address, &self.options) != (&address, &options);
        (self.address, self.options) = (address, options);
        if self.peer.reconfigure(context.now, config, reset) {
            tracing::info!(neighbor = %ip, "BGP session reset: its configuration has changed");
        } else {
            self.peer
                .handle_prefix_count(context.now, context.handler.route_count(ip));
        }
        self.run(context);
    }

    /// True if `token` belongs to one of its connections.
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.token == token)
    }

    /// True if there may be octets to read, or routes to queue, without a further event.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.is_unsent || self.connections.iter().any(|connection| connection.unread)
    }

    /// Handles a connection opened by the neighbor. Returns false if it is closed at once: the session
    /// is shut down, waits after an error or is at its prefix limit, or has a connection already.
    pub fn accept<R: SessionHandler>(
        &mut self,
        stream: TcpStream,
        context: &mut TransportContext<'_, R>,
    ) -> bool {
        if let Err(error) = socket::prepare(&stream, self.address.ip(), &self.options) {
            if let Some(suppressed) = context.shared.accept_notices.allow(context.now) {
                tracing::warn!(
                    neighbor = %self.address.ip(),
                    %error,
                    suppressed,
                    "cannot set the options of an accepted connection"
                );
            }
            return false;
        }
        let conn = self.peer.handle_accepted(context.now);
        if let Some(conn) = conn {
            self.add_connection(conn, stream, true, context);
        }
        self.run(context);
        conn.is_some()
    }

    /// Notes an event of one of its connections; [`Self::run`] reads and writes in the same turn.
    pub fn handle_event<R: SessionHandler>(
        &mut self,
        event: &mio::event::Event,
        context: &mut TransportContext<'_, R>,
    ) {
        let Some(connection) = self
            .connections
            .iter_mut()
            .find(|connection| connection.token == event.token())
        else {
            return;
        };
        connection.unread |= event.is_readable() || event.is_read_closed() || event.is_error();
        if !connection.up && (event.is_writable() || event.is_error()) {
            let conn = connection.conn;
            match connection.stream.take_error().unwrap_or_else(Some) {
                None => {
                    connection.up = true;
                    self.peer.handle_connected(context.now, conn);
                }
                Some(error) => self.connection_lost(conn, Some(&error), context),
            }
        }
    }

    /// Handles timers, reads, performs outputs, advertises and writes, until it would block.
    pub fn run<R: SessionHandler>(&mut self, context: &mut TransportContext<'_, R>) {
        if self.peer.poll_timeout().is_some_and(|at| at <= context.now) {
            self.peer.handle_timeout(context.now);
        }
        self.drain_outputs(context);
        for index in (0..self.connections.len()).rev() {
            self.read(index, context);
        }
        loop {
            let (ip, routes) = (self.address.ip(), &mut context.shared.routes);
            let handler = &mut context.handler;
            handler.advertise(ip, &mut self.peer, context.now, routes);
            self.is_unsent = context.shared.routes == 0;
            self.drain_outputs(context);
            if !self.write(context) || self.is_unsent {
                break;
            }
        }
    }

    fn add_connection<R>(
        &mut self,
        conn: ConnectionId,
        mut stream: TcpStream,
        up: bool,
        context: &mut TransportContext<'_, R>,
    ) {
        let token = context.shared.tokens.allocate();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = context.registry.register(&mut stream, token, interest) {
            self.peer
                .handle_failed(context.now, conn, text_of(&error, &self.options));
            return;
        }
        self.connections.push(Connection {
            conn,
            token,
            stream,
            up,
            unread: false,
        });
    }

    /// Performs the peer's outputs until there are none.
    fn drain_outputs<R: SessionHandler>(&mut self, context: &mut TransportContext<'_, R>) {
        let ip = self.address.ip();
        let mut connect = Vec::new();
        loop {
            let mut routes_changed = false;
            while let Some(output) = self.peer.poll_output(context.now) {
                match output {
                    PeerOutput::Connect(conn) => connect.push(conn),
                    PeerOutput::Close { conn, last_message } => {
                        close(&mut self.connections, conn, &last_message, context.registry);
                    }
                    output => {
                        routes_changed |= matches!(output, PeerOutput::Update(_));
                        context.handler.on_output(ip, output, context.now);
                    }
                }
            }
            if routes_changed {
                self.peer
                    .handle_prefix_count(context.now, context.handler.route_count(ip));
            } else if connect.is_empty() {
                return;
            }
            for conn in connect.drain(..) {
                match socket::connect(self.address, &self.options) {
                    Ok(stream) => self.add_connection(conn, stream, false, context),
                    Err(error) => self.connection_lost(conn, Some(&error), context),
                }
            }
        }
    }

    /// Reads from one connection, at most [`MAX_READS`] times and what is left of this turn's
    /// octets.
    fn read<R: SessionHandler>(&mut self, index: usize, context: &mut TransportContext<'_, R>) {
        for _ in 0..MAX_READS {
            let Some(connection) = self
                .connections
                .get_mut(index)
                .filter(|connection| connection.up && connection.unread)
            else {
                return;
            };
            let conn = connection.conn;
            if context.shared.octets == 0 {
                return;
            }
            let capacity = self.peer.recv_capacity(conn).min(READ_LEN);
            let capacity = capacity.min(context.shared.octets);
            if capacity == 0 {
                self.drain_outputs(context);
                if self.peer.recv_capacity(conn) == 0 {
                    return;
                }
                continue;
            }
            match connection.stream.read(&mut self.buffer[..capacity]) {
                Ok(0) => return self.connection_lost(conn, None, context),
                Ok(count) => {
                    context.shared.octets -= count;
                    self.peer.handle_bytes(conn, &self.buffer[..count]);
                    self.drain_outputs(context);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.unread = false;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.connection_lost(conn, Some(&error), context),
            }
        }
    }

    /// Writes pending octets. True if some were written and none are left, so that more can be
    /// queued.
    fn write<R: SessionHandler>(&mut self, context: &mut TransportContext<'_, R>) -> bool {
        let mut lost = Vec::new();
        let mut more = false;
        for connection in self
            .connections
            .iter_mut()
            .filter(|connection| connection.up)
        {
            loop {
                let pending = self.peer.transmit(connection.conn);
                if pending.is_empty() {
                    break;
                }
                match connection.stream.write(pending) {
                    Ok(count) => {
                        self.peer
                            .handle_written(context.now, connection.conn, count);
                        more = true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        more = false;
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        lost.push((connection.conn, error));
                        break;
                    }
                }
            }
        }
        for (conn, error) in lost {
            self.connection_lost(conn, Some(&error), context);
        }
        more
    }

    /// A connection was closed, or could not be opened.
    fn connection_lost<R: SessionHandler>(
        &mut self,
        conn: ConnectionId,
        error: Option<&io::Error>,
        context: &mut TransportContext<'_, R>,
    ) {
        // The last messages of the neighbor, often a NOTIFICATION, precede the close.
        while let Some(output) = self.peer.poll_output(context.now) {
            match output {
                PeerOutput::Connect(other) => self.peer.handle_closed(context.now, other),
                PeerOutput::Close { conn, last_message } => {
                    close(&mut self.connections, conn, &last_message, context.registry);
                }
                output => context
                    .handler
                    .on_output(self.address.ip(), output, context.now),
            }
        }
        close(&mut self.connections, conn, &[], context.registry);
        match error {
            None => self.peer.handle_closed(context.now, conn),
            Some(error) => {
                let error = text_of(error, &self.options);
                self.peer.handle_failed(context.now, conn, error);
            }
        }
    }

    /// Closes all connections, after [`Peer::shutdown`].
    pub fn close_all<R: SessionHandler>(&mut self, context: &mut TransportContext<'_, R>) {
        self.drain_outputs(context);
        self.write(context);
        self.drain_outputs(context);
    }
}

/// An error of TCP for operators.
fn text_of(error: &io::Error, options: &TcpOptions) -> String {
    match (error.kind(), options.local) {
        (ErrorKind::AddrNotAvailable, Some(local)) => {
            format!("local-address {local} is not an address of this host")
        }
        _ => {
            let text = error.to_string();
            let end = text.find(" (os error").unwrap_or(text.len());
            text[..end].to_owned()
        }
    }
}

/// Writes `last_message` as far as the socket takes it without blocking, and closes.
fn close(
    connections: &mut Vec<Connection>,
    conn: ConnectionId,
    last_message: &[u8],
    registry: &Registry,
) {
    let Some(index) = connections
        .iter()
        .position(|connection| connection.conn == conn)
    else {
        return;
    };
    let mut connection = connections.swap_remove(index);
    if connection.up && !last_message.is_empty() {
        // If the socket takes no octets, the neighbor does not read: nothing is lost.
        let _ = connection.stream.write(last_message);
    }
    let _ = registry.deregister(&mut connection.stream);
}
