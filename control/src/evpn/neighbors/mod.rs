//! Type 2 routes with an address -> the neighbor table, which answers ARP and neighbor discovery
//! (RFC 7432 section 10, RFC 9161). Configured addresses of local hosts come first, then static
//! entries, then addresses that never move (sticky routes), then the latest claim: of a local host
//! by ARP or ND, or of a route.
//!
//! ```text
//! best path with an address -> chain of its (VNI, address) -> best candidate -> contest
//! configuration, ARP and ND of local hosts -> claims of the address ----------> evaluate -> table
//!                                                                               -> routes of the host
//! ```

mod claims;
mod contest;
mod flag;
mod statics;

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Instant;

use hashbrown::DefaultHashBuilder;
use vtep_dataplane::addr::{HostMac, Vni, host_ip};
use vtep_dataplane::wire::nd::NdFlags;

use self::claims::AddressClaims;
use self::contest::{News, RemoteClaim};
use super::chain::RouteChains;
use super::change::{EntryOrigin, TableChange};
use super::config::LocalKind;
use super::import::vni_of;
use super::mac_table::EvpnMacTable;
use super::mac_table::mobility::MacCandidate;
use super::shared::SharedState;
use crate::rib::index::Index;
use crate::rib::slab::NONE;
use crate::rib::{Rib, RouteId, RouteKind};

/// A neighbor entry: the MAC, and the flags of advertisements, if they are known (RFC 9047).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EvpnNeighborEntry {
    pub(super) mac: HostMac,
    pub(super) nd: Option<NdFlags>,
}

/// An address in a VNI, by the number that the RIB gives it.
type AddressKey = (Vni, RouteKind, u32);

/// The address of a type 2 route, if a host can have it.
fn host_word(rib: &Rib, id: RouteId) -> Option<(RouteKind, u32)> {
    let word = rib.ip_word(id)?;
    host_ip(rib.ip(id)?).is_ok().then_some(word)
}

/// True if a type 2 route has an address that no host can have: its MAC is used, the address is not.
pub(super) fn has_invalid_address(rib: &Rib, id: RouteId) -> bool {
    rib.ip_word(id).is_some() && host_word(rib, id).is_none()
}

/// The address of a route in the VNI of its best path.
fn key_of(rib: &Rib, id: RouteId) -> Option<AddressKey> {
    let (kind, word) = rib.ip_word(id)?;
    Some((vni_of(rib, id, rib.best(id)?.label)?, kind, word))
}

/// The entry that a route has in the table, if it has one.
fn installed(rib: &Rib, id: RouteId) -> Option<EvpnNeighborEntry> {
    let flags = rib.user_flags(id);
    let mac = rib.mac(id).and_then(|mac| HostMac::new(mac).ok())?;
    let nd = flag::nd(flags);
    (flags & flag::INSTALLED != 0).then_some(EvpnNeighborEntry { mac, nd })
}

/// True if the neighbor entry of a route is the one of its address.
pub(super) fn is_installed(rib: &Rib, id: RouteId) -> bool {
    rib.user_flags(id) & flag::INSTALLED != 0
}

/// The route whose entry is the best for an address.
#[derive(Debug, Clone, Copy)]
struct BestEntry {
    candidate: MacCandidate,
    entry: EvpnNeighborEntry,
    route: RouteId,
}

/// The routes of an address, from which one is selected.
#[derive(Debug, Clone, Copy)]
struct AddressRoutes {
    vni: Vni,
    /// Any of them.
    id: RouteId,
    /// The first of their chain.
    first: u32,
    /// What was installed by a route that has just left the chain.
    was: Option<EvpnNeighborEntry>,
    /// `id` was announced just now, and no path of it was held before.
    is_new: bool,
}

/// Neighbor entries of all VNIs.
#[derive(Debug, Default)]
pub(super) struct EvpnNeighborTable {
    /// The first route of each address.
    first: Index,
    chains: RouteChains,
    hasher: DefaultHashBuilder,
    local: BTreeMap<(Vni, IpAddr), AddressClaims>,
    statics: BTreeMap<(Vni, IpAddr), EvpnNeighborEntry>,
    /// Routes with an address that no host can have.
    invalid: usize,
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

    /// The number of routes with an address that no host can have.
    pub(super) const fn invalid_count(&self) -> usize {
        self.invalid
    }

