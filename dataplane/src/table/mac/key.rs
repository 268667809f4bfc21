//! The key of a MAC entry.

use crate::addr::{DomainId, MacAddr};

/// A key: 16 bits of bridge domain, 48 bits of MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacKey(pub(super) u64);

impl MacKey {
    /// The key of any MAC; only MACs of hosts are ever found.
    #[inline]
    #[must_use]
    pub const fn new(domain: DomainId, mac: MacAddr) -> Self {
        Self::of_bits(domain, mac.to_bits())
    }

    /// The key of a MAC as [`MacAddr::to_bits`] gives it.
    #[inline]
    #[must_use]
    pub(crate) const fn of_bits(domain: DomainId, bits: u64) -> Self {
        Self((domain.0 as u64) << 48 | bits & 0xffff_ffff_ffff)
    }

    /// The bridge domain.
    #[must_use]
    pub const fn domain(self) -> DomainId {
        DomainId((self.0 >> 48) as u16)
    }

    /// The MAC address.
    #[must_use]
    pub const fn mac(self) -> MacAddr {
        MacAddr::from_bits(self.0)
    }
}

/// The key to search for. Key 0 marks free slots: a group address, which no entry has either, is
/// searched for instead.
#[inline]
pub(super) const fn search_key(key: u64) -> u64 {
    key | ((key == 0) as u64) << 40
}
