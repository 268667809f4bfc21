//! The flood list of a VNI: where broadcast, unknown unicast and multicast (BUM) frames go.

use std::collections::BTreeSet;

use crate::addr::{PortId, VtepId};

/// The members of a VNI that each BUM frame is copied to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FloodList {
    /// Remote VTEPs (ingress replication) or multicast groups (RFC 7348 section 4.2), each once,
    /// sorted.
    pub vteps: Box<[VtepId]>,
    /// Local ports, each once, sorted. A frame is never sent to the port that it came from.
    pub ports: Box<[PortId]>,
}

impl FloodList {
    /// A list of these members, which may be in any order and repeated.
    #[must_use]
    pub fn new(
        vteps: impl IntoIterator<Item = VtepId>,
        ports: impl IntoIterator<Item = PortId>,
    ) -> Self {
        Self {
            vteps: sorted(vteps),
            ports: sorted(ports),
        }
    }
}

fn sorted<T: Ord>(members: impl IntoIterator<Item = T>) -> Box<[T]> {
    let members: BTreeSet<_> = members.into_iter().collect();
    members.into_iter().collect()
}

/// A set of VTEPs, one bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VtepSet {
    words: Box<[u64]>,
}

impl VtepSet {
    /// True when `vtep` is in the set.
    #[inline]
    #[must_use]
    pub fn contains(&self, vtep: VtepId) -> bool {
        self.words
            .get(vtep.index() / 64)
            .is_some_and(|word| word >> (vtep.0 % 64) & 1 == 1)
    }
}

impl FromIterator<VtepId> for VtepSet {
    fn from_iter<I: IntoIterator<Item = VtepId>>(vteps: I) -> Self {
        let mut words = Vec::new();
        for vtep in vteps {
            let word = vtep.index() / 64;
            if words.len() <= word {
                words.resize(word + 1, 0u64);
            }
            words[word] |= 1 << (vtep.0 % 64);
        }
        Self {
            words: words.into_boxed_slice(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_sorted_and_unique() {
        let list = FloodList::new([7, 3, 7].map(VtepId), [2, 1].map(PortId));
        assert_eq!(
            (&*list.vteps, &*list.ports),
            (&[3, 7].map(VtepId)[..], &[1, 2].map(PortId)[..])
        );
    }

    #[test]
    fn a_set_contains_what_was_inserted() {
        let set: VtepSet = [0, 63, 64, 1000].map(VtepId).into_iter().collect();
        for id in 0..2000 {
            assert_eq!(
                set.contains(VtepId(id)),
                [0, 63, 64, 1000].contains(&id),
                "{id}"
            );
        }
    }
}
