//! Frames and ports in ordinary memory: for tests and benches of everything above the kernel.

use super::Port;
use crate::core::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool};
use crate::table::mac::{allocate, prefetch};
use std::collections::VecDeque;

/// Chunks in ordinary memory.
///
/// Each worker's area has room for the chunks of all workers, so that a frame of another worker is never out of bounds;
/// what stands in a chunk isn't shared, since safe Rust can't share it.
#[derive(Debug)]
pub struct HeapMemory {
    bytes: Box<[u8]>,
    chunk_size: usize,
}

impl HeapMemory {
    /// `chunks` chunks of `chunk_size` bytes, all zero.
    #[must_use]
    pub fn new(chunks: usize, chunk_size: usize) -> Self {
        Self { bytes: allocate(chunks * chunk_size, || 0), chunk_size }
    }

    fn range(&self, frame: &Frame) -> std::ops::Range<usize> {
        let start = frame.chunk() as usize * self.chunk_size + usize::from(frame.start());
        start..start + frame.len()
    }
}

impl FrameMemory for HeapMemory {
    #[inline]
    fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        &self.bytes[self.range(frame)]
    }

    #[inline]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        let range = self.range(frame);
        &mut self.bytes[range]
    }

    #[inline]
    fn prefetch(&self, frame: &Frame, before: usize) {
        prefetch(self.bytes.as_ptr().wrapping_add(self.range(frame).start).wrapping_sub(before));
    }

    #[inline]
    fn pair<'a>(&'a mut self, from: &'a Frame, to: &'a mut Frame) -> (&'a [u8], &'a mut [u8]) {
        let ranges = [self.range(from), self.range(to)];
        let [from, to] = self.bytes.get_disjoint_mut(ranges).expect("two tokens are of two chunks");
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
    (0..workers)
        .map(|worker| {
            Pool::new(HeapMemory::new(workers * frames_each, chunk_size), first(worker)..first(worker + 1))
        })
        .collect()
}

/// A port that is fed and read by a test.
#[derive(Debug)]
pub struct MemoryPort {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    room: usize,
    error: Option<i32>,
}

impl Default for MemoryPort {
    fn default() -> Self {
        Self { received: VecDeque::new(), sent: Vec::new(), room: usize::MAX, error: None }
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

    /// Makes [`Port::wake`] fail with an error number of the kernel, or succeed again.
    pub const fn set_error(&mut self, error: Option<i32>) {
        self.error = error;
    }
}

impl<M: FrameMemory> Port<M> for MemoryPort {
    fn receive(&mut self, pool: &mut Pool<M>, burst: &mut Vec<Frame>) -> usize {
        let before = burst.len();
        while burst.len() < before + BURST && !self.received.is_empty() {
            let Some(mut frame) = pool.take() else { break };
            let Some(bytes) = self.received.pop_front() else { break };
            // As a device does, a frame that fits no chunk is lost before anyone sees it.
            if frame.place(HEADROOM, bytes.len(), pool.memory().chunk_size()).is_err() {
                pool.give(frame);
                continue;
            }
            pool.memory_mut().bytes_mut(&mut frame).copy_from_slice(&bytes);
            burst.push(frame);
        }
        burst.len() - before
    }

    fn send(&mut self, pool: &mut Pool<M>, frames: &mut Vec<Frame>) -> usize {
        let accepted = frames.len().min(self.room);
        self.room -= accepted;
        for frame in frames.drain(..accepted) {
            self.sent.push(pool.memory().bytes(&frame).to_vec());
            pool.give(frame);
        }
        accepted
    }

    fn wake(&mut self, _pool: &mut Pool<M>) -> Result<(), i32> {
        self.error.map_or(Ok(()), Err)
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
        port.inject(&[1; 4000]);
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
        port.set_error(Some(6));
        assert_eq!(port.wake(&mut pool), Err(6));
    }
}
