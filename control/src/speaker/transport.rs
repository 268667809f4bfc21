//! The TCP connections of one neighbour: moves octets between sockets and its [`Peer`], and hands on what the peer says.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::socket::{self, TcpOptions};
use crate::bgp::{ConnectionId, Peer, PeerOutput};

/// Octets read at once.
const READ_LEN: usize = 1 << 16;

/// Reads of one connection before others get their turn.
const MAX_READS: usize = 32;

/// Who takes what a neighbour says, and has something to say to it.
pub trait SessionHandler {
    /// A session came or went, routes came or went.
    fn on_output(&mut self, neighbor: IpAddr, output: PeerOutput<'_>, now: Instant);

    /// How many routes of the neighbour are held.
    fn route_count(&self, neighbor: IpAddr) -> usize;

    /// Queues what there is to say, as far as the peer has room. To be called again when it has.
    fn advertise(&mut self, neighbor: IpAddr, peer: &mut Peer, now: Instant);
}

/// One TCP connection.
#[derive(Debug)]
struct Connection {
    conn: ConnectionId,
    token: Token,
    stream: TcpStream,
    /// TCP is established.
    up: bool,
    /// There may be more to read although no event will say so.
    unread: bool,
}

/// Hands out tokens of the daemon's poll.
#[derive(Debug)]
pub struct TokenAllocator {
    next: usize,
}

impl TokenAllocator {
    /// TokenAllocator from `first` on.
    #[must_use]
    pub const fn from(first: Token) -> Self {
        Self { next: first.0 }
    }

    /// The next one.
    pub(super) fn allocate(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }
}

/// What a neighbour's transport works with.
pub struct TransportContext<'a, R> {
    /// The daemon's poll.
    pub registry: &'a Registry,
    /// TokenAllocator for new connections.
    pub tokens: &'a mut TokenAllocator,
    /// Where routes go.
    pub handler: &'a mut R,
    /// The time.
    pub now: Instant,
}

/// One neighbour with its connections.
#[derive(Debug)]
pub struct NeighborTransport {
    /// Where it listens.
    pub address: SocketAddr,
    /// Options of all its connections.
    pub options: TcpOptions,
    /// Its sessions.
    pub peer: Peer,
    connections: Vec<Connection>,
    /// Why the last connection could not be opened.
    pub last_error: Option<String>,
    buffer: Vec<u8>,
}

impl NeighborTransport {
    /// A neighbour without connections. The caller starts the peer.
    #[must_use]
    pub fn new(address: SocketAddr, options: TcpOptions, peer: Peer) -> Self {
        Self {
            address,
            options,
            peer,
            connections: Vec::new(),
            last_error: None,
            buffer: vec![0; READ_LEN],
        }
    }

    /// True when this token is of one of its connections.
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.token == token)
    }

    /// True when a turn is wanted without pending for an event.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.connections.iter().any(|connection| connection.unread)
    }

    /// The neighbour has connected to us.
    pub fn accept<R: SessionHandler>(
        &mut self,
        stream: TcpStream,
        context: &mut TransportContext<'_, R>,
    ) {
        if let Err(error) = socket::prepare(&stream, self.address.ip(), &self.options) {
            tracing::warn!(neighbor = %self.address.ip(), %error, "a connection can't be prepared");
            return;
        }
        if let Some(conn) = self.peer.handle_accepted(context.now) {
            self.add_connection(conn, stream, true, context);
        }
        self.run(context);
    }

    /// An event of one of its connections.
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
                    self.last_error = None;
                    self.peer.handle_connected(context.now, conn);
                }
                Some(error) => self.connection_lost(conn, Some(&error), context),
            }
        }
        self.run(context);
    }

    /// Does all that can be done now: timers, reading, outputs, writing.
    pub fn run<R: SessionHandler>(&mut self, context: &mut TransportContext<'_, R>) {
        if self.peer.poll_timeout().is_some_and(|at| at <= context.now) {
            self.peer.handle_timeout(context.now);
        }
        self.drain_outputs(context);
        for index in (0..self.connections.len()).rev() {
            self.read(index, context);
        }
        loop {
            context
                .handler
                .advertise(self.address.ip(), &mut self.peer, context.now);
            self.drain_outputs(context);
            if !self.write(context) {
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
        let token = context.tokens.allocate();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = context.registry.register(&mut stream, token, interest) {
            self.last_error = Some(error.to_string());
            self.peer.handle_closed(context.now, conn);
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

    /// Takes the peer's outputs until there are no more.
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

    /// Reads from one connection, as long as it is fair to others.
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
            let capacity = self.peer.recv_capacity(conn).min(READ_LEN);
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

    /// Writes what waits. Returns whether all of it went out, so that there is room for more, and something did.
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

    /// A connection has ended, or could not be opened.
    fn connection_lost<R: SessionHandler>(
        &mut self,
        conn: ConnectionId,
        error: Option<&io::Error>,
        context: &mut TransportContext<'_, R>,
    ) {
        if let Some(error) = error {
            self.last_error = Some(error.to_string());
        }
        // What the neighbour said last, often a NOTIFICATION, comes before the end.
        while let Some(output) = self.peer.poll_output(context.now) {
            match output {
                PeerOutput::Connect(other) => self.peer.handle_closed(context.now, other),
                PeerOutput::Close { conn, last_message } => {
                    close(&mut self.connections, conn, &last_message, context.registry)
                }
                output => context
                    .handler
                    .on_output(self.address.ip(), output, context.now),
            }
        }
        close(&mut self.connections, conn, &[], context.registry);
        self.peer.handle_closed(context.now, conn);
    }

    /// Closes everything, after the peer was told to end.
    pub fn close_all<R: SessionHandler>(&mut self, context: &mut TransportContext<'_, R>) {
        self.drain_outputs(context);
        self.write(context);
        self.drain_outputs(context);
    }
}

/// Writes last words as far as the socket takes them at once, and closes.
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
        // A socket that takes nothing has nobody who reads it.
        let _ = connection.stream.write(last_message);
    }
    let _ = registry.deregister(&mut connection.stream);
}
