//! The MACs that routes tell of, by VNI: for each a chain of its routes, and the attributes that won.
//!
//! 20 octets and an index entry for a MAC, two links for a route: this is what import costs beside the RIB.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use vtep_dataplane::addr::{HostMac, MacAddr, Vni};

use crate::rib::slab::{NONE, Slab};
use crate::rib::{AttrId, Kind, RouteId};

/// Chains of routes, linked both ways; a route is in one chain at most.
#[derive(Debug, Default)]
pub(super) struct Chains {
    links: Vec<(u32, u32)>,
}

impl Chains {
    pub(super) fn link(&mut self, head: &mut u32, RouteId(id): RouteId) {
        let place = id as usize;
        if self.links.len() <= place {
            self.links.resize(place + 1, (NONE, NONE));
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

    pub(super) fn iter(&self, head: u32) -> impl Iterator<Item = RouteId> + '_ {
        let next = |id: &u32| Some(self.links[*id as usize].1).filter(|next| *next != NONE);
        std::iter::successors(Some(head).filter(|head| *head != NONE), next).map(RouteId)
    }
}

/// Flags of a [`Host`].
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
pub(super) struct Host {
    pub(super) vni: Vni,
    mac: [u8; 6],
    pub(super) flags: u8,
    /// The first of its routes.
    pub(super) head: u32,
    /// The attributes of the route that won, with a reference; NONE if no route can be used.
    pub(super) winner: AttrId,
}

impl Host {
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
pub(super) struct Hosts {
    hosts: Slab<Host>,
    index: HashTable<u32>,
    pub(super) chains: Chains,
    addresses: HashTable<u32>,
    pub(super) address_chains: Chains,
    hasher: DefaultHashBuilder,
}

/// An address in a VNI, by the number that the RIB gives it.
pub(super) type AddressKey = (Vni, Kind, u32);

fn hash_host(hasher: &DefaultHashBuilder, vni: Vni, mac: [u8; 6]) -> u64 {
    hasher.hash_one((vni.get(), MacAddr(mac).to_bits()))
}

fn hash_address(hasher: &DefaultHashBuilder, (vni, kind, word): AddressKey) -> u64 {
    hasher.hash_one((vni.get(), kind as u8, word))
}

impl Hosts {
    pub(super) fn find(&self, vni: Vni, mac: HostMac) -> Option<u32> {
        let octets = mac.get().0;
        let same = |place: &u32| {
            let host = self.hosts.get(*place);
            host.vni == vni && host.mac == octets
        };
        self.index.find(hash_host(&self.hasher, vni, octets), same).copied()
    }

    pub(super) fn add(&mut self, vni: Vni, mac: HostMac, flags: u8) -> u32 {
        let octets = mac.get().0;
        let place = self.hosts.add(Host { vni, mac: octets, flags, head: NONE, winner: AttrId::NONE });
        let (hosts, hasher) = (&self.hosts, &self.hasher);
        let rehash = |place: &u32| hash_host(hasher, hosts.get(*place).vni, hosts.get(*place).mac);
        self.index.insert_unique(hash_host(hasher, vni, octets), place, rehash);
        place
    }

    pub(super) fn remove(&mut self, place: u32) {
        let Host { vni, mac, .. } = *self.hosts.get(place);
        if let Ok(entry) = self.index.find_entry(hash_host(&self.hasher, vni, mac), |found| *found == place) {
            entry.remove();
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
    pub(super) fn get(&self, place: u32) -> &Host {
        self.hosts.get(place)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, place: u32) -> &mut Host {
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
        self.index.iter().copied().collect()
    }

    /// The first route of an address. `key_of` gives the address of a route.
    pub(super) fn address(&self, key: AddressKey, key_of: impl Fn(RouteId) -> Option<AddressKey>) -> u32 {
        let same = |id: &u32| key_of(RouteId(*id)) == Some(key);
        self.address_at(hash_address(&self.hasher, key), same)
    }

    fn address_at(&self, hash: u64, same: impl Fn(&u32) -> bool) -> u32 {
        self.addresses.find(hash, same).copied().unwrap_or(NONE)
    }

    /// Replaces the first route of an address: `old` by `new`, either of which may be none.
    pub(super) fn set_address(
        &mut self,
        key: AddressKey,
        old: u32,
        new: u32,
        key_of: impl Fn(RouteId) -> Option<AddressKey>,
    ) {
        if old == new {
            return;
        }
        let hash = hash_address(&self.hasher, key);
        let hasher = &self.hasher;
        match self.addresses.find_entry(hash, |id| old != NONE && *id == old) {
            Ok(mut entry) if new != NONE => *entry.get_mut() = new,
            Ok(entry) => {
                entry.remove();
            }
            Err(_) if new != NONE => {
                let rehash = |id: &u32| key_of(RouteId(*id)).map_or(0, |key| hash_address(hasher, key));
                self.addresses.insert_unique(hash, new, rehash);
            }
            Err(_) => {}
        }
    }
}
