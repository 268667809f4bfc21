//! Ethernet segments of other VTEPs: type 1 routes -> the VTEPs that the MACs behind a segment are
//! reachable through (RFC 7432 sections 8.2, 8.4, 9.2.2 and 14.1.1).
//!
//! ```text
//! type 1 per ES  (tag 0xffffffff) --+-> members of (VNI, segment, announcing VTEP) -> SegmentSet
//! type 1 per EVI (any other tag)  --+
//! type 2 with an ESI --------------> refers to that group
//! ```
//!
//! A MAC with an ESI always refers to a group. A VTEP that withdraws its route per ES is thereby
//! removed from all MACs in one step, however many there are.

use std::collections::BTreeSet;

use vtep_dataplane::addr::{Vni, VtepAddr};

use super::change::{SegmentKey, TableChange};
use super::segment::{Segment, SegmentMember, SegmentState, SegmentUse, SegmentView};
use super::shared::SharedState;
use super::status::RouteStatus;
use crate::bgp::wire::{Esi, EthernetAd};
use crate::rib::{AttrId, BestPathChange, RouteId};

/// The Ethernet tag of a route per Ethernet segment: MAX-ET (RFC 7432 section 8.2.1).
const MAX_ET: u32 = u32::MAX;

/// True for a route per Ethernet segment. FRR takes any tag but zero for one; the routes of VLAN
/// bundles and of Juniper have tags per EVI that are neither.
pub(super) const fn is_per_es(route: &EthernetAd) -> bool {
    route.tag == MAX_ET
}

/// The VNI of a route per EVI: its label, or its Ethernet tag if the label is zero.
pub(super) fn vni_of(route: &EthernetAd, label: u32) -> Option<Vni> {
    Vni::new(if label == 0 { route.tag } else { label }).ok()
}

impl SharedState {
    /// The segment of a route with these attributes, and its VTEP; `None` for a single-homed host.
    pub(super) fn segment_of(&self, attrs: AttrId) -> Option<SegmentKey> {
        let esi = self.rib.attributes().non_key(attrs).esi;
        let vtep = self.vtep_of(attrs).filter(|_| esi.is_segment())?;
        Some(SegmentKey { esi, vtep })
    }

    /// The best path of a type 1 route changed.
    pub(super) fn segment_route_changed(&mut self, route: &EthernetAd, change: BestPathChange) {
        if !route.esi.is_segment() {
            return;
        }
        let segment = self.segments.segments.entry(route.esi).or_default();
        if is_per_es(route) {
            match change.new {
                Some(_) => segment.per_es.insert(change.id),
                None => segment.per_es.remove(&change.id),
            };
            self.segments.changed.insert((route.esi, None));
            return;
        }
        let new = change.new.and_then(|path| vni_of(route, path.label));
        let old = match new {
            Some(vni) => segment.vni_of.insert(change.id, vni),
            None => segment.vni_of.remove(&change.id),
        };
        if let Some(vni) = old {
            segment.per_evi.remove(&(vni, change.id));
        }
        segment.per_evi.extend(new.map(|vni| (vni, change.id)));
        let both = old.into_iter().chain(new);
        let changed = both.map(|vni| (route.esi, Some(vni)));
        self.segments.changed.extend(changed);
    }

