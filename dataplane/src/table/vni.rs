//! VNIs and their bridge domains.

use std::sync::Arc;

use super::flood::{FloodList, VtepSet};
use super::port::StormLimit;
use crate::addr::{DomainId, Vni, VtepAddr};
use crate::stats::Counters;

/// The bridge domain of one VNI.
#[derive(Debug, Clone)]
pub struct Domain {
    /// Index in the table, and the high bits of MAC table keys.
    pub id: DomainId,
    /// The VNI.
    pub vni: Vni,
    /// Where BUM frames go.
    pub flood: FloodList,
    /// The multicast group of the VNI, if the flood list has one: packets to it may come from VTEPs
    /// that are not known yet (RFC 7348 section 4.2).
    pub group: Option<VtepAddr>,
    /// VTEPs that may send to this VNI: those of the flood list and those with MACs.
    pub sources: VtepSet,
    /// Forward frames with inner 802.1Q tags; false drops them (RFC 7348 section 6.1).
    pub pass_tags: bool,
    /// Answer ARP requests and neighbor solicitations for known hosts (RFC 9161).
    pub suppress: bool,
    /// Report unknown destinations and addresses to the control thread.
    pub miss_events: bool,
    /// Storm control of what the overlay floods to the domain's ports; `None` for no limit.
    pub storm: Option<StormLimit>,
    /// Frames from (rx) and to (tx) the overlay, and drops.
    pub counters: Arc<Counters>,
}

/// All VNIs, by number for packets and by [`DomainId`] for everything else.
#[derive(Debug, Clone)]
pub struct VniTable {
    domains: Vec<Option<Arc<Domain>>>,
    /// Open addressing, 2^bits slots, at most half full: (VNI or 0, domain).
    index: Box<[(u32, DomainId)]>,
    bits: u32,
}

impl Default for VniTable {
    fn default() -> Self {
        Self::new([])
    }
}

/// Fibonacci hashing. The high bits of the product depend on all bits of the VNI, so VNIs that
/// differ in the high bits only are distributed as well as consecutive ones.
#[inline]
const fn slot(vni: u32, bits: u32) -> usize {
    (vni.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize
}

impl VniTable {
    /// A table of these domains. Identifiers and VNIs must be unique: of two with the same one, the
    /// first is kept.
    #[must_use]
    pub fn new(domains: impl IntoIterator<Item = Arc<Domain>>) -> Self {
        let all: Vec<_> = domains.into_iter().collect();
        let size = all.iter().map(|d| d.id.index() + 1).max().unwrap_or(0);
        let bits = (all.len().max(1) * 2).next_power_of_two().ilog2();
        let mut table = Self {
            domains: vec![None; size],
            index: vec![(0, DomainId(0)); 1 << bits].into(),
            bits,
        };
        for domain in all {
            let at = table.slot_of(domain.vni.get());
            let entry = &mut table.domains[domain.id.index()];
            if table.index[at].0 == 0 && entry.is_none() {
                table.index[at] = (domain.vni.get(), domain.id);
                *entry = Some(domain);
            }
        }
        table
    }

    /// The slot of a VNI in the index, or the free slot where it would be.
    #[inline]
    fn slot_of(&self, vni: u32) -> usize {
        let mut at = slot(vni, self.bits);
        while self.index[at].0 != vni && self.index[at].0 != 0 {
            at = (at + 1) & (self.index.len() - 1);
        }
        at
    }

    /// The domain of a VNI as in a packet (24 bits).
    #[inline]
    #[must_use]
    pub fn by_vni(&self, vni: u32) -> Option<&Domain> {
        match self.index[self.slot_of(vni)] {
            (0, _) => None,
            (_, id) => self.domain(id),
        }
    }

    /// The domain, if it exists.
    #[inline]
    #[must_use]
    pub fn domain(&self, id: DomainId) -> Option<&Domain> {
        self.domains.get(id.index())?.as_deref()
    }

    /// Every domain.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Domain>> {
        self.domains.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(id: u16, vni: u32) -> Arc<Domain> {
        Arc::new(Domain {
            id: DomainId(id),
            vni: Vni::new(vni).unwrap(),
            flood: FloodList::default(),
            group: None,
            sources: VtepSet::default(),
            pass_tags: false,
            suppress: false,
            miss_events: false,
            storm: None,
            counters: Arc::new(Counters::new(1)),
        })
    }

    #[test]
    fn finds_each_vni_and_no_other() {
        let table = VniTable::new((0..1000).map(|i| domain(i, 1 + u32::from(i) * 3)));
        for vni in 0..4000 {
            let wanted = (vni % 3 == 1 && vni < 3000).then_some(DomainId((vni / 3) as u16));
            assert_eq!(table.by_vni(vni).map(|d| d.id), wanted, "{vni}");
        }
        assert_eq!(table.iter().count(), 1000);
        assert!(VniTable::default().by_vni(1).is_none());
        assert!(table.by_vni(0xff_ffff).is_none());
    }

    #[test]
    fn of_two_with_one_identifier_or_vni_the_first_is_kept() {
        let table = VniTable::new([domain(0, 10), domain(0, 20), domain(1, 10), domain(2, 30)]);
        let found = |vni| table.by_vni(vni).map(|d| (d.id.0, d.vni.get()));
        assert_eq!(
            [10, 20, 30].map(found),
            [Some((0, 10)), None, Some((2, 30))]
        );
        assert_eq!(table.iter().count(), 2);
    }

    #[test]
    fn vnis_that_differ_in_high_bits_only_are_distributed() {
        for shift in [0, 4, 8, 12, 16] {
            let bits = 9;
            let mut slots: Vec<_> = (1..=255u32).map(|i| slot(i << shift, bits)).collect();
            slots.sort_unstable();
            slots.dedup();
            assert!(
                slots.len() > 120,
                "{} slots for 255 VNIs n << {shift}",
                slots.len()
            );
        }
    }
}
