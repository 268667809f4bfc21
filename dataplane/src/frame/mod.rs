//! A frame: bytes with headroom in a chunk of a shared memory area, and the pool a worker takes chunks from.
//!
//! A [`Frame`] is a token: it can't be cloned or made from nothing, so whoever has it is the only one who may touch
//! its chunk. Chunks that the kernel has (fill, receive, transmit, completion rings) have no token.
//!
//! A frame that is longer than a chunk goes on in others ([`self::chain`]). All headers lie in the first one: a device
//! fills each before it begins the next. What a stage reads or changes are therefore the bytes of the first chunk.

pub mod assembly;
pub mod chain;
mod pool;

use std::fmt;
use std::ops::Range;

use self::chain::{Segment, SegmentTable};
pub(crate) use self::pool::DeferredRelease;
pub use self::pool::Pool;
use crate::wire::checksum::Sum;

/// Bytes before the frame in a fresh chunk: the kernel's `XDP_PACKET_HEADROOM` (include/uapi/linux/bpf.h). The
/// longest outer header (Ethernet + 802.1Q + IPv6 + UDP + VXLAN = 74 bytes) fits three times.
pub const HEADROOM: u16 = 256;

/// Where a frame of `len` bytes that is made here begins in a chunk, with headroom before it. Chunks lie a power of two apart:
/// frames at the same place of each would share a few lines of the cache, so that short ones are cache_color.
#[inline]
pub(crate) fn cache_color(chunk: u32, len: usize, chunk_size: usize) -> u16 {
    const PLACES: u32 = 16;
    const LINE: u16 = 64;
    let start = HEADROOM + (chunk % PLACES) as u16 * LINE;
    if usize::from(start) + len <= chunk_size {
        start
    } else {
        HEADROOM
    }
}

/// The number of frames a worker handles at a time.
pub const BURST: usize = 64;

/// The frame doesn't fit: what was asked for lies outside its chunk or its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("outside of the frame's chunk")]
pub struct OutOfChunk;

/// Sole ownership of one chunk of a memory area, and where in it the frame lies; and a hold on the chunks that it goes
/// on in, if it does.
///
/// One word, since frames go from ring to burst to queue all the time:
///
/// ```text
/// | rest 14 | len 13 | start 13 | chunk 24 |    rest: bytes in the chunks that follow; len: in the first one
/// ```
#[derive(PartialEq, Eq)]
pub struct Frame(u64);

const CHUNK_BITS: u32 = 24;
const OFFSET_BITS: u32 = 13;
const START: u32 = CHUNK_BITS;
const LEN: u32 = START + OFFSET_BITS;
const REST: u32 = LEN + OFFSET_BITS;

/// The most chunks of one memory area.
pub const MAX_CHUNKS: usize = 1 << CHUNK_BITS;

/// The most bytes of a chunk.
pub const MAX_CHUNK_SIZE: usize = (1 << OFFSET_BITS) - 1;

impl Frame {
    /// Only for those who have just got a chunk from nobody else: a pool at its start, and ports that have checked a
    /// descriptor of the kernel. `start + len` must lie inside the chunk.
    #[inline]
    pub(crate) const fn new(chunk: u32, start: u16, len: u16) -> Self {
        debug_assert!(
            (chunk as usize) < MAX_CHUNKS && start as usize + len as usize <= MAX_CHUNK_SIZE
        );
        Self(chunk as u64 | (start as u64) << START | (len as u64) << LEN)
    }

    /// Takes the frame away. What stays is a frame of no chunk: it may be dropped, and nothing else.
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

    /// Where the frame begins in its chunk, bytes.
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

    /// Bytes in the chunks behind the first.
    #[inline]
    pub(crate) const fn rest(&self) -> usize {
        (self.0 >> REST) as usize
    }

