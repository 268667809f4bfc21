//! Type 2 routes with an address -> the neighbor table, which answers ARP and neighbor discovery
//! (RFC 7432 section 10). Local addresses come first, then static ones, then those of routes.
//!
//! ```text
//! best path with an address -> chain of its (VNI, address) -> best candidate -> local? static?
//!                          -> table
//! ```

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::IpAddr;

use hashbrown::DefaultHashBuilder;
use vtep_dataplane::addr::{HostMac, Vni};

use super::chain::RouteChains;
use super::change::{EntryOrigin, TableChange};
use super::import::vni_of;
use super::mac_table::EvpnMacTable;
use super::mac_table::mobility::MacCandidate;
use super::shared::SharedState;
use crate::rib::index::Index;
use crate::rib::slab::NONE;
use crate::rib::{Rib, RouteId, RouteKind};

/// Flags of routes in the RIB.
mod flag {
    /// The neighbor entry of this route is installed.
    pub(super) const INSTALLED: u8 = 1;
    /// It is installed as that of an IPv6 router.
    pub(super) const ROUTER: u8 = 2;
}

/// A neighbor entry: the MAC, and whether it is an IPv6 router (RFC 9047).
type EvpnNeighborEntry = (HostMac, bool);

/// An address in a VNI, by the number that the RIB gives it.
type AddressKey = (Vni, RouteKind, u32);

/// The address of a route in the VNI of its best path.
fn key_of(rib: &Rib, id: RouteId) -> Option<AddressKey> {
    let (kind, word) = rib.ip_word(id)?;
    Some((vni_of(rib, id, rib.best(id)?.label)?, kind, word))
}

/// The entry that a route has in the table, if it has one.
fn installed(rib: &Rib, id: RouteId) -> Option<EvpnNeighborEntry> {
    let flags = rib.user_flags(id);
    let mac = rib.mac(id).and_then(|mac| HostMac::new(mac).ok())?;
    (flags & flag::INSTALLED != 0).then_some((mac, flags & flag::ROUTER != 0))
}

/// True if the neighbor entry of a route is the one of its address.
pub(super) fn is_installed(rib: &Rib, id: RouteId) -> bool {
    rib.user_flags(id) & flag::INSTALLED != 0
}

/// The route whose entry is the best for an address.
#[derive(Debug, Clone, Copy)]
struct BestEntry {
    candidate: MacCandidate,
    mac: HostMac,
    route: RouteId,
    router: bool,
}

/// Neighbor entries of all VNIs.
#[derive(Debug, Default)]
pub(super) struct EvpnNeighborTable {
    /// The first route of each address.
    first: Index,
    chains: RouteChains,
    hasher: DefaultHashBuilder,
    local: BTreeMap<(Vni, IpAddr), HostMac>,
    statics: BTreeMap<(Vni, IpAddr), EvpnNeighborEntry>,
}

impl EvpnNeighborTable {
    fn hash(&self, (vni, kind, word): AddressKey) -> u32 {
        Index::short(self.hasher.hash_one((vni.get(), kind as u8, word)))
    }

    /// The first route of an address. `key_of` gives the address of a route.
    fn first(&self, key: AddressKey, key_of: impl Fn(RouteId) -> Option<AddressKey>) -> u32 {
        let same = |id| key_of(RouteId(id)) == Some(key);
        self.first.find(self.hash(key), same).unwrap_or(NONE)
    }

    /// Replaces the first route of an address: `old` by `new`, either of which may be none.
    fn set_first(&mut self, key: AddressKey, old: u32, new: u32) {
        let hash = self.hash(key);
        match (old, new) {
            _ if old == new => {}
            (NONE, _) => self.first.insert(hash, new),
            (_, NONE) => drop(self.first.remove(hash, old)),
            _ => drop(self.first.replace(hash, old, new)),
        }
    }

    /// A type 2 route belongs to `vni` from now on. Routes without an address are ignored.
    pub(super) fn link(&mut self, rib: &Rib, vni: Vni, id: RouteId) {
        let Some((kind, word)) = rib.ip_word(id) else {
            return;
        };
        let key = (vni, kind, word);
        let old = self.first(key, |other| {
            if other == id {
                None
            } else {
                key_of(rib, other)
            }
        });
        let mut head = old;
        self.chains.link(&mut head, id);
        self.set_first(key, old, head);
    }

    /// A type 2 route no longer belongs to `vni`.
    pub(super) fn unlink(
        &mut self,
        shared: &mut SharedState,
        macs: &EvpnMacTable,
        vni: Vni,
        id: RouteId,
    ) {
        let Some((kind, word)) = shared.rib.ip_word(id) else {
            return;
        };
        let key = (vni, kind, word);
        // The first route of a chain is found by itself: its best path may be in another VNI by
        // now.
        let mut head = id.0;
        self.chains.unlink(&mut head, id);
        if head != id.0 {
            self.set_first(key, id.0, head);
        }
        let was = installed(&shared.rib, id);
        shared.rib.set_user_flags(id, 0);
        if was.is_some() {
            let first = self.first(key, |id| key_of(&shared.rib, id));
            self.select(shared, macs, vni, id, first, was);
        }
    }

    /// Selects the entry for the address of a route again. Routes without an address are ignored.
    pub(super) fn reselect(
        &self,
        shared: &mut SharedState,
        macs: &EvpnMacTable,
        vni: Vni,
        id: RouteId,
    ) {
        let Some((kind, word)) = shared.rib.ip_word(id) else {
            return;
        };
        let rib = &shared.rib;
        let first = self.first((vni, kind, word), |id| key_of(rib, id));
        self.select(shared, macs, vni, id, first, None);
    }

