//! Bridge domains: a VNI with its flood list and MAC entries.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashMap;
use vtep_dataplane::addr::{DomainId, HostMac, PortId, Vni, VtepAddr, VtepId};
use vtep_dataplane::table::flood::FloodList;
use vtep_dataplane::table::mac::Destination;
use vtep_dataplane::table::port::StormLimit;
use vtep_dataplane::table::vni::{Domain, VniTable};

use super::{Fib, FibError, MAX_DOMAINS};

/// Staged state of one VNI, from which its published domain is built.
#[derive(Debug)]
pub(super) struct DomainState {
    pub(super) domain: Domain,
    /// References of the VNI to each VTEP: one for the flood list, one for each MAC behind it.
    pub(super) members: HashMap<VtepId, u32>,
    pub(super) flood: BTreeMap<VtepAddr, VtepId>,
    pub(super) ports: Vec<PortId>,
    pub(super) entries: EntryCounts,
    pub(super) dirty: bool,
    /// It is no longer published, and is removed once its entries are.
    pub(super) leaving: bool,
}

/// Entries of one VNI in the tables that all VNIs share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntryCounts {
    /// MACs behind local ports.
    pub macs_local: usize,
    /// MACs behind remote VTEPs.
    pub macs_remote: usize,
    /// Neighbors.
    pub neighbors: usize,
}

impl EntryCounts {
    /// Counts a MAC entry that was `old` and is `new` now.
    pub(super) const fn count_mac(&mut self, old: Option<Destination>, new: Option<Destination>) {
        match old {
            Some(Destination::Port(_)) => self.macs_local -= 1,
            Some(Destination::Vtep(_)) => self.macs_remote -= 1,
            None => {}
        }
        match new {
            Some(Destination::Port(_)) => self.macs_local += 1,
            Some(Destination::Vtep(_)) => self.macs_remote += 1,
            None => {}
        }
    }
}

impl DomainState {
    /// Marks the domain for publication. `dirty` are those that are marked.
    pub(super) fn mark_dirty(&mut self, dirty: &mut Vec<Vni>) {
        if !mem::replace(&mut self.dirty, true) {
            dirty.push(self.domain.vni);
        }
    }
}

impl Fib {
    /// Adds a VNI, or changes whether it accepts inner VLAN tags.
    ///
    /// # Errors
    /// [`FibError::NoId`] when there are [`MAX_DOMAINS`] VNIs.
    pub fn add_vni(&mut self, vni: Vni, pass_tags: bool) -> Result<DomainId, FibError> {
        let changed = self.edit_domain(vni, |state| {
            state.domain.pass_tags = pass_tags;
            state.domain.id
        });
        if let Some(id) = changed {
            return Ok(id);
        }
        let index = self
            .domain_ids
            .alloc(MAX_DOMAINS)
            .ok_or(FibError::NoId(MAX_DOMAINS, "VNIs"))?;
        let id = DomainId(index as u16);
        let version = self.next_version();
        Arc::make_mut(&mut self.since).set_domain(id, version);
        let domain = Domain {
            id,
            vni,
            flood: FloodList::default(),
            group: None,
            sources: std::iter::empty().collect(),
            pass_tags,
            suppress: false,
            miss_events: false,
            storm: None,
            counters: self.new_counters(),
        };
        let state = DomainState {
            domain,
            members: HashMap::new(),
            flood: BTreeMap::new(),
            ports: Vec::new(),
            entries: EntryCounts::default(),
            dirty: true,
            leaving: false,
        };
        self.domains.insert(vni, state);
        self.dirty_vnis.push(vni);
        Ok(id)
    }

    /// Sets the storm limit of what the overlay floods to a VNI's ports.
    pub fn set_storm(&mut self, vni: Vni, storm: Option<StormLimit>) {
        self.edit_domain(vni, |state| state.domain.storm = storm);
    }

    /// A VNI is to be removed: workers no longer know it, but its entries can still be removed.
    /// [`Self::remove_vni`] must follow.
    pub fn leave_vni(&mut self, vni: Vni) {
        let left = self.edit_domain(vni, |state| state.leaving = true);
        if left.is_some() {
            self.leaving.insert(vni);
        }
    }

