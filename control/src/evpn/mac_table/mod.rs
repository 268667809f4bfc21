//! The MAC table: which VTEP each MAC is behind (RFC 7432 sections 7.7 and 15). Local MACs come
//! first, then static entries, then the best of all routes for the MAC.
//!
//! ```text
//! best path of a type 2 -> chain of its (VNI, MAC) -> selection -> duplicate? limit?
//!                       -> local? static? -> table
//! ```

mod addresses;
mod duplicate;
mod limit;
mod local;
pub(in crate::evpn) mod mobility;
mod rescan;
mod selection;
mod sequence_memory;
mod store;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, MacAddr, Vni, VtepAddr};

use self::duplicate::{Direction, DuplicateDetector};
use self::limit::MacLimit;
pub use self::local::LocalMacError;
use self::local::LocalMacState;
use self::rescan::Rescan;
pub(super) use self::selection::HashedMac;
use self::selection::remote_entry;
use self::sequence_memory::SequenceMemory;
use self::store::{EntryStore, flag};
pub use self::view::MacView;
use super::change::{EntryOrigin, TableChange};
use super::config::DuplicateConfig;
use super::event::EvpnEvent;
use super::shared::{ChangeCause, SharedState};
use super::vni_map::VniMap;
use crate::bgp::wire::Esi;
use crate::rib::RouteId;

/// Timers that one turn handles.
const TIMERS_AT_ONCE: usize = 1024;

/// Work that is due later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MacTimer {
    /// Claim a contested local MAC back.
    ClaimBack(Vni, HostMac),
    /// Expire the history of a MAC that moved.
    ExpireMoves(Vni, HostMac),
}

/// Addresses whose neighbor entries depend on what the MAC table has decided.
#[derive(Debug, Default)]
pub(super) struct AffectedAddresses {
    /// Addresses of MACs that are no longer local.
    pub(super) released: Vec<(Vni, HostMac, IpAddr)>,
    /// MACs that were selected again, as places for [`EvpnMacTable::routes`].
    pub(super) reselected: Vec<(Vni, u32)>,
}

/// The MACs of all VNIs.
#[derive(Debug)]
pub(super) struct EvpnMacTable {
    entries: EntryStore,
    locals: VniMap<HostMac, LocalMacState>,
    statics: VniMap<HostMac, VtepAddr>,
    duplicates: DuplicateDetector,
    limits: BTreeMap<Vni, MacLimit>,
    timers: BTreeSet<(Instant, MacTimer)>,
    rescan: Option<Rescan>,
    affected: AffectedAddresses,
    memory: SequenceMemory,
}

impl EvpnMacTable {
    pub(super) fn new(config: DuplicateConfig) -> Self {
        Self {
            entries: EntryStore::default(),
            locals: VniMap::default(),
            statics: VniMap::default(),
            duplicates: DuplicateDetector::new(config),
            limits: BTreeMap::new(),
            timers: BTreeSet::new(),
            rescan: None,
            affected: AffectedAddresses::default(),
            memory: SequenceMemory::default(),
        }
    }

    /// Changes the parameters of duplicate detection.
    pub(super) const fn set_duplicates(&mut self, config: DuplicateConfig) {
        self.duplicates.set_config(config);
    }

    /// The hash of a MAC, for the methods that take one.
    #[inline]
    pub(super) fn hash(&self, vni: Vni, mac: MacAddr) -> u32 {
        self.entries.hash(vni, mac)
    }

    /// Prefetches what leads to the MAC with this hash.
    #[inline]
    pub(super) fn prefetch(&self, hash: u32) {
        self.entries.prefetch(hash);
    }

    /// Prefetches the entry of the MAC with this hash, if there is one.
    #[inline]
    pub(super) fn prefetch_entry(&self, hash: u32) {
        self.entries.prefetch_entry(hash);
    }

    /// The routes of the MAC at a place of [`AffectedAddresses::reselected`].
    pub(super) fn routes(&self, place: u32) -> impl Iterator<Item = RouteId> + '_ {
        self.entries.routes(place)
    }

    /// True if the MAC table has decided something that neighbor entries depend on.
    #[inline]
    pub(super) const fn has_affected(&self) -> bool {
        !self.affected.released.is_empty() || !self.affected.reselected.is_empty()
    }

    /// Takes the addresses whose neighbor entries have to be updated.
    pub(super) fn take_affected(&mut self) -> AffectedAddresses {
        std::mem::take(&mut self.affected)
    }

    /// When [`Self::tick`] has work.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let rescan = self.rescan.as_ref().map(Rescan::due);
        timer.into_iter().chain(rescan).min()
    }

    /// Does work that is due, so much at a time that other work does not wait long.
    pub(super) fn tick(&mut self, shared: &mut SharedState, now: Instant) {
        for _ in 0..TIMERS_AT_ONCE {
            let Some((at, timer)) = self.timers.first().copied() else {
                return;
            };
            if at > now {
                return;
            }
            self.timers.remove(&(at, timer));
            match timer {
                MacTimer::ClaimBack(vni, mac) => self.claim_back(shared, now, vni, mac),
                MacTimer::ExpireMoves(vni, mac) => {
                    if self.duplicates.expire(now, (vni, mac)) {
                        self.after_unfreeze(shared, now, vni, mac);
                    }
                }
            }
        }
    }
}

