//! Receives superframes so that the payload of each segment comes into a chunk of its own, with room for
//! headers before it.
//!
//! Those of UDP from the underlay are taken apart into the datagrams that they stand for, each a frame
//! with an outer header of its own. Those of a tenant stay one frame, of a segment in each chunk, that
//! is cut without a copy (`crate::pipeline`).
//!
//! ```text
//! superframe   | outer header | payload 0 | payload 1 | payload 2 |
//!                   recvmmsg  |     |           |           |
//! chunks       | outer header | payload 0 |     |           |
//!              | ............ | payload 1 <-----+           |
//!              | ............ | payload 2 <-----------------+     only the outer headers are copied
//! ```
//!
//! A superframe may come from another host on a link that carries it whole, or be what the kernel has
//! joined (generic receive offload). Its checksum of UDP is verified then, or not needed.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use super::socket::Socket;
use super::sys::Messages;
use super::tag::Tag;
use super::vnet::VnetHeader;
use crate::frame::assembly::ChainBuilder;
use crate::frame::chain::MAX_SEGMENTS;
use crate::frame::offload::{ChecksumState, Offload, SegmentKind};
use crate::frame::{Frame, FrameMemory, HEADROOM, Pool};
use crate::pipeline::segment::{MAX_UDP_SEGMENTS, Segmenter};
use crate::wire::checksum::Sum;
use crate::wire::{ethernet, put16, udp, vlan};

/// Chunks of all datagrams of a superframe at most: one for each, and those of datagrams that are
/// longer than a chunk.
const MAX_CHUNKS: usize = MAX_UDP_SEGMENTS + 2 * (65_536 / 1024);

/// The segments of a superframe, such as datagrams, and where they are.
#[derive(Debug)]
pub struct Parts {
    segments: Segmenter,
    kind: SegmentKind,
    is_v6: bool,
}

impl Parts {
    /// The parts of a frame of `len` bytes that begins with `front`. `None` for any other frame than a
    /// superframe, and for one that can't be cut.
    #[must_use]
    pub fn of(header: VnetHeader, front: &[u8], len: usize) -> Option<Self> {
        if !header.is_superframe() {
            return None;
        }
        let offload = header.offload(front, HEADROOM, len).ok()??;
        let segmentation = offload.segmentation?;
        let start = match offload.checksum {
            ChecksumState::Partial { start, .. } => Some(usize::from(start - HEADROOM)),
            _ => None,
        };
        let (ethertype, _) = vlan::skip(front)?;
        Some(Self {
            segments: Segmenter::new(front, len, segmentation, start).ok()?,
            kind: segmentation.kind,
            is_v6: ethertype == ethernet::IPV6,
        })
    }

    /// [`Parts::of`] a superframe of UDP outside of tunnels.
    #[must_use]
    pub fn of_datagrams(header: VnetHeader, front: &[u8], len: usize) -> Option<Self> {
        let parts = Self::of(header, front, len)?;
        (parts.kind == SegmentKind::Udp && !parts.segments.is_in_tunnel()).then_some(parts)
    }

    /// Bytes of the headers that each part repeats: the outer header of parts.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.segments.header_len()
    }

    /// Bytes of part `index`, with its headers.
    fn len(&self, index: usize) -> usize {
        self.header_len() + self.segments.payload(index).len()
    }

    /// Chunks that they need.
    fn chunks(&self, chunk_size: usize) -> usize {
        let first = chunk_size - usize::from(HEADROOM);
        let further = self.len(0).saturating_sub(first).div_ceil(chunk_size);
        self.segments.count() * (1 + further)
    }
}

/// Why parts are not taken.
#[derive(Debug)]
pub enum NotSplit {
    /// The pool has too few chunks now.
    NoChunks,
    /// The kernel's answer, or `None` when it has given something else than it has announced.
    Failed(Option<i32>),
}

