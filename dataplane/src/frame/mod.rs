//! Frames: a packet's bytes, with headroom before them, in chunks of a shared memory area (a UMEM).
//!
//! A [`Frame`] is an ownership token. It can't be cloned, and only pools and ports make one, so
//! that its owner alone accesses the chunk. Chunks that the kernel owns, in the fill, receive,
//! transmit and completion rings, have no token.
//!
//! A frame that is longer than a chunk continues in others: a chain of segments ([`self::chain`]).
//! A device fills each chunk before the next one, so that all headers are in the first segment, the
//! only one that the pipeline parses and writes.

mod apart;
pub mod assembly;
pub mod buffer;
pub mod chain;
pub mod offload;
mod pool;

use std::fmt;
use std::ops::Range;

use self::buffer::{BufferTable, Segment};
pub(crate) use self::pool::DeferredRelease;
pub use self::pool::Pool;
use crate::wire::checksum::Sum;
use crate::wire::sctp::Crc32c;

/// Bytes before the frame in a new chunk: the kernel's `XDP_PACKET_HEADROOM`
/// (include/uapi/linux/bpf.h). The longest outer header (Ethernet + 802.1Q + IPv6 + UDP + VXLAN =
/// 74 bytes) fits three times.
pub const HEADROOM: u16 = 256;

/// The offset in its chunk of a frame of `len` bytes that is generated locally, after the headroom.
/// Chunks are a power of two apart: frames at the same offset of each would compete for a few cache
/// sets, so that short ones are spread over different lines (cache coloring).
#[inline]
pub(crate) fn cache_color(chunk: u32, len: usize, chunk_size: usize) -> u16 {
    const COLORS: u32 = 16;
    const LINE: u16 = 64;
    let start = HEADROOM + (chunk % COLORS) as u16 * LINE;
    if usize::from(start) + len <= chunk_size {
        start
    } else {
        HEADROOM
    }
}

/// Maximum number of frames in a burst.
pub const BURST: usize = 64;

/// The requested bytes lie outside the frame, or outside its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("outside the frame's chunk")]
pub struct OutOfChunk;

/// Exclusive ownership of one chunk of a memory area, or of a part of one that frames share
/// ([`Pool::split`]), the frame's position in it, and a reference to each of the chunks that the
/// frame continues in.
///
/// Packed into one word, because frames move from ring to burst to queue:
///
/// ```text
/// | rest 16 | shared 1 | offload 1 | len 13 | start 13 | chunk 20 |
///
/// len: bytes of the first segment; rest: of the others
/// shared: the first segment is a part of a chunk that frames share: it does not grow
/// offload: the table has an `Offload` for the frame; cleared when its chunk is allocated
/// ```
#[derive(PartialEq, Eq)]
pub struct Frame(u64);

const CHUNK_BITS: u32 = 20;
const OFFSET_BITS: u32 = 13;
const START: u32 = CHUNK_BITS;
const LEN: u32 = START + OFFSET_BITS;
const OFFLOAD: u32 = LEN + OFFSET_BITS;
const SHARED: u32 = OFFLOAD + 1;
const REST: u32 = SHARED + 1;

/// Maximum number of bytes after the first segment.
pub(crate) const MAX_REST: usize = (1 << (u64::BITS - REST)) - 1;

// The longest frame fits into the token if its headers are in the first segment.
const _: () = assert!(self::chain::MAX_LEN - MAX_REST <= HEADROOM as usize);

/// Maximum number of chunks in one memory area.
pub const MAX_CHUNKS: usize = 1 << CHUNK_BITS;

/// Maximum size of a chunk, bytes.
pub const MAX_CHUNK_SIZE: usize = (1 << OFFSET_BITS) - 1;

impl Frame {
    /// Makes the token of a chunk that no other frame owns: for pools, and for ports that have
    /// checked a descriptor from the kernel. `start + len` must lie inside the chunk.
    #[inline]
    pub(crate) const fn new(chunk: u32, start: u16, len: u16) -> Self {
        debug_assert!(
            (chunk as usize) < MAX_CHUNKS && start as usize + len as usize <= MAX_CHUNK_SIZE
        );
        Self(chunk as u64 | (start as u64) << START | (len as u64) << LEN)
    }

