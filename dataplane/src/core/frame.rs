//! A frame: bytes with headroom in a chunk of a shared memory area, and the pool a worker takes chunks from.
//!
//! A [`Frame`] is a token: it can't be cloned or made from nothing, so whoever has it is the only one who may touch
//! its chunk. Chunks that the kernel has (fill, receive, transmit, completion rings) have no token.

/// Bytes before the frame in a fresh chunk: the kernel's `XDP_PACKET_HEADROOM` (include/uapi/linux/bpf.h). The
/// longest outer header (Ethernet + 802.1Q + IPv6 + UDP + VXLAN = 74 bytes) fits three times.
pub const HEADROOM: u16 = 256;

/// The number of frames a worker handles at a time.
pub const BURST: usize = 64;

/// The frame doesn't fit: what was asked for lies outside its chunk or its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("outside of the frame's chunk")]
pub struct OutOfChunk;

/// Sole ownership of one chunk of a memory area, and where in it the frame lies.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    chunk: u32,
    start: u16,
    len: u16,
}

impl Frame {
    /// Only for those who have just got a chunk from nobody else: a pool at its start, and ports that have checked a
    /// descriptor of the kernel. `start + len` must lie inside the chunk.
    #[inline]
    pub(crate) const fn new(chunk: u32, start: u16, len: u16) -> Self {
        Self { chunk, start, len }
    }

    /// The chunk's number.
    #[inline]
    #[must_use]
    pub const fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Where the frame begins in its chunk, bytes.
    #[inline]
    #[must_use]
    pub const fn start(&self) -> u16 {
        self.start
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// True when no byte is left.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Grows the frame by `bytes` at its front, into the headroom.
    ///
    /// # Errors
    /// [`OutOfChunk`] when the headroom is shorter; the frame is unchanged.
    #[inline]
    pub const fn prepend(&mut self, bytes: u16) -> Result<(), OutOfChunk> {
        match (self.start.checked_sub(bytes), self.len.checked_add(bytes)) {
            (Some(start), Some(len)) => {
                self.start = start;
                self.len = len;
                Ok(())
            }
            _ => Err(OutOfChunk),
        }
    }

    /// Removes `bytes` at the front.
    ///
    /// # Errors
    /// [`OutOfChunk`] when the frame is shorter; the frame is unchanged.
    #[inline]
    pub const fn trim_front(&mut self, bytes: u16) -> Result<(), OutOfChunk> {
        match self.len.checked_sub(bytes) {
            Some(len) => {
                self.start += bytes;
                self.len = len;
                Ok(())
            }
            None => Err(OutOfChunk),
        }
    }

    /// Shortens the frame to `len` bytes; a longer `len` changes nothing.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.len = len as u16;
        }
    }

    /// Lays the frame anew in its chunk.
    ///
    /// # Errors
    /// [`OutOfChunk`] when it would leave a chunk of `chunk_size` bytes; the frame is unchanged.
    #[inline]
    pub fn place(&mut self, start: u16, len: usize, chunk_size: usize) -> Result<(), OutOfChunk> {
        if usize::from(start).checked_add(len).is_none_or(|end| end > chunk_size) {
            return Err(OutOfChunk);
        }
        self.start = start;
        self.len = u16::try_from(len).map_err(|_| OutOfChunk)?;
        Ok(())
    }
}

/// The area that frames lie in. Access goes by the token, so that two frames never alias.
pub trait FrameMemory {
    /// Bytes in each chunk.
    fn chunk_size(&self) -> usize;

    /// The bytes of the frame.
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8];

    /// The bytes of the frame, to change.
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8];

    /// Starts to load the cache line that lies `before` bytes before the frame's first byte. Of no effect but on caches.
    fn prefetch(&self, frame: &Frame, before: usize);

    /// The bytes of two frames: one to read, one to write.
    fn pair<'a>(&'a mut self, from: &'a Frame, to: &'a mut Frame) -> (&'a [u8], &'a mut [u8]);
}

/// A worker's free chunks. Chunks whose home is another worker's pool are kept apart, to be sent home.
#[derive(Debug)]
pub struct Pool<M> {
    memory: M,
    home: std::ops::Range<u32>,
    free: Vec<u32>,
    strays: Vec<u32>,
}

impl<M: FrameMemory> Pool<M> {
    /// A pool that owns the chunks `home` of `memory`, all of them free. The caller vouches that nobody else has them:
    /// ranges of pools over one area must not overlap.
    pub(crate) fn new(memory: M, home: std::ops::Range<u32>) -> Self {
        let total = home.len();
        let free = home.clone().rev().collect();
        // Room for chunks that other workers own, so that giving back never allocates.
        Self { memory, home, free, strays: Vec::with_capacity(total.max(4 * BURST)) }
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
        self.free.pop().map(|chunk| Frame::new(chunk, HEADROOM, 0))
    }

    /// Takes a frame's chunk back.
    #[inline]
    pub fn give(&mut self, frame: Frame) {
        let Frame { chunk, .. } = frame;
        if self.home.contains(&chunk) {
            self.free.push(chunk);
        } else {
            self.strays.push(chunk);
        }
    }

    /// How many chunks are free here.
    #[inline]
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// How many chunks this pool was made with.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.home.len()
    }

    /// The next chunk that belongs to another worker's pool, as a frame.
    #[inline]
    pub fn next_stray(&mut self) -> Option<Frame> {
        self.strays.pop().map(|chunk| Frame::new(chunk, HEADROOM, 0))
    }

    /// How many chunks of other workers wait here.
    #[inline]
    #[must_use]
    pub fn strays(&self) -> usize {
        self.strays.len()
    }
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
        assert_eq!(frame.place(2000, 100, 2048), Err(OutOfChunk));
        frame.place(1948, 100, 2048).unwrap();
        frame.truncate(10);
        frame.truncate(20);
        assert_eq!(frame.len(), 10);
    }
}
