//! The four rings of one socket, and the movement of frames through them without system calls.
//!
//! Generic over the memory of the rings: the kernel's mappings, or memory with a simulated kernel
//! at the other end.

use std::sync::Arc;

use libc::xdp_desc;

use super::ring::{Consumer, Memory, Producer};
use super::shared_tx::SharedTx;
use crate::drop::DropReason;
use crate::frame::assembly::ChainBuilder;
use crate::frame::buffer::{BufferTable, ChunkState, Owner, Segment};
use crate::frame::chain::MAX_SEGMENTS;
use crate::frame::{BURST, DeferredRelease, Frame, FrameMemory, HEADROOM, Pool};
use crate::port::{PortErrors, TxState};

/// The shortest frame to send, bytes: an Ethernet header. The kernel consumes an invalid tx
/// descriptor without ever completing it (net/xdp/xsk_queue.h `xskq_cons_read_desc`), so it must
/// not get any.
const MIN_FRAME: usize = 14;

/// Chunks of a frame to send, at most: as many as 9216 bytes take, with an outer header in one of its
/// own, and some more. In copy mode the kernel never completes a frame that has more than 18
/// (net/xdp/xsk.c `xsk_build_skb`, `MAX_SKB_FRAGS`); of drivers in zero-copy mode some take only 8.
const MAX_TX_SEGMENTS: usize = 9;

/// Chunks that refilling leaves in the pool, for copies of flooded frames and for replies.
const RESERVE: usize = 2 * BURST;

/// The rings of one socket. `D` holds rx and tx, `A` fill and completion.
#[derive(Debug)]
pub(crate) struct Rings<D, A> {
    pub(crate) rx: Consumer<xdp_desc, D>,
    pub(crate) tx: Producer<xdp_desc, D>,
    pub(crate) fill: Producer<u64, A>,
    pub(crate) completion: Consumer<u64, A>,
    pub(crate) buffers: Arc<BufferTable>,
    pub(crate) owner: Owner,
    /// A power of two.
    pub(crate) chunk_size: u32,
    /// Frames of several chunks are received and sent (`XDP_USE_SG`).
    pub(crate) multi_buffer: bool,
    pub(crate) socket_chunks: SocketChunks,
    /// Descriptors in the tx ring, in the device or in the completion ring.
    pub(crate) tx_held: usize,
    pub(crate) level: FillLevel,
    /// Wrong descriptors of the kernel, and frames that were rejected.
    pub(crate) errors: PortErrors,
}

/// How many chunks the fill ring is to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FillLevel {
    start: u32,
    now: u32,
}

impl FillLevel {
    /// `start` chunks, until the queue needs more.
    pub(crate) const fn new(start: u32) -> Self {
        Self { start, now: start }
    }

    /// Doubles up to `most` while a quarter of it, or a burst, is used at a time, and more than half of
    /// the chunks are free or the new level is an eighth of those that are: queues that were busy
    /// before this one may hold the other half, and keep it until frames come. Back to the start when
    /// less than an eighth of the chunks is free. Counted in chunks: a frame may take several.
    #[inline]
    fn adapt(&mut self, used: u32, most: u32, available: usize, capacity: usize) {
        let busy = used >= (self.now / 4).min(BURST as u32);
        let more = (self.now * 2).min(most);
        let suffices = available > capacity / 2 || more as usize <= available / 8;
        if busy && self.now < most && suffices {
            self.now = more;
        } else if available < capacity / 8 {
            self.now = self.start;
        }
    }
}

/// Chunks of a socket whose records do not name it: those of a partially received frame, and shared
/// chunks.
#[derive(Debug)]
pub(crate) struct SocketChunks {
    partial: PartialFrame,
    shared_tx: SharedTx,
}

/// The frame of several chunks that is being received. The kernel publishes only whole frames in
/// copy mode; a driver need not.
#[derive(Debug, Default)]
enum PartialFrame {
    #[default]
    None,
    /// The chunks received so far.
    Building(ChainBuilder),
    /// The frame is rejected: its remaining chunks are freed as they come.
    Discarding,
}

impl SocketChunks {
    /// None, in a memory of `chunks` chunks.
    pub(crate) fn new(chunks: u32) -> Self {
        Self {
            partial: PartialFrame::None,
            shared_tx: SharedTx::new(chunks),
        }
    }

    /// Frees everything: the socket is closed, and the kernel does not access it any more.
    pub(crate) fn release(self, buffers: &BufferTable, mut give: impl FnMut(Frame)) {
        if let PartialFrame::Building(partial) = self.partial {
            give(partial.finish());
        }
        self.shared_tx.reclaim_all(|chunk, count| {
            if buffers.release(chunk, count) {
                give(Frame::new(chunk, HEADROOM, 0));
            }
        });
    }
}

