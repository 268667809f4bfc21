//! The routes of local MACs: one for the MAC, and one for each address that it has.

use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni};
use vtep_dataplane::wire::nd::NdFlags;

use super::EvpnMacTable;
use crate::evpn::shared::SharedState;
use crate::rib::compare_sequence;

impl EvpnMacTable {
    /// A local MAC claims an address; another host may have it.
    pub(in crate::evpn) fn add_claim(&mut self, vni: Vni, mac: HostMac, ip: IpAddr) {
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.claims.insert(ip);
        }
    }

    /// A local MAC no longer claims an address.
    pub(in crate::evpn) fn remove_claim(&mut self, vni: Vni, mac: HostMac, ip: IpAddr) {
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.claims.remove(&ip);
        }
    }

    /// The number of addresses that a local MAC claims.
    pub(in crate::evpn) fn claim_count(&self, vni: Vni, mac: HostMac) -> Option<usize> {
        self.locals.get(&(vni, mac)).map(|state| state.claims.len())
    }

    /// Originates the route of one address of a local MAC.
    pub(in crate::evpn) fn advertise_address(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        mac: HostMac,
        ip: IpAddr,
        nd: Option<NdFlags>,
    ) {
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.addresses.insert(ip, nd);
            let address = Some((ip, nd));
            shared
                .originated
                .advertise(vni, mac, state.mobility(), address);
        }
    }

    /// Withdraws the route of one address of a local MAC.
    pub(in crate::evpn) fn withdraw_address(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        mac: HostMac,
        ip: IpAddr,
    ) {
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.addresses.remove(&ip);
        }
        shared.originated.withdraw(vni, mac, Some(ip));
    }

    /// Originates the routes of a local MAC and its addresses as they are now.
    pub(in crate::evpn) fn advertise(&self, shared: &mut SharedState, vni: Vni, mac: HostMac) {
        let Some(local) = self.locals.get(&(vni, mac)) else {
            return;
        };
        let mobility = local.mobility();
        let addresses = local.addresses.iter().map(|(ip, nd)| Some((*ip, *nd)));
        for address in addresses.chain([None]) {
            shared.originated.advertise(vni, mac, mobility, address);
        }
    }

    /// Withdraws the routes of a local MAC.
    pub(in crate::evpn) fn withdraw(&self, shared: &mut SharedState, vni: Vni, mac: HostMac) {
        if let Some(local) = self.locals.get(&(vni, mac)) {
            for ip in local.addresses.keys().map(|ip| Some(*ip)).chain([None]) {
                shared.originated.withdraw(vni, mac, ip);
            }
        }
    }

    /// The mobility sequence of a local MAC.
    pub(in crate::evpn) fn local_sequence(&self, vni: Vni, mac: HostMac) -> Option<u32> {
        self.locals.get(&(vni, mac)).map(|local| local.sequence)
    }

    /// Raises the sequence of a local MAC that takes an address over: peers accept its route for
    /// the address only with a sequence that is not lower (RFC 9721 section 7).
    pub(in crate::evpn) fn raise_to(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        mac: HostMac,
        least: u32,
    ) {
        if let Some(state) = self.locals.get_mut(&(vni, mac))
            && !state.sticky
            && compare_sequence(least, state.sequence).is_gt()
        {
            state.sequence = least;
            self.advertise(shared, vni, mac);
        }
    }

    /// True if the VTEP of a MAC announces that it never moves.
    pub(in crate::evpn) fn is_sticky(&self, shared: &SharedState, vni: Vni, mac: HostMac) -> bool {
        let selected = self
            .entries
            .find(vni, mac)
            .and_then(|place| self.entries.get(place).selected());
        selected.is_some_and(|attrs| {
            let info = shared.rib.attributes().path_info(attrs);
            info.mobility.sticky
        })
    }
}
