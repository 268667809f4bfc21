//! Frames and ports in ordinary memory, for tests and benchmarks without the kernel.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Port, TxState};
use crate::frame::assembly::ChainBuilder;
use crate::frame::buffer::{BufferTable, Segment};
use crate::frame::offload::{ChecksumState, Offload};
use crate::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool};
use crate::mem::allocate;

/// Size of a page, bytes.
const PAGE: usize = 4096;

/// Chunks in ordinary memory.
///
/// Each worker's memory has space for the chunks of all workers, so that a frame of another worker
/// is never out of bounds. The contents of chunks are not shared, since safe Rust can't share them.
#[derive(Debug)]
pub struct HeapMemory {
    bytes: Box<[u8]>,
    /// Offset of the first chunk: page-aligned as in a UMEM, so that a header spans as many cache
    /// lines here as there.
    first: usize,
    chunk_size: usize,
    chains: Arc<BufferTable>,
}

impl HeapMemory {
    fn new(chunks: usize, chunk_size: usize, chains: Arc<BufferTable>) -> Self {
        let bytes = allocate(chunks * chunk_size + PAGE, || 0);
        Self {
            first: bytes.as_ptr().align_offset(PAGE).min(PAGE),
            bytes,
            chunk_size,
            chains,
        }
    }

    fn range(&self, segment: Segment) -> std::ops::Range<usize> {
        let start =
            self.first + segment.chunk() as usize * self.chunk_size + usize::from(segment.start());
        start..start + segment.len()
    }
}

impl FrameMemory for HeapMemory {
    #[inline]
    fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    #[inline]
    fn buffers(&self) -> &BufferTable {
        &self.chains
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        &self.bytes[self.range(frame.first())]
    }

    #[inline]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        let range = self.range(frame.first());
        &mut self.bytes[range]
    }

    #[inline]
    fn address(&self, frame: &Frame) -> *const u8 {
        let start = self.range(frame.first()).start;
        self.bytes.as_ptr().wrapping_add(start)
    }

    #[inline]
    fn segment<'a>(&'a self, _of: &'a Frame, segment: Segment) -> &'a [u8] {
        &self.bytes[self.range(segment)]
    }

    #[inline]
    fn read_write<'a>(
        &'a mut self,
        _from: &'a Frame,
        segment: Segment,
        to: &'a mut Frame,
    ) -> (&'a [u8], &'a mut [u8]) {
        let ranges = [self.range(segment), self.range(to.first())];
        let [from, to] = self
            .bytes
            .get_disjoint_mut(ranges)
            .expect("the chunks of two frames are disjoint");
        (from, to)
    }
}

/// A pool for each of `workers` workers, with `frames_each` chunks of `chunk_size` bytes.
///
/// # Panics
/// If there are more than 2^32 chunks, or `chunk_size` is less than the headroom.
#[must_use]
pub fn memory_pools(
    workers: usize,
    frames_each: usize,
    chunk_size: usize,
) -> Vec<Pool<HeapMemory>> {
    assert!(
        chunk_size >= usize::from(HEADROOM),
        "a chunk of {chunk_size} bytes is less than the headroom"
    );
    let first = |worker| u32::try_from(worker * frames_each).expect("fewer than 2^32 chunks");
    let chains = Arc::new(BufferTable::new(first(workers)));
    (0..workers)
        .map(|worker| {
            let memory = HeapMemory::new(workers * frames_each, chunk_size, Arc::clone(&chains));
            Pool::new(memory, first(worker)..first(worker + 1))
        })
        .collect()
}

/// A port whose received frames come from a test, and whose sent frames the test reads.
#[derive(Debug)]
pub struct MemoryPort {
    received: VecDeque<(Vec<u8>, Offload)>,
    sent: Vec<(Vec<u8>, Offload)>,
    capacity: usize,
    chunk_fill: usize,
    /// The same of a frame's first chunk.
    first_fill: Option<usize>,
    error: Option<i32>,
    busy_poll_ended: bool,
    /// Frames are accepted and never sent.
    stuck: bool,
    held: Vec<Frame>,
}

