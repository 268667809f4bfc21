//! Protocol headers, one per file: each a checked view over bytes, or a `Repr` with `emit`.
//!
//! A view borrows exactly its header, so that its fields are read without further checks. This
//! module only describes layouts; [`crate::pipeline`] decides what a header means for a frame.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod nd;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vlan;
pub mod vxlan;

/// The 16-bit number in network order at `at`.
///
/// # Panics
/// If `bytes` ends before it.
#[inline]
#[must_use]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a 16-bit number in network order at `at`.
///
/// # Panics
/// If `bytes` ends before it.
#[inline]
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
