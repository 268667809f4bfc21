//! A worker's pool of free chunks.

use std::ops::Range;

use super::buffer::BufferTable;
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
    fn release(&mut self, table: &BufferTable, chunk: u32, times: u32) {
        if table.release(chunk, times) {
            self.put(chunk);
        }
    }

    /// Frees `times` frames that end in the chunks of `frame`, all of whose first segments are in its
    /// first chunk.
    fn release_all(
        &mut self,
        table: &BufferTable,
        frame: &Frame,
        times: u32,
        deferred: &mut DeferredRelease,
    ) {
        for segment in table.rest(frame) {
            self.defer_release(table, segment.chunk(), times, deferred);
        }
        // After its link was read. Only a chunk with parts has a count.
        self.release(table, frame.chunk(), times);
    }

    /// Drops `times` references to a chunk, together with the next ones to the same chunk.
    #[inline]
    fn defer_release(
        &mut self,
        table: &BufferTable,
        chunk: u32,
        times: u32,
        before: &mut DeferredRelease,
    ) {
        let DeferredRelease([last, other]) = before;
        if last.chunk != chunk {
            std::mem::swap(last, other);
            if last.chunk != chunk {
                self.flush(table, std::mem::take(last));
                last.chunk = chunk;
            }
        }
        last.times += times;
    }

    #[inline]
    fn flush_deferred(&mut self, table: &BufferTable, deferred: DeferredRelease) {
        deferred
            .0
            .into_iter()
            .for_each(|references| self.flush(table, references));
    }

    #[inline]
    fn flush(&mut self, table: &BufferTable, references: References) {
        if references.times > 0 {
            self.release(table, references.chunk, references.times);
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

    /// Splits the chunk of `whole`, a frame of one segment, into `count` frames: each has `len` of
    /// `stride` bytes, one after the other from the start of `whole`, and `rest` bytes in the chunks
    /// that are linked to this one ([`super::chain::SharedPayload::link_to`]). The chunk is free when
    /// the last of the frames is: all must be taken from the iterator.
    ///
    /// # Panics
    /// If there is none, or they exceed `whole`.
    #[inline]
    pub(crate) fn split(
        &self,
        whole: Frame,
        (len, stride): (u16, u16),
        count: u16,
        rest: usize,
    ) -> impl ExactSizeIterator<Item = Frame> + use<M> {
        assert!(
            count > 0
                && len <= stride
                && whole.is_plain()
                && usize::from(count) * usize::from(stride) <= whole.len(),
            "the frames are parts of the chunk"
        );
        let (chunk, start) = (whole.chunk(), whole.start());
        self.memory.buffers().share(chunk, count.into());
        // The offsets stay below the size of a chunk: the field does not overflow. The factors are
        // short, so that several tokens are made by one instruction.
        let first = Frame::part(chunk, start, len, rest).0;
        (0..u32::from(count)).map(move |number| {
            let offset = u64::from(number) * u64::from(stride);
            Frame(first + (offset << super::START))
        })
    }

    /// Frees a frame: all of its chunks that no other frame shares.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        if frame.is_single() {
            self.chunks.put(frame.chunk());
        } else {
            self.free_all(&frame);
        }
    }

    /// Frees many frames: [`Pool::free`] at a lower cost for copies that share a payload.
    #[inline(never)]
    pub fn free_bulk(&mut self, frames: impl ExactSizeIterator<Item = Frame>) {
        let Self { memory, chunks } = self;
        let (table, mut shared) = (memory.buffers(), DeferredRelease::default());
        let mut frames = frames;
        let mut next = frames.next();
        while let Some(first) = next {
            if first.is_plain() {
                chunks.put(first.chunk());
                next = frames.next();
                continue;
            }
            // Parts of one chunk before the same payload, one after the other.
            let before = frames.len();
            next = frames.find(|frame| !frame.is_sibling(&first));
            let siblings = 1 + before - frames.len() - usize::from(next.is_some());
            chunks.release_all(table, &first, siblings as u32, &mut shared);
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
    fn free_all(&mut self, frame: &Frame) {
        let Self { memory, chunks } = self;
        let table = memory.buffers();
        table
            .rest(frame)
            .for_each(|segment| chunks.release(table, segment.chunk(), 1));
        // After its link was read. Only a part of a chunk has a count.
        chunks.release(table, frame.chunk(), 1);
    }

    /// Keeps `keep` bytes after the first segment.
    #[cold]
    fn cut_rest(&mut self, frame: &mut Frame, keep: usize) {
        let Self { memory, chunks } = self;
        let table = memory.buffers();
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
        let table = memory.buffers();
        let all = std::iter::once(frame.first()).chain(table.rest(&frame));
        all.for_each(|segment| chunks.release(table, segment.chunk(), times));
    }

    /// Drops one reference to a shared chunk, together with the next ones to the same chunk. Must
    /// be followed by [`Pool::flush_deferred`].
    #[inline]
    pub(crate) fn defer_release(&mut self, chunk: u32, before: &mut DeferredRelease) {
        self.chunks
            .defer_release(self.memory.buffers(), chunk, 1, before);
    }

    /// Drops the references that were deferred.
    #[inline]
    pub(crate) fn flush_deferred(&mut self, deferred: DeferredRelease) {
        self.chunks.flush_deferred(self.memory.buffers(), deferred);
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

/// References to shared chunks that are dropped together: a flood's payload is released once for
/// each copy, in turn with the chunk that has the copies' headers.
#[derive(Debug, Default)]
pub(crate) struct DeferredRelease([References; 2]);

/// References to one chunk.
#[derive(Debug, Default)]
struct References {
    chunk: u32,
    times: u32,
}

#[cfg(test)]
mod tests {
    use super::super::chain::SharedPayload;
    use super::*;
    use crate::port::memory::{HeapMemory, memory_pools};

    /// `count` headers in one chunk, of a payload that they share with its owner.
    fn headers(pool: &mut Pool<HeapMemory>, count: u16) -> (Frame, Vec<Frame>) {
        let mut payload = pool.alloc().unwrap();
        payload.set_extent(HEADROOM, 1000, 2048).unwrap();
        let shared = SharedPayload::new(&payload, 74).unwrap();
        let table = pool.memory().buffers();
        table.share(payload.chunk(), u32::from(count) + 1);
        let mut chunk = pool.alloc().unwrap();
        chunk.set_extent(0, 2048, 2048).unwrap();
        shared.link_to(pool.memory().buffers(), chunk.chunk());
        let parts = pool.split(chunk, (50, 64), count, shared.len()).collect();
        (payload, parts)
    }

    #[test]
    fn the_parts_of_a_chunk_are_disjoint_and_its_last_frees_it() {
        for in_bulk in [false, true] {
            let mut pool = memory_pools(1, 8, 2048).remove(0);
            let (payload, parts) = headers(&mut pool, 32);
            for (part, number) in parts.iter().zip(0..) {
                let place = (part.start(), part.first().len(), part.len());
                assert_eq!(place, (number * 64, 50, 1050));
            }
            let mut parts = parts.into_iter();
            let last = parts.next_back().unwrap();
            if in_bulk {
                pool.free_bulk(parts);
            } else {
                parts.for_each(|part| pool.free(part));
            }
            assert_eq!(pool.available(), 6);
            pool.free(last);
            assert_eq!(pool.available(), 7);
            pool.release_shared(payload, 1);
            assert_eq!(pool.available(), 8);
        }
    }

    #[test]
    fn the_frames_of_many_floods_are_freed_in_any_order() {
        let mut pool = memory_pools(1, 16, 2048).remove(0);
        let floods: Vec<_> = (1..6).map(|count| headers(&mut pool, count)).collect();
        let (payloads, parts): (Vec<_>, Vec<_>) = floods.into_iter().unzip();
        let mut mixed: Vec<_> = parts.into_iter().flatten().collect();
        mixed.sort_by_key(|part| (part.start(), part.chunk()));
        // A chunk of its own among them.
        mixed.insert(3, pool.alloc().unwrap());
        let later = mixed.split_off(9);
        pool.free_bulk(mixed.into_iter());
        payloads
            .into_iter()
            .for_each(|payload| pool.release_shared(payload, 1));
        let mut deferred = DeferredRelease::default();
        for part in later {
            // As completions: the header, then the payload.
            let rest: Vec<_> = pool.memory().buffers().rest(&part).collect();
            pool.defer_release(part.chunk(), &mut deferred);
            rest.iter()
                .for_each(|segment| pool.defer_release(segment.chunk(), &mut deferred));
        }
        pool.flush_deferred(deferred);
        assert_eq!(pool.available(), 16);
    }

    #[test]
    #[should_panic(expected = "parts of the chunk")]
    fn parts_beyond_a_chunk_are_refused() {
        let mut pool = memory_pools(1, 8, 2048).remove(0);
        let mut chunk = pool.alloc().unwrap();
        chunk.set_extent(0, 2048, 2048).unwrap();
        drop(pool.split(chunk, (50, 64), 33, 0));
    }
}
