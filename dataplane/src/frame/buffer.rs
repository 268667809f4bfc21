//! Buffer records: what is known of each chunk of a memory area, in one array beside the area.
//!
//! ```text
//! | next 8 bytes | offload 8 | references 4 | holder 2 | unused 10 |     two in a cache line
//!
//! next:       the segment that follows the chunk
//! offload:    what the sender of the frame that begins in the chunk left to hardware
//! references: of the frames that share the chunk; 0 when it has one owner
//! holder:     user space, or the kernel in a ring of a socket
//! ```
//!
//! What else a packet buffer usually records is in the token ([`Frame`]): start and length of the
//! first segment, and the total length.
//!
//! Who writes which field:
//!
//! - The next segment and the offload: the worker that has the frame's token.
//! - The holder: that worker when it gives the chunk to a socket, and then the owner of the socket.
//!   That of a shared chunk stays user space: it may be in several rings at once.
//! - The references: the only owner when it shares the chunk, and then all that release it.
//!
//! Chunks move between workers over queues that order memory, so that relaxed loads and stores
//! suffice. Only the release of a shared chunk needs an ordering of its own, because the last owner
//! reuses the chunk.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use super::offload::Offload;
use super::{Frame, HEADROOM};
use crate::mem;

/// The number of a socket. Reused only after the socket is closed and its chunks are reclaimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(u16);

impl Owner {
    /// Maximum number of sockets that the records of one memory area can distinguish.
    pub(crate) const MAX: usize = 32_767;

    /// The owner with this number, below [`Owner::MAX`].
    pub(crate) fn new(number: usize) -> Option<Self> {
        if number < Self::MAX {
            u16::try_from(number).ok().map(Self)
        } else {
            None
        }
    }

    /// The number.
    pub(crate) const fn number(self) -> usize {
        self.0 as usize
    }
}

/// The holder of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkState {
    /// User space: a token [`Frame`], a free chunk of a pool, or a chunk shared by several frames.
    User,
    /// In the fill or rx ring of a socket.
    Receive(Owner),
    /// In the tx or completion ring of a socket.
    Transmit(Owner),
}

impl ChunkState {
    #[inline]
    const fn code(self) -> u16 {
        match self {
            Self::User => 0,
            Self::Receive(owner) => owner.0 * 2 + 1,
            Self::Transmit(owner) => owner.0 * 2 + 2,
        }
    }
}

/// Consecutive bytes of a frame in one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    chunk: u32,
    start: u16,
    len: u16,
}

impl Segment {
    /// A segment. Its bytes must lie inside the chunk.
    #[inline]
    pub(crate) const fn new(chunk: u32, start: u16, len: u16) -> Self {
        Self { chunk, start, len }
    }

    /// The chunk's number.
    #[inline]
    #[must_use]
    pub const fn chunk(self) -> u32 {
        self.chunk
    }

    /// Offset in the chunk, bytes.
    #[inline]
    #[must_use]
    pub const fn start(self) -> u16 {
        self.start
    }

    /// Length, bytes.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.len as usize
    }

    /// True when the length is 0.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// `| chunk 32 | start 16 | len 16 |`
    #[inline]
    const fn to_bits(self) -> u64 {
        (self.chunk as u64) << 32 | (self.start as u64) << 16 | self.len as u64
    }

    #[inline]
    const fn from_bits(bits: u64) -> Self {
        Self {
            chunk: (bits >> 32) as u32,
            start: (bits >> 16) as u16,
            len: bits as u16,
        }
    }
}

/// The record of one chunk.
#[derive(Debug, Default)]
#[repr(C, align(32))]
struct BufferRecord {
    next: AtomicU64,
    offload: AtomicU64,
    references: AtomicU32,
    holder: AtomicU16,
}

/// The records of all chunks of a memory area.
#[derive(Debug)]
pub struct BufferTable {
    records: Box<[BufferRecord]>,
}

impl BufferTable {
    /// Records of `chunks` chunks, all in user space, none of them linked or shared.
    #[must_use]
    pub fn new(chunks: u32) -> Self {
        Self {
            records: mem::allocate(chunks as usize, BufferRecord::default),
        }
    }

    #[inline]
    fn record(&self, chunk: u32) -> &BufferRecord {
        &self.records[chunk as usize]
    }

    /// Records that a chunk moves to `state`. Its token must be gone: the kernel holds the chunk
    /// from now on.
    #[inline]
    pub(crate) fn transfer(&self, chunk: u32, state: ChunkState) {
        self.record(chunk).holder.store(state.code(), Relaxed);
    }

    /// Returns a chunk to user space if it is in `state`, and makes its token, an empty frame.
    /// `None` when the chunk doesn't exist or is in another state: the kernel's descriptor is wrong
    /// and must be ignored.
    #[inline]
    pub(crate) fn reclaim(&self, chunk: u64, state: ChunkState) -> Option<Frame> {
        let holder = &self.records.get(usize::try_from(chunk).ok()?)?.holder;
        if holder.load(Relaxed) != state.code() {
            return None;
        }
        holder.store(ChunkState::User.code(), Relaxed);
        Some(Frame::new(chunk as u32, HEADROOM, 0))
    }

    /// Reclaims every chunk of a closed socket, which the kernel does not access any more.
    pub(crate) fn reclaim_all(&self, owner: Owner, mut give: impl FnMut(Frame)) {
        for chunk in 0..self.records.len() as u64 {
            for state in [ChunkState::Receive(owner), ChunkState::Transmit(owner)] {
                if let Some(frame) = self.reclaim(chunk, state) {
                    give(frame);
                }
            }
        }
    }

