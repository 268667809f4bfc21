//! The MACs that routes announce, by VNI: for each a chain of its routes, and the attributes of the
//! selected one. 28 octets and an index entry for a MAC, two links for a route.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};
use vtep_dataplane::addr::{HostMac, MacAddr, Vni};

use crate::evpn::chain::RouteChains;
use crate::rib::index::Index;
use crate::rib::slab::{NONE, Slab};
use crate::rib::{AttrId, RouteId};

/// Flags of a [`MacEntry`].
pub(super) mod flag {
    /// The MAC is local.
    pub(in super::super) const LOCAL: u8 = 1;
    /// The MAC has a static entry.
    pub(in super::super) const STATIC: u8 = 2;
    /// Duplicate detection has frozen the MAC.
    pub(in super::super) const FROZEN: u8 = 4;
    /// The MAC is not installed because its VNI is full.
    pub(in super::super) const LIMITED: u8 = 8;
    /// The selected path is stale beyond the restart time.
    pub(in super::super) const LONG_LIVED: u8 = 16;
}

/// One MAC in one VNI.
#[derive(Debug, Clone, Copy)]
pub(super) struct MacEntry {
    pub(super) vni: Vni,
    mac: [u8; 6],
    pub(super) flags: u8,
    /// The first of its routes; NONE if it has none.
    pub(super) head: u32,
    /// The attributes of the selected path, with a reference; NONE if no path can be used.
    pub(super) selected: AttrId,
    /// The previous and the next MAC of the VNI, as places; NONE at the ends.
    before: u32,
    after: u32,
}

impl MacEntry {
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn selected(&self) -> Option<AttrId> {
        (self.selected != AttrId::NONE).then_some(self.selected)
    }

    pub(super) fn mac(&self) -> HostMac {
        HostMac::new(MacAddr(self.mac)).expect("stored from a HostMac")
    }
}

/// All entries, at numbered places.
#[derive(Debug, Default)]
pub(super) struct EntryStore {
    entries: Slab<MacEntry>,
    index: Index,
    chains: RouteChains,
    /// The place of the first MAC of each VNI.
    first: HashMap<Vni, u32>,
    /// VNIs with a pass over their MACs in progress, and the next MAC of each.
    passes: BTreeMap<Vni, u32>,
    hasher: DefaultHashBuilder,
}

fn hash(hasher: &DefaultHashBuilder, vni: Vni, mac: [u8; 6]) -> u32 {
    Index::short(hasher.hash_one((vni.get(), MacAddr(mac).to_bits())))
}

impl EntryStore {
    pub(super) fn find(&self, vni: Vni, mac: HostMac) -> Option<u32> {
        self.find_hashed(self.hash(vni, mac.get()), vni, mac)
    }

    /// The hash of a MAC, for the methods that take one.
    #[inline]
    pub(super) fn hash(&self, vni: Vni, mac: MacAddr) -> u32 {
        hash(&self.hasher, vni, mac.0)
    }

    #[inline]
    pub(super) fn find_hashed(&self, hash: u32, vni: Vni, mac: HostMac) -> Option<u32> {
        let octets = mac.get().0;
        self.index.find(hash, |place| {
            let entry = self.entries.get(place);
            entry.vni == vni && entry.mac == octets
        })
    }

    /// Prefetches the index slot of a hash.
    #[inline]
    pub(super) fn prefetch(&self, hash: u32) {
        self.index.fetch(hash);
    }

    /// Prefetches the entry with this hash, if there is one.
    #[inline]
    pub(super) fn prefetch_entry(&self, hash: u32) {
        if let Some(place) = self.index.find(hash, |_| true) {
            self.entries.fetch(place);
        }
    }

    /// Adds a MAC with its first route.
    pub(super) fn add(
        &mut self,
        hash: u32,
        vni: Vni,
        mac: HostMac,
        flags: u8,
        first: RouteId,
    ) -> u32 {
        let mut head = NONE;
        self.chains.link(&mut head, first);
        let first = self.first.entry(vni).or_insert(NONE);
        let after = *first;
        let place = self.entries.add(MacEntry {
            vni,
            mac: mac.get().0,
            flags,
            head,
            selected: AttrId::NONE,
            before: NONE,
            after,
        });
        *first = place;
        if after != NONE {
            self.entries.get_mut(after).before = place;
        }
        self.index.insert(hash, place);
        place
    }

