//! Attribute sets, each stored once: the attributes of an UPDATE with the fields of its routes that
//! are neither in the key nor the first label.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use super::path_info::{LocalIdentity, PathInfo};
use super::slab::Interner;
use crate::bgp::wire::{Attributes, Esi, EvpnRoute};

/// The number of an attribute set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttrId(pub(super) u32);

impl AttrId {
    /// No attributes: a route without a path.
    pub const NONE: Self = Self(super::slab::NONE);
}

/// The fields of a route other than its key and its first label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NonKeyFields {
    /// The Ethernet segment identifier, where it is not part of the key.
    pub esi: Esi,
    /// The second label of a type 2.
    pub label2: Option<u32>,
    /// The gateway of a type 5.
    pub gateway: Option<IpAddr>,
}

impl NonKeyFields {
    /// The fields of a route, and its first label.
    #[must_use]
    pub const fn of(route: &EvpnRoute) -> (Self, u32) {
        match route {
            EvpnRoute::EthernetAd(r) => (
                Self {
                    esi: Esi::ZERO,
                    label2: None,
                    gateway: None,
                },
                r.label,
            ),
            EvpnRoute::MacIp(r) => (
                Self {
                    esi: r.esi,
                    label2: r.label2,
                    gateway: None,
                },
                r.label,
            ),
            EvpnRoute::IpPrefix(r) => (
                Self {
                    esi: r.esi,
                    label2: None,
                    gateway: Some(r.gateway),
                },
                r.label,
            ),
            EvpnRoute::InclusiveMulticast(_) | EvpnRoute::EthernetSegment(_) => (
                Self {
                    esi: Esi::ZERO,
                    label2: None,
                    gateway: None,
                },
                0,
            ),
        }
    }

    /// Sets the fields and the label in a route that has only its key.
    pub const fn put(&self, label: u32, route: &mut EvpnRoute) {
        match route {
            EvpnRoute::EthernetAd(r) => r.label = label,
            EvpnRoute::MacIp(r) => {
                (r.esi, r.label2, r.label) = (self.esi, self.label2, label);
            }
            EvpnRoute::IpPrefix(r) => {
                (r.esi, r.label) = (self.esi, label);
                if let Some(gateway) = self.gateway {
                    r.gateway = gateway;
                }
            }
            EvpnRoute::InclusiveMulticast(_) | EvpnRoute::EthernetSegment(_) => {}
        }
    }
}

#[derive(Debug)]
struct Set {
    attributes: Arc<Attributes>,
    non_key: NonKeyFields,
    info: PathInfo,
}

/// All attribute sets.
#[derive(Debug)]
pub struct AttributeStore {
    sets: Interner<Set>,
    /// The last set that was requested, with a reference of its own: routes of one message share
    /// it.
    last: Option<(Arc<Attributes>, NonKeyFields, AttrId)>,
    local: LocalIdentity,
}

fn hash(set: &Set, hasher: &DefaultHashBuilder) -> u64 {
    hasher.hash_one((&*set.attributes, &set.non_key))
}

impl AttributeStore {
    pub(super) fn new(local: LocalIdentity) -> Self {
        Self {
            sets: Interner::default(),
            last: None,
            local,
        }
    }

    /// Sets the identity of this speaker, and evaluates all sets again.
    pub(super) fn set_local(&mut self, local: LocalIdentity) {
        self.sets
            .for_each_mut(|set| set.info = PathInfo::new(&set.attributes, &local));
        self.local = local;
    }

    /// The number of a set, with one more reference.
    pub(super) fn hold(&mut self, attributes: &Arc<Attributes>, non_key: NonKeyFields) -> AttrId {
        if let Some((last, with, id)) = &self.last
            && Arc::ptr_eq(last, attributes)
            && *with == non_key
        {
            self.sets.retain(id.0);
            return *id;
        }
        let key = self.sets.hash(&(&**attributes, &non_key));
        let found = self
            .sets
            .find_by(key, |s| s.non_key == non_key && s.attributes == *attributes);
        let id = match found {
            Some(id) => {
                self.sets.retain(id);
                AttrId(id)
            }
            None => {
                let info = PathInfo::new(attributes, &self.local);
                let set = Set {
                    attributes: attributes.clone(),
                    non_key,
                    info,
                };
                AttrId(self.sets.add(key, set))
            }
        };
        self.retain(id);
        if let Some((_, _, old)) = self.last.replace((attributes.clone(), non_key, id)) {
            self.release(old);
        }
        id
    }

    /// Adds a reference.
    #[inline]
    pub fn retain(&mut self, id: AttrId) {
        self.sets.retain(id.0);
    }

    /// Drops a reference.
    #[inline]
    pub fn release(&mut self, id: AttrId) {
        self.sets.release(id.0, hash);
    }

    /// Drops the reference to the last set, at the end of a batch of messages.
    pub(super) fn forget_last(&mut self) {
        if let Some((_, _, id)) = self.last.take() {
            self.release(id);
        }
    }

    /// What path selection reads of a set.
    #[inline]
    pub fn path_info(&self, id: AttrId) -> &PathInfo {
        &self.sets.get(id.0).info
    }

    /// The attributes of a set.
    pub fn attributes(&self, id: AttrId) -> &Arc<Attributes> {
        &self.sets.get(id.0).attributes
    }

    /// The fields of routes with this set that are not in their keys.
    pub fn non_key(&self, id: AttrId) -> NonKeyFields {
        self.sets.get(id.0).non_key
    }

    /// The number of sets.
    pub fn count(&self) -> usize {
        self.sets.len()
    }
}
