//! A bounds-checked cursor over received octets: a read past the end returns `None`, never panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The octets that are not read yet.
#[derive(Clone, Copy)]
pub(super) struct ByteReader<'a>(pub(super) &'a [u8]);

impl<'a> ByteReader<'a> {
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    #[inline]
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A 24-bit number, such as a label field that carries a VNI (RFC 8365 section 5.1.3).
    #[inline]
    pub(super) fn u24(&mut self) -> Option<u32> {
        self.array()
            .map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// An address of 4 or 16 octets; `None` for any other length.
    #[inline]
    pub(super) fn ip(&mut self, octets: usize) -> Option<IpAddr> {
        match octets {
            4 => self.array::<4>().map(|b| IpAddr::V4(Ipv4Addr::from(b))),
            16 => self.array::<16>().map(|b| IpAddr::V6(Ipv6Addr::from(b))),
            _ => None,
        }
    }
}

/// Appends an address as its 4 or 16 octets.
pub(super) fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

/// Appends the low 24 bits of a number.
pub(super) fn put_u24(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_be_bytes()[1..]);
}