    /// Makes the token of a part of a chunk that frames share, with `rest` bytes after it. No other
    /// frame may have a byte of this part.
    #[inline]
    const fn part(chunk: u32, start: u16, len: u16, rest: usize) -> Self {
        Self(Self::new(chunk, start, len).0 | 1 << SHARED | (rest as u64) << REST)
    }

    /// True when the first segments of both are parts of one chunk, and as many bytes follow them:
    /// they end in the same chunks.
    #[inline]
    const fn is_sibling(&self, other: &Self) -> bool {
        const SAME: u64 = (MAX_CHUNKS as u64 - 1) | u64::MAX << SHARED;
        (self.0 ^ other.0) & SAME == 0 && other.is_part()
    }

    /// Moves the frame out. The token that is left refers to no chunk and may only be dropped.
    #[inline]
    pub(crate) const fn take(&mut self) -> Self {
        std::mem::replace(self, Self(MAX_CHUNKS as u64 - 1))
    }

    /// The first chunk's number.
    #[inline]
    #[must_use]
    pub const fn chunk(&self) -> u32 {
        self.0 as u32 & (MAX_CHUNKS as u32 - 1)
    }

    /// Offset of the frame in its first chunk, bytes.
    #[inline]
    #[must_use]
    pub const fn start(&self) -> u16 {
        (self.0 >> START) as u16 & MAX_CHUNK_SIZE as u16
    }

    /// Bytes in the first chunk.
    #[inline]
    const fn head(&self) -> u16 {
        (self.0 >> LEN) as u16 & MAX_CHUNK_SIZE as u16
    }

    /// Bytes in the chunks after the first.
    #[inline]
    pub(crate) const fn rest(&self) -> usize {
        (self.0 >> REST) as usize
    }

