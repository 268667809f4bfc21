//! IPv4 (RFC 791).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+-------------------------------+
//! |Version|  IHL  | DSCP      |ECN|          Total Length         |
//! +-------+-------+---------------+-----+-------------------------+
//! |         Identification        |Flags|      Fragment Offset    |
//! +---------------+---------------+-----+-------------------------+
//! |  Time to Live |    Protocol   |         Header Checksum       |
//! +---------------+---------------+-------------------------------+
//! |                       Source Address                          |
//! +---------------------------------------------------------------+
//! |                    Destination Address                        |
//! +---------------------------------------------------------------+
//! ```

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::{be16, put16};

/// Length of a header without options, bytes.
pub const LEN: usize = 20;

/// The first byte of a header without options: version 4, length in words.
pub const VERSION_IHL: u8 = 0x45;

/// Offset of the flags, in the byte before the fragment offset's lower half.
pub const FLAGS: usize = 6;

/// Don't Fragment, among the flags.
pub const DONT_FRAGMENT: u8 = 0x40;

/// Offset of the header checksum.
pub const CHECKSUM: usize = 10;

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;

/// A view of the header without its options.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a>(&'a [u8; LEN]);

impl<'a> Ipv4<'a> {
    /// The header at the front of `bytes`; `None` when they are too few. Nothing is checked yet.
    #[inline]
    #[must_use]
    pub const fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first_chunk() {
            Some(header) => Some(Self(header)),
            None => None,
        }
    }

    /// Version: 4.
    #[inline]
    #[must_use]
    pub const fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Header length with options, bytes.
    #[inline]
    #[must_use]
    pub const fn header_len(self) -> usize {
        (self.0[0] & 0x0f) as usize * 4
    }

    /// DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn tos(self) -> u8 {
        self.0[1]
    }

    /// Length of header and payload, bytes.
    #[inline]
    #[must_use]
    pub const fn total_len(self) -> usize {
        u16::from_be_bytes([self.0[2], self.0[3]]) as usize
    }

    /// True for any fragment: More Fragments is set, or the offset is not 0.
    #[inline]
    #[must_use]
    pub const fn is_fragment(self) -> bool {
        u16::from_be_bytes([self.0[6], self.0[7]]) & 0x3fff != 0
    }

    /// True for a fragment other than the first.
    #[inline]
    #[must_use]
    pub const fn is_later_fragment(self) -> bool {
        u16::from_be_bytes([self.0[6], self.0[7]]) & 0x1fff != 0
    }

    /// Protocol of the payload.
    #[inline]
    #[must_use]
    pub const fn protocol(self) -> u8 {
        self.0[9]
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub const fn source(self) -> Ipv4Addr {
        let b = self.0;
        Ipv4Addr::new(b[12], b[13], b[14], b[15])
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub const fn destination(self) -> Ipv4Addr {
        let b = self.0;
        Ipv4Addr::new(b[16], b[17], b[18], b[19])
    }

    /// Both addresses, as in a pseudo-header.
    #[inline]
    #[must_use]
    pub fn addresses(self) -> &'a [u8] {
        &self.0[12..]
    }

    /// True when the checksum of a header without options is valid.
    #[inline]
    #[must_use]
    pub fn checksum_is_valid(self) -> bool {
        Sum::new().bytes(self.0).is_valid()
    }
}

/// Sets DSCP and ECN and updates the header checksum: a valid one stays valid, an invalid one
/// invalid.
///
/// # Panics
/// If `header` is shorter than [`LEN`].
#[inline]
pub fn set_tos(header: &mut [u8], tos: u8) {
    let (old, checksum) = (be16(header, 0), be16(header, CHECKSUM));
    header[1] = tos;
    let updated = super::checksum::updated(checksum, old, be16(header, 0));
    put16(header, CHECKSUM, updated);
}

/// A header without options to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of the payload, bytes.
    pub payload_len: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Repr {
    /// Writes the header with its checksum: no options, not a fragment, Don't Fragment clear,
    /// identification 0.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`LEN`].
    pub fn emit(&self, bytes: &mut [u8]) {
        let header = &mut bytes[..LEN];
        header.fill(0);
        header[0] = 0x45;
        header[1] = self.tos;
        put16(header, 2, self.payload_len + LEN as u16);
        header[8] = self.ttl;
        header[9] = self.protocol;
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..].copy_from_slice(&self.destination.octets());
        let checksum = Sum::new().bytes(header).checksum();
        put16(header, CHECKSUM, checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_reads_the_same_here_and_in_etherparse() {
        let repr = Repr {
            tos: 0xc0,
            payload_len: 100,
            ttl: 64,
            protocol: 17,
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 2),
        };
        let mut bytes = [0xee; 20];
        repr.emit(&mut bytes);
        let view = Ipv4::parse(&bytes).unwrap();
        assert_eq!(
            (view.version(), view.header_len(), view.total_len()),
            (4, 20, 120)
        );
        assert_eq!(
            (view.tos(), view.protocol(), view.is_fragment()),
            (0xc0, 17, false)
        );
        assert_eq!(
            (view.source(), view.destination()),
            (repr.source, repr.destination)
        );
        assert!(view.checksum_is_valid());
        let (theirs, _) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
        assert_eq!(theirs.calc_header_checksum(), theirs.header_checksum);
        assert_eq!(theirs.total_len, 120);

        set_tos(&mut bytes, 0x03);
        assert!(Ipv4::parse(&bytes).unwrap().checksum_is_valid());
        bytes[11] ^= 1;
        set_tos(&mut bytes, 0x02);
        assert!(!Ipv4::parse(&bytes).unwrap().checksum_is_valid());
    }
}
