//! The limit of remote MACs in a VNI: MACs above it wait, in order, until others are removed.

use std::collections::VecDeque;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni};

use super::EvpnMacTable;
use super::local::LocalMacError;
use super::store::flag;
use crate::evpn::event::EvpnEvent;
use crate::evpn::shared::{ChangeCause, SharedState};

/// The limit of one VNI.
#[derive(Debug, Default)]
pub(super) struct MacLimit {
    max_macs: u32,
    /// MACs that routes have put into the table, and that are not local.
    used: u32,
    /// MACs learned from frames.
    learned: u32,
    /// Places of MACs that wait; some may have changed since.
    waiting: VecDeque<u32>,
    /// The limit was reached and reported, and no MAC has been able to enter since.
    full: bool,
}

impl MacLimit {
    /// Counts a change of the selection of one MAC.
    pub(super) const fn count(&mut self, before: bool, after: bool) {
        self.used = self.used - before as u32 + after as u32;
    }

    /// Counts a change of one MAC that is learned from frames, or no longer.
    pub(super) const fn count_learned(&mut self, before: bool, after: bool) {
        self.learned = self.learned - before as u32 + after as u32;
    }

    const fn has_room(&self) -> bool {
        self.used.saturating_add(self.learned) < self.max_macs
    }

    /// Notes that a MAC found no room. True for the first since MACs were able to enter.
    const fn report_full(&mut self) -> bool {
        !std::mem::replace(&mut self.full, true)
    }
}

impl EvpnMacTable {
    /// A MAC-VRF was added, or its limit changed.
    pub(in crate::evpn) fn set_limit(&mut self, vni: Vni, max_macs: u32) {
        self.limits.entry(vni).or_default().max_macs = max_macs;
    }

    /// A MAC-VRF was removed.
    pub(in crate::evpn) fn remove_limit(&mut self, vni: Vni) {
        self.limits.remove(&vni);
        self.memory.forget(vni);
    }

    /// The number of MACs in a VNI that routes have put into the table.
    pub(in crate::evpn) fn remote_count(&self, vni: Vni) -> u32 {
        self.limits.get(&vni).map_or(0, |limit| limit.used)
    }

    /// True if MACs of the VNI wait.
    pub(in crate::evpn) fn is_full(&self, vni: Vni) -> bool {
        self.limits.get(&vni).is_some_and(|limit| limit.full)
    }

    /// True if the MAC waits because its VNI is full.
    pub(in crate::evpn) fn is_limited(&self, vni: Vni, mac: HostMac) -> bool {
        let place = self.entries.find(vni, mac);
        place.is_some_and(|place| self.entries.get(place).has(flag::LIMITED))
    }

    /// True if one more MAC fits into the VNI; if not, this one waits.
    pub(super) fn check_limit(&mut self, shared: &mut SharedState, place: u32) -> bool {
        let entry = *self.entries.get(place);
        let Some(limit) = self.limits.get_mut(&entry.vni) else {
            return false;
        };
        if limit.has_room() {
            return true;
        }
        if !entry.has(flag::LIMITED) {
            if limit.waiting.len() > 2 * self.entries.len() {
                let (entries, vni) = (&self.entries, entry.vni);
                limit
                    .waiting
                    .retain(|place| entries.is_limited(*place, vni));
            }
            limit.waiting.push_back(place);
            self.entries.get_mut(place).flags |= flag::LIMITED;
        }
        if limit.report_full() {
            let (vni, limit) = (entry.vni, limit.max_macs);
            shared.events.push(EvpnEvent::LimitReached { vni, limit });
        }
        false
    }

    /// Checks that a MAC may be learned from frames. One that a route has put into the table takes no
    /// more room than before.
    ///
    /// # Errors
    /// [`LocalMacError::Limit`].
    pub(super) fn check_learning(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        mac: HostMac,
    ) -> Result<(), LocalMacError> {
        let place = self.entries.find(vni, mac);
        let is_known = place.is_some_and(|place| self.entries.get(place).selected().is_some());
        let Some(limit) = self.limits.get_mut(&vni) else {
            return Ok(());
        };
        if is_known || limit.has_room() {
            return Ok(());
        }
        let max_macs = limit.max_macs;
        if limit.report_full() {
            let limit = max_macs;
            shared.events.push(EvpnEvent::LimitReached { vni, limit });
        }
        Err(LocalMacError::Limit(vni, max_macs))
    }

    /// A MAC is learned from frames, or no longer.
    pub(super) fn count_learned(&mut self, vni: Vni, before: bool, after: bool) {
        if let Some(limit) = self.limits.get_mut(&vni) {
            limit.count_learned(before, after);
        }
    }

    /// A MAC with routes became local, or is no longer.
    pub(super) fn mark_local(&mut self, place: u32, is_local: bool) {
        let entry = self.entries.get_mut(place);
        let was_local = entry.has(flag::LOCAL);
        if is_local {
            entry.flags |= flag::LOCAL;
        } else {
            entry.flags &= !flag::LOCAL;
        }
        if entry.selected().is_some()
            && let Some(limit) = self.limits.get_mut(&entry.vni)
        {
            limit.count(!was_local, !is_local);
        }
    }

    /// A MAC of the VNI was removed: admits MACs that wait.
    pub(super) fn admit_waiting(&mut self, shared: &mut SharedState, now: Instant, vni: Vni) {
        while let Some(limit) = self.limits.get_mut(&vni)
            && limit.has_room()
        {
            let Some(place) = limit.waiting.pop_front() else {
                limit.full = false;
                return;
            };
            // The place may belong to another MAC by now.
            if self.entries.is_limited(place, vni) {
                self.entries.get_mut(place).flags &= !flag::LIMITED;
                let selected = self.best_of_all(shared, place);
                self.install(shared, now, place, selected, ChangeCause::Other);
                self.affected.reselected.push((vni, place));
            }
        }
    }
}
