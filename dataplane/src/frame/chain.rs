//! Chains: frames of several segments, each in a chunk of its own, and chunks that several frames
//! share.
//!
//! ```text
//!   Frame: first chunk --link--> chunk --link--> chunk     not shared: reference count 0
//!
//!   Frame: header --link--+
//!   Frame: header --link--+-> chunk --link--> chunk    shared: each chunk has a reference count
//!   Frame: header --link--+
//! ```
//!
//! The headers of such frames may be parts of one chunk ([`super::Pool::split`]), which is shared,
//! too: its one link leads to the payload of all.
//!
//! A frame holds the number of bytes that follow its first segment; the links record where they
//! are. The segments of a shared payload are written before it is shared, and never after.
//!
//! The table also has, by first chunk, what the sender of a frame left to hardware
//! ([`super::offload`]); a flag of the token says whether it does.
//!
//! Links, reference counts and offloads are atomic, and shared by all workers. Only the owners of a chunk
//! access them, and frames move between workers over queues that order memory, so that relaxed
//! loads and stores suffice. Only the release of a shared chunk needs an ordering of its own,
//! because the last owner reuses the chunk.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::offload::Offload;
use super::{BURST, Frame, MAX_REST};
use crate::wire::{ethernet, ipv6, udp, vlan, vxlan};

/// Maximum number of segments of a frame. The longest one takes 37 chunks of 1792 bytes, and may also
/// be made of the chunks of a burst.
pub const MAX_SEGMENTS: usize = BURST;

/// The longest frame, bytes: the longest IPv6 packet (RFC 8200 section 3) with an Ethernet header, two
/// VLAN tags, and the outer header before them.
pub const MAX_LEN: usize = ipv6::LEN + 65_535 + ethernet::LEN + 2 * vlan::LEN + MAX_OUTER;

/// The longest outer header, bytes: Ethernet, 802.1Q, IPv6, UDP and VXLAN.
const MAX_OUTER: usize = ethernet::LEN + vlan::LEN + ipv6::LEN + udp::LEN + vxlan::LEN;

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

/// One link, one reference count and one offload for each chunk of a memory area.
#[derive(Debug)]
pub struct SegmentTable {
    /// The segment that follows a chunk; undefined for the last one of a frame.
    links: Box<[AtomicU64]>,
    /// References to a chunk; 0 when it is not shared.
    ref_counts: Box<[AtomicU32]>,
    /// The offload of the frame that begins in a chunk; undefined for a frame without one.
    offloads: Box<[AtomicU64]>,
}

impl SegmentTable {
    /// A table for `chunks` chunks, none of them linked or shared.
    #[must_use]
    pub fn new(chunks: u32) -> Self {
        Self {
            links: (0..chunks).map(|_| AtomicU64::new(0)).collect(),
            ref_counts: (0..chunks).map(|_| AtomicU32::new(0)).collect(),
            offloads: (0..chunks).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// What the sender of `frame` left to hardware; the default when that is nothing.
    #[must_use]
    pub fn offload(&self, frame: &Frame) -> Offload {
        if frame.has_offload() {
            Offload::from_bits(self.offloads[frame.chunk() as usize].load(Ordering::Relaxed))
        } else {
            Offload::default()
        }
    }

    /// Records what the sender of `frame` left to hardware. It stays with the frame until its first
    /// chunk is freed.
    pub fn set_offload(&self, frame: &mut Frame, offload: Offload) {
        let has = offload != Offload::default();
        if has {
            self.offloads[frame.chunk() as usize].store(offload.to_bits(), Ordering::Relaxed);
        }
        frame.set_has_offload(has);
    }

    #[inline]
    pub(super) fn link(&self, from: u32, to: Segment) {
        self.links[from as usize].store(to.to_bits(), Ordering::Relaxed);
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
        self.ref_counts[chunk as usize].load(Ordering::Relaxed) != 0
    }

    /// Shares `chunk`, which has one owner, between `references` frames.
    #[inline]
    pub(crate) fn share(&self, chunk: u32, references: u32) {
        self.ref_counts[chunk as usize].store(references, Ordering::Relaxed);
    }

    /// Drops `times` references to a chunk. True when none is left: the chunk is free.
    #[inline]
    pub(crate) fn release(&self, chunk: u32, times: u32) -> bool {
        let cell = &self.ref_counts[chunk as usize];
        // Orders all accesses of former owners before the reuse of the chunk.
        let references = cell.load(Ordering::Acquire);
        if references == times {
            // No one else has any: without an atomic subtraction, which takes as long as some copies.
            cell.store(0, Ordering::Relaxed);
        }
        references == 0 || references == times || cell.fetch_sub(times, Ordering::AcqRel) == times
    }
}

/// Iterates over the segments after a frame's first one. Each link is read before its chunk is
/// returned, so that the caller may free the chunk.
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

/// A payload that several headers are linked to, with one reference each ([`SegmentTable::share`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedPayload {
    first: Segment,
    len: usize,
}

impl SharedPayload {
    /// All of `frame`; `None` when it is empty, or too long for `header` more bytes ([`MAX_LEN`]) or
    /// for what follows a header ([`MAX_REST`]).
    pub(crate) fn new(frame: &Frame, header: usize) -> Option<Self> {
        let (first, len) = (frame.first(), frame.len());
        let fits = len <= MAX_REST && header + len <= MAX_LEN;
        (!first.is_empty() && fits).then_some(Self { first, len })
    }

    /// Length, bytes.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Links the payload to `chunk`, which is split into headers of it.
    #[inline]
    pub(crate) fn link_to(&self, table: &SegmentTable, chunk: u32) {
        table.link(chunk, self.first);
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
    fn a_frame_continues_from_chunk_to_chunk() {
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
    fn a_shared_chunk_is_free_after_its_last_release() {
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
    fn several_headers_share_one_payload() {
        let table = SegmentTable::new(16);
        let payload = chain(&table, &[1000, 500]);
        let shared = SharedPayload::new(&payload, 74).unwrap();
        shared.link_to(&table, 8);
        let headers = [0, 64].map(|start| Frame::part(8, start, 50, shared.len()));
        for header in headers {
            assert_eq!(
                (header.len(), header.first().len(), header.is_part()),
                (1550, 50, true)
            );
            assert!(
                table
                    .rest(&header)
                    .eq([Segment::new(0, 10, 1000), Segment::new(1, 10, 500)])
            );
        }
        assert!(SharedPayload::new(&payload, MAX_LEN - 1499).is_none());
        assert!(SharedPayload::new(&Frame::new(7, 0, 0), 74).is_none());
    }

    #[test]
    fn an_offload_stays_with_its_frame() {
        let table = SegmentTable::new(16);
        let mut frame = chain(&table, &[100, 200, 300]);
        assert!(!frame.has_offload());
        let offload = Offload {
            vlan_tci: Some(7),
            ..Offload::default()
        };
        table.set_offload(&mut frame, offload);
        frame.trim_front(60).unwrap();
        frame.prepend(64).unwrap();
        let mut frame = frame.take();
        assert_eq!(table.offload(&frame), offload);
        assert_eq!((frame.len(), frame.first().len()), (604, 104));
        assert_eq!(table.offload(&Frame::new(0, 10, 100)), Offload::default());
        table.set_offload(&mut frame, Offload::default());
        assert_eq!(table.offload(&frame), Offload::default());
        assert_eq!((frame.len(), frame.has_offload()), (604, false));
    }
}
