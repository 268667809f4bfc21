//! The four rings of one socket and the moves of frames through them, without a system call.
//!
//! Generic over where the rings lie: the kernel's mappings, or memory with a simulated kernel at the other end.

use super::ledger::{Ledger, Owner, Place};
use super::ring::{Consumer, Memory, Producer};
use crate::core::frame::{BURST, Frame, FrameMemory, Pool};
use libc::xdp_desc;
use std::sync::Arc;

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
    pub(crate) owner: Owner,
    pub(crate) chunk_size: u32,
    /// Descriptors of the kernel that were wrong, and frames that were no frames.
    pub(crate) bad: u64,
}

impl<D: Memory<xdp_desc>, A: Memory<u64>> Rings<D, A> {
    /// Gives the kernel chunks to receive into, as many as there is room and chunks for.
    #[inline]
    fn refill<F: FrameMemory>(&mut self, pool: &mut Pool<F>) {
        let room = self.fill.free(BURST as u32) as usize;
        for _ in 0..room.min(pool.available().saturating_sub(RESERVE)) {
            let Some(frame) = pool.take() else { break };
            let address = u64::from(frame.chunk()) * u64::from(self.chunk_size);
            self.ledger.hand_over(frame, Place::Receive(self.owner));
            // Room was counted, and we are the only producer.
            let pushed = self.fill.push(address);
            debug_assert!(pushed);
        }
        self.fill.publish();
    }

    /// Refills, then moves up to a burst of received frames to the end of `burst`.
    #[inline]
    pub(crate) fn receive<F: FrameMemory>(&mut self, pool: &mut Pool<F>, burst: &mut Vec<Frame>) -> usize {
        self.refill(pool);
        let before = burst.len();
        while burst.len() < before + BURST {
            let Some(descriptor) = self.rx.pop() else { break };
            match self.received(descriptor) {
                Ok(frame) => burst.push(frame),
                Err(chunk) => {
                    self.bad += 1;
                    if let Some(frame) = chunk {
                        pool.give(frame);
                    }
                }
            }
        }
        self.rx.release();
        burst.len() - before
    }

    /// The frame that an rx descriptor names. `Err` for a descriptor that must not be believed, with its chunk if that
    /// is ours for certain.
    #[inline]
    fn received(&self, descriptor: xdp_desc) -> Result<Frame, Option<Frame>> {
        let chunk_size = u64::from(self.chunk_size);
        let place = Place::Receive(self.owner);
        let mut frame = self.ledger.take_back(descriptor.addr / chunk_size, place).ok_or(None)?;
        let start = (descriptor.addr % chunk_size) as u16;
        if frame.place(start, descriptor.len as usize, self.chunk_size as usize).is_err()
            || descriptor.options & libc::XDP_PKT_CONTD != 0
        {
            return Err(Some(frame));
        }
        Ok(frame)
    }

    /// Takes back what the kernel has sent.
    #[inline]
    pub(crate) fn reap<F: FrameMemory>(&mut self, pool: &mut Pool<F>) {
        while let Some(address) = self.completion.pop() {
            match self.ledger.take_back(address / u64::from(self.chunk_size), Place::Transmit(self.owner)) {
                Some(frame) => pool.give(frame),
                None => self.bad += 1,
            }
        }
        self.completion.release();
    }

    /// Reaps, then puts frames from the front of `frames` into the tx ring as far as there is room.
    #[inline]
    pub(crate) fn send<F: FrameMemory>(&mut self, pool: &mut Pool<F>, frames: &mut Vec<Frame>) -> usize {
        self.reap(pool);
        let count = (self.tx.free(frames.len() as u32) as usize).min(frames.len());
        for frame in frames.drain(..count) {
            let end = usize::from(frame.start()) + frame.len();
            if frame.len() < SHORTEST || end > self.chunk_size as usize {
                self.bad += 1;
                pool.give(frame);
                continue;
            }
            let base = u64::from(frame.chunk()) * u64::from(self.chunk_size);
            let descriptor =
                xdp_desc { addr: base + u64::from(frame.start()), len: frame.len() as u32, options: 0 };
            self.ledger.hand_over(frame, Place::Transmit(self.owner));
            // Room was counted, and we are the only producer.
            let pushed = self.tx.push(descriptor);
            debug_assert!(pushed);
        }
        self.tx.publish();
        count
    }
}
