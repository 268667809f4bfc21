//! Ethernet segment identifiers (RFC 7432 section 5).

use std::fmt;
use std::str::FromStr;

/// An Ethernet segment identifier (RFC 7432 section 5); zero for a single-homed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Esi(pub [u8; 10]);

impl Esi {
    /// The ESI of a single-homed segment.
    pub const ZERO: Self = Self([0; 10]);
    /// MAX-ESI, which is reserved as zero is (RFC 7432 section 5).
    pub const MAX: Self = Self([0xff; 10]);

    /// True for the identifier of a segment: neither of the two reserved values.
    #[must_use]
    pub fn is_segment(self) -> bool {
        self != Self::ZERO && self != Self::MAX
    }
}

/// Ten octets in hexadecimal, separated by colons.
impl FromStr for Esi {
    type Err = InvalidEsi;

    fn from_str(text: &str) -> Result<Self, InvalidEsi> {
        let mut octets = [0; 10];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2);
            let part = part.and_then(|part| u8::from_str_radix(part, 16).ok());
            *octet = part.ok_or(InvalidEsi)?;
        }
        parts.next().map_or(Ok(Self(octets)), |_| Err(InvalidEsi))
    }
}

/// A text that is no Ethernet segment identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid Ethernet segment identifier: must be ten octets such as 03:44:38:39:ff:ff:01:00:00:01"
)]
pub struct InvalidEsi;

impl fmt::Display for Esi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}
