//! Type 2 routes with an address -> the table that answers ARP and neighbour discovery.

use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni};

use super::change::{EntryOrigin, TableChange};
use super::import::vni_of;
use super::mac_table::{AddressKey, flag as host_flag};
use super::mobility::MacCandidate;
use super::speaker::EvpnSpeaker;
use crate::rib::{Rib, RouteId};

/// Flags of routes.
mod flag {
    /// The table has the binding of this route.
    pub(super) const TOLD: u8 = 1;
    /// It has it as that of a router.
    pub(super) const ROUTER: u8 = 2;
}

/// A binding as it was told.
type Binding = (HostMac, bool);

/// The address of a route in the VNI of its best path.
fn key_of(rib: &Rib, id: RouteId) -> Option<AddressKey> {
    let (kind, word) = rib.ip_word(id)?;
    Some((vni_of(rib, id, rib.best(id)?.label)?, kind, word))
}

impl EvpnSpeaker {
    fn told(&self, id: RouteId) -> Option<Binding> {
        let flags = self.rib.user_flags(id);
        let mac = self.rib.mac(id).and_then(|mac| HostMac::new(mac).ok())?;
        (flags & flag::TOLD != 0).then_some((mac, flags & flag::ROUTER != 0))
    }

    /// A route with an address belongs to `vni` now.
    pub(super) fn link_address(&mut self, vni: Vni, id: RouteId) {
        let Some((kind, word)) = self.rib.ip_word(id) else {
            return;
        };
        let (rib, key) = (&self.rib, (vni, kind, word));
        let old = self.hosts.address(key, |other| {
            if other == id {
                None
            } else {
                key_of(rib, other)
            }
        });
        let mut head = old;
        self.hosts.address_chains.link(&mut head, id);
        self.hosts.set_address(key, old, head);
    }

    /// It no longer does.
    pub(super) fn unlink_address(&mut self, vni: Vni, id: RouteId) {
        let Some((kind, word)) = self.rib.ip_word(id) else {
            return;
        };
        let key = (vni, kind, word);
        // A route that is the first of its chain is found by itself: its best path may be in another VNI already.
        let mut head = id.0;
        self.hosts.address_chains.unlink(&mut head, id);
        if head != id.0 {
            self.hosts.set_address(key, id.0, head);
        }
        let told = self.told(id);
        self.rib.set_user_flags(id, 0);
        if told.is_some() {
            let first = self.hosts.address(key, |id| key_of(&self.rib, id));
            self.choose_binding(vni, id, first, told);
        }
    }

    /// Finds the binding of a route's address again.
    pub(super) fn reselect_address(&mut self, vni: Vni, id: RouteId) {
        let Some((kind, word)) = self.rib.ip_word(id) else {
            return;
        };
        let rib = &self.rib;
        let first = self.hosts.address((vni, kind, word), |id| key_of(rib, id));
        self.choose_binding(vni, id, first, None);
    }

    /// The same for all addresses of a MAC.
    pub(super) fn reselect_addresses_of(&mut self, place: u32) {
        let vni = self.hosts.get(place).vni;
        let routes: Vec<_> = self
            .hosts
            .routes(place)
            .filter(|id| self.rib.ip_word(*id).is_some())
            .collect();
        for id in routes {
            self.reselect_address(vni, id);
        }
    }

    /// Chooses among the routes from `first` on, and tells what differs from `was` or the route that was told.
    /// `id` is any route of the address.
    fn choose_binding(&mut self, vni: Vni, id: RouteId, first: u32, was: Option<Binding>) {
        let mut best: Option<(MacCandidate, HostMac, RouteId, bool)> = None;
        let mut old: Option<RouteId> = None;
        let full = self.mac_vrfs.get(&vni).is_some_and(|state| state.full);
        for route in self.hosts.address_chains.iter(first) {
            if self.rib.user_flags(route) & flag::TOLD != 0 {
                old = Some(route);
            }
            let Some(chosen) = self.rib.best(route) else {
                continue;
            };
            let Some(Ok(mac)) = self.rib.mac(route).map(HostMac::new) else {
                continue;
            };
            let waits = |place| self.hosts.get(place).has(host_flag::LIMITED);
            if self.usable(vni, chosen.attrs).is_err()
                || full && self.hosts.find(vni, mac).is_some_and(waits)
            {
                continue;
            }
            let info = self.rib.attributes().path_info(chosen.attrs);
            let claim = MacCandidate::new(info, chosen.long_lived);
            let wins = |(other, other_mac, ..): &(MacCandidate, HostMac, RouteId, bool)| {
                claim.rank(other).then_with(|| other_mac.cmp(&mac)).is_gt()
            };
            if best.as_ref().is_none_or(wins) {
                best = Some((claim, mac, route, info.router));
            }
        }
        let was = was.or_else(|| old.and_then(|old| self.told(old)));
        if let Some(old) = old {
            self.rib.set_user_flags(old, 0);
        }
        if let Some((_, _, route, router)) = best {
            self.rib
                .set_user_flags(route, flag::TOLD | if router { flag::ROUTER } else { 0 });
        }
        let now = best.map(|(_, mac, _, router)| (mac, router));
        if was != now
            && let Some(ip) = self.rib.ip(id)
        {
            self.tell_address(vni, ip, now);
        }
    }

    /// Tells the binding that EVPN has for an address, unless someone stronger has one.
    fn tell_address(&mut self, vni: Vni, ip: IpAddr, binding: Option<Binding>) {
        let at = (vni, ip);
        if self.local_addresses.contains_key(&at) || self.static_addresses.contains_key(&at) {
            return;
        }
        self.changes.push(match binding {
            Some((mac, router)) => TableChange::NeighborSet {
                vni,
                ip,
                mac,
                router,
                origin: EntryOrigin::Evpn,
            },
            None => TableChange::NeighborDel { vni, ip },
        });
    }

    /// The binding that EVPN has for an address.
    pub(super) fn evpn_binding(&self, vni: Vni, ip: IpAddr) -> Option<Binding> {
        let (kind, word) = self.rib.find_ip(ip)?;
        let first = self
            .hosts
            .address((vni, kind, word), |id| key_of(&self.rib, id));
        self.hosts
            .address_chains
            .iter(first)
            .find_map(|id| self.told(id))
    }

    /// Tells again what the strongest of all origins says of an address.
    pub(super) fn retell_address(&mut self, vni: Vni, ip: IpAddr) {
        let local = self
            .local_addresses
            .get(&(vni, ip))
            .map(|mac| (*mac, false, EntryOrigin::Local));
        let fixed = || {
            self.static_addresses
                .get(&(vni, ip))
                .map(|(mac, r)| (*mac, *r, EntryOrigin::Static))
        };
        let evpn = || {
            self.evpn_binding(vni, ip)
                .map(|(mac, router)| (mac, router, EntryOrigin::Evpn))
        };
        self.changes.push(match local.or_else(fixed).or_else(evpn) {
            Some((mac, router, origin)) => TableChange::NeighborSet {
                vni,
                ip,
                mac,
                router,
                origin,
            },
            None => TableChange::NeighborDel { vni, ip },
        });
    }

    /// True if the table has the binding of this route.
    pub(super) fn binding_told(&self, id: RouteId) -> bool {
        self.rib.user_flags(id) & flag::TOLD != 0
    }
}
