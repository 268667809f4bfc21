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
mod decision;
pub(crate) mod index;
mod key;
mod path_info;
mod prefetch;
mod query;
mod route;
pub(crate) mod slab;
mod update;

use std::net::{IpAddr, Ipv4Addr};

use hashbrown::DefaultHashBuilder;

pub use self::adj_rib_out::AdjRibOut;
pub use self::attributes::{AttrId, AttributeStore, NonKeyFields};
pub use self::decision::DecisionStep;
use self::decision::PathSender;
use self::index::Index;
pub use self::key::{KeyLookup, RouteKind};
pub use self::path_info::{
    Ineligible, LocalIdentity, Mobility, PathInfo, compare_sequence, next_sequence,
};
pub use self::route::{BestPath, BestPathChange, NeighborId, PathFilter, PathView, RouteId};
use self::route::{Path, Route};
use self::slab::Slab;

/// A neighbour as the RIB knows it.
#[derive(Debug, Clone, Copy)]
struct Neighbor {
    sender: PathSender,
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
        let sender = PathSender {
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