/// Takes superframes apart.
#[derive(Debug)]
pub struct Splitter {
    message: Messages,
    header: Box<VnetHeader>,
    /// Parts of the last superframe.
    frames: VecDeque<Frame>,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Splitter {
    /// Has no parts.
    #[must_use]
    pub fn new() -> Self {
        Self {
            message: Messages::new(1, 1 + MAX_CHUNKS),
            header: Box::default(),
            frames: VecDeque::with_capacity(MAX_UDP_SEGMENTS),
        }
    }

    /// Whether the pool can ever have the chunks for these parts, beside `reserve` others.
    #[must_use]
    pub fn takes<M: FrameMemory>(parts: &Parts, pool: &Pool<M>, reserve: usize) -> bool {
        let chunks = parts.chunks(pool.memory().chunk_size());
        chunks <= MAX_CHUNKS && chunks + reserve < pool.capacity()
    }

    /// Whether these parts fit into one frame, each in a chunk.
    #[must_use]
    pub fn lays_out<M: FrameMemory>(parts: &Parts, pool: &Pool<M>, reserve: usize) -> bool {
        let count = parts.segments.count();
        count <= MAX_SEGMENTS
            && parts.chunks(pool.memory().chunk_size()) == count
            && Self::takes(parts, pool, reserve)
    }

    /// Whether there are parts that were not taken.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The next datagram.
    #[inline]
    pub fn pop(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// Receives the superframe that is the next one in the socket's queue. Returns its tag.
    pub(super) fn receive<M: FrameMemory>(
        &mut self,
        socket: &Socket,
        parts: &Parts,
        (header, len): (VnetHeader, usize),
        pool: &mut Pool<M>,
        reserve: usize,
    ) -> Result<Option<Tag>, NotSplit> {
        self.provide(parts, pool, reserve)?;
        // SAFETY: `provide` has set the buffers: the header, and chunks whose tokens are in
        // `self.frames`, all accessed by `self` alone.
        let result = unsafe { self.message.receive(socket.fd.as_fd(), 1) };
        let received = match result {
            Ok(_) => {
                let received = self.message.received();
                let as_announced = !received.truncated
                    && received.len == VnetHeader::LEN + len
                    && self.header.is_cut_as(header);
                if as_announced {
                    Ok(received.tag)
                } else {
                    Err(None)
                }
            }
            Err(error) => Err(error.raw_os_error()),
        };
        received.map_err(|errno| {
            self.release(|frame| pool.free(frame));
            NotSplit::Failed(errno)
        })
    }

    /// Copies the parts of a superframe that is here whole. All parts must be taken before.
    ///
    /// # Errors
    /// [`NotSplit::NoChunks`]; [`NotSplit::Failed`] when a datagram is longer than a chunk.
    pub fn copy<M: FrameMemory>(
        &mut self,
        parts: &Parts,
        superframe: &[u8],
        pool: &mut Pool<M>,
        reserve: usize,
    ) -> Result<(), NotSplit> {
        if parts.len(0) > pool.memory().chunk_size() - usize::from(HEADROOM) {
            return Err(NotSplit::Failed(None));
        }
        self.provide(parts, pool, reserve)?;
        let headers = parts.header_len();
        for (index, frame) in self.frames.iter_mut().enumerate() {
            let payload = &superframe[parts.segments.payload(index)];
            let bytes = pool.memory_mut().bytes_mut(frame);
            bytes[headers..].copy_from_slice(payload);
            if index == 0 {
                bytes[..headers].copy_from_slice(&superframe[..headers]);
            }
        }
        Ok(())
    }

    /// Makes one frame of the parts that were received: headers and the first payload, and a segment for
    /// each further payload, which has room for headers before it. `None`, with all of them freed, when
    /// it has too many chunks.
    pub fn join<M: FrameMemory>(&mut self, parts: &Parts, pool: &mut Pool<M>) -> Option<Frame> {
        let headers = parts.header_len() as u16;
        let mut chain = ChainBuilder::new(self.frames.pop_front()?);
        while let Some(mut next) = self.frames.pop_front() {
            let trimmed = next.trim_front(headers);
            debug_assert!(trimmed.is_ok(), "room for the headers");
            if let Err(next) = chain.push(pool.memory().buffers(), next) {
                pool.free(next);
                pool.free(chain.finish());
                self.release(|frame| pool.free(frame));
                return None;
            }
        }
        Some(chain.finish())
    }

    /// Provides a frame for each part, and lays the buffers out so that the payload of each comes
    /// into its frame.
    fn provide<M: FrameMemory>(
        &mut self,
        parts: &Parts,
        pool: &mut Pool<M>,
        reserve: usize,
    ) -> Result<(), NotSplit> {
        debug_assert!(self.frames.is_empty(), "all parts must be taken");
        let chunk_size = pool.memory().chunk_size();
        if pool.available() <= reserve + parts.chunks(chunk_size) {
            return Err(NotSplit::NoChunks);
        }
        let header: *mut VnetHeader = &raw mut *self.header;
        self.message.set_buffer(0, header.cast(), VnetHeader::LEN);
        let mut buffers = 1;
        for index in 0..parts.segments.count() {
            // The first one's buffer begins with the outer header.
            let before = if index == 0 { 0 } else { parts.header_len() };
            let frame = self.provide_one(pool, parts.len(index), before, &mut buffers);
            let Some(frame) = frame else {
                self.release(|frame| pool.free(frame));
                return Err(NotSplit::NoChunks);
            };
            self.frames.push_back(frame);
        }
        self.message.set_message(0, 0, buffers);
        Ok(())
    }

    /// A frame of `len` bytes, and its buffers from `before` bytes on.
    fn provide_one<M: FrameMemory>(
        &mut self,
        pool: &mut Pool<M>,
        len: usize,
        before: usize,
        buffers: &mut usize,
    ) -> Option<Frame> {
        let chunk_size = pool.memory().chunk_size();
        let mut first = pool.alloc()?;
        let head = len.min(chunk_size - usize::from(HEADROOM));
        if first.set_extent(HEADROOM, head, chunk_size).is_err() {
            pool.free(first);
            return None;
        }
        let bytes = &mut pool.memory_mut().bytes_mut(&mut first)[before..];
        self.message
            .set_buffer(*buffers, bytes.as_mut_ptr(), bytes.len());
        *buffers += 1;
        if head == len {
            return Some(first);
        }
        let mut chain = ChainBuilder::new(first);
        for at in (head..len).step_by(chunk_size) {
            let next = pool.alloc().and_then(|mut next| {
                let fits = next.set_extent(0, chunk_size.min(len - at), chunk_size);
                debug_assert!(fits.is_ok(), "at most a chunk");
                let bytes = pool.memory_mut().bytes_mut(&mut next);
                self.message
                    .set_buffer(*buffers, bytes.as_mut_ptr(), bytes.len());
                *buffers += 1;
                chain.push(pool.memory().buffers(), next).err()
            });
            if let Some(rejected) = next {
                pool.free(rejected);
                pool.free(chain.finish());
                return None;
            }
        }
        let frame = chain.finish();
        if frame.len() < len {
            pool.free(frame);
            return None;
        }
        Some(frame)
    }

    /// Writes the outer header of each datagram that was received.
    pub fn write_headers<M: FrameMemory>(&mut self, parts: &Parts, pool: &mut Pool<M>) {
        let checksum = parts.header_len() - udp::LEN + udp::CHECKSUM;
        for (index, frame) in self.frames.iter_mut().enumerate() {
            let bytes = pool.memory_mut().bytes_mut(frame);
            parts.segments.write(index, bytes, Sum::new());
            if parts.is_v6 {
                // Its checksum is none that the payload would have.
                let verified = Offload {
                    checksum: ChecksumState::Valid,
                    ..Offload::default()
                };
                pool.memory().buffers().set_offload(frame, verified);
            } else {
                put16(bytes, checksum, 0);
            }
        }
    }

    /// Puts the tag of the superframe into each datagram.
    pub(super) fn insert_tags<M: FrameMemory>(&mut self, tag: Option<Tag>, pool: &mut Pool<M>) {
        if let Some(tag) = tag {
            let frames = self.frames.iter_mut();
            frames.for_each(|frame| tag.insert(frame, pool));
        }
    }

    /// Gives back all parts.
    pub(super) fn release(&mut self, give: impl FnMut(Frame)) {
        self.frames.drain(..).for_each(give);
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::port::memory::{HeapMemory, memory_pools};

    /// A datagram with this payload.
    fn datagram(v6: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = if v6 {
            ethernet.ipv6([1; 16], [2; 16], 64)
        } else {
            ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        };
        ip.udp(50_000, 4789).write(&mut bytes, payload).unwrap();
        bytes
    }

    fn pool(chunks: usize) -> Pool<HeapMemory> {
        memory_pools(1, chunks, 2048).remove(0)
    }

    /// The frames that a superframe is taken apart to, with whether their checksum is verified.
    fn split(bytes: &[u8], vnet: VnetHeader, pool: &mut Pool<HeapMemory>) -> Vec<(Vec<u8>, bool)> {
        let parts = Parts::of(vnet, bytes, bytes.len()).unwrap();
        let mut splitter = Splitter::new();
        splitter.copy(&parts, bytes, pool, 0).unwrap();
        splitter.write_headers(&parts, pool);
        let frames = std::iter::from_fn(|| splitter.pop());
        let read = |frame: Frame| {
            let mut bytes = vec![0; frame.len()];
            pool.memory().read(&frame, &mut bytes);
            let offload = pool.memory().buffers().offload(&frame);
            pool.free(frame);
            (bytes, offload.checksum == ChecksumState::Valid)
        };
        frames.map(read).collect()
    }

    #[test]
    fn each_datagram_has_its_own_headers_and_payload() {
        for (v6, len, size) in [
            (false, 1300, 130),
            (true, 1300, 130),
            (false, 1301, 130),
            (true, 700, 699),
        ] {
            let payload: Vec<_> = (0..len).map(|at| (at / 3) as u8).collect();
            let bytes = datagram(v6, &payload);
            let headers = bytes.len() - len;
            let mut pool = pool(64);
            let frames = split(&bytes, VnetHeader::of_datagrams(headers, size), &mut pool);
            let expected: Vec<_> = payload
                .chunks(size)
                .zip(0_u16..)
                .map(|(part, index)| {
                    let mut expected = datagram(v6, part);
                    if !v6 {
                        // Counts up.
                        expected[18..20].copy_from_slice(&index.to_be_bytes());
                        expected[headers - 2..headers].fill(0);
                    }
                    expected
                })
                .collect();
            assert_eq!(frames.len(), expected.len());
            for ((mut frame, verified), mut expected) in frames.into_iter().zip(expected) {
                assert_eq!(verified, v6);
                // A checksum that is verified is not looked at; that of IPv4 covers the identification.
                let masked = if v6 { headers - 2..headers } else { 24..26 };
                frame[masked.clone()].fill(0);
                expected[masked].fill(0);
                assert_eq!(frame, expected);
            }
            assert_eq!(pool.available(), 64, "every chunk was freed");
        }
    }

    #[test]
    fn a_superframe_of_a_tenant_is_one_frame_of_a_segment_in_each_chunk() {
        for (v6, len, size) in [(false, 1300, 130), (true, 1301, 130), (true, 700, 699)] {
            let payload: Vec<_> = (0..len).map(|at| (at / 3) as u8).collect();
            let bytes = datagram(v6, &payload);
            let headers = bytes.len() - len;
            let vnet = VnetHeader::of_datagrams(headers, size);
            let parts = Parts::of(vnet, &bytes, bytes.len()).unwrap();
            let mut pool = pool(64);
            assert!(Splitter::lays_out(&parts, &pool, 0));
            let mut splitter = Splitter::new();
            splitter.copy(&parts, &bytes, &mut pool, 0).unwrap();
            let frame = splitter.join(&parts, &mut pool).unwrap();
            let mut whole = vec![0; frame.len()];
            pool.memory().read(&frame, &mut whole);
            assert_eq!(whole, bytes);
            assert_eq!(frame.first().len(), headers + size);
            let rest: Vec<_> = pool.memory().buffers().rest(&frame).collect();
            assert_eq!(rest.len(), len.div_ceil(size) - 1);
            let start = HEADROOM + headers as u16;
            assert!(rest.iter().all(|segment| segment.start() == start));
            assert!(rest.iter().all(|segment| segment.len() <= size));
            pool.free(frame);
            assert_eq!(pool.available(), 64);
        }
        // More segments than a frame has, and longer ones than a chunk.
        let bytes = datagram(false, &[7; 1300]);
        let many = Parts::of(VnetHeader::of_datagrams(42, 20), &bytes, bytes.len());
        assert!(!Splitter::lays_out(&many.unwrap(), &pool(256), 0));
        let bytes = datagram(false, &[7; 5000]);
        let long = Parts::of(VnetHeader::of_datagrams(42, 1800), &bytes, bytes.len());
        assert!(!Splitter::lays_out(&long.unwrap(), &pool(256), 0));
    }

    #[test]
    fn long_datagrams_take_several_chunks() {
        let bytes = datagram(false, &[7; 9000 + 8000]);
        let vnet = VnetHeader::of_datagrams(42, 9000);
        let parts = Parts::of(vnet, &bytes, bytes.len()).unwrap();
        let mut pool = pool(64);
        assert!(Splitter::takes(&parts, &pool, 8));
        let mut splitter = Splitter::new();
        splitter.provide(&parts, &mut pool, 8).unwrap();
        let lens: Vec<_> = splitter.frames.iter().map(Frame::len).collect();
        assert_eq!(lens, [9042, 8042]);
        splitter.release(|frame| pool.free(frame));
        assert_eq!(pool.available(), 64);
    }

    #[test]
    fn without_chunks_a_superframe_waits_or_is_not_taken() {
        let bytes = datagram(false, &[7; 1000]);
        let parts = Parts::of(VnetHeader::of_datagrams(42, 100), &bytes, bytes.len());
        let parts = parts.unwrap();
        let mut pool = pool(20);
        assert!(!Splitter::takes(&parts, &pool, 10));
        assert!(Splitter::takes(&parts, &pool, 9));
        let taken: Vec<_> = (0..8).filter_map(|_| pool.alloc()).collect();
        let mut splitter = Splitter::new();
        let copied = splitter.copy(&parts, &bytes, &mut pool, 2);
        assert!(matches!(copied, Err(NotSplit::NoChunks)));
        taken.into_iter().for_each(|chunk| pool.free(chunk));
        assert!(splitter.copy(&parts, &bytes, &mut pool, 2).is_ok());
    }

    #[test]
    fn other_superframes_are_not_taken_apart() {
        let bytes = datagram(false, &[7; 1000]);
        let of = |vnet, bytes: &[u8]| Parts::of_datagrams(vnet, bytes, bytes.len()).is_some();
        assert!(of(VnetHeader::of_datagrams(42, 100), &bytes));
        assert!(!of(VnetHeader::default(), &bytes));
        assert!(!of(VnetHeader::of_datagrams(42, 0), &bytes), "no size");
        assert!(!of(VnetHeader::of_datagrams(42, 7), &bytes), "too many");
        assert!(!of(VnetHeader::of_datagrams(42, 1000), &bytes), "one");
        assert!(
            !of(VnetHeader::of_datagrams(92, 100), &bytes),
            "of a tunnel"
        );
        let mut fragment = bytes.clone();
        fragment[20] = 0x20;
        assert!(!of(VnetHeader::of_datagrams(42, 100), &fragment));
        assert!(!of(VnetHeader::of_datagrams(42, 100), &bytes[..40]));
    }
}
