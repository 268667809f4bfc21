//! Type 2 routes -> MAC entries: which claim to a MAC wins, and what the table is told of it.
//!
//! ```text
//! best path of a route -> usable? -> chain of its (VNI, MAC) -> rank of claims -> winner -> local, static? -> table
//! ```

use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::change::{EntryOrigin, EvpnEvent, RouteStatus, TableChange};
use super::mac_table::{MacEntry, flag};
use super::mobility::MacCandidate;
use super::speaker::{ChangeCause, EvpnSpeaker, TimerTask};
use super::targets;
use crate::rib::slab::NONE;
use crate::rib::{AttrId, BestPath, BestPathChange, Ineligible, Rib, RouteId};

/// A route that could be the winner.
#[derive(Debug, Clone, Copy)]
struct Winner {
    attrs: AttrId,
    claim: MacCandidate,
}

impl From<Ineligible> for RouteStatus {
    fn from(ineligible: Ineligible) -> Self {
        match ineligible {
            Ineligible::Looped => Self::Looped,
            Ineligible::OwnNextHop => Self::OwnNextHop,
            Ineligible::Martian => Self::Martian,
            Ineligible::Encapsulation => Self::Encapsulation,
        }
    }
}

/// The VNI of a type 2: its label, or its tag if the label is zero, as Juniper may send. Never zero.
pub(super) fn vni_of(rib: &Rib, id: RouteId, label: u32) -> Option<Vni> {
    Vni::new(if label == 0 { rib.tag(id) } else { label }).ok()
}

impl EvpnSpeaker {
    /// As [`vni_of`].
    pub(super) fn vni_of(&self, id: RouteId, label: u32) -> Option<Vni> {
        vni_of(&self.rib, id, label)
    }

    /// Whether a path can be used in its VNI, by all that does not depend on other routes.
    pub(super) fn usable(&self, vni: Vni, attrs: AttrId) -> Result<(), RouteStatus> {
        if let Some(ineligible) = self.rib.attributes().path_info(attrs).ineligible {
            return Err(ineligible.into());
        }
        let state = self.mac_vrfs.get(&vni).ok_or(RouteStatus::UnknownVni)?;
        let communities = &self.rib.attributes().attributes(attrs).extended;
        if targets::imports(&state.config, communities) {
            Ok(())
        } else {
            Err(RouteStatus::NoTarget)
        }
    }

    fn candidate(&self, vni: Vni, chosen: BestPath) -> Option<Winner> {
        self.usable(vni, chosen.attrs).ok()?;
        let info = self.rib.attributes().path_info(chosen.attrs);
        Some(Winner {
            attrs: chosen.attrs,
            claim: MacCandidate::new(info, chosen.long_lived),
        })
    }

    /// The best path of a type 2 changed. `spot` is the hash of its MAC in a VNI, usually its own.
    pub(super) fn host_changed(
        &mut self,
        now: Instant,
        change: BestPathChange,
        cause: ChangeCause,
        spot: Option<(Vni, u32)>,
    ) {
        let id = change.id;
        let Some(Ok(mac)) = self.rib.mac(id).map(HostMac::new) else {
            return;
        };
        let old = change.old.and_then(|c| self.vni_of(id, c.label));
        let new = change.new.and_then(|c| self.vni_of(id, c.label));
        if let Some(vni) = old.filter(|_| old != new) {
            self.unlink_address(vni, id);
            if let Some(place) = self.hosts.find_hashed(self.hash(vni, mac, spot), vni, mac) {
                self.hosts.unlink(place, id);
                self.reselect(
                    now,
                    place,
                    ChangeCause::Other,
                    change.old.map(|c| c.attrs),
                    None,
                );
                self.drop_idle(place);
            }
        }
        let (Some(vni), Some(chosen)) = (new, change.new) else {
            return;
        };
        let hash = self.hash(vni, mac, spot);
        let place = match self.hosts.find_hashed(hash, vni, mac) {
            Some(place) => {
                if old != new {
                    self.hosts.link(place, id);
                    self.link_address(vni, id);
                }
                let lost = change.old.filter(|_| old == new).map(|c| c.attrs);
                self.reselect(now, place, cause, lost, change.new);
                place
            }
            None => {
                let place = self
                    .hosts
                    .add(hash, vni, mac, self.first_flags(vni, mac), id);
                self.link_address(vni, id);
                self.first_choice(now, place, cause, chosen);
                place
            }
        };
        self.reselect_address(vni, id);
        self.own_seen(now, place, chosen);
    }

