//! The TCP connections of one neighbour: moves octets between sockets and its [`Peer`], and hands on what the peer says.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::socket::{self, TcpOptions};
use crate::bgp::{ConnectionId, Peer, PeerOutput};

/// Octets read at once.
const CHUNK: usize = 1 << 16;

/// Reads of one connection before others get their turn.
const READS: usize = 32;

/// Who takes what a neighbour says, and has something to say to it.
pub trait Routes {
    /// A session came or went, routes came or went.
    fn heard(&mut self, neighbor: IpAddr, output: PeerOutput<'_>, now: Instant);

    /// How many routes of the neighbour are held.
    fn held(&self, neighbor: IpAddr) -> usize;

    /// Queues what there is to say, as far as the peer has room. To be called again when it has.
    fn speak(&mut self, neighbor: IpAddr, peer: &mut Peer, now: Instant);
}

/// One TCP connection.
#[derive(Debug)]
struct Link {
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
pub struct Tokens {
    next: usize,
}

impl Tokens {
    /// Tokens from `first` on.
    #[must_use]
    pub const fn from(first: Token) -> Self {
        Self { next: first.0 }
    }

    /// The next one.
    pub(super) fn take(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }
}

/// What a neighbour's transport works with.
pub struct Context<'a, R> {
    /// The daemon's poll.
    pub registry: &'a Registry,
    /// Tokens for new connections.
    pub tokens: &'a mut Tokens,
    /// Where routes go.
    pub routes: &'a mut R,
    /// The time.
    pub now: Instant,
}

/// One neighbour with its connections.
#[derive(Debug)]
pub struct Neighbor {
    /// Where it listens.
    pub address: SocketAddr,
    /// Options of all its connections.
    pub options: TcpOptions,
    /// Its sessions.
    pub peer: Peer,
    links: Vec<Link>,
    /// Why the last connection could not be opened.
    pub last_error: Option<String>,
    buffer: Vec<u8>,
}

impl Neighbor {
    /// A neighbour without connections. The caller starts the peer.
    #[must_use]
    pub fn new(address: SocketAddr, options: TcpOptions, peer: Peer) -> Self {
        Self {
            address,
            options,
            peer,
            links: Vec::new(),
            last_error: None,
            buffer: vec![0; CHUNK],
        }
    }

    /// True when this token is of one of its connections.
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        self.links.iter().any(|link| link.token == token)
    }

    /// True when a turn is wanted without waiting for an event.
    #[must_use]
    pub fn impatient(&self) -> bool {
        self.links.iter().any(|link| link.unread)
    }

    /// The neighbour has connected to us.
    pub fn accept<R: Routes>(&mut self, stream: TcpStream, context: &mut Context<'_, R>) {
        if let Err(error) = socket::prepare(&stream, self.address.ip(), &self.options) {
            tracing::warn!(neighbor = %self.address.ip(), %error, "a connection can't be prepared");
            return;
        }
        if let Some(conn) = self.peer.handle_accepted(context.now) {
            self.keep(conn, stream, true, context);
        }
        self.work(context);
    }

    /// An event of one of its connections.
    pub fn event<R: Routes>(&mut self, event: &mio::event::Event, context: &mut Context<'_, R>) {
        let Some(link) = self
            .links
            .iter_mut()
            .find(|link| link.token == event.token())
        else {
            return;
        };
        link.unread |= event.is_readable() || event.is_read_closed() || event.is_error();
        if !link.up && (event.is_writable() || event.is_error()) {
            let conn = link.conn;
            match link.stream.take_error().unwrap_or_else(Some) {
                None => {
                    link.up = true;
                    self.last_error = None;
                    self.peer.handle_connected(context.now, conn);
                }
                Some(error) => self.lost(conn, Some(&error), context),
            }
        }
        self.work(context);
    }

    /// Does all that can be done now: timers, reading, outputs, writing.
    pub fn work<R: Routes>(&mut self, context: &mut Context<'_, R>) {
        if self.peer.poll_timeout().is_some_and(|at| at <= context.now) {
            self.peer.handle_timeout(context.now);
        }
        self.outputs(context);
        for place in (0..self.links.len()).rev() {
            self.read(place, context);
        }
        loop {
            context
                .routes
                .speak(self.address.ip(), &mut self.peer, context.now);
            self.outputs(context);
            if !self.write(context) {
                break;
            }
        }
    }