impl Default for MemoryPort {
    fn default() -> Self {
        Self {
            received: VecDeque::new(),
            sent: Vec::new(),
            capacity: usize::MAX,
            chunk_fill: usize::MAX,
            first_fill: None,
            error: None,
            busy_poll_ended: false,
            stuck: false,
            held: Vec::new(),
        }
    }
}

impl MemoryPort {
    /// A port without frames, which accepts any number of frames to send.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues these bytes as a frame to be received.
    pub fn inject(&mut self, frame: &[u8]) {
        self.inject_offload(frame, Offload::default());
    }

    /// [`MemoryPort::inject`] for a frame whose sender left something to hardware. The start of a
    /// partial checksum counts from the start of the frame, which is received after the headroom.
    pub fn inject_offload(&mut self, frame: &[u8], offload: Offload) {
        self.received.push_back((frame.to_vec(), offload));
    }

    /// The number of injected frames that are not received yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.received.len()
    }

    /// Takes the sent frames, oldest first.
    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        let sent = self.take_sent_offloads().into_iter();
        sent.map(|(frame, _)| frame).collect()
    }

    /// Takes the sent frames, each with what is left to the device; as in
    /// [`MemoryPort::inject_offload`].
    pub fn take_sent_offloads(&mut self) -> Vec<(Vec<u8>, Offload)> {
        std::mem::take(&mut self.sent)
    }

    /// Sets how many more frames the port accepts to send.
    pub const fn set_tx_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Sets how many bytes of a received frame a chunk holds at most, at least 1. The default is as
    /// many as fit after the headroom, as the kernel does in copy mode.
    pub const fn set_chunk_fill(&mut self, bytes: usize) {
        self.chunk_fill = bytes;
    }

    /// Sets how many bytes of a received frame its first chunk holds at most, if that is another number: as
    /// many as fit after the headroom, or less.
    pub const fn set_first_fill(&mut self, bytes: Option<usize>) {
        self.first_fill = bytes;
    }

    /// One frame in as many chunks as it needs. `None`, with all chunks freed, when it needs too
    /// many or more than are free.
    fn place<M: FrameMemory>(&self, pool: &mut Pool<M>, bytes: &[u8]) -> Option<Frame> {
        let capacity = self
            .chunk_fill
            .min(pool.memory().chunk_size() - usize::from(HEADROOM));
        let first = self.first_fill.unwrap_or(capacity).min(bytes.len());
        let (first, rest) = bytes.split_at(first);
        let mut builder = ChainBuilder::new(fill(pool, first)?);
        for part in rest.chunks(capacity) {
            let appended =
                fill(pool, part).map(|segment| builder.push(pool.memory().buffers(), segment));
            if appended != Some(Ok(())) {
                appended
                    .and_then(Result::err)
                    .into_iter()
                    .for_each(|segment| pool.free(segment));
                pool.free(builder.finish());
                return None;
            }
        }
        Some(builder.finish())
    }

    /// Makes [`Port::wake`] fail with an error number of the kernel, or succeed again.
    pub const fn set_error(&mut self, error: Option<i32>) {
        self.error = error;
    }

    /// Makes the port keep the frames that it accepts, like a device whose peer has paused it.
    pub const fn set_stuck(&mut self, stuck: bool) {
        self.stuck = stuck;
    }

    /// Simulates the end of busy polling.
    pub const fn end_busy_poll(&mut self) {
        self.busy_poll_ended = true;
    }
}

/// The offload with another start of its checksum.
fn shifted(mut offload: Offload, to: impl FnOnce(u16) -> u16) -> Offload {
    if let ChecksumState::Partial { start, .. } = &mut offload.checksum {
        *start = to(*start);
    }
    offload
}

