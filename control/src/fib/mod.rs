//! The writing end of the workers' tables: identifiers, reference counts, and one publication for a whole change.
//!
//! Everything that fills the tables (configuration, control socket, later EVPN routes) goes through here, on the
//! control thread. Small tables are staged and published together by [`Fib::commit`]; MAC entries are
//! written in place.

mod ids;
mod install;
mod neighbors;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use hashbrown::HashMap;
use vtep_dataplane::addr::{DeviceId, DomainId, HostMac, PortId, Vni, VtepAddr, VtepId};
use vtep_dataplane::stats::Counters;
use vtep_dataplane::table::flood::FloodList;
use vtep_dataplane::table::mac::{Destination, MacReader, MacTable};
use vtep_dataplane::table::neighbor::NeighborTable;
use vtep_dataplane::table::port::{Device, PortEntry, PortTable};
use vtep_dataplane::table::publish::{Publisher, Reader};
use vtep_dataplane::table::vni::{Domain, VniTable};
use vtep_dataplane::table::vtep::{Adjacency, RemoteVtep, VtepTable};
use vtep_dataplane::table::{Settings, Snapshot};

use self::ids::Ids;
pub use self::neighbors::MAX_NEIGHBORS;

/// Why a table takes no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FibError {
    /// The MAC table is as large as it may become.
    #[error("{0}; remove entries, or limit VNIs with max-macs")]
    MacsFull(#[from] vtep_dataplane::table::mac::MacTableFull),
    /// The neighbour table is as large as it may become.
    #[error(transparent)]
    NeighborsFull(#[from] vtep_dataplane::table::neighbor::NeighborTableFull),
    /// All identifiers are in use.
    #[error("no more than {0} {1} at a time")]
    NoId(usize, &'static str),
}

/// Most VNIs at a time: the domain is 16 bits of a MAC table key.
pub const MAX_DOMAINS: usize = 1 << 16;
/// Most devices, and most tenant ports, at a time.
pub const MAX_PORTS: usize = 4096;

/// What is known of one VNI beside its published domain.
#[derive(Debug)]
pub(super) struct DomainState {
    pub(super) domain: Domain,
    /// Why each VTEP belongs to the VNI: times in the flood list + MACs behind it.
    members: HashMap<VtepId, u32>,
    flood: BTreeMap<VtepAddr, VtepId>,
    ports: Vec<PortId>,
    dirty: bool,
}

#[derive(Debug)]
struct VtepState {
    id: VtepId,
    uses: u32,
}

/// Tables as the control thread sees them.
#[derive(Debug)]
pub struct Fib {
    workers: usize,
    publisher: Publisher<Snapshot>,
    pub(super) macs: MacTable,
    pub(super) neighbors: NeighborTable,
    settings: Settings,
    domains: BTreeMap<Vni, DomainState>,
    published: BTreeMap<Vni, Arc<Domain>>,
    vtep_table: VtepTable,
    vteps: HashMap<VtepAddr, VtepState>,
    ports: PortTable,
    domain_ids: Ids,
    vtep_ids: Ids,
    device_ids: Ids,
    port_ids: Ids,
    /// What differs from the published snapshot.
    vnis_dirty: bool,
    vteps_dirty: bool,
    ports_dirty: bool,
    settings_dirty: bool,
    /// VTEPs that came into use or fell out of it since the last call of `vtep_tracking`.
    vtep_tracking: Vec<VtepTracking>,
}

/// A VTEP that must now be resolved, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VtepTracking {
    /// Something leads to it.
    Track(VtepAddr),
    /// Nothing leads to it any more.
    Untrack(VtepAddr),
}

impl Fib {
    /// Empty tables for `workers` workers and at most `max_macs` MAC entries.
    #[must_use]
    pub fn new(workers: usize, max_macs: usize, settings: Settings) -> Self {
        let first = Snapshot {
            settings: settings.clone(),
            vnis: Arc::default(),
            vteps: Arc::default(),
            ports: Arc::default(),
        };
        Self {
            workers,
            publisher: Publisher::new(first),
            macs: MacTable::new(max_macs),
            neighbors: NeighborTable::new(MAX_NEIGHBORS),
            settings,
            domains: BTreeMap::new(),
            published: BTreeMap::new(),
            vtep_table: VtepTable::default(),
            vteps: HashMap::new(),
            ports: PortTable::default(),
            domain_ids: Ids::default(),
            vtep_ids: Ids::default(),
            device_ids: Ids::default(),
            port_ids: Ids::default(),
            vnis_dirty: false,
            vteps_dirty: false,
            ports_dirty: false,
            settings_dirty: false,
            vtep_tracking: Vec::new(),
        }
    }

    /// A reading end of the snapshots, for a worker.
    #[must_use]
    pub fn snapshots(&self) -> Reader<Snapshot> {
        self.publisher.reader()
    }

    /// A reading end of the MAC table, for a worker.
    #[must_use]
    pub fn mac_reader(&self) -> MacReader {
        self.macs.reader()
    }

    /// The tables as the workers have them.
    #[must_use]
    pub fn current(&self) -> &Snapshot {
        self.publisher.current()
    }

    /// The MAC table.
    #[must_use]
    pub const fn macs(&self) -> &MacTable {
        &self.macs
    }

    fn counters(&self) -> Arc<Counters> {
        Arc::new(Counters::new(self.workers))
    }

    /// Replaces what holds for every frame.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings_dirty |= settings != self.settings;
        self.settings = settings;
    }

    /// Adds a VNI, or changes whether it passes inner tags.
    ///
    /// # Errors
    /// [`FibError::NoId`] when there are [`MAX_DOMAINS`] of them.
    pub fn add_vni(&mut self, vni: Vni, pass_tags: bool) -> Result<DomainId, FibError> {
        self.vnis_dirty = true;
        if let Some(state) = self.domains.get_mut(&vni) {
            state.domain.pass_tags = pass_tags;
            state.dirty = true;
            return Ok(state.domain.id);
        }
        let index = self
            .domain_ids
            .take(MAX_DOMAINS)
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
            counters: self.counters(),
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
        self.domain_ids.give(id.index());
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
        let id = self.join(vni, vtep, 1)?;
        self.change(vni, |state| state.flood.insert(vtep, id));
        Ok(())
    }

    /// Removes a VTEP from a VNI's flood list.
    pub fn remove_flood(&mut self, vni: Vni, vtep: VtepAddr) {
        if self
            .change(vni, |state| state.flood.remove(&vtep))
            .flatten()
            .is_some()
        {
            self.leave(vni, vtep, 1);
        }
    }

    /// Points a MAC to a local port.
    ///
    /// # Errors
    /// [`FibError`] when the table is full; nothing changes.
    pub fn set_local_mac(&mut self, vni: Vni, mac: HostMac, port: PortId) -> Result<(), FibError> {
        self.put_mac(vni, mac, Destination::Port(port))
    }

    fn put_mac(&mut self, vni: Vni, mac: HostMac, to: Destination) -> Result<(), FibError> {
        let Some(domain) = self.domain_id(vni) else {
            return Ok(());
        };
        let old = self.macs.insert(domain, mac, to)?;
        self.forget(vni, old);
        Ok(())
    }

    /// Removes a MAC.
    pub fn remove_mac(&mut self, vni: Vni, mac: HostMac) {
        if let Some(domain) = self.domain_id(vni) {
            let old = self.macs.remove(domain, mac);
            self.forget(vni, old);
        }
    }

    /// An entry no longer leads to `old`.
    fn forget(&mut self, vni: Vni, old: Option<Destination>) {
        if let Some(Destination::Vtep(id)) = old {
            self.leave_hop(vni, id, 1);
        }
    }

    /// As [`Self::leave`], by the VTEP's identifier.
    pub(super) fn leave_hop(&mut self, vni: Vni, id: VtepId, reasons: u32) {
        if let Some(vtep) = self.vtep_table.get(id).map(|hop| hop.vtep) {
            self.leave(vni, vtep, reasons);
        }
    }

    /// Changes a VNI's staged state.
    pub(super) fn change<R>(
        &mut self,
        vni: Vni,
        edit: impl FnOnce(&mut DomainState) -> R,
    ) -> Option<R> {
        let state = self.domains.get_mut(&vni)?;
        state.dirty = true;
        self.vnis_dirty = true;
        Some(edit(state))
    }

    /// That many more reasons, at least one, for `vtep` to belong to `vni`.
    pub(super) fn join(
        &mut self,
        vni: Vni,
        vtep: VtepAddr,
        reasons: u32,
    ) -> Result<VtepId, FibError> {
        let id = self.acquire(vtep, reasons)?;
        if let Some(state) = self.domains.get_mut(&vni) {
            let members = state.members.entry(id).or_insert(0);
            if *members == 0 {
                state.dirty = true;
                self.vnis_dirty = true;
            }
            *members += reasons;
        }
        Ok(id)
    }

    /// That many reasons less for `vtep` to belong to `vni`.
    pub(super) fn leave(&mut self, vni: Vni, vtep: VtepAddr, reasons: u32) {
        let Some(id) = self.vteps.get(&vtep).map(|state| state.id) else {
            return;
        };
        if let Some(state) = self.domains.get_mut(&vni)
            && let Some(members) = state.members.get_mut(&id)
        {
            *members -= reasons;
            if *members == 0 {
                state.members.remove(&id);
                state.dirty = true;
                self.vnis_dirty = true;
            }
        }
        self.release(vtep, reasons);
    }

    fn acquire(&mut self, vtep: VtepAddr, uses: u32) -> Result<VtepId, FibError> {
        if let Some(state) = self.vteps.get_mut(&vtep) {
            state.uses += uses;
            return Ok(state.id);
        }
        const MOST: usize = 1 << 20;
        let index = self
            .vtep_ids
            .take(MOST)
            .ok_or(FibError::NoId(MOST, "remote VTEPs"))?;
        let id = VtepId(index as u32);
        let hop = RemoteVtep {
            vtep,
            paths: Box::new([]),
            counters: self.counters(),
        };
        self.vtep_table.set(id, Some(Arc::new(hop)));
        self.vteps_dirty = true;
        self.vteps.insert(vtep, VtepState { id, uses });
        self.vtep_tracking.push(VtepTracking::Track(vtep));
        Ok(id)
    }

    fn release(&mut self, vtep: VtepAddr, uses: u32) {
        let Some(state) = self.vteps.get_mut(&vtep) else {
            return;
        };
        state.uses -= uses;
        if state.uses == 0 {
            let id = state.id;
            self.vteps.remove(&vtep);
            self.vtep_table.set(id, None);
            self.vteps_dirty = true;
            self.vtep_ids.give(id.index());
            self.vtep_tracking.push(VtepTracking::Untrack(vtep));
        }
    }

    /// VTEPs to resolve, or to resolve no longer, since the last call; in order.
    pub fn vtep_tracking(&mut self) -> Vec<VtepTracking> {
        mem::take(&mut self.vtep_tracking)
    }

    /// Sets the underlay paths of a VTEP: the one write that a change of route or neighbour takes.
    pub fn set_paths(&mut self, vtep: VtepAddr, paths: Box<[Adjacency]>) {
        let Some(id) = self.vteps.get(&vtep).map(|state| state.id) else {
            return;
        };
        if let Some(old) = self.vtep_table.get(id)
            && old.paths != paths
        {
            let hop = RemoteVtep {
                vtep,
                paths,
                counters: old.counters.clone(),
            };
            self.vtep_table.set(id, Some(Arc::new(hop)));
            self.vteps_dirty = true;
        }
    }

    /// A free device identifier.
    ///
    /// # Errors
    /// [`FibError::NoId`] when there are [`MAX_PORTS`] devices.
    pub fn alloc_device_id(&mut self) -> Result<DeviceId, FibError> {
        let index = self
            .device_ids
            .take(MAX_PORTS)
            .ok_or(FibError::NoId(MAX_PORTS, "interfaces"))?;
        Ok(DeviceId(index as u16))
    }

    /// A device's row: `None` takes it out and frees the identifier.
    pub fn set_device(&mut self, id: DeviceId, device: Option<Arc<Device>>) {
        if device.is_none() {
            self.device_ids.give(id.index());
        }
        put(&mut self.ports.devices, id.index(), device);
        self.ports_dirty = true;
    }

    /// A free port identifier.
    ///
    /// # Errors
    /// [`FibError::NoId`] when there are [`MAX_PORTS`] ports.
    pub fn alloc_port_id(&mut self) -> Result<PortId, FibError> {
        let index = self
            .port_ids
            .take(MAX_PORTS)
            .ok_or(FibError::NoId(MAX_PORTS, "ports"))?;
        Ok(PortId(index as u16))
    }

    /// A port's row: also enters it into its VNI's flood list.
    pub fn set_port(&mut self, vni: Vni, entry: Arc<PortEntry>) {
        let id = entry.id;
        put(&mut self.ports.ports, id.index(), Some(entry));
        self.ports_dirty = true;
        self.change(vni, |state| {
            if !state.ports.contains(&id) {
                state.ports.push(id);
            }
        });
    }

    /// Takes a port out of its VNI's flood list and frees its identifier.
    pub fn remove_port(&mut self, vni: Vni, id: PortId) {
        put(&mut self.ports.ports, id.index(), None);
        self.port_ids.give(id.index());
        self.ports_dirty = true;
        self.change(vni, |state| state.ports.retain(|port| *port != id));
    }

    /// New counters, with a row for each worker.
    #[must_use]
    pub fn new_counters(&self) -> Arc<Counters> {
        self.counters()
    }

    /// The staged row of a port.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&PortEntry> {
        self.ports.port(id)
    }

    /// The staged row of a device.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.ports.device(id)
    }

    /// Publishes all that was staged as one change. Returns whether there was anything.
    pub fn commit(&mut self) -> bool {
        if !(self.vnis_dirty || self.vteps_dirty || self.ports_dirty || self.settings_dirty) {
            return false;
        }
        let mut next = Snapshot::clone(self.publisher.current());
        if mem::take(&mut self.vnis_dirty) {
            next.vnis = Arc::new(self.build_vnis());
        }
        if mem::take(&mut self.vteps_dirty) {
            next.vteps = Arc::new(self.vtep_table.clone());
        }
        if mem::take(&mut self.ports_dirty) {
            next.ports = Arc::new(self.ports.clone());
        }
        if mem::take(&mut self.settings_dirty) {
            next.settings = self.settings.clone();
        }
        self.publisher.publish(next);
        self.all_ids().into_iter().for_each(Ids::published);
        self.reclaim();
        true
    }

    /// Frees snapshots, and identifiers, that no worker can meet any more. To be called now and then.
    pub fn reclaim(&mut self) {
        self.macs.reclaim();
        self.neighbors.reclaim();
        if self.publisher.reclaim() == 0 {
            self.all_ids().into_iter().for_each(Ids::settled);
        }
    }

    fn all_ids(&mut self) -> [&mut Ids; 4] {
        [
            &mut self.domain_ids,
            &mut self.vtep_ids,
            &mut self.device_ids,
            &mut self.port_ids,
        ]
    }

    fn build_vnis(&mut self) -> VniTable {
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

/// Sets one place of a table that grows as needed.
fn put<T>(table: &mut Vec<Option<T>>, index: usize, value: Option<T>) {
    if table.len() <= index {
        table.resize_with(index + 1, || None);
    }
    table[index] = value;
}

#[cfg(test)]
mod tests {
    use vtep_dataplane::table::Dscp;
    use vtep_dataplane::table::mac::MacKey;

    use super::*;
    use crate::evpn::{EntryOrigin, TableChange};

    fn writer() -> Fib {
        let settings = Settings {
            local_v4: Some([192, 0, 2, 1].into()),
            local_v6: None,
            udp_port: 4789,
            dscp: Dscp::Inherit,
            strict_reserved: false,
            udp6_zero_rx: false,
            udp6_zero_tx: false,
        };
        Fib::new(1, 100, settings)
    }

    fn vtep(n: u8) -> VtepAddr {
        format!("203.0.113.{n}").parse().unwrap()
    }

    fn vni(n: u32) -> Vni {
        Vni::new(n).unwrap()
    }

    fn mac(n: u8) -> HostMac {
        HostMac::new(vtep_dataplane::addr::MacAddr([2, 0, 0, 0, 0, n])).unwrap()
    }

    /// Points a MAC of a VNI to a VTEP; how many entries were refused.
    fn point(tables: &mut Fib, vni: Vni, mac: HostMac, vtep: VtepAddr) -> u64 {
        tables.apply(&[TableChange::MacSet {
            vni,
            mac,
            vtep,
            origin: EntryOrigin::Evpn,
        }])
    }

    #[test]
    fn a_vtep_is_known_to_a_vni_as_long_as_something_leads_to_it() {
        let mut tables = writer();
        tables.add_vni(vni(100), false).unwrap();
        tables.add_flood(vni(100), vtep(9)).unwrap();
        assert_eq!(point(&mut tables, vni(100), mac(1), vtep(9)), 0);
        assert_eq!(point(&mut tables, vni(100), mac(2), vtep(9)), 0);
        tables.commit();
        assert_eq!(tables.vtep_tracking(), [VtepTracking::Track(vtep(9))]);
        let known = |tables: &Fib| {
            let now = tables.current();
            let domain = now.vnis.by_vni(100).unwrap();
            now.vteps
                .by_address(vtep(9))
                .is_some_and(|id| domain.sources.contains(id))
        };
        assert!(known(&tables));
        tables.remove_flood(vni(100), vtep(9));
        tables.remove_mac(vni(100), mac(1));
        tables.commit();
        assert!(known(&tables), "one MAC is left behind it");
        assert!(
            tables
                .current()
                .vnis
                .by_vni(100)
                .unwrap()
                .flood
                .vteps
                .is_empty()
        );
        assert_eq!(point(&mut tables, vni(100), mac(2), vtep(8)), 0);
        tables.commit();
        assert!(!known(&tables), "its last MAC has moved");
        assert_eq!(
            tables.vtep_tracking(),
            [VtepTracking::Track(vtep(8)), VtepTracking::Untrack(vtep(9))]
        );
    }

    #[test]
    fn a_removed_vni_leaves_nothing_behind() {
        let mut tables = writer();
        tables.add_vni(vni(100), false).unwrap();
        tables.add_vni(vni(200), false).unwrap();
        for n in 0..50 {
            assert_eq!(point(&mut tables, vni(100), mac(n), vtep(1)), 0);
            assert_eq!(point(&mut tables, vni(200), mac(n), vtep(2)), 0);
        }
        tables.add_flood(vni(100), vtep(3)).unwrap();
        assert_eq!(
            point(&mut tables, vni(100), mac(60), vtep(1)),
            1,
            "the table is full"
        );
        tables.remove_vni(vni(100));
        tables.commit();
        assert_eq!(tables.macs().len(), 50);
        assert!(tables.current().vnis.by_vni(100).is_none());
        assert_eq!(tables.current().vteps.iter().count(), 1);
        let reader = tables.mac_reader();
        let domain = tables.domain_id(vni(200)).unwrap();
        assert!(matches!(
            reader.lookup(MacKey::new(domain, mac(3).get())),
            Some(Destination::Vtep(_))
        ));
    }

    #[test]
    fn an_identifier_rests_until_no_worker_can_mistake_it() {
        let mut tables = writer();
        let mut worker = tables.snapshots();
        tables.add_vni(vni(100), false).unwrap();
        assert_eq!(point(&mut tables, vni(100), mac(1), vtep(1)), 0);
        tables.commit();
        worker.refresh();
        let id = |tables: &Fib, n| tables.vtep_table.by_address(vtep(n)).unwrap();
        let first = id(&tables, 1);
        tables.remove_mac(vni(100), mac(1));
        assert_eq!(point(&mut tables, vni(100), mac(1), vtep(2)), 0);
        assert_ne!(id(&tables, 2), first, "not even published");
        tables.commit();
        assert_eq!(point(&mut tables, vni(100), mac(2), vtep(3)), 0);
        assert_ne!(
            id(&tables, 3),
            first,
            "the worker still has the old snapshot"
        );
        tables.commit();
        worker.refresh();
        tables.reclaim();
        assert_eq!(point(&mut tables, vni(100), mac(3), vtep(4)), 0);
        assert_eq!(id(&tables, 4), first);
    }

    #[test]
    fn nothing_is_published_before_commit() {
        let mut tables = writer();
        tables.add_vni(vni(100), false).unwrap();
        assert!(tables.current().vnis.by_vni(100).is_none());
        assert!(tables.commit());
        assert!(tables.current().vnis.by_vni(100).is_some());
        assert!(!tables.commit());
    }
}