    /// Selects among the routes from `first` on, and installs what differs from `was` or from the
    /// installed route. `id` is any route of the address.
    fn select(
        &self,
        shared: &mut SharedState,
        macs: &EvpnMacTable,
        vni: Vni,
        id: RouteId,
        first: u32,
        was: Option<EvpnNeighborEntry>,
    ) {
        let mut best: Option<BestEntry> = None;
        let mut old: Option<RouteId> = None;
        let full = macs.is_full(vni);
        for route in self.chains.iter(first) {
            if is_installed(&shared.rib, route) {
                old = Some(route);
            }
            let Some(new) = candidate(shared, vni, route) else {
                continue;
            };
            if full && macs.is_limited(vni, new.mac) {
                continue;
            }
            let wins = |best: &BestEntry| {
                let by_candidate = new.candidate.compare(&best.candidate);
                by_candidate.then_with(|| best.mac.cmp(&new.mac)).is_gt()
            };
            if best.as_ref().is_none_or(wins) {
                best = Some(new);
            }
        }
        let was = was.or_else(|| old.and_then(|old| installed(&shared.rib, old)));
        if let Some(old) = old {
            shared.rib.set_user_flags(old, 0);
        }
        if let Some(BestEntry { route, router, .. }) = best {
            let router = if router { flag::ROUTER } else { 0 };
            shared.rib.set_user_flags(route, flag::INSTALLED | router);
        }
        let now = best.map(|best| (best.mac, best.router));
        if was != now
            && let Some(ip) = shared.rib.ip(id)
        {
            self.install(shared, vni, ip, now);
        }
    }

    /// Writes the entry that EVPN has for an address, unless a local or static one has priority.
    fn install(
        &self,
        shared: &mut SharedState,
        vni: Vni,
        ip: IpAddr,
        entry: Option<EvpnNeighborEntry>,
    ) {
        let at = (vni, ip);
        if self.local.contains_key(&at) || self.statics.contains_key(&at) {
            return;
        }
        shared.changes.push(match entry {
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

    /// The entry that EVPN has for an address.
    fn evpn_entry(&self, rib: &Rib, vni: Vni, ip: IpAddr) -> Option<EvpnNeighborEntry> {
        let (kind, word) = rib.find_ip(ip)?;
        let first = self.first((vni, kind, word), |id| key_of(rib, id));
        self.chains.iter(first).find_map(|id| installed(rib, id))
    }

    /// The entry of an address by priority: local, static, EVPN.
    pub(super) fn entry(
        &self,
        rib: &Rib,
        vni: Vni,
        ip: IpAddr,
    ) -> Option<(HostMac, bool, EntryOrigin)> {
        let at = (vni, ip);
        let local = self.local.get(&at);
        let local = local.map(|mac| (*mac, false, EntryOrigin::Local));
        let fixed = || {
            let entry = self.statics.get(&at);
            entry.map(|(mac, router)| (*mac, *router, EntryOrigin::Static))
        };
        let evpn = || {
            let entry = self.evpn_entry(rib, vni, ip);
            entry.map(|(mac, router)| (mac, router, EntryOrigin::Evpn))
        };
        local.or_else(fixed).or_else(evpn)
    }

    /// Writes the entry of an address by priority.
    fn reinstall(&self, shared: &mut SharedState, vni: Vni, ip: IpAddr) {
        shared.changes.push(match self.entry(&shared.rib, vni, ip) {
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

    /// Adds an address of a local MAC. Returns the local MAC that had it.
    pub(super) fn add_local(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        ip: IpAddr,
        mac: HostMac,
    ) -> Option<HostMac> {
        let old = self.local.insert((vni, ip), mac);
        if old != Some(mac) {
            self.reinstall(shared, vni, ip);
        }
        old
    }

    /// Removes an address of a local MAC. Returns the MAC.
    pub(super) fn remove_local(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        ip: IpAddr,
    ) -> Option<HostMac> {
        let mac = self.local.remove(&(vni, ip))?;
        self.reinstall(shared, vni, ip);
        Some(mac)
    }

    /// Adds a static entry, or changes it.
    pub(super) fn set_static(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        ip: IpAddr,
        entry: EvpnNeighborEntry,
    ) {
        self.statics.insert((vni, ip), entry);
        self.reinstall(shared, vni, ip);
    }

    /// Removes a static entry, if there is one.
    pub(super) fn remove_static(&mut self, shared: &mut SharedState, vni: Vni, ip: IpAddr) {
        if self.statics.remove(&(vni, ip)).is_some() {
            self.reinstall(shared, vni, ip);
        }
    }

    /// The addresses of a VNI with a static entry.
    pub(super) fn statics_of(&self, vni: Vni) -> Vec<IpAddr> {
        let all = self.statics.keys().filter(|(of, _)| *of == vni);
        all.map(|(_, ip)| *ip).collect()
    }
}

/// The neighbor entry that a route offers, if its best path can be used.
fn candidate(shared: &SharedState, vni: Vni, route: RouteId) -> Option<BestEntry> {
    let path = shared.rib.best(route)?;
    let mac = HostMac::new(shared.rib.mac(route)?).ok()?;
    shared.usable(vni, path.attrs).ok()?;
    let info = shared.rib.attributes().path_info(path.attrs);
    Some(BestEntry {
        candidate: MacCandidate::new(info, path.long_lived),
        mac,
        route,
        router: info.router,
    })
}
