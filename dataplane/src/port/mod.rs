//! A port moves frames between a worker and the outside: an AF_XDP socket ([`crate::afxdp`]) or memory ([`memory`]).

pub mod memory;

use std::os::fd::BorrowedFd;

use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory, Pool};

/// Frames and descriptors that a port had to refuse, counted by the drop reason that they are
/// reported under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortErrors([u64; PortErrors::REASONS.len()]);

impl PortErrors {
    /// The reasons that a port counts itself:
    ///
    /// - a descriptor of the kernel that names a chunk which the device did not have, or bytes
    ///   outside of it, and a frame to send that no device takes;
    /// - a received frame of more than [`crate::frame::chain::MAX_SEGMENTS`] chunks;
    /// - a frame of several chunks to send where the device takes only one.
    pub const REASONS: [DropReason; 3] = [
        DropReason::BadDescriptor,
        DropReason::TooManySegments,
        DropReason::MultiBufferUnsupported,
    ];

    /// Counts one error.
    ///
    /// # Panics
    /// If `reason` is not one of [`PortErrors::REASONS`].
    #[inline]
    pub fn count(&mut self, reason: DropReason) {
        self.0[Self::index(reason)] += 1;
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

/// One receive and one transmit queue of a device, owned by one worker.
pub trait Port<M: FrameMemory> {
    /// Moves up to [`crate::frame::BURST`] received frames to the end of `burst`, and gives the device fresh
    /// chunks from `pool` to receive into. Returns how many frames were received.
    fn receive(&mut self, pool: &mut Pool<M>, burst: &mut Vec<Frame>) -> usize;

    /// Sends frames from the front of `frames` as far as there is room, takes sent chunks back into `pool`, and
    /// returns how many were accepted. What did not fit stays in `frames`.
    fn send(&mut self, pool: &mut Pool<M>, frames: &mut Vec<Frame>) -> usize;

    /// Tells the device, once a turn, that there is work for it; takes back what it has sent.
    ///
    /// # Errors
    /// The kernel's error number when the device is gone, down, or refuses for another lasting reason.
    fn wake(&mut self, pool: &mut Pool<M>) -> Result<(), i32>;

    /// What to poll for readability before sleeping; `None` for a port that is always looked at.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Errors since the port was opened.
    fn errors(&self) -> PortErrors {
        PortErrors::default()
    }

    /// Ends the port. Every chunk that it or the kernel holds goes back to `pool`.
    fn close(self, pool: &mut Pool<M>);
}