    /// Length in bytes, of all segments.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.head() as usize + self.rest()
    }

    /// True when the length is 0.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when the frame has one segment, a chunk of its own and no [`self::offload::Offload`].
    #[inline]
    pub(crate) const fn is_plain(&self) -> bool {
        self.0 >> OFFLOAD == 0
    }

    /// True when the frame has one segment and a chunk of its own.
    #[inline]
    const fn is_single(&self) -> bool {
        self.0 >> SHARED == 0
    }

    /// True when the first segment is a part of a chunk that frames share.
    #[inline]
    pub(crate) const fn is_part(&self) -> bool {
        (self.0 >> SHARED) & 1 != 0
    }

    /// True when the frame has more than one segment.
    #[inline]
    #[must_use]
    pub const fn is_chained(&self) -> bool {
        self.0 >> REST != 0
    }

    /// True when the table of segments has an [`self::offload::Offload`] for the frame
    /// ([`BufferTable::offload`]).
    #[inline]
    #[must_use]
    pub const fn has_offload(&self) -> bool {
        (self.0 >> OFFLOAD) & 1 != 0
    }

    /// Records whether the table has an offload for the frame.
    #[inline]
    const fn set_has_offload(&mut self, has: bool) {
        self.0 = (self.0 & !(1 << OFFLOAD)) | ((has as u64) << OFFLOAD);
    }

    /// The first segment.
    #[inline]
    #[must_use]
    pub const fn first(&self) -> Segment {
        Segment::new(self.chunk(), self.start(), self.head())
    }

    /// Adds `bytes` to the length of the further segments. The total is at most
    /// [`self::chain::MAX_LEN`], and that of the further segments [`MAX_REST`].
    #[inline]
    pub(crate) const fn extend(&mut self, bytes: usize) {
        self.0 += (bytes as u64) << REST;
    }

    /// Grows the frame by `bytes` at its front, into the headroom.
    ///
    /// # Errors
    /// [`OutOfChunk`] when the headroom is shorter, or belongs to another frame; the frame is
    /// unchanged.
    #[inline]
    pub const fn prepend(&mut self, bytes: u16) -> Result<(), OutOfChunk> {
        if bytes > self.start() || self.is_part() {
            return Err(OutOfChunk);
        }
        // The end stays where it is, so that no field overflows.
        self.0 = self.0 + ((bytes as u64) << LEN) - ((bytes as u64) << START);
        Ok(())
    }

    /// Removes `bytes` at the front.
    ///
    /// # Errors
    /// [`OutOfChunk`] when the first segment is shorter; the frame is unchanged.
    #[inline]
    pub const fn trim_front(&mut self, bytes: u16) -> Result<(), OutOfChunk> {
        if bytes > self.head() {
            return Err(OutOfChunk);
        }
        self.0 = self.0 + ((bytes as u64) << START) - ((bytes as u64) << LEN);
        Ok(())
    }

    /// Sets offset and length of a frame of one segment, and forgets its offload.
    ///
    /// # Errors
    /// [`OutOfChunk`] when they exceed a chunk of `chunk_size` bytes, or the frame has more
    /// segments or shares its chunk; the frame is unchanged.
    #[inline]
    pub fn set_extent(
        &mut self,
        start: u16,
        len: usize,
        chunk_size: usize,
    ) -> Result<(), OutOfChunk> {
        let limit = chunk_size.min(MAX_CHUNK_SIZE);
        if !self.is_single()
            || usize::from(start)
                .checked_add(len)
                .is_none_or(|end| end > limit)
        {
            return Err(OutOfChunk);
        }
        *self = Self::new(self.chunk(), start, len as u16);
        Ok(())
    }

    /// Keeps `len` bytes after the first `skip` of a frame that is plain and has as many.
    #[inline]
    pub(crate) const fn keep(&mut self, skip: u16, len: usize) {
        debug_assert!(self.is_plain() && skip as usize + len <= self.len());
        self.0 = ((self.0 & ((1 << LEN) - 1)) + ((skip as u64) << START)) | ((len as u64) << LEN);
    }

    /// Reduces the lengths of the first segment and of the further ones.
    #[inline]
    fn shorten(&mut self, head: usize, rest: usize) {
        let others = self.0 & (((1 << LEN) - 1) | (1 << OFFLOAD) | (1 << SHARED));
        self.0 = others | (head as u64) << LEN | (rest as u64) << REST;
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chunk, start, len, rest) = (self.chunk(), self.start(), self.head(), self.rest());
        let offload = if self.has_offload() { ", offload" } else { "" };
        let part = if self.is_part() { ", part" } else { "" };
        write!(
            f,
            "Frame {{ chunk: {chunk}, start: {start}, len: {len}, rest: {rest}{offload}{part} }}"
        )
    }
}

/// A memory area of chunks. Bytes are accessed through the token of their frame, so that two frames
/// never alias.
pub trait FrameMemory {
    /// Size of a chunk, bytes.
    fn chunk_size(&self) -> usize;

    /// The records of the chunks: links between the segments of frames, offloads, references.
    fn buffers(&self) -> &BufferTable;

