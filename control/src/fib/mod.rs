//! The forwarding information base (FIB): the writing side of the workers' tables, with row IDs,
//! reference counts and one publication for a whole batch of changes.
//!
//! All writers (configuration, control socket, EVPN routes) come through here, on the control
//! thread. Small tables are staged and published together by [`Fib::commit`]; MAC and neighbor
//! entries are written in place.

mod domains;
mod groups;
mod ids;
mod install;
mod neighbors;
mod ports;
mod refused;
mod vteps;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use hashbrown::HashMap;
use vtep_dataplane::addr::{Vni, VtepAddr};
use vtep_dataplane::stats::{Counters, FloodCounters};
use vtep_dataplane::table::mac::{MacReader, MacTable};
use vtep_dataplane::table::neighbor::NeighborTable;
use vtep_dataplane::table::port::PortTable;
use vtep_dataplane::table::publish::{Publisher, Reader};
use vtep_dataplane::table::version::RowVersions;
use vtep_dataplane::table::vni::Domain;
use vtep_dataplane::table::vtep::VtepTable;
use vtep_dataplane::table::{Settings, Snapshot};

use self::domains::DomainState;
use self::groups::Groups;
use self::ids::IdPool;
pub use self::neighbors::MAX_NEIGHBORS;
use self::refused::RefusedEntries;
pub use self::refused::Retry;
use self::vteps::VtepState;
pub use self::vteps::VtepTracking;

/// A table that is full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FibError {
    /// The MAC table has reached its limit.
    #[error("{0}; remove entries, or limit VNIs with max-macs")]
    MacsFull(#[from] vtep_dataplane::table::mac::MacTableFull),
    /// The neighbor table has reached its limit.
    #[error(transparent)]
    NeighborsFull(#[from] vtep_dataplane::table::neighbor::NeighborTableFull),
    /// All IDs of a table are in use.
    #[error("no more than {0} {1} at a time")]
    NoId(usize, &'static str),
}

/// Maximum number of VNIs: a domain ID is 16 bits of a MAC table key.
pub const MAX_DOMAINS: usize = 1 << 16;

pub use crate::config::MAX_PORTS;

/// The control thread's side of the tables.
#[derive(Debug)]
pub struct Fib {
    workers: usize,
    publisher: Publisher<Snapshot>,
    macs: MacTable,
    neighbors: NeighborTable,
    settings: Settings,
    domains: BTreeMap<Vni, DomainState>,
    published: BTreeMap<Vni, Arc<Domain>>,
    /// VNIs whose domains differ from the published ones, or are gone.
    dirty_vnis: Vec<Vni>,
    /// VNIs that are removed once their entries are.
    leaving: BTreeSet<Vni>,
    vtep_table: VtepTable,
    flood_counters: FloodCounters,
    vteps: HashMap<VtepAddr, VtepState>,
    groups: Groups,
    refused: RefusedEntries,
    /// The most entries of the tables for which EVPN may add one.
    evpn_macs: usize,
    evpn_neighbors: usize,
    ports: PortTable,
    domain_ids: IdPool,
    vtep_ids: IdPool,
    device_ids: IdPool,
    port_ids: IdPool,
    /// Since when each ID has its present meaning; staged like the rows.
    since: Arc<RowVersions>,
    /// What differs from the published snapshot.
    vteps_dirty: bool,
    ports_dirty: bool,
    settings_dirty: bool,
    /// VTEPs to track or untrack since the last call of `vtep_tracking`.
    vtep_tracking: Vec<VtepTracking>,
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
            version: 0,
            since: Arc::default(),
        };
        Self {
            workers,
            publisher: Publisher::new(first),
            macs: MacTable::new(max_macs),
            neighbors: NeighborTable::new(MAX_NEIGHBORS),
            settings,
            domains: BTreeMap::new(),
            published: BTreeMap::new(),
            dirty_vnis: Vec::new(),
            leaving: BTreeSet::new(),
            vtep_table: VtepTable::default(),
            flood_counters: FloodCounters::new(workers),
            vteps: HashMap::new(),
            groups: Groups::default(),
            refused: RefusedEntries::default(),
            evpn_macs: max_macs,
            evpn_neighbors: MAX_NEIGHBORS,
            ports: PortTable::default(),
            domain_ids: IdPool::default(),
            vtep_ids: IdPool::default(),
            device_ids: IdPool::default(),
            port_ids: IdPool::default(),
            since: Arc::default(),
            vteps_dirty: false,
            ports_dirty: false,
            settings_dirty: false,
            vtep_tracking: Vec::new(),
        }
    }

    /// A reader of the published snapshots, for a worker.
    #[must_use]
    pub fn snapshots(&self) -> Reader<Snapshot> {
        self.publisher.reader()
    }

    /// A reader of the MAC table, for a worker.
    #[must_use]
    pub fn mac_reader(&self) -> MacReader {
        self.macs.reader()
    }

    /// The latest published snapshot.
    #[must_use]
    pub fn current(&self) -> &Snapshot {
        self.publisher.current()
    }

    /// The MAC table.
    #[must_use]
    pub const fn macs(&self) -> &MacTable {
        &self.macs
    }

    /// Replaces the settings that apply to every frame.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings_dirty |= settings != self.settings;
        self.settings = settings;
    }

    /// New counters, with a row for each worker.
    #[must_use]
    pub fn new_counters(&self) -> Arc<Counters> {
        Arc::new(Counters::new(self.workers))
    }

    /// Publishes all staged changes as one snapshot. Returns whether there were any.
    pub fn commit(&mut self) -> bool {
        let vnis_dirty = !self.dirty_vnis.is_empty();
        if !(vnis_dirty || self.vteps_dirty || self.ports_dirty || self.settings_dirty) {
            return false;
        }
        let mut next = Snapshot::clone(self.publisher.current());
        if vnis_dirty {
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
        next.version = self.next_version();
        next.since = self.since.clone();
        self.publisher.publish(next);
        self.all_ids().into_iter().for_each(IdPool::mark_published);
        self.reclaim();
        true
    }

    /// The version of the snapshot that the next [`Self::commit`] publishes.
    fn next_version(&self) -> u64 {
        self.publisher.current().version + 1
    }

    /// Frees snapshots and IDs that no worker can reference any more. Must be called regularly.
    pub fn reclaim(&mut self) {
        self.macs.reclaim();
        self.neighbors.reclaim();
        if self.publisher.reclaim() == 0 {
            self.all_ids().into_iter().for_each(IdPool::end_quarantine);
        }
    }

    fn all_ids(&mut self) -> [&mut IdPool; 4] {
        [
            &mut self.domain_ids,
            &mut self.vtep_ids,
            &mut self.device_ids,
            &mut self.port_ids,
        ]
    }
}

#[cfg(test)]
mod tests;
