//! Frames of several chunks: how each goes on, and how many hold a chunk that several frames end in.
//!
//! ```text
//!   Frame: first chunk ---link---> chunk ---link---> chunk        its own: nobody counts
//!
//!   Frame: header ---link--\
//!   Frame: header ---link---> chunk ---link---> chunk             shared: each chunk counts its ref_counts
//!   Frame: header ---link--/
//! ```
//!
//! A frame says how many bytes lie beyond its first chunk; the links say where. What follows is written before the frame
//! is handed over, and never changed while more than one frame ends in it.
//!
//! Links and counts are cells of all workers. They are read and written only by who holds the chunk, and frames go from
//! one worker to another over queues that order memory, so that relaxed loads and stores suffice; only giving up a
//! shared chunk is ordered by itself, since whoever is last uses the chunk again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Frame;

/// Chunks that one received frame takes at most: 9216 bytes fit into 6 of 2048 bytes in copy mode. What is longer was
/// never meant for a wire (segments that a sender on this host left to hardware).
pub const MAX_SEGMENTS: usize = 8;

/// The longest frame, bytes: room is left for outer headers.
pub const MAX_LEN: usize = 16_000;

/// Bytes of a frame that lie together in one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    chunk: u32,
    start: u16,
    len: u16,
}

impl Segment {
    /// A segment whose bytes lie inside its chunk.
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

    /// Where it begins in its chunk, bytes.
    #[inline]
    #[must_use]
    pub const fn start(self) -> u16 {
        self.start
    }

    /// Bytes.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.len as usize
    }

    /// True when it has no byte.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    const fn to_bits(self) -> u64 {
        (self.chunk as u64) << 32 | (self.start as u64) << 16 | self.len as u64
    }

    const fn from_bits(bits: u64) -> Self {
        Self {
            chunk: (bits >> 32) as u32,
            start: (bits >> 16) as u16,
            len: bits as u16,
        }
    }
}

/// One link and one count for each chunk of a memory area.
#[derive(Debug)]
pub struct SegmentTable {
    /// What follows a chunk. Of no meaning where the frame ends.
    links: Box<[AtomicU64]>,
    /// Who else may end in it; 0 for a chunk of one frame, which nobody counts.
    ref_counts: Box<[AtomicU32]>,
}

