//! The underlay: follows the host's routes, neighbors, addresses and links, and resolves remote
//! VTEPs to paths.
//!
//! ```text
//! kernel --events--> EventSocket -> links, neighbors, addresses (mirrors) --+-> resolve -> UnderlayEvent
//! kernel <-RTM_GETROUTE, NTF_USE-> RequestSocket -> route of each VTEP -----+
//! routers --ICMP errors--> IcmpSockets -> path MTU of each VTEP ------------+
//! ```
//!
//! The owner registers [`Underlay`] with mio and calls [`Underlay::poll`] whenever it is readable,
//! after [`Underlay::track`] or [`Underlay::set_config`], and when [`Underlay::next_timeout`] has
//! passed. Events only mark the VTEPs that they may concern; each VTEP is resolved at most once per
//! poll, and reported only when its paths differ.

pub mod addresses;
mod bonds;
mod error;
mod icmp;
mod kernel;
pub mod links;
pub mod neighbors;
mod netlink;
mod nft;
mod obstacles;
pub mod path_mtu;
mod policies;
mod raw;
mod resolve;
mod route;
mod set_routes;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use vtep_dataplane::addr::VtepAddr;

pub use self::addresses::AddressChange;
pub use self::error::ResolveError;
pub use self::icmp::IcmpCounts;
use self::icmp::IcmpSockets;
pub use self::links::{Link, LinkChange, Reception};
use self::neighbors::NeighborKey;
use self::netlink::{EventSocket, ReadOutcome, RequestSocket};
use self::obstacles::HostLook;
pub use self::obstacles::TenantObstacle;
use self::path_mtu::PathMtu;
use self::policies::HostPolicies;
use self::resolve::{HostState, Resolution, resolve};
pub use self::resolve::{ResolvedPath, ShowPath, weighted_slots};
use self::route::RouteLookup;
use crate::background::Pending;
use crate::notices::Notices;

/// Interval at which unresolved VTEPs and neighbors are retried.
const RETRY: Duration = Duration::from_secs(1);

/// A stale neighbor is not probed again before the kernel's own probing is over:
/// delay_first_probe_time 5 s, then 3 probes of 1 s.
const RECHECK: Duration = Duration::from_secs(10);

/// The underlay's part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnderlayConfig {
    /// Names of the interfaces that carry VXLAN (`[vtep] underlay`).
    pub devices: Vec<String>,
    /// Local VTEP address, IPv4.
    pub local_v4: Option<Ipv4Addr>,
    /// Local VTEP address, IPv6.
    pub local_v6: Option<Ipv6Addr>,
    /// TTL or hop limit, 1..=255.
    pub ttl: u8,
    /// IPv4 Don't Fragment.
    pub df: bool,
    /// UDP destination port.
    pub udp_port: u16,
}

/// The paths of a VTEP have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The VTEP.
    pub vtep: VtepAddr,
    /// Its paths now; empty when it can't be reached.
    pub paths: Vec<ResolvedPath>,
    /// Why it has none.
    pub error: Option<ResolveError>,
}

/// What a poll found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnderlayEvent {
    /// An interface appeared, changed or was removed.
    Link(LinkChange),
    /// An address of this host appeared or was removed.
    Address(AddressChange),
    /// A tracked VTEP was resolved for the first time, or its paths have changed.
    Resolved(Resolved),
}

/// A row of `show underlay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowVtep {
    /// The VTEP.
    pub vtep: IpAddr,
    /// Prefix of the route to it, `default` for the default route; `None` without a route.
    pub route: Option<String>,
    /// The route's next hops.
    pub paths: Vec<ShowPath>,
    /// Why it can't be reached; `None` when it can.
    pub error: Option<ResolveError>,
    /// The path MTU, if a router on the path has reported one that is lower than here.
    pub path_mtu: Option<PathMtu>,
    /// Seconds since its paths last changed.
    pub since: u64,
}

