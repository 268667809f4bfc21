//! The four rings of one socket and the moves of frames through them, without a system call.
//!
//! Generic over where the rings lie: the kernel's mappings, or memory with a simulated kernel at the other end.

use std::sync::Arc;

use libc::xdp_desc;

use super::ledger::{Ledger, Lent, Owner, Place};
use super::ring::{Consumer, Memory, Producer};
use crate::drop::DropReason;
use crate::frame::assembly::ChainBuilder;
use crate::frame::chain::{MAX_SEGMENTS, Segment, SegmentTable};
use crate::frame::{BURST, DeferredRelease, Frame, FrameMemory, HEADROOM, Pool};
use crate::port::PortErrors;

/// The shortest frame to send: an Ethernet header. The kernel consumes an invalid tx descriptor without ever
/// completing it (net/xdp/xsk_queue.h `xskq_cons_read_desc`), so that none may be given to it.
const SHORTEST: usize = 14;

/// Chunks that refilling leaves in the pool, for copies of flooded frames and answers.
const RESERVE: usize = 2 * BURST;

/// The rings of one socket. `D` holds rx and tx, `A` fill and completion.
#[derive(Debug)]
pub(crate) struct Rings<D, A> {
    pub(crate) rx: Consumer<xdp_desc, D>,
    pub(crate) tx: Producer<xdp_desc, D>,
    pub(crate) fill: Producer<u64, A>,
    pub(crate) completion: Consumer<u64, A>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) chains: Arc<SegmentTable>,
    pub(crate) owner: Owner,
    pub(crate) chunk_size: u32,
    /// Frames of several chunks come and go (`XDP_USE_SG`).
    pub(crate) multi_buffer: bool,
    pub(crate) held: Held,
    /// Descriptors of the kernel that were wrong, and frames that could not be taken.
    pub(crate) errors: PortErrors,
}

/// What a socket has beyond the chunks that the ledger knows of.
#[derive(Debug)]
pub(crate) struct Held {
    begun: Begun,
    lent: Lent,
}

/// How far the next received frame of several chunks has come. The kernel publishes whole frames in copy mode; a driver
/// need not.
#[derive(Debug, Default)]
enum Begun {
    #[default]
    Nothing,
    /// Its first chunks.
    Frame(ChainBuilder),
    /// It can't be taken: its chunks are given back as they come.
    Refused,
}

impl Held {
    /// Nothing yet, of a memory of `chunks` chunks.
    pub(crate) fn new(chunks: u32) -> Self {
        Self {
            begun: Begun::Nothing,
            lent: Lent::new(chunks),
        }
    }

    /// Gives everything back: the socket is closed, and the kernel touches it no more.
    pub(crate) fn give_back(self, chains: &SegmentTable, mut give: impl FnMut(Frame)) {
        if let Begun::Frame(begun) = self.begun {
            give(begun.finish());
        }
        self.lent.take_back_all(|chunk, times| {
            if chains.release(chunk, times) {
                give(Frame::new(chunk, HEADROOM, 0));
            }
        });
    }
}

impl<D: Memory<xdp_desc>, A: Memory<u64>> Rings<D, A> {
    /// Gives the kernel chunks to receive into, as many as there is room and chunks for.
    #[inline]
    fn refill<F: FrameMemory>(&mut self, pool: &mut Pool<F>) {
        let room = self.fill.free(BURST as u32) as usize;
        for _ in 0..room.min(pool.available().saturating_sub(RESERVE)) {
            let Some(frame) = pool.alloc() else { break };
            let address = u64::from(frame.chunk()) * u64::from(self.chunk_size);
            self.ledger
                .hand_over(frame.chunk(), Place::Receive(self.owner));
            // Room was counted, and we are the only producer.
            let pushed = self.fill.push(address);
            debug_assert!(pushed);
        }
        self.fill.publish();
    }

    /// Refills, then moves up to a burst of received frames to the end of `burst`.
    #[inline]
    pub(crate) fn receive<F: FrameMemory>(
        &mut self,
        pool: &mut Pool<F>,
        burst: &mut Vec<Frame>,
    ) -> usize {
        self.refill(pool);
        let before = burst.len();
        // A frame that never ends must not keep the worker here.
        for _ in 0..BURST * MAX_SEGMENTS {
            if burst.len() == before + BURST {
                break;
            }
            let Some(descriptor) = self.rx.pop() else {
                break;
            };
            let goes_on = descriptor.options & libc::XDP_PKT_CONTD != 0;
            match self.received(descriptor) {
                Ok(frame) if !goes_on && matches!(self.held.begun, Begun::Nothing) => {
                    burst.push(frame)
                }
                chunk => self.gather(chunk, goes_on, pool, burst),
            }
        }
        self.rx.release();
        burst.len() - before
    }

    /// Handles a descriptor that is not a frame of its own.
    #[cold]
    fn gather<F: FrameMemory>(
        &mut self,
        chunk: Result<Frame, Option<Frame>>,
        goes_on: bool,
        pool: &mut Pool<F>,
        burst: &mut Vec<Frame>,
    ) {
        let begun = std::mem::take(&mut self.held.begun);
        let appended = match (begun, chunk) {
            (Begun::Nothing, Ok(first)) if self.multi_buffer => Ok(ChainBuilder::new(first)),
            (Begun::Frame(mut assembly), Ok(piece)) => match assembly.push(&self.chains, piece) {
                Ok(()) => Ok(assembly),
                Err(piece) => {
                    self.errors.count(DropReason::TooManySegments);
                    Err([Some(assembly.finish()), Some(piece)])
                }
            },
            (Begun::Refused, Ok(piece)) => Err([Some(piece), None]),
            (begun, chunk) => {
                self.errors.count(DropReason::BadDescriptor);
                let before = if let Begun::Frame(begun) = begun {
                    Some(begun.finish())
                } else {
                    None
                };
                Err([before, chunk.map_or_else(|chunk| chunk, Some)])
            }
        };
        match (appended, goes_on) {
            (Ok(assembly), true) => self.held.begun = Begun::Frame(assembly),
            (Ok(assembly), false) => burst.push(assembly.finish()),
            (Err(chunks), goes_on) => {
                chunks
                    .into_iter()
                    .flatten()
                    .for_each(|chunk| pool.free(chunk));
                self.held.begun = if goes_on {
                    Begun::Refused
                } else {
                    Begun::Nothing
                };
            }
        }
    }

