//! The pool that a worker takes chunks from.

use std::ops::Range;

use super::chain::SegmentTable;
use super::{BURST, Frame, FrameMemory, HEADROOM};

/// A worker's free chunks. Chunks whose owned is another worker's pool are kept apart, to be sent owned.
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

    /// Gives up `times` holds on a chunk that a frame went on in.
    #[inline]
    fn release(&mut self, table: &SegmentTable, chunk: u32, times: u32) {
        if table.release(chunk, times) {
            self.put(chunk);
        }
    }

    /// Gives up one hold, now or together with the next ones of the same chunk.
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
    /// A pool that owns the chunks `owned` of `memory`, all of them free. The caller vouches that nobody else has them:
    /// ranges of pools over one area must not overlap.
    pub(crate) fn new(memory: M, owned: Range<u32>) -> Self {
        let total = owned.len();
        let free = owned.clone().rev().collect();
        // Room for chunks that other workers own, so that giving back never allocates.
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

    /// The area.
    #[inline]
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// The area, to write to frames.
    #[inline]
    pub const fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    /// Takes a chunk: an empty frame behind [`HEADROOM`]. `None` when all are in use.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        self.chunks
            .free
            .pop()
            .map(|chunk| Frame::new(chunk, HEADROOM, 0))
    }

    /// Takes a frame's chunks back: those that no other frame ends in.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        if frame.is_chained() {
            self.free_rest(&frame);
        }
        self.chunks.put(frame.chunk());
    }

    /// Takes the chunks of many frames back: as [`Pool::free`], at less cost for the copies of a flood.
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

    /// Shortens a frame to `len` bytes; a longer `len` changes nothing. Chunks that it no longer goes on in are taken back.
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

    /// Leaves `keep` bytes behind the first chunk.
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

    /// Gives up the holds of `times` frames on all chunks of one that is shared, first chunk and all.
    pub(crate) fn release_shared(&mut self, frame: Frame, times: u32) {
        let Self { memory, chunks } = self;
        let table = memory.segments();
        let all = std::iter::once(frame.first()).chain(table.rest(&frame));
        all.for_each(|segment| chunks.release(table, segment.chunk(), times));
    }

    /// Gives up one hold on a chunk that several frames end in, now or with the next ones; [`Pool::flush_deferred`] the last.
    #[inline]
    pub(crate) fn defer_release(&mut self, chunk: u32, before: &mut DeferredRelease) {
        self.chunks
            .defer_release(self.memory.segments(), chunk, before);
    }

    /// Gives up what was put off.
    #[inline]
    pub(crate) fn flush_deferred(&mut self, deferred: DeferredRelease) {
        self.chunks.flush_deferred(self.memory.segments(), deferred);
    }

    /// How many chunks are free here.
    #[inline]
    #[must_use]
    pub fn available(&self) -> usize {
        self.chunks.free.len()
    }

    /// How many chunks this pool was made with.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.chunks.owned.len()
    }

    /// The next chunk that belongs to another worker's pool, as a frame.
    #[inline]
    pub fn pop_foreign(&mut self) -> Option<Frame> {
        self.chunks
            .foreign
            .pop()
            .map(|chunk| Frame::new(chunk, HEADROOM, 0))
    }

    /// How many chunks of other workers wait here.
    #[inline]
    #[must_use]
    pub fn foreign(&self) -> usize {
        self.chunks.foreign.len()
    }
}

/// Holds on one shared chunk that are given up together: a flood's payload comes back once a copy.
#[derive(Debug, Default)]
pub(crate) struct DeferredRelease {
    chunk: u32,
    times: u32,
}
