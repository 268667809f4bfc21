//! UDP (RFC 768).
//!
//! ```text
//!  0         2         4         6         8
//! +---------+---------+---------+---------+
//! | source  |  dest.  | length  |checksum |
//! |  port   |  port   |         |         |
//! +---------+---------+---------+---------+
//! ```

/// Protocol number.
pub const PROTOCOL: u8 = 17;

/// Length of the header, bytes.
pub const LEN: usize = 8;

/// Offset of the checksum.
pub const CHECKSUM: usize = 6;

/// A view of the header.
#[derive(Debug, Clone, Copy)]
pub struct Udp<'a>(&'a [u8; LEN]);

impl<'a> Udp<'a> {
    /// The header at the front of `bytes`; `None` when they are too few.
    #[inline]
    #[must_use]
    pub const fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first_chunk() {
            Some(header) => Some(Self(header)),
            None => None,
        }
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub const fn source_port(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub const fn destination_port(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Length of header and payload, bytes.
    #[inline]
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a header field, not a collection"
    )]
    pub const fn len(self) -> usize {
        u16::from_be_bytes([self.0[4], self.0[5]]) as usize
    }

    /// The checksum.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }

    /// True when the sender computed no checksum.
    #[inline]
    #[must_use]
    pub const fn has_no_checksum(self) -> bool {
        self.checksum() == 0
    }
}

/// The checksum as it is sent: a computed 0 becomes 0xffff, since 0 means none (RFC 768).
#[inline]
#[must_use]
pub const fn never_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_etherparse_writes() {
        let theirs = etherparse::UdpHeader {
            source_port: 50000,
            destination_port: 4789,
            length: 108,
            checksum: 7,
        };
        let bytes = theirs.to_bytes();
        let view = Udp::parse(&bytes).unwrap();
        assert_eq!(
            (view.destination_port(), view.len(), view.has_no_checksum()),
            (4789, 108, false)
        );
        assert_eq!(view.source_port(), 50000);
        assert!(Udp::parse(&bytes[..7]).is_none());
    }
}
