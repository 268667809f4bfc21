//! The listening sockets, one for each address family with neighbors, and the socket options that
//! belong to these neighbors: TCP-MD5 keys and the least TTL.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::segment_drops;
use super::socket::{self, Md5Password, TcpOptions};
use super::transport::TokenAllocator;
use super::ttl_filter;

/// Interval of attempts to listen: another BGP daemon may use the port, and end.
const RETRY: Duration = Duration::from_secs(5);

/// An option of a listening socket that the kernel may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SocketOption {
    /// The TCP-MD5 key of a neighbor.
    Key(IpAddr),
    /// The filter of [`ttl_filter`].
    Filter,
    LeastTtl,
}

/// A listening socket of one address family.
#[derive(Debug)]
struct Listener {
    v6: bool,
    token: Token,
    socket: TcpListener,
    /// The TCP-MD5 keys that are set.
    keys: BTreeMap<IpAddr, Md5Password>,
    least_ttl: u8,
    /// The least TTL of each neighbor with GTSM, which the socket's filter checks.
    filtered: BTreeMap<IpAddr, u8>,
    /// Options that are not set as configured, and why.
    refused: BTreeMap<SocketOption, String>,
    /// Connections that waited while options changed which are not those of their neighbors; at
    /// most [`socket::BACKLOG`].
    waiting: Vec<(TcpStream, SocketAddr)>,
}

/// All listening sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    /// Port to listen on (179, RFC 4271 section 8).
    port: u16,
    open: Vec<Listener>,
    /// Why a family has no listener; the key is true for IPv6.
    failed: BTreeMap<bool, String>,
    retry_at: Option<Instant>,
    /// Segments dropped at listeners that are closed.
    former_drops: u64,
}

impl Listeners {
    pub(super) const fn new(port: u16) -> Self {
        Self {
            port,
            open: Vec::new(),
            failed: BTreeMap::new(),
            retry_at: None,
            former_drops: 0,
        }
    }

    /// Opens and closes listeners, and sets their options, so that exactly `neighbors` can connect
    /// as configured. What fails is tried again after [`RETRY`].
    pub(super) fn sync<'a>(
        &mut self,
        neighbors: impl Iterator<Item = (IpAddr, &'a TcpOptions)> + Clone,
        registry: &Registry,
        tokens: &mut TokenAllocator,
        now: Instant,
    ) {
        for v6 in [false, true] {
            let family = neighbors.clone().filter(|(ip, _)| ip.is_ipv6() == v6);
            if family.clone().next().is_none() {
                self.close(v6, registry);
                continue;
            }
            if !self.open.iter().any(|listener| listener.v6 == v6) {
                self.listen(v6, registry, tokens);
            }
            if let Some(listener) = self.open.iter_mut().find(|listener| listener.v6 == v6) {
                listener.sync(family);
            }
        }
        let is_complete = self.errors().next().is_none();
        self.retry_at = (!is_complete).then(|| now + RETRY);
    }

    /// When [`Self::sync`] must be called again.
    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    fn listen(&mut self, v6: bool, registry: &Registry, tokens: &mut TokenAllocator) {
        let token = tokens.allocate();
        let port = self.port;
        let opened = socket::listen(v6, port).and_then(|mut socket| {
            registry.register(&mut socket, token, Interest::READABLE)?;
            Ok(Listener {
                v6,
                token,
                socket,
                keys: BTreeMap::new(),
                least_ttl: 0,
                filtered: BTreeMap::new(),
                refused: BTreeMap::new(),
                waiting: Vec::new(),
            })
        });
        let family = family(v6);
        match opened {
            Ok(listener) => {
                if self.failed.remove(&v6).is_some() {
                    tracing::info!("BGP listens on {family} port {port}");
                }
                self.open.push(listener);
            }
            Err(error) => {
                let error = format!(
                    "BGP cannot listen on {family} port {port}: {error}; only sessions that this \
                     side opens are established; trying again every {} s",
                    RETRY.as_secs()
                );
                if self.failed.get(&v6) != Some(&error) {
                    tracing::warn!("{error}");
                }
                self.failed.insert(v6, error);
            }
        }
    }

