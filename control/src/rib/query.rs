//! Read access to the RIB: best paths, all paths for `show`, and the fields of keys.

use std::net::IpAddr;

use vtep_dataplane::addr::MacAddr;

use super::Rib;
use super::attributes::AttrId;
use super::decision::{Candidate, DecisionStep, decide};
use super::key::RouteKind;
use super::route::{BestPath, PathView, RibPath, RouteId, flag};
use super::slab::NONE;
use crate::bgp::wire::EvpnRoute;

impl Rib {
    pub(super) fn paths(&self, RouteId(id): RouteId) -> impl Iterator<Item = RibPath> + '_ {
        let best = self.routes.get(id).best;
        let first = (best.attrs != AttrId::NONE).then_some(best);
        std::iter::successors(first, |path| {
            (path.next != NONE).then(|| *self.more.get(path.next))
        })
    }

    /// The best path of a route; `None` if it has no path.
    #[inline]
    #[must_use]
    pub fn best(&self, RouteId(id): RouteId) -> Option<BestPath> {
        let best = &self.routes.get(id).best;
        (best.attrs != AttrId::NONE).then(|| best.best_path())
    }

    /// The number of slots of routes, used or free. A route keeps its number.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.routes.len() as u32
    }

    /// True if the best path of a route is stale: its session ended, and its peer has not sent it
    /// again yet.
    #[inline]
    #[must_use]
    pub fn is_stale(&self, RouteId(id): RouteId) -> bool {
        self.may_be_stale() && self.routes.get(id).best.has(flag::STALE)
    }

    /// False if no path can be stale.
    #[inline]
    #[must_use]
    pub fn may_be_stale(&self) -> bool {
        !self.with_stale.is_empty()
    }

    /// All routes that have a path, in no order.
    pub fn ids(&self) -> impl Iterator<Item = RouteId> + '_ {
        (0..self.routes.len() as u32)
            .map(RouteId)
            .filter(|id| self.best(*id).is_some())
    }

    /// The paths of a route, the best first, without those that are about to be removed.
    pub fn views(&self, id: RouteId) -> impl Iterator<Item = PathView> + '_ {
        let best = self.routes.get(id.0).best;
        self.paths(id)
            .enumerate()
            .filter(|(_, path)| !path.has(flag::ENDED))
            .map(move |(place, path)| PathView {
                from: path.from,
                attrs: path.attrs,
                label: path.word & 0x00ff_ffff,
                lost_at: (place != 0).then(|| self.lost_at(id, &best, &path)),
                stale: path.has(flag::STALE | flag::REFRESHING),
                long_lived: path.has(flag::LONG_LIVED),
            })
    }

    /// The step at which a path lost to the best path of its route.
    fn lost_at(&self, id: RouteId, best: &RibPath, path: &RibPath) -> DecisionStep {
        let is_mac_ip = self.kind(id) != RouteKind::Other;
        let both = self.candidate(best).zip(self.candidate(path));
        let decided = both.and_then(|(best, path)| {
            // Paths that became stale are compared again when there is news of their route.
            let stale = best.stale && path.stale;
            decide(&Candidate { stale, ..best }, &path, is_mac_ip)
        });
        // Two paths of one neighbor do not exist, and those of two neighbors are never equal.
        decided.map_or(DecisionStep::NeighborAddress, |(_, step)| step)
    }

    /// The route with this key, if there is one.
    #[must_use]
    pub fn get(&mut self, route: &EvpnRoute) -> Option<RouteId> {
        let lookup = self.lookup_key(route, None)?;
        self.find(&lookup).map(RouteId)
    }

    /// The whole route with the fields of one of its paths.
    #[must_use]
    pub fn route(&self, RouteId(id): RouteId, attrs: AttrId, label: u32) -> EvpnRoute {
        let mut route = self.keys.route(&self.routes.get(id).key);
        self.attributes.non_key(attrs).put(label, &mut route);
        route
    }

    /// The key of a route, as a route whose other fields are zero.
    #[must_use]
    pub fn key(&self, RouteId(id): RouteId) -> EvpnRoute {
        self.keys.route(&self.routes.get(id).key)
    }

    /// The kind of a route.
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

    /// The Ethernet tag of a type 2.
    #[must_use]
    pub fn tag(&self, RouteId(id): RouteId) -> u32 {
        self.keys.tag(&self.routes.get(id).key)
    }

    /// The address of a type 2.
    #[must_use]
    pub fn ip(&self, RouteId(id): RouteId) -> Option<IpAddr> {
        self.keys.ip(&self.routes.get(id).key)
    }

    /// The address of a type 2 as a number, valid while a route has that address.
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

    /// Flags of the user of the RIB; initially zero.
    #[inline]
    #[must_use]
    pub fn user_flags(&self, RouteId(id): RouteId) -> u8 {
        self.routes.get(id).key.flags
    }

    /// Sets the flags of the user of the RIB.
    #[inline]
    pub fn set_user_flags(&mut self, RouteId(id): RouteId, flags: u8) {
        self.routes.get_mut(id).key.flags = flags;
    }
}