    /// The hash of a MAC: that of its spot, if that is in this VNI.
    fn hash(&self, vni: Vni, mac: HostMac, spot: Option<(Vni, u32)>) -> u32 {
        match spot {
            Some((at, hash)) if at == vni => hash,
            _ => self.hosts.hash(vni, mac.get()),
        }
    }

    /// One route tells of a MAC that none told of before. As [`Self::reselect`], without a look at what can't be.
    fn first_choice(&mut self, now: Instant, place: u32, cause: ChangeCause, chosen: BestPath) {
        let host = self.hosts.get(place);
        if host.flags != 0 {
            return self.reselect(now, place, cause, None, Some(chosen));
        }
        if let Some(winner) = self.candidate(host.vni, chosen)
            && self.admit(place)
        {
            self.replace_winner(place, Some(winner));
            self.tell(place);
        }
    }

    /// Flags of a MAC that routes tell of for the first time.
    fn first_flags(&self, vni: Vni, mac: HostMac) -> u8 {
        let at = (vni, mac);
        let local = if self.locals.contains_key(&at) {
            flag::LOCAL
        } else {
            0
        };
        let fixed = if self.static_macs.contains_key(&at) {
            flag::STATIC
        } else {
            0
        };
        let frozen = if self.duplicates.is_frozen(at) {
            flag::FROZEN
        } else {
            0
        };
        local | fixed | frozen
    }

    /// Frees a MAC that no route tells of.
    fn drop_idle(&mut self, place: u32) {
        if self.hosts.get(place).head == NONE {
            self.hosts.remove(place);
        }
    }

    /// Finds the winner of a MAC again. `lost` are the attributes that a route of it had before, `gained` those that
    /// it has now: where neither can change the winner, its other routes are not looked at.
    fn reselect(
        &mut self,
        now: Instant,
        place: u32,
        cause: ChangeCause,
        lost: Option<AttrId>,
        gained: Option<BestPath>,
    ) {
        let host = *self.hosts.get(place);
        let gained = gained.and_then(|chosen| self.candidate(host.vni, chosen));
        if host.has(flag::FROZEN) {
            return self.keep_frozen(now, place);
        }
        let standing = host
            .winner()
            .filter(|w| lost != Some(*w) || self.still_backed(place, *w));
        let standing = standing.map(|attrs| Winner {
            attrs,
            claim: MacCandidate::new(
                self.rib.attributes().path_info(attrs),
                host.has(flag::LONG_LIVED),
            ),
        });
        let winner = match (standing, gained) {
            (Some(old), Some(new)) if old.attrs != new.attrs || old.claim == new.claim => {
                Some(if new.claim.rank(&old.claim).is_gt() {
                    new
                } else {
                    old
                })
            }
            // The same attributes with another staleness: nothing short of a full look tells.
            (None, _) | (Some(_), Some(_)) => self.best_claim(place),
            (Some(old), None) => Some(old),
        };
        self.install(now, place, winner, cause);
    }

    /// True if a route of the MAC has the attributes that won, just as fresh as then.
    fn still_backed(&self, place: u32, winner: AttrId) -> bool {
        let host = self.hosts.get(place);
        let community = self.rib.attributes().path_info(winner).long_lived;
        self.hosts
            .routes(place)
            .filter_map(|id| self.rib.best(id))
            .any(|chosen| {
                chosen.attrs == winner
                    && (chosen.long_lived || community) == host.has(flag::LONG_LIVED)
            })
    }

    /// The best of all claims to a MAC.
    fn best_claim(&self, place: u32) -> Option<Winner> {
        let host = self.hosts.get(place);
        let mut best: Option<Winner> = None;
        for id in self.hosts.routes(place) {
            let Some(new) = self
                .rib
                .best(id)
                .and_then(|chosen| self.candidate(host.vni, chosen))
            else {
                continue;
            };
            if best.is_none_or(|best| new.claim.rank(&best.claim).is_gt()) {
                best = Some(new);
            }
        }
        best
    }