/// What is pending for a VTEP, in ascending order of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PendingWork {
    None,
    /// A neighbor changed: derive the paths again from the known route.
    Derive,
    /// Look the route up again.
    Lookup,
}

#[derive(Debug)]
struct TrackedVtep {
    vtep: VtepAddr,
    pending: PendingWork,
    lookup: RouteLookup,
    resolution: Resolution,
    since: Instant,
    reported: bool,
    /// The kernel may know a path MTU.
    ask_kernel: bool,
}

/// Follows the host's network state and resolves VTEPs, in the network namespace of the thread that
/// created it.
#[derive(Debug)]
pub struct Underlay {
    host: HostState,
    event_socket: EventSocket,
    icmp: IcmpSockets,
    icmp_counts: IcmpCounts,
    path_mtu_notices: Notices,
    neighbor_notices: Notices,
    request_socket: RequestSocket,
    tracked: BTreeMap<IpAddr, TrackedVtep>,
    /// The VTEP whose route was looked up last.
    looked_up: Option<IpAddr>,
    /// Events were lost: all tables must be read again.
    events_lost: bool,
    /// How often events were lost.
    resyncs: u64,
    /// More events wait than one poll may read.
    more_events: bool,
    /// The owner made a request since the last poll.
    requested: bool,
    /// Neighbors whose entries changed since the last poll.
    changed_neighbors: HashSet<NeighborKey>,
    /// When the kernel was last asked to resolve or probe a neighbor.
    solicited: HashMap<NeighborKey, Instant>,
    next_retry: Option<Instant>,
    /// Not yet returned to the owner.
    events: Vec<UnderlayEvent>,
    /// A default route may have changed.
    default_route_changed: bool,
    policies: HostPolicies,
    pending_policies: Option<Pending<HostLook>>,
    /// When to read the routes that were set again.
    routes_due: Option<Instant>,
}

impl Underlay {
    /// Subscribes to the kernel's events and reads its tables. What exists already is not reported
    /// as an event: use [`Self::link`] and [`Self::has_address`].
    ///
    /// # Errors
    /// When a netlink socket can't be opened or the kernel does not answer.
    pub fn new(config: UnderlayConfig) -> io::Result<Self> {
        let mut underlay = Self {
            host: HostState {
                config,
                ..HostState::default()
            },
            event_socket: EventSocket::open()?,
            icmp: IcmpSockets::open(),
            icmp_counts: IcmpCounts::default(),
            path_mtu_notices: Notices::default(),
            neighbor_notices: Notices::default(),
            request_socket: RequestSocket::open()?,
            tracked: BTreeMap::new(),
            looked_up: None,
            events_lost: false,
            resyncs: 0,
            more_events: false,
            requested: true,
            changed_neighbors: HashSet::new(),
            solicited: HashMap::new(),
            next_retry: None,
            events: Vec::new(),
            default_route_changed: false,
            policies: HostPolicies::default(),
            pending_policies: None,
            routes_due: None,
        };
        underlay.set_policies(HostLook::read(true));
        underlay.read_tables()?;
        underlay.lookup_default()?;
        underlay.events.clear();
        Ok(underlay)
    }

    /// Applies a new configuration. Every VTEP is resolved again at the next poll; unchanged ones
    /// are not reported.
    pub fn set_config(&mut self, config: UnderlayConfig) {
        if self.host.config != config {
            self.host.config = config;
            self.requested = true;
            self.lookup_all();
        }
    }

    /// Resolves this VTEP from the next poll on and reports it: once in any case, then when its
    /// paths change. Does nothing when it is tracked already.
    pub fn track(&mut self, vtep: VtepAddr, now: Instant) {
        self.requested = true;
        self.tracked
            .entry(vtep.get())
            .or_insert_with(|| TrackedVtep {
                vtep,
                pending: PendingWork::Lookup,
                lookup: RouteLookup::Skipped(ResolveError::Pending),
                resolution: Resolution::default(),
                since: now,
                reported: false,
                ask_kernel: true,
            });
    }