impl<D: Memory<xdp_desc>, A: Memory<u64>> Rings<D, A> {
    /// Gives the kernel chunks to receive into, as far as the ring and the pool permit.
    #[inline]
    fn refill<F: FrameMemory>(&mut self, pool: &mut Pool<F>) {
        let count = self.fill.free_of(self.level.now, BURST as u32) as usize;
        for _ in 0..count.min(pool.available().saturating_sub(RESERVE)) {
            let Some(frame) = pool.alloc() else { break };
            let address = u64::from(frame.chunk()) * u64::from(self.chunk_size);
            self.buffers
                .transfer(frame.chunk(), ChunkState::Receive(self.owner));
            // Free slots were counted, and this is the only producer.
            let pushed = self.fill.push(address);
            debug_assert!(pushed);
        }
        self.fill.publish();
    }

    /// Refills, then appends up to a burst of received frames to `burst`.
    #[inline]
    pub(crate) fn receive<F: FrameMemory>(
        &mut self,
        pool: &mut Pool<F>,
        burst: &mut Vec<Frame>,
    ) -> usize {
        self.refill(pool);
        let before = burst.len();
        let mut used = 0;
        // Bounded, since a faulty driver could deliver a frame that never ends.
        for _ in 0..BURST * MAX_SEGMENTS {
            if burst.len() == before + BURST {
                break;
            }
            let Some(descriptor) = self.rx.pop() else {
                break;
            };
            used += 1;
            let continues = descriptor.options & libc::XDP_PKT_CONTD != 0;
            match self.received(descriptor) {
                Ok(frame)
                    if !continues && matches!(self.socket_chunks.partial, PartialFrame::None) =>
                {
                    burst.push(frame);
                }
                chunk => self.gather(chunk, continues, pool, burst),
            }
        }
        self.rx.release();
        self.level
            .adapt(used, self.fill.size(), pool.available(), pool.capacity());
        burst.len() - before
    }

    /// Handles a descriptor that is not a whole frame.
    #[cold]
    fn gather<F: FrameMemory>(
        &mut self,
        chunk: Result<Frame, Option<Frame>>,
        continues: bool,
        pool: &mut Pool<F>,
        burst: &mut Vec<Frame>,
    ) {
        let partial = std::mem::take(&mut self.socket_chunks.partial);
        let appended = match (partial, chunk) {
            (PartialFrame::None, Ok(first)) if self.multi_buffer => Ok(ChainBuilder::new(first)),
            (PartialFrame::Building(mut chain), Ok(segment)) => {
                match chain.push(&self.buffers, segment) {
                    Ok(()) => Ok(chain),
                    Err(segment) => {
                        self.errors.count(DropReason::TooManySegments);
                        Err([Some(chain.finish()), Some(segment)])
                    }
                }
            }
            (PartialFrame::Discarding, Ok(segment)) => Err([Some(segment), None]),
            (partial, chunk) => {
                self.errors.count(DropReason::BadDescriptor);
                let before = if let PartialFrame::Building(partial) = partial {
                    Some(partial.finish())
                } else {
                    None
                };
                Err([before, chunk.map_or_else(|chunk| chunk, Some)])
            }
        };
        match (appended, continues) {
            (Ok(chain), true) => self.socket_chunks.partial = PartialFrame::Building(chain),
            (Ok(chain), false) => burst.push(chain.finish()),
            (Err(chunks), continues) => {
                chunks
                    .into_iter()
                    .flatten()
                    .for_each(|chunk| pool.free(chunk));
                self.socket_chunks.partial = if continues {
                    PartialFrame::Discarding
                } else {
                    PartialFrame::None
                };
            }
        }
    }

    /// The number of the chunk at an address. A shift, as the size of a chunk is a power of two: two
    /// divisions take a nanosecond of each frame.
    #[inline]
    const fn chunk_of(&self, address: u64) -> u64 {
        address >> self.chunk_size.trailing_zeros()
    }

    /// The frame of an rx descriptor. `Err` for an invalid descriptor, with its chunk if that has
    /// been reclaimed.
    #[inline]
    fn received(&self, descriptor: xdp_desc) -> Result<Frame, Option<Frame>> {
        let state = ChunkState::Receive(self.owner);
        let mut frame = self
            .buffers
            .reclaim(self.chunk_of(descriptor.addr), state)
            .ok_or(None)?;
        let start = (descriptor.addr & u64::from(self.chunk_size - 1)) as u16;
        match frame.set_extent(start, descriptor.len as usize, self.chunk_size as usize) {
            Ok(()) => Ok(frame),
            Err(_) => Err(Some(frame)),
        }
    }

    /// Reclaims the chunks of sent frames.
    #[inline]
    pub(crate) fn reap<F: FrameMemory>(&mut self, pool: &mut Pool<F>) {
        let mut shared = DeferredRelease::default();
        while let Some(address) = self.completion.pop() {
            let chunk = self.chunk_of(address);
            self.tx_held = self.tx_held.saturating_sub(1);
            match self
                .buffers
                .reclaim(chunk, ChunkState::Transmit(self.owner))
            {
                Some(frame) => pool.free(frame),
                None => match self.socket_chunks.shared_tx.complete(chunk) {
                    Some(chunk) => pool.defer_release(chunk, &mut shared),
                    None => self.errors.count(DropReason::BadDescriptor),
                },
            }
        }
        pool.flush_deferred(shared);
        self.completion.release();
    }