    /// A frozen MAC stays behind its VTEP as long as a route says so.
    fn keep_frozen(&mut self, now: Instant, place: u32) {
        let host = *self.hosts.get(place);
        let vtep = host.winner().and_then(|attrs| self.vtep_of(attrs));
        let mut routes = self.hosts.routes(place).filter_map(|id| self.rib.best(id));
        let same = routes.find_map(|chosen| {
            self.candidate(host.vni, chosen)
                .filter(|w| vtep.is_some() && self.vtep_of(w.attrs) == vtep)
        });
        drop(routes);
        self.install(now, place, same, ChangeCause::Other);
    }

    pub(super) fn vtep_of(&self, attrs: AttrId) -> Option<VtepAddr> {
        self.rib.attributes().path_info(attrs).vtep
    }

    /// Makes a winner the one that stands, if moves and limits allow, and tells the table.
    fn install(&mut self, now: Instant, place: u32, winner: Option<Winner>, cause: ChangeCause) {
        let host = *self.hosts.get(place);
        let (old, new) = (host.winner(), winner.map(|w| w.attrs));
        let from = old.and_then(|attrs| self.vtep_of(attrs));
        let to = new.and_then(|attrs| self.vtep_of(attrs));
        if old.is_none() && new.is_some() && !self.admit(place) {
            return;
        }
        if let (Some(from), Some(to), Some(winner), ChangeCause::Announced { .. }) =
            (from, to, winner, cause)
            && from != to
            && !host.has(flag::LOCAL)
        {
            if self.moved(now, host.vni, host.mac()) {
                return;
            }
            self.events.push(EvpnEvent::Moved {
                vni: host.vni,
                mac: host.mac(),
                from: Some(from),
                to: Some(to),
                sequence: winner.claim.mobility.sequence,
            });
        }
        self.replace_winner(place, winner);
        if from != to {
            self.tell(place);
        }
        if host.has(flag::LOCAL) && new.is_some() && old != new {
            self.contested(now, place, cause);
        }
        if old.is_some() && new.is_none() {
            self.made_room(now, host.vni);
        }
    }

    /// Changes the winner with its references and counts.
    fn replace_winner(&mut self, place: u32, winner: Option<Winner>) {
        let host = *self.hosts.get(place);
        let (old, new) = (host.winner(), winner.map(|w| w.attrs));
        if let Some(new) = new {
            self.rib.attributes_mut().retain(new);
        }
        if let Some(old) = old {
            self.rib.attributes_mut().release(old);
        }
        if let Some(state) = self.mac_vrfs.get_mut(&host.vni) {
            state.macs = state.macs - u32::from(old.is_some()) + u32::from(new.is_some());
        }
        let host = self.hosts.get_mut(place);
        host.winner = new.unwrap_or(AttrId::NONE);
        host.flags &= !(flag::LONG_LIVED | if new.is_none() { 0 } else { flag::LIMITED });
        if winner.is_some_and(|w| w.claim.long_lived) {
            host.flags |= flag::LONG_LIVED;
        }
    }

    /// Tells the table where a MAC is now, unless someone stronger than EVPN says that.
    pub(super) fn tell(&mut self, place: u32) {
        let host = *self.hosts.get(place);
        if host.has(flag::LOCAL | flag::STATIC) {
            return;
        }
        let (vni, mac) = (host.vni, host.mac());
        self.changes
            .push(match host.winner().and_then(|attrs| self.vtep_of(attrs)) {
                Some(vtep) => TableChange::MacSet {
                    vni,
                    mac,
                    vtep,
                    origin: EntryOrigin::Evpn,
                },
                None => TableChange::MacDel { vni, mac },
            });
    }

    /// Where EVPN says that a MAC is.
    pub(super) fn evpn_vtep(&self, vni: Vni, mac: HostMac) -> Option<VtepAddr> {
        let host = self.hosts.get(self.hosts.find(vni, mac)?);
        host.winner().and_then(|attrs| self.vtep_of(attrs))
    }

