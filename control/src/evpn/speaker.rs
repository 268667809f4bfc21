//! The instance: what the daemon joins with sockets and tables. Sessions tell it routes, the owner of the ports
//! tells it hosts; it answers with table changes, events, and messages for the neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::change::{EvpnEvent, TableChange};
use super::config::EvpnConfig;
use super::duplicate::DuplicateDetector;
use super::inclusive_multicast::InclusiveMulticasts;
use super::local::LocalState;
use super::mac_table::MacTable;
use super::mac_vrf::MacVrf;
use crate::bgp::wire::{Attributes, EvpnRoute, RouteChange, UpdateMessage};
use crate::bgp::{Negotiated, Peer, PeerOutput};
use crate::rib::{
    AdjRibOut, BestPathChange, KeyLookup, LocalIdentity, NeighborId, PathFilter, Rib, RouteId,
    RouteKind,
};

/// How long after a session came up claims of its neighbour count as old ones, if no End-of-RIB ends that sooner.
const INITIAL: Duration = Duration::from_secs(30);

/// Routes of a message between two steps that fetch memory for one of them: some microseconds of work, and no more lines
/// at a time than a core can wait for.
const APART: usize = 8;

/// Routes between the first step for one and the work on it.
const LEAD: usize = 4 * APART;

/// Where a route and its MAC are, or would be: hints, which what follows may have made wrong.
#[derive(Debug, Clone, Copy, Default)]
struct LookupHints {
    route: Option<KeyLookup>,
    held: Option<RouteId>,
    host: Option<(Vni, u32)>,
}

/// A neighbour's session.
#[derive(Debug)]
struct Session {
    address: IpAddr,
    up: bool,
    /// Until then the neighbour sends what it knows already.
    initial_until: Option<Instant>,
}

/// Something to do later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerTask {
    /// MacCandidate a contested local MAC back.
    ClaimBack(Vni, HostMac),
    /// Look at the history of a MAC that moved.
    Expire(Vni, HostMac),
}

/// Why a change of the tables comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeCause {
    /// A route was announced; `initial`: by a neighbour whose session has just come up.
    Announced { initial: bool },
    /// A route is gone, or the configuration changed.
    Other,
}

/// An EVPN instance. See [`super`] for how it is used.
#[derive(Debug)]
pub struct EvpnSpeaker {
    pub(super) config: EvpnConfig,
    pub(super) rib: Rib,
    pub(super) out: AdjRibOut,
    pub(super) mac_vrfs: BTreeMap<Vni, MacVrf>,
    pub(super) hosts: MacTable,
    pub(super) floods: InclusiveMulticasts,
    pub(super) locals: HashMap<(Vni, HostMac), LocalState>,
    pub(super) local_addresses: BTreeMap<(Vni, IpAddr), HostMac>,
    pub(super) static_macs: HashMap<(Vni, HostMac), VtepAddr>,
    pub(super) static_addresses: BTreeMap<(Vni, IpAddr), (HostMac, bool)>,
    pub(super) duplicates: DuplicateDetector,
    pub(super) tasks: BTreeSet<(Instant, TimerTask)>,
    /// VNIs whose routes have to be looked at again.
    pub(super) reconsider: BTreeSet<Vni>,
    pub(super) changes: Vec<TableChange>,
    pub(super) events: Vec<EvpnEvent>,
    sessions: BTreeMap<NeighborId, Session>,
    /// Where the changes of a message are put together; empty but while that is done.
    near: Vec<(RouteChange, LookupHints)>,
}

impl EvpnSpeaker {
    /// An instance without VNIs and neighbours.
    #[must_use]
    pub fn new(config: EvpnConfig) -> Self {
        let mut own = config.own.clone();
        own.push(config.vtep);
        let local = LocalIdentity {
            asn: config.local_as,
            router_id: config.router_id,
            own,
        };
        Self {
            rib: Rib::new(local),
            out: AdjRibOut::new(config.local_as),
            mac_vrfs: BTreeMap::new(),
            hosts: MacTable::default(),
            floods: InclusiveMulticasts::default(),
            locals: HashMap::new(),
            local_addresses: BTreeMap::new(),
            static_macs: HashMap::new(),
            static_addresses: BTreeMap::new(),
            duplicates: DuplicateDetector::new(config.duplicate),
            tasks: BTreeSet::new(),
            reconsider: BTreeSet::new(),
            changes: Vec::new(),
            events: Vec::new(),
            sessions: BTreeMap::new(),
            near: Vec::new(),
            config,
        }
    }

    /// What it was made with.
    #[must_use]
    pub const fn config(&self) -> &EvpnConfig {
        &self.config
    }

    /// Takes the table changes since the last call, to be applied in order.
    pub fn take_changes(&mut self, now: Instant) -> Vec<TableChange> {
        self.reconsider(now);
        std::mem::take(&mut self.changes)
    }