    /// A type 2 route belongs to `vni` from now on. Routes without an address that a host can have
    /// are only counted.
    pub(super) fn link(&mut self, rib: &Rib, vni: Vni, id: RouteId) {
        let Some((kind, word)) = host_word(rib, id) else {
            self.invalid += usize::from(rib.ip_word(id).is_some());
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
        macs: &mut EvpnMacTable,
        now: Instant,
        vni: Vni,
        id: RouteId,
    ) {
        let Some((kind, word)) = host_word(&shared.rib, id) else {
            self.invalid -= usize::from(shared.rib.ip_word(id).is_some());
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
            let address = AddressRoutes {
                vni,
                id,
                first,
                was,
                is_new: false,
            };
            self.select(shared, macs, now, address);
        }
    }

    /// Selects the entry for the address of a route again. Routes without an address are ignored.
    /// `is_new`: the route was announced just now, and no path of it was held before.
    pub(super) fn reselect(
        &mut self,
        shared: &mut SharedState,
        macs: &mut EvpnMacTable,
        now: Instant,
        vni: Vni,
        id: RouteId,
        is_new: bool,
    ) {
        let Some((kind, word)) = host_word(&shared.rib, id) else {
            return;
        };
        let rib = &shared.rib;
        let first = self.first((vni, kind, word), |id| key_of(rib, id));
        let address = AddressRoutes {
            vni,
            id,
            first,
            was: None,
            is_new,
        };
        self.select(shared, macs, now, address);
    }

    /// Selects among the routes of an address, and installs what differs from the installed route.
    fn select(
        &mut self,
        shared: &mut SharedState,
        macs: &mut EvpnMacTable,
        now: Instant,
        AddressRoutes {
            vni,
            id,
            first,
            was,
            is_new,
        }: AddressRoutes,
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
            if full && macs.is_limited(vni, new.entry.mac) {
                continue;
            }
            let wins = |best: &BestEntry| {
                let by_candidate = new.candidate.compare(&best.candidate);
                by_candidate
                    .then_with(|| best.entry.mac.cmp(&new.entry.mac))
                    .is_gt()
            };
            if best.as_ref().is_none_or(wins) {
                best = Some(new);
            }
        }
        let was = was.or_else(|| old.and_then(|old| installed(&shared.rib, old)));
        if let Some(old) = old {
            shared.rib.set_user_flags(old, 0);
        }
        if let Some(BestEntry { route, entry, .. }) = best {
            shared.rib.set_user_flags(route, flag::installed(entry.nd));
        }
        let entry = best.map(|best| best.entry);
        if was == entry && self.local.is_empty() && self.statics.is_empty() {
            return;
        }
        let Some(ip) = shared.rib.ip(id) else {
            return;
        };
        let at = (vni, ip);
        if self.local.contains_key(&at) || self.statics.contains_key(&at) {
            if let Some(best) = best.filter(|best| was != entry || best.route == id) {
                let news = News {
                    route: best.route,
                    changed: was != entry,
                    is_new: is_new && best.route == id,
                };
                self.contest(shared, macs, now, (vni, ip), news);
            }
            self.evaluate(shared, macs, vni, ip);
        } else if was != entry {
            let entry = entry.map(|entry| (entry, EntryOrigin::Evpn));
            set(shared, vni, ip, entry);
        }
    }

    /// The route whose entry EVPN has for an address.
    fn installed_route(&self, rib: &Rib, vni: Vni, ip: IpAddr) -> Option<RouteId> {
        let (kind, word) = rib.find_ip(ip)?;
        let first = self.first((vni, kind, word), |id| key_of(rib, id));
        let mut routes = self.chains.iter(first);
        routes.find(|id| is_installed(rib, *id))
    }

    /// The entry of an address by priority.
    pub(super) fn entry(
        &self,
        shared: &SharedState,
        macs: &EvpnMacTable,
        vni: Vni,
        ip: IpAddr,
    ) -> Option<(EvpnNeighborEntry, EntryOrigin)> {
        let at = (vni, ip);
        let claims = self.local.get(&at);
        let local = |claim: &claims::Claim| {
            let (mac, nd) = (claim.mac, claim.nd());
            (EvpnNeighborEntry { mac, nd }, EntryOrigin::Local)
        };
        let remote = self.remote(shared, macs, vni, ip);
        let learned = claims.and_then(AddressClaims::learned).map(local);
        let (stays, yields) = match remote {
            Some(remote) if remote.stays => (Some(remote), None),
            _ => (None, remote),
        };
        let evpn = |RemoteClaim { mac, nd, .. }| (EvpnNeighborEntry { mac, nd }, EntryOrigin::Evpn);
        claims
            .and_then(AddressClaims::attached)
            .map(local)
            .or_else(|| Some((self.static_entry(at, remote)?, EntryOrigin::Static)))
            .or_else(|| stays.map(evpn))
            .or(learned)
            .or_else(|| yields.map(evpn))
    }

    /// Queues the entry of an address again, as it is.
    pub(super) fn reinstall(
        &self,
        shared: &mut SharedState,
        macs: &EvpnMacTable,
        vni: Vni,
        ip: IpAddr,
    ) {
        let entry = self.entry(shared, macs, vni, ip);
        set(shared, vni, ip, entry);
    }

