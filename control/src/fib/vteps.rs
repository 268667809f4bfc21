//! Remote VTEPs: referenced by flood lists and MAC entries, tracked by the underlay while
//! referenced.

use std::mem;
use std::sync::Arc;

use vtep_dataplane::addr::{Vni, VtepAddr, VtepId};
use vtep_dataplane::stats::Counters;
use vtep_dataplane::table::vtep::{Adjacency, RemoteVtep};

use super::{Fib, FibError};

/// A request to the underlay, for a VTEP that gained its first or lost its last reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VtepTracking {
    /// Resolve its paths from now on.
    Track(VtepAddr),
    /// It is no longer referenced.
    Untrack(VtepAddr),
}

/// Maximum number of remote VTEPs, and of groups of them.
pub(super) const MAX_VTEPS: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct VtepState {
    id: VtepId,
    uses: u32,
}

impl Fib {
    /// Adds `refs` references, at least one, of `vni` to `vtep`.
    pub(super) fn add_vtep_refs(
        &mut self,
        vni: Vni,
        vtep: VtepAddr,
        refs: u32,
    ) -> Result<VtepId, FibError> {
        let id = self.acquire_vtep(vtep, refs)?;
        if let Some(state) = self.domains.get_mut(&vni) {
            let members = state.members.entry(id).or_insert(0);
            let is_new = *members == 0;
            *members += refs;
            if is_new {
                state.mark_dirty(&mut self.dirty_vnis);
            }
        }
        Ok(id)
    }

    /// Drops `refs` references of `vni` to `vtep`.
    pub(super) fn drop_vtep_refs(&mut self, vni: Vni, vtep: VtepAddr, refs: u32) {
        let Some(id) = self.vteps.get(&vtep).map(|state| state.id) else {
            return;
        };
        if let Some(state) = self.domains.get_mut(&vni)
            && let Some(members) = state.members.get_mut(&id)
        {
            *members -= refs;
            if *members == 0 {
                state.members.remove(&id);
                state.mark_dirty(&mut self.dirty_vnis);
            }
        }
        self.release_vtep(vtep, refs);
    }

    /// As [`Self::drop_vtep_refs`], by the VTEP's ID.
    pub(super) fn drop_vtep_refs_by_id(&mut self, vni: Vni, id: VtepId, refs: u32) {
        if let Some(vtep) = self.vtep_table.get(id).map(|row| row.vtep) {
            self.drop_vtep_refs(vni, vtep, refs);
        }
    }

    fn acquire_vtep(&mut self, vtep: VtepAddr, uses: u32) -> Result<VtepId, FibError> {
        if let Some(state) = self.vteps.get_mut(&vtep) {
            state.uses += uses;
            return Ok(state.id);
        }
        let index = self
            .vtep_ids
            .alloc(MAX_VTEPS)
            .ok_or(FibError::NoId(MAX_VTEPS, "remote VTEPs"))?;
        let id = VtepId(index as u32);
        let row = RemoteVtep {
            vtep,
            paths: Box::new([]),
            counters: Arc::new(Counters::of_vtep(&self.flood_counters)),
        };
        self.vtep_table.set(id, Some(Arc::new(row)));
        self.vteps_dirty = true;
        self.vteps.insert(vtep, VtepState { id, uses });
        self.vtep_tracking.push(VtepTracking::Track(vtep));
        Ok(id)
    }

    fn release_vtep(&mut self, vtep: VtepAddr, uses: u32) {
        let Some(state) = self.vteps.get_mut(&vtep) else {
            return;
        };
        state.uses -= uses;
        if state.uses == 0 {
            let id = state.id;
            self.vteps.remove(&vtep);
            self.vtep_table.set(id, None);
            self.vteps_dirty = true;
            self.vtep_ids.free(id.index());
            self.vtep_tracking.push(VtepTracking::Untrack(vtep));
        }
    }

    /// Has the paths to a VTEP resolved, or no longer, whether an entry refers to it or not.
    pub(super) fn watch_vtep(&mut self, vtep: VtepAddr, on: bool) -> Result<(), FibError> {
        if on {
            self.acquire_vtep(vtep, 1)?;
        } else {
            self.release_vtep(vtep, 1);
        }
        Ok(())
    }

    /// VTEPs to track or untrack since the last call, in order.
    pub fn vtep_tracking(&mut self) -> Vec<VtepTracking> {
        mem::take(&mut self.vtep_tracking)
    }

    /// The VTEPs that are referenced.
    #[must_use]
    pub fn tracked_vteps(&self) -> Vec<VtepAddr> {
        self.vteps.keys().copied().collect()
    }

    /// Sets the underlay paths of a VTEP: the only write when a route or a neighbor of the underlay
    /// changes.
    pub fn set_paths(&mut self, vtep: VtepAddr, paths: Box<[Adjacency]>) {
        let Some(id) = self.vteps.get(&vtep).map(|state| state.id) else {
            return;
        };
        if let Some(old) = self.vtep_table.get(id)
            && old.paths != paths
        {
            let row = RemoteVtep {
                vtep,
                paths,
                counters: old.counters.clone(),
            };
            self.vtep_table.set(id, Some(Arc::new(row)));
            self.vteps_dirty = true;
        }
    }
}
