//! The neighbor table, from which workers answer ARP and ND.

use std::net::IpAddr;

use vtep_dataplane::addr::Vni;
use vtep_dataplane::table::neighbor::{NeighborEntry, NeighborReader, NeighborTable};

use super::{Fib, FibError};

/// Maximum number of neighbor entries, over all VNIs.
pub const MAX_NEIGHBORS: usize = 4 << 20;

impl Fib {
    /// The neighbor table.
    #[must_use]
    pub const fn neighbors(&self) -> &NeighborTable {
        &self.neighbors
    }

    /// A reader of the neighbor table, for a worker.
    #[must_use]
    pub fn neighbor_reader(&self) -> NeighborReader {
        self.neighbors.reader()
    }

    /// Sets the neighbor entry of address `ip` in a VNI. Does nothing for an unknown VNI.
    ///
    /// # Errors
    /// [`FibError::NeighborsFull`] when the table is full; nothing changes.
    pub fn set_neighbor(
        &mut self,
        vni: Vni,
        ip: IpAddr,
        neighbor: NeighborEntry,
    ) -> Result<(), FibError> {
        if let Some(domain) = self.domain_id(vni) {
            let old = self.neighbors.insert(domain, ip, neighbor)?;
            if old.is_none()
                && let Some(state) = self.domains.get_mut(&vni)
            {
                state.entries.neighbors += 1;
            }
        }
        Ok(())
    }

    /// True if EVPN may add an entry for an address, or there is one already.
    pub(super) fn has_neighbor_space(&self, vni: Vni, ip: IpAddr) -> bool {
        let known = || {
            let domain = self.domain_id(vni)?;
            self.neighbors.get(domain, ip)
        };
        self.neighbors.len() < self.evpn_neighbors || known().is_some()
    }

    /// Removes the neighbor entry of an address.
    pub fn remove_neighbor(&mut self, vni: Vni, ip: IpAddr) {
        if let Some(domain) = self.domain_id(vni) {
            let old = self.neighbors.remove(domain, ip);
            if old.is_some()
                && let Some(state) = self.domains.get_mut(&vni)
            {
                state.entries.neighbors -= 1;
            }
        }
    }

    /// Sets whether workers answer ARP and ND for known hosts of a VNI, and whether they report
    /// unknown ones.
    pub fn set_resolution(&mut self, vni: Vni, suppress: bool, miss_events: bool) {
        self.edit_domain(vni, |state| {
            state.domain.suppress = suppress;
            state.domain.miss_events = miss_events;
        });
    }
}
