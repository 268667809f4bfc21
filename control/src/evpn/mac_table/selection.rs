//! Selection: the best of all routes for a MAC, and what follows for the table.

use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni};

use super::EvpnMacTable;
use super::mobility::MacCandidate;
use super::sequence_memory::Origin;
use super::store::{MacEntry, flag};
use crate::evpn::change::{EntryOrigin, TableChange};
use crate::evpn::event::EvpnEvent;
use crate::evpn::shared::{ChangeCause, SharedState};
use crate::rib::slab::NONE;
use crate::rib::{AttrId, BestPath, BestPathChange, RouteId};

/// A path that can be selected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selection {
    attrs: AttrId,
    candidate: MacCandidate,
}

impl Selection {
    pub(super) const fn attrs(&self) -> AttrId {
        self.attrs
    }
}

/// A MAC in a VNI, with its hash of [`EvpnMacTable::hash`].
#[derive(Debug, Clone, Copy)]
pub(in crate::evpn) struct HashedMac {
    pub(in crate::evpn) vni: Vni,
    pub(in crate::evpn) mac: HostMac,
    pub(in crate::evpn) hash: u32,
}

/// The selection that a best path makes, if it can be used in the VNI.
fn selection(shared: &SharedState, vni: Vni, id: RouteId, path: BestPath) -> Option<Selection> {
    shared.usable(vni, path.attrs).ok()?;
    let age = (path.long_lived, shared.rib.is_stale(id));
    Some(Selection {
        attrs: path.attrs,
        candidate: candidate(shared, vni, path.attrs, age),
    })
}

/// The candidate that a path of a VNI is, which is or is not long-lived stale and stale.
pub(super) fn candidate(
    shared: &SharedState,
    vni: Vni,
    attrs: AttrId,
    (long_lived, stale): (bool, bool),
) -> MacCandidate {
    let info = shared.rib.attributes().path_info(attrs);
    MacCandidate {
        reachable: shared.is_reachable(vni, attrs),
        ..MacCandidate::new(info, long_lived, stale)
    }
}

/// True if two VTEPs have a MAC by design, so that it does not move between their paths: a host
/// behind one segment, or a default gateway.
fn is_shared(shared: &SharedState, old: Option<AttrId>, new: Option<AttrId>) -> bool {
    let esi = |attrs: Option<AttrId>| Some(shared.segment_of(attrs?)?.esi);
    let same_segment = esi(old).is_some() && esi(old) == esi(new);
    same_segment || shared.is_gateway(old) && shared.is_gateway(new)
}

/// The table entry of a MAC by its selected route.
pub(super) fn remote_entry(shared: &SharedState, entry: &MacEntry) -> Option<TableChange> {
    let selected = entry.selected()?;
    let esi = shared.segment_of(selected).map(|key| key.esi);
    Some(TableChange::MacSet {
        vni: entry.vni,
        mac: entry.mac(),
        vtep: shared.vtep_of(selected)?,
        esi: esi.unwrap_or_default(),
        origin: EntryOrigin::Evpn,
    })
}

impl EvpnMacTable {
    /// A type 2 route no longer belongs to a VNI. `old` was its best path there.
    pub(in crate::evpn) fn route_removed(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        HashedMac { vni, mac, hash }: HashedMac,
        id: RouteId,
        old: Option<BestPath>,
    ) {
        let Some(place) = self.entries.find_hashed(hash, vni, mac) else {
            return;
        };
        let entry = *self.entries.get(place);
        let sequence = entry.selected().map(|attrs| {
            let info = shared.rib.attributes().path_info(attrs);
            info.mobility.sequence
        });
        self.entries.unlink(place, id);
        let lost = old.map(|path| path.attrs);
        self.reselect(shared, now, place, ChangeCause::Other, lost, None);
        if self.entries.get(place).head == NONE {
            if let Some(sequence) = sequence.filter(|_| !entry.has(flag::LOCAL)) {
                self.memory
                    .remember(now, (vni, mac), Origin::Remote, sequence);
            }
            self.entries.remove(place);
        }
    }

    /// A type 2 route belongs to a VNI and has another best path, `new`. `moved`: it did not belong
    /// to this VNI before.
    pub(in crate::evpn) fn route_changed(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        HashedMac { vni, mac, hash }: HashedMac,
        (change, new): (BestPathChange, BestPath),
        moved: bool,
        cause: ChangeCause,
    ) {
        let place = match self.entries.find_hashed(hash, vni, mac) {
            Some(place) => {
                if moved {
                    self.entries.link(place, change.id);
                }
                let lost = change.old.filter(|_| !moved).map(|path| path.attrs);
                self.reselect(shared, now, place, cause, lost, Some((change.id, new)));
                place
            }
            None => {
                let flags = self.initial_flags(vni, mac);
                let place = self.entries.add(hash, vni, mac, flags, change.id);
                self.select_first(shared, now, place, cause, new);
                place
            }
        };
        self.check_own_route(shared, now, place, new, cause);
    }

