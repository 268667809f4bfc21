//! Type 3 routes -> flood lists (RFC 7432 section 11, RFC 8365 section 9). A VTEP is in the flood
//! list of a VNI as long as one route of any distinguisher, or static configuration, puts it there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vtep_dataplane::addr::{Vni, VtepAddr};

use super::change::TableChange;
use super::event::EvpnEvent;
use super::shared::SharedState;
use super::status::RouteStatus;
use super::vni_map::VniMap;
use crate::bgp::wire::{Attributes, EvpnRoute, InclusiveMulticast, PmsiTunnel};
use crate::rib::{AttrId, BestPathChange, Ineligible, RouteId};

/// What puts a VTEP into a flood list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct FloodSources {
    routes: u32,
    is_static: bool,
}

/// What a type 3 route requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FloodRequest {
    pub(super) vni: Vni,
    /// Where frames are replicated to.
    pub(super) endpoint: IpAddr,
    /// The tunnel names it.
    named: bool,
}

impl FloodRequest {
    /// True if the tunnel names another address than the originator of the route.
    pub(super) fn is_mismatch(&self, originator: IpAddr) -> bool {
        self.named && is_specified(&originator) && self.endpoint != originator
    }
}

fn is_specified(address: &IpAddr) -> bool {
    !address.to_canonical().is_unspecified()
}

/// Reads a type 3 route: frames go to the tunnel endpoint, or to the next hop if the tunnel names
/// none, as those of type 2 routes do: the originator may be a router's address. The VNI is the label of the tunnel, or the
/// Ethernet tag.
///
/// # Errors
/// [`RouteStatus::Tunnel`], [`RouteStatus::NoVni`].
pub(super) fn parse(
    route: &InclusiveMulticast,
    attributes: &Attributes,
) -> Result<FloodRequest, RouteStatus> {
    let (label, named) = match &attributes.pmsi {
        None => (0, None),
        Some(pmsi) => match &pmsi.tunnel {
            PmsiTunnel::IngressReplication(address) => (pmsi.label, *address),
            PmsiTunnel::Other(..) => return Err(RouteStatus::Tunnel),
        },
    };
    let named = named.filter(is_specified);
    let number = if label == 0 { route.tag } else { label };
    let vni = Vni::new(number).map_err(|_| RouteStatus::NoVni)?;
    Ok(FloodRequest {
        vni,
        endpoint: named.unwrap_or(attributes.next_hop),
        named: named.is_some(),
    })
}

/// The flood list entry that a type 3 route with these attributes contributes.
///
/// # Errors
/// Why it contributes none.
pub(super) fn flood_entry(
    shared: &SharedState,
    route: &InclusiveMulticast,
    attrs: AttrId,
) -> Result<(FloodRequest, VtepAddr), RouteStatus> {
    let request = parse(route, shared.rib.attributes().attributes(attrs))?;
    let vtep = VtepAddr::new(request.endpoint).map_err(|_| RouteStatus::Endpoint)?;
    shared.usable(request.vni, attrs)?;
    if vtep == shared.config.vtep || shared.config.own.contains(&vtep) {
        return Err(RouteStatus::Ineligible(Ineligible::OwnNextHop));
    }
    Ok((request, vtep))
}

/// The flood lists of all VNIs.
#[derive(Debug, Default)]
pub(super) struct FloodLists {
    /// The entry that each route contributes.
    installed: BTreeMap<RouteId, (Vni, VtepAddr)>,
    sources: VniMap<VtepAddr, FloodSources>,
    /// The type 3 routes that name each VNI, whether they contribute an entry or not.
    routes: VniMap<RouteId, ()>,
    /// The VNI that each of them names.
    named: BTreeMap<RouteId, Vni>,
}

impl FloodLists {
    /// The best path of a type 3 route changed.
    pub(super) fn route_changed(
        &mut self,
        shared: &mut SharedState,
        route: &InclusiveMulticast,
        change: BestPathChange,
    ) {
        let named = change.new.and_then(|new| {
            let attributes = shared.rib.attributes().attributes(new.attrs);
            parse(route, attributes).ok().map(|request| request.vni)
        });
        self.set_named(change.id, named);
        let entry = change
            .new
            .and_then(|new| flood_entry(shared, route, new.attrs).ok());
        self.set_entry(shared, change.id, route.originator, entry);
    }

