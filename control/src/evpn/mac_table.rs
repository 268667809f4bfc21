//! The MACs that routes tell of, by VNI: for each a chain of its routes, and the attributes that won.
//!
//! 20 octets and an index entry for a MAC, two links for a route: this is what import costs beside the RIB.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use vtep_dataplane::addr::{HostMac, MacAddr, Vni};
use vtep_dataplane::mem::push;

use crate::rib::index::Index;
use crate::rib::slab::{NONE, Slab};
use crate::rib::{AttrId, RouteId, RouteKind};

/// Chains of routes, linked both ways; a route is in one chain at most.
#[derive(Debug, Default)]
pub(super) struct Chains {
    links: Vec<(u32, u32)>,
}

impl Chains {
    pub(super) fn link(&mut self, head: &mut u32, RouteId(id): RouteId) {
        let place = id as usize;
        while self.links.len() <= place {
            push(&mut self.links, (NONE, NONE));
        }
        self.links[place] = (NONE, *head);
        if *head != NONE {
            self.links[*head as usize].0 = id;
        }
        *head = id;
    }

    pub(super) fn unlink(&mut self, head: &mut u32, RouteId(id): RouteId) {
        let (before, after) = self.links[id as usize];
        match before {
            NONE => *head = after,
            _ => self.links[before as usize].1 = after,
        }
        if after != NONE {
            self.links[after as usize].0 = before;
        }
    }

    fn next(&self, id: u32) -> u32 {
        self.links[id as usize].1
    }

    pub(super) fn iter(&self, head: u32) -> impl Iterator<Item = RouteId> + '_ {
        let next = |id: &u32| Some(self.next(*id)).filter(|next| *next != NONE);
        std::iter::successors(Some(head).filter(|head| *head != NONE), next).map(RouteId)
    }
}

/// Flags of a [`MacEntry`].
pub(super) mod flag {
    /// A port of ours has it.
    pub(crate) const LOCAL: u8 = 1;
    /// Static configuration has it.
    pub(crate) const STATIC: u8 = 2;
    /// It moved too often.
    pub(crate) const FROZEN: u8 = 4;
    /// The VNI is full.
    pub(crate) const LIMITED: u8 = 8;
    /// What won is kept beyond the restart time.
    pub(crate) const LONG_LIVED: u8 = 16;
}

/// One MAC in one VNI.
#[derive(Debug, Clone, Copy)]
pub(super) struct MacEntry {
    pub(super) vni: Vni,
    mac: [u8; 6],
    pub(super) flags: u8,
    /// The first of its routes.
    pub(super) head: u32,
    /// The attributes of the route that won, with a reference; NONE if no route can be used.
    pub(super) winner: AttrId,
}

impl MacEntry {
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn winner(&self) -> Option<AttrId> {
        (self.winner != AttrId::NONE).then_some(self.winner)
    }

    /// The MAC.
    pub(super) fn mac(&self) -> HostMac {
        HostMac::new(MacAddr(self.mac)).expect("stored from a HostMac")
    }
}

/// All MACs, and the addresses by VNI as chains of their routes.
#[derive(Debug, Default)]
pub(super) struct MacTable {
    hosts: Slab<MacEntry>,
    index: Index,
    pub(super) chains: Chains,
    addresses: Index,
    pub(super) address_chains: Chains,
    hasher: DefaultHashBuilder,
}

/// An address in a VNI, by the number that the RIB gives it.
pub(super) type AddressKey = (Vni, RouteKind, u32);

fn hash_host(hasher: &DefaultHashBuilder, vni: Vni, mac: [u8; 6]) -> u32 {
    Index::short(hasher.hash_one((vni.get(), MacAddr(mac).to_bits())))
}

fn hash_address(hasher: &DefaultHashBuilder, (vni, kind, word): AddressKey) -> u32 {
    Index::short(hasher.hash_one((vni.get(), kind as u8, word)))
}

impl MacTable {
    pub(super) fn find(&self, vni: Vni, mac: HostMac) -> Option<u32> {
        self.find_hashed(self.hash(vni, mac.get()), vni, mac)
    }

    /// The hash of a MAC, for the methods that take one.
    #[inline]
    pub(super) fn hash(&self, vni: Vni, mac: MacAddr) -> u32 {
        hash_host(&self.hasher, vni, mac.0)
    }

    #[inline]
    pub(super) fn find_hashed(&self, hash: u32, vni: Vni, mac: HostMac) -> Option<u32> {
        let octets = mac.get().0;
        self.index.find(hash, |place| {
            let host = self.hosts.get(place);
            host.vni == vni && host.mac == octets
        })
    }

    /// Starts to load what leads to a MAC.
    #[inline]
    pub(super) fn fetch(&self, hash: u32) {
        self.index.fetch(hash);
    }

    /// Starts to load the MAC with this hash, if there is one.
    #[inline]
    pub(super) fn fetch_host(&self, hash: u32) {
        if let Some(place) = self.index.find(hash, |_| true) {
            self.hosts.fetch(place);
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
        let place = self.hosts.add(MacEntry {
            vni,
            mac: mac.get().0,
            flags,
            head,
            winner: AttrId::NONE,
        });
        self.index.insert(hash, place);
        place
    }

    pub(super) fn remove(&mut self, place: u32) {
        let MacEntry { vni, mac, .. } = *self.hosts.get(place);
        if self.index.remove(hash_host(&self.hasher, vni, mac), place) {
            self.hosts.get_mut(place).flags = 0;
            self.hosts.remove(place);
        }
    }

    /// True if at this place is a MAC of the VNI that waits for room.
    pub(super) fn is_waiting(&self, place: u32, vni: Vni) -> bool {
        let there = (place as usize) < self.hosts.len();
        there && self.hosts.get(place).has(flag::LIMITED) && self.hosts.get(place).vni == vni
    }

    /// How many MACs there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    #[inline]
    pub(super) fn get(&self, place: u32) -> &MacEntry {
        self.hosts.get(place)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, place: u32) -> &mut MacEntry {
        self.hosts.get_mut(place)
    }

    pub(super) fn link(&mut self, place: u32, id: RouteId) {
        self.chains.link(&mut self.hosts.get_mut(place).head, id);
    }

    pub(super) fn unlink(&mut self, place: u32, id: RouteId) {
        self.chains.unlink(&mut self.hosts.get_mut(place).head, id);
    }

    /// The routes of a MAC.
    pub(super) fn routes(&self, place: u32) -> impl Iterator<Item = RouteId> + '_ {
        self.chains.iter(self.hosts.get(place).head)
    }

    /// Places of all MACs, in no order.
    pub(super) fn places(&self) -> Vec<u32> {
        self.index.iter().collect()
    }

    /// The first route of an address. `key_of` gives the address of a route.
    pub(super) fn address(
        &self,
        key: AddressKey,
        key_of: impl Fn(RouteId) -> Option<AddressKey>,
    ) -> u32 {
        let same = |id| key_of(RouteId(id)) == Some(key);
        self.addresses
            .find(hash_address(&self.hasher, key), same)
            .unwrap_or(NONE)
    }

    /// Replaces the first route of an address: `old` by `new`, either of which may be none.
    pub(super) fn set_address(&mut self, key: AddressKey, old: u32, new: u32) {
        let hash = hash_address(&self.hasher, key);
        match (old, new) {
            _ if old == new => {}
            (NONE, _) => self.addresses.insert(hash, new),
            (_, NONE) => drop(self.addresses.remove(hash, old)),
            _ => drop(self.addresses.replace(hash, old, new)),
        }
    }
}
