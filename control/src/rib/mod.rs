//! The routes of all neighbours, the best path of each, and what we tell the neighbours: plain data with one owner.
//!
//! ```text
//! announce, withdraw (neighbour, route) -> paths of the route -> compare -> BestPathChange { old best, new best } -> import
//! own routes -> AdjRibOut -> UPDATEs for each neighbour
//! ```
//!
//! Memory is what counts here: a route with one path takes 32 octets and 11 to 21 of index. KeyTable are
//! [compacted](key), [attributes] stored once; nothing is allocated for a route but growth of the tables.
//! We reflect nothing: only routes of our own go out.

mod adj_rib_out;
mod attributes;
pub(crate) mod index;
mod key;
mod path_info;
mod prefetch;
mod route;
pub(crate) mod slab;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use vtep_dataplane::addr::MacAddr;

pub use self::adj_rib_out::AdjRibOut;
pub use self::attributes::{AttrId, AttributeStore, NonKeyFields};
use self::index::Index;
pub use self::key::{KeyLookup, RouteKind};
pub use self::path_info::{
    Candidate, Ineligible, LocalIdentity, Mobility, PathInfo, Sender, compare, compare_sequence,
    next_sequence,
};
pub use self::route::{BestPath, BestPathChange, NeighborId, PathFilter, PathView, RouteId};
use self::route::{Path, Route, flag};
use self::slab::{NONE, Slab};
use crate::bgp::wire::{Attributes, EvpnRoute};

/// A neighbour as the RIB knows it.
#[derive(Debug, Clone, Copy)]
struct Neighbor {
    sender: Sender,
    paths: u32,
    looped: u64,
}

/// The routes that neighbours have sent.
#[derive(Debug)]
pub struct Rib {
    keys: key::KeyTable,
    attributes: AttributeStore,
    routes: Slab<Route>,
    more: Slab<Path>,
    index: Index,
    hasher: DefaultHashBuilder,
    neighbors: Vec<Option<Neighbor>>,
}

impl Rib {
    /// An empty RIB of ours.
    #[must_use]
    pub fn new(local: LocalIdentity) -> Self {
        Self {
            keys: key::KeyTable::default(),
            attributes: AttributeStore::new(local),
            routes: Slab::default(),
            more: Slab::default(),
            index: Index::default(),
            hasher: DefaultHashBuilder::default(),
            neighbors: Vec::new(),
        }
    }

    /// Adds a neighbour, or says what the new session with it is like. Its old paths are compared by what was true
    /// when they were compared last.
    pub fn set_neighbor(
        &mut self,
        id: NeighborId,
        internal: bool,
        router_id: Ipv4Addr,
        address: IpAddr,
    ) {
        let place = usize::from(id.0);
        if self.neighbors.len() <= place {
            self.neighbors.resize(place + 1, None);
        }
        let sender = Sender {
            internal,
            router_id,
            address,
        };
        let (paths, looped) = self.neighbors[place].map_or((0, 0), |n| (n.paths, n.looped));
        self.neighbors[place] = Some(Neighbor {
            sender,
            paths,
            looped,
        });
    }

    /// Forgets a neighbour, whose paths must be gone.
    pub fn remove_neighbor(&mut self, id: NeighborId) {
        if let Some(slot) = self.neighbors.get_mut(usize::from(id.0)) {
            *slot = None;
        }
    }

    fn neighbor(&self, id: NeighborId) -> Option<&Neighbor> {
        self.neighbors
            .get(usize::from(id.0))
            .and_then(Option::as_ref)
    }

    fn neighbor_mut(&mut self, id: NeighborId) -> Option<&mut Neighbor> {
        self.neighbors
            .get_mut(usize::from(id.0))
            .and_then(Option::as_mut)
    }

    /// How many paths of a neighbour are held.
    #[must_use]
    pub fn path_count(&self, id: NeighborId) -> usize {
        self.neighbor(id).map_or(0, |n| n.paths as usize)
    }

    /// How many announcements of a neighbour were ignored because of a loop.
    #[must_use]
    pub fn looped_count(&self, id: NeighborId) -> u64 {
        self.neighbor(id).map_or(0, |n| n.looped)
    }

    /// How many routes are held, of all neighbours.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// One more than the greatest number that a route has.
    #[must_use]
    pub const fn places(&self) -> usize {
        self.routes.len()
    }

