//! The server's end of the control socket, driven by the daemon's mio poll. It never blocks, and
//! its memory is bounded: [`MAX_CLIENTS`] clients, 1 MiB of request and 4 MiB of response each.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use serde_json::Value;

use super::access::{AccessPolicy, ClientCredentials, group_number, groups};
use super::connection::{Connection, NextStep};
use super::dispatch::Handler;
use super::event::{ApiEvent, MAX_SUBSCRIBERS};
use super::message::{ApiError, code, response};
use crate::notices::Notices;

/// Limit on clients. One more replaces a client that has been idle for a while, or is refused.
pub const MAX_CLIENTS: usize = 64;
/// Number of tokens of a server, from the one given to [`ControlServer::register`].
pub const TOKENS: usize = 1 + MAX_CLIENTS;
/// When the limit is reached, a client that has been idle for this long is replaced.
const REPLACEABLE_AFTER: Duration = Duration::from_secs(2);
/// Delay before accept(2) is retried after it failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Connections accepted at once: those who connect without end do not keep the daemon from the rest
/// of its turn.
const MAX_ACCEPTS: usize = 64;

/// Time that one turn of the daemon's loop spends on clients: none is served after it.
const TURN: Duration = Duration::from_millis(10);

/// Why the control socket could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon is running.
    #[error("another vtepd listens on {0}; stop it first, or write another control.socket")]
    Live(PathBuf),
    /// Another kind of file has that name.
    #[error("{0} exists and is not a socket; remove it, or write another control.socket")]
    NotSocket(PathBuf),
    /// The group does not exist.
    #[error("no group {0:?} on this host; create it (`groupadd --system {0}`) or remove the key")]
    NoGroup(String),
    /// A directory that is not vtepd's to create.
    #[error("the directory {0} does not exist; create it, or correct control.socket")]
    NoDirectory(PathBuf),
    /// A system call failed.
    #[error("can't {what} {path}: {error}")]
    Io {
        /// The operation.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

/// The number of a group.
fn gid(group: Option<&str>) -> Result<Option<u32>, BindError> {
    let number = |name: &str| group_number(name).ok_or_else(|| BindError::NoGroup(name.to_owned()));
    group.map(number).transpose()
}

/// Checks that the socket's directory exists, or the one above it: a path with a typing error must
/// not become a tree of directories.
fn check_directory(path: &Path) -> Result<(), BindError> {
    let above = path.parent().and_then(Path::parent);
    match above.filter(|above| !above.is_dir()) {
        Some(above) => Err(BindError::NoDirectory(above.to_owned())),
        None => Ok(()),
    }
}

/// Everything that [`ControlServer::bind`] would refuse, without changing anything.
#[must_use]
pub fn refusals(path: &Path, group: Option<&str>) -> Vec<BindError> {
    let all = [
        gid(group).map(drop),
        check_directory(path),
        is_stale(path).map(drop),
    ];
    all.into_iter().filter_map(Result::err).collect()
}

/// The control socket and its clients. `P` is [`Handler::Progress`].
#[derive(Debug)]
pub struct ControlServer<P> {
    listener: UnixListener,
    path: PathBuf,
    /// The socket file belongs to this daemon as long as it has this inode.
    inode: u64,
    policy: AccessPolicy,
    first: usize,
    clients: Vec<Option<Connection<P>>>,
    /// Clients with work that does not wait for them, in the order in which they are served. None
    /// is closed meanwhile: it is the daemon that is late.
    ready: VecDeque<usize>,
    accept_at: Option<Instant>,
    denied_notices: Notices,
}

impl<P: Default> ControlServer<P> {
    /// Creates the socket, mode 0660, for root and `group` (a name or a number). A stale socket is
    /// replaced.
    ///
    /// # Errors
    /// [`BindError`] with the remedy.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, BindError> {
        let failed = |what| {
            let path = path.to_owned();
            move |error| BindError::Io { what, path, error }
        };
        let gid = gid(group)?;
        check_directory(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
            fs::create_dir(parent).map_err(failed("create the directory of"))?;
        }
        if is_stale(path)? {
            fs::remove_file(path).map_err(failed("remove the stale"))?;
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
        chown(path, None, gid).map_err(failed("set the group of"))?;
        fs::set_permissions(path, Permissions::from_mode(0o660))
            .map_err(failed("set the mode of"))?;
        let inode = fs::symlink_metadata(path).map_err(failed("look at"))?.ino();
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode,
            policy: AccessPolicy::new(gid),
            first: 0,
            clients: (0..MAX_CLIENTS).map(|_| None).collect(),
            ready: VecDeque::with_capacity(MAX_CLIENTS),
            accept_at: None,
            denied_notices: Notices::default(),
        })
    }

    /// Registers with the daemon's poll, with the tokens `first` to `first` + [`TOKENS`] - 1.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn register(&mut self, registry: &Registry, first: Token) -> io::Result<()> {
        self.first = first.0;
        registry.register(&mut self.listener, first, Interest::READABLE)
    }

    /// True when an event with this token is for [`Self::event`].
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        (self.first..self.first + TOKENS).contains(&token.0)
    }

    /// Notes an event; the clients themselves are served by [`Self::tick`].
    pub fn event(&mut self, registry: &Registry, token: Token, now: Instant) {
        match token.0.checked_sub(self.first) {
            Some(0) => self.accept(registry, now),
            Some(place) if place <= MAX_CLIENTS => self.serve_later(place - 1),
            _ => (),
        }
    }

    /// When [`Self::tick`] must be called next; `None` = no deadline. In the past = at once.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let earliest = self
            .clients
            .iter()
            .flatten()
            .filter_map(Connection::deadline)
            .chain(self.accept_at)
            .min();
        if self.ready.is_empty() {
            earliest
        } else {
            Some(Instant::now())
        }
    }

    /// Serves the clients that have work, and closes those past their deadline.
    pub fn tick(
        &mut self,
        registry: &Registry,
        handler: &mut impl Handler<Progress = P>,
        now: Instant,
    ) {
        self.serve(registry, handler, now);
        for place in 0..self.clients.len() {
            if !self.ready.contains(&place)
                && self.clients[place]
                    .as_ref()
                    .and_then(Connection::deadline)
                    .is_some_and(|at| at <= now)
            {
                self.close(place, registry);
            }
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(registry, now);
        }
    }

    /// Serves each client once, until the time is up; the next turn begins with those that were not
    /// served.
    fn serve(
        &mut self,
        registry: &Registry,
        handler: &mut impl Handler<Progress = P>,
        now: Instant,
    ) {
        let started = Instant::now();
        for _ in 0..self.ready.len() {
            if started.elapsed() >= TURN {
                return;
            }
            if let Some(place) = self.ready.pop_front() {
                self.process(place, registry, handler, now);
            }
        }
    }

    /// Sends an event to its subscribers. A client that reads too slowly loses it, and receives the
    /// number of lost events.
    pub fn publish(&mut self, registry: &Registry, event: &ApiEvent, now: Instant) {
        let line = event.notification().to_string();
        for place in 0..self.clients.len() {
            if self.clients[place]
                .as_mut()
                .is_some_and(|client| !client.event(event, &line, now))
            {
                self.close(place, registry);
            }
        }
    }

    fn process(
        &mut self,
        place: usize,
        registry: &Registry,
        handler: &mut impl Handler<Progress = P>,
        now: Instant,
    ) {
        let subscribers = self
            .clients
            .iter()
            .flatten()
            .filter(|client| client.subscribed())
            .count();
        let Some(client) = &mut self.clients[place] else {
            return;
        };
        match client.process(handler, subscribers < MAX_SUBSCRIBERS, now) {
            NextStep::Wait => (),
            NextStep::Again => self.serve_later(place),
            NextStep::Close => self.close(place, registry),
        }
    }

    fn serve_later(&mut self, place: usize) {
        if !self.ready.contains(&place) {
            self.ready.push_back(place);
        }
    }

    fn close(&mut self, place: usize, registry: &Registry) {
        self.ready.retain(|waiting| *waiting != place);
        if let Some(mut client) = self.clients[place].take()
            && let Err(error) = registry.deregister(&mut client.stream)
        {
            tracing::debug!(%error, "control socket: a client could not be deregistered");
        }
    }

    fn accept(&mut self, registry: &Registry, now: Instant) {
        self.accept_at = None;
        for _ in 0..MAX_ACCEPTS {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, registry, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "control socket: accept failed; trying again in a \
                        second");
                    self.accept_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        // Edge-triggered: the connections that still wait cause no further event.
        self.accept_at = Some(now);
    }

    fn admit(&mut self, mut stream: UnixStream, registry: &Registry, now: Instant) {
        let peer = ClientCredentials::of(&stream);
        if !peer
            .as_ref()
            .is_ok_and(|peer| self.policy.allows(*peer, groups))
        {
            if let Some(suppressed) = self.denied_notices.allow(now) {
                tracing::warn!(?peer, suppressed, "control socket: access denied");
            }
            let message = "permission denied: must be root or a member of control.group";
            return refuse(stream, &ApiError::new(code::REFUSED, message));
        }
        let Some(place) = self.place(registry, now) else {
            let message =
                format!("too many clients: at most {MAX_CLIENTS} may connect; try again later");
            return refuse(stream, &ApiError::refused(message));
        };
        let token = Token(self.first + 1 + place);
        match registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            Ok(()) => {
                self.clients[place] = Some(Connection::new(stream, now));
                self.serve_later(place);
            }
            Err(error) => {
                tracing::warn!(%error, "control socket: a client could not be registered");
            }
        }
    }

    /// A free slot, if necessary that of the client that has been idle the longest.
    fn place(&mut self, registry: &Registry, now: Instant) -> Option<usize> {
        if let Some(free) = self.clients.iter().position(Option::is_none) {
            return Some(free);
        }
        let idle =
            |client: &Option<Connection<P>>| client.as_ref().and_then(|client| client.idle(now));
        let places = self
            .clients
            .iter()
            .enumerate()
            .filter(|(place, _)| !self.ready.contains(place))
            .filter_map(|(place, client)| Some((idle(client)?, place)));
        let (longest, place) = places.max()?;
        (longest >= REPLACEABLE_AFTER).then(|| {
            self.close(place, registry);
            place
        })
    }
}

impl<P> Drop for ControlServer<P> {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "control socket: could not be \
                removed");
        }
    }
}

/// Sends a client the reason and closes. What does not fit its buffer at once is lost.
fn refuse(mut stream: UnixStream, error: &ApiError) {
    let line = format!("{}\n", response(Value::Null, Err(error.clone())));
    if let Err(error) = stream.write_all(line.as_bytes()) {
        tracing::debug!(%error, "control socket: a refused client did not receive the reason");
    }
}

/// Whether a former daemon left its socket there.
fn is_stale(path: &Path) -> Result<bool, BindError> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(false);
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotSocket(path.to_owned()));
    }
    // Without waiting: a daemon whose queue of connections is full is alive.
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        // A daemon that does not refuse is alive, even if too busy to answer.
        _ => Err(BindError::Live(path.to_owned())),
    }
}
