//! Selection: the best of all routes for a MAC, and what follows for the table.

use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::EvpnMacTable;
use super::mobility::MacCandidate;
use super::store::flag;
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

/// A MAC in a VNI, with its hash of [`EvpnMacTable::hash`].
#[derive(Debug, Clone, Copy)]
pub(in crate::evpn) struct HashedMac {
    pub(in crate::evpn) vni: Vni,
    pub(in crate::evpn) mac: HostMac,
    pub(in crate::evpn) hash: u32,
}

/// The selection that a best path makes, if it can be used in the VNI.
fn selection(shared: &SharedState, vni: Vni, path: BestPath) -> Option<Selection> {
    shared.usable(vni, path.attrs).ok()?;
    let info = shared.rib.attributes().path_info(path.attrs);
    Some(Selection {
        attrs: path.attrs,
        candidate: MacCandidate::new(info, path.long_lived),
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
        self.entries.unlink(place, id);
        let lost = old.map(|path| path.attrs);
        self.reselect(shared, now, place, ChangeCause::Other, lost, None);
        if self.entries.get(place).head == NONE {
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
                self.reselect(shared, now, place, cause, lost, Some(new));
                place
            }
            None => {
                let flags = self.initial_flags(vni, mac);
                let place = self.entries.add(hash, vni, mac, flags, change.id);
                self.select_first(shared, now, place, cause, new);
                place
            }
        };
        self.check_own_route(shared, now, place, new);
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
            return self.reselect(shared, now, place, cause, None, Some(path));
        }
        if let Some(selected) = selection(shared, entry.vni, path)
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
        gained: Option<BestPath>,
    ) {
        let entry = *self.entries.get(place);
        let gained = gained.and_then(|path| selection(shared, entry.vni, path));
        if entry.has(flag::FROZEN) {
            return self.reselect_frozen(shared, now, place);
        }
        let current = entry
            .selected()
            .filter(|attrs| lost != Some(*attrs) || self.is_still_backed(shared, place, *attrs));
        let current = current.map(|attrs| Selection {
            attrs,
            candidate: MacCandidate::new(
                shared.rib.attributes().path_info(attrs),
                entry.has(flag::LONG_LIVED),
            ),
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
        let vni = self.entries.get(place).vni;
        let mut best: Option<Selection> = None;
        for id in self.entries.routes(place) {
            let path = shared.rib.best(id);
            let Some(new) = path.and_then(|path| selection(shared, vni, path)) else {
                continue;
            };
            if best.is_none_or(|best| new.candidate.compare(&best.candidate).is_gt()) {
                best = Some(new);
            }
        }
        best
    }

    /// A frozen MAC stays behind its VTEP while a route announces it there.
    fn reselect_frozen(&mut self, shared: &mut SharedState, now: Instant, place: u32) {
        let entry = *self.entries.get(place);
        let vtep = entry.selected().and_then(|attrs| shared.vtep_of(attrs));
        let mut paths = self
            .entries
            .routes(place)
            .filter_map(|id| shared.rib.best(id));
        let same = paths.find_map(|path| {
            selection(shared, entry.vni, path)
                .filter(|s| vtep.is_some() && shared.vtep_of(s.attrs) == vtep)
        });
        drop(paths);
        self.install(shared, now, place, same, ChangeCause::Other);
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

    /// Selects a path for every MAC of some VNIs, whose configuration changed.
    pub(in crate::evpn) fn reevaluate(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        is_changed: impl Fn(Vni) -> bool,
    ) {
        for place in self.entries.places() {
            if is_changed(self.entries.get(place).vni) {
                self.reselect_all(shared, now, place);
            }
        }
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
        if old.is_none() && new.is_some() && !self.check_limit(shared, place) {
            return;
        }
        if let (Some(from), Some(to), Some(selected), ChangeCause::Announced { .. }) =
            (from, to, selected, cause)
            && from != to
            && !entry.has(flag::LOCAL)
        {
            if self.record_move(shared, now, entry.vni, entry.mac()) {
                return;
            }
            shared.events.push(EvpnEvent::Moved {
                vni: entry.vni,
                mac: entry.mac(),
                from: Some(from),
                to: Some(to),
                sequence: selected.candidate.mobility.sequence,
            });
        }
        self.set_selected(shared, place, selected);
        if from != to {
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
        }
        if let Some(old) = old {
            shared.rib.attributes_mut().release(old);
        }
        if let Some(limit) = self.limits.get_mut(&entry.vni) {
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
        let vtep: Option<VtepAddr> = entry.selected().and_then(|attrs| shared.vtep_of(attrs));
        shared.changes.push(match vtep {
            Some(vtep) => TableChange::MacSet {
                vni,
                mac,
                vtep,
                origin: EntryOrigin::Evpn,
            },
            None => TableChange::MacDel { vni, mac },
        });
    }
}
