//! The MACs that routes announce, by VNI: for each a chain of its routes, and the attributes of the
//! selected one. 20 octets and an index entry for a MAC, two links for a route.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
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
        let place = self.entries.add(MacEntry {
            vni,
            mac: mac.get().0,
            flags,
            head,
            selected: AttrId::NONE,
        });
        self.index.insert(hash, place);
        place
    }

    /// Removes a MAC entry that no route references.
    pub(super) fn remove(&mut self, place: u32) {
        let MacEntry { vni, mac, .. } = *self.entries.get(place);
        if self.index.remove(hash(&self.hasher, vni, mac), place) {
            self.entries.get_mut(place).flags = 0;
            self.entries.remove(place);
        }
    }

    /// True if the place holds a MAC of the VNI that is not installed because the VNI is full.
    pub(super) fn is_limited(&self, place: u32, vni: Vni) -> bool {
        let exists = (place as usize) < self.entries.len();
        exists && self.entries.get(place).has(flag::LIMITED) && self.entries.get(place).vni == vni
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

    /// The places of all MACs, in no order.
    pub(super) fn places(&self) -> Vec<u32> {
        self.index.iter().collect()
    }
}
