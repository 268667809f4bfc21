//! Type 3 routes -> flood lists. Who floods where has several sources: routes of several distinguishers, and static
//! configuration; a VTEP is in a list as long as one of them stands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hashbrown::HashMap;
use vtep_dataplane::addr::{Vni, VtepAddr};

use super::change::{EvpnEvent, RouteStatus, TableChange};
use super::speaker::EvpnSpeaker;
use crate::bgp::wire::{Attributes, EvpnRoute, InclusiveMulticast, PmsiTunnel};
use crate::rib::{AttrId, BestPathChange, RouteId, RouteKind};

/// Why a VTEP is in a flood list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sources {
    routes: u32,
    fixed: bool,
}

/// All flood lists.
#[derive(Debug, Default)]
pub(super) struct InclusiveMulticasts {
    /// What each route has put there.
    installed: HashMap<RouteId, (Vni, VtepAddr)>,
    sources: BTreeMap<(Vni, VtepAddr), Sources>,
}

impl InclusiveMulticasts {
    /// Changes the sources of a membership; what the table has to be told.
    fn change(
        &mut self,
        at: (Vni, VtepAddr),
        edit: impl FnOnce(&mut Sources),
    ) -> Option<TableChange> {
        let sources = self.sources.entry(at).or_default();
        let before = *sources != Sources::default();
        edit(sources);
        let after = *sources != Sources::default();
        if !after {
            self.sources.remove(&at);
        }
        match (before, after) {
            (false, true) => Some(TableChange::FloodAdd(at.0, at.1)),
            (true, false) => Some(TableChange::FloodDel(at.0, at.1)),
            _ => None,
        }
    }

    /// True if a route has put the VTEP into the list of the VNI.
    pub(super) fn has_route(&self, vni: Vni, vtep: VtepAddr) -> bool {
        self.sources.get(&(vni, vtep)).is_some_and(|s| s.routes > 0)
    }

    /// The flood list of a VNI: VTEPs with the number of routes, and whether static configuration has them too.
    pub(super) fn list(&self, vni: Vni) -> impl Iterator<Item = (VtepAddr, u32, bool)> + '_ {
        let all = self.sources.iter().filter(move |((of, _), _)| *of == vni);
        all.map(|((_, vtep), sources)| (*vtep, sources.routes, sources.fixed))
    }
}

/// What a type 3 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FloodClaim {
    pub(super) vni: Vni,
    /// Where copies go.
    pub(super) endpoint: IpAddr,
}

/// Reads a type 3: copies go to the tunnel endpoint, or to the originator if the tunnel names none. The VNI is the
/// label of the tunnel, or the tag.
pub(super) fn read(
    route: &InclusiveMulticast,
    attributes: &Attributes,
) -> Result<FloodClaim, RouteStatus> {
    let (label, endpoint) = match &attributes.pmsi {
        None => (0, route.originator),
        Some(pmsi) => match &pmsi.tunnel {
            PmsiTunnel::IngressReplication(address) => {
                (pmsi.label, address.unwrap_or(route.originator))
            }
            PmsiTunnel::Other(..) => return Err(RouteStatus::Tunnel),
        },
    };
    let vni =
        Vni::new(if label == 0 { route.tag } else { label }).map_err(|_| RouteStatus::NoVni)?;
    Ok(FloodClaim { vni, endpoint })
}

impl EvpnSpeaker {
    /// What a type 3 with these attributes adds to which flood list.
    pub(super) fn flood_target(
        &self,
        route: &InclusiveMulticast,
        attrs: AttrId,
    ) -> Result<(FloodClaim, VtepAddr), RouteStatus> {
        let attributes = self.rib.attributes().attributes(attrs);
        let claim = read(route, attributes)?;
        let vtep = VtepAddr::new(claim.endpoint).map_err(|_| RouteStatus::Martian)?;
        self.usable(claim.vni, attrs)?;
        if vtep == self.config.vtep || self.config.own.contains(&vtep) {
            return Err(RouteStatus::OwnNextHop);
        }
        Ok((claim, vtep))
    }

    /// The best path of a route that is no type 2 changed.
    pub(super) fn flood_changed(&mut self, change: BestPathChange) {
        let EvpnRoute::InclusiveMulticast(route) = self.rib.key(change.id) else {
            return;
        };
        let target = change
            .new
            .and_then(|new| self.flood_target(&route, new.attrs).ok());
        self.put_flood(change.id, route.originator, target);
    }

    fn put_flood(
        &mut self,
        id: RouteId,
        originator: IpAddr,
        target: Option<(FloodClaim, VtepAddr)>,
    ) {
        let new = target.map(|(claim, vtep)| (claim.vni, vtep));
        let old = match new {
            Some(new) => self.floods.installed.insert(id, new),
            None => self.floods.installed.remove(&id),
        };
        if old == new {
            return;
        }
        // First the new member: a VTEP that only changes its route never leaves the list.
        if let Some(new) = new {
            self.changes
                .extend(self.floods.change(new, |s| s.routes += 1));
        }
        if let Some(old) = old {
            self.changes
                .extend(self.floods.change(old, |s| s.routes -= 1));
        }
        if let Some((FloodClaim { vni, endpoint }, _)) = target
            && endpoint != originator
        {
            self.events.push(EvpnEvent::EndpointMismatch {
                vni,
                endpoint,
                originator,
            });
        }
    }

    /// Looks again at the type 3 routes of these VNIs.
    pub(super) fn reconsider_floods(&mut self, vnis: &BTreeSet<Vni>) {
        let rare = |id: &RouteId| self.rib.kind(*id) == RouteKind::Other;
        for id in self.rib.ids().filter(rare).collect::<Vec<_>>() {
            let (EvpnRoute::InclusiveMulticast(route), Some(best)) =
                (self.rib.key(id), self.rib.best(id))
            else {
                continue;
            };
            let attributes = self.rib.attributes().attributes(best.attrs);
            if read(&route, attributes).is_ok_and(|claim| vnis.contains(&claim.vni)) {
                let target = self.flood_target(&route, best.attrs).ok();
                self.put_flood(id, route.originator, target);
            }
        }
    }

    /// Static configuration puts a VTEP into the flood list of a VNI.
    pub fn static_flood_add(&mut self, vni: Vni, vtep: VtepAddr) {
        self.changes
            .extend(self.floods.change((vni, vtep), |s| s.fixed = true));
    }

    /// Static configuration takes it out.
    pub fn static_flood_del(&mut self, vni: Vni, vtep: VtepAddr) {
        self.changes
            .extend(self.floods.change((vni, vtep), |s| s.fixed = false));
    }

    /// True if a route has put this VTEP there.
    pub(super) fn flood_installed(&self, id: RouteId) -> bool {
        self.floods.installed.contains_key(&id)
    }
}