    /// Length in bytes, over all chunks.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.head() as usize + self.rest()
    }

    /// True when no byte is left.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when it goes on in other chunks.
    #[inline]
    #[must_use]
    pub const fn is_chained(&self) -> bool {
        self.0 >> REST != 0
    }

    /// What lies in the first chunk.
    #[inline]
    #[must_use]
    pub const fn first(&self) -> Segment {
        Segment::new(self.chunk(), self.start(), self.head())
    }

    /// Says that `bytes` more follow, at most [`self::chain::MAX_LEN`] in all.
    #[inline]
    pub(crate) const fn extend(&mut self, bytes: usize) {
        self.0 += (bytes as u64) << REST;
    }

    /// Grows the frame by `bytes` at its front, into the headroom.
    ///
    /// # Errors
    /// [`OutOfChunk`] when the headroom is shorter; the frame is unchanged.
    #[inline]
    pub const fn prepend(&mut self, bytes: u16) -> Result<(), OutOfChunk> {
        if bytes > self.start() {
            return Err(OutOfChunk);
        }
        // The end stays where it is, so that no field overflows.
        self.0 = self.0 + ((bytes as u64) << LEN) - ((bytes as u64) << START);
        Ok(())
    }

    /// Removes `bytes` at the front.
    ///
    /// # Errors
    /// [`OutOfChunk`] when there are fewer in the first chunk; the frame is unchanged.
    #[inline]
    pub const fn trim_front(&mut self, bytes: u16) -> Result<(), OutOfChunk> {
        if bytes > self.head() {
            return Err(OutOfChunk);
        }
        self.0 = self.0 + ((bytes as u64) << START) - ((bytes as u64) << LEN);
        Ok(())
    }

    /// Lays a frame of one chunk anew in it.
    ///
    /// # Errors
    /// [`OutOfChunk`] when it would leave a chunk of `chunk_size` bytes, or goes on in others; the frame is unchanged.
    #[inline]
    pub fn set_extent(
        &mut self,
        start: u16,
        len: usize,
        chunk_size: usize,
    ) -> Result<(), OutOfChunk> {
        let room = chunk_size.min(MAX_CHUNK_SIZE);
        if self.is_chained()
            || usize::from(start)
                .checked_add(len)
                .is_none_or(|end| end > room)
        {
            return Err(OutOfChunk);
        }
        *self = Self::new(self.chunk(), start, len as u16);
        Ok(())
    }

    /// The same place, with other lengths in the first chunk and behind it, no longer than those it has.
    #[inline]
    fn shorten(&mut self, head: usize, rest: usize) {
        let place = self.0 & ((1 << LEN) - 1);
        self.0 = place | (head as u64) << LEN | (rest as u64) << REST;
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chunk, start, len, rest) = (self.chunk(), self.start(), self.head(), self.rest());
        write!(
            f,
            "Frame {{ chunk: {chunk}, start: {start}, len: {len}, rest: {rest} }}"
        )
    }
}

/// The area that frames lie in. Access goes by the token, so that two frames never alias.
pub trait FrameMemory {
    /// Bytes in each chunk.
    fn chunk_size(&self) -> usize;

    /// How frames go on from chunk to chunk.
    fn segments(&self) -> &SegmentTable;

    /// The bytes of the frame in its first chunk.
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8];

    /// The bytes of the frame in its first chunk, to change. Nobody else has that chunk.
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8];

    /// Starts to load the cache line that lies `before` bytes before the frame's first byte. Of no effect but on caches.
    fn prefetch(&self, frame: &Frame, before: usize);

    /// The bytes of `segment`, one of those that `of` consists of.
    fn segment<'a>(&'a self, of: &'a Frame, segment: Segment) -> &'a [u8];

    /// The bytes of `segment`, one of those that `from` consists of, to read; and those of another frame's first chunk,
    /// to write.
    fn read_write<'a>(
        &'a mut self,
        from: &'a Frame,
        segment: Segment,
        to: &'a mut Frame,
    ) -> (&'a [u8], &'a mut [u8]);

    /// Copies the whole frame to the front of `to`, as far as there is room.
    fn read(&self, frame: &Frame, to: &mut [u8]) {
        let segments = std::iter::once(frame.first()).chain(self.segments().rest(frame));
        let mut to = to;
        for segment in segments {
            let bytes = self.segment(frame, segment);
            let (now, later) = to.split_at_mut(bytes.len().min(to.len()));
            now.copy_from_slice(&bytes[..now.len()]);
            to = later;
        }
    }

    /// The sum of the bytes `range` of the frame, over all its chunks; what lies beyond its end counts as zero.
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
}

/// Goes on with [`FrameMemory::sum`] behind the first chunk.
#[cold]
fn sum_rest<M: FrameMemory + ?Sized>(
    memory: &M,
    frame: &Frame,
    mut sum: Sum,
    range: Range<usize>,
) -> Sum {
    let mut at = frame.first().len();
    for segment in memory.segments().rest(frame) {
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
}