    fn close(&mut self, v6: bool, registry: &Registry) {
        self.failed.remove(&v6);
        if let Some(place) = self.open.iter().position(|listener| listener.v6 == v6) {
            let mut listener = self.open.swap_remove(place);
            self.former_drops += listener.drops();
            let _ = registry.deregister(&mut listener.socket);
        }
    }

    /// The place of the listener with this token.
    pub(super) fn place(&self, token: Token) -> Option<usize> {
        self.open
            .iter()
            .position(|listener| listener.token == token)
    }

    /// The number of listeners.
    pub(super) const fn len(&self) -> usize {
        self.open.len()
    }

    /// Accepts a connection on the listener at `place`.
    ///
    /// # Errors
    /// Those of accept(2); `WouldBlock` if no connection waits.
    pub(super) fn accept(&mut self, place: usize) -> io::Result<(TcpStream, SocketAddr)> {
        match self.open.get_mut(place) {
            Some(listener) => match listener.waiting.pop() {
                Some(accepted) => Ok(accepted),
                None => listener.socket.accept(),
            },
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// True if the listener at `place` checks the TCP-MD5 signatures of this neighbor as configured: a
    /// key that the kernel refuses must not let in connections without a signature.
    pub(super) fn has_key(&self, place: usize, neighbor: IpAddr, options: &TcpOptions) -> bool {
        self.open
            .get(place)
            .is_some_and(|listener| listener.keys.get(&neighbor) == options.password.as_ref())
    }

    /// True if [`Self::accept`] returns a connection without a further event.
    pub(super) fn has_waiting(&self) -> bool {
        self.open
            .iter()
            .any(|listener| !listener.waiting.is_empty())
    }

    /// Segments that the kernel has dropped at the listeners.
    pub(super) fn drops(&self) -> u64 {
        self.former_drops + self.open.iter().map(Listener::drops).sum::<u64>()
    }

    /// What does not work.
    pub(super) fn errors(&self) -> impl Iterator<Item = String> {
        self.failed
            .values()
            .chain(self.open.iter().flat_map(|open| open.refused.values()))
            .cloned()
    }
}

const fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

impl Listener {
    /// 0 if the kernel does not say.
    fn drops(&self) -> u64 {
        segment_drops::of_socket(&self.socket).unwrap_or(0)
    }

    /// Sets the options for its neighbors, and removes those of former neighbors and settings.
    fn sync<'a>(&mut self, neighbors: impl Iterator<Item = (IpAddr, &'a TcpOptions)> + Clone) {
        let mut changed = self.sync_keys(neighbors.clone());
        changed.extend(self.sync_filter(neighbors.clone()));
        if !changed.is_empty() {
            self.close_waiting(&changed);
        }
        // What all neighbors must meet holds for all other sources too, and without a filter.
        let least_ttl = neighbors.map(|(_, options)| options.least_ttl()).min();
        let least_ttl = least_ttl.unwrap_or(0);
        if least_ttl != self.least_ttl {
            let set = socket::set_least_ttl(&self.socket, self.v6, least_ttl);
            let family = family(self.v6);
            let what = || format!("cannot set the least TTL of the BGP listener over {family}");
            if self.note(SocketOption::LeastTtl, set, what) {
                self.least_ttl = least_ttl;
            }
        }
    }

    /// Notes whether an option is set now: an error stays until it is. Returns whether it is.
    fn note(
        &mut self,
        option: SocketOption,
        set: io::Result<()>,
        what: impl FnOnce() -> String,
    ) -> bool {
        let Err(error) = set else {
            self.refused.remove(&option);
            return true;
        };
        let error = format!("{}: {error}", what());
        if self.refused.get(&option) != Some(&error) {
            tracing::error!("{error}");
        }
        self.refused.insert(option, error);
        false
    }

