//! Bridge domains: a VNI with its flood list and MAC entries.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use hashbrown::HashMap;
use vtep_dataplane::addr::{DomainId, HostMac, PortId, Vni, VtepAddr, VtepId};
use vtep_dataplane::table::flood::FloodList;
use vtep_dataplane::table::mac::Destination;
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
    pub(super) dirty: bool,
}

impl Fib {
    /// Adds a VNI, or changes whether it accepts inner VLAN tags.
    ///
    /// # Errors
    /// [`FibError::NoId`] when there are [`MAX_DOMAINS`] VNIs.
    pub fn add_vni(&mut self, vni: Vni, pass_tags: bool) -> Result<DomainId, FibError> {
        self.vnis_dirty = true;
        if let Some(state) = self.domains.get_mut(&vni) {
            state.domain.pass_tags = pass_tags;
            state.dirty = true;
            return Ok(state.domain.id);
        }
        let index = self
            .domain_ids
            .alloc(MAX_DOMAINS)
            .ok_or(FibError::NoId(MAX_DOMAINS, "VNIs"))?;
        let id = DomainId(index as u16);
        let domain = Domain {
            id,
            vni,
            flood: FloodList::default(),
            group: None,
            sources: std::iter::empty().collect(),
            pass_tags,
            suppress: false,
            miss_events: false,
            counters: self.new_counters(),
        };
        let state = DomainState {
            domain,
            members: HashMap::new(),
            flood: BTreeMap::new(),
            ports: Vec::new(),
            dirty: true,
        };
        self.domains.insert(vni, state);
        Ok(id)
    }

    /// Removes a VNI with its MACs and flood list. Its ports must have been removed before.
    pub fn remove_vni(&mut self, vni: Vni) {
        let Some(id) = self.domain_id(vni) else {
            return;
        };
        let mut macs = Vec::new();
        self.macs.for_each(|key, _| {
            if key.domain() == id {
                macs.extend(HostMac::new(key.mac()).ok());
            }
        });
        for mac in macs {
            self.remove_mac(vni, mac);
        }
        let flooded: Vec<_> = self.domains[&vni].flood.keys().copied().collect();
        for vtep in flooded {
            self.remove_flood(vni, vtep);
        }
        self.neighbors.remove_domain(id);
        self.domains.remove(&vni);
        self.domain_ids.free(id.index());
        self.vnis_dirty = true;
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
        self.release_destination(vni, old);
        Ok(())
    }

    /// Removes a MAC.
    pub fn remove_mac(&mut self, vni: Vni, mac: HostMac) {
        if let Some(domain) = self.domain_id(vni) {
            let old = self.macs.remove(domain, mac);
            self.release_destination(vni, old);
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
        state.dirty = true;
        self.vnis_dirty = true;
        Some(edit(state))
    }

    pub(super) fn build_vnis(&mut self) -> VniTable {
        self.published
            .retain(|vni, _| self.domains.contains_key(vni));
        for (vni, state) in &mut self.domains {
            if mem::take(&mut state.dirty) {
                state.domain.flood =
                    FloodList::new(state.flood.values().copied(), state.ports.iter().copied());
                state.domain.group = state.flood.keys().copied().find(|member| member.is_group());
                state.domain.sources = state.members.keys().copied().collect();
                self.published.insert(*vni, Arc::new(state.domain.clone()));
            }
        }
        VniTable::new(self.published.values().cloned())
    }
}
