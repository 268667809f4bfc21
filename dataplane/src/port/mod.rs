//! A port moves frames between a worker and the network: an AF_XDP socket ([`crate::afxdp`]), or
//! memory in tests and benchmarks ([`memory`]).

pub mod memory;

use std::os::fd::BorrowedFd;

use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory, Pool};

/// Frames and descriptors that a port rejected, counted by the drop reason that they are reported
/// as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortErrors([u64; PortErrors::REASONS.len()]);

impl PortErrors {
    /// The reasons that a port counts itself:
    ///
    /// - a descriptor of the kernel with a chunk that the device did not hold, or with bytes
    ///   outside of it, and a frame to send that no device accepts;
    /// - a received frame of more than [`crate::frame::chain::MAX_SEGMENTS`] chunks, and one to send
    ///   of more chunks than devices take;
    /// - a frame of several chunks to send where the device accepts only one;
    /// - a frame that was handed to the device, and that its driver dropped;
    /// - a received frame whose sender left a checksum or segmentation that can't be done;
    /// - a frame to send that is longer than the interface's MTU by now, or whose interface is down
    ///   or gone.
    pub const REASONS: [DropReason; 8] = [
        DropReason::BadDescriptor,
        DropReason::TooManySegments,
        DropReason::MultiBufferUnsupported,
        DropReason::TxDropped,
        DropReason::ChecksumOffset,
        DropReason::Unsegmentable,
        DropReason::PortMtu,
        DropReason::PortDown,
    ];

    /// Counts one error.
    ///
    /// # Panics
    /// If `reason` is not one of [`PortErrors::REASONS`].
    #[inline]
    pub fn count(&mut self, reason: DropReason) {
        self.0[Self::index(reason)] += 1;
    }

    /// Counts as many errors as a superframe stands for segments.
    ///
    /// # Panics
    /// As [`Self::count`].
    #[inline]
    pub fn count_many(&mut self, reason: DropReason, frames: u64) {
        self.0[Self::index(reason)] += frames;
    }

    /// Errors counted for `reason` so far; 0 for a reason that ports do not count.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.iter()
            .find(|(of, _)| *of == reason)
            .map_or(0, |(_, count)| count)
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        Self::REASONS.into_iter().zip(self.0)
    }

    #[inline]
    fn index(reason: DropReason) -> usize {
        let index = Self::REASONS.iter().position(|of| *of == reason);
        index.expect("a port counts this reason")
    }
}

/// The transmit side of a port at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxState {
    /// Chunks that the port accepts before its queue is full.
    pub free: usize,
    /// Chunks that it holds: queued, or taken by the device and not returned yet.
    pub held: usize,
    /// Chunks queued that the device has not taken: as many frames, unless they are of several
    /// chunks.
    pub waiting: usize,
}

/// One receive and one transmit queue of a device, owned by one worker.
pub trait Port<M: FrameMemory> {
    /// Appends up to [`crate::frame::BURST`] received frames to `burst`, and refills the device
    /// with free chunks from `pool`. Returns how many frames were received.
    fn receive(&mut self, pool: &mut Pool<M>, burst: &mut Vec<Frame>) -> usize;

    /// Sends frames from the front of `frames` until the queue is full, returns the chunks of sent
    /// frames to `pool`, and returns how many frames were accepted. The others stay in `frames`.
    fn send(&mut self, pool: &mut Pool<M>, frames: &mut Vec<Frame>) -> usize;

    /// Notifies the device, once per iteration, that it has work, and reclaims sent chunks.
    ///
    /// # Errors
    /// The kernel's error number when the device is gone, down, or fails for another lasting
    /// reason.
    fn wake(&mut self, pool: &mut Pool<M>) -> Result<(), i32>;

    /// The state of its transmit queue.
    fn tx_state(&mut self) -> TxState {
        TxState {
            free: usize::MAX,
            held: 0,
            waiting: 0,
        }
    }

    /// The descriptor to poll for readability while sleeping; `None` for a port without one.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether it sends superframes whole, and frames whose transport checksum is partial
    /// ([`crate::frame::offload`]).
    fn takes_superframes(&self) -> bool {
        false
    }

    /// Whether the superframes that it received last were cut: then it may receive the next ones so that
    /// this takes no copy.
    fn expect_cuts(&mut self, cuts: bool) {
        let _ = cuts;
    }

    /// Errors since the port was opened.
    fn errors(&self) -> PortErrors {
        PortErrors::default()
    }

    /// True once after busy polling was switched off because the driver does not transmit with it, or
    /// can't be polled.
    fn busy_poll_ended(&mut self) -> bool {
        false
    }

    /// Closes the port. Every chunk that it or the kernel holds is returned to `pool`.
    fn close(self, pool: &mut Pool<M>);
}
