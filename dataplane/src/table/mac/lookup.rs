//! Lookups of many keys in two steps, so that none waits for memory.

use super::destination::{self, Destination};
use super::key::MacKey;
use crate::addr::{PortId, VtepId};
use crate::frame::BURST;

/// The result of a lookup: the stored word, taken apart only by the caller that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupResult(u64);

impl LookupResult {
    /// No entry.
    pub const NONE: Self = Self(1 << 32);

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

impl From<Destination> for LookupResult {
    #[inline]
    fn from(to: Destination) -> Self {
        Self::of(to.to_word())
    }
}

/// Lookups in progress, of up to [`BURST`] keys. A key that equals the one before it is not looked
/// up again.
#[derive(Debug)]
pub struct Lookups {
    pub(super) keys: [MacKey; BURST],
    pub(super) hashes: [u64; BURST],
    pub(super) results: [LookupResult; BURST],
    /// A bit for each key that differs from the one before it; the first key may equal the last one
    /// before it was cleared.
    pub(super) fresh: u64,
    /// The key that was set last.
    last: MacKey,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            keys: [MacKey(0); BURST],
            hashes: [0; BURST],
            results: [LookupResult::NONE; BURST],
            fresh: 0,
            last: MacKey(0),
        }
    }
}

impl Lookups {
    /// Starts anew.
    #[inline(always)]
    pub const fn clear(&mut self) {
        self.fresh = 0;
    }

    /// Sets a key; they are set in order, from 0 on. False for one that equals the one before it,
    /// which for the first one is that before [`Self::clear`].
    #[inline(always)]
    pub(super) fn set_key(&mut self, at: usize, key: MacKey) -> bool {
        self.keys[at % BURST] = key;
        let is_fresh = key != self.last;
        if is_fresh {
            self.last = key;
            self.fresh |= 1 << (at % BURST);
        }
        is_fresh
    }

    /// The keys and their results, after [`super::MacReader::lookup_finish`].
    #[inline(always)]
    #[must_use]
    pub const fn results(&self) -> (&[MacKey; BURST], &[LookupResult; BURST]) {
        (&self.keys, &self.results)
    }
}

/// The places of the bits that are set, from the lowest on.
#[inline(always)]
pub(super) fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros() as usize;
        let next = bits & bits.wrapping_sub(1);
        (std::mem::replace(&mut bits, next) != 0).then_some(place)
    })
}
