//! Route distinguishers (RFC 4364 section 4.2).

use std::fmt;
use std::net::Ipv4Addr;

/// A route distinguisher (RFC 4364 section 4.2), as encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Rd(pub [u8; 8]);

impl Rd {
    /// Type 1: an IPv4 address and a number, recommended for EVPN (RFC 7432 section 7.9).
    #[must_use]
    pub const fn ipv4(address: Ipv4Addr, number: u16) -> Self {
        let [a, b, c, d] = address.octets();
        let [high, low] = number.to_be_bytes();
        Self([0, 1, a, b, c, d, high, low])
    }

    /// The number of a type 1 with this address.
    #[must_use]
    pub fn number_of(self, address: Ipv4Addr) -> Option<u16> {
        let [_, _, _, _, _, _, high, low] = self.0;
        let number = u16::from_be_bytes([high, low]);
        (self == Self::ipv4(address, number)).then_some(number)
    }
}

impl fmt::Display for Rd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, kind, a, b, c, d, e, g] = self.0;
        let low = u16::from_be_bytes([e, g]);
        match (self.0[0], kind) {
            (0, 0) => write!(
                f,
                "{}:{}",
                u16::from_be_bytes([a, b]),
                u32::from_be_bytes([c, d, e, g])
            ),
            (0, 1) => write!(f, "{}:{low}", Ipv4Addr::new(a, b, c, d)),
            (0, 2) => write!(f, "{}:{low}", u32::from_be_bytes([a, b, c, d])),
            _ => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}
