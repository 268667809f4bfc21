//! A worker's pool of free chunks.

use std::ops::Range;

use super::chain::SegmentTable;
use super::{BURST, Frame, FrameMemory, HEADROOM};

/// A worker's free chunks. Chunks that another worker's pool owns (foreign ones) are kept apart, to
/// be returned to it.
#[derive(Debug)]
pub struct Pool<M> {
    memory: M,
    chunks: FreeChunks,
}

#[derive(Debug)]
struct FreeChunks {
    owned: Range<u32>,
    free: Vec<u32>,
    foreign: Vec<u32>,
}

impl FreeChunks {
    #[inline]
    fn put(&mut self, chunk: u32) {
        if self.owned.contains(&chunk) {
            self.free.push(chunk);
        } else {
            self.foreign.push(chunk);
        }
    }

    /// Drops `times` references to a chunk; the last one frees it.
    #[inline]
    fn release(&mut self, table: &SegmentTable, chunk: u32, times: u32) {
        if table.release(chunk, times) {
            self.put(chunk);
        }
    }

    /// Drops one reference to a chunk, together with the next ones to the same chunk.
    #[inline]
    fn defer_release(&mut self, table: &SegmentTable, chunk: u32, before: &mut DeferredRelease) {
        if before.times > 0 && before.chunk != chunk {
            self.flush_deferred(table, std::mem::take(before));
        }
        before.chunk = chunk;
        before.times += 1;
    }

    #[inline]
    fn flush_deferred(&mut self, table: &SegmentTable, deferred: DeferredRelease) {
        if deferred.times > 0 {
            self.release(table, deferred.chunk, deferred.times);
        }
    }
}

impl<M: FrameMemory> Pool<M> {
    /// A pool that owns the chunks `owned` of `memory`, all of them free. The caller guarantees
    /// that they are in no other pool: the ranges of pools over one area must not overlap.
    pub(crate) fn new(memory: M, owned: Range<u32>) -> Self {
        let total = owned.len();
        let free = owned.clone().rev().collect();
        // Capacity for foreign chunks, so that freeing never allocates.
        let foreign = Vec::with_capacity(total.max(4 * BURST));
        Self {
            memory,
            chunks: FreeChunks {
                owned,
                free,
                foreign,
            },
        }
    }

    /// The memory area.
    #[inline]
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// The memory area, to write to frames.
    #[inline]
    pub const fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    /// Allocates a chunk: an empty frame at offset [`HEADROOM`]. `None` when all are in use.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        self.chunks
            .free
            .pop()
            .map(|chunk| Frame::new(chunk, HEADROOM, 0))
    }

    /// Frees a frame: all of its chunks that no other frame shares.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        if frame.is_chained() {
            self.free_rest(&frame);
        }
        self.chunks.put(frame.chunk());
    }

    /// Frees many frames: [`Pool::free`] at a lower cost for copies that share a payload.
    #[inline(never)]
    pub fn free_bulk(&mut self, frames: impl Iterator<Item = Frame>) {
        let Self { memory, chunks } = self;
        let table = memory.segments();
        let mut shared = DeferredRelease::default();
        for frame in frames {
            if frame.is_chained() && !(shared.times > 0 && table.ends_in(&frame, shared.chunk)) {
                table
                    .rest(&frame)
                    .for_each(|segment| chunks.defer_release(table, segment.chunk(), &mut shared));
            } else if frame.is_chained() {
                shared.times += 1;
            }
            chunks.put(frame.chunk());
        }
        chunks.flush_deferred(table, shared);
    }

    /// Shortens a frame to `len` bytes, and frees the chunks that it no longer uses. A longer `len`
    /// changes nothing.
    #[inline]
    pub fn truncate(&mut self, frame: &mut Frame, len: usize) {
        if frame.is_chained() {
            self.cut_rest(frame, len.saturating_sub(frame.first().len()));
        }
        if len < frame.first().len() {
            frame.shorten(len, frame.rest());
        }
    }

    #[cold]
    fn free_rest(&mut self, frame: &Frame) {
        let Self { memory, chunks } = self;
        let table = memory.segments();
        table
            .rest(frame)
            .for_each(|segment| chunks.release(table, segment.chunk(), 1));
    }

    /// Keeps `keep` bytes after the first segment.
    #[cold]
    fn cut_rest(&mut self, frame: &mut Frame, keep: usize) {
        let Self { memory, chunks } = self;
        let table = memory.segments();
        let mut at = 0;
        for segment in table.rest(frame) {
            if at >= keep {
                chunks.release(table, segment.chunk(), 1);
            }
            at += segment.len();
        }
        frame.shorten(usize::from(frame.head()), at.min(keep));
    }

    /// Drops `times` references to all chunks of a shared frame, the first one included.
    pub(crate) fn release_shared(&mut self, frame: Frame, times: u32) {
        let Self { memory, chunks } = self;
        let table = memory.segments();
        let all = std::iter::once(frame.first()).chain(table.rest(&frame));
        all.for_each(|segment| chunks.release(table, segment.chunk(), times));
    }

    /// Drops one reference to a shared chunk, together with the next ones to the same chunk. Must
    /// be followed by [`Pool::flush_deferred`].
    #[inline]
    pub(crate) fn defer_release(&mut self, chunk: u32, before: &mut DeferredRelease) {
        self.chunks
            .defer_release(self.memory.segments(), chunk, before);
    }

    /// Drops the references that were deferred.
    #[inline]
    pub(crate) fn flush_deferred(&mut self, deferred: DeferredRelease) {
        self.chunks.flush_deferred(self.memory.segments(), deferred);
    }

    /// The number of free chunks that this pool owns.
    #[inline]
    #[must_use]
    pub fn available(&self) -> usize {
        self.chunks.free.len()
    }

    /// The number of chunks that this pool owns.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.chunks.owned.len()
    }

    /// Removes a foreign chunk, as a frame, to be returned to its owner.
    #[inline]
    pub fn pop_foreign(&mut self) -> Option<Frame> {
        self.chunks
            .foreign
            .pop()
            .map(|chunk| Frame::new(chunk, HEADROOM, 0))
    }

    /// The number of foreign chunks.
    #[inline]
    #[must_use]
    pub fn foreign(&self) -> usize {
        self.chunks.foreign.len()
    }
}

/// References to one shared chunk that are dropped together: a flood's payload is released once for
/// each copy.
#[derive(Debug, Default)]
pub(crate) struct DeferredRelease {
    chunk: u32,
    times: u32,
}
