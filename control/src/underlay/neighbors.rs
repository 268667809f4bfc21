//! Mirror of the kernel's ARP and ND entries.
//!
//! In: neighbor messages (include/uapi/linux/neighbour.h). Out: the MAC of a neighbor, and whether
//! the kernel should resolve or probe it.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
pub use netlink_packet_route::neighbour::NeighbourState as NudState;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use vtep_dataplane::addr::HostMac;

/// Key of a neighbor: the interface's index and the neighbor's address.
pub type NeighborKey = (u32, IpAddr);

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelNeighbor {
    /// Its state (NUD_*).
    pub state: NudState,
    /// Its MAC, if it is known and a unicast address.
    pub mac: Option<HostMac>,
}

impl KernelNeighbor {
    /// The MAC, in the states in which the kernel would send to it (NUD_VALID).
    #[must_use]
    pub fn usable(&self) -> Option<HostMac> {
        use NudState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
        self.mac.filter(|_| {
            matches!(
                self.state,
                Permanent | Noarp | Reachable | Probe | Stale | Delay
            )
        })
    }
}

/// All IP neighbors.
#[derive(Debug, Clone, Default)]
pub struct NeighborCache {
    entries: HashMap<NeighborKey, KernelNeighbor>,
}

impl NeighborCache {
    /// The entry of a neighbor.
    #[must_use]
    pub fn get(&self, key: NeighborKey) -> Option<&KernelNeighbor> {
        self.entries.get(&key)
    }

    /// Whether the kernel should be asked to resolve or probe this neighbor: unknown, failed or
    /// stale. Never for permanent entries: the request would make the kernel forget that they are
    /// permanent.
    #[must_use]
    pub fn needs_attention(&self, key: NeighborKey) -> bool {
        use NudState::{Failed, None, Stale};
        self.get(key)
            .is_none_or(|entry| matches!(entry.state, Failed | None | Stale))
    }

    /// Whether the entry may be outdated and the kernel probes it at its next use.
    #[must_use]
    pub fn is_stale(&self, key: NeighborKey) -> bool {
        self.get(key)
            .is_some_and(|entry| entry.state == NudState::Stale)
    }

    /// Applies RTM_NEWNEIGH. Returns the neighbor if its entry changed.
    pub fn update(&mut self, message: &NeighbourMessage) -> Option<NeighborKey> {
        let key = key(message)?;
        let mac = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(octets) => octets.as_slice().try_into().ok(),
                _ => None,
            });
        let mac = mac.and_then(|octets| HostMac::new(vtep_dataplane::addr::MacAddr(octets)).ok());
        let entry = KernelNeighbor {
            state: message.header.state,
            mac,
        };
        (self.entries.insert(key, entry) != Some(entry)).then_some(key)
    }

    /// Applies RTM_DELNEIGH. Returns the neighbor if there was one.
    pub fn remove(&mut self, message: &NeighbourMessage) -> Option<NeighborKey> {
        let key = key(message)?;
        self.entries.remove(&key).map(|_| key)
    }

    /// The neighbors whose entries differ in `newer`.
    #[must_use]
    pub fn difference(&self, newer: &Self) -> HashSet<NeighborKey> {
        let all = self.entries.keys().chain(newer.entries.keys());
        all.filter(|key| self.get(**key) != newer.get(**key))
            .copied()
            .collect()
    }
}

/// `None` for an entry that is not an IP neighbor (FDB entries of a bridge are neighbor messages
/// too) and for a proxy entry.
fn key(message: &NeighbourMessage) -> Option<NeighborKey> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
            _ => None,
        })?;
    Some((message.header.ifindex, address))
}

#[cfg(test)]
pub(super) mod tests {
    use netlink_packet_route::AddressFamily;

    use super::*;

    /// An RTM_NEWNEIGH for tests.
    pub(in crate::underlay) fn message(
        key: NeighborKey,
        state: NudState,
        mac: Option<u8>,
    ) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = if key.1.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        message.header.ifindex = key.0;
        message.header.state = state;
        message
            .attributes
            .push(NeighbourAttribute::Destination(key.1.into()));
        message.attributes.extend(
            mac.map(|last| NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, last])),
        );
        message
    }

    #[test]
    fn states_decide_whether_a_mac_is_usable_and_whether_to_probe() {
        use NudState::{
            Delay, Failed, Incomplete, Noarp, None, Permanent, Probe, Reachable, Stale,
        };
        let key = (1, "10.0.0.1".parse().unwrap());
        for (state, usable, ask) in [
            (Reachable, true, false),
            (Stale, true, true),
            (Delay, true, false),
            (Probe, true, false),
            (Permanent, true, false),
            (Noarp, true, false),
            (Failed, false, true),
            (None, false, true),
            (Incomplete, false, false),
        ] {
            let mut neighbors = NeighborCache::default();
            assert!(neighbors.needs_attention(key));
            assert_eq!(neighbors.update(&message(key, state, Some(9))), Some(key));
            assert_eq!(
                neighbors.get(key).unwrap().usable().is_some(),
                usable,
                "{state:?}"
            );
            assert_eq!(neighbors.needs_attention(key), ask, "{state:?}");
        }
    }

    #[test]
    fn only_real_changes_are_reported() {
        let key = (1, "2001:db8::1".parse().unwrap());
        let mut neighbors = NeighborCache::default();
        let reachable = message(key, NudState::Reachable, Some(9));
        assert_eq!(neighbors.update(&reachable), Some(key));
        assert_eq!(neighbors.update(&reachable), None);
        assert_eq!(
            neighbors.update(&message(key, NudState::Reachable, Some(8))),
            Some(key)
        );
        assert_eq!(neighbors.remove(&reachable), Some(key));
        assert_eq!(neighbors.remove(&reachable), None);
    }

    #[test]
    fn proxies_bridge_entries_and_group_macs_are_not_neighbors() {
        let key = (1, "10.0.0.1".parse().unwrap());
        let mut neighbors = NeighborCache::default();
        let mut proxy = message(key, NudState::Permanent, Some(9));
        proxy.header.flags = NeighbourFlags::Proxy;
        assert_eq!(neighbors.update(&proxy), None);
        let mut fdb = message(key, NudState::Permanent, Some(9));
        fdb.attributes.remove(0);
        assert_eq!(neighbors.update(&fdb), None);
        let mut group = message(key, NudState::Reachable, None);
        group
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(vec![
                1, 0, 0x5e, 0, 0, 1,
            ]));
        neighbors.update(&group);
        assert_eq!(neighbors.get(key).unwrap().usable(), None);
    }
}
