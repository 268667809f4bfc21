//! Memory of routes before they are worked on: what is asked for early is there when it is needed.

use super::Rib;
use super::attributes::AttrId;
use super::key::KeyLookup;
use super::route::RouteId;
use crate::bgp::wire::EvpnRoute;

impl Rib {
    /// Starts to load what leads to a route, and says what does. None if no route can have its key.
    #[inline]
    pub fn prefetch(&mut self, route: &EvpnRoute) -> Option<KeyLookup> {
        let lookup = self.keys.lookup_key(route, &self.hasher)?;
        self.index.fetch(lookup.hash);
        Some(lookup)
    }

    /// Starts to load the route that was lookup, if there is one; it may be another one with the same hash.
    #[inline]
    pub fn prefetch_route(&self, lookup: &KeyLookup) -> Option<RouteId> {
        let id = self.index.find(lookup.hash, |_| true)?;
        self.routes.fetch(id);
        Some(RouteId(id))
    }

    /// The label of the best path of a route that was there a while ago: a hint, it may be another one's by now.
    #[inline]
    pub fn last_label(&self, RouteId(id): RouteId) -> Option<u32> {
        let best = self.routes.try_get(id)?.best;
        (best.attrs != AttrId::NONE).then(|| best.best_path().label)
    }
}