    /// The VNIs that are to be removed.
    pub fn leaving(&self) -> impl Iterator<Item = Vni> + '_ {
        self.leaving.iter().copied()
    }

    /// True if a VNI is to be removed.
    #[must_use]
    pub fn is_leaving(&self, vni: Vni) -> bool {
        self.leaving.contains(&vni)
    }

    /// Removes a VNI with its flood list, and with MACs and neighbors that were not removed before,
    /// for which the whole tables are walked. Its ports must have been removed before.
    pub fn remove_vni(&mut self, vni: Vni) {
        let Some(id) = self.domain_id(vni) else {
            return;
        };
        let left = self.entry_counts(vni);
        if left.macs_local + left.macs_remote > 0 {
            let mut macs = Vec::new();
            self.macs.for_each(|key, _| {
                if key.domain() == id {
                    macs.extend(HostMac::new(key.mac()).ok());
                }
            });
            for mac in macs {
                self.remove_mac(vni, mac);
            }
        }
        self.remove_groups(vni);
        self.refused.remove_vni(vni);
        let flooded: Vec<_> = self.domains[&vni].flood.keys().copied().collect();
        for vtep in flooded {
            self.remove_flood(vni, vtep);
        }
        if left.neighbors > 0 {
            self.neighbors.remove_domain(id);
        }
        self.domains.remove(&vni);
        self.leaving.remove(&vni);
        self.domain_ids.free(id.index());
        self.dirty_vnis.push(vni);
    }

    /// Entries of a VNI in the MAC and neighbor tables.
    #[must_use]
    pub fn entry_counts(&self, vni: Vni) -> EntryCounts {
        self.domains
            .get(&vni)
            .map_or_else(EntryCounts::default, |state| state.entries)
    }

    /// The number of remote VTEPs that a VNI floods to or has MACs behind, and of multicast groups.
    #[must_use]
    pub fn member_count(&self, vni: Vni) -> usize {
        self.domains
            .get(&vni)
            .map_or(0, |state| state.members.len())
    }

    /// The configured VNIs from `first` on, in order.
    pub fn vnis_from(&self, first: Option<Vni>) -> impl Iterator<Item = Vni> + '_ {
        let from = first.map_or(Bound::Unbounded, Bound::Included);
        let rest = self.domains.range((from, Bound::Unbounded));
        rest.filter(|(_, state)| !state.leaving)
            .map(|(vni, _)| *vni)
    }

    /// The configured VNIs after one, in order.
    pub fn vnis_after(&self, vni: Vni) -> impl Iterator<Item = Vni> + '_ {
        let rest = self.domains.range((Bound::Excluded(vni), Bound::Unbounded));
        rest.filter(|(_, state)| !state.leaving)
            .map(|(vni, _)| *vni)
    }

    /// The bridge domain of a configured VNI.
    #[must_use]
    pub fn domain_id(&self, vni: Vni) -> Option<DomainId> {
        self.domains.get(&vni).map(|state| state.domain.id)
    }

    /// Adds a VTEP to a VNI's flood list. Adding it again changes nothing.
    pub fn add_flood(&mut self, vni: Vni, vtep: VtepAddr) -> Result<(), FibError> {
        if self
            .domains
            .get(&vni)
            .is_none_or(|state| state.flood.contains_key(&vtep))
        {
            return Ok(());
        }
        let id = self.add_vtep_refs(vni, vtep, 1)?;
        self.edit_domain(vni, |state| state.flood.insert(vtep, id));
        Ok(())
    }

    /// Removes a VTEP from a VNI's flood list.
    pub fn remove_flood(&mut self, vni: Vni, vtep: VtepAddr) {
        if self
            .edit_domain(vni, |state| state.flood.remove(&vtep))
            .flatten()
            .is_some()
        {
            self.drop_vtep_refs(vni, vtep, 1);
        }
    }

    /// Sets the local port of a MAC.
    ///
    /// # Errors
    /// [`FibError`] when the table is full; nothing changes.
    pub fn set_local_mac(&mut self, vni: Vni, mac: HostMac, port: PortId) -> Result<(), FibError> {
        self.set_mac(vni, mac, Destination::Port(port))
    }

    fn set_mac(&mut self, vni: Vni, mac: HostMac, to: Destination) -> Result<(), FibError> {
        let Some(domain) = self.domain_id(vni) else {
            return Ok(());
        };
        let old = self.macs.insert(domain, mac, to)?;
        self.count_mac(vni, old, Some(to));
        self.release_destination(vni, old);
        Ok(())
    }

    /// Removes a MAC.
    pub fn remove_mac(&mut self, vni: Vni, mac: HostMac) {
        if let Some(domain) = self.domain_id(vni) {
            let old = self.macs.remove(domain, mac);
            self.count_mac(vni, old, None);
            self.release_destination(vni, old);
        }
    }

    fn count_mac(&mut self, vni: Vni, old: Option<Destination>, new: Option<Destination>) {
        if let Some(state) = self.domains.get_mut(&vni) {
            state.entries.count_mac(old, new);
        }
    }

    /// Drops the reference of a MAC entry that was replaced or removed.
    fn release_destination(&mut self, vni: Vni, old: Option<Destination>) {
        if let Some(Destination::Vtep(id)) = old {
            self.drop_vtep_refs_by_id(vni, id, 1);
        }
    }

    /// Edits a VNI's staged state and marks it for publication; `None` for an unknown VNI.
    pub(super) fn edit_domain<R>(
        &mut self,
        vni: Vni,
        edit: impl FnOnce(&mut DomainState) -> R,
    ) -> Option<R> {
        let state = self.domains.get_mut(&vni)?;
        state.mark_dirty(&mut self.dirty_vnis);
        Some(edit(state))
    }

    pub(super) fn build_vnis(&mut self) -> VniTable {
        for vni in mem::take(&mut self.dirty_vnis) {
            let Some(state) = self.domains.get_mut(&vni) else {
                self.published.remove(&vni);
                continue;
            };
            if state.leaving {
                state.dirty = false;
                self.published.remove(&vni);
            } else if mem::take(&mut state.dirty) {
                state.domain.flood =
                    FloodList::new(state.flood.values().copied(), state.ports.iter().copied());
                state.domain.group = state.flood.keys().copied().find(|member| member.is_group());
                state.domain.sources = state.members.keys().copied().collect();
                self.published.insert(vni, Arc::new(state.domain.clone()));
            }
        }
        VniTable::new(self.published.values().cloned())
    }
}