    /// The attribute sets.
    #[must_use]
    pub const fn attributes(&self) -> &AttributeStore {
        &self.attributes
    }

    /// The attribute sets, to hold one of them.
    pub const fn attributes_mut(&mut self) -> &mut AttributeStore {
        &mut self.attributes
    }
}

/// Changes.
impl Rib {
    /// A neighbour announces a route. A looped one is kept but never the best while another is there. `lookup` is what
    /// [`Rib::fetch`] said of it. None: the best path is the same as before.
    pub fn announce(
        &mut self,
        from: NeighborId,
        route: &EvpnRoute,
        attributes: &Arc<Attributes>,
        lookup: Option<KeyLookup>,
    ) -> Option<BestPathChange> {
        self.neighbor(from)?;
        let (non_key, label) = NonKeyFields::of(route);
        let attrs = self.attributes.hold(attributes, non_key);
        if self.attributes.path_info(attrs).ineligible == Some(Ineligible::Looped)
            && let Some(neighbor) = self.neighbor_mut(from)
        {
            neighbor.looped += 1;
        }
        let path = Path::new(attrs, label, from);
        let lookup = self.lookup_key(route, lookup);
        let Some(id) = lookup.and_then(|lookup| self.find(&lookup)) else {
            return Some(self.create(route, path, lookup));
        };
        let old = self.routes.get(id).best.best_path();
        self.put(id, path);
        self.recompute_best(id);
        self.change_from(id, old)
    }

    fn create(
        &mut self,
        route: &EvpnRoute,
        path: Path,
        lookup: Option<KeyLookup>,
    ) -> BestPathChange {
        let (key, hash) = match lookup {
            Some(KeyLookup { key, hash, .. }) => {
                self.keys.retain(&key);
                (key, hash)
            }
            None => {
                let key = self.keys.hold(route);
                (key, key.hash(&self.hasher))
            }
        };
        let id = self.routes.add(Route { key, best: path });
        self.index.insert(hash, id);
        self.count(path.from, 1);
        BestPathChange {
            id: RouteId(id),
            old: None,
            new: Some(path.best_path()),
        }
    }

    fn count(&mut self, from: NeighborId, by: i32) {
        if let Some(neighbor) = self.neighbor_mut(from) {
            neighbor.paths = neighbor.paths.wrapping_add_signed(by);
        }
    }

    /// The key of a route and its hash; None if no route can have it. `lookup` may be what was true a while ago.
    #[inline]
    fn lookup_key(&mut self, route: &EvpnRoute, lookup: Option<KeyLookup>) -> Option<KeyLookup> {
        match lookup {
            Some(lookup) if self.keys.is_valid(&lookup) => Some(lookup),
            _ => self.keys.lookup_key(route, &self.hasher),
        }
    }

    #[inline]
    fn find(&self, KeyLookup { key, hash, .. }: &KeyLookup) -> Option<u32> {
        self.index.find(*hash, |id| self.routes.get(id).key == *key)
    }

    /// Replaces the neighbour's path of a route, or adds one. All its flags are cleared: it is fresh.
    fn put(&mut self, id: u32, path: Path) {
        let best = &mut self.routes.get_mut(id).best;
        let mut at = best.next;
        let old = if best.from == path.from {
            let old = best.attrs;
            *best = Path {
                next: best.next,
                ..path
            };
            Some(old)
        } else {
            let mut old = None;
            while at != NONE && old.is_none() {
                let other = self.more.get_mut(at);
                if other.from == path.from {
                    old = Some(other.attrs);
                    *other = Path {
                        next: other.next,
                        ..path
                    };
                }
                at = other.next;
            }
            old
        };
        if let Some(old) = old {
            self.attributes.release(old);
            return;
        }
        let next = self.routes.get(id).best.next;
        let place = self.more.add(Path { next, ..path });
        self.routes.get_mut(id).best.next = place;
        self.count(path.from, 1);
    }

    /// Puts the best path of a route into its first place.
    fn recompute_best(&mut self, id: u32) {
        let mut at = self.routes.get(id).best.next;
        while at != NONE {
            let (best, other) = (self.routes.get(id).best, *self.more.get(at));
            let host = self.routes.get(id).key.kind != RouteKind::Other;
            if let (Some(a), Some(b)) = (self.candidate(&other), self.candidate(&best))
                && compare(&a, &b, host).is_gt()
            {
                self.routes.get_mut(id).best = Path {
                    next: best.next,
                    ..other
                };
                *self.more.get_mut(at) = Path {
                    next: other.next,
                    ..best
                };
            }
            at = other.next;
        }
    }

