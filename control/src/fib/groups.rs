//! Groups of VTEPs: what the MACs behind an Ethernet segment are reachable through (RFC 7432 section
//! 8.4). A MAC entry refers to the group, so that a VTEP that leaves a segment is one write.

use std::sync::Arc;

use vtep_dataplane::addr::{Vni, VtepAddr, VtepId};
use vtep_dataplane::table::vtep::{MAX_MEMBERS, VtepGroup};

use super::vteps::MAX_VTEPS;
use super::{Fib, FibError};
use crate::evpn::{SegmentKey, VniMap};

/// A group in the tables.
#[derive(Debug)]
pub(super) struct GroupState {
    id: VtepId,
    /// Each has a reference of the VNI, so that its frames are accepted there.
    members: Vec<VtepAddr>,
}

/// The groups of all VNIs.
pub(super) type Groups = VniMap<SegmentKey, GroupState>;

impl Fib {
    /// Adds a group, or changes its members: the first [`MAX_MEMBERS`] of them are used. Without
    /// members, frames to its MACs are flooded.
    ///
    /// # Errors
    /// [`FibError::NoId`]: MACs of the group are then behind the VTEP that announced them.
    pub fn set_group(
        &mut self,
        vni: Vni,
        key: SegmentKey,
        members: &[VtepAddr],
    ) -> Result<(), FibError> {
        if !self.domains.contains_key(&vni) {
            return Ok(());
        }
        let id = match self.groups.get(&(vni, key)) {
            Some(state) => state.id,
            None => self.new_group(vni, key)?,
        };
        let members = &members[..members.len().min(MAX_MEMBERS)];
        let (mut rows, mut added) = (Vec::new(), Vec::new());
        for vtep in members {
            // A VTEP without an identifier is left out.
            if let Ok(row) = self.add_vtep_refs(vni, *vtep, 1) {
                rows.push(row);
                added.push(*vtep);
            }
        }
        let group = VtepGroup {
            members: rows.into(),
        };
        self.vtep_table.set_group(id, Some(Arc::new(group)));
        self.vteps_dirty = true;
        let state = self.groups.get_mut(&(vni, key));
        let old = state.map(|state| std::mem::replace(&mut state.members, added));
        for vtep in old.into_iter().flatten() {
            self.drop_vtep_refs(vni, vtep, 1);
        }
        Ok(())
    }

    fn new_group(&mut self, vni: Vni, key: SegmentKey) -> Result<VtepId, FibError> {
        let index = self
            .vtep_ids
            .alloc(MAX_VTEPS)
            .ok_or(FibError::NoId(MAX_VTEPS, "remote VTEPs and groups of them"))?;
        let id = VtepId(index as u32);
        let members = Vec::new();
        self.groups.insert((vni, key), GroupState { id, members });
        Ok(id)
    }

    /// Removes a group. No MAC entry may refer to it.
    pub fn remove_group(&mut self, vni: Vni, key: SegmentKey) {
        let Some(GroupState { id, members }) = self.groups.remove(&(vni, key)) else {
            return;
        };
        self.vtep_table.set_group(id, None);
        self.vteps_dirty = true;
        self.vtep_ids.free(id.index());
        for vtep in members {
            self.drop_vtep_refs(vni, vtep, 1);
        }
    }

    /// Removes all groups of a VNI, whose MAC entries must have been removed.
    pub(super) fn remove_groups(&mut self, vni: Vni) {
        for key in self.groups.keys_of(vni) {
            self.remove_group(vni, key);
        }
    }

    /// The row of a group.
    pub(super) fn group_id(&self, vni: Vni, key: SegmentKey) -> Option<VtepId> {
        self.groups.get(&(vni, key)).map(|state| state.id)
    }
}