    /// The bytes of the frame's first segment.
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8];

    /// The bytes of the frame's first segment, to write.
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8];

    /// The address of the frame's first byte, to prefetch it.
    fn address(&self, frame: &Frame) -> *const u8;

    /// The bytes of `segment`, which belongs to frame `of`.
    fn segment<'a>(&'a self, of: &'a Frame, segment: Segment) -> &'a [u8];

    /// The bytes of `segment`, which belongs to frame `from`, to read; and those of another frame's
    /// first segment, to write.
    fn read_write<'a>(
        &'a mut self,
        from: &'a Frame,
        segment: Segment,
        to: &'a mut Frame,
    ) -> (&'a [u8], &'a mut [u8]);

    /// The number of chunks that the frame uses.
    #[inline]
    fn chunks(&self, frame: &Frame) -> usize {
        if frame.is_chained() {
            count_chain(self.buffers(), frame)
        } else {
            1
        }
    }

    /// Copies the frame to the start of `to`, up to the length of `to`.
    fn read(&self, frame: &Frame, to: &mut [u8]) {
        let segments = std::iter::once(frame.first()).chain(self.buffers().rest(frame));
        let mut to = to;
        for segment in segments {
            let bytes = self.segment(frame, segment);
            let (now, later) = to.split_at_mut(bytes.len().min(to.len()));
            now.copy_from_slice(&bytes[..now.len()]);
            to = later;
        }
    }

    /// The Internet checksum of the bytes `range` of the frame, over all its segments. Bytes after
    /// the end of the frame count as zero.
    #[inline]
    fn sum(&self, frame: &Frame, range: Range<usize>) -> Sum {
        let head = self.bytes(frame);
        let sum = Sum::new().bytes(&head[range.start.min(head.len())..range.end.min(head.len())]);
        if range.end <= head.len() {
            sum
        } else {
            sum_rest(self, frame, sum, range)
        }
    }

    /// The CRC32c of SCTP over the bytes `range` of the frame, in all its segments.
    #[cold]
    fn crc32c(&self, frame: &Frame, range: Range<usize>) -> Crc32c {
        let (mut crc, mut at) = (Crc32c::default(), 0);
        for segment in std::iter::once(frame.first()).chain(self.buffers().rest(frame)) {
            let bytes = self.segment(frame, segment);
            let [from, to] =
                [range.start, range.end].map(|end| end.saturating_sub(at).min(bytes.len()));
            crc = crc.bytes(&bytes[from..to]);
            at += bytes.len();
        }
        crc
    }
}

/// [`FrameMemory::chunks`] of a frame of several segments.
#[cold]
fn count_chain(segments: &BufferTable, frame: &Frame) -> usize {
    1 + segments.rest(frame).count()
}

/// Continues [`FrameMemory::sum`] after the first segment.
#[cold]
fn sum_rest<M: FrameMemory + ?Sized>(
    memory: &M,
    frame: &Frame,
    mut sum: Sum,
    range: Range<usize>,
) -> Sum {
    let mut at = frame.first().len();
    for segment in memory.buffers().rest(frame) {
        let bytes = memory.segment(frame, segment);
        let from = range.start.saturating_sub(at).min(bytes.len());
        let to = range.end.saturating_sub(at).min(bytes.len());
        if from < to {
            let is_odd = (at + from - range.start) % 2 == 1;
            sum = sum.then(Sum::new().bytes(&bytes[from..to]), is_odd);
        }
        at += bytes.len();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_never_leaves_its_chunk() {
        let mut frame = Frame::new(0, 74, 60);
        assert_eq!(frame.prepend(75), Err(OutOfChunk));
        assert_eq!((frame.start(), frame.len()), (74, 60));
        frame.prepend(74).unwrap();
        assert_eq!((frame.start(), frame.len()), (0, 134));
        assert_eq!(frame.trim_front(135), Err(OutOfChunk));
        frame.trim_front(134).unwrap();
        assert!(frame.is_empty());
        assert_eq!(frame.set_extent(2000, 100, 2048), Err(OutOfChunk));
        frame.set_extent(1948, 100, 2048).unwrap();
    }

    #[test]
    fn a_part_of_a_chunk_never_grows() {
        let mut part = Frame::part(7, 128, 50, 1500);
        assert_eq!(
            (part.len(), part.first().len(), part.rest()),
            (1550, 50, 1500)
        );
        assert_eq!(part.prepend(1), Err(OutOfChunk));
        assert_eq!(part.set_extent(0, 2048, 2048), Err(OutOfChunk));
        let mut single = Frame::part(7, 128, 50, 0);
        assert_eq!(single.prepend(0), Err(OutOfChunk));
        assert_eq!(single.set_extent(128, 50, 2048), Err(OutOfChunk));
        part.trim_front(10).unwrap();
        part.shorten(30, 100);
        let part = part.take();
        assert!(part.is_part() && !part.is_plain() && !part.has_offload());
        assert_eq!(
            (part.chunk(), part.start(), part.first().len(), part.rest()),
            (7, 138, 30, 100)
        );
    }
}
