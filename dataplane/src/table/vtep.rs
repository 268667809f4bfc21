//! Remote VTEPs: for each one an adjacency per underlay path, with the complete outer header as its
//! rewrite.
//!
//! The control thread resolves routes and neighbors when it builds an adjacency; no packet waits
//! for either. A MAC entry refers to the VTEP by identifier, so a new path to a VTEP is one write
//! here and none in the MAC table.
//!
//! A row may also be a group of VTEPs: those that a host on an Ethernet segment is reachable
//! through (RFC 7432 section 8.4). Flows are distributed over its members, and a member that leaves
//! is one write, however many MACs refer to the group.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use super::encapsulation::OuterHeader;
use super::flood::{FloodAdjacencies, FloodAdjacency};
use super::mac::Destination;
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

impl RemoteVtep {
    /// What floods need of each path; `None` when one takes more than a line.
    fn floods(&self) -> Option<Vec<FloodAdjacency>> {
        let row = self.counters.flood_row()?;
        let count = self.paths.len() as u16;
        let paths = self.paths.iter().map(|path| {
            let to = (path.device, path.max_frame);
            FloodAdjacency::new(&path.rewrite, to, row, count)
        });
        paths.collect()
    }
}

/// Maximum number of VTEPs in a group.
pub const MAX_MEMBERS: usize = 16;

/// The VTEPs that share an Ethernet segment, in a VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VtepGroup {
    /// At most [`MAX_MEMBERS`] rows of VTEPs, selected by flow hash. Empty: the hosts behind the
    /// group are reachable through no VTEP, and frames to them are flooded as those to an unknown
    /// MAC.
    pub members: Box<[VtepId]>,
}

/// All remote VTEPs.
#[derive(Debug, Clone, Default)]
pub struct VtepTable {
    entries: Vec<Option<Arc<RemoteVtep>>>,
    /// By the same identifiers: a row is a VTEP or a group.
    groups: Vec<Option<Arc<VtepGroup>>>,
    /// By the same identifiers: what floods need of each VTEP.
    floods: FloodAdjacencies,
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

    /// The group with this identifier.
    #[inline]
    #[must_use]
    pub fn group(&self, id: VtepId) -> Option<&VtepGroup> {
        self.groups.get(id.index())?.as_deref()
    }

    /// The VTEP that a flow to this row takes, and its path: of a group the member that the flow
    /// hash selects, or, if that has no path, the next one that has. The same flow always takes the
    /// same path.
    #[inline]
    #[must_use]
    pub fn select(&self, id: VtepId, flow_hash: u32) -> Option<(&RemoteVtep, Option<&Adjacency>)> {
        match self.get(id) {
            Some(vtep) => Some((vtep, vtep.path(flow_hash))),
            None => self.select_member(id, flow_hash),
        }
    }

    /// What floods need of the VTEPs.
    #[inline]
    pub(crate) const fn floods(&self) -> &FloodAdjacencies {
        &self.floods
    }

    /// False for a group without members: frames to its hosts are flooded.
    #[inline]
    #[must_use]
    pub fn is_reachable(&self, to: Destination) -> bool {
        match to {
            Destination::Port(_) => true,
            Destination::Vtep(id) => self.group(id).is_none_or(|group| !group.members.is_empty()),
        }
    }

