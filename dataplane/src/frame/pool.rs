//! The pool that a worker takes chunks from.

use std::ops::Range;

use super::chain::Chains;
use super::{BURST, Frame, FrameMemory, HEADROOM};

/// A worker's free chunks. Chunks whose home is another worker's pool are kept apart, to be sent home.
#[derive(Debug)]
pub struct Pool<M> {
    memory: M,
    chunks: FreeChunks,
}

#[derive(Debug)]
struct FreeChunks {
    home: Range<u32>,
    free: Vec<u32>,
    strays: Vec<u32>,
}

impl FreeChunks {
    #[inline]
    fn put(&mut self, chunk: u32) {
        if self.home.contains(&chunk) {
            self.free.push(chunk);
        } else {
            self.strays.push(chunk);
        }
    }

    /// Gives up `times` holds on a chunk that a frame went on in.
    #[inline]
    fn release(&mut self, chains: &Chains, chunk: u32, times: u32) {
        if chains.release(chunk, times) {
            self.put(chunk);
        }
    }

    /// Gives up one hold, now or together with the next ones of the same chunk.
    #[inline]
    fn release_later(&mut self, chains: &Chains, chunk: u32, before: &mut Releases) {
        if before.times > 0 && before.chunk != chunk {
            self.finish(chains, std::mem::take(before));
        }
        before.chunk = chunk;
        before.times += 1;
    }

    #[inline]
    fn finish(&mut self, chains: &Chains, releases: Releases) {
        if releases.times > 0 {
            self.release(chains, releases.chunk, releases.times);
        }
    }
}

impl<M: FrameMemory> Pool<M> {
    /// A pool that owns the chunks `home` of `memory`, all of them free. The caller vouches that nobody else has them:
    /// ranges of pools over one area must not overlap.
    pub(crate) fn new(memory: M, home: Range<u32>) -> Self {
        let total = home.len();
        let free = home.clone().rev().collect();
        // Room for chunks that other workers own, so that giving back never allocates.
        let strays = Vec::with_capacity(total.max(4 * BURST));
        Self {
            memory,
            chunks: FreeChunks { home, free, strays },
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
    pub fn take(&mut self) -> Option<Frame> {
        self.chunks
            .free
            .pop()
            .map(|chunk| Frame::new(chunk, HEADROOM, 0))
    }

    /// Takes a frame's chunks back: those that no other frame ends in.
    #[inline]
    pub fn give(&mut self, frame: Frame) {
        if frame.is_chained() {
            self.give_rest(&frame);
        }
        self.chunks.put(frame.chunk());
    }

    /// Takes the chunks of many frames back: as [`Pool::give`], at less cost for the copies of a flood.
    #[inline(never)]
    pub fn give_all(&mut self, frames: impl Iterator<Item = Frame>) {
        let Self { memory, chunks } = self;
        let chains = memory.chains();
        let mut shared = Releases::default();
        for frame in frames {
            if frame.is_chained() && !(shared.times > 0 && chains.ends_in(&frame, shared.chunk)) {
                chains
                    .rest(&frame)
                    .for_each(|piece| chunks.release_later(chains, piece.chunk(), &mut shared));
            } else if frame.is_chained() {
                shared.times += 1;
            }
            chunks.put(frame.chunk());
        }
        chunks.finish(chains, shared);
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
    fn give_rest(&mut self, frame: &Frame) {
        let Self { memory, chunks } = self;
        let chains = memory.chains();
        chains
            .rest(frame)
            .for_each(|piece| chunks.release(chains, piece.chunk(), 1));
    }

    /// Leaves `keep` bytes behind the first chunk.
    #[cold]
    fn cut_rest(&mut self, frame: &mut Frame, keep: usize) {
        let Self { memory, chunks } = self;
        let chains = memory.chains();
        let mut at = 0;
        for piece in chains.rest(frame) {
            if at >= keep {
                chunks.release(chains, piece.chunk(), 1);
            }
            at += piece.len();
        }
        frame.shorten(usize::from(frame.head()), at.min(keep));
    }

    /// Gives up the holds of `times` frames on all chunks of one that is shared, first chunk and all.
    pub(crate) fn give_up(&mut self, frame: Frame, times: u32) {
        let Self { memory, chunks } = self;
        let chains = memory.chains();
        let all = std::iter::once(frame.first()).chain(chains.rest(&frame));
        all.for_each(|piece| chunks.release(chains, piece.chunk(), times));
    }

    /// Gives up one hold on a chunk that several frames end in, now or with the next ones; [`Pool::finish`] the last.
    #[inline]
    pub(crate) fn release_later(&mut self, chunk: u32, before: &mut Releases) {
        self.chunks
            .release_later(self.memory.chains(), chunk, before);
    }

    /// Gives up what was put off.
    #[inline]
    pub(crate) fn finish(&mut self, releases: Releases) {
        self.chunks.finish(self.memory.chains(), releases);
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
        self.chunks.home.len()
    }

    /// The next chunk that belongs to another worker's pool, as a frame.
    #[inline]
    pub fn next_stray(&mut self) -> Option<Frame> {
        self.chunks
            .strays
            .pop()
            .map(|chunk| Frame::new(chunk, HEADROOM, 0))
    }

    /// How many chunks of other workers wait here.
    #[inline]
    #[must_use]
    pub fn strays(&self) -> usize {
        self.chunks.strays.len()
    }
}

/// Holds on one shared chunk that are given up together: a flood's payload comes back once a copy.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    chunk: u32,
    times: u32,
}
