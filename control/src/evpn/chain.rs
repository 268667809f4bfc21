//! Chains of routes: doubly linked lists over the route numbers of the RIB.

use crate::rib::RouteId;
use crate::rib::segmented::SegmentedVec;
use crate::rib::slab::NONE;

/// Doubly linked lists of routes; a route is in one list at most. The owner keeps the head of each.
#[derive(Debug, Default)]
pub(super) struct RouteChains {
    /// Previous and next route, by route number.
    links: SegmentedVec<(u32, u32)>,
}

impl RouteChains {
    /// Inserts a route at the head of a list.
    pub(super) fn link(&mut self, head: &mut u32, RouteId(id): RouteId) {
        let place = id as usize;
        while self.links.len() <= place {
            self.links.push((NONE, NONE));
        }
        self.links[place] = (NONE, *head);
        if *head != NONE {
            self.links[*head as usize].0 = id;
        }
        *head = id;
    }

    /// Removes a route from its list. `head` changes only if the route was its first.
    pub(super) fn unlink(&mut self, head: &mut u32, RouteId(id): RouteId) {
        let (before, after) = self.links[id as usize];
        match before {
            NONE => *head = after,
            _ => self.links[before as usize].1 = after,
        }
        if after != NONE {
            self.links[after as usize].0 = before;
        }
    }

    /// True if a list has more than one route.
    pub(super) fn is_longer_than_one(&self, head: u32) -> bool {
        head != NONE && self.next(head) != NONE
    }

    fn next(&self, id: u32) -> u32 {
        self.links[id as usize].1
    }

    /// The routes of a list, the latest first.
    pub(super) fn iter(&self, head: u32) -> impl Iterator<Item = RouteId> + '_ {
        let next = |id: &u32| Some(self.next(*id)).filter(|next| *next != NONE);
        std::iter::successors(Some(head).filter(|head| *head != NONE), next).map(RouteId)
    }
}
