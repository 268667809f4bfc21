//! The limit of remote MACs in a VNI: MACs above it wait, in order, until others are removed.

use std::collections::VecDeque;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni};

use super::EvpnMacTable;
use super::store::flag;
use crate::evpn::event::EvpnEvent;
use crate::evpn::shared::{ChangeCause, SharedState};

/// The limit of one VNI.
#[derive(Debug, Default)]
pub(super) struct MacLimit {
    max_macs: u32,
    /// Remote MACs that are selected.
    used: u32,
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
}

impl EvpnMacTable {
    /// A MAC-VRF was added, or its limit changed.
    pub(in crate::evpn) fn set_limit(&mut self, vni: Vni, max_macs: u32) {
        self.limits.entry(vni).or_default().max_macs = max_macs;
    }

    /// A MAC-VRF was removed.
    pub(in crate::evpn) fn remove_limit(&mut self, vni: Vni) {
        self.limits.remove(&vni);
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
        if limit.used < limit.max_macs {
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
        if !std::mem::replace(&mut limit.full, true) {
            let (vni, limit) = (entry.vni, limit.max_macs);
            shared.events.push(EvpnEvent::LimitReached { vni, limit });
        }
        false
    }

    /// A MAC of the VNI was removed: admits MACs that wait.
    pub(super) fn admit_waiting(&mut self, shared: &mut SharedState, now: Instant, vni: Vni) {
        while let Some(limit) = self.limits.get_mut(&vni)
            && limit.used < limit.max_macs
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
