//! The underlay: follows the host's routes, neighbours, addresses and links, and resolves remote VTEPs to paths.
//!
//! ```text
//!  kernel --events--> EventSocket --> links, neighbours, addresses (mirrors) --\
//!                                                                                resolve --> Change --> control thread
//!  kernel <-RTM_GETROUTE, NTF_USE-- RequestSocket --> route of each VTEP -------/
//! ```
//!
//! The owner registers [`Underlay`] with mio and calls [`Underlay::turn`] whenever it is readable, after [`Underlay::want`]
//! or [`Underlay::set_config`], and when [`Underlay::next_timeout`] has passed. Events only mark what they may concern;
//! each VTEP is resolved at most once a turn, and reported only when its paths are different.

pub mod addresses;
mod kernel;
pub mod links;
pub mod neighbors;
mod netlink;
mod resolve;
mod route;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use vtep_dataplane::addr::VtepAddr;

pub use self::addresses::AddressChange;
use self::addresses::Addresses;
use self::links::Links;
pub use self::links::{Link, LinkChange};
use self::neighbors::{Key, Neighbours};
use self::netlink::{EventSocket, Read, RequestSocket};
use self::resolve::{Host, Resolution, resolve};
pub use self::resolve::{ResolvedPath, ShowPath, slots};
use self::route::Answer;

/// How often what is unresolved is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A stale neighbour that we asked the kernel to check is not asked about again before the kernel's own check is over:
/// delay_first_probe_time 5 s, then 3 probes of 1 s.
const RECHECK: Duration = Duration::from_secs(10);

/// What the underlay needs to know from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnderlayConfig {
    /// Names of the interfaces that carry VXLAN (`[vtep] underlay`).
    pub devices: Vec<String>,
    /// Our VTEP address in IPv4.
    pub local_v4: Option<Ipv4Addr>,
    /// Our VTEP address in IPv6.
    pub local_v6: Option<Ipv6Addr>,
    /// TTL or hop limit, 1..=255.
    pub ttl: u8,
    /// IPv4 Don't Fragment.
    pub df: bool,
    /// UDP destination port.
    pub udp_port: u16,
}

/// A VTEP has other paths than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The VTEP.
    pub vtep: VtepAddr,
    /// Its paths now; none: it can't be reached.
    pub paths: Vec<ResolvedPath>,
    /// Why there are none.
    pub why_not: Option<String>,
}

/// What a turn brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An interface appeared, changed or went away.
    Link(LinkChange),
    /// An address of this host appeared or went away.
    Address(AddressChange),
    /// A wanted VTEP was resolved for the first time, or has other paths.
    Resolved(Resolved),
}

/// A row of `show underlay`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ShowVtep {
    /// The VTEP.
    pub vtep: IpAddr,
    /// Prefix of the route to it, `default` for the default route; absent without one.
    pub route: Option<String>,
    /// The route's next hops.
    pub paths: Vec<ShowPath>,
    /// Why it can't be reached; absent when it can.
    pub why_not: Option<String>,
    /// Seconds since its paths changed last.
    pub since: u64,
}

/// What is still to be done for a VTEP, the later the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    None,
    /// A neighbour changed: work the paths out again from the known route.
    Derive,
    /// Ask the kernel for the route again.
    Ask,
}

#[derive(Debug)]
struct Wanted {
    vtep: VtepAddr,
    work: Work,
    answer: Answer,
    resolution: Resolution,
    since: Instant,
    reported: bool,
}

/// Follows the host's network state and resolves VTEPs. Belongs to the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Underlay {
    host: Host,
    events: EventSocket,
    requests: RequestSocket,
    wanted: BTreeMap<IpAddr, Wanted>,
    /// Events were lost: read everything again.
    lost: bool,
    /// How often that happened.
    resyncs: u64,
    /// There are more events than one turn may read.
    behind: bool,
    /// Something was asked of us since the last turn.
    fresh: bool,
    /// Neighbours whose entries changed since the last turn.
    touched: HashSet<Key>,
    /// When we last asked the kernel to resolve or check a neighbour.
    solicited: HashMap<Key, Instant>,
    next_try: Option<Instant>,
    /// Found, not yet handed to the owner.
    changes: Vec<Change>,
}