    /// Whether the VNI has room for one more MAC; if not, this one waits.
    fn admit(&mut self, place: u32) -> bool {
        let host = *self.hosts.get(place);
        let Some(state) = self.mac_vrfs.get_mut(&host.vni) else {
            return false;
        };
        if state.macs < state.config.max_macs {
            return true;
        }
        if !host.has(flag::LIMITED) {
            if state.waiting.len() > 2 * self.hosts.len() {
                let (hosts, vni) = (&self.hosts, host.vni);
                state.waiting.retain(|place| hosts.is_waiting(*place, vni));
            }
            state.waiting.push_back(place);
            self.hosts.get_mut(place).flags |= flag::LIMITED;
        }
        if !std::mem::replace(&mut state.full, true) {
            let (vni, limit) = (host.vni, state.config.max_macs);
            self.events.push(EvpnEvent::LimitReached { vni, limit });
        }
        false
    }

    /// A MAC of the VNI went: another may come.
    fn made_room(&mut self, now: Instant, vni: Vni) {
        while let Some(state) = self.mac_vrfs.get_mut(&vni)
            && state.macs < state.config.max_macs
        {
            let Some(place) = state.waiting.pop_front() else {
                state.full = false;
                return;
            };
            // The place may belong to another MAC by now.
            if self.hosts.is_waiting(place, vni) {
                self.hosts.get_mut(place).flags &= !flag::LIMITED;
                let winner = self.best_claim(place);
                self.install(now, place, winner, ChangeCause::Other);
                self.reselect_addresses_of(place);
            }
        }
    }

    /// A MAC moves. True if that was once too often: it is frozen now, as it is.
    pub(super) fn moved(&mut self, now: Instant, vni: Vni, mac: HostMac) -> bool {
        let (frozen, look) = self.duplicates.moved(now, (vni, mac));
        if let Some(look) = look {
            self.tasks.insert((look, TimerTask::Expire(vni, mac)));
        }
        if frozen {
            if let Some(place) = self.hosts.find(vni, mac) {
                self.hosts.get_mut(place).flags |= flag::FROZEN;
            }
            self.events.push(EvpnEvent::Frozen { vni, mac });
        }
        frozen
    }

    /// Frees a frozen MAC by command; its moves are forgotten. False if it is not frozen.
    pub fn unfreeze(&mut self, now: Instant, vni: Vni, mac: HostMac) -> bool {
        let frozen = self.duplicates.forget((vni, mac));
        if frozen {
            self.unfrozen(now, vni, mac);
        }
        frozen
    }

    /// MACs that are frozen, in no order.
    pub fn frozen(&self) -> impl Iterator<Item = (Vni, HostMac)> + '_ {
        self.duplicates.frozen()
    }

    pub(super) fn unfrozen(&mut self, now: Instant, vni: Vni, mac: HostMac) {
        self.events.push(EvpnEvent::Unfrozen { vni, mac });
        if let Some(place) = self.hosts.find(vni, mac) {
            self.hosts.get_mut(place).flags &= !flag::FROZEN;
            self.look_again(now, place);
        }
    }

    /// Finds the winner of a MAC from all its routes.
    pub(super) fn look_again(&mut self, now: Instant, place: u32) {
        if self.hosts.get(place).has(flag::FROZEN) {
            return self.keep_frozen(now, place);
        }
        self.hosts.get_mut(place).flags &= !flag::LIMITED;
        let winner = self.best_claim(place);
        self.install(now, place, winner, ChangeCause::Other);
        self.reselect_addresses_of(place);
    }

    /// Looks again at the routes of VNIs that were added, removed or changed.
    pub(super) fn reconsider(&mut self, now: Instant) {
        let vnis = std::mem::take(&mut self.reconsider);
        if vnis.is_empty() {
            return;
        }
        for place in self.hosts.places() {
            let MacEntry { vni, .. } = *self.hosts.get(place);
            if vnis.contains(&vni) {
                self.look_again(now, place);
            }
        }
        self.reconsider_floods(&vnis);
    }
}
