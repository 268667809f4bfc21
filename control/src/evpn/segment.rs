//! What is known of the Ethernet segments of other VTEPs, and what follows for one VNI.

use std::collections::{BTreeMap, BTreeSet};

use vtep_dataplane::addr::{Vni, VtepAddr};

use super::change::SegmentKey;
use super::vni_map::VniMap;
use crate::bgp::wire::Esi;
use crate::rib::RouteId;

/// The MACs of one VNI that one VTEP announces with the segment.
#[derive(Debug, Default)]
pub(super) struct SegmentUse {
    /// MACs whose selected route is one of them.
    pub(super) macs: u32,
    /// As last published.
    pub(super) members: Vec<VtepAddr>,
}

/// What is known of one segment.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) per_es: BTreeSet<RouteId>,
    pub(super) per_evi: BTreeSet<(Vni, RouteId)>,
    /// The VNI of each route per EVI.
    pub(super) vni_of: BTreeMap<RouteId, Vni>,
    /// VNIs for which a VTEP has announced a route per ES. Before that, a MAC is reachable through
    /// the VTEP that announces it: that one does not announce segments, or is about to.
    pub(super) announced: BTreeSet<Vni>,
    pub(super) uses: VniMap<VtepAddr, SegmentUse>,
}

impl Segment {
    pub(super) fn is_unused(&self) -> bool {
        self.per_es.is_empty() && self.vni_of.is_empty() && self.uses.is_empty()
    }
}

/// All segments.
#[derive(Debug, Default)]
pub(super) struct EthernetSegments {
    pub(super) segments: BTreeMap<Esi, Segment>,
    /// Segments whose members have to be determined again, in one VNI or in all.
    pub(super) changed: BTreeSet<(Esi, Option<Vni>)>,
    /// Groups that may have no MACs any more.
    pub(super) released: BTreeSet<(Vni, SegmentKey)>,
}

/// A VTEP that announces a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentMember {
    /// The VTEP.
    pub vtep: VtepAddr,
    /// It has announced the route per ES.
    pub per_es: bool,
    /// It has announced the route per EVI.
    pub per_evi: bool,
    /// Only one VTEP of the segment forwards for each VNI (RFC 7432 section 14.1.1).
    pub single_active: bool,
    /// MACs that are behind the segment by a route of this VTEP.
    pub macs: u32,
    /// Frames to MACs of this segment may be sent to it.
    pub used: bool,
}

/// A segment in a VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentView {
    /// The segment.
    pub esi: Esi,
    /// The VNI.
    pub vni: Vni,
    /// The VTEPs that announce it or a MAC behind it, in order.
    pub members: Vec<SegmentMember>,
}

/// What the type 1 routes of a segment say about one VNI.
#[derive(Debug)]
pub(super) struct SegmentState {
    pub(super) per_es: BTreeSet<VtepAddr>,
    pub(super) per_evi: BTreeSet<VtepAddr>,
    pub(super) single_active: bool,
    pub(super) is_announced: bool,
}

impl SegmentState {
    /// The VTEPs that a MAC is reachable through that `vtep` announces with the segment, in order.
    pub(super) fn members(&self, vtep: VtepAddr) -> Vec<VtepAddr> {
        if !self.is_announced {
            return vec![vtep];
        }
        let both = self.per_es.intersection(&self.per_evi).copied();
        let own = self.per_es.contains(&vtep).then_some(vtep);
        if !self.single_active {
            // The MAC route takes the place of the route per EVI for its own VTEP.
            let all: BTreeSet<_> = both.chain(own).collect();
            return all.into_iter().collect();
        }
        match own {
            Some(own) => vec![own],
            // The backup takes over where there is exactly one (RFC 7432 section 14.1.1).
            None => {
                let others: Vec<_> = both.collect();
                if others.len() == 1 {
                    others
                } else {
                    Vec::new()
                }
            }
        }
    }
}