    /// The first route for a MAC: as [`Self::reselect`], without the checks that can't apply.
    fn select_first(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        cause: ChangeCause,
        path: BestPath,
    ) {
        let entry = self.entries.get(place);
        if entry.flags != 0 {
            let gained = Some((RouteId(entry.head), path));
            return self.reselect(shared, now, place, cause, None, gained);
        }
        let id = RouteId(entry.head);
        if let Some(selected) = selection(shared, entry.vni, id, path)
            && self.check_limit(shared, place)
        {
            self.set_selected(shared, place, Some(selected));
            self.publish(shared, place);
        }
    }

    /// The flags of a MAC that gets its first route.
    fn initial_flags(&self, vni: Vni, mac: HostMac) -> u8 {
        let at = (vni, mac);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        flag(self.locals.contains_key(&at), flag::LOCAL)
            | flag(self.statics.contains_key(&at), flag::STATIC)
            | flag(self.duplicates.is_frozen(at), flag::FROZEN)
    }

    /// Selects a path for a MAC again. `lost` are the attributes that one of its routes had before,
    /// `gained` is the best path that it has now: where neither can change the selection, the other
    /// routes of the MAC are not read.
    fn reselect(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        cause: ChangeCause,
        lost: Option<AttrId>,
        gained: Option<(RouteId, BestPath)>,
    ) {
        let entry = *self.entries.get(place);
        let gained = gained.and_then(|(id, path)| selection(shared, entry.vni, id, path));
        if entry.has(flag::FROZEN) {
            return self.reselect_frozen(shared, now, place);
        }
        let current = entry
            .selected()
            .filter(|attrs| lost != Some(*attrs) || self.is_still_backed(shared, place, *attrs));
        let current = current.map(|attrs| Selection {
            attrs,
            candidate: self.selected_candidate(shared, place, attrs),
        });
        let selected = match (current, gained) {
            (Some(old), Some(new)) if old.attrs != new.attrs || old.candidate == new.candidate => {
                let better = new.candidate.compare(&old.candidate).is_gt();
                Some(if better { new } else { old })
            }
            // The same attributes with another staleness: only all routes together decide.
            (None, _) | (Some(_), Some(_)) => self.best_of_all(shared, place),
            (Some(old), None) => Some(old),
        };
        self.install(shared, now, place, selected, cause);
    }

    /// The candidate that the selected path is.
    pub(super) fn selected_candidate(
        &self,
        shared: &SharedState,
        place: u32,
        selected: AttrId,
    ) -> MacCandidate {
        let entry = self.entries.get(place);
        let has_selected = |id: &RouteId| {
            let path = shared.rib.best(*id);
            path.is_some_and(|path| path.attrs == selected)
        };
        let stale = shared.rib.may_be_stale()
            && self
                .entries
                .routes(place)
                .filter(has_selected)
                .all(|id| shared.rib.is_stale(id));
        let age = (entry.has(flag::LONG_LIVED), stale);
        candidate(shared, entry.vni, selected, age)
    }

    /// True if a route of the MAC has the selected attributes, just as stale as when selected.
    fn is_still_backed(&self, shared: &SharedState, place: u32, selected: AttrId) -> bool {
        let entry = self.entries.get(place);
        let community = shared.rib.attributes().path_info(selected).long_lived;
        let mut paths = self
            .entries
            .routes(place)
            .filter_map(|id| shared.rib.best(id));
        paths.any(|path| {
            path.attrs == selected && (path.long_lived || community) == entry.has(flag::LONG_LIVED)
        })
    }

    /// The best of all routes for a MAC.
    pub(super) fn best_of_all(&self, shared: &SharedState, place: u32) -> Option<Selection> {
        self.best_where(shared, place, |_| true)
    }

    /// The best of the routes for a MAC with attributes that match `wanted`.
    fn best_where(
        &self,
        shared: &SharedState,
        place: u32,
        wanted: impl Fn(AttrId) -> bool,
    ) -> Option<Selection> {
        let vni = self.entries.get(place).vni;
        let mut best: Option<Selection> = None;
        for id in self.entries.routes(place) {
            let path = shared.rib.best(id);
            let path = path.filter(|path| wanted(path.attrs));
            let Some(new) = path.and_then(|path| selection(shared, vni, id, path)) else {
                continue;
            };
            if best.is_none_or(|best| new.candidate.compare(&best.candidate).is_gt()) {
                best = Some(new);
            }
        }
        best
    }

    /// A frozen MAC stays behind its VTEP while a route announces it there; then it is behind the
    /// best of the others.
    pub(super) fn reselect_frozen(&mut self, shared: &mut SharedState, now: Instant, place: u32) {
        let selected = self.entries.get(place).selected();
        let vtep = selected.and_then(|attrs| shared.vtep_of(attrs));
        let same = vtep.and_then(|vtep| {
            self.best_where(shared, place, |attrs| shared.vtep_of(attrs) == Some(vtep))
        });
        let selected = same.or_else(|| self.best_of_all(shared, place));
        self.install(shared, now, place, selected, ChangeCause::Other);
    }

