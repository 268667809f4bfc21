//! The RIB (RFC 4271 section 3.2): the routes of all peers, the best path of each, and the
//! originated routes for each peer. Plain data with one owner.
//!
//! ```text
//! announce, withdraw (peer, route) -> paths of the route -> decide -> BestPathChange -> evpn
//! originated routes -> AdjRibOut -> UPDATEs for each peer
//! ```
//!
//! Memory is the limit here: a route with one path takes 32 octets, and 11 to 21 in the index. Keys
//! are [compact](key), [attributes] stored once; nothing is allocated for a single route, only when
//! a table grows. Not a route reflector: only originated routes are advertised.

mod adj_rib_out;
mod attributes;
mod decision;
pub(crate) mod index;
mod key;
mod path_info;
mod prefetch;
mod query;
mod route;
pub(crate) mod segmented;
pub(crate) mod slab;
mod update;

use std::collections::BTreeSet;
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
use self::route::{RibPath, RibRoute};
use self::slab::Slab;

/// The RIB's state of one peer.
#[derive(Debug, Clone, Copy)]
struct Neighbor {
    sender: PathSender,
    paths: u32,
    looped: u64,
}

/// The routes that peers have sent.
#[derive(Debug)]
pub struct Rib {
    keys: key::KeyTable,
    attributes: AttributeStore,
    routes: Slab<RibRoute>,
    more: Slab<RibPath>,
    index: Index,
    hasher: DefaultHashBuilder,
    neighbors: Vec<Option<Neighbor>>,
    /// Peers that may have stale paths.
    with_stale: BTreeSet<NeighborId>,
}

impl Rib {
    /// An empty RIB of this speaker.
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
            with_stale: BTreeSet::new(),
        }
    }

    /// Sets the identity of this speaker. There must be no paths: their order depends on it.
    pub fn set_local(&mut self, local: LocalIdentity) {
        debug_assert!(self.is_empty(), "paths are not compared again");
        self.attributes.set_local(local);
    }

    /// Adds a peer, or sets the parameters of its new session. Its old paths keep their order until
    /// they are compared again.
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

    /// Removes a peer, whose paths must have been dropped.
    pub fn remove_neighbor(&mut self, id: NeighborId) {
        self.with_stale.remove(&id);
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

    /// The number of paths of a peer.
    #[must_use]
    pub fn path_count(&self, id: NeighborId) -> usize {
        self.neighbor(id).map_or(0, |n| n.paths as usize)
    }

    /// The number of announcements of a peer that were ignored because of a loop.
    #[must_use]
    pub fn looped_count(&self, id: NeighborId) -> u64 {
        self.neighbor(id).map_or(0, |n| n.looped)
    }

    /// The number of routes of all peers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if there are no routes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// One more than the greatest number of a route.
    #[must_use]
    pub const fn places(&self) -> usize {
        self.routes.len()
    }

    /// The attribute sets.
    #[must_use]
    pub const fn attributes(&self) -> &AttributeStore {
        &self.attributes
    }

    /// The attribute sets, to take and drop references.
    pub const fn attributes_mut(&mut self) -> &mut AttributeStore {
        &mut self.attributes
    }
}
