//! Attribute sets, each stored once: what an UPDATE shares, with what its routes say besides their keys and labels.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use super::slab::Interner;
use super::summary::{Local, Summary};
use crate::bgp::wire::{Attributes, Esi, EvpnRoute};

/// The number of an attribute set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttrId(pub(super) u32);

impl AttrId {
    /// No attributes: of a route without a path.
    pub const NONE: Self = Self(super::slab::NONE);
}

/// What a route says besides key and first label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Details {
    /// The segment, where it is not in the key.
    pub esi: Esi,
    /// The second label of a type 2.
    pub label2: Option<u32>,
    /// The gateway of a type 5.
    pub gateway: Option<IpAddr>,
}

impl Details {
    /// Those of a route, and its first label.
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

    /// Puts them and the label back into a route that has its key only.
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
    details: Details,
    summary: Summary,
}

/// All sets.
#[derive(Debug)]
pub struct AttributeStore {
    sets: Interner<Set>,
    /// The last set asked for, which has a reference for that: routes of one message share it.
    last: Option<(Arc<Attributes>, Details, AttrId)>,
    local: Local,
}

fn hash(set: &Set, hasher: &DefaultHashBuilder) -> u64 {
    hasher.hash_one((&*set.attributes, &set.details))
}

impl AttributeStore {
    pub(super) fn new(local: Local) -> Self {
        Self {
            sets: Interner::default(),
            last: None,
            local,
        }
    }

    /// The number of a set, with one more reference.
    pub(super) fn hold(&mut self, attributes: &Arc<Attributes>, details: Details) -> AttrId {
        if let Some((last, with, id)) = &self.last
            && Arc::ptr_eq(last, attributes)
            && *with == details
        {
            self.sets.retain(id.0);
            return *id;
        }
        let key = self.sets.hash(&(&**attributes, &details));
        let found = self
            .sets
            .find_by(key, |s| s.details == details && s.attributes == *attributes);
        let id = match found {
            Some(id) => {
                self.sets.retain(id);
                AttrId(id)
            }
            None => {
                let summary = Summary::new(attributes, &self.local);
                AttrId(self.sets.add(
                    key,
                    Set {
                        attributes: attributes.clone(),
                        details,
                        summary,
                    },
                    hash,
                ))
            }
        };
        self.retain(id);
        if let Some((_, _, old)) = self.last.replace((attributes.clone(), details, id)) {
            self.release(old);
        }
        id
    }

    /// One more reference.
    #[inline]
    pub fn retain(&mut self, id: AttrId) {
        self.sets.retain(id.0);
    }

    /// One reference less.
    #[inline]
    pub fn release(&mut self, id: AttrId) {
        self.sets.release(id.0, hash);
    }

    /// Lets go of the last set, when a run of messages is over.
    pub(super) fn forget_last(&mut self) {
        if let Some((_, _, id)) = self.last.take() {
            self.release(id);
        }
    }

    /// The summary of a set.
    #[inline]
    pub fn summary(&self, id: AttrId) -> &Summary {
        &self.sets.get(id.0).summary
    }

    /// The attributes of a set.
    pub fn attributes(&self, id: AttrId) -> &Arc<Attributes> {
        &self.sets.get(id.0).attributes
    }

    /// What routes with this set say besides.
    pub fn details(&self, id: AttrId) -> Details {
        self.sets.get(id.0).details
    }

    /// How many sets there are.
    pub fn count(&self) -> usize {
        self.sets.len()
    }
}
