//! What `show` reads of the MAC table.

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::EvpnMacTable;
use super::mobility::MacCandidate;
use super::store::flag;
use crate::evpn::change::EntryOrigin;
use crate::evpn::shared::SharedState;
use crate::evpn::status::RouteStatus;
use crate::rib::{DecisionStep, Mobility, PathView};

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
}

impl EvpnMacTable {
    /// The MACs of a VNI in no order: local ones, static ones, and those of routes.
    pub(in crate::evpn) fn macs<'a>(
        &'a self,
        shared: &'a SharedState,
        vni: Vni,
    ) -> impl Iterator<Item = MacView> + 'a {
        let locals = self.locals.iter().filter(move |((of, _), _)| *of == vni);
        let locals = locals.map(|((vni, mac), state)| {
            self.view(*vni, *mac, EntryOrigin::Local, None, state.mobility())
        });
        let statics = self
            .statics
            .iter()
            .filter(move |(at, _)| at.0 == vni && !self.locals.contains_key(*at));
        let statics = statics.map(|((vni, mac), vtep)| self.static_view(*vni, *mac, *vtep));
        let remote = self.entries.places().into_iter().filter_map(move |place| {
            let entry = self.entries.get(place);
            let is_remote = entry.vni == vni && !entry.has(flag::LOCAL | flag::STATIC);
            is_remote.then(|| self.remote_view(shared, place))?
        });
        locals.chain(statics).chain(remote)
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
        Some(self.view(vni, mac, EntryOrigin::Evpn, vtep, mobility))
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
        let entry = self.entries.find(vni, mac);
        let Some(entry) = entry.map(|place| self.entries.get(place)) else {
            return RouteStatus::OtherRoute(DecisionStep::Eligibility);
        };
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
                let attributes = shared.rib.attributes();
                let lost = MacCandidate::new(attributes.path_info(path.attrs), path.long_lived);
                let decided = selected.and_then(|attrs| {
                    let long_lived = entry.has(flag::LONG_LIVED);
                    MacCandidate::new(attributes.path_info(attrs), long_lived).decide(&lost)
                });
                RouteStatus::OtherRoute(decided.map_or(DecisionStep::Eligibility, |(_, step)| step))
            }
        }
    }
}
