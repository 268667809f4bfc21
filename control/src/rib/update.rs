//! Changes of the RIB: announcements, withdrawals, stale paths, and the best path after each.

use std::sync::Arc;

use super::Rib;
use super::attributes::{AttrId, NonKeyFields};
use super::decision::{Candidate, compare};
use super::key::{KeyLookup, RouteKind};
use super::path_info::Ineligible;
use super::route::{
    BestPath, BestPathChange, NeighborId, PathFilter, RibPath, RibRoute, RouteId, flag,
};
use super::slab::NONE;
use crate::bgp::wire::{Attributes, EvpnRoute};

impl Rib {
    /// A peer announces a route. A looped path is kept, but never the best while another path
    /// exists. `lookup` is the result of [`Rib::prefetch`]. `None`: the best path is unchanged. One
    /// that was stale and is announced again as it was changes too: old and new are equal then.
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
        let path = RibPath::new(attrs, label, from);
        let lookup = self.lookup_key(route, lookup);
        let Some(id) = lookup.and_then(|lookup| self.find(&lookup)) else {
            return Some(self.create(route, path, lookup));
        };
        let before = self.routes.get(id).best;
        self.put(id, path);
        self.recompute_best(id);
        let (old, new) = (before.best_path(), self.routes.get(id).best);
        let refreshed = before.has(flag::STALE) && !new.has(flag::STALE);
        (refreshed || old != new.best_path()).then_some(BestPathChange {
            id: RouteId(id),
            old: Some(old),
            new: Some(new.best_path()),
        })
    }

    fn create(
        &mut self,
        route: &EvpnRoute,
        path: RibPath,
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
        let id = self.routes.add(RibRoute { key, best: path });
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

    /// A path is removed.
    fn uncount(&mut self, path: &RibPath) {
        self.count(path.from, i32::from(path.has(flag::ENDED)) - 1);
    }

    /// The key of a route and its hash; `None` if no route can have it. `lookup` may be outdated.
    #[inline]
    pub(super) fn lookup_key(
        &mut self,
        route: &EvpnRoute,
        lookup: Option<KeyLookup>,
    ) -> Option<KeyLookup> {
        match lookup {
            Some(lookup) if self.keys.is_valid(&lookup) => Some(lookup),
            _ => self.keys.lookup_key(route, &self.hasher),
        }
    }

    #[inline]
    pub(super) fn find(&self, KeyLookup { key, hash, .. }: &KeyLookup) -> Option<u32> {
        self.index.find(*hash, |id| self.routes.get(id).key == *key)
    }

    /// Replaces the peer's path of a route, or adds one, without any flags.
    fn put(&mut self, id: u32, path: RibPath) {
        let best = &mut self.routes.get_mut(id).best;
        let mut at = best.next;
        let old = if best.from == path.from {
            let old = *best;
            *best = RibPath {
                next: best.next,
                ..path
            };
            Some(old)
        } else {
            let mut old = None;
            while at != NONE && old.is_none() {
                let other = self.more.get_mut(at);
                if other.from == path.from {
                    old = Some(*other);
                    *other = RibPath {
                        next: other.next,
                        ..path
                    };
                }
                at = other.next;
            }
            old
        };
        if let Some(old) = old {
            self.attributes.release(old.attrs);
            self.count(path.from, i32::from(old.has(flag::ENDED)));
            return;
        }
        let next = self.routes.get(id).best.next;
        let place = self.more.add(RibPath { next, ..path });
        self.routes.get_mut(id).best.next = place;
        self.count(path.from, 1);
    }

    /// Moves the best path of a route to the first place.
    fn recompute_best(&mut self, id: u32) {
        let mut at = self.routes.get(id).best.next;
        while at != NONE {
            let (best, other) = (self.routes.get(id).best, *self.more.get(at));
            let is_mac_ip = self.routes.get(id).key.kind != RouteKind::Other;
            if let (Some(a), Some(b)) = (self.candidate(&other), self.candidate(&best))
                && compare(&a, &b, is_mac_ip).is_gt()
            {
                self.routes.get_mut(id).best = RibPath {
                    next: best.next,
                    ..other
                };
                *self.more.get_mut(at) = RibPath {
                    next: other.next,
                    ..best
                };
            }
            at = other.next;
        }
    }

    pub(super) fn candidate(&self, path: &RibPath) -> Option<Candidate<'_>> {
        let sender = self.neighbor(path.from)?.sender;
        let info = self.attributes.path_info(path.attrs);
        Some(Candidate {
            info,
            // Another path is better in any case.
            long_lived: path.has(flag::LONG_LIVED | flag::ENDED),
            stale: path.has(flag::STALE),
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

    /// A peer withdraws a route. One that it never announced changes nothing. `lookup` is the
    /// result of [`Rib::prefetch`].
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

    /// Drops the peer's path of a route.
    pub fn drop_path(&mut self, from: NeighborId, RouteId(id): RouteId) -> Option<BestPathChange> {
        let best = self.routes.get(id).best;
        let old = best.best_path();
        if best.from != from {
            self.unchain(from, id);
            return None;
        }
        self.attributes.release(best.attrs);
        self.uncount(&best);
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
                self.uncount(&path);
                return;
            }
            (before, at) = (at, path.next);
        }
    }

    /// Removes a route without paths.
    pub fn free(&mut self, RouteId(id): RouteId) {
        let key = self.routes.get(id).key;
        if self.index.remove(key.hash(&self.hasher), id) {
            self.keys.release(&key);
            self.routes.remove(id);
        }
    }

    /// Must be called at the end of a batch of changes: drops the reference that is kept for the
    /// next change.
    pub fn gc(&mut self) {
        self.attributes.forget_last();
    }

    /// Marks the paths of a peer as stale, or as to be refreshed.
    pub fn mark(&mut self, from: NeighborId, which: PathFilter) {
        let bit = if which == PathFilter::Refreshing {
            flag::REFRESHING
        } else {
            self.with_stale.insert(from);
            flag::STALE
        };
        for id in 0..self.routes.len() as u32 {
            if let Some(path) = self.path_mut(from, id) {
                path.word |= bit;
            }
        }
    }

    /// Marks the paths of a peer that match the filter for removal: [`Self::routes_of`] finds them. They do
    /// not count any more; a path that is announced again meanwhile stays.
    pub fn end_paths(&mut self, from: NeighborId, which: PathFilter) {
        let mut ended = 0;
        for id in 0..self.routes.len() as u32 {
            if let Some(path) = self.path_mut(from, id)
                && which.holds(path)
                && !path.has(flag::ENDED)
            {
                path.word |= flag::ENDED;
                ended += 1;
            }
        }
        self.count(from, -ended);
    }

    /// Looks at routes from number `next` on for paths of a peer that match the filter, until it has
    /// looked at `looks` routes or found `limit`. Paths that have ended are found only as such.
    /// Returns the routes found and the next number; `None`: there are no more routes.
    #[must_use]
    pub fn routes_of(
        &self,
        from: NeighborId,
        which: PathFilter,
        next: u32,
        looks: u32,
        limit: usize,
    ) -> (Vec<RouteId>, Option<u32>) {
        let mut found = Vec::new();
        let end = (self.routes.len() as u32).min(next.saturating_add(looks));
        let is_wanted = |path: RibPath| {
            let is_kept = which == PathFilter::Ended || !path.has(flag::ENDED);
            path.from == from && which.holds(&path) && is_kept
        };
        for id in next..end {
            if self.paths(RouteId(id)).any(is_wanted) {
                found.push(RouteId(id));
                if found.len() == limit {
                    return (found, Some(id + 1));
                }
            }
        }
        (found, (end < self.routes.len() as u32).then_some(end))
    }

    /// No path of the peer is stale any more.
    pub fn set_fresh(&mut self, from: NeighborId) {
        self.with_stale.remove(&from);
    }

    /// Keeps the peer's path of a route beyond the restart time: it is the last choice from now on,
    /// or dropped if it has NO_LLGR (RFC 9494 section 4.2).
    pub fn mark_long_lived(
        &mut self,
        from: NeighborId,
        RouteId(id): RouteId,
    ) -> Option<BestPathChange> {
        let attrs = self.paths(RouteId(id)).find(|p| p.from == from)?.attrs;
        if self.attributes.path_info(attrs).no_long_lived {
            return self.drop_path(from, RouteId(id));
        }
        let old = self.routes.get(id).best.best_path();
        self.path_mut(from, id)?.word |= flag::LONG_LIVED;
        self.recompute_best(id);
        self.change_from(id, old)
    }

    fn path_mut(&mut self, from: NeighborId, id: u32) -> Option<&mut RibPath> {
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
