//! Adj-RIB-Out (RFC 4271 section 3.2): the originated routes, and which of them each peer has not
//! received yet.
//!
//! A route that changes is added to the pending set of every peer with a session. A peer that gets
//! all routes, because its session has begun or it has asked for them, walks the ordered set of all.
//! [`AdjRibOut::pump`] encodes from both until the queue of the peer is full, and continues from
//! there the next time: its cost depends on what it sends, not on what waits.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::route::NeighborId;
use crate::bgp::Negotiated;
use crate::bgp::wire::{
    AddressFamily, Attributes, EvpnRoute, RefreshKind, RouteRefresh, announce, end_of_rib, withdraw,
};

/// LOCAL_PREF of originated routes to internal peers (RFC 4271 section 5.1.5 makes it mandatory
/// there).
const PREFERENCE: u32 = 100;

/// What is sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RouteClass {
    Withdrawn,
    InclusiveMulticast,
    Other,
}

/// The position of a route in the order of sending: withdrawals, then type 3 routes, then the
/// others, those with the same attributes together. It depends on the current state of the route
/// only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SendOrder {
    class: RouteClass,
    /// The address of the attributes; 0 for withdrawals.
    attributes: usize,
    key: EvpnRoute,
}

impl SendOrder {
    /// The position of a route with these attributes; `None`: it is withdrawn.
    fn of(key: EvpnRoute, attributes: Option<&Arc<Attributes>>) -> Self {
        Self {
            class: match (attributes, &key) {
                (None, _) => RouteClass::Withdrawn,
                (Some(_), EvpnRoute::InclusiveMulticast(_)) => RouteClass::InclusiveMulticast,
                (Some(_), _) => RouteClass::Other,
            },
            attributes: attributes.map_or(0, |attributes| Arc::as_ptr(attributes) as usize),
            key,
        }
    }

    /// Whether both are sent in the same messages.
    fn shares_messages(&self, other: &Self) -> bool {
        (self.class, self.attributes) == (other.class, other.attributes)
    }
}

/// How far a peer that gets all routes has received them.
#[derive(Debug, Clone, Copy)]
struct FullUpdate {
    /// The last route that was sent.
    sent: Option<SendOrder>,
}

impl FullUpdate {
    fn rest(self) -> (Bound<SendOrder>, Bound<SendOrder>) {
        let from = self.sent.map_or(Bound::Unbounded, Bound::Excluded);
        (from, Bound::Unbounded)
    }
}

/// What a peer has not received yet.
#[derive(Debug)]
struct PendingRoutes {
    negotiated: Arc<Negotiated>,
    /// Routes that changed.
    changed: BTreeSet<SendOrder>,
    /// Set while the peer gets all routes.
    full: Option<FullUpdate>,
    refresh_begins: bool,
    refresh_ends: bool,
    end_of_rib: bool,
}

type Routes = BTreeMap<EvpnRoute, (EvpnRoute, Arc<Attributes>)>;

/// The originated routes, and the peers with a session.
#[derive(Debug)]
pub struct AdjRibOut {
    local_as: u32,
    routes: Routes,
    /// The keys of all routes in the order of sending.
    order: BTreeSet<SendOrder>,
    neighbors: BTreeMap<NeighborId, PendingRoutes>,
}

impl AdjRibOut {
    /// No routes, no peers.
    #[must_use]
    pub fn new(local_as: u32) -> Self {
        Self {
            local_as,
            routes: BTreeMap::new(),
            order: BTreeSet::new(),
            neighbors: BTreeMap::new(),
        }
    }

    /// Sets the AS that is prepended for external peers. Must be called while no session is
    /// established.
    pub const fn set_local_as(&mut self, local_as: u32) {
        self.local_as = local_as;
    }

    /// A session is established: the peer gets all routes, then End-of-RIB.
    pub fn up(&mut self, id: NeighborId, negotiated: Arc<Negotiated>) {
        let pending = PendingRoutes {
            negotiated,
            changed: BTreeSet::new(),
            full: Some(FullUpdate { sent: None }),
            refresh_begins: false,
            refresh_ends: false,
            end_of_rib: true,
        };
        self.neighbors.insert(id, pending);
    }

    /// A session ended.
    pub fn down(&mut self, id: NeighborId) {
        self.neighbors.remove(&id);
    }

