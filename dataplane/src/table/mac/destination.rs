//! The destination of a MAC entry, and its stored form of 32 bits.
//!
//! ```text
//! | kind 4 bits | identifier 28 bits |
//! ```

use crate::addr::{PortId, VtepId};

/// What a MAC address is reachable through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A tenant port of this VTEP.
    Port(PortId),
    /// A remote VTEP; its identifier is at most [`Destination::MAX_ID`].
    Vtep(VtepId),
}

/// Bits of the identifier, below the kind.
const ID_BITS: u32 = 28;

/// Kinds of stored destinations. Kinds 2 to 15 are unused.
const PORT: u32 = 0;
const VTEP: u32 = 1;

impl Destination {
    /// The highest identifier that a destination can hold, of any kind.
    pub const MAX_ID: u32 = (1 << ID_BITS) - 1;

    /// The stored form.
    #[inline]
    pub(super) fn to_word(self) -> u32 {
        match self {
            Self::Port(port) => PORT << ID_BITS | u32::from(port.0),
            Self::Vtep(vtep) => {
                assert!(
                    vtep.0 <= Self::MAX_ID,
                    "VTEP identifier {} is above {}",
                    vtep.0,
                    Self::MAX_ID
                );
                VTEP << ID_BITS | vtep.0
            }
        }
    }

    /// The destination of a stored word.
    #[inline]
    pub(super) const fn from_word(word: u32) -> Self {
        if word >> ID_BITS == PORT {
            Self::Port(PortId(word as u16))
        } else {
            Self::Vtep(VtepId(word & Self::MAX_ID))
        }
    }
}

/// The VTEP of a stored word; `None` for another kind, or when a bit above the word is set.
#[inline]
pub(super) const fn vtep(word: u64) -> Option<VtepId> {
    if word >> ID_BITS == VTEP as u64 {
        Some(VtepId(word as u32 & Destination::MAX_ID))
    } else {
        None
    }
}

/// The port of a stored word; `None` for another kind, or when a bit above the word is set.
#[inline]
pub(super) const fn port(word: u64) -> Option<PortId> {
    if word >> ID_BITS == PORT as u64 {
        Some(PortId(word as u16))
    } else {
        None
    }
}