    fn candidate(&self, path: &Path) -> Option<Candidate<'_>> {
        let sender = self.neighbor(path.from)?.sender;
        let info = self.attributes.path_info(path.attrs);
        Some(Candidate {
            info,
            long_lived: path.has(flag::LONG_LIVED),
            sender,
        })
    }

    fn change_from(&self, id: u32, old: BestPath) -> Option<BestPathChange> {
        let new = self.routes.get(id).best.best_path();
        (new != old).then_some(BestPathChange {
            id: RouteId(id),
            old: Some(old),
            new: Some(new),
        })
    }

    /// A neighbour withdraws a route. One that it never announced changes nothing. `lookup` is what [`Rib::fetch`] said
    /// of it.
    pub fn withdraw(
        &mut self,
        from: NeighborId,
        route: &EvpnRoute,
        lookup: Option<KeyLookup>,
    ) -> Option<BestPathChange> {
        let lookup = self.lookup_key(route, lookup)?;
        let id = self.find(&lookup)?;
        self.drop_path(from, RouteId(id))
    }

    /// Drops the neighbour's path of a route.
    pub fn drop_path(&mut self, from: NeighborId, RouteId(id): RouteId) -> Option<BestPathChange> {
        let best = self.routes.get(id).best;
        let old = best.best_path();
        if best.from != from {
            self.unchain(from, id);
            return None;
        }
        self.attributes.release(best.attrs);
        self.count(from, -1);
        if best.next == NONE {
            self.routes.get_mut(id).best.attrs = AttrId::NONE;
            return Some(BestPathChange {
                id: RouteId(id),
                old: Some(old),
                new: None,
            });
        }
        let place = best.next;
        self.routes.get_mut(id).best = *self.more.get(place);
        self.more.remove(place);
        self.recompute_best(id);
        self.change_from(id, old)
    }

    /// Drops a path that is not the best.
    fn unchain(&mut self, from: NeighborId, id: u32) {
        let mut before = NONE;
        let mut at = self.routes.get(id).best.next;
        while at != NONE {
            let path = *self.more.get(at);
            if path.from == from {
                match before {
                    NONE => self.routes.get_mut(id).best.next = path.next,
                    _ => self.more.get_mut(before).next = path.next,
                }
                self.more.remove(at);
                self.attributes.release(path.attrs);
                self.count(from, -1);
                return;
            }
            (before, at) = (at, path.next);
        }
    }

    /// Frees a route without paths.
    pub fn free(&mut self, RouteId(id): RouteId) {
        let key = self.routes.get(id).key;
        if self.index.remove(key.hash(&self.hasher), id) {
            self.keys.release(&key);
            self.routes.remove(id);
        }
    }

    /// A run of changes is over: no attributes are held for the next one.
    pub fn gc(&mut self) {
        self.attributes.forget_last();
    }

    /// Marks the paths of a neighbour as stale, or as to be refreshed.
    pub fn mark(&mut self, from: NeighborId, which: PathFilter) {
        let bit = if which == PathFilter::Refreshing {
            flag::REFRESHING
        } else {
            flag::STALE
        };
        for id in 0..self.routes.len() as u32 {
            if let Some(path) = self.path_mut(from, id) {
                path.word |= bit;
            }
        }
    }

    /// The routes with a path of the neighbour; to be dropped, or kept for long.
    #[must_use]
    pub fn routes_of(&self, from: NeighborId, which: PathFilter) -> Vec<RouteId> {
        let has = |id: &u32| {
            self.paths(RouteId(*id))
                .any(|p| p.from == from && which.holds(&p))
        };
        (0..self.routes.len() as u32)
            .filter(has)
            .map(RouteId)
            .collect()
    }

    /// The neighbour's path of a route is kept beyond the restart time: it is the least preferred now, or gone if
    /// its origin wants that (RFC 9494 section 4.2).
    pub fn keep_long(&mut self, from: NeighborId, RouteId(id): RouteId) -> Option<BestPathChange> {
        let attrs = self.paths(RouteId(id)).find(|p| p.from == from)?.attrs;
        if self.attributes.path_info(attrs).no_long_lived {
            return self.drop_path(from, RouteId(id));
        }
        let old = self.routes.get(id).best.best_path();
        self.path_mut(from, id)?.word |= flag::LONG_LIVED;
        self.recompute_best(id);
        self.change_from(id, old)
    }

    fn path_mut(&mut self, from: NeighborId, id: u32) -> Option<&mut Path> {
        let best = self.routes.get(id).best;
        if best.attrs == AttrId::NONE {
            return None;
        }
        if best.from == from {
            return Some(&mut self.routes.get_mut(id).best);
        }
        let mut at = best.next;
        while at != NONE && self.more.get(at).from != from {
            at = self.more.get(at).next;
        }
        (at != NONE).then(|| self.more.get_mut(at))
    }
}