    /// The frame that an rx descriptor names. `Err` for a descriptor that must not be believed, with its chunk if that
    /// is ours for certain.
    #[inline]
    fn received(&self, descriptor: xdp_desc) -> Result<Frame, Option<Frame>> {
        let chunk_size = u64::from(self.chunk_size);
        let place = Place::Receive(self.owner);
        let mut frame = self
            .ledger
            .take_back(descriptor.addr / chunk_size, place)
            .ok_or(None)?;
        let start = (descriptor.addr % chunk_size) as u16;
        match frame.set_extent(start, descriptor.len as usize, self.chunk_size as usize) {
            Ok(()) => Ok(frame),
            Err(_) => Err(Some(frame)),
        }
    }

    /// Takes back what the kernel has sent.
    #[inline]
    pub(crate) fn reap<F: FrameMemory>(&mut self, pool: &mut Pool<F>) {
        let mut shared = DeferredRelease::default();
        while let Some(address) = self.completion.pop() {
            let chunk = address / u64::from(self.chunk_size);
            match self.ledger.take_back(chunk, Place::Transmit(self.owner)) {
                Some(frame) => pool.free(frame),
                None => match self.held.lent.take_back(chunk) {
                    Some(chunk) => pool.defer_release(chunk, &mut shared),
                    None => self.errors.count(DropReason::BadDescriptor),
                },
            }
        }
        pool.flush_deferred(shared);
        self.completion.release();
    }

    /// Frames in the tx ring that the kernel has not taken, and a number that changes with each frame that it takes or
    /// completes.
    pub(crate) fn sending(&mut self) -> (u32, u32) {
        let pending = self.tx.pending();
        (
            pending,
            self.tx.taken().wrapping_add(self.completion.released()),
        )
    }

    /// Reaps, then puts frames from the front of `frames` into the tx ring as far as there is room.
    #[inline]
    pub(crate) fn send<F: FrameMemory>(
        &mut self,
        pool: &mut Pool<F>,
        frames: &mut Vec<Frame>,
    ) -> usize {
        self.reap(pool);
        let mut count = (self.tx.free(frames.len() as u32) as usize).min(frames.len());
        if frames[..count].iter().any(Frame::is_chained) {
            count = self.fitting(frames);
        }
        for frame in frames.drain(..count) {
            if let Some(reason) = self.tx_error(&frame) {
                self.errors.count(reason);
                pool.free(frame);
            } else if frame.is_chained() {
                self.push_chain(&frame);
            } else {
                self.ledger
                    .hand_over(frame.chunk(), Place::Transmit(self.owner));
                self.push(frame.first(), 0);
            }
        }
        self.tx.publish();
        count
    }

    /// How many frames from the front there is room for.
    #[cold]
    fn fitting(&mut self, frames: &[Frame]) -> usize {
        let mut room = self.tx.free(u32::MAX) as usize;
        let mut fits = |frame: &Frame| {
            let left = room.checked_sub(1 + self.chains.rest(frame).count());
            room = left.unwrap_or(0);
            left.is_some()
        };
        frames.iter().take_while(|frame| fits(frame)).count()
    }

    /// Why the kernel would not take a frame; `None` when it would.
    #[inline]
    fn tx_error(&self, frame: &Frame) -> Option<DropReason> {
        let first = frame.first();
        let outside =
            |piece: Segment| usize::from(piece.start()) + piece.len() > self.chunk_size as usize;
        if first.len() < SHORTEST || outside(first) {
            return Some(DropReason::BadDescriptor);
        }
        if frame.is_chained() {
            if !self.multi_buffer {
                return Some(DropReason::MultiBufferUnsupported);
            }
            if self.chains.rest(frame).any(outside) {
                return Some(DropReason::BadDescriptor);
            }
        }
        None
    }

    #[cold]
    fn push_chain(&mut self, frame: &Frame) {
        let mut piece = frame.first();
        self.ledger
            .hand_over(piece.chunk(), Place::Transmit(self.owner));
        let chains = Arc::clone(&self.chains);
        for next in chains.rest(frame) {
            self.push(piece, libc::XDP_PKT_CONTD);
            piece = next;
            if chains.is_shared(piece.chunk()) {
                self.held.lent.lend(piece.chunk());
            } else {
                self.ledger
                    .hand_over(piece.chunk(), Place::Transmit(self.owner));
            }
        }
        self.push(piece, 0);
    }

    /// Writes one descriptor; room was counted, and we are the only producer.
    #[inline]
    fn push(&mut self, piece: Segment, options: u32) {
        let base = u64::from(piece.chunk()) * u64::from(self.chunk_size);
        let addr = base + u64::from(piece.start());
        let pushed = self.tx.push(xdp_desc {
            addr,
            len: piece.len() as u32,
            options,
        });
        debug_assert!(pushed);
    }
}
