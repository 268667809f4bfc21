//! Frames and ports in ordinary memory: for tests and benches of everything above the kernel.

use super::Port;
use crate::core::chain::{Assembly, Chains, Piece};
use crate::core::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool, allocate, prefetch};
use std::collections::VecDeque;
use std::sync::Arc;

/// Size of a page, bytes.
const PAGE: usize = 4096;

/// Chunks in ordinary memory.
///
/// Each worker's area has room for the chunks of all workers, so that a frame of another worker is never out of bounds;
/// what stands in a chunk isn't shared, since safe Rust can't share it.
#[derive(Debug)]
pub struct HeapMemory {
    bytes: Box<[u8]>,
    /// Where the first chunk begins: on a page, as in the memory that the kernel shares, so that a header lies in as many
    /// cache lines here as there.
    first: usize,
    chunk_size: usize,
    chains: Arc<Chains>,
}

impl HeapMemory {
    fn new(chunks: usize, chunk_size: usize, chains: Arc<Chains>) -> Self {
        let bytes = allocate(chunks * chunk_size + PAGE, || 0);
        Self { first: bytes.as_ptr().align_offset(PAGE).min(PAGE), bytes, chunk_size, chains }
    }

    fn range(&self, piece: Piece) -> std::ops::Range<usize> {
        let start = self.first + piece.chunk() as usize * self.chunk_size + usize::from(piece.start());
        start..start + piece.len()
    }
}

impl FrameMemory for HeapMemory {
    #[inline]
    fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    #[inline]
    fn chains(&self) -> &Chains {
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
    fn prefetch(&self, frame: &Frame, before: usize) {
        prefetch(self.bytes.as_ptr().wrapping_add(self.range(frame.first()).start).wrapping_sub(before));
    }

    #[inline]
    fn piece<'a>(&'a self, _of: &'a Frame, piece: Piece) -> &'a [u8] {
        &self.bytes[self.range(piece)]
    }

    #[inline]
    fn pair<'a>(&'a mut self, _from: &'a Frame, piece: Piece, to: &'a mut Frame) -> (&'a [u8], &'a mut [u8]) {
        let ranges = [self.range(piece), self.range(to.first())];
        let [from, to] = self.bytes.get_disjoint_mut(ranges).expect("a fresh chunk is no other's");
        (from, to)
    }
}

/// A pool for each of `workers` workers, with `frames_each` chunks of `chunk_size` bytes.
///
/// # Panics
/// If there are more than 2^32 chunks, or `chunk_size` is less than the headroom.
#[must_use]
pub fn memory_pools(workers: usize, frames_each: usize, chunk_size: usize) -> Vec<Pool<HeapMemory>> {
    assert!(chunk_size >= usize::from(HEADROOM), "a chunk of {chunk_size} bytes is less than the headroom");
    let first = |worker| u32::try_from(worker * frames_each).expect("fewer than 2^32 chunks");
    let chains = Arc::new(Chains::new(first(workers)));
    (0..workers)
        .map(|worker| {
            let memory = HeapMemory::new(workers * frames_each, chunk_size, Arc::clone(&chains));
            Pool::new(memory, first(worker)..first(worker + 1))
        })
        .collect()
}

/// A port that is fed and read by a test.
#[derive(Debug)]
pub struct MemoryPort {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    room: usize,
    piece: usize,
    error: Option<i32>,
    busy_poll_ended: bool,
}

impl Default for MemoryPort {
    fn default() -> Self {
        Self {
            received: VecDeque::new(),
            sent: Vec::new(),
            room: usize::MAX,
            piece: usize::MAX,
            error: None,
            busy_poll_ended: false,
        }
    }
}

impl MemoryPort {
    /// A port without frames, with unlimited room to send.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the port receive these bytes.
    pub fn inject(&mut self, frame: &[u8]) {
        self.received.push_back(frame.to_vec());
    }