/// Questions.
impl Rib {
    fn paths(&self, RouteId(id): RouteId) -> impl Iterator<Item = Path> + '_ {
        let best = self.routes.get(id).best;
        let first = (best.attrs != AttrId::NONE).then_some(best);
        std::iter::successors(first, |path| {
            (path.next != NONE).then(|| *self.more.get(path.next))
        })
    }

    /// The best path of a route; None if it has none.
    #[inline]
    #[must_use]
    pub fn best(&self, RouteId(id): RouteId) -> Option<BestPath> {
        let best = &self.routes.get(id).best;
        (best.attrs != AttrId::NONE).then(|| best.best_path())
    }

    /// All routes that have a path, in no order.
    pub fn ids(&self) -> impl Iterator<Item = RouteId> + '_ {
        (0..self.routes.len() as u32)
            .map(RouteId)
            .filter(|id| self.best(*id).is_some())
    }

    /// The paths of a route, the best first.
    pub fn views(&self, id: RouteId) -> impl Iterator<Item = PathView> + '_ {
        self.paths(id).enumerate().map(|(place, path)| PathView {
            from: path.from,
            attrs: path.attrs,
            label: path.word & 0x00ff_ffff,
            best: place == 0,
            stale: path.has(flag::STALE | flag::REFRESHING),
            long_lived: path.has(flag::LONG_LIVED),
        })
    }

    /// The route with this key, if it is held.
    #[must_use]
    pub fn get(&mut self, route: &EvpnRoute) -> Option<RouteId> {
        let lookup = self.lookup_key(route, None)?;
        self.find(&lookup).map(RouteId)
    }

    /// The whole route, as one of its paths has it.
    #[must_use]
    pub fn route(&self, RouteId(id): RouteId, attrs: AttrId, label: u32) -> EvpnRoute {
        let mut route = self.keys.route(&self.routes.get(id).key);
        self.attributes.non_key(attrs).put(label, &mut route);
        route
    }

    /// The key of a route, as a route.
    #[must_use]
    pub fn key(&self, RouteId(id): RouteId) -> EvpnRoute {
        self.keys.route(&self.routes.get(id).key)
    }

    /// What a route is of.
    #[inline]
    #[must_use]
    pub fn kind(&self, RouteId(id): RouteId) -> RouteKind {
        self.routes.get(id).key.kind
    }

    /// The MAC of a type 2.
    #[inline]
    #[must_use]
    pub fn mac(&self, RouteId(id): RouteId) -> Option<MacAddr> {
        self.routes.get(id).key.mac()
    }

    /// The tag of a type 2.
    #[must_use]
    pub fn tag(&self, RouteId(id): RouteId) -> u32 {
        self.keys.tag(&self.routes.get(id).key)
    }

    /// The address of a type 2.
    #[must_use]
    pub fn ip(&self, RouteId(id): RouteId) -> Option<IpAddr> {
        self.keys.ip(&self.routes.get(id).key)
    }

    /// The address of a type 2 as a number that stands for it while a route has it.
    #[inline]
    #[must_use]
    pub fn ip_word(&self, RouteId(id): RouteId) -> Option<(RouteKind, u32)> {
        self.routes.get(id).key.ip_word()
    }

    /// The number of an address, if a route has it.
    #[must_use]
    pub fn find_ip(&self, ip: IpAddr) -> Option<(RouteKind, u32)> {
        self.keys.find_ip(ip)
    }

    /// Flags of the route's user; zero at first.
    #[inline]
    #[must_use]
    pub fn user_flags(&self, RouteId(id): RouteId) -> u8 {
        self.routes.get(id).key.flags
    }

    /// Sets the flags of the route's user.
    #[inline]
    pub fn set_user_flags(&mut self, RouteId(id): RouteId, flags: u8) {
        self.routes.get_mut(id).key.flags = flags;
    }
}