    /// Hands the table changes since the last call to `apply`, in order, without giving up the buffer.
    pub fn drain_changes(&mut self, now: Instant, apply: impl FnOnce(&[TableChange])) {
        self.reconsider(now);
        apply(&self.changes);
        self.changes.clear();
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> Vec<EvpnEvent> {
        std::mem::take(&mut self.events)
    }

    /// When [`EvpnSpeaker::tick`] has work.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tasks.first().map(|(at, _)| *at)
    }

    /// Does all that is due.
    pub fn tick(&mut self, now: Instant) {
        while let Some((at, task)) = self.tasks.first().copied()
            && at <= now
        {
            self.tasks.remove(&(at, task));
            match task {
                TimerTask::ClaimBack(vni, mac) => self.claim_back(now, vni, mac),
                TimerTask::Expire(vni, mac) => {
                    if self.duplicates.expire(now, (vni, mac)) {
                        self.unfrozen(now, vni, mac);
                    }
                }
            }
        }
    }
}

/// Neighbours.
impl EvpnSpeaker {
    /// Adds a neighbour, whose session is down.
    pub fn neighbor_add(&mut self, id: NeighborId, address: IpAddr) {
        self.rib
            .set_neighbor(id, false, Ipv4Addr::UNSPECIFIED, address);
        self.sessions.insert(
            id,
            Session {
                address,
                up: false,
                initial_until: None,
            },
        );
    }

    /// Removes a neighbour with all its routes.
    pub fn neighbor_remove(&mut self, now: Instant, id: NeighborId) {
        self.peer_down(now, id, false);
        self.rib.remove_neighbor(id);
        self.sessions.remove(&id);
    }

    /// The session is up: [`EvpnSpeaker::pump`] has all our routes to tell.
    pub fn peer_up(&mut self, now: Instant, id: NeighborId, agreed: &Arc<Negotiated>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.up = true;
        session.initial_until = Some(now + INITIAL);
        self.rib
            .set_neighbor(id, agreed.internal, agreed.router_id, session.address);
        self.out.up(id, agreed.clone());
    }