    /// Frames in the tx ring that the kernel has not taken, and a number that changes with each
    /// frame that it takes or completes.
    pub(crate) fn tx_progress(&mut self) -> (u32, u32) {
        let pending = self.tx.pending();
        (
            pending,
            self.tx.consumed().wrapping_add(self.completion.released()),
        )
    }

    /// Descriptors received since the socket was opened, modulo 2^32.
    pub(crate) fn total_received(&self) -> u32 {
        self.rx.released()
    }

    /// The state of the transmit side.
    #[inline]
    pub(crate) fn tx_state(&mut self) -> TxState {
        let pending = self.tx.pending();
        TxState {
            free: self.tx.free(0) as usize,
            held: self.tx_held,
            waiting: pending as usize,
        }
    }

    /// Whether the kernel has taken frames that it has not completed: a packet buffer of the network
    /// stack may still refer to their chunks.
    pub(crate) fn is_sending(&mut self) -> bool {
        let finished = self.tx.pending() + self.completion.pending();
        self.tx_held > finished as usize
    }

    /// Reaps, then puts frames from the front of `frames` into the tx ring until it is full.
    #[inline]
    pub(crate) fn send<F: FrameMemory>(
        &mut self,
        pool: &mut Pool<F>,
        frames: &mut Vec<Frame>,
    ) -> usize {
        self.reap(pool);
        let mut count = (self.tx.free(frames.len() as u32) as usize).min(frames.len());
        if frames[..count].iter().any(Frame::is_chained) {
            count = self.count_fitting(frames);
        }
        for frame in frames.drain(..count) {
            if let Some(reason) = self.tx_error(&frame) {
                self.errors.count(reason);
                pool.free(frame);
            } else if !frame.is_plain() {
                self.push_segments(&frame);
            } else {
                self.buffers
                    .transfer(frame.chunk(), ChunkState::Transmit(self.owner));
                self.push(frame.first(), 0);
            }
        }
        self.tx.publish();
        count
    }

    /// How many frames from the front fit into the ring.
    #[cold]
    fn count_fitting(&mut self, frames: &[Frame]) -> usize {
        let mut free = self.tx.free(u32::MAX) as usize;
        let mut fits = |frame: &Frame| {
            let left = free.checked_sub(1 + self.buffers.rest(frame).count());
            free = left.unwrap_or(0);
            left.is_some()
        };
        frames.iter().take_while(|frame| fits(frame)).count()
    }

    /// Why the kernel would reject a frame; `None` when it accepts it.
    #[inline]
    fn tx_error(&self, frame: &Frame) -> Option<DropReason> {
        let first = frame.first();
        let outside = |segment: Segment| {
            usize::from(segment.start()) + segment.len() > self.chunk_size as usize
        };
        if first.len() < MIN_FRAME || outside(first) {
            return Some(DropReason::BadDescriptor);
        }
        if !frame.is_plain() {
            if frame.has_offload() {
                // For a packet port, which the interface had until now.
                return Some(DropReason::Unsegmentable);
            }
            if frame.is_chained() && !self.multi_buffer {
                return Some(DropReason::MultiBufferUnsupported);
            }
            let mut count = 1;
            for segment in self.buffers.rest(frame) {
                count += 1;
                if outside(segment) {
                    return Some(DropReason::BadDescriptor);
                }
            }
            if count > MAX_TX_SEGMENTS {
                return Some(DropReason::TooManySegments);
            }
        }
        None
    }

    /// Pushes a frame with further segments, or with the first one in a chunk that frames share.
    #[inline(never)]
    fn push_segments(&mut self, frame: &Frame) {
        let buffers = Arc::clone(&self.buffers);
        let mut segment = frame.first();
        self.hold(segment.chunk(), frame.is_part());
        for next in buffers.rest(frame) {
            self.push(segment, libc::XDP_PKT_CONTD);
            segment = next;
            self.hold(segment.chunk(), buffers.is_shared(segment.chunk()));
        }
        self.push(segment, 0);
    }

    /// Records that the socket holds a chunk to send.
    #[inline]
    fn hold(&mut self, chunk: u32, is_shared: bool) {
        if is_shared {
            self.socket_chunks.shared_tx.add(chunk);
        } else {
            self.buffers
                .transfer(chunk, ChunkState::Transmit(self.owner));
        }
    }

    /// Writes one descriptor. Free slots were counted, and this is the only producer.
    #[inline]
    fn push(&mut self, segment: Segment, options: u32) {
        let base = u64::from(segment.chunk()) * u64::from(self.chunk_size);
        let addr = base + u64::from(segment.start());
        let pushed = self.tx.push(xdp_desc {
            addr,
            len: segment.len() as u32,
            options,
        });
        debug_assert!(pushed);
        self.tx_held += 1;
    }
}
