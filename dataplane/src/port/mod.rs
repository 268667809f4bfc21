//! A port moves frames between a worker and the outside: an AF_XDP socket ([`crate::afxdp`]) or memory ([`memory`]).

pub mod memory;

use crate::core::frame::{Frame, FrameMemory, Pool};
use std::os::fd::BorrowedFd;

/// Frames and descriptors that a port has refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    /// Descriptors that named a chunk which the device did not have, or bytes outside of it, and frames to send that no
    /// device takes.
    pub bad_descriptors: u64,
    /// Received frames of more than [`crate::core::chain::MAX_CHUNKS`] chunks.
    pub too_long: u64,
    /// Frames of several chunks to send, where the device takes only one.
    pub several_chunks: u64,
}

/// One receive and one transmit queue of a device, owned by one worker.
pub trait Port<M: FrameMemory> {
    /// Moves up to [`crate::core::frame::BURST`] received frames to the end of `burst`, and gives the device fresh
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

    /// What was refused since it began.
    fn refused(&self) -> Refused {
        Refused::default()
    }

    /// True once after busy polling was taken back: what was to be sent stayed in the tx ring.
    fn busy_poll_ended(&mut self) -> bool {
        false
    }

    /// Ends the port. Every chunk that it or the kernel holds goes back to `pool`.
    fn close(self, pool: &mut Pool<M>);
}