    /// The session is down. With `keep_stale` its routes stay until [`EvpnSpeaker::sweep_stale`].
    pub fn peer_down(&mut self, now: Instant, id: NeighborId, keep_stale: bool) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.up = false;
        }
        self.out.down(id);
        if keep_stale {
            self.rib.mark(id, PathFilter::Stale);
        } else {
            self.drop_routes(now, id, PathFilter::All);
        }
    }

    fn drop_routes(&mut self, now: Instant, id: NeighborId, which: PathFilter) {
        for route in self.rib.routes_of(id, which) {
            if let Some(change) = self.rib.drop_path(id, route) {
                self.changed(now, change, ChangeCause::Other, None);
            }
        }
        self.rib.gc();
    }

    /// The neighbour announces and withdraws routes.
    pub fn update(&mut self, now: Instant, id: NeighborId, update: &UpdateMessage<'_>) {
        let session = self.sessions.get(&id);
        let initial = session
            .and_then(|s| s.initial_until)
            .is_some_and(|until| now < until);
        let looped = self.rib.looped_count(id);
        let mut near = std::mem::take(&mut self.near);
        near.extend(
            update
                .changes()
                .map(|change| (change, LookupHints::default())),
        );
        for step in 0..near.len() + LEAD {
            self.fetch(&mut near, step);
            if let Some((change, spot)) = step.checked_sub(LEAD).and_then(|at| near.get(at)) {
                self.route_changed(now, id, change, update.attributes(), initial, *spot);
            }
        }
        near.clear();
        self.near = near;
        let looped = self.rib.looped_count(id) - looped;
        if looped > 0 {
            self.events.push(EvpnEvent::Looped {
                neighbor: id,
                routes: looped as u32,
            });
        }
    }

    fn route_changed(
        &mut self,
        now: Instant,
        id: NeighborId,
        change: &RouteChange,
        attributes: Option<&Arc<Attributes>>,
        initial: bool,
        spot: LookupHints,
    ) {
        let (change, cause) = match (change, attributes) {
            (RouteChange::Announce(route), Some(attributes)) => (
                self.rib.announce(id, route, attributes, spot.route),
                ChangeCause::Announced { initial },
            ),
            (RouteChange::Announce(route) | RouteChange::Withdraw(route), _) => {
                (self.rib.withdraw(id, route, spot.route), ChangeCause::Other)
            }
        };
        if let Some(change) = change {
            self.changed(now, change, cause, spot.host);
        }
    }

    /// Starts to load what routes further on will need, each in four steps with time between them: what one step has
    /// asked for is there when the next one looks at it. One route after the other would wait for each of its look-ups.
    /// What was worked out for a look-up is kept for the true one.
    fn fetch(&mut self, near: &mut [(RouteChange, LookupHints)], step: usize) {
        let place = |behind: usize| {
            step.checked_sub(behind * APART)
                .filter(|at| *at < near.len())
        };
        let places = [place(0), place(1), place(2), place(3)];
        if let Some((change, spot)) = places[0].map(|at| &mut near[at]) {
            spot.route = self.rib.fetch(change.route());
        }
        if let Some((_, spot)) = places[1].map(|at| &mut near[at]) {
            spot.held = spot.route.and_then(|lookup| self.rib.fetch_route(&lookup));
        }
        if let Some((change, spot)) = places[2].map(|at| &mut near[at])
            && let EvpnRoute::MacIp(route) = change.route()
        {
            let held = spot.held.and_then(|id| self.rib.last_label(id));
            spot.host = Vni::new(held.unwrap_or(route.label)).ok().map(|vni| {
                let hash = self.hosts.hash(vni, route.mac);
                self.hosts.fetch(hash);
                (vni, hash)
            });
        }
        if let Some((_, hash)) = places[3].and_then(|at| near[at].1.host) {
            self.hosts.fetch_host(hash);
        }
    }

    fn changed(
        &mut self,
        now: Instant,
        change: BestPathChange,
        cause: ChangeCause,
        spot: Option<(Vni, u32)>,
    ) {
        if self.rib.kind(change.id) == RouteKind::Other {
            self.flood_changed(change);
        } else {
            self.host_changed(now, change, cause, spot);
        }
        if change.new.is_none() {
            self.rib.free(change.id);
        }
    }

    /// The neighbour has sent all it has.
    pub fn end_of_rib(&mut self, id: NeighborId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.initial_until = None;
        }
    }

    /// The neighbour wants all our routes again.
    pub fn refresh_requested(&mut self, id: NeighborId) {
        self.out.refresh(id);
    }

    /// The neighbour begins to send all its routes again (RFC 7313).
    pub fn refresh_begun(&mut self, id: NeighborId) {
        self.rib.mark(id, PathFilter::Refreshing);
    }

    /// The neighbour has sent all its routes again: others are gone.
    pub fn refresh_ended(&mut self, now: Instant, id: NeighborId) {
        self.drop_routes(now, id, PathFilter::Refreshing);
    }

    /// The restart time is over: stale routes are the last choice from now on (RFC 9494).
    pub fn stale_long_lived(&mut self, now: Instant, id: NeighborId) {
        for route in self.rib.routes_of(id, PathFilter::Stale) {
            if let Some(change) = self.rib.keep_long(id, route) {
                self.changed(now, change, ChangeCause::Other, None);
            }
        }
    }

    /// Drops what is still stale.
    pub fn sweep_stale(&mut self, now: Instant, id: NeighborId) {
        self.drop_routes(now, id, PathFilter::Stale);
    }

    /// How many routes of the neighbour are held, for [`Peer::handle_prefix_count`].
    #[must_use]
    pub fn prefix_count(&self, id: NeighborId) -> usize {
        self.rib.path_count(id)
    }

    /// Does what an output of the neighbour's [`Peer`] says about routes. True if it was about routes; what is about
    /// connections is left to the owner of the sockets.
    pub fn handle(&mut self, now: Instant, id: NeighborId, output: &PeerOutput<'_>) -> bool {
        match output {
            PeerOutput::Connect(_) | PeerOutput::Close { .. } => return false,
            PeerOutput::SessionUp(agreed) => self.peer_up(now, id, agreed),
            PeerOutput::SessionDown { keep_stale_for, .. } => {
                self.peer_down(now, id, keep_stale_for.is_some())
            }
            PeerOutput::Update(update) => self.update(now, id, update),
            PeerOutput::EndOfRib => self.end_of_rib(id),
            PeerOutput::RefreshRequested => self.refresh_requested(id),
            PeerOutput::RefreshBegun => self.refresh_begun(id),
            PeerOutput::RefreshEnded => self.refresh_ended(now, id),
            PeerOutput::StaleLongLived => self.stale_long_lived(now, id),
            PeerOutput::SweepStale => self.sweep_stale(now, id),
        }
        true
    }

    /// Queues what the neighbour has not been told, as much as its queue takes. To be called after anything
    /// changed and after octets were written; true if it has been told everything.
    pub fn pump(&mut self, now: Instant, id: NeighborId, peer: &mut Peer) -> bool {
        self.out.pump(id, |message| peer.send(now, message).is_ok())
    }

    /// True if [`EvpnSpeaker::pump`] has something to tell.
    #[must_use]
    pub fn wants_to_send(&self, id: NeighborId) -> bool {
        self.out.waits(id)
    }
}
