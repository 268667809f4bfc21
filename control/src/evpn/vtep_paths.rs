//! Paths of VTEPs that come and go: what has to be selected again, and followed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use vtep_dataplane::addr::{Vni, VtepAddr};

use super::change::TableChange;
use super::shared::SharedState;
use crate::rib::AttrId;

/// How long the first path to a VTEP may take: ARP and neighbor discovery repeat their requests once
/// a second, three times. A VTEP that had a path is unreachable as soon as it is lost.
const FIRST_PATH: Duration = Duration::from_millis(3500);

/// How often it is checked whether an unreachable VTEP still matters.
const SWEEP: Duration = Duration::from_secs(60);

impl SharedState {
    /// False if frames to the host of a route would reach no VTEP.
    #[inline]
    pub(super) fn is_reachable(&self, vni: Vni, attrs: AttrId) -> bool {
        let is_known = |vtep: &VtepAddr| !self.reachability.is_unreachable(*vtep);
        match self.segment_members(vni, attrs) {
            Some(members) => members.iter().any(is_known),
            None => self.vtep_of(attrs).as_ref().is_none_or(is_known),
        }
    }

    /// The unreachable VTEPs among those that the host of a route may be reachable through.
    pub(super) fn lost_vteps(
        &self,
        vni: Vni,
        attrs: AttrId,
    ) -> impl Iterator<Item = VtepAddr> + '_ {
        let members = self.segment_members(vni, attrs).unwrap_or_default();
        let all = members.into_iter().chain(self.vtep_of(attrs));
        all.filter(|vtep| self.reachability.is_unreachable(*vtep))
    }

    /// The underlay has paths to a VTEP, or has none, or (`None`) no longer follows it. True if the
    /// routes to it have to be selected again.
    pub(super) fn vtep_resolved(
        &mut self,
        now: Instant,
        vtep: VtepAddr,
        resolved: Option<bool>,
    ) -> bool {
        let reachability = &mut self.reachability;
        match resolved {
            Some(false) if reachability.resolved.remove(&vtep) => return self.lose_vtep(vtep),
            Some(false) if reachability.unreachable.contains(&vtep) => return false,
            Some(false) => {
                reachability.waiting.entry(vtep).or_insert(now + FIRST_PATH);
                return false;
            }
            Some(true) => drop(reachability.resolved.insert(vtep)),
            None => drop(reachability.resolved.remove(&vtep)),
        }
        reachability.waiting.remove(&vtep);
        let was_unreachable = reachability.unreachable.remove(&vtep);
        self.unwatch(vtep);
        was_unreachable
    }

    fn lose_vtep(&mut self, vtep: VtepAddr) -> bool {
        self.reachability.unreachable.insert(vtep);
        if self.reachability.watched.insert(vtep) {
            self.changes.push(TableChange::VtepWatch(vtep, true));
        }
        true
    }

    fn unwatch(&mut self, vtep: VtepAddr) {
        if self.reachability.watched.remove(&vtep) {
            self.changes.push(TableChange::VtepWatch(vtep, false));
        }
    }

    /// Does what is due. True if routes have to be selected again.
    pub(super) fn expire_paths(&mut self, now: Instant) -> bool {
        let waiting = self.reachability.waiting.iter();
        let due = waiting.filter(|(_, until)| **until <= now);
        let due: Vec<_> = due.map(|(vtep, _)| *vtep).collect();
        let mut lost = self.reachability.sweep.is_some_and(|at| at <= now);
        if lost {
            self.reachability.sweep = None;
        }
        for vtep in due {
            self.reachability.waiting.remove(&vtep);
            lost |= self.lose_vtep(vtep);
        }
        lost
    }

    /// All routes were selected again; `seen` are the unreachable VTEPs of hosts with several routes. The paths of
    /// other unreachable VTEPs need not be followed for them.
    pub(super) fn end_sweep(&mut self, now: Instant, seen: &BTreeSet<VtepAddr>) {
        let unseen: Vec<_> = self
            .reachability
            .watched
            .difference(seen)
            .copied()
            .collect();
        for vtep in unseen {
            self.unwatch(vtep);
        }
        let left = !self.reachability.watched.is_empty();
        self.reachability.sweep = left.then(|| now + SWEEP);
    }
}