    /// How many injected frames wait to be received.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.received.len()
    }

    /// Takes what was sent, oldest first.
    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    /// Sets how many more frames may be sent.
    pub const fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// Sets how many bytes of a received frame each chunk gets at most, from 1 on. Else as many as fit behind the headroom,
    /// as from the kernel in copy mode.
    pub const fn set_piece(&mut self, bytes: usize) {
        self.piece = bytes;
    }

    /// One frame in as many chunks as it takes. `None`, with nothing kept: it takes too many, or more than there are.
    fn place<M: FrameMemory>(&self, pool: &mut Pool<M>, bytes: &[u8]) -> Option<Frame> {
        let room = self.piece.min(pool.memory().chunk_size() - usize::from(HEADROOM));
        let mut pieces = bytes.chunks(room);
        let mut assembly = Assembly::new(fill(pool, pieces.next().unwrap_or_default())?);
        for piece in pieces {
            let appended = fill(pool, piece).map(|piece| assembly.push(pool.memory().chains(), piece));
            if appended != Some(Ok(())) {
                appended.and_then(Result::err).into_iter().for_each(|piece| pool.give(piece));
                pool.give(assembly.finish());
                return None;
            }
        }
        Some(assembly.finish())
    }

    /// Makes [`Port::wake`] fail with an error number of the kernel, or succeed again.
    pub const fn set_error(&mut self, error: Option<i32>) {
        self.error = error;
    }

    /// As if busy polling had been taken back.
    pub const fn end_busy_poll(&mut self) {
        self.busy_poll_ended = true;
    }
}

/// A fresh chunk with these bytes; `None` when there is none.
fn fill<M: FrameMemory>(pool: &mut Pool<M>, bytes: &[u8]) -> Option<Frame> {
    let mut frame = pool.take()?;
    frame.place(HEADROOM, bytes.len(), pool.memory().chunk_size()).expect("a piece fits behind the headroom");
    pool.memory_mut().bytes_mut(&mut frame).copy_from_slice(bytes);
    Some(frame)
}

impl<M: FrameMemory> Port<M> for MemoryPort {
    fn receive(&mut self, pool: &mut Pool<M>, burst: &mut Vec<Frame>) -> usize {
        let before = burst.len();
        while burst.len() < before + BURST && !self.received.is_empty() {
            if pool.available() == 0 {
                break;
            }
            let Some(bytes) = self.received.pop_front() else { break };
            // As a device does, a frame that fits no chunks is lost before anyone sees it.
            burst.extend(self.place(pool, &bytes));
        }
        burst.len() - before
    }

    fn send(&mut self, pool: &mut Pool<M>, frames: &mut Vec<Frame>) -> usize {
        let accepted = frames.len().min(self.room);
        self.room -= accepted;
        for frame in frames.drain(..accepted) {
            let mut bytes = vec![0; frame.len()];
            pool.memory().read(&frame, &mut bytes);
            self.sent.push(bytes);
            pool.give(frame);
        }
        accepted
    }

    fn wake(&mut self, _pool: &mut Pool<M>) -> Result<(), i32> {
        self.error.map_or(Ok(()), Err)
    }

    fn busy_poll_ended(&mut self) -> bool {
        std::mem::take(&mut self.busy_poll_ended)
    }

    /// Holds no chunk between calls.
    fn close(self, _pool: &mut Pool<M>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_pass_and_their_chunks_come_back() {
        let mut pool = memory_pools(2, 100, 2048).remove(1);
        let mut port = MemoryPort::new();
        (0..150u8).for_each(|i| port.inject(&[i; 60]));
        port.inject(&[1; 20_000]);
        let mut burst = Vec::new();
        assert_eq!(port.receive(&mut pool, &mut burst), BURST);
        assert_eq!(port.receive(&mut pool, &mut burst), 36);
        assert_eq!((pool.available(), port.waiting()), (0, 51));
        port.set_room(10);
        assert_eq!(port.send(&mut pool, &mut burst), 10);
        port.set_room(usize::MAX);
        assert_eq!(port.send(&mut pool, &mut burst), 90);
        assert_eq!(port.receive(&mut pool, &mut burst), 50, "the long one is lost");
        port.send(&mut pool, &mut burst);
        assert_eq!((pool.available(), pool.strays()), (100, 0));
        assert_eq!(port.take_sent(), (0..150u8).map(|i| vec![i; 60]).collect::<Vec<_>>());
        port.inject(&[7; 9000]);
        assert_eq!(port.receive(&mut pool, &mut burst), 1);
        assert_eq!((burst[0].len(), burst[0].first().len(), pool.available()), (9000, 1792, 94));
        port.send(&mut pool, &mut burst);
        assert_eq!((pool.available(), port.take_sent()), (100, vec![vec![7; 9000]]));
        port.set_error(Some(6));
        assert_eq!(port.wake(&mut pool), Err(6));
    }
}
