//! IPv6 (RFC 8200) and its extension headers.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+---------------+---------------------------------------+
//! |Version| Traffic Class |               Flow Label              |
//! +-------+---------------+-------+---------------+---------------+
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! +-------------------------------+---------------+---------------+
//! |                  Source Address (16 bytes)                    |
//! +---------------------------------------------------------------+
//! |                Destination Address (16 bytes)                 |
//! +---------------------------------------------------------------+
//! ```

use std::net::Ipv6Addr;

use super::put16;

/// Length of the header, bytes.
pub const LEN: usize = 40;

/// Next header of ICMPv6.
pub const ICMP: u8 = 58;

/// Next header of a Fragment header (RFC 8200 section 4.5).
pub const FRAGMENT: u8 = 44;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Maximum number of extension headers to skip; each kind should occur once (RFC 8200 section 4.1).
const MAX_EXTENSIONS: usize = 8;

/// True for an extension header that this module can skip.
#[inline]
#[must_use]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}

/// A view of the header.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a>(&'a [u8; LEN]);

impl<'a> Ipv6<'a> {
    /// The header at the front of `bytes`; `None` when they are too few. Nothing is checked yet.
    #[inline]
    #[must_use]
    pub const fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first_chunk() {
            Some(header) => Some(Self(header)),
            None => None,
        }
    }

    /// Version: 6.
    #[inline]
    #[must_use]
    pub const fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Traffic class: DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn traffic_class(self) -> u8 {
        self.0[0] << 4 | self.0[1] >> 4
    }

    /// Length of the payload after the header, bytes.
    #[inline]
    #[must_use]
    pub const fn payload_len(self) -> usize {
        u16::from_be_bytes([self.0[4], self.0[5]]) as usize
    }

    /// Type of the next header.
    #[inline]
    #[must_use]
    pub const fn next_header(self) -> u8 {
        self.0[6]
    }

    /// Hop limit.
    #[inline]
    #[must_use]
    pub const fn hop_limit(self) -> u8 {
        self.0[7]
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn source(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(
            *self.0[8..].first_chunk().expect("32 bytes follow"),
        ))
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn destination(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(
            *self.0[24..].first_chunk().expect("16 bytes follow"),
        ))
    }

    /// Both addresses, as in a pseudo-header.
    #[inline]
    #[must_use]
    pub fn addresses(self) -> &'a [u8] {
        &self.0[8..]
    }
}

/// Sets the traffic class.
///
/// # Panics
/// If `header` is shorter than two bytes.
#[inline]
pub fn set_traffic_class(header: &mut [u8], class: u8) {
    header[0] = header[0] & 0xf0 | class >> 4;
    header[1] = header[1] & 0x0f | class << 4;
}

/// Sets the traffic class and the flow label, of 20 bits.
///
/// # Panics
/// If `header` is shorter than four bytes.
#[inline]
pub fn set_class_and_label(header: &mut [u8], class: u8, label: u32) {
    let word = 6 << 28 | u32::from(class) << 20 | label & 0x000f_ffff;
    header[..4].copy_from_slice(&word.to_be_bytes());
}

/// The upper layer after the extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// Its protocol number.
    pub protocol: u8,
    /// Its offset in the packet, bytes.
    pub offset: usize,
    /// The offset field of a Fragment header, `None` without one.
    pub fragment: Option<u16>,
    /// There is a Routing header with segments left: the destination address is not the final one,
    /// so the fixed header lacks the destination of the pseudo-header (RFC 8200 section 8.1).
    pub routed: bool,
    /// There is an Authentication header (RFC 4302), which covers the whole packet.
    pub authenticated: bool,
}