impl Underlay {
    /// Subscribes to the kernel's events and reads its tables. What exists already is not reported as a change: ask
    /// [`Self::link`] and [`Self::has_address`].
    ///
    /// # Errors
    /// When a netlink socket can't be opened or the kernel does not answer.
    pub fn new(config: UnderlayConfig) -> io::Result<Self> {
        let mut underlay = Self {
            host: Host {
                config,
                links: Links::default(),
                neighbours: Neighbours::default(),
                addresses: Addresses::default(),
            },
            events: EventSocket::open()?,
            requests: RequestSocket::open()?,
            wanted: BTreeMap::new(),
            lost: false,
            resyncs: 0,
            behind: false,
            fresh: true,
            touched: HashSet::new(),
            solicited: HashMap::new(),
            next_try: None,
            changes: Vec::new(),
        };
        underlay.read_tables()?;
        underlay.changes.clear();
        Ok(underlay)
    }

    /// Takes up a new configuration. Every VTEP is resolved again at the next turn; the unchanged are not reported.
    pub fn set_config(&mut self, config: UnderlayConfig) {
        if self.host.config != config {
            self.host.config = config;
            self.fresh = true;
            self.ask_all();
        }
    }

    /// Resolve this VTEP from the next turn on, and report it: first in any case, then when its paths change. Nothing
    /// happens when it is wanted already.
    pub fn want(&mut self, vtep: VtepAddr, now: Instant) {
        self.fresh = true;
        self.wanted.entry(vtep.get()).or_insert_with(|| Wanted {
            vtep,
            work: Work::Ask,
            answer: Answer::NotAsked("not looked up yet".to_owned()),
            resolution: Resolution::default(),
            since: now,
            reported: false,
        });
    }

    /// Forget this VTEP; it is not reported any more.
    pub fn unwant(&mut self, vtep: VtepAddr) {
        self.wanted.remove(&vtep.get());
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

    /// True when an interface of this host has this address, usable as a source.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.host.addresses.contains(address)
    }

    /// The paths of a wanted VTEP as of the last turn. `None` when it is not wanted.
    #[must_use]
    pub fn paths(&self, vtep: VtepAddr) -> Option<&[ResolvedPath]> {
        self.wanted
            .get(&vtep.get())
            .map(|wanted| wanted.resolution.paths.as_slice())
    }

    /// All wanted VTEPs, by address, with the state as it is known now.
    #[must_use]
    pub fn show(&self, now: Instant) -> Vec<ShowVtep> {
        let row = |wanted: &Wanted| {
            // The neighbours' states move without touching the paths, so the rows are worked out now.
            let resolution = resolve(wanted.vtep, &wanted.answer, &self.host);
            ShowVtep {
                vtep: wanted.vtep.get(),
                route: resolution.route,
                paths: resolution.rows,
                why_not: resolution.why_not,
                since: now.saturating_duration_since(wanted.since).as_secs(),
            }
        };
        self.wanted.values().map(row).collect()
    }

    /// How often the kernel dropped events for want of room and everything was read again.
    #[must_use]
    pub fn resyncs(&self) -> u64 {
        self.resyncs
    }

    /// How long the owner may wait for the socket before the next [`Self::turn`]; `None`: for ever.
    #[must_use]
    pub fn next_timeout(&self, now: Instant) -> Option<Duration> {
        if self.behind || self.fresh {
            return Some(Duration::ZERO);
        }
        self.next_try.map(|at| at.saturating_duration_since(now))
    }

