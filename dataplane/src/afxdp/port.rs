//! A bound AF_XDP socket as a [`Port`].

use super::ledger::Owner;
use super::socket::{BindMode, Socket};
use super::sys;
use super::umem::{Umem, UmemMemory};
use crate::core::frame::{Frame, Pool};
use crate::port::Port;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Frames that one `sendto` handles in copy mode (net/xdp/xsk.c, `TX_BATCH_SIZE`).
const KERNEL_BATCH: u32 = 32;

/// What the kernel and we have counted of one socket (`XDP_STATISTICS`, Documentation/networking/af_xdp.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Frames dropped by the kernel: longer than a chunk takes, or no memory.
    pub rx_dropped: u64,
    /// Frames dropped because the rx ring was full: the worker is too slow.
    pub rx_ring_full: u64,
    /// Frames dropped because the fill ring was empty: too few chunks.
    pub fill_ring_empty: u64,
    /// Fill ring entries that the kernel refused.
    pub rx_invalid: u64,
    /// Transmit descriptors that the kernel refused.
    pub tx_invalid: u64,
    /// Times that the kernel found the tx ring empty.
    pub tx_ring_empty: u64,
    /// Descriptors from the kernel that named a chunk it did not have or bytes outside of it, and frames to send
    /// shorter than an Ethernet header: all ignored.
    pub bad_descriptors: u64,
}

/// One receive and one transmit queue of a device. Owned by one worker.
///
/// [`Port::close`] gives all its chunks back; a port that is dropped leaves them to [`Umem::recover`].
#[derive(Debug)]
pub struct XskPort {
    /// `None` only once closed.
    socket: Option<Socket>,
    owner: Owner,
    umem: Umem,
    queue: u32,
    mode: BindMode,
}

impl XskPort {
    pub(super) fn new(socket: Socket, owner: Owner, umem: Umem, queue: u32) -> Self {
        let mode = socket.mode;
        Self { socket: Some(socket), owner, umem, queue, mode }
    }

    /// How the kernel moves the frames.
    #[must_use]
    pub fn bind_mode(&self) -> BindMode {
        self.mode
    }

    /// The device's queue.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// The kernel's.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let Some(socket) = &self.socket else { return Ok(Statistics::default()) };
        let kernel = sys::statistics(socket.fd.as_fd())?;
        Ok(Statistics {
            rx_dropped: kernel.rx_dropped,
            rx_ring_full: kernel.rx_ring_full,
            fill_ring_empty: kernel.rx_fill_ring_empty_descs,
            rx_invalid: kernel.rx_invalid_descs,
            tx_invalid: kernel.tx_invalid_descs,
            tx_ring_empty: kernel.tx_ring_empty_descs,
            bad_descriptors: socket.rings.bad,
        })
    }

    /// Descriptors from the kernel that were wrong: no system call, for the worker's own counters.
    #[must_use]
    pub fn bad_descriptors(&self) -> u64 {
        self.socket.as_ref().map_or(0, |socket| socket.rings.bad)
    }

    /// Whether the device is still there and up: a system call, for idle moments.
    ///
    /// # Errors
    /// The kernel's error number: ENETDOWN for a link that is down, ENXIO for a device that is gone.
    pub fn probe(&self) -> Result<(), i32> {
        let Some(socket) = &self.socket else { return Err(libc::ENXIO) };
        lasting(sys::kick_rx(socket.fd.as_fd()))
    }

    fn shut(&mut self, give: impl FnMut(Frame)) {
        let Some(socket) = self.socket.take() else { return };
        let umem = self.umem.clone();
        // Under the lock nobody shares this socket: the drops below close the last descriptor, and with it the kernel
        // lets go of all chunks (net/xdp/xsk.c, `xsk_release`).
        let mut registry = umem.registry();
        registry.bound.retain(|bound| bound.owner != self.owner);
        drop(socket);
        umem.ledger().take_back_all(self.owner, give);
        registry.release(self.owner);
    }

    /// Kicks the kernel until it has taken all frames of the tx ring or makes no headway.
    fn kick_tx(socket: &mut Socket, pool: &mut Pool<UmemMemory>) -> Result<(), i32> {
        let mut pending = socket.rings.tx.pending();
        let rounds = pending / KERNEL_BATCH + 2;
        for _ in 0..rounds {
            if pending == 0 || !socket.rings.tx.needs_wakeup() {
                return Ok(());
            }
            lasting(sys::kick_tx(socket.fd.as_fd()))?;
            socket.rings.reap(pool);
            let left = socket.rings.tx.pending();
            if left == pending {
                return Ok(());
            }
            pending = left;
        }
        Ok(())
    }
}

/// Turns what passes by itself into success: a full device queue or completion ring, no memory at the moment, a signal.
fn lasting(result: io::Result<()>) -> Result<(), i32> {
    match result.as_ref().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)) {
        Ok(()) | Err(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

impl Port<UmemMemory> for XskPort {
    #[inline]
    fn receive(&mut self, pool: &mut Pool<UmemMemory>, burst: &mut Vec<Frame>) -> usize {
        self.socket.as_mut().map_or(0, |socket| socket.rings.receive(pool, burst))
    }

    #[inline]
    fn send(&mut self, pool: &mut Pool<UmemMemory>, frames: &mut Vec<Frame>) -> usize {
        self.socket.as_mut().map_or(0, |socket| socket.rings.send(pool, frames))
    }

    fn wake(&mut self, pool: &mut Pool<UmemMemory>) -> Result<(), i32> {
        let Some(socket) = &mut self.socket else { return Err(libc::ENXIO) };
        if socket.rings.fill.needs_wakeup() {
            lasting(sys::kick_rx(socket.fd.as_fd()))?;
        }
        socket.rings.reap(pool);
        Self::kick_tx(socket, pool)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn close(mut self, pool: &mut Pool<UmemMemory>) {
        self.shut(|frame| pool.give(frame));
    }
}

impl AsFd for XskPort {
    /// To sleep in `poll` until a frame arrives (`POLLIN`).
    ///
    /// # Panics
    /// Never: only [`Port::close`], which takes the port, leaves it without a socket.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("a port has its socket until it is closed").fd.as_fd()
    }
}

impl Drop for XskPort {
    fn drop(&mut self) {
        let umem = self.umem.clone();
        self.shut(|frame| umem.keep_recovered(frame));
    }
}