    /// Stops tracking this VTEP.
    pub fn untrack(&mut self, vtep: VtepAddr) {
        self.tracked.remove(&vtep.get());
        self.host.path_mtus.remove(vtep.get());
    }

    /// The interface with this name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.host.links.by_name(name)
    }

    /// The interface with this index.
    #[must_use]
    pub fn link_by_index(&self, ifindex: u32) -> Option<&Link> {
        self.host.links.get(ifindex)
    }

    /// What this host receives on an interface, of which it may be an interface over it that
    /// receives: a VLAN interface, bond or bridge.
    #[must_use]
    pub fn reception(&self, ifindex: u32) -> Reception {
        self.host.links.reception(ifindex)
    }

    /// The bond that an interface is a member of, else the interface itself.
    #[must_use]
    pub fn bond_or_self(&self, ifindex: u32) -> u32 {
        self.host.links.bond_or_self(ifindex)
    }

    /// Whether an interface of this host has this address, usable as a source.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.host.addresses.contains(address)
    }

    /// The paths of a tracked VTEP as of the last poll. `None` when it is not tracked.
    #[must_use]
    pub fn paths(&self, vtep: VtepAddr) -> Option<&[ResolvedPath]> {
        self.tracked
            .get(&vtep.get())
            .map(|tracked| tracked.resolution.paths.as_slice())
    }

    /// All tracked VTEPs, by address, with their current state.
    #[must_use]
    pub fn show(&self, now: Instant) -> Vec<ShowVtep> {
        self.show_after(None, now).collect()
    }

    /// As [`Self::show`]: the VTEPs after one, in order, each derived when it is asked for.
    pub fn show_after(
        &self,
        after: Option<IpAddr>,
        now: Instant,
    ) -> impl Iterator<Item = ShowVtep> + '_ {
        let row = move |tracked: &TrackedVtep| {
            // Neighbor states change without changing paths, so the rows are derived now.
            let resolution = resolve(tracked.vtep, &tracked.lookup, &self.host);
            ShowVtep {
                vtep: tracked.vtep.get(),
                route: resolution.route,
                paths: resolution.rows,
                error: resolution.error,
                path_mtu: self.host.path_mtus.get(tracked.vtep.get()).copied(),
                since: now.saturating_duration_since(tracked.since).as_secs(),
            }
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.tracked.range((from, Bound::Unbounded));
        rest.map(move |(_, tracked)| row(tracked))
    }

    /// How often the kernel dropped events (ENOBUFS) and all tables were read again.
    #[must_use]
    pub fn resyncs(&self) -> u64 {
        self.resyncs
    }

    /// ICMP errors about packets that are too big.
    #[must_use]
    pub fn icmp_counts(&self) -> IcmpCounts {
        self.icmp_counts
    }

    /// Number of VTEPs whose path MTU a router has reported.
    #[must_use]
    pub fn path_mtus(&self) -> usize {
        self.host.path_mtus.len()
    }

    /// How long the owner may wait for the socket before the next [`Self::poll`]; `None`: without
    /// limit.
    #[must_use]
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        if self.more_events || self.requested {
            return Some(Duration::ZERO);
        }
        let expiry = self.host.path_mtus.next_expiry();
        [self.next_retry, expiry]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.saturating_duration_since(now))
    }

    /// Reads events, retries what is due, resolves what may have changed, and returns what did.
    /// Events of interfaces and addresses come before those of VTEPs.
    ///
    /// # Errors
    /// When the kernel does not answer or refuses. Nothing is lost: the work is retried after
    /// [`Self::next_timeout`], and events found so far are returned then.
    pub fn poll(&mut self, now: Instant) -> io::Result<Vec<UnderlayEvent>> {
        self.requested = false;
        let due = self.next_retry.is_some_and(|at| at <= now);
        let outcome = self.run(now, due);
        if outcome.is_err() || (due && self.unfinished()) {
            self.next_retry = Some(now + RETRY);
        } else if !self.unfinished() {
            self.next_retry = None;
        } else if self.next_retry.is_none() {
            self.next_retry = Some(now + RETRY);
        }
        outcome.map(|()| std::mem::take(&mut self.events))
    }

    /// Whether a VTEP has no path or a neighbor must be resolved or probed.
    fn unfinished(&self) -> bool {
        self.tracked.values().any(|tracked| {
            let resolution = &tracked.resolution;
            resolution.paths.is_empty()
                || resolution
                    .neighbors
                    .iter()
                    .any(|key| self.host.neighbors.needs_attention(*key))
        })
    }

    fn run(&mut self, now: Instant, due: bool) -> io::Result<()> {
        self.read_events()?;
        self.discover_path_mtus(now);
        if self.events_lost {
            self.read_tables()?;
        }
        if std::mem::take(&mut self.default_route_changed) {
            self.lookup_default()?;
        }
        if due {
            let unresolved = |tracked: &&mut TrackedVtep| {
                tracked.resolution.paths.is_empty() || tracked.pending != PendingWork::None
            };
            self.tracked
                .values_mut()
                .filter(unresolved)
                .for_each(|tracked| tracked.pending = PendingWork::Lookup);
        }
        let changed_neighbors = std::mem::take(&mut self.changed_neighbors);
        if !changed_neighbors.is_empty() {
            // A neighbor that has just become stale is probed at once, however recent the last
            // request.
            let stale = |key: &&NeighborKey| self.host.neighbors.is_stale(**key);
            for key in changed_neighbors.iter().filter(stale) {
                self.solicited.remove(key);
            }
            for tracked in self.tracked.values_mut() {
                if tracked
                    .resolution
                    .neighbors
                    .iter()
                    .any(|key| changed_neighbors.contains(key))
                {
                    tracked.pending = tracked.pending.max(PendingWork::Derive);
                }
            }
        }
        let moved = self
            .tracked
            .values()
            .any(|tracked| tracked.pending != PendingWork::None);
        self.lookup_routes()?;
        self.ask_for_path_mtus(now)?;
        self.derive(now);
        if moved || due {
            self.solicit(now)?;
        }
        Ok(())
    }

    fn read_events(&mut self) -> io::Result<()> {
        self.more_events = false;
        let mut events = Vec::new();
        let read = self
            .event_socket
            .read(|bytes| events.push(bytes.to_vec()))?;
        for event in &events {
            self.handle_event(event);
        }
        self.more_events = read == ReadOutcome::More;
        if read == ReadOutcome::Overrun {
            self.events_lost = true;
            self.resyncs += 1;
            // Queued events are older than the lost ones, and the kernel adds none until the queue
            // is empty (NETLINK_S_CONGESTED): only tables read after that are followed by all later
            // events.
            while self.event_socket.read(|_| {})? != ReadOutcome::Drained {}
        }
        Ok(())
    }

    fn lookup_all(&mut self) {
        self.default_route_changed = true;
        self.tracked
            .values_mut()
            .for_each(|tracked| tracked.pending = PendingWork::Lookup);
    }

    /// Derives the paths of every marked VTEP whose route is known, and reports those that differ.
    fn derive(&mut self, now: Instant) {
        for tracked in self
            .tracked
            .values_mut()
            .filter(|tracked| tracked.pending == PendingWork::Derive)
        {
            tracked.pending = PendingWork::None;
            let old = std::mem::replace(
                &mut tracked.resolution,
                resolve(tracked.vtep, &tracked.lookup, &self.host),
            );
            if tracked.reported && old.paths == tracked.resolution.paths {
                continue;
            }
            tracked.reported = true;
            tracked.since = now;
            self.events.push(UnderlayEvent::Resolved(Resolved {
                vtep: tracked.vtep,
                paths: tracked.resolution.paths.clone(),
                error: tracked.resolution.error.clone(),
            }));
        }
    }
}
