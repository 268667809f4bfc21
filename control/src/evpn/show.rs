//! What an operator sees: every route with why it is, or is not, in the tables; every MAC with where it is and why.

use std::net::IpAddr;
use std::sync::Arc;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::change::{EntryOrigin, RouteStatus};
use super::inclusive_multicast;
use super::mac_table::flag;
use super::speaker::EvpnSpeaker;
use crate::bgp::wire::{Attributes, EvpnRoute, ExtendedCommunity, Rd};
use crate::rib::{Mobility, NeighborId, PathView, RouteId, RouteKind};

/// One path of a route.
#[derive(Debug, Clone)]
pub struct RouteView {
    /// The route; what is not in its key is of this path.
    pub route: EvpnRoute,
    /// Who sent it; None for a route of ours.
    pub neighbor: Option<NeighborId>,
    /// Its attributes, without what a neighbour's kind adds to ours.
    pub attributes: Arc<Attributes>,
    /// The best path of its route.
    pub best: bool,
    /// Its neighbour is away, or has not announced it again yet.
    pub stale: bool,
    /// Kept beyond the restart time.
    pub long_lived: bool,
    /// Why it is, or is not, in the tables; None for a route of ours.
    pub reason: Option<RouteStatus>,
    /// The VNI that it belongs to, configured or not.
    pub vni: Option<Vni>,
    /// Something odd that an operator may want to know.
    pub note: Option<RouteNote>,
}

/// Something odd about a route that is used nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteNote {
    /// Broadcast goes to the tunnel endpoint, which is not the originator.
    EndpointMismatch,
    /// The next hop has announced no type 3 for the VNI: a reflector may have rewritten it.
    UnknownVtep,
    /// The address of the route is bound by another route, or locally.
    OtherBinding,
}

/// A neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborView {
    /// Its number.
    pub id: NeighborId,
    /// Routes held.
    pub routes: usize,
    /// Announcements ignored because of loops.
    pub looped: u64,
}

/// A VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VniView {
    /// The VNI.
    pub vni: Vni,
    /// Its route distinguisher.
    pub rd: Rd,
    /// Explicit import targets; empty: automatic.
    pub import: Vec<ExtendedCommunity>,
    /// Export targets.
    pub export: Vec<ExtendedCommunity>,
    /// MACs that EVPN has installed.
    pub remote_macs: u32,
    /// MACs of ours.
    pub local_macs: usize,
    /// VTEPs in its flood list.
    pub vteps: usize,
}

/// A MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacView {
    /// The VNI.
    pub vni: Vni,
    /// The host.
    pub mac: HostMac,
    /// Who says where it is.
    pub origin: EntryOrigin,
    /// Where it is; None: here.
    pub vtep: Option<VtepAddr>,
    /// Sticky flag and sequence, of the route or ours.
    pub mobility: Mobility,
    /// It moved too often.
    pub frozen: bool,
}

