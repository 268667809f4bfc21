//! Prefetching of routes: memory that is requested early has arrived when it is needed.

use super::Rib;
use super::attributes::AttrId;
use super::key::KeyLookup;
use super::route::RouteId;
use crate::bgp::wire::EvpnRoute;

impl Rib {
    /// Prefetches the index slot of a route. Returns the lookup, or `None` if no route can have
    /// this key.
    #[inline]
    pub fn prefetch(&mut self, route: &EvpnRoute) -> Option<KeyLookup> {
        let lookup = self.keys.lookup_key(route, &self.hasher)?;
        self.index.fetch(lookup.hash);
        Some(lookup)
    }

    /// Prefetches the route of a lookup, if there is one; it may be another one with the same
    /// hash.
    #[inline]
    pub fn prefetch_route(&self, lookup: &KeyLookup) -> Option<RouteId> {
        let id = self.index.find(lookup.hash, |_| true)?;
        self.routes.fetch(id);
        Some(RouteId(id))
    }

    /// The label of the best path of a route that existed a while ago: a hint, as the number may
    /// belong to another route by now.
    #[inline]
    pub fn last_label(&self, RouteId(id): RouteId) -> Option<u32> {
        let best = self.routes.try_get(id)?.best;
        (best.attrs != AttrId::NONE).then(|| best.best_path().label)
    }
}