    /// What the sender of `frame` left to hardware; the default when that is nothing.
    #[must_use]
    pub fn offload(&self, frame: &Frame) -> Offload {
        if frame.has_offload() {
            Offload::from_bits(self.record(frame.chunk()).offload.load(Relaxed))
        } else {
            Offload::default()
        }
    }

    /// Records what the sender of `frame` left to hardware. It stays with the frame until its first
    /// chunk is freed.
    pub fn set_offload(&self, frame: &mut Frame, offload: Offload) {
        let has = offload != Offload::default();
        if has {
            let bits = offload.to_bits();
            self.record(frame.chunk()).offload.store(bits, Relaxed);
        }
        frame.set_has_offload(has);
    }

    /// Continues the frame whose last chunk is `from` in the segment `to`.
    #[inline]
    pub(super) fn link(&self, from: u32, to: Segment) {
        self.record(from).next.store(to.to_bits(), Relaxed);
    }

    /// The segments after the first one of `frame`, in order; none is empty.
    #[inline]
    pub(crate) fn rest(&self, frame: &Frame) -> Segments<'_> {
        let mut segments = Segments {
            table: self,
            next: None,
            left: frame.rest(),
        };
        segments.follow(frame.chunk());
        segments
    }

    /// True when several frames may share the chunk.
    #[inline]
    pub(crate) fn is_shared(&self, chunk: u32) -> bool {
        self.record(chunk).references.load(Relaxed) != 0
    }

    /// Shares `chunk`, which has one owner, between `references` frames.
    #[inline]
    pub(crate) fn share(&self, chunk: u32, references: u32) {
        self.record(chunk).references.store(references, Relaxed);
    }

    /// Drops `times` references to a chunk. True when none is left: the chunk is free.
    #[inline]
    pub(crate) fn release(&self, chunk: u32, times: u32) -> bool {
        let cell = &self.record(chunk).references;
        // Orders all accesses of former owners before the reuse of the chunk.
        let references = cell.load(Acquire);
        if references == times {
            // No one else has any: without an atomic subtraction, which takes as long as some copies.
            cell.store(0, Relaxed);
        }
        references == 0 || references == times || cell.fetch_sub(times, AcqRel) == times
    }
}

/// Iterates over the segments after a frame's first one. Each link is read before its chunk is
/// returned, so that the caller may free the chunk.
#[derive(Debug)]
pub(crate) struct Segments<'t> {
    table: &'t BufferTable,
    next: Option<Segment>,
    left: usize,
}

impl Segments<'_> {
    #[inline]
    fn follow(&mut self, chunk: u32) {
        self.next = (self.left > 0).then(|| {
            let mut segment = Segment::from_bits(self.table.record(chunk).next.load(Relaxed));
            // A shortened frame may end inside a segment.
            segment.len = segment.len.min(self.left.min(usize::from(u16::MAX)) as u16);
            segment
        });
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        let segment = self.next.take().filter(|segment| segment.len > 0)?;
        self.left -= segment.len();
        self.follow(segment.chunk);
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_records_fill_a_cache_line() {
        assert_eq!(size_of::<BufferRecord>(), 32);
        assert_eq!(align_of::<BufferRecord>(), 32);
    }

    #[test]
    fn a_shared_chunk_is_free_after_its_last_release() {
        let table = BufferTable::new(4);
        assert!(table.release(2, 1), "of one frame");
        table.share(2, 5);
        assert!(table.is_shared(2));
        assert!(!table.release(2, 1));
        assert!(!table.release(2, 3));
        assert!(table.release(2, 1));
        assert!(!table.is_shared(2));
    }

    #[test]
    fn a_chunk_is_reclaimed_once_and_only_from_its_state() {
        let table = BufferTable::new(4);
        let [first, second] = [Owner::new(0).unwrap(), Owner::new(1).unwrap()];
        table.transfer(3, ChunkState::Receive(second));
        assert_eq!(table.reclaim(3, ChunkState::Receive(first)), None);
        assert_eq!(table.reclaim(3, ChunkState::Transmit(second)), None);
        assert_eq!(table.reclaim(4, ChunkState::Receive(second)), None);
        assert_eq!(table.reclaim(u64::MAX, ChunkState::Receive(second)), None);
        assert_eq!(
            table.reclaim(3, ChunkState::Receive(second)),
            Some(Frame::new(3, HEADROOM, 0))
        );
        assert_eq!(table.reclaim(3, ChunkState::Receive(second)), None);
    }

    #[test]
    fn closing_a_socket_reclaims_its_chunks_and_no_others() {
        let table = BufferTable::new(8);
        let [first, last] = [Owner::new(0).unwrap(), Owner::new(Owner::MAX - 1).unwrap()];
        assert_eq!(Owner::new(Owner::MAX), None);
        for chunk in 0..6 {
            let owner = if chunk < 3 { first } else { last };
            let state = if chunk % 2 == 0 {
                ChunkState::Receive(owner)
            } else {
                ChunkState::Transmit(owner)
            };
            table.transfer(chunk, state);
        }
        let mut back = Vec::new();
        table.reclaim_all(last, |frame| back.push(frame.chunk()));
        assert_eq!(back, [3, 4, 5]);
        table.reclaim_all(last, |_| unreachable!("reclaimed twice"));
        table.reclaim_all(first, |frame| back.push(frame.chunk()));
        assert_eq!(back, [3, 4, 5, 0, 1, 2]);
    }
}