    /// Reads events, tries again what is due, resolves what may have changed, and returns what did change. Interfaces and
    /// addresses come before VTEPs.
    ///
    /// # Errors
    /// When the kernel does not answer or refuses. Nothing is lost: the work stays, is tried again after
    /// [`Self::next_timeout`], and changes found so far are returned then.
    pub fn turn(&mut self, now: Instant) -> io::Result<Vec<Change>> {
        self.fresh = false;
        let due = self.next_try.is_some_and(|at| at <= now);
        let outcome = self.work(now, due);
        if outcome.is_err() || (due && self.unfinished()) {
            self.next_try = Some(now + RETRY);
        } else if !self.unfinished() {
            self.next_try = None;
        } else if self.next_try.is_none() {
            self.next_try = Some(now + RETRY);
        }
        outcome.map(|()| std::mem::take(&mut self.changes))
    }

    /// True while a VTEP has no path or a neighbour needs the kernel's attention.
    fn unfinished(&self) -> bool {
        self.wanted.values().any(|wanted| {
            let resolution = &wanted.resolution;
            resolution.paths.is_empty()
                || resolution
                    .neighbours
                    .iter()
                    .any(|key| self.host.neighbours.needs_attention(*key))
        })
    }

    fn work(&mut self, now: Instant, due: bool) -> io::Result<()> {
        self.read_events()?;
        if self.lost {
            self.read_tables()?;
        }
        if due {
            let unresolved = |wanted: &&mut Wanted| {
                wanted.resolution.paths.is_empty() || wanted.work != Work::None
            };
            self.wanted
                .values_mut()
                .filter(unresolved)
                .for_each(|wanted| wanted.work = Work::Ask);
        }
        let touched = std::mem::take(&mut self.touched);
        if !touched.is_empty() {
            // One that has just become stale is checked at once, however short ago we asked for it.
            let stale = |key: &&Key| self.host.neighbours.is_stale(**key);
            for key in touched.iter().filter(stale) {
                self.solicited.remove(key);
            }
            for wanted in self.wanted.values_mut() {
                if wanted
                    .resolution
                    .neighbours
                    .iter()
                    .any(|key| touched.contains(key))
                {
                    wanted.work = wanted.work.max(Work::Derive);
                }
            }
        }
        let moved = self.wanted.values().any(|wanted| wanted.work != Work::None);
        self.ask_routes()?;
        self.derive(now);
        if moved || due {
            self.solicit(now)?;
        }
        Ok(())
    }

    fn read_events(&mut self) -> io::Result<()> {
        self.behind = false;
        let mut events = Vec::new();
        let read = self.events.read(|bytes| events.push(bytes.to_vec()))?;
        for event in &events {
            self.take_up(event);
        }
        self.behind = read == Read::More;
        if read == Read::Lost {
            self.lost = true;
            self.resyncs += 1;
            // What still waits is older than what was lost, and the kernel adds nothing until it is all taken
            // (NETLINK_S_CONGESTED): only tables read after that are followed by all later events.
            while self.events.read(|_| {})? != Read::Drained {}
        }
        Ok(())
    }

    fn ask_all(&mut self) {
        self.wanted
            .values_mut()
            .for_each(|wanted| wanted.work = Work::Ask);
    }

    /// Works out the paths of every marked VTEP, and notes those that are different.
    fn derive(&mut self, now: Instant) {
        for wanted in self
            .wanted
            .values_mut()
            .filter(|wanted| wanted.work != Work::None)
        {
            wanted.work = Work::None;
            let old = std::mem::replace(
                &mut wanted.resolution,
                resolve(wanted.vtep, &wanted.answer, &self.host),
            );
            if wanted.reported && old.paths == wanted.resolution.paths {
                continue;
            }
            wanted.reported = true;
            wanted.since = now;
            self.changes.push(Change::Resolved(Resolved {
                vtep: wanted.vtep,
                paths: wanted.resolution.paths.clone(),
                why_not: wanted.resolution.why_not.clone(),
            }));
        }
    }
}