    /// Records the VNI that a route names.
    fn set_named(&mut self, id: RouteId, vni: Option<Vni>) {
        let old = match vni {
            Some(vni) => self.named.insert(id, vni),
            None => self.named.remove(&id),
        };
        if old != vni {
            if let Some(old) = old {
                self.routes.remove(&(old, id));
            }
            if let Some(new) = vni {
                self.routes.insert((new, id), ());
            }
        }
    }

    fn set_entry(
        &mut self,
        shared: &mut SharedState,
        id: RouteId,
        originator: IpAddr,
        entry: Option<(FloodRequest, VtepAddr)>,
    ) {
        let new = entry.map(|(request, vtep)| (request.vni, vtep));
        let old = match new {
            Some(new) => self.installed.insert(id, new),
            None => self.installed.remove(&id),
        };
        if old == new {
            return;
        }
        // The new entry first: a VTEP that only changes its route never leaves the list.
        if let Some(new) = new {
            let change = self.change_sources(new, |s| s.routes += 1);
            shared.changes.extend(change);
        }
        if let Some(old) = old {
            let change = self.change_sources(old, |s| s.routes -= 1);
            shared.changes.extend(change);
        }
        if let Some((request, _)) = entry
            && request.is_mismatch(originator)
        {
            shared.events.push(EvpnEvent::EndpointMismatch {
                vni: request.vni,
                endpoint: request.endpoint,
                originator,
            });
        }
    }

    /// Changes the sources of a list entry. Returns the table change that follows.
    fn change_sources(
        &mut self,
        at: (Vni, VtepAddr),
        edit: impl FnOnce(&mut FloodSources),
    ) -> Option<TableChange> {
        let mut sources = self.sources.get(&at).copied().unwrap_or_default();
        let before = sources != FloodSources::default();
        edit(&mut sources);
        let after = sources != FloodSources::default();
        if after {
            self.sources.insert(at, sources);
        } else {
            self.sources.remove(&at);
        }
        match (before, after) {
            (false, true) => Some(TableChange::FloodAdd(at.0, at.1)),
            (true, false) => Some(TableChange::FloodDel(at.0, at.1)),
            _ => None,
        }
    }

    /// Evaluates the type 3 routes of a VNI again, whose configuration changed.
    pub(super) fn reevaluate(&mut self, shared: &mut SharedState, vni: Vni) {
        for id in self.routes.keys_of(vni) {
            let (EvpnRoute::InclusiveMulticast(route), Some(best)) =
                (shared.rib.key(id), shared.rib.best(id))
            else {
                continue;
            };
            let entry = flood_entry(shared, &route, best.attrs).ok();
            self.set_entry(shared, id, route.originator, entry);
        }
    }

    /// Adds a VTEP, or a multicast group, to a flood list by static configuration.
    pub(super) fn add_static(&mut self, shared: &mut SharedState, vni: Vni, vtep: VtepAddr) {
        let change = self.change_sources((vni, vtep), |s| s.is_static = true);
        shared.changes.extend(change);
    }

    /// Removes what [`Self::add_static`] added.
    pub(super) fn remove_static(&mut self, shared: &mut SharedState, vni: Vni, vtep: VtepAddr) {
        let change = self.change_sources((vni, vtep), |s| s.is_static = false);
        shared.changes.extend(change);
    }

    /// True if a route contributes an entry.
    pub(super) fn is_installed(&self, id: RouteId) -> bool {
        self.installed.contains_key(&id)
    }

    /// True if a route has put the VTEP into the flood list of the VNI.
    pub(super) fn has_route(&self, vni: Vni, vtep: VtepAddr) -> bool {
        self.sources.get(&(vni, vtep)).is_some_and(|s| s.routes > 0)
    }

    /// The flood list of a VNI in order: VTEPs with the number of their routes, and whether static
    /// configuration has them too.
    pub(super) fn list(&self, vni: Vni) -> impl Iterator<Item = (VtepAddr, u32, bool)> + '_ {
        let all = self.sources.of(vni);
        all.map(|(vtep, sources)| (*vtep, sources.routes, sources.is_static))
    }
}
