//! TCP (RFC 9293).
//!
//! ```text
//!  0         2         4                   8                  12
//! +---------+---------+-------------------+-------------------+
//! | source  |  dest.  |  sequence number  |   acknowledgment  |
//! +---------+---------+---------+---------+-------------------+
//! |offs.,flags| window |checksum | urgent  | options           |
//! +---------+---------+---------+---------+-------------------+
//! 12        14        16        18        20
//! ```

/// Protocol number.
pub const PROTOCOL: u8 = 6;

/// Length of a header without options, bytes.
pub const LEN: usize = 20;

/// Offset of the sequence number.
pub const SEQUENCE: usize = 4;

/// Offset of the flags.
pub const FLAGS: usize = 13;

/// Offset of the checksum.
pub const CHECKSUM: usize = 16;

/// Flag: the sender has no more data.
pub const FIN: u8 = 0x01;
/// Flag: opens a connection.
pub const SYN: u8 = 0x02;
/// Flag: resets a connection.
pub const RST: u8 = 0x04;
/// Flag: the receiver should not wait for more data.
pub const PSH: u8 = 0x08;
/// Flag: the urgent pointer is valid.
pub const URG: u8 = 0x20;
/// Flag: congestion window reduced (RFC 3168); part of the counter of accurate ECN (RFC 9768).
pub const CWR: u8 = 0x80;

/// A view of the header without its options.
#[derive(Debug, Clone, Copy)]
pub struct Tcp<'a>(&'a [u8; LEN]);

impl<'a> Tcp<'a> {
    /// The header at the front of `bytes`; `None` when they are too few. Nothing is checked yet.
    #[inline]
    #[must_use]
    pub const fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first_chunk() {
            Some(header) => Some(Self(header)),
            None => None,
        }
    }

    /// Sequence number of the first byte of the payload.
    #[inline]
    #[must_use]
    pub const fn sequence(self) -> u32 {
        let b = self.0;
        u32::from_be_bytes([b[4], b[5], b[6], b[7]])
    }

    /// Header length with options, bytes.
    #[inline]
    #[must_use]
    pub const fn header_len(self) -> usize {
        (self.0[12] >> 4) as usize * 4
    }

    /// The flags: [`FIN`] and the others.
    #[inline]
    #[must_use]
    pub const fn flags(self) -> u8 {
        self.0[FLAGS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_header_are_those_that_etherparse_writes() {
        let mut header = etherparse::TcpHeader::new(1000, 80, 0x0102_0304, 512);
        (header.fin, header.psh, header.cwr) = (true, true, true);
        header.set_options_raw(&[1; 12]).unwrap();
        let bytes = header.to_bytes();
        let view = Tcp::parse(&bytes).unwrap();
        assert_eq!(
            (view.sequence(), view.header_len(), view.flags()),
            (0x0102_0304, 32, FIN | PSH | CWR)
        );
        header = etherparse::TcpHeader::new(1, 2, 3, 4);
        (header.syn, header.rst, header.urg) = (true, true, true);
        let bytes = header.to_bytes();
        let view = Tcp::parse(&bytes).unwrap();
        assert_eq!((view.header_len(), view.flags()), (20, SYN | RST | URG));
        assert!(Tcp::parse(&bytes[..19]).is_none());
    }
}