/// Skips the extension headers of `packet`, which begins with the IPv6 header. `None` when they
/// reach beyond its end, or are too many.
#[inline]
#[must_use]
pub fn upper(packet: &[u8]) -> Option<Upper> {
    let mut found = Upper {
        protocol: *packet.get(6)?,
        offset: LEN,
        fragment: None,
        routed: false,
        authenticated: false,
    };
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(found.protocol) {
            return Some(found);
        }
        let head: &[u8; 8] = packet.get(found.offset..)?.first_chunk()?;
        let len = match found.protocol {
            FRAGMENT => {
                found.fragment = Some(u16::from_be_bytes([head[2], head[3]]) >> 3);
                8
            }
            AUTHENTICATION => {
                found.authenticated = true;
                (usize::from(head[1]) + 2) * 4
            }
            kind => {
                found.routed |= kind == ROUTING && head[3] != 0;
                (usize::from(head[1]) + 1) * 8
            }
        };
        found.protocol = head[0];
        found.offset += len;
        if found.offset > packet.len() {
            return None;
        }
        if found.fragment.is_some_and(|offset| offset != 0) {
            return Some(found);
        }
    }
    None
}

/// A header to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Length of the payload, bytes.
    pub payload_len: u16,
    /// Type of the next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Repr {
    /// Writes the header, with traffic class and flow label 0.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`LEN`].
    pub fn emit(&self, bytes: &mut [u8]) {
        let header = &mut bytes[..LEN];
        header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        put16(header, 4, self.payload_len);
        header[6] = self.next_header;
        header[7] = self.hop_limit;
        header[8..24].copy_from_slice(&self.source.octets());
        header[24..].copy_from_slice(&self.destination.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(next_header: u8) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        let [source, destination] = [1, 2].map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
        Repr {
            payload_len: 24,
            next_header,
            hop_limit: 64,
            source,
            destination,
        }
        .emit(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_emitted_reads_the_same_here_and_in_etherparse() {
        let mut bytes = header(17);
        set_traffic_class(&mut bytes, 0xb9);
        let view = Ipv6::parse(&bytes).unwrap();
        assert_eq!(
            (view.version(), view.traffic_class(), view.payload_len()),
            (6, 0xb9, 24)
        );
        let (theirs, _) = etherparse::Ipv6Header::from_slice(&bytes).unwrap();
        assert_eq!(
            (
                theirs.traffic_class,
                theirs.payload_length,
                theirs.hop_limit
            ),
            (0xb9, 24, 64)
        );
        assert_eq!(theirs.source_addr(), view.source());
        assert_eq!(theirs.destination_addr(), view.destination());
    }

    #[test]
    fn extension_headers_are_skipped() {
        let plain = Upper {
            protocol: 6,
            offset: 40,
            fragment: None,
            routed: false,
            authenticated: false,
        };
        assert_eq!(upper(&header(6)), Some(plain));
        let hop = [
            header(0),
            vec![60, 0, 1, 4, 0, 0, 0, 0],
            vec![6, 1],
            vec![0; 14],
        ]
        .concat();
        assert_eq!(
            upper(&hop),
            Some(Upper {
                offset: 64,
                ..plain
            })
        );
        let fragment = [header(44), vec![6, 0, 0, 9, 0, 0, 0, 1]].concat();
        assert_eq!(
            upper(&fragment),
            Some(Upper {
                offset: 48,
                fragment: Some(1),
                ..plain
            })
        );
        let routing = [header(43), vec![6, 0, 4, 1, 0, 0, 0, 0]].concat();
        assert_eq!(
            upper(&routing),
            Some(Upper {
                offset: 48,
                routed: true,
                ..plain
            })
        );
        let ah = [header(51), vec![6, 4], vec![0; 22]].concat();
        assert_eq!(
            upper(&ah),
            Some(Upper {
                offset: 64,
                authenticated: true,
                ..plain
            })
        );
        assert_eq!(
            upper(&[header(0), vec![6, 9, 0, 0, 0, 0, 0, 0]].concat()),
            None,
            "beyond the end"
        );
        assert_eq!(
            upper(&[header(0), [0u8; 8].repeat(20)].concat()),
            None,
            "too many"
        );
    }
}
