//! Next hops: for each remote VTEP the complete outer header of each underlay path, ready to copy.
//!
//! The control thread resolves route and neighbour when it builds a next hop; no packet ever does. A MAC points to a
//! next-hop identifier, so a new path for a VTEP is one write here and none in the MAC table.
//!
//! ```text
//! | Ethernet 14 | [802.1Q 4] | IPv4 20 or IPv6 40 | UDP 8 | VXLAN 8 |
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use super::encapsulation::OuterHeader;
use crate::addr::{DeviceId, VtepAddr, VtepId};
use crate::stats::Counters;

/// Paths that one VTEP can be reached by at once (ECMP).
pub const MAX_PATHS: usize = 16;

/// One way to a VTEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjacency {
    /// The underlay device that frames leave by.
    pub device: DeviceId,
    /// The header to put before the inner frame.
    pub rewrite: OuterHeader,
    /// Longest inner frame (from its destination MAC on) that fits the path's MTU. Bytes.
    pub max_frame: u16,
}

/// A remote VTEP.
#[derive(Debug, Clone)]
pub struct RemoteVtep {
    /// Its address.
    pub vtep: VtepAddr,
    /// At most [`MAX_PATHS`] paths, chosen from by flow hash; a path of weight n stands n times. None = unresolved.
    pub paths: Box<[Adjacency]>,
    /// From (rx) and to (tx) this VTEP, and drops.
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
    hops: Vec<Option<Arc<RemoteVtep>>>,
    by_v4: HashMap<u32, VtepId>,
    by_v6: HashMap<u128, VtepId>,
}

impl VtepTable {
    /// The next hop, if it exists.
    #[inline]
    #[must_use]
    pub fn get(&self, id: VtepId) -> Option<&RemoteVtep> {
        self.hops.get(id.index())?.as_deref()
    }

    /// The VTEP with this address.
    #[must_use]
    pub fn by_address(&self, vtep: VtepAddr) -> Option<VtepId> {
        self.by_source(vtep.get())
    }

    /// The VTEP with this address, the outer source of a received packet, which may be any.
    #[inline]
    #[must_use]
    pub fn by_source(&self, address: IpAddr) -> Option<VtepId> {
        match address {
            IpAddr::V4(v4) => self.by_v4.get(&v4.to_bits()).copied(),
            IpAddr::V6(v6) => self.by_v6.get(&v6.to_bits()).copied(),
        }
    }

    /// Sets, replaces or (with `None`) removes one next hop. Of two with one address, the one set last is found by it.
    pub fn set(&mut self, id: VtepId, hop: Option<Arc<RemoteVtep>>) {
        if self.hops.len() <= id.index() {
            self.hops.resize(id.index() + 1, None);
        }
        if let Some(old) = self.hops[id.index()].take()
            && self.by_address(old.vtep) == Some(id)
        {
            match old.vtep.get() {
                IpAddr::V4(v4) => self.by_v4.remove(&v4.to_bits()),
                IpAddr::V6(v6) => self.by_v6.remove(&v6.to_bits()),
            };
        }
        if let Some(new) = &hop {
            match new.vtep.get() {
                IpAddr::V4(v4) => self.by_v4.insert(v4.to_bits(), id),
                IpAddr::V6(v6) => self.by_v6.insert(v6.to_bits(), id),
            };
        }
        self.hops[id.index()] = hop;
    }

    /// Every next hop.
    pub fn iter(&self) -> impl Iterator<Item = (VtepId, &Arc<RemoteVtep>)> {
        (0..)
            .map(VtepId)
            .zip(&self.hops)
            .filter_map(|(id, hop)| Some((id, hop.as_ref()?)))
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
    fn a_removed_next_hop_is_found_no_more() {
        let mut table = VtepTable::default();
        let vtep = "192.0.2.2".parse().unwrap();
        let hop = Arc::new(RemoteVtep {
            vtep,
            paths: Box::new([]),
            counters: Arc::new(Counters::new(1)),
        });
        table.set(VtepId(3), Some(hop));
        assert_eq!(table.by_address(vtep), Some(VtepId(3)));
        assert!(table.get(VtepId(3)).unwrap().path(u32::MAX).is_none());
        table.set(VtepId(3), None);
        assert_eq!(table.by_address(vtep), None);
        assert_eq!(table.iter().count(), 0);
    }

    #[test]
    fn an_address_taken_over_stays_when_its_old_holder_goes() {
        let mut table = VtepTable::default();
        let vtep = "192.0.2.2".parse().unwrap();
        let hop = Arc::new(RemoteVtep {
            vtep,
            paths: Box::new([]),
            counters: Arc::new(Counters::new(1)),
        });
        table.set(VtepId(1), Some(hop.clone()));
        table.set(VtepId(2), Some(hop));
        table.set(VtepId(1), None);
        assert_eq!(table.by_address(vtep), Some(VtepId(2)));
    }

    #[test]
    fn flows_spread_over_all_paths_and_none_is_out_of_range() {
        let path = |device| Adjacency {
            device: DeviceId(device),
            rewrite: OuterHeader::new(&fields("192.0.2.1", "192.0.2.2", None)).unwrap(),
            max_frame: 1450,
        };
        let hop = RemoteVtep {
            vtep: "192.0.2.2".parse().unwrap(),
            paths: (0..3).map(path).collect(),
            counters: Arc::new(Counters::new(1)),
        };
        let device = |hash| hop.path(hash).unwrap().device.0;
        assert_eq!([0, u32::MAX / 2, u32::MAX].map(device), [0, 1, 2]);
    }
}