impl SegmentTable {
    /// No chunk is followed by another.
    #[must_use]
    pub fn new(chunks: u32) -> Self {
        Self {
            links: (0..chunks).map(|_| AtomicU64::new(0)).collect(),
            ref_counts: (0..chunks).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    #[inline]
    pub(super) fn link(&self, from: u32, to: Segment) {
        self.links[from as usize].store(to.to_bits(), Ordering::Relaxed);
    }

    /// What follows the first chunk of `frame`, in order; empty segments never.
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

    /// True when all that follows the first chunk of `frame` is in `chunk`.
    #[inline]
    pub(crate) fn ends_in(&self, frame: &Frame, chunk: u32) -> bool {
        let next = Segment::from_bits(self.links[frame.chunk() as usize].load(Ordering::Relaxed));
        next.chunk == chunk && next.len() >= frame.rest()
    }

    /// True when several frames may end in the chunk.
    #[inline]
    pub(crate) fn is_shared(&self, chunk: u32) -> bool {
        self.ref_counts[chunk as usize].load(Ordering::Relaxed) != 0
    }

    /// Lets `ref_counts` frames end in `chunk`, which nobody else holds now.
    #[inline]
    pub(crate) fn share(&self, chunk: u32, ref_counts: u32) {
        self.ref_counts[chunk as usize].store(ref_counts, Ordering::Relaxed);
    }

    /// Gives up a chunk `times` times. True when nobody holds it any more: it is free.
    #[inline]
    pub(crate) fn release(&self, chunk: u32, times: u32) -> bool {
        let cell = &self.ref_counts[chunk as usize];
        if cell.load(Ordering::Relaxed) == 0 {
            return true;
        }
        // Our reads of the chunk come before, and those of the others before what the last one does with it.
        cell.fetch_sub(times, Ordering::AcqRel) == times
    }
}

/// The chunks behind a frame's first one. Each link is read before its chunk is handed out, so that the caller may give
/// the chunk away.
#[derive(Debug)]
pub(crate) struct Segments<'c> {
    table: &'c SegmentTable,
    next: Option<Segment>,
    left: usize,
}

impl Segments<'_> {
    #[inline]
    fn follow(&mut self, chunk: u32) {
        self.next = (self.left > 0).then(|| {
            let mut segment =
                Segment::from_bits(self.table.links[chunk as usize].load(Ordering::Relaxed));
            // A frame that was shortened ends inside a segment.
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

/// What several headers end in, as one of its ref_counts each ([`SegmentTable::share`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedPayload {
    first: Segment,
    len: usize,
}

impl SharedPayload {
    /// All of `frame`; `None` when it is empty, or leaves no room for `header` bytes before it ([`MAX_LEN`]).
    pub(crate) fn new(frame: &Frame, header: usize) -> Option<Self> {
        let (first, len) = (frame.first(), frame.len());
        (!first.is_empty() && header + len <= MAX_LEN).then_some(Self { first, len })
    }

    /// Bytes.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Lets `header`, a frame of one chunk, go on in the payload.
    #[inline(always)]
    pub(crate) fn append_to(&self, table: &SegmentTable, header: &mut Frame) {
        debug_assert!(!header.is_chained() && header.len() + self.len <= MAX_LEN);
        table.link(header.chunk(), self.first);
        header.extend(self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::super::assembly::ChainBuilder;
    use super::*;

    fn chain(table: &SegmentTable, lens: &[u16]) -> Frame {
        let mut chunks = (0..)
            .zip(lens)
            .map(|(chunk, len)| Frame::new(chunk, 10, *len));
        let mut builder = ChainBuilder::new(chunks.next().unwrap());
        chunks.for_each(|segment| builder.push(table, segment).unwrap());
        builder.finish()
    }

    #[test]
    fn a_frame_goes_on_from_chunk_to_chunk() {
        let table = SegmentTable::new(16);
        let frame = chain(&table, &[100, 200, 300]);
        assert_eq!(
            (frame.len(), frame.first().len(), frame.is_chained()),
            (600, 100, true)
        );
        let rest: Vec<_> = table.rest(&frame).collect();
        assert_eq!(rest, [Segment::new(1, 10, 200), Segment::new(2, 10, 300)]);
        assert_eq!(table.rest(&Frame::new(3, 0, 60)).count(), 0);
    }

    #[test]
    fn a_shared_chunk_is_free_when_the_last_gives_it_up() {
        let table = SegmentTable::new(4);
        assert!(table.release(2, 1), "of one frame");
        table.share(2, 5);
        assert!(table.is_shared(2));
        assert!(!table.release(2, 1));
        assert!(!table.release(2, 3));
        assert!(table.release(2, 1));
        assert!(!table.is_shared(2));
    }

    #[test]
    fn several_headers_end_in_one_payload() {
        let table = SegmentTable::new(16);
        let payload = chain(&table, &[1000, 500]);
        let shared = SharedPayload::new(&payload, 74).unwrap();
        let mut headers = [Frame::new(8, 256, 50), Frame::new(9, 256, 70)];
        headers
            .iter_mut()
            .for_each(|header| shared.append_to(&table, header));
        for (header, len) in headers.iter().zip([1550, 1570]) {
            assert_eq!(header.len(), len);
            assert!(
                table
                    .rest(header)
                    .eq([Segment::new(0, 10, 1000), Segment::new(1, 10, 500)])
            );
        }
        assert!(SharedPayload::new(&payload, MAX_LEN - 1499).is_none());
        assert!(SharedPayload::new(&Frame::new(7, 0, 0), 74).is_none());
    }
}
