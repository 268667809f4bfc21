//! The host's own addresses.
//!
//! In: address messages (include/uapi/linux/if_addr.h). Out: whether an address is on this host,
//! and on which interfaces.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

/// An address of this host appeared or went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressChange {
    /// The address.
    pub address: IpAddr,
    /// True when at least one interface has it now.
    pub present: bool,
}

/// All addresses of this network namespace.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    interfaces: HashMap<IpAddr, HashSet<u32>>,
}

impl Addresses {
    /// Whether an interface of this host has the address, and it has passed duplicate address
    /// detection.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.interfaces.contains_key(&address)
    }

    /// The addresses of the interface with this index, unordered.
    pub fn on(&self, index: u32) -> impl Iterator<Item = IpAddr> {
        let own = move |interfaces: &HashSet<u32>| interfaces.contains(&index);
        let all = self.interfaces.iter();
        all.filter(move |(_, interfaces)| own(interfaces))
            .map(|(address, _)| *address)
    }

    /// Applies RTM_NEWADDR. A tentative or duplicate IPv6 address counts as absent: the kernel
    /// sends nothing from it (RFC 4862 section 5.4).
    pub fn update(&mut self, message: &AddressMessage) -> Option<AddressChange> {
        let waiting = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
        let optimistic = message
            .header
            .flags
            .contains(AddressHeaderFlags::Optimistic);
        if message.header.flags.intersects(waiting) && !optimistic {
            return self.remove(message);
        }
        let address = own(message)?;
        let interfaces = self.interfaces.entry(address).or_default();
        let first = interfaces.is_empty();
        interfaces.insert(message.header.index);
        first.then_some(AddressChange {
            address,
            present: true,
        })
    }

    /// Applies RTM_DELADDR.
    pub fn remove(&mut self, message: &AddressMessage) -> Option<AddressChange> {
        let address = own(message)?;
        let interfaces = self.interfaces.get_mut(&address)?;
        interfaces.remove(&message.header.index);
        if !interfaces.is_empty() {
            return None;
        }
        self.interfaces.remove(&address);
        Some(AddressChange {
            address,
            present: false,
        })
    }

    /// The differences of `newer`.
    #[must_use]
    pub fn difference(&self, newer: &Self) -> Vec<AddressChange> {
        let removed = self
            .interfaces
            .keys()
            .filter(|address| !newer.contains(**address));
        let removed = removed.map(|address| AddressChange {
            address: *address,
            present: false,
        });
        let added = newer
            .interfaces
            .keys()
            .filter(|address| !self.contains(**address));
        removed
            .chain(added.map(|address| AddressChange {
                address: *address,
                present: true,
            }))
            .collect()
    }
}

/// On a point-to-point interface IFA_ADDRESS is the peer's address and IFA_LOCAL that of this host;
/// IPv6 without a peer has IFA_ADDRESS alone.
fn own(message: &AddressMessage) -> Option<IpAddr> {
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    local.or_else(|| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An RTM_NEWADDR for tests.
    pub(in crate::underlay) fn message(index: u32, address: &str) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message
            .attributes
            .push(AddressAttribute::Address(address.parse().unwrap()));
        message
    }

    #[test]
    fn an_address_is_present_while_any_interface_has_it() {
        let address = "192.0.2.1".parse().unwrap();
        let mut addresses = Addresses::default();
        let one = message(1, "192.0.2.1");
        let two = message(2, "192.0.2.1");
        assert_eq!(
            addresses.update(&one),
            Some(AddressChange {
                address,
                present: true
            })
        );
        assert_eq!(addresses.update(&two), None);
        assert_eq!(addresses.remove(&one), None);
        assert!(addresses.contains(address));
        assert_eq!(
            addresses.remove(&two),
            Some(AddressChange {
                address,
                present: false
            })
        );
        assert!(!addresses.contains(address));
    }

    #[test]
    fn the_peer_of_a_point_to_point_interface_is_not_a_local_address() {
        let mut addresses = Addresses::default();
        let mut both = message(1, "10.0.0.2");
        both.attributes
            .push(AddressAttribute::Local("10.0.0.1".parse().unwrap()));
        addresses.update(&both);
        assert!(addresses.contains("10.0.0.1".parse().unwrap()));
        assert!(!addresses.contains("10.0.0.2".parse().unwrap()));
    }

    #[test]
    fn a_tentative_address_is_absent() {
        let mut addresses = Addresses::default();
        let mut tentative = message(1, "2001:db8::1");
        tentative.header.flags = AddressHeaderFlags::Tentative;
        assert_eq!(addresses.update(&tentative), None);
        assert!(!addresses.contains("2001:db8::1".parse().unwrap()));
        assert!(
            addresses
                .update(&message(1, "2001:db8::1"))
                .unwrap()
                .present
        );
        assert!(!addresses.update(&tentative).unwrap().present);
    }
}
