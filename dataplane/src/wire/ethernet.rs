//! Ethernet II (IEEE 802.3).
//!
//! ```text
//!  0                   6                  12        14
//! +-------------------+-------------------+---------+--------- - -
//! |  destination MAC  |    source MAC     |EtherType| payload
//! +-------------------+-------------------+---------+--------- - -
//! ```

use crate::addr::MacAddr;

/// Length of the header, bytes.
pub const LEN: usize = 14;

/// Offset of the EtherType, bytes.
pub const ETHERTYPE: usize = 12;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;

/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// The first EtherType; smaller values are the length of an IEEE 802.3 frame.
pub const MIN_ETHERTYPE: u16 = 0x0600;

/// A view of the header.
#[derive(Debug, Clone, Copy)]
pub struct Ethernet<'a>(&'a [u8; LEN]);

impl<'a> Ethernet<'a> {
    /// The header at the front of `bytes`; `None` when they are too few.
    #[inline]
    #[must_use]
    pub const fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first_chunk() {
            Some(header) => Some(Self(header)),
            None => None,
        }
    }

    /// Destination MAC, as [`MacAddr::to_bits`].
    #[inline]
    #[must_use]
    pub const fn destination_bits(self) -> u64 {
        word(self.0, 0) >> 16
    }

    /// Source MAC, as [`MacAddr::to_bits`].
    #[inline]
    #[must_use]
    pub const fn source_bits(self) -> u64 {
        word(self.0, 4) & 0xffff_ffff_ffff
    }

    /// Destination MAC.
    #[inline]
    #[must_use]
    pub const fn destination(self) -> MacAddr {
        let b = self.0;
        MacAddr([b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// Source MAC.
    #[inline]
    #[must_use]
    pub const fn source(self) -> MacAddr {
        let b = self.0;
        MacAddr([b[6], b[7], b[8], b[9], b[10], b[11]])
    }

    /// EtherType, or length below 1536.
    #[inline]
    #[must_use]
    pub const fn ethertype(self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }
}

/// The 64 bits at `at`: a single load, which the compiler does not make of six bytes of an array.
#[inline(always)]
const fn word(header: &[u8; LEN], at: usize) -> u64 {
    match header.split_at(at).1.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => 0,
    }
}

/// Swaps the two MACs, for a reply.
///
/// # Panics
/// If `bytes` is shorter than both MACs.
#[inline]
pub fn swap_addresses(bytes: &mut [u8]) {
    let (destination, source) = bytes[..ETHERTYPE].split_at_mut(6);
    destination.swap_with_slice(source);
}

/// A header to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Destination MAC.
    pub destination: MacAddr,
    /// Source MAC.
    pub source: MacAddr,
    /// EtherType of the payload.
    pub ethertype: u16,
}

impl Repr {
    /// Writes the header to the front of `bytes`.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`LEN`].
    pub fn emit(&self, bytes: &mut [u8]) {
        bytes[..6].copy_from_slice(&self.destination.0);
        bytes[6..12].copy_from_slice(&self.source.0);
        super::put16(bytes, ETHERTYPE, self.ethertype);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_fields() {
        let mut bytes = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
        let header = Ethernet::parse(&bytes).unwrap();
        assert_eq!(header.destination(), MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!(header.source(), MacAddr([2, 0, 0, 0, 0, 2]));
        assert_eq!(header.destination_bits(), header.destination().to_bits());
        assert_eq!(header.source_bits(), header.source().to_bits());
        assert_eq!(header.ethertype(), IPV6);
        assert!(Ethernet::parse(&bytes[..13]).is_none());
        swap_addresses(&mut bytes);
        assert_eq!(
            Ethernet::parse(&bytes).unwrap().source(),
            MacAddr([2, 0, 0, 0, 0, 1])
        );
    }
}