    #[inline(never)]
    fn select_member(
        &self,
        id: VtepId,
        flow_hash: u32,
    ) -> Option<(&RemoteVtep, Option<&Adjacency>)> {
        let members = &self.group(id)?.members;
        let product = u64::from(flow_hash) * members.len() as u64;
        // The low half is independent of the selected member: it selects among its paths.
        let (first, rest) = ((product >> 32) as usize, product as u32);
        let order = members.iter().cycle().skip(first).take(members.len());
        let rows = order.filter_map(|member| self.get(*member));
        let mut unresolved = None;
        for vtep in rows {
            match vtep.path(rest) {
                Some(path) => return Some((vtep, Some(path))),
                None => unresolved = unresolved.or(Some((vtep, None))),
            }
        }
        unresolved
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
        self.floods
            .set(id, vtep.as_deref().and_then(RemoteVtep::floods));
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

    /// Adds, replaces or (with `None`) removes a group. No VTEP may have its identifier.
    pub fn set_group(&mut self, id: VtepId, group: Option<Arc<VtepGroup>>) {
        if self.groups.len() <= id.index() {
            self.groups.resize(id.index() + 1, None);
        }
        self.groups[id.index()] = group;
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
    use crate::stats::FloodCounters;
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

    /// (finding C17)
    #[test]
    fn flows_spread_over_the_members_of_a_group_that_have_a_path() {
        let path = |device| Adjacency {
            device: DeviceId(device),
            rewrite: OuterHeader::new(&fields("192.0.2.1", "192.0.2.2", None)).unwrap(),
            max_frame: 1450,
        };
        let remote = |address: &str, devices: &[u16]| {
            Arc::new(RemoteVtep {
                vtep: address.parse().unwrap(),
                paths: devices.iter().map(|device| path(*device)).collect(),
                counters: Arc::new(Counters::new(1)),
            })
        };
        let mut table = VtepTable::default();
        table.set(VtepId(0), Some(remote("192.0.2.2", &[0, 1])));
        table.set(VtepId(1), Some(remote("192.0.2.3", &[2])));
        table.set(VtepId(2), Some(remote("192.0.2.4", &[])));
        let group = |members: &[u32]| {
            let members = members.iter().copied().map(VtepId).collect();
            Some(Arc::new(VtepGroup { members }))
        };
        // 4096 flows, and fewer under miri.
        const FLOWS: u32 = if cfg!(miri) { 64 } else { 4096 };
        let part = |of: u32| FLOWS / of;
        let spread = |table: &VtepTable| {
            let mut found = std::collections::BTreeMap::new();
            for hash in (0..=u32::MAX).step_by((u32::MAX / FLOWS) as usize + 1) {
                let selected = table.select(VtepId(3), hash).unwrap();
                assert_eq!(
                    table.select(VtepId(3), hash).unwrap().0.vtep,
                    selected.0.vtep
                );
                *found
                    .entry(selected.1.map(|path| path.device.0))
                    .or_insert(0) += 1;
            }
            found
        };
        table.set_group(VtepId(3), group(&[0, 1]));
        assert!(table.get(VtepId(3)).is_none());
        let even = [(Some(0), part(4)), (Some(1), part(4)), (Some(2), part(2))];
        assert_eq!(spread(&table), even.into());
        table.set_group(VtepId(3), group(&[0, 2]));
        assert_eq!(
            spread(&table),
            [(Some(0), part(2)), (Some(1), part(2))].into()
        );
        table.set_group(VtepId(3), group(&[2]));
        assert_eq!(spread(&table), [(None, FLOWS)].into(), "named for the drop");
        table.set_group(VtepId(3), group(&[]));
        assert!(table.select(VtepId(3), 7).is_none());
        table.set_group(VtepId(3), None);
        assert!(table.group(VtepId(3)).is_none());
    }

    /// Floods take the paths that other frames take.
    #[test]
    fn floods_find_the_path_of_each_flow() {
        let path = |device| Adjacency {
            device: DeviceId(device),
            rewrite: OuterHeader::new(&fields("192.0.2.1", "192.0.2.2", None)).unwrap(),
            max_frame: 1450 + device,
        };
        let counters = Arc::new(Counters::of_vtep(&FloodCounters::new(1)));
        let remote = |paths: u16| RemoteVtep {
            vtep: "192.0.2.2".parse().unwrap(),
            paths: (0..paths).map(path).collect(),
            counters: counters.clone(),
        };
        let mut table = VtepTable::default();
        for paths in [1, 3, 16, 2, 0, 5, 1] {
            table.set(VtepId(2), Some(Arc::new(remote(paths))));
            table.set(VtepId(1), None);
            for hash in (0..=u32::MAX).step_by(1 << 24) {
                let found = table.floods().path(VtepId(2), hash);
                let found = found.map(|(path, _)| path.max_frame);
                let vtep = table.get(VtepId(2)).unwrap();
                let wanted = vtep.path(hash).map(|path| path.max_frame);
                assert_eq!(found, wanted, "{paths} paths");
                assert!(table.floods().path(VtepId(1), hash).is_none());
                assert!(table.floods().path(VtepId(3), hash).is_none());
            }
        }
        // One path that takes more than a line.
        let mut mixed = remote(4);
        let tagged = fields("192.0.2.1", "192.0.2.2", Some(7));
        mixed.paths[2].rewrite = OuterHeader::new(&tagged).unwrap();
        table.set(VtepId(2), Some(Arc::new(mixed)));
        assert!(table.floods().path(VtepId(2), 0).is_none());
        table.set(VtepId(2), None);
        assert!(table.floods().path(VtepId(2), u32::MAX).is_none());
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