    /// Removes a MAC entry that no route references.
    pub(super) fn remove(&mut self, place: u32) {
        let MacEntry {
            vni,
            mac,
            before,
            after,
            ..
        } = *self.entries.get(place);
        if self.index.remove(hash(&self.hasher, vni, mac), place) {
            match before {
                NONE if after == NONE => drop(self.first.remove(&vni)),
                NONE => drop(self.first.insert(vni, after)),
                _ => self.entries.get_mut(before).after = after,
            }
            if after != NONE {
                self.entries.get_mut(after).before = before;
            }
            if let Some(next) = self.passes.get_mut(&vni)
                && *next == place
            {
                *next = after;
            }
            self.entries.get_mut(place).flags = 0;
            self.entries.remove(place);
        }
    }

    /// True if the place holds a MAC of the VNI that is not installed because the VNI is full.
    pub(super) fn is_limited(&self, place: u32, vni: Vni) -> bool {
        let exists = (place as usize) < self.entries.len();
        exists && self.entries.get(place).has(flag::LIMITED) && self.entries.get(place).vni == vni
    }

    /// The number of places, used or free.
    pub(super) const fn slots(&self) -> u32 {
        self.entries.len() as u32
    }

    /// True if a place is in use and its MAC has more than one route.
    pub(super) fn has_several_routes(&self, place: u32) -> bool {
        // A freed place keeps its entry, which had no routes left.
        let entry = self.entries.try_get(place);
        entry.is_some_and(|entry| self.chains.is_longer_than_one(entry.head))
    }

    /// The entry at a place, if it is in use.
    pub(super) fn used(&self, place: u32) -> Option<&MacEntry> {
        // A freed place keeps its entry, which had no routes left.
        let entry = self.entries.try_get(place)?;
        (entry.head != NONE).then_some(entry)
    }

    /// The number of MACs.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    #[inline]
    pub(super) fn get(&self, place: u32) -> &MacEntry {
        self.entries.get(place)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, place: u32) -> &mut MacEntry {
        self.entries.get_mut(place)
    }

    pub(super) fn link(&mut self, place: u32, id: RouteId) {
        self.chains.link(&mut self.entries.get_mut(place).head, id);
    }

    pub(super) fn unlink(&mut self, place: u32, id: RouteId) {
        self.chains
            .unlink(&mut self.entries.get_mut(place).head, id);
    }

    /// The routes of a MAC.
    pub(super) fn routes(&self, place: u32) -> impl Iterator<Item = RouteId> + '_ {
        self.chains.iter(self.entries.get(place).head)
    }

    /// Begins a pass over the MACs that a VNI has now.
    pub(super) fn begin_pass(&mut self, vni: Vni) {
        let first = self.first.get(&vni).copied();
        self.passes.extend(first.map(|first| (vni, first)));
    }

    /// The first VNI with a pass in progress.
    pub(super) fn first_pass(&self) -> Option<Vni> {
        self.passes.first_key_value().map(|(vni, _)| *vni)
    }

    /// True while a pass over the MACs of a VNI is in progress.
    pub(super) fn has_pass(&self, vni: Vni) -> bool {
        self.passes.contains_key(&vni)
    }

    /// The place of the next MAC in the pass of a VNI; `None`: it is over. MACs that are removed
    /// meanwhile are left out, and those that are added.
    pub(super) fn next_of_pass(&mut self, vni: Vni) -> Option<u32> {
        let next = self.passes.get_mut(&vni)?;
        let place = *next;
        if place == NONE {
            self.passes.remove(&vni);
            return None;
        }
        *next = self.entries.get(place).after;
        Some(place)
    }

    /// The places of the MACs of a VNI, the latest first.
    pub(super) fn places_of(&self, vni: Vni) -> impl Iterator<Item = u32> + '_ {
        let first = self.first.get(&vni).copied();
        let next = |place: &u32| Some(self.entries.get(*place).after).filter(|next| *next != NONE);
        std::iter::successors(first, next)
    }
}