/// A new chunk with these bytes; `None` when no chunk is free.
fn fill<M: FrameMemory>(pool: &mut Pool<M>, bytes: &[u8]) -> Option<Frame> {
    let mut frame = pool.alloc()?;
    frame
        .set_extent(HEADROOM, bytes.len(), pool.memory().chunk_size())
        .expect("the bytes fit after the headroom");
    pool.memory_mut()
        .bytes_mut(&mut frame)
        .copy_from_slice(bytes);
    Some(frame)
}

impl<M: FrameMemory> Port<M> for MemoryPort {
    fn receive(&mut self, pool: &mut Pool<M>, burst: &mut Vec<Frame>) -> usize {
        let before = burst.len();
        while burst.len() < before + BURST && !self.received.is_empty() {
            if pool.available() == 0 {
                break;
            }
            let Some((bytes, offload)) = self.received.pop_front() else {
                break;
            };
            // As with a device, a frame that does not fit is lost before the worker sees it.
            let Some(mut frame) = self.place(pool, &bytes) else {
                continue;
            };
            let offload = shifted(offload, |start| start + HEADROOM);
            pool.memory().buffers().set_offload(&mut frame, offload);
            burst.push(frame);
        }
        burst.len() - before
    }

    fn send(&mut self, pool: &mut Pool<M>, frames: &mut Vec<Frame>) -> usize {
        let accepted = frames.len().min(self.capacity);
        self.capacity -= accepted;
        if self.stuck {
            self.held.extend(frames.drain(..accepted));
            return accepted;
        }
        for frame in frames.drain(..accepted) {
            let mut bytes = vec![0; frame.len()];
            pool.memory().read(&frame, &mut bytes);
            let offload = pool.memory().buffers().offload(&frame);
            let offload = shifted(offload, |start| start.wrapping_sub(frame.start()));
            self.sent.push((bytes, offload));
            pool.free(frame);
        }
        accepted
    }

    fn wake(&mut self, _pool: &mut Pool<M>) -> Result<(), i32> {
        self.error.map_or(Ok(()), Err)
    }

    fn tx_state(&mut self) -> TxState {
        TxState {
            free: self.capacity,
            held: self.held.len(),
            waiting: self.held.len(),
        }
    }

    fn busy_poll_ended(&mut self) -> bool {
        std::mem::take(&mut self.busy_poll_ended)
    }

    fn close(self, pool: &mut Pool<M>) {
        self.held.into_iter().for_each(|frame| pool.free(frame));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_pass_and_their_chunks_come_back() {
        let mut pool = memory_pools(2, 100, 2048).remove(1);
        let mut port = MemoryPort::new();
        (0..150u8).for_each(|i| port.inject(&[i; 60]));
        port.inject(&[1; 70_000]);
        let mut burst = Vec::new();
        assert_eq!(port.receive(&mut pool, &mut burst), BURST);
        assert_eq!(port.receive(&mut pool, &mut burst), 36);
        assert_eq!((pool.available(), port.waiting()), (0, 51));
        port.set_tx_capacity(10);
        assert_eq!(port.send(&mut pool, &mut burst), 10);
        port.set_tx_capacity(usize::MAX);
        assert_eq!(port.send(&mut pool, &mut burst), 90);
        assert_eq!(
            port.receive(&mut pool, &mut burst),
            50,
            "the long one is lost"
        );
        port.send(&mut pool, &mut burst);
        assert_eq!((pool.available(), pool.foreign()), (100, 0));
        assert_eq!(
            port.take_sent(),
            (0..150u8).map(|i| vec![i; 60]).collect::<Vec<_>>()
        );
        port.inject(&[7; 9000]);
        assert_eq!(port.receive(&mut pool, &mut burst), 1);
        assert_eq!(
            (burst[0].len(), burst[0].first().len(), pool.available()),
            (9000, 1792, 94)
        );
        port.send(&mut pool, &mut burst);
        assert_eq!(
            (pool.available(), port.take_sent()),
            (100, vec![vec![7; 9000]])
        );
        port.set_error(Some(6));
        assert_eq!(port.wake(&mut pool), Err(6));
    }
}