    /// A static entry. If the configuration does not say that it is a router, the route of the same
    /// host may.
    fn static_entry(
        &self,
        at: (Vni, IpAddr),
        remote: Option<RemoteClaim>,
    ) -> Option<EvpnNeighborEntry> {
        let EvpnNeighborEntry { mac, nd } = *self.statics.get(&at)?;
        let told = remote.filter(|remote| remote.mac == mac && nd == Some(NdFlags::HOST));
        let nd = told.and_then(|remote| remote.nd).or(nd);
        Some(EvpnNeighborEntry { mac, nd })
    }

    /// Writes the entry of an address by priority, and originates the route of the local host that
    /// has it.
    fn evaluate(
        &mut self,
        shared: &mut SharedState,
        macs: &mut EvpnMacTable,
        vni: Vni,
        ip: IpAddr,
    ) {
        let at = (vni, ip);
        let remote = self.installed_route(&shared.rib, vni, ip);
        if let Some(claims) = self.local.get_mut(&at)
            && remote.is_none()
        {
            claims.set_yielded(false);
        }
        let entry = self.entry(shared, macs, vni, ip);
        set(shared, vni, ip, entry);
        let Some(claims) = self.local.get_mut(&at) else {
            return;
        };
        // A static entry may be that of a local host.
        let holder = entry.filter(|(entry, origin)| {
            *origin != EntryOrigin::Evpn && claims.find(entry.mac).is_some()
        });
        let announced = holder.map(|(entry, _)| (entry.mac, entry.nd));
        let before = std::mem::replace(&mut claims.announced, announced);
        if claims.is_empty() {
            self.local.remove(&at);
        }
        if before == announced {
            return;
        }
        if let Some((mac, _)) = before
            && announced.is_none_or(|(now, _)| now != mac)
        {
            macs.withdraw_address(shared, vni, mac, ip);
        }
        if let Some((mac, nd)) = announced {
            macs.advertise_address(shared, vni, mac, ip, nd);
        }
    }

    /// Adds a configured address of a local MAC.
    pub(super) fn attach(
        &mut self,
        shared: &mut SharedState,
        macs: &mut EvpnMacTable,
        vni: Vni,
        (mac, ip): (HostMac, IpAddr),
        router: bool,
    ) {
        let remote = self.remote(shared, macs, vni, ip);
        let claims = self.local.entry((vni, ip)).or_default();
        let is_new = claims.find(mac).is_none();
        claims.attach(mac, router);
        // The flags of a host that has moved here are known from its route.
        if let Some(remote) = remote.filter(|remote| is_new && remote.mac == mac) {
            claims.set_flags(mac, remote.nd);
        }
        macs.add_claim(vni, mac, ip);
        self.evaluate(shared, macs, vni, ip);
    }

    /// Removes an address of a local MAC.
    pub(super) fn release(
        &mut self,
        shared: &mut SharedState,
        macs: &mut EvpnMacTable,
        vni: Vni,
        (mac, ip): (HostMac, IpAddr),
    ) {
        macs.remove_claim(vni, mac, ip);
        if let Some(claims) = self.local.get_mut(&(vni, ip)) {
            claims.remove(mac);
            self.evaluate(shared, macs, vni, ip);
        }
    }

    /// True if a local host has the address by configuration.
    pub(super) fn is_attached(&self, vni: Vni, mac: HostMac, ip: IpAddr) -> bool {
        let claim = self
            .local
            .get(&(vni, ip))
            .and_then(|claims| claims.find(mac));
        claim.is_some_and(|claim| claim.kind == LocalKind::Attached)
    }
}

/// Writes the entry of an address, or removes it.
fn set(
    shared: &mut SharedState,
    vni: Vni,
    ip: IpAddr,
    entry: Option<(EvpnNeighborEntry, EntryOrigin)>,
) {
    shared.changes.push(match entry {
        Some((EvpnNeighborEntry { mac, nd }, origin)) => TableChange::NeighborSet {
            vni,
            ip,
            mac,
            nd,
            origin,
        },
        None => TableChange::NeighborDel { vni, ip },
    });
}

/// The neighbor entry that a route offers, if its best path can be used.
fn candidate(shared: &SharedState, vni: Vni, route: RouteId) -> Option<BestEntry> {
    let path = shared.rib.best(route)?;
    let mac = HostMac::new(shared.rib.mac(route)?).ok()?;
    shared.usable(vni, path.attrs).ok()?;
    let info = shared.rib.attributes().path_info(path.attrs);
    let mut candidate = MacCandidate::new(info, path.long_lived, shared.rib.is_stale(route));
    // What never moves is not taken by a claim with a higher sequence (RFC 9047 section 3.1).
    candidate.mobility.sticky |= info.immutable || info.gateway;
    Some(BestEntry {
        candidate,
        entry: EvpnNeighborEntry { mac, nd: info.nd },
        route,
    })
}