    fn keep<R>(
        &mut self,
        conn: ConnectionId,
        mut stream: TcpStream,
        up: bool,
        context: &mut Context<'_, R>,
    ) {
        let token = context.tokens.take();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = context.registry.register(&mut stream, token, interest) {
            self.last_error = Some(error.to_string());
            self.peer.handle_closed(context.now, conn);
            return;
        }
        self.links.push(Link {
            conn,
            token,
            stream,
            up,
            unread: false,
        });
    }

    /// Takes the peer's outputs until there are no more.
    fn outputs<R: Routes>(&mut self, context: &mut Context<'_, R>) {
        let ip = self.address.ip();
        let mut connect = Vec::new();
        loop {
            let mut routes_changed = false;
            while let Some(output) = self.peer.poll_output(context.now) {
                match output {
                    PeerOutput::Connect(conn) => connect.push(conn),
                    PeerOutput::Close { conn, last_message } => {
                        close(&mut self.links, conn, &last_message, context.registry);
                    }
                    said => {
                        routes_changed |= matches!(said, PeerOutput::Update(_));
                        context.routes.heard(ip, said, context.now);
                    }
                }
            }
            if routes_changed {
                self.peer
                    .handle_prefix_count(context.now, context.routes.held(ip));
            } else if connect.is_empty() {
                return;
            }
            for conn in connect.drain(..) {
                match socket::connect(self.address, &self.options) {
                    Ok(stream) => self.keep(conn, stream, false, context),
                    Err(error) => self.lost(conn, Some(&error), context),
                }
            }
        }
    }

    /// Reads from one connection, as long as it is fair to others.
    fn read<R: Routes>(&mut self, place: usize, context: &mut Context<'_, R>) {
        for _ in 0..READS {
            let Some(link) = self
                .links
                .get_mut(place)
                .filter(|link| link.up && link.unread)
            else {
                return;
            };
            let conn = link.conn;
            let room = self.peer.recv_capacity(conn).min(CHUNK);
            if room == 0 {
                self.outputs(context);
                if self.peer.recv_capacity(conn) == 0 {
                    return;
                }
                continue;
            }
            match link.stream.read(&mut self.buffer[..room]) {
                Ok(0) => return self.lost(conn, None, context),
                Ok(count) => {
                    self.peer.handle_bytes(conn, &self.buffer[..count]);
                    self.outputs(context);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    link.unread = false;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.lost(conn, Some(&error), context),
            }
        }
    }

    /// Writes what waits. Returns whether all of it went out, so that there is room for more, and something did.
    fn write<R: Routes>(&mut self, context: &mut Context<'_, R>) -> bool {
        let mut lost = Vec::new();
        let mut more = false;
        for link in self.links.iter_mut().filter(|link| link.up) {
            loop {
                let waiting = self.peer.transmit(link.conn);
                if waiting.is_empty() {
                    break;
                }
                match link.stream.write(waiting) {
                    Ok(count) => {
                        self.peer.handle_written(context.now, link.conn, count);
                        more = true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        more = false;
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        lost.push((link.conn, error));
                        break;
                    }
                }
            }
        }
        for (conn, error) in lost {
            self.lost(conn, Some(&error), context);
        }
        more
    }

    /// A connection has ended, or could not be opened.
    fn lost<R: Routes>(
        &mut self,
        conn: ConnectionId,
        error: Option<&io::Error>,
        context: &mut Context<'_, R>,
    ) {
        if let Some(error) = error {
            self.last_error = Some(error.to_string());
        }
        // What the neighbour said last, often a NOTIFICATION, comes before the end.
        while let Some(output) = self.peer.poll_output(context.now) {
            match output {
                PeerOutput::Connect(other) => self.peer.handle_closed(context.now, other),
                PeerOutput::Close { conn, last_message } => {
                    close(&mut self.links, conn, &last_message, context.registry)
                }
                said => context.routes.heard(self.address.ip(), said, context.now),
            }
        }
        close(&mut self.links, conn, &[], context.registry);
        self.peer.handle_closed(context.now, conn);
    }

    /// Closes everything, after the peer was told to end.
    pub fn close_all<R: Routes>(&mut self, context: &mut Context<'_, R>) {
        self.outputs(context);
        self.write(context);
        self.outputs(context);
    }
}

/// Writes last words as far as the socket takes them at once, and closes.
fn close(links: &mut Vec<Link>, conn: ConnectionId, last_message: &[u8], registry: &Registry) {
    let Some(place) = links.iter().position(|link| link.conn == conn) else {
        return;
    };
    let mut link = links.swap_remove(place);
    if link.up && !last_message.is_empty() {
        // A socket that takes nothing has nobody who reads it.
        let _ = link.stream.write(last_message);
    }
    let _ = registry.deregister(&mut link.stream);
}