/// Duplicate detection.
impl EvpnMacTable {
    /// Counts a move of a MAC. True if it is one too many: the MAC is frozen as it is.
    fn record_move(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        (vni, mac): (Vni, HostMac),
        direction: Direction,
    ) -> bool {
        let (frozen, expiry) = self.duplicates.record_move(now, (vni, mac), direction);
        if let Some(expiry) = expiry {
            self.timers
                .insert((expiry, MacTimer::ExpireMoves(vni, mac)));
        }
        if frozen {
            if let Some(place) = self.entries.find(vni, mac) {
                self.entries.get_mut(place).flags |= flag::FROZEN;
            }
            shared.events.push(EvpnEvent::Frozen { vni, mac });
        }
        frozen
    }

    /// Unfreezes a MAC by command; its moves are forgotten. False if it is not frozen.
    pub(super) fn unfreeze(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        mac: HostMac,
    ) -> bool {
        let frozen = self.duplicates.forget((vni, mac));
        if frozen {
            self.after_unfreeze(shared, now, vni, mac);
        }
        frozen
    }

    fn after_unfreeze(&mut self, shared: &mut SharedState, now: Instant, vni: Vni, mac: HostMac) {
        shared.events.push(EvpnEvent::Unfrozen { vni, mac });
        if let Some(place) = self.entries.find(vni, mac) {
            self.entries.get_mut(place).flags &= !flag::FROZEN;
            self.reselect_all(shared, now, place);
            if self.entries.get(place).has(flag::LOCAL) {
                self.contest_local(shared, now, place, ChangeCause::Other);
            }
        }
    }

    /// The frozen MACs, in no order.
    pub(super) fn frozen(&self) -> impl Iterator<Item = (Vni, HostMac)> + '_ {
        self.duplicates.frozen()
    }
}

/// Static entries, and the entry of a MAC by priority.
impl EvpnMacTable {
    /// Adds a static entry, or changes it.
    pub(super) fn set_static(
        &mut self,
        shared: &mut SharedState,
        vni: Vni,
        mac: HostMac,
        vtep: VtepAddr,
    ) {
        self.statics.insert((vni, mac), vtep);
        self.set_flag(vni, mac, flag::STATIC, true);
        self.reinstall(shared, vni, mac);
    }

    /// Removes a static entry, if there is one.
    pub(super) fn remove_static(&mut self, shared: &mut SharedState, vni: Vni, mac: HostMac) {
        if self.statics.remove(&(vni, mac)).is_some() {
            self.set_flag(vni, mac, flag::STATIC, false);
            self.reinstall(shared, vni, mac);
        }
    }

    /// The MACs of a VNI with a static entry.
    pub(super) fn statics_of(&self, vni: Vni) -> Vec<HostMac> {
        self.statics.keys_of(vni)
    }

    fn set_flag(&mut self, vni: Vni, mac: HostMac, flag: u8, on: bool) {
        if let Some(place) = self.entries.find(vni, mac) {
            let flags = &mut self.entries.get_mut(place).flags;
            *flags = if on { *flags | flag } else { *flags & !flag };
        }
    }

    /// Writes the entry of a MAC by priority. That of a local MAC is written by the owner of the
    /// ports.
    pub(in crate::evpn) fn reinstall(&self, shared: &mut SharedState, vni: Vni, mac: HostMac) {
        if self.locals.contains_key(&(vni, mac)) {
            return;
        }
        let fixed = self.statics.get(&(vni, mac));
        let fixed = fixed.map(|vtep| TableChange::MacSet {
            vni,
            mac,
            vtep: *vtep,
            esi: Esi::ZERO,
            origin: EntryOrigin::Static,
        });
        let evpn = || {
            let place = self.entries.find(vni, mac)?;
            remote_entry(shared, self.entries.get(place))
        };
        let change = fixed.or_else(evpn);
        let change = change.unwrap_or(TableChange::MacDel { vni, mac });
        shared.changes.push(change);
    }
}