    /// The VTEPs with a usable route among these, and whether one asks for single-active.
    fn announcers<'a>(
        &self,
        vni: Vni,
        routes: impl Iterator<Item = &'a RouteId>,
    ) -> (BTreeSet<VtepAddr>, bool) {
        let (mut vteps, mut single_active) = (BTreeSet::new(), false);
        for path in routes.filter_map(|id| self.rib.best(*id)) {
            if self.usable(vni, path.attrs).is_err() {
                continue;
            }
            vteps.extend(self.vtep_of(path.attrs));
            let attributes = self.rib.attributes().attributes(path.attrs);
            let flags = attributes.extended.iter().filter_map(|c| c.as_esi_label());
            single_active |= flags.into_iter().any(|flag| flag);
        }
        (vteps, single_active)
    }

    /// The VTEPs with routes per ES and per EVI, and the single-active flag.
    fn segment_state(&self, vni: Vni, segment: &Segment) -> SegmentState {
        let (per_es, single_active) = self.announcers(vni, segment.per_es.iter());
        let of_vni = (vni, RouteId(0))..=(vni, RouteId(u32::MAX));
        let routes = segment.per_evi.range(of_vni).map(|(_, id)| id);
        let (per_evi, _) = self.announcers(vni, routes);
        SegmentState {
            is_announced: segment.announced.contains(&vni) || !per_es.is_empty(),
            per_es,
            per_evi,
            single_active,
        }
    }

    /// The VTEPs that the host of a route is reachable through, if it is behind a segment.
    pub(super) fn segment_members(&self, vni: Vni, attrs: AttrId) -> Option<Vec<VtepAddr>> {
        let SegmentKey { esi, vtep } = self.segment_of(attrs)?;
        let Some(segment) = self.segments.segments.get(&esi) else {
            return Some(vec![vtep]);
        };
        Some(match segment.uses.get(&(vni, vtep)) {
            Some(known) => known.members.clone(),
            None => self.segment_state(vni, segment).members(vtep),
        })
    }

    /// A MAC is behind the segment of a route from now on.
    pub(super) fn segment_retain(&mut self, vni: Vni, attrs: AttrId) {
        let Some(key) = self.segment_of(attrs) else {
            return;
        };
        let segment = self.segments.segments.entry(key.esi).or_default();
        if let Some(known) = segment.uses.get_mut(&(vni, key.vtep)) {
            known.macs += 1;
            return;
        }
        let state = match self.segments.segments.get(&key.esi) {
            Some(segment) => self.segment_state(vni, segment),
            None => return,
        };
        let members = state.members(key.vtep);
        self.changes.push(TableChange::SegmentSet {
            vni,
            segment: key,
            members: members.clone(),
        });
        if let Some(segment) = self.segments.segments.get_mut(&key.esi) {
            segment.announced.extend(state.is_announced.then_some(vni));
            let first = SegmentUse { macs: 1, members };
            segment.uses.insert((vni, key.vtep), first);
        }
    }

    /// A MAC is no longer behind the segment of a route.
    pub(super) fn segment_release(&mut self, vni: Vni, attrs: AttrId) {
        let Some(key) = self.segment_of(attrs) else {
            return;
        };
        let segment = self.segments.segments.get_mut(&key.esi);
        let known = segment.and_then(|segment| segment.uses.get_mut(&(vni, key.vtep)));
        if let Some(known) = known {
            known.macs -= 1;
            if known.macs == 0 {
                self.segments.released.insert((vni, key));
            }
        }
    }

    /// The configuration of these VNIs changed.
    pub(super) fn reevaluate_segments(&mut self, vnis: &BTreeSet<Vni>) {
        for (esi, segment) in &self.segments.segments {
            let used = vnis.iter().filter(|vni| segment.uses.has(**vni));
            let changed = used.map(|vni| (*esi, Some(*vni)));
            self.segments.changed.extend(changed);
        }
    }

    /// Publishes what has changed since the last call: the members of groups, and groups without
    /// MACs. True if hosts behind a segment may have become reachable or unreachable: also those of
    /// routes that were not selected, whose groups are not known.
    pub(super) fn publish_segments(&mut self) -> bool {
        let changed = std::mem::take(&mut self.segments.changed);
        for (esi, vni) in &changed {
            self.publish_segment(*esi, *vni);
        }
        for (vni, key) in std::mem::take(&mut self.segments.released) {
            let Some(segment) = self.segments.segments.get_mut(&key.esi) else {
                continue;
            };
            let at = (vni, key.vtep);
            if segment.uses.get(&at).is_some_and(|known| known.macs == 0) {
                segment.uses.remove(&at);
                self.changes.push(TableChange::SegmentDel(vni, key));
            }
            if segment.is_unused() {
                self.segments.segments.remove(&key.esi);
            }
        }
        !changed.is_empty()
    }

    /// Determines the members of a segment's groups again, in one VNI or in all.
    fn publish_segment(&mut self, esi: Esi, only: Option<Vni>) {
        let Some(segment) = self.segments.segments.get(&esi) else {
            return;
        };
        let mut found: Vec<((Vni, VtepAddr), Vec<VtepAddr>)> = Vec::new();
        let mut announced = BTreeSet::new();
        let vnis = segment.uses.vnis().filter(|_| only.is_none());
        for vni in vnis.chain(only) {
            if !segment.uses.has(vni) {
                continue;
            }
            let state = self.segment_state(vni, segment);
            announced.extend(state.is_announced.then_some(vni));
            let of_vni = segment.uses.of(vni);
            found.extend(of_vni.map(|(vtep, _)| ((vni, *vtep), state.members(*vtep))));
        }
        let Some(segment) = self.segments.segments.get_mut(&esi) else {
            return;
        };
        segment.announced.append(&mut announced);
        for ((vni, vtep), members) in found {
            let Some(known) = segment.uses.get_mut(&(vni, vtep)) else {
                continue;
            };
            if known.members != members {
                known.members.clone_from(&members);
                self.changes.push(TableChange::SegmentSet {
                    vni,
                    segment: SegmentKey { esi, vtep },
                    members,
                });
            }
        }
        if segment.is_unused() {
            self.segments.segments.remove(&esi);
        }
    }

    /// The segments from `from` on, in each VNI that has MACs behind them or that a route per EVI
    /// names, in order.
    pub(super) fn segment_views(&self, from: Esi) -> impl Iterator<Item = SegmentView> + '_ {
        self.segments
            .segments
            .range(from..)
            .flat_map(move |(esi, segment)| {
                let used = segment.uses.vnis();
                let named = segment.per_evi.iter().map(|(vni, _)| *vni);
                let vnis: BTreeSet<_> = used.chain(named).collect();
                vnis.into_iter()
                    .map(move |vni| self.segment_view(*esi, vni, segment))
            })
    }

    fn segment_view(&self, esi: Esi, vni: Vni, segment: &Segment) -> SegmentView {
        let state = self.segment_state(vni, segment);
        let of_vni = || segment.uses.of(vni);
        let mut vteps = state.per_es.clone();
        vteps.extend(&state.per_evi);
        vteps.extend(of_vni().map(|(vtep, _)| *vtep));
        let used: BTreeSet<_> = of_vni().flat_map(|(_, known)| &known.members).collect();
        let member = |vtep: VtepAddr| SegmentMember {
            vtep,
            per_es: state.per_es.contains(&vtep),
            per_evi: state.per_evi.contains(&vtep),
            single_active: state.single_active,
            macs: segment.uses.get(&(vni, vtep)).map_or(0, |known| known.macs),
            used: used.contains(&vtep),
        };
        let members = vteps.into_iter().map(member).collect();
        SegmentView { esi, vni, members }
    }
}

/// Whether a type 1 route is used: it names a segment, and a VNI imports it.
///
/// # Errors
/// Why not.
pub(super) fn status(
    shared: &SharedState,
    route: &EthernetAd,
    attrs: AttrId,
    label: u32,
) -> Result<(), RouteStatus> {
    if let Some(why) = shared.rib.attributes().path_info(attrs).ineligible {
        return Err(RouteStatus::Ineligible(why));
    }
    if !route.esi.is_segment() {
        return Err(RouteStatus::NoSegment);
    }
    if !is_per_es(route) {
        let vni = vni_of(route, label).ok_or(RouteStatus::NoVni)?;
        return shared.usable(vni, attrs);
    }
    let mut vnis = shared.vrfs.iter().map(|(vni, _)| vni);
    let imports = vnis.any(|vni| shared.usable(vni, attrs).is_ok());
    if imports {
        Ok(())
    } else {
        Err(RouteStatus::NoTarget)
    }
}
