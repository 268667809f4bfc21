//! Entries that a full table has refused, until there is space for them.
//!
//! EVPN may use all but an eighth of a table: the rest is left to local hosts and configured entries,
//! so that no peer can crowd them out.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use vtep_dataplane::addr::{HostMac, MacAddr, Vni};

use super::{Fib, MAX_NEIGHBORS};
use crate::evpn::EntryOrigin;

/// The part of a table that EVPN leaves free: one in this many entries.
const RESERVED: usize = 8;

/// Keys of refused entries.
#[derive(Debug, Default)]
pub(super) struct RefusedEntries {
    macs: BTreeSet<(Vni, HostMac)>,
    neighbors: BTreeSet<(Vni, IpAddr)>,
}

impl RefusedEntries {
    pub(super) fn mac(&mut self, vni: Vni, mac: HostMac, is_refused: bool) {
        if is_refused {
            self.macs.insert((vni, mac));
        } else if !self.macs.is_empty() {
            self.macs.remove(&(vni, mac));
        }
    }

    pub(super) fn neighbor(&mut self, vni: Vni, ip: IpAddr, is_refused: bool) {
        if is_refused {
            self.neighbors.insert((vni, ip));
        } else if !self.neighbors.is_empty() {
            self.neighbors.remove(&(vni, ip));
        }
    }

    pub(super) fn remove_vni(&mut self, vni: Vni) {
        if let Ok(first) = HostMac::new(MacAddr([0, 0, 0, 0, 0, 1])) {
            remove_from(&mut self.macs, vni, first);
        }
        remove_from(&mut self.neighbors, vni, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }
}

/// Removes the entries of a VNI, without a walk over those of others. `first` is the smallest key.
fn remove_from<K: Ord + Copy>(set: &mut BTreeSet<(Vni, K)>, vni: Vni, first: K) {
    while let Some(entry) = set.range((vni, first)..).next().copied()
        && entry.0 == vni
    {
        set.remove(&entry);
    }
}

/// Refused entries to be queued again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// MACs.
    pub macs: Vec<(Vni, HostMac)>,
    /// Addresses.
    pub neighbors: Vec<(Vni, IpAddr)>,
}

impl Fib {
    /// Leaves an eighth of the tables to local hosts and configured entries.
    pub fn reserve_for_local(&mut self, max_macs: usize) {
        self.evpn_macs = max_macs - max_macs / RESERVED;
        self.evpn_neighbors = MAX_NEIGHBORS - MAX_NEIGHBORS / RESERVED;
    }

    /// The most MACs that entries of an origin may fill the table to.
    pub(super) const fn mac_space(&self, origin: EntryOrigin) -> usize {
        match origin {
            EntryOrigin::Evpn => self.evpn_macs,
            EntryOrigin::Local | EntryOrigin::Static => usize::MAX,
        }
    }

    /// The number of entries that wait for space.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.macs.len() + self.refused.neighbors.len()
    }

    /// Takes refused entries for which there is space now, at most `limit` of each table: they have
    /// to be installed again.
    pub fn take_retries(&mut self, limit: usize) -> Retry {
        let space = |limit: usize, used: usize, most: usize| limit.min(most.saturating_sub(used));
        let macs = space(limit, self.macs.len(), self.evpn_macs);
        let neighbors = space(limit, self.neighbors.len(), self.evpn_neighbors);
        Retry {
            macs: take_first(&mut self.refused.macs, macs),
            neighbors: take_first(&mut self.refused.neighbors, neighbors),
        }
    }
}

fn take_first<T: Ord>(set: &mut BTreeSet<T>, count: usize) -> Vec<T> {
    std::iter::from_fn(|| set.pop_first()).take(count).collect()
}