    /// Returns the neighbors with another key than before.
    fn sync_keys<'a>(
        &mut self,
        neighbors: impl Iterator<Item = (IpAddr, &'a TcpOptions)>,
    ) -> BTreeSet<IpAddr> {
        let wanted: BTreeMap<_, _> = neighbors
            .filter_map(|(ip, options)| Some((ip, options.password.clone()?)))
            .collect();
        // A key that could not be set is none to remove.
        self.refused.retain(|option, _| match option {
            SocketOption::Key(ip) => wanted.contains_key(ip) || self.keys.contains_key(ip),
            SocketOption::Filter | SocketOption::LeastTtl => true,
        });
        let former = self.keys.keys().filter(|ip| !wanted.contains_key(ip));
        for ip in former.copied().collect::<Vec<_>>() {
            let removed = socket::set_password(&self.socket, ip, None);
            let what = || {
                format!(
                    "cannot remove the TCP-MD5 password of {ip}, which can't open a BGP connection \
                     without it"
                )
            };
            if self.note(SocketOption::Key(ip), removed, what) {
                self.keys.remove(&ip);
            }
        }
        let mut changed = changed(&self.keys, &wanted);
        changed.retain(|ip| {
            let set = socket::set_password(&self.socket, *ip, wanted.get(ip));
            let what = || {
                format!(
                    "cannot set the TCP-MD5 password of BGP neighbor {ip} for connections that it \
                     opens"
                )
            };
            let is_set = self.note(SocketOption::Key(*ip), set, what);
            if is_set {
                self.keys
                    .extend(wanted.get(ip).map(|key| (*ip, key.clone())));
            }
            is_set
        });
        changed
    }

    /// Returns the neighbors with another least TTL than before.
    fn sync_filter<'a>(
        &mut self,
        neighbors: impl Iterator<Item = (IpAddr, &'a TcpOptions)>,
    ) -> BTreeSet<IpAddr> {
        let wanted: BTreeMap<_, _> = neighbors
            .filter(|(_, options)| options.ttl_security.is_some())
            .map(|(ip, options)| (ip, options.least_ttl()))
            .collect();
        if wanted == self.filtered && !self.refused.contains_key(&SocketOption::Filter) {
            return BTreeSet::new();
        }
        let attached = ttl_filter::attach(&self.socket, self.v6, &wanted);
        let family = family(self.v6);
        let what = || {
            format!(
                "ttl-security of BGP neighbors over {family} holds only once their connections are \
                 accepted"
            )
        };
        if !self.note(SocketOption::Filter, attached, what) {
            self.filtered.clear();
            return BTreeSet::new();
        }
        let changed = changed(&self.filtered, &wanted);
        self.filtered = wanted;
        changed
    }

    /// Closes connections of `neighbors` that wait to be accepted: they were opened with other
    /// options. Those of others are kept.
    fn close_waiting(&mut self, neighbors: &BTreeSet<IpAddr>) {
        self.waiting
            .retain(|(_, from)| !neighbors.contains(&from.ip()));
        // One more than BACKLOG can wait (listen(2)).
        for _ in 0..=socket::BACKLOG {
            match self.socket.accept() {
                Ok((_, from)) if neighbors.contains(&from.ip()) => {}
                Ok(accepted) if self.waiting.len() < socket::BACKLOG as usize => {
                    self.waiting.push(accepted);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// The neighbors with a value that they did not have before.
fn changed<V: PartialEq>(
    before: &BTreeMap<IpAddr, V>,
    now: &BTreeMap<IpAddr, V>,
) -> BTreeSet<IpAddr> {
    now.iter()
        .filter(|(ip, value)| before.get(ip) != Some(value))
        .map(|(ip, _)| *ip)
        .collect()
}