    /// Selects a path for a MAC from all its routes.
    pub(super) fn reselect_all(&mut self, shared: &mut SharedState, now: Instant, place: u32) {
        if self.entries.get(place).has(flag::FROZEN) {
            return self.reselect_frozen(shared, now, place);
        }
        self.entries.get_mut(place).flags &= !flag::LIMITED;
        let selected = self.best_of_all(shared, place);
        self.install(shared, now, place, selected, ChangeCause::Other);
        let vni = self.entries.get(place).vni;
        self.affected.reselected.push((vni, place));
    }

    /// The configuration of a VNI changed: a path is selected again for each of its MACs.
    pub(in crate::evpn) fn begin_reevaluation(&mut self, vni: Vni) {
        self.entries.begin_pass(vni);
    }

    /// True until [`Self::reevaluate`] is done with a VNI.
    pub(in crate::evpn) fn is_reevaluating(&self, vni: Vni) -> bool {
        self.entries.has_pass(vni)
    }

    /// The first VNI that [`Self::reevaluate`] is not done with.
    pub(in crate::evpn) fn reevaluating(&self) -> Option<Vni> {
        self.entries.first_pass()
    }

    /// Selects a path again for MACs of a VNI whose configuration changed, at most `limit`. Returns
    /// for how many.
    pub(in crate::evpn) fn reevaluate(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        limit: usize,
    ) -> usize {
        let mut count = 0;
        while count < limit
            && let Some(place) = self.entries.next_of_pass(vni)
        {
            self.reselect_all(shared, now, place);
            count += 1;
        }
        count
    }

    /// Makes `selected` the selection of a MAC, if mobility and limits allow, and updates the
    /// table.
    pub(super) fn install(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        selected: Option<Selection>,
        cause: ChangeCause,
    ) {
        let entry = *self.entries.get(place);
        let (old, new) = (entry.selected(), selected.map(|s| s.attrs));
        let from = old.and_then(|attrs| shared.vtep_of(attrs));
        let to = new.and_then(|attrs| shared.vtep_of(attrs));
        let segment = |attrs: AttrId| shared.segment_of(attrs);
        let is_same = from == to && old.and_then(segment) == new.and_then(segment);
        let enters = old.is_none() && new.is_some() && !entry.has(flag::LOCAL);
        if enters && !self.check_limit(shared, place) {
            return;
        }
        if let (Some(from), Some(to), Some(selected), ChangeCause::Announced { .. }) =
            (from, to, selected, cause)
            && from != to
            && !entry.has(flag::LOCAL)
            && !is_shared(shared, old, new)
        {
            shared.events.push(EvpnEvent::Moved {
                vni: entry.vni,
                mac: entry.mac(),
                from: Some(from),
                to: Some(to),
                sequence: selected.candidate.mobility.sequence,
            });
        }
        self.set_selected(shared, place, selected);
        if !is_same {
            self.publish(shared, place);
        }
        if entry.has(flag::LOCAL) && new.is_some() && old != new {
            self.contest_local(shared, now, place, cause);
        }
        if old.is_some() && new.is_none() {
            self.admit_waiting(shared, now, entry.vni);
        }
    }

    /// Changes the selection with its references and counts.
    fn set_selected(&mut self, shared: &mut SharedState, place: u32, selected: Option<Selection>) {
        let entry = *self.entries.get(place);
        let (old, new) = (entry.selected(), selected.map(|s| s.attrs));
        if let Some(new) = new {
            shared.rib.attributes_mut().retain(new);
            shared.segment_retain(entry.vni, new);
        }
        if let Some(old) = old {
            shared.segment_release(entry.vni, old);
            shared.rib.attributes_mut().release(old);
        }
        if let Some(limit) = self.limits.get_mut(&entry.vni)
            && !entry.has(flag::LOCAL)
        {
            limit.count(old.is_some(), new.is_some());
        }
        let entry = self.entries.get_mut(place);
        entry.selected = new.unwrap_or(AttrId::NONE);
        entry.flags &= !(flag::LONG_LIVED | if new.is_none() { 0 } else { flag::LIMITED });
        if selected.is_some_and(|s| s.candidate.long_lived) {
            entry.flags |= flag::LONG_LIVED;
        }
    }

    /// Writes the VTEP of the selected path to the table, unless a local or static entry has
    /// priority.
    pub(super) fn publish(&self, shared: &mut SharedState, place: u32) {
        let entry = *self.entries.get(place);
        if entry.has(flag::LOCAL | flag::STATIC) {
            return;
        }
        let (vni, mac) = (entry.vni, entry.mac());
        let change = remote_entry(shared, &entry);
        let change = change.unwrap_or(TableChange::MacDel { vni, mac });
        shared.changes.push(change);
    }
}