    /// A peer requests all routes again (RFC 2918), between markers if both sides support them (RFC
    /// 7313).
    pub fn refresh(&mut self, id: NeighborId) {
        if let Some(pending) = self.neighbors.get_mut(&id) {
            pending.full = Some(FullUpdate { sent: None });
            pending.refresh_begins = pending.negotiated.enhanced_refresh;
            pending.refresh_ends = pending.negotiated.enhanced_refresh;
        }
    }

    /// Announces a route, or changes its attributes or labels. An equal route changes nothing.
    pub fn set(&mut self, route: EvpnRoute, attributes: &Arc<Attributes>) {
        let key = route.key();
        let same = |(old, with): &(EvpnRoute, Arc<Attributes>)| {
            *old == route && (Arc::ptr_eq(with, attributes) || with == attributes)
        };
        if self.routes.get(&key).is_some_and(same) {
            return;
        }
        let old = self.routes.insert(key, (route, attributes.clone()));
        let old = SendOrder::of(key, old.as_ref().map(|(_, attributes)| attributes));
        self.replace(old, SendOrder::of(key, Some(attributes)));
    }

    /// Withdraws a route.
    pub fn remove(&mut self, route: &EvpnRoute) {
        let key = route.key();
        if let Some((_, attributes)) = self.routes.remove(&key) {
            let old = SendOrder::of(key, Some(&attributes));
            self.replace(old, SendOrder::of(key, None));
        }
    }

    /// A route has changed its position from `old` to `new`.
    fn replace(&mut self, old: SendOrder, new: SendOrder) {
        self.order.remove(&old);
        if new.class != RouteClass::Withdrawn {
            self.order.insert(new);
        }
        for pending in self.neighbors.values_mut() {
            pending.changed.remove(&old);
            pending.changed.insert(new);
        }
    }

    /// The originated routes after that with a key, with their attributes, in the order of their
    /// keys.
    pub fn routes_after(
        &self,
        key: Option<EvpnRoute>,
    ) -> impl Iterator<Item = &(EvpnRoute, Arc<Attributes>)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.routes.range((from, Bound::Unbounded));
        rest.map(|(_, route)| route)
    }

    /// The originated route with a key.
    #[must_use]
    pub fn get(&self, key: &EvpnRoute) -> Option<&(EvpnRoute, Arc<Attributes>)> {
        self.routes.get(key)
    }

    /// The number of originated routes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// True if there are no originated routes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// True if a peer has not received everything yet.
    #[must_use]
    pub fn has_pending(&self, id: NeighborId) -> bool {
        self.neighbors.get(&id).is_some_and(|p| {
            !p.changed.is_empty()
                || p.full.is_some()
                || p.refresh_begins
                || p.refresh_ends
                || p.end_of_rib
        })
    }

    /// Passes messages to `sink` until it returns false, which means that it accepts no more. True
    /// if nothing is left to send.
    pub fn pump(&mut self, id: NeighborId, mut sink: impl FnMut(&[u8]) -> bool) -> bool {
        let Some(pending) = self.neighbors.get_mut(&id) else {
            return true;
        };
        let mark = |kind| {
            RouteRefresh {
                family: AddressFamily::EVPN,
                kind,
            }
            .emit()
        };
        if pending.refresh_begins {
            pending.refresh_begins = !sink(&mark(RefreshKind::Begin));
        }
        if pending.refresh_begins
            || !pending.send(&self.routes, &self.order, self.local_as, &mut sink)
        {
            return false;
        }
        if pending.refresh_ends {
            pending.refresh_ends = !sink(&mark(RefreshKind::End));
        }
        if pending.end_of_rib && !pending.refresh_ends {
            pending.end_of_rib = !sink(&end_of_rib());
        }
        !pending.refresh_ends && !pending.end_of_rib
    }
}

impl PendingRoutes {
    /// Sends what has changed, then the rest of all routes if the peer gets them. False if `sink`
    /// accepts no more.
    fn send(
        &mut self,
        routes: &Routes,
        order: &BTreeSet<SendOrder>,
        local_as: u32,
        sink: &mut impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let (last, all) = self.send_range(&self.changed, everything, routes, local_as, sink);
        while last.is_some() && self.changed.first() <= last.as_ref() {
            if self.changed.pop_first().is_none() {
                break;
            }
        }
        if !all {
            return false;
        }
        let Some(full) = self.full else {
            return true;
        };
        let (last, all) = self.send_range(order, full.rest(), routes, local_as, sink);
        let sent = last.or(full.sent);
        self.full = (!all).then_some(FullUpdate { sent });
        all
    }

