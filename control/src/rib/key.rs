//! Keys of routes in 16 octets: route distinguishers with their tags, IPv6 addresses and whole keys
//! of the rarer route types are interned; a type 2 with an IPv4 address is stored as it is.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::DefaultHashBuilder;
use vtep_dataplane::addr::MacAddr;

use super::index::Index;
use super::slab::Interner;
use crate::bgp::wire::{Esi, EvpnRoute, MacIp, Rd};

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RouteKind {
    /// Type 2 without an address.
    Mac,
    /// Type 2 with an IPv4 address.
    MacIpv4,
    /// Type 2 with an IPv6 address.
    MacIpv6,
    /// Type 1, 3, 4 or 5.
    Other,
}

/// The key of one route. `flags` belong to the user of the RIB and are not part of the key.
#[derive(Debug, Clone, Copy)]
pub struct RouteKey {
    context: u32,
    ip: u32,
    mac: [u8; 6],
    /// The kind of the key.
    pub kind: RouteKind,
    /// Flags of the user.
    pub flags: u8,
}

impl PartialEq for RouteKey {
    fn eq(&self, other: &Self) -> bool {
        self.words() == other.words()
    }
}

impl RouteKey {
    const fn words(&self) -> (u64, u64) {
        let m = self.mac;
        let low = u64::from_be_bytes([self.kind as u8, 0, m[0], m[1], m[2], m[3], m[4], m[5]]);
        ((self.context as u64) << 32 | self.ip as u64, low)
    }

    /// Its hash.
    #[inline]
    pub fn hash(&self, hasher: &DefaultHashBuilder) -> u32 {
        Index::short(hasher.hash_one(self.words()))
    }

    /// The MAC of a type 2.
    pub fn mac(&self) -> Option<MacAddr> {
        (self.kind != RouteKind::Other).then_some(MacAddr(self.mac))
    }

    /// The address of a type 2 as a number that is only valid in this RIB; `None` if it has none.
    pub fn ip_word(&self) -> Option<(RouteKind, u32)> {
        matches!(self.kind, RouteKind::MacIpv4 | RouteKind::MacIpv6).then_some((self.kind, self.ip))
    }
}

/// The interners of the parts of keys.
#[derive(Debug, Default)]
pub struct KeyTable {
    contexts: Interner<(Rd, u32)>,
    addresses: Interner<Ipv6Addr>,
    others: Interner<EvpnRoute>,
    /// The last route distinguisher and tag that were found: routes come sorted by them.
    last: Option<((Rd, u32), u32)>,
    /// Counts freed numbers: a freed number may be that of another part now.
    age: u32,
}

/// A key with its hash, valid as long as no number has been freed since.
#[derive(Debug, Clone, Copy)]
pub struct KeyLookup {
    pub(super) key: RouteKey,
    pub(super) hash: u32,
    age: u32,
}

impl KeyTable {
    /// The key of a route with its hash, if all its parts are known; takes no reference.
    #[inline]
    pub fn lookup_key(
        &mut self,
        route: &EvpnRoute,
        hasher: &DefaultHashBuilder,
    ) -> Option<KeyLookup> {
        let key = self.find(route)?;
        Some(KeyLookup {
            key,
            hash: key.hash(hasher),
            age: self.age,
        })
    }

    /// True if a lookup is still valid.
    #[inline]
    pub const fn is_valid(&self, lookup: &KeyLookup) -> bool {
        lookup.age == self.age
    }

    /// Adds references to the parts of a key, which [`KeyTable::release`] drops.
    #[inline]
    pub fn retain(&mut self, key: &RouteKey) {
        match key.kind {
            RouteKind::Other => return self.others.retain(key.context),
            RouteKind::MacIpv6 => self.addresses.retain(key.ip),
            RouteKind::Mac | RouteKind::MacIpv4 => {}
        }
        self.contexts.retain(key.context);
    }

