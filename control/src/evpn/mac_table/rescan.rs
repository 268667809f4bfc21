//! Selects again where a host has several routes, because VTEPs or segments became reachable or unreachable: in
//! portions, as there may be millions of hosts.

use std::collections::BTreeSet;
use std::time::Instant;

use vtep_dataplane::addr::VtepAddr;

use super::EvpnMacTable;
use super::store::flag;
use crate::evpn::shared::{ChangeCause, SharedState};

/// Places that are looked at in one call: a millisecond where few of them have several routes.
const PORTION: u32 = 16_384;

/// A pass over all MACs.
#[derive(Debug)]
pub(super) struct Rescan {
    due: Instant,
    next: u32,
    /// Something changed since the pass began.
    again: bool,
    /// The unreachable VTEPs of hosts with several routes.
    seen: BTreeSet<VtepAddr>,
}

impl Rescan {
    /// When the next portion is due: at once.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }
}

impl EvpnMacTable {
    /// The reachability of VTEPs or segments changed.
    pub(in crate::evpn) fn start_rescan(&mut self, now: Instant) {
        match &mut self.rescan {
            Some(pass) => pass.again = true,
            None => {
                self.rescan = Some(Rescan {
                    due: now,
                    next: 0,
                    again: false,
                    seen: BTreeSet::new(),
                });
            }
        }
    }

    /// Does one portion, if a pass is in progress.
    pub(in crate::evpn) fn rescan(&mut self, shared: &mut SharedState, now: Instant) {
        let Some(mut pass) = self.rescan.take() else {
            return;
        };
        let end = self.entries.slots().min(pass.next.saturating_add(PORTION));
        for place in pass.next..end {
            if self.entries.has_several_routes(place) {
                self.rescan_one(shared, now, place, &mut pass.seen);
            }
        }
        pass.next = end;
        if end < self.entries.slots() {
            self.rescan = Some(pass);
            return;
        }
        shared.end_sweep(now, &pass.seen);
        if pass.again {
            self.start_rescan(now);
        }
    }

    fn rescan_one(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        seen: &mut BTreeSet<VtepAddr>,
    ) {
        let entry = *self.entries.get(place);
        let paths = self
            .entries
            .routes(place)
            .filter_map(|id| shared.rib.best(id));
        for path in paths {
            seen.extend(shared.lost_vteps(entry.vni, path.attrs));
        }
        if entry.has(flag::LIMITED) {
            return;
        }
        if entry.has(flag::FROZEN) {
            return self.reselect_frozen(shared, now, place);
        }
        let selected = self.best_of_all(shared, place);
        if selected.map(|selected| selected.attrs()) != entry.selected() {
            self.install(shared, now, place, selected, ChangeCause::Other);
            self.affected.reselected.push((entry.vni, place));
        }
    }
}
