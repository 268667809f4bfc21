//! Adj-RIB-Out (RFC 4271 section 3.2): the originated routes, and which of them each peer has not
//! received yet.
//!
//! A route that changes is added to the pending set of every peer with a session;
//! [`AdjRibOut::pump`] encodes the pending routes until the queue of the peer is full, and
//! continues from there the next time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use super::route::NeighborId;
use crate::bgp::Negotiated;
use crate::bgp::wire::{
    AddressFamily, Attributes, EvpnRoute, RefreshKind, RouteRefresh, announce, end_of_rib, withdraw,
};

/// LOCAL_PREF of originated routes to internal peers (RFC 4271 section 5.1.5 makes it mandatory
/// there).
const PREFERENCE: u32 = 100;

/// What a peer has not received yet.
#[derive(Debug)]
struct PendingRoutes {
    negotiated: Arc<Negotiated>,
    /// Keys of routes that changed.
    routes: BTreeSet<EvpnRoute>,
    refresh_begins: bool,
    refresh_ends: bool,
    end_of_rib: bool,
}

type Routes = HashMap<EvpnRoute, (EvpnRoute, Arc<Attributes>)>;

/// The originated routes, and the peers with a session.
#[derive(Debug)]
pub struct AdjRibOut {
    local_as: u32,
    routes: Routes,
    neighbors: BTreeMap<NeighborId, PendingRoutes>,
}

impl AdjRibOut {
    /// No routes, no peers.
    #[must_use]
    pub fn new(local_as: u32) -> Self {
        Self {
            local_as,
            routes: HashMap::new(),
            neighbors: BTreeMap::new(),
        }
    }

    /// A session is established: the peer gets all routes, then End-of-RIB.
    pub fn up(&mut self, id: NeighborId, negotiated: Arc<Negotiated>) {
        let routes = self.routes.keys().copied().collect();
        let pending = PendingRoutes {
            negotiated,
            routes,
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
            pending.routes.extend(self.routes.keys().copied());
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
        self.routes.insert(key, (route, attributes.clone()));
        self.touch(key);
    }

    /// Withdraws a route.
    pub fn remove(&mut self, route: &EvpnRoute) {
        let key = route.key();
        if self.routes.remove(&key).is_some() {
            self.touch(key);
        }
    }

    fn touch(&mut self, key: EvpnRoute) {
        for pending in self.neighbors.values_mut() {
            pending.routes.insert(key);
        }
    }

    /// The originated routes with their attributes, in no order.
    pub fn routes(&self) -> impl Iterator<Item = &(EvpnRoute, Arc<Attributes>)> {
        self.routes.values()
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
            !p.routes.is_empty() || p.refresh_begins || p.refresh_ends || p.end_of_rib
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
        if pending.refresh_begins || !pending.send(&self.routes, self.local_as, &mut sink) {
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
    /// Sends the pending routes: withdrawals, then type 3 routes, then type 2 routes, those with
    /// equal attributes in the same messages.
    fn send(
        &mut self,
        routes: &Routes,
        local_as: u32,
        sink: &mut impl FnMut(&[u8]) -> bool,
    ) -> bool {
        if self.routes.is_empty() {
            return true;
        }
        let (keep, gone): (Vec<_>, Vec<_>) = self
            .routes
            .iter()
            .partition(|key| routes.contains_key(*key));
        let limit = self.negotiated.send_limit;
        if !self.batch(&gone, sink, |keys, sink| withdraw(keys, limit, sink)) {
            return false;
        }
        let of = |key: &EvpnRoute| {
            routes
                .get(key)
                .map(|(route, attributes)| (*key, *route, attributes))
        };
        let mut keep: Vec<_> = keep.iter().filter_map(of).collect();
        keep.sort_unstable_by_key(|(key, _, with)| {
            (
                !matches!(key, EvpnRoute::InclusiveMulticast(_)),
                Arc::as_ptr(with) as usize,
                *key,
            )
        });
        for group in keep.chunk_by(|a, b| Arc::ptr_eq(a.2, b.2)) {
            let attributes = self.adapt(group[0].2, local_as);
            let encoding = self.negotiated.encoding();
            let keys: Vec<_> = group.iter().map(|(key, ..)| *key).collect();
            let whole = |key: EvpnRoute| routes.get(&key).map_or(key, |(route, _)| *route);
            let sent = self.batch(&keys, sink, |keys, sink| {
                // Attributes of originated routes always leave space for routes: they have a few
                // communities at most.
                announce(&attributes, keys.map(whole), encoding, sink);
            });
            if !sent {
                return false;
            }
        }
        true
    }

    /// Removes routes from the pending set as far as `sink` accepts the messages that `write`
    /// encodes.
    fn batch(
        &mut self,
        keys: &[EvpnRoute],
        sink: &mut impl FnMut(&[u8]) -> bool,
        write: impl FnOnce(&mut dyn Iterator<Item = EvpnRoute>, &mut dyn FnMut(&[u8])),
    ) -> bool {
        let (read, accepted, full) = (Cell::new(0), Cell::new(0), Cell::new(false));
        // Once the sink is full the iterator ends, which ends the encoding.
        let mut source = keys
            .iter()
            .copied()
            .take_while(|_| !full.get())
            .inspect(|_| read.set(read.get() + 1));
        write(&mut source, &mut |message| {
            if !full.get() && sink(message) {
                // The encoder has read one route beyond the message. If it has not, that route is
                // sent twice.
                accepted.set(read.get() - 1);
            } else {
                full.set(true);
            }
        });
        let done = if full.get() {
            accepted.get()
        } else {
            keys.len()
        };
        for key in &keys[..done] {
            self.routes.remove(key);
        }
        !full.get()
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