impl EvpnSpeaker {
    /// All paths of all routes of the neighbours, in no order.
    pub fn routes(&self) -> impl Iterator<Item = RouteView> + '_ {
        self.rib.ids().flat_map(move |id| {
            self.rib
                .views(id)
                .map(move |path| self.route_view(id, path))
        })
    }

    /// Our own routes, in no order.
    pub fn own_routes(&self) -> impl Iterator<Item = RouteView> + '_ {
        self.out.routes().map(|(route, attributes)| {
            let label = match route {
                EvpnRoute::MacIp(r) => r.label,
                _ => attributes.pmsi.as_ref().map_or(0, |pmsi| pmsi.label),
            };
            RouteView {
                route: *route,
                neighbor: None,
                attributes: attributes.clone(),
                best: true,
                stale: false,
                long_lived: false,
                reason: None,
                vni: Vni::new(label).ok(),
                note: None,
            }
        })
    }

    fn route_view(&self, id: RouteId, path: PathView) -> RouteView {
        let route = self.rib.route(id, path.attrs, path.label);
        let attributes = self.rib.attributes().attributes(path.attrs).clone();
        let vni = match &route {
            EvpnRoute::InclusiveMulticast(r) => inclusive_multicast::read(r, &attributes)
                .ok()
                .map(|claim| claim.vni),
            EvpnRoute::MacIp(_) => self.vni_of(id, path.label),
            _ => None,
        };
        let reason = self.reason(id, &path, &route, vni);
        RouteView {
            note: self
                .note(id, &path, &route, vni)
                .filter(|_| reason == RouteStatus::Installed),
            route,
            neighbor: Some(path.from),
            attributes,
            best: path.best,
            stale: path.stale,
            long_lived: path.long_lived,
            reason: Some(reason),
            vni,
        }
    }

    fn reason(
        &self,
        id: RouteId,
        path: &PathView,
        route: &EvpnRoute,
        vni: Option<Vni>,
    ) -> RouteStatus {
        match route {
            EvpnRoute::InclusiveMulticast(r) => match self.flood_target(r, path.attrs) {
                Err(reason) => reason,
                Ok(_) if path.best && self.flood_installed(id) => RouteStatus::Installed,
                Ok(_) => RouteStatus::NotBest,
            },
            EvpnRoute::MacIp(r) => {
                let Ok(mac) = HostMac::new(r.mac) else {
                    return RouteStatus::NotUnicast;
                };
                let Some(vni) = vni else {
                    return RouteStatus::NoVni;
                };
                match self.usable(vni, path.attrs) {
                    Err(reason) => reason,
                    Ok(()) if !path.best => RouteStatus::NotBest,
                    Ok(()) => self.host_reason(vni, mac, path),
                }
            }
            _ => match self.rib.attributes().path_info(path.attrs).ineligible {
                Some(ineligible) => ineligible.into(),
                None => RouteStatus::NoTable,
            },
        }
    }

    fn host_reason(&self, vni: Vni, mac: HostMac, path: &PathView) -> RouteStatus {
        let Some(place) = self.hosts.find(vni, mac) else {
            return RouteStatus::LostMobility;
        };
        let host = self.hosts.get(place);
        let wins = host
            .winner()
            .is_some_and(|winner| self.vtep_of(winner) == self.vtep_of(path.attrs));
        match () {
            () if host.has(flag::LOCAL) => RouteStatus::LocalWins,
            () if host.has(flag::STATIC) => RouteStatus::StaticWins,
            () if wins => RouteStatus::Installed,
            () if host.has(flag::LIMITED) => RouteStatus::Limit,
            () if host.has(flag::FROZEN) => RouteStatus::Frozen,
            () => RouteStatus::LostMobility,
        }
    }

    fn note(
        &self,
        id: RouteId,
        path: &PathView,
        route: &EvpnRoute,
        vni: Option<Vni>,
    ) -> Option<RouteNote> {
        match route {
            EvpnRoute::InclusiveMulticast(r) => {
                let claim =
                    inclusive_multicast::read(r, self.rib.attributes().attributes(path.attrs))
                        .ok()?;
                (claim.endpoint != r.originator).then_some(RouteNote::EndpointMismatch)
            }
            EvpnRoute::MacIp(_) if !self.floods.has_route(vni?, self.vtep_of(path.attrs)?) => {
                Some(RouteNote::UnknownVtep)
            }
            EvpnRoute::MacIp(r) if r.ip.is_some() && !self.binding_told(id) => {
                Some(RouteNote::OtherBinding)
            }
            _ => None,
        }
    }

    /// What is held of a neighbour.
    #[must_use]
    pub fn neighbor(&self, id: NeighborId) -> NeighborView {
        NeighborView {
            id,
            routes: self.rib.path_count(id),
            looped: self.rib.looped_count(id),
        }
    }

    /// All VNIs, in order.
    pub fn vni_views(&self) -> impl Iterator<Item = VniView> + '_ {
        self.mac_vrfs.iter().map(|(vni, state)| VniView {
            vni: *vni,
            rd: state.rd,
            import: state.config.import.clone(),
            export: super::targets::exports(&state.config, self.config.local_as),
            remote_macs: state.macs,
            local_macs: self.locals.keys().filter(|(of, _)| of == vni).count(),
            vteps: self.floods.list(*vni).count(),
        })
    }

    /// The flood list of a VNI, in order: VTEPs, how many routes put each there, whether static configuration does.
    pub fn flood_list(&self, vni: Vni) -> impl Iterator<Item = (VtepAddr, u32, bool)> + '_ {
        self.floods.list(vni)
    }

    /// MACs of a VNI with where they are, in no order: ours, static ones, and those of routes.
    pub fn macs(&self, vni: Vni) -> impl Iterator<Item = MacView> + '_ {
        let ours = self
            .locals
            .iter()
            .filter(move |((of, _), _)| *of == vni)
            .map(|((vni, mac), state)| {
                self.mac_view(*vni, *mac, EntryOrigin::Local, None, state.mobility())
            });
        let fixed = self
            .static_macs
            .iter()
            .filter(move |(at, _)| at.0 == vni && !self.locals.contains_key(*at));
        let fixed = fixed.map(|((vni, mac), vtep)| {
            self.mac_view(
                *vni,
                *mac,
                EntryOrigin::Static,
                Some(*vtep),
                Mobility::default(),
            )
        });
        let remote = self.hosts.places().into_iter().filter_map(move |place| {
            let host = self.hosts.get(place);
            let winner = host
                .winner()
                .filter(|_| host.vni == vni && !host.has(flag::LOCAL | flag::STATIC))?;
            let mobility = self.rib.attributes().path_info(winner).mobility;
            Some(self.mac_view(
                vni,
                host.mac(),
                EntryOrigin::Evpn,
                self.vtep_of(winner),
                mobility,
            ))
        });
        ours.chain(fixed).chain(remote)
    }

    /// One MAC, if anybody says where it is.
    #[must_use]
    pub fn mac(&self, vni: Vni, mac: HostMac) -> Option<MacView> {
        if let Some(state) = self.locals.get(&(vni, mac)) {
            return Some(self.mac_view(vni, mac, EntryOrigin::Local, None, state.mobility()));
        }
        if let Some(vtep) = self.static_macs.get(&(vni, mac)) {
            return Some(self.mac_view(
                vni,
                mac,
                EntryOrigin::Static,
                Some(*vtep),
                Mobility::default(),
            ));
        }
        let winner = self.hosts.get(self.hosts.find(vni, mac)?).winner()?;
        let mobility = self.rib.attributes().path_info(winner).mobility;
        Some(self.mac_view(vni, mac, EntryOrigin::Evpn, self.vtep_of(winner), mobility))
    }

    fn mac_view(
        &self,
        vni: Vni,
        mac: HostMac,
        origin: EntryOrigin,
        vtep: Option<VtepAddr>,
        mobility: Mobility,
    ) -> MacView {
        let frozen = self.duplicates.is_frozen((vni, mac));
        MacView {
            vni,
            mac,
            origin,
            vtep,
            mobility,
            frozen,
        }
    }

    /// Who has an address, and who says so.
    #[must_use]
    pub fn address(&self, vni: Vni, ip: IpAddr) -> Option<(HostMac, EntryOrigin)> {
        let at = (vni, ip);
        let local = self
            .local_addresses
            .get(&at)
            .map(|mac| (*mac, EntryOrigin::Local));
        let fixed = || {
            self.static_addresses
                .get(&at)
                .map(|(mac, _)| (*mac, EntryOrigin::Static))
        };
        let evpn = || {
            self.evpn_binding(vni, ip)
                .map(|(mac, _)| (mac, EntryOrigin::Evpn))
        };
        local.or_else(fixed).or_else(evpn)
    }

    /// How many routes are held.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.rib.len()
    }

    /// How many routes are held, of which attribute sets: `(routes, type 2 routes, attribute sets)`.
    #[must_use]
    pub fn totals(&self) -> (usize, usize, usize) {
        let hosts = self
            .rib
            .ids()
            .filter(|id| self.rib.kind(*id) != RouteKind::Other)
            .count();
        (self.rib.len(), hosts, self.rib.attributes().count())
    }
}