    /// The key of a route, if all its parts are known; takes no reference.
    pub fn find(&mut self, route: &EvpnRoute) -> Option<RouteKey> {
        let EvpnRoute::MacIp(r) = route else {
            return self.others.find(&route.key()).map(other);
        };
        let context = self.find_context((r.rd, r.tag))?;
        Some(match r.ip {
            None => mac_key(context, r, RouteKind::Mac, 0),
            Some(IpAddr::V4(v4)) => mac_key(context, r, RouteKind::MacIpv4, v4.to_bits()),
            Some(IpAddr::V6(v6)) => {
                mac_key(context, r, RouteKind::MacIpv6, self.addresses.find(&v6)?)
            }
        })
    }

    fn find_context(&mut self, context: (Rd, u32)) -> Option<u32> {
        if let Some((last, id)) = self.last
            && last == context
        {
            return Some(id);
        }
        let id = self.contexts.find(&context)?;
        self.last = Some((context, id));
        Some(id)
    }

    /// The key of a route, with references to its parts, which [`KeyTable::release`] drops.
    pub fn hold(&mut self, route: &EvpnRoute) -> RouteKey {
        let EvpnRoute::MacIp(r) = route else {
            return other(self.others.hold(&route.key()));
        };
        let context = match self.find_context((r.rd, r.tag)) {
            Some(id) => {
                self.contexts.retain(id);
                id
            }
            None => self.contexts.hold(&(r.rd, r.tag)),
        };
        match r.ip {
            None => mac_key(context, r, RouteKind::Mac, 0),
            Some(IpAddr::V4(v4)) => mac_key(context, r, RouteKind::MacIpv4, v4.to_bits()),
            Some(IpAddr::V6(v6)) => {
                mac_key(context, r, RouteKind::MacIpv6, self.addresses.hold(&v6))
            }
        }
    }

    /// Drops the references of a key.
    pub fn release(&mut self, key: &RouteKey) {
        let mut gone = match key.kind {
            RouteKind::Other => self.others.drop_ref(key.context),
            RouteKind::MacIpv6 => self.addresses.drop_ref(key.ip),
            RouteKind::Mac | RouteKind::MacIpv4 => false,
        };
        if key.kind != RouteKind::Other && self.contexts.drop_ref(key.context) {
            self.last = None;
            gone = true;
        }
        self.age = self.age.wrapping_add(u32::from(gone));
    }

    /// The route of a key; fields that are not in the key are zero.
    pub fn route(&self, key: &RouteKey) -> EvpnRoute {
        if key.kind == RouteKind::Other {
            return *self.others.get(key.context);
        }
        let (rd, tag) = *self.contexts.get(key.context);
        let (ip, mac) = (self.ip(key), MacAddr(key.mac));
        EvpnRoute::MacIp(MacIp {
            rd,
            esi: Esi::ZERO,
            tag,
            mac,
            ip,
            label: 0,
            label2: None,
        })
    }

    /// The address of a type 2.
    pub fn ip(&self, key: &RouteKey) -> Option<IpAddr> {
        match key.kind {
            RouteKind::MacIpv4 => Some(IpAddr::V4(Ipv4Addr::from_bits(key.ip))),
            RouteKind::MacIpv6 => Some(IpAddr::V6(*self.addresses.get(key.ip))),
            RouteKind::Mac | RouteKind::Other => None,
        }
    }

    /// The number of an address as in [`RouteKey::ip_word`], if a route has it.
    pub fn find_ip(&self, ip: IpAddr) -> Option<(RouteKind, u32)> {
        match ip {
            IpAddr::V4(v4) => Some((RouteKind::MacIpv4, v4.to_bits())),
            IpAddr::V6(v6) => self.addresses.find(&v6).map(|id| (RouteKind::MacIpv6, id)),
        }
    }

    /// The Ethernet tag of a type 2.
    pub fn tag(&self, key: &RouteKey) -> u32 {
        if key.kind == RouteKind::Other {
            0
        } else {
            self.contexts.get(key.context).1
        }
    }
}

const fn other(id: u32) -> RouteKey {
    RouteKey {
        context: id,
        ip: 0,
        mac: [0; 6],
        kind: RouteKind::Other,
        flags: 0,
    }
}

const fn mac_key(context: u32, route: &MacIp, kind: RouteKind, ip: u32) -> RouteKey {
    RouteKey {
        context,
        ip,
        mac: route.mac.0,
        kind,
        flags: 0,
    }
}