    /// Sends a part of an ordered set. Returns the last route that was sent, and whether it was the
    /// last of all.
    fn send_range(
        &self,
        set: &BTreeSet<SendOrder>,
        range: (Bound<SendOrder>, Bound<SendOrder>),
        routes: &Routes,
        local_as: u32,
        sink: &mut impl FnMut(&[u8]) -> bool,
    ) -> (Option<SendOrder>, bool) {
        let mut rest = set.range(range).copied().peekable();
        let mut last = None;
        while let Some(first) = rest.peek().copied() {
            let mut group =
                std::iter::from_fn(|| rest.next_if(|next| next.shares_messages(&first)));
            let (sent, all) = self.send_group(first, &mut group, routes, local_as, sink);
            last = sent.or(last);
            if !all {
                return (last, false);
            }
        }
        (last, true)
    }

    /// Sends the routes of `group`, which share messages with `first`. Returns the last that was
    /// sent, and whether all were.
    fn send_group(
        &self,
        first: SendOrder,
        group: &mut dyn Iterator<Item = SendOrder>,
        routes: &Routes,
        local_as: u32,
        sink: &mut impl FnMut(&[u8]) -> bool,
    ) -> (Option<SendOrder>, bool) {
        // The encoder reads one route beyond a message before it passes the message on. If it has
        // not, that route is sent twice.
        let (before, newest) = (Cell::new(None), Cell::new(None));
        let (accepted, full) = (Cell::new(None), Cell::new(false));
        // Once the sink is full the iterator ends, which ends the encoding.
        let mut source = group.take_while(|_| !full.get()).map(|order| {
            before.set(newest.replace(Some(order)));
            order.key
        });
        let mut pass = |message: &[u8]| {
            if !full.get() && sink(message) {
                accepted.set(before.get());
            } else {
                full.set(true);
            }
        };
        match routes.get(&first.key) {
            Some((_, attributes)) if first.class != RouteClass::Withdrawn => {
                let attributes = self.adapt(attributes, local_as);
                let whole = |key: EvpnRoute| routes.get(&key).map_or(key, |(route, _)| *route);
                // Attributes of originated routes always leave space for routes: they have a few
                // communities at most.
                announce(
                    &attributes,
                    source.by_ref().map(whole),
                    self.negotiated.encoding(),
                    &mut pass,
                );
            }
            _ => withdraw(source.by_ref(), self.negotiated.send_limit, &mut pass),
        }
        if full.get() {
            (accepted.get(), false)
        } else {
            (newest.get(), true)
        }
    }

    /// The attributes for this peer: with LOCAL_PREF if it is internal, with our AS in AS_PATH if
    /// it is external.
    fn adapt(&self, attributes: &Attributes, local_as: u32) -> Attributes {
        let mut attributes = attributes.clone();
        if self.negotiated.internal {
            attributes.local_pref = Some(PREFERENCE);
        } else {
            attributes.as_path.prepend(local_as);
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::bgp::wire::{
        DecodeContext, Decoder, HEADER_LEN, InclusiveMulticast, Rd, RouteChange, UpdateMessage,
    };

    const PEER: NeighborId = NeighborId(1);

    fn route(number: u16) -> EvpnRoute {
        EvpnRoute::InclusiveMulticast(InclusiveMulticast {
            rd: Rd::ipv4([192, 0, 2, 1].into(), number),
            tag: 0,
            originator: IpAddr::from([192, 0, 2, 1]),
        })
    }

    fn next_hop(with: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, with])
    }

    /// A session with messages of a few routes each.
    fn negotiated() -> Arc<Negotiated> {
        Arc::new(Negotiated {
            peer_as: 65000,
            router_id: Ipv4Addr::new(192, 0, 2, 2),
            internal: true,
            hold: std::time::Duration::ZERO,
            four_octet: true,
            send_limit: 256,
            refresh: true,
            enhanced_refresh: true,
            restart: None,
            helper: false,
            hard_reset: false,
            hostname: None,
            software: None,
        })
    }

