//! The flood list of a VNI: where broadcast, unknown unicast and multicast (BUM) frames go.

use std::collections::BTreeSet;

use super::encapsulation::{IP_OFFSET, OuterHeader, PLAIN_V4};
use crate::addr::{DeviceId, PortId, VtepId};
use crate::stats::{FloodPage, FloodRow};
use crate::wire::checksum::Sum;
use crate::wire::{ipv4, udp};

/// The members of a VNI that each BUM frame is copied to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FloodList {
    /// Remote VTEPs (ingress replication) or multicast groups (RFC 7348 section 4.2), each once,
    /// sorted.
    pub vteps: Box<[VtepId]>,
    /// Local ports, each once, sorted. A frame is never sent to the port that it came from.
    pub ports: Box<[PortId]>,
}

impl FloodList {
    /// A list of these members, which may be in any order and repeated.
    #[must_use]
    pub fn new(
        vteps: impl IntoIterator<Item = VtepId>,
        ports: impl IntoIterator<Item = PortId>,
    ) -> Self {
        Self {
            vteps: sorted(vteps),
            ports: sorted(ports),
        }
    }
}

fn sorted<T: Ord>(members: impl IntoIterator<Item = T>) -> Box<[T]> {
    let members: BTreeSet<_> = members.into_iter().collect();
    members.into_iter().collect()
}

/// What a copy of a flooded frame needs of a path to a VTEP, in one cache line: of a path over IPv4,
/// without a VLAN tag and with DF. Floods over others look up the VTEP itself.
///
/// It is a part of the table of VTEPs, not of each VNI that floods to the VTEP: a path change is one
/// write, and 10,000 VNIs with 1,000 VTEPs take no more memory than one.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct FloodAdjacency {
    /// The outer header up to the UDP length, with lengths, TOS, checksum and source port zero.
    pub(crate) header: [u8; FloodAdjacency::HEADER],
    /// Sum of the 16-bit words of its IPv4 header, folded, in network byte order.
    pub(crate) sum: u16,
    /// Longest inner frame, bytes.
    pub(crate) max_frame: u16,
    /// The underlay device, and how many paths the VTEP has: equal keys are compared at once.
    pub(crate) key: FloodKey,
    /// Where copies for the VTEP are counted, and at which place.
    pub(crate) counters: FloodPage,
    pub(crate) place: u8,
}

const _: () = assert!(size_of::<Option<FloodAdjacency>>() == 64);

impl FloodAdjacency {
    /// Length of the header up to the UDP length, bytes: a number of 64-bit words.
    pub(crate) const HEADER: usize = IP_OFFSET + ipv4::LEN + udp::CHECKSUM;

    /// That of one of `paths` paths to a VTEP, over `device`; `None` when it takes more than a line.
    pub(super) fn new(
        rewrite: &OuterHeader,
        (device, max_frame): (DeviceId, u16),
        FloodRow { page, place }: &FloodRow,
        paths: u16,
    ) -> Option<Self> {
        let header = *rewrite.front();
        let has_df = header[IP_OFFSET + ipv4::FLAGS] & ipv4::DONT_FRAGMENT != 0;
        (usize::from(rewrite.size()) == PLAIN_V4 && has_df).then(|| Self {
            header,
            sum: Sum::new()
                .word(rewrite.sum() as u16)
                .word((rewrite.sum() >> 16) as u16)
                .fold()
                .to_be(),
            max_frame,
            key: FloodKey::new(device, paths),
            counters: page.clone(),
            place: *place,
        })
    }
}

/// An underlay device and a number of paths. Of VTEPs with as many paths, a flow takes the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FloodKey(u32);

impl FloodKey {
    const fn new(device: DeviceId, paths: u16) -> Self {
        Self((paths as u32) << 16 | device.0 as u32)
    }

    const fn paths(self) -> u32 {
        self.0 >> 16
    }

    /// The underlay device.
    pub(crate) const fn device(self) -> DeviceId {
        DeviceId(self.0 as u16)
    }
}

/// The [`FloodAdjacency`] of each path to each VTEP.
#[derive(Debug, Clone, Default)]
pub(crate) struct FloodAdjacencies {
    /// The first path of each VTEP, by its identifier; the second paths, and so on. `None` for a VTEP
    /// with fewer paths, or with one that takes more than a line.
    rows: Vec<Vec<Option<FloodAdjacency>>>,
}

impl FloodAdjacencies {
    /// The path of a flow to a VTEP, as [`super::vtep::RemoteVtep::path`] selects it, and its row: that
    /// of all VTEPs with the same key.
    #[inline]
    pub(crate) fn path(
        &self,
        id: VtepId,
        flow_hash: u32,
    ) -> Option<(&FloodAdjacency, &[Option<FloodAdjacency>])> {
        let paths = self.rows.first()?.get(id.index())?.as_ref()?.key.paths();
        let place = (u64::from(flow_hash) * u64::from(paths)) >> 32;
        let row = self.rows.get(place as usize)?;
        Some((row.get(id.index())?.as_ref()?, row))
    }

    /// Sets all paths of a VTEP, `None` for each that takes more than a line: then none is kept.
    pub(super) fn set(&mut self, id: VtepId, paths: Option<Vec<FloodAdjacency>>) {
        let mut paths = paths.unwrap_or_default().into_iter();
        if self.rows.len() < paths.len() {
            self.rows.resize(paths.len(), Vec::new());
        }
        for row in &mut self.rows {
            set(row, id, paths.next());
        }
    }
}

fn set<T>(row: &mut Vec<Option<T>>, id: VtepId, to: Option<T>) {
    if row.len() <= id.index() && to.is_some() {
        row.resize_with(id.index() + 1, || None);
    }
    if let Some(place) = row.get_mut(id.index()) {
        *place = to;
    }
}

/// A set of VTEPs, one bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VtepSet {
    words: Box<[u64]>,
}

impl VtepSet {
    /// True when `vtep` is in the set.
    #[inline]
    #[must_use]
    pub fn contains(&self, vtep: VtepId) -> bool {
        self.words
            .get(vtep.index() / 64)
            .is_some_and(|word| word >> (vtep.0 % 64) & 1 == 1)
    }
}

impl FromIterator<VtepId> for VtepSet {
    fn from_iter<I: IntoIterator<Item = VtepId>>(vteps: I) -> Self {
        let mut words = Vec::new();
        for vtep in vteps {
            let word = vtep.index() / 64;
            if words.len() <= word {
                words.resize(word + 1, 0u64);
            }
            words[word] |= 1 << (vtep.0 % 64);
        }
        Self {
            words: words.into_boxed_slice(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_sorted_and_unique() {
        let list = FloodList::new([7, 3, 7].map(VtepId), [2, 1].map(PortId));
        assert_eq!(
            (&*list.vteps, &*list.ports),
            (&[3, 7].map(VtepId)[..], &[1, 2].map(PortId)[..])
        );
    }

    #[test]
    fn a_set_contains_what_was_inserted() {
        let set: VtepSet = [0, 63, 64, 1000].map(VtepId).into_iter().collect();
        for id in 0..2000 {
            assert_eq!(
                set.contains(VtepId(id)),
                [0, 63, 64, 1000].contains(&id),
                "{id}"
            );
        }
    }
}
