//! Remote VTEPs: for each one an adjacency per underlay path, with the complete outer header as its
//! rewrite.
//!
//! The control thread resolves routes and neighbors when it builds an adjacency; no packet waits
//! for either. A MAC entry refers to the VTEP by identifier, so a new path to a VTEP is one write
//! here and none in the MAC table.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use super::encapsulation::OuterHeader;
use crate::addr::{DeviceId, VtepAddr, VtepId};
use crate::stats::Counters;

/// Maximum number of paths to one VTEP that are used at once (ECMP).
pub const MAX_PATHS: usize = 16;

/// One underlay path to a VTEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjacency {
    /// The underlay device that frames are sent on.
    pub device: DeviceId,
    /// The outer header to put before the inner frame.
    pub rewrite: OuterHeader,
    /// Longest inner frame, from its destination MAC on, that fits the MTU of the path. Bytes.
    pub max_frame: u16,
}

/// A remote VTEP.
#[derive(Debug, Clone)]
pub struct RemoteVtep {
    /// Its address, or that of a multicast group.
    pub vtep: VtepAddr,
    /// At most [`MAX_PATHS`] paths, selected by flow hash; a path of weight n is listed n times.
    /// Empty while there is no usable path.
    pub paths: Box<[Adjacency]>,
    /// Frames from (rx) and to (tx) this VTEP, and drops.
    pub counters: Arc<Counters>,
}

impl RemoteVtep {
    /// The path for a flow; the same flow always takes the same path.
    #[inline]
    #[must_use]
    pub fn path(&self, flow_hash: u32) -> Option<&Adjacency> {
        let place = (u64::from(flow_hash) * self.paths.len() as u64) >> 32;
        self.paths.get(place as usize)
    }
}

/// All remote VTEPs.
#[derive(Debug, Clone, Default)]
pub struct VtepTable {
    entries: Vec<Option<Arc<RemoteVtep>>>,
    by_v4: HashMap<u32, VtepId>,
    by_v6: HashMap<u128, VtepId>,
}

impl VtepTable {
    /// The VTEP with this identifier.
    #[inline]
    #[must_use]
    pub fn get(&self, id: VtepId) -> Option<&RemoteVtep> {
        self.entries.get(id.index())?.as_deref()
    }

    /// The VTEP with this address.
    #[must_use]
    pub fn by_address(&self, address: VtepAddr) -> Option<VtepId> {
        self.by_source(address.get())
    }

    /// The VTEP with this address: the outer source of a received packet, which may be any address.
    #[inline]
    #[must_use]
    pub fn by_source(&self, address: IpAddr) -> Option<VtepId> {
        match address {
            IpAddr::V4(v4) => self.by_v4.get(&v4.to_bits()).copied(),
            IpAddr::V6(v6) => self.by_v6.get(&v6.to_bits()).copied(),
        }
    }

    /// Adds, replaces or (with `None`) removes a VTEP. Of two with one address, the one set last is
    /// found by it.
    pub fn set(&mut self, id: VtepId, vtep: Option<Arc<RemoteVtep>>) {
        if self.entries.len() <= id.index() {
            self.entries.resize(id.index() + 1, None);
        }
        if let Some(old) = self.entries[id.index()].take()
            && self.by_address(old.vtep) == Some(id)
        {
            match old.vtep.get() {
                IpAddr::V4(v4) => self.by_v4.remove(&v4.to_bits()),
                IpAddr::V6(v6) => self.by_v6.remove(&v6.to_bits()),
            };
        }
        if let Some(new) = &vtep {
            match new.vtep.get() {
                IpAddr::V4(v4) => self.by_v4.insert(v4.to_bits(), id),
                IpAddr::V6(v6) => self.by_v6.insert(v6.to_bits(), id),
            };
        }
        self.entries[id.index()] = vtep;
    }

    /// Every VTEP with its identifier.
    pub fn iter(&self) -> impl Iterator<Item = (VtepId, &Arc<RemoteVtep>)> {
        (0..)
            .map(VtepId)
            .zip(&self.entries)
            .filter_map(|(id, vtep)| Some((id, vtep.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::MacAddr;
    use crate::table::encapsulation::HeaderFields;

    fn fields(source: &str, destination: &str, vlan: Option<u16>) -> HeaderFields {
        HeaderFields {
            source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            next_hop_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            vlan,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ttl: 64,
            df: true,
            udp_port: 4789,
        }
    }

    #[test]
    fn a_removed_vtep_is_not_found_any_more() {
        let mut table = VtepTable::default();
        let address = "192.0.2.2".parse().unwrap();
        let remote = Arc::new(RemoteVtep {
            vtep: address,
            paths: Box::new([]),
            counters: Arc::new(Counters::new(1)),
        });
        table.set(VtepId(3), Some(remote));
        assert_eq!(table.by_address(address), Some(VtepId(3)));
        assert!(table.get(VtepId(3)).unwrap().path(u32::MAX).is_none());
        table.set(VtepId(3), None);
        assert_eq!(table.by_address(address), None);
        assert_eq!(table.iter().count(), 0);
    }

    #[test]
    fn an_address_stays_with_its_new_vtep_when_the_old_one_is_removed() {
        let mut table = VtepTable::default();
        let address = "192.0.2.2".parse().unwrap();
        let remote = Arc::new(RemoteVtep {
            vtep: address,
            paths: Box::new([]),
            counters: Arc::new(Counters::new(1)),
        });
        table.set(VtepId(1), Some(remote.clone()));
        table.set(VtepId(2), Some(remote));
        table.set(VtepId(1), None);
        assert_eq!(table.by_address(address), Some(VtepId(2)));
    }

    #[test]
    fn flows_spread_over_all_paths_and_none_is_out_of_range() {
        let path = |device| Adjacency {
            device: DeviceId(device),
            rewrite: OuterHeader::new(&fields("192.0.2.1", "192.0.2.2", None)).unwrap(),
            max_frame: 1450,
        };
        let remote = RemoteVtep {
            vtep: "192.0.2.2".parse().unwrap(),
            paths: (0..3).map(path).collect(),
            counters: Arc::new(Counters::new(1)),
        };
        let device = |hash| remote.path(hash).unwrap().device.0;
        assert_eq!([0, u32::MAX / 2, u32::MAX].map(device), [0, 1, 2]);
    }
}