    fn is_update(message: &[u8]) -> bool {
        message[HEADER_LEN - 1] == 2
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Announces a route with one of three attribute sets.
        Set(u16, u8),
        Remove(u16),
        /// The peer accepts so many messages.
        Pump(usize),
        Refresh,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40_u16, 1..4_u8).prop_map(|(number, with)| Step::Set(number, with)),
            2 => (0..40_u16).prop_map(Step::Remove),
            2 => (0..4_usize).prop_map(Step::Pump),
            1 => Just(Step::Refresh),
        ]
    }

    /// A peer that accepts a limited number of messages.
    struct Receiver {
        decoder: Decoder,
        routes: BTreeMap<EvpnRoute, IpAddr>,
    }

    impl Receiver {
        fn accept(&mut self, message: &[u8]) {
            if !is_update(message) {
                return;
            }
            let body = &message[HEADER_LEN..];
            let parts = self.decoder.decode(body).expect("valid");
            let update = UpdateMessage::new(body, parts);
            for change in update.changes() {
                match (change, update.attributes()) {
                    (RouteChange::Announce(route), Some(attributes)) => {
                        self.routes.insert(route.key(), attributes.next_hop);
                    }
                    (RouteChange::Announce(route) | RouteChange::Withdraw(route), _) => {
                        self.routes.remove(&route.key());
                    }
                }
            }
        }

        fn pump(&mut self, out: &mut AdjRibOut, mut messages: usize) -> bool {
            out.pump(PEER, |message| {
                if messages == 0 {
                    return false;
                }
                messages -= 1;
                self.accept(message);
                true
            })
        }
    }

    proptest! {
        #[test]
        fn a_peer_of_any_speed_gets_the_present_routes(
            before in prop::collection::vec(step(), 0..60),
            after in prop::collection::vec(step(), 0..120),
        ) {
            let mut out = AdjRibOut::new(65000);
            let context = DecodeContext { internal: true, four_octet: true, add_path: false };
            let decoder = Decoder::new(context);
            let mut receiver = Receiver { decoder, routes: BTreeMap::new() };
            let mut wanted = BTreeMap::new();
            let sets = [0, 1, 2, 3].map(|with| Arc::new(Attributes::local(next_hop(with))));
            let up = before.len();
            for (place, step) in before.into_iter().chain(after).enumerate() {
                if place == up {
                    out.up(PEER, negotiated());
                }
                match step {
                    Step::Set(number, with) => {
                        out.set(route(number), &sets[usize::from(with)]);
                        wanted.insert(route(number), next_hop(with));
                    }
                    Step::Remove(number) => {
                        out.remove(&route(number));
                        wanted.remove(&route(number));
                    }
                    Step::Pump(messages) => {
                        receiver.pump(&mut out, messages);
                    }
                    Step::Refresh => out.refresh(PEER),
                }
            }
            if !out.neighbors.contains_key(&PEER) {
                out.up(PEER, negotiated());
            }
            prop_assert!(receiver.pump(&mut out, usize::MAX));
            prop_assert!(!out.has_pending(PEER));
            prop_assert_eq!(receiver.routes, wanted);
        }
    }

    /// What waits for a peer that does not read is neither sorted nor encoded, except for the next
    /// message (finding C13).
    #[test]
    fn a_peer_that_reads_nothing_is_offered_one_message() {
        let mut out = AdjRibOut::new(65000);
        let attributes = Arc::new(Attributes::local(next_hop(1)));
        out.up(PEER, negotiated());
        for number in 0..10_000 {
            out.set(route(number), &attributes);
        }
        out.refresh(PEER);
        let mut offered = 0;
        let mut pump = |accepts: fn(&[u8]) -> bool| {
            out.pump(PEER, |message| {
                offered += 1;
                accepts(message)
            })
        };
        assert!(!pump(|_| false), "the marker of the refresh");
        assert!(
            !pump(|message| !is_update(message)),
            "the marker, and a message"
        );
        assert!(!pump(|_| false), "the message again");
        assert_eq!(offered, 4);
        assert_eq!(out.neighbors[&PEER].changed.len(), 10_000);
    }
}
