//! The next array of a table, whose buckets are created in portions.

use super::array::{Array, Seed};
use super::bucket::Bucket;
use crate::mem::reserve;

/// Buckets of the next array that are created at a time: 512 octets.
pub(super) const CREATE_BATCH: usize = 8;

/// An array whose buckets are created in portions: the kernel provides and clears their memory then,
/// which takes tens of milliseconds for 64 MiB.
#[derive(Debug)]
pub(super) struct NextArray {
    buckets: Vec<Bucket>,
    count: usize,
}

impl NextArray {
    /// One that is to have so many buckets, a power of two.
    pub(super) fn new(count: usize) -> Self {
        let buckets = reserve(count);
        Self { buckets, count }
    }

    /// Creates some more buckets. True once all exist.
    pub(super) fn create_some(&mut self) -> bool {
        let end = (self.buckets.len() + CREATE_BATCH).min(self.count);
        self.buckets.resize_with(end, Bucket::new);
        end == self.count
    }

    /// The buckets that exist.
    #[cfg(test)]
    pub(super) fn created(&self) -> usize {
        self.buckets.len()
    }

    /// The array, when all buckets exist.
    pub(super) fn finish(self, seed: Seed) -> Array {
        Array::of(self.buckets.into_boxed_slice(), seed)
    }
}
