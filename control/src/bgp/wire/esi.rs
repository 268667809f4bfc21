//! Ethernet segment identifiers (RFC 7432 section 5).

use std::fmt;

/// An Ethernet segment identifier (RFC 7432 section 5); zero for a single-homed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Esi(pub [u8; 10]);

impl Esi {
    /// The ESI of a single-homed segment.
    pub const ZERO: Self = Self([0; 10]);
}

impl fmt::Display for Esi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}
