//! Lookups of many keys in three steps, so that none waits for memory.

use super::destination::{self, Destination};
use super::key::MacKey;
use crate::addr::{PortId, VtepId};

/// The result of a lookup: the stored word, taken apart only by the caller that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupResult(u64);

impl LookupResult {
    /// No entry.
    pub const NONE: Self = Self(1 << 32);

    /// The lookup has not finished.
    pub(super) const PENDING: Self = Self(2 << 32);

    /// The result for a stored word.
    #[inline]
    pub(super) const fn of(word: u32) -> Self {
        Self(word as u64)
    }

    /// The remote VTEP that the MAC is behind; `None` for a local port or no entry.
    #[inline]
    #[must_use]
    pub const fn vtep(self) -> Option<VtepId> {
        destination::vtep(self.0)
    }

    /// The local port that the MAC is behind; `None` for a remote VTEP or no entry.
    #[inline]
    #[must_use]
    pub const fn port(self) -> Option<PortId> {
        destination::port(self.0)
    }

    /// The destination of the MAC; `None` when there is no entry.
    #[inline]
    #[must_use]
    pub const fn destination(self) -> Option<Destination> {
        if self.0 >> 32 == 0 {
            Some(Destination::from_word(self.0 as u32))
        } else {
            None
        }
    }
}

/// A lookup in progress.
#[derive(Debug, Clone, Copy)]
pub struct Lookup {
    pub(super) key: MacKey,
    pub(super) hash: u64,
    pub(super) result: LookupResult,
}

impl Lookup {
    /// A finished lookup without a result, to fill an array with.
    pub const NONE: Self = Self {
        key: MacKey(0),
        hash: 0,
        result: LookupResult::NONE,
    };

    /// The key that is looked up.
    #[inline]
    #[must_use]
    pub const fn key(&self) -> MacKey {
        self.key
    }
}
