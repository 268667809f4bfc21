//! What `show` reads of the MAC table.

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::EvpnMacTable;
use super::selection::candidate;
use super::store::flag;
use crate::bgp::wire::Esi;
use crate::evpn::change::EntryOrigin;
use crate::evpn::shared::SharedState;
use crate::evpn::status::RouteStatus;
use crate::rib::{DecisionStep, Mobility, PathView, RouteId};

/// A MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacView {
    /// The VNI.
    pub vni: Vni,
    /// The MAC.
    pub mac: HostMac,
    /// Where the entry comes from.
    pub origin: EntryOrigin,
    /// The VTEP that it is behind; `None`: it is local.
    pub vtep: Option<VtepAddr>,
    /// Sticky flag and sequence, of the selected route or of the local MAC.
    pub mobility: Mobility,
    /// Duplicate detection has frozen it.
    pub frozen: bool,
    /// The Ethernet segment that it is on, if it is on one: it is reachable through the VTEPs of
    /// [`EvpnMacTable::segment_members`].
    pub esi: Option<Esi>,
}

impl EvpnMacTable {
    /// The MACs of a VNI in no order: local ones, static ones, and those of routes.
    pub(in crate::evpn) fn macs<'a>(
        &'a self,
        shared: &'a SharedState,
        vni: Vni,
    ) -> impl Iterator<Item = MacView> + 'a {
        let locals = self.locals.of(vni).map(move |(mac, state)| {
            self.view(vni, *mac, EntryOrigin::Local, None, state.mobility())
        });
        let statics = self
            .statics
            .of(vni)
            .filter(move |(mac, _)| !self.locals.contains_key(&(vni, **mac)));
        let statics = statics.map(move |(mac, vtep)| self.static_view(vni, *mac, *vtep));
        let remote = self.entries.places_of(vni).filter_map(move |place| {
            let entry = self.entries.get(place);
            let is_remote = !entry.has(flag::LOCAL | flag::STATIC);
            is_remote.then(|| self.remote_view(shared, place))?
        });
        locals.chain(statics).chain(remote)
    }

    /// The local and static MACs of a VNI, in no order.
    pub(in crate::evpn) fn own(&self, vni: Vni) -> impl Iterator<Item = HostMac> + '_ {
        let locals = self.locals.of(vni).map(|(mac, _)| *mac);
        locals.chain(self.statics.of(vni).map(|(mac, _)| *mac))
    }

    /// The MACs of a VNI that routes announce, in no order.
    pub(in crate::evpn) fn of_routes(&self, vni: Vni) -> impl Iterator<Item = HostMac> + '_ {
        let places = self.entries.places_of(vni);
        places.map(|place| self.entries.get(place).mac())
    }

    /// The number of places of MACs that routes announce, used or free.
    pub(in crate::evpn) const fn places(&self) -> u32 {
        self.entries.slots()
    }

    /// The MAC at a place, if it is in use.
    pub(in crate::evpn) fn at(&self, place: u32) -> Option<(Vni, HostMac)> {
        self.entries
            .used(place)
            .map(|entry| (entry.vni, entry.mac()))
    }

    /// One MAC, if it has an entry.
    pub(in crate::evpn) fn mac(
        &self,
        shared: &SharedState,
        vni: Vni,
        mac: HostMac,
    ) -> Option<MacView> {
        if let Some(state) = self.locals.get(&(vni, mac)) {
            return Some(self.view(vni, mac, EntryOrigin::Local, None, state.mobility()));
        }
        if let Some(vtep) = self.statics.get(&(vni, mac)) {
            return Some(self.static_view(vni, mac, *vtep));
        }
        self.remote_view(shared, self.entries.find(vni, mac)?)
    }

    fn static_view(&self, vni: Vni, mac: HostMac, vtep: VtepAddr) -> MacView {
        let origin = EntryOrigin::Static;
        self.view(vni, mac, origin, Some(vtep), Mobility::default())
    }

    fn remote_view(&self, shared: &SharedState, place: u32) -> Option<MacView> {
        let entry = self.entries.get(place);
        let selected = entry.selected()?;
        let (vni, mac, vtep) = (entry.vni, entry.mac(), shared.vtep_of(selected));
        let mobility = shared.rib.attributes().path_info(selected).mobility;
        let view = self.view(vni, mac, EntryOrigin::Evpn, vtep, mobility);
        let esi = shared.segment_of(selected).map(|key| key.esi);
        Some(MacView { esi, ..view })
    }

    /// The VTEPs that a MAC behind an Ethernet segment is reachable through.
    pub(in crate::evpn) fn segment_members(
        &self,
        shared: &SharedState,
        vni: Vni,
        mac: HostMac,
    ) -> Vec<VtepAddr> {
        let place = self.entries.find(vni, mac);
        let selected = place.and_then(|place| self.entries.get(place).selected());
        selected
            .and_then(|attrs| shared.segment_members(vni, attrs))
            .unwrap_or_default()
    }

    fn view(
        &self,
        vni: Vni,
        mac: HostMac,
        origin: EntryOrigin,
        vtep: Option<VtepAddr>,
        mobility: Mobility,
    ) -> MacView {
        MacView {
            vni,
            mac,
            origin,
            vtep,
            mobility,
            esi: None,
            frozen: self.duplicates.is_frozen((vni, mac)),
        }
    }

    /// Why the best path of a type 2 route, which can be used, is or is not in the table.
    pub(in crate::evpn) fn status(
        &self,
        shared: &SharedState,
        vni: Vni,
        mac: HostMac,
        path: &PathView,
    ) -> RouteStatus {
        let Some(place) = self.entries.find(vni, mac) else {
            return RouteStatus::OtherRoute(DecisionStep::Eligibility);
        };
        let entry = self.entries.get(place);
        let selected = entry.selected();
        let wins =
            selected.is_some_and(|attrs| shared.vtep_of(attrs) == shared.vtep_of(path.attrs));
        match () {
            () if entry.has(flag::LOCAL) => RouteStatus::LocalMac,
            () if entry.has(flag::STATIC) => RouteStatus::StaticMac,
            () if wins => RouteStatus::Installed,
            () if entry.has(flag::LIMITED) => RouteStatus::Limit,
            () if entry.has(flag::FROZEN) => RouteStatus::Frozen,
            () => {
                let is_path = |id: &RouteId| {
                    let best = shared.rib.best(*id);
                    best.is_some_and(|best| (best.attrs, best.from) == (path.attrs, path.from))
                };
                let mut routes = self.entries.routes(place).filter(is_path);
                let stale = routes.any(|id| shared.rib.is_stale(id));
                let lost = candidate(shared, vni, path.attrs, (path.long_lived, stale));
                let decided = selected.and_then(|attrs| {
                    let selected = self.selected_candidate(shared, place, attrs);
                    selected.decide(&lost)
                });
                RouteStatus::OtherRoute(decided.map_or(DecisionStep::Eligibility, |(_, step)| step))
            }
        }
    }
}
