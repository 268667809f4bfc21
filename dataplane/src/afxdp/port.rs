//! A bound AF_XDP socket as a [`Port`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ledger::Owner;
use super::socket::{self, BindMode, Queue, Socket};
use super::sys;
use super::umem::{Umem, UmemMemory};
use crate::frame::{Frame, Pool};
use crate::port::{Port, PortErrors};

/// What the kernel has counted of one socket (`XDP_STATISTICS`, Documentation/networking/af_xdp.rst).
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
}

impl From<libc::xdp_statistics> for Statistics {
    fn from(kernel: libc::xdp_statistics) -> Self {
        Self {
            rx_dropped: kernel.rx_dropped,
            rx_ring_full: kernel.rx_ring_full,
            fill_ring_empty: kernel.rx_fill_ring_empty_descs,
            rx_invalid: kernel.rx_invalid_descs,
            tx_invalid: kernel.tx_invalid_descs,
            tx_ring_empty: kernel.tx_ring_empty_descs,
        }
    }
}

impl std::ops::Add for Statistics {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            rx_dropped: self.rx_dropped + more.rx_dropped,
            rx_ring_full: self.rx_ring_full + more.rx_ring_full,
            fill_ring_empty: self.fill_ring_empty + more.fill_ring_empty,
            rx_invalid: self.rx_invalid + more.rx_invalid,
            tx_invalid: self.tx_invalid + more.tx_invalid,
            tx_ring_empty: self.tx_ring_empty + more.tx_ring_empty,
        }
    }
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
    ifindex: u32,
    queue: u32,
    mode: BindMode,
    multi_buffer: bool,
    /// Busy polling was taken back, and nobody has asked since.
    news: bool,
}

/// Names an open socket, for [`Umem::statistics`]. Of no use once the port is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketId(pub(super) Owner);

impl XskPort {
    pub(super) fn new(socket: Socket, owner: Owner, umem: Umem, queue: Queue<'_>) -> Self {
        let (mode, multi_buffer) = (socket.mode, socket.rings.multi_buffer);
        let Queue {
            ifindex,
            number: queue,
            ..
        } = queue;
        Self {
            socket: Some(socket),
            owner,
            umem,
            ifindex,
            queue,
            mode,
            multi_buffer,
            news: false,
        }
    }

    /// How the kernel moves the frames.
    #[must_use]
    pub fn bind_mode(&self) -> BindMode {
        self.mode
    }

    /// Whether frames of several chunks come and go (`XDP_USE_SG`, Linux 6.6 or later).
    #[must_use]
    pub fn takes_chains(&self) -> bool {
        self.multi_buffer
    }

    /// The device's queue.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Its name for other threads.
    #[must_use]
    pub fn id(&self) -> SocketId {
        SocketId(self.owner)
    }

    /// What the kernel has counted so far.
    ///
    /// # Errors
    /// The kernel's.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let Some(socket) = &self.socket else {
            return Ok(Statistics::default());
        };
        sys::statistics(socket.fd.as_fd()).map(Statistics::from)
    }

    /// Whether the device is still there and up: a system call, for idle moments.
    ///
    /// # Errors
    /// The kernel's error number: ENETDOWN for a link that is down, ENXIO for a device that is gone.
    pub fn probe(&self) -> Result<(), i32> {
        let Some(socket) = &self.socket else {
            return Err(libc::ENXIO);
        };
        lasting(sys::kick_rx(socket.fd.as_fd()))
    }

    fn shut(&mut self, mut give: impl FnMut(Frame)) {
        let Some(Socket { fd, rings, .. }) = self.socket.take() else {
            return;
        };
        let umem = self.umem.clone();
        // Under the lock nobody shares this socket: the drops below close the last descriptor, and with it the kernel
        // lets go of all chunks (net/xdp/xsk.c, `xsk_release`).
        let mut registry = umem.registry();
        registry.bound.retain(|bound| bound.owner != self.owner);
        drop((rings.rx, rings.tx, rings.fill, rings.completion));
        drop(fd);
        if self.mode == BindMode::ZeroCopy && !socket::await_release(self.ifindex, self.queue) {
            // Chunks that the device may still write to must not be used again: better lost, and said.
            tracing::error!(
                self.ifindex,
                self.queue,
                "the kernel doesn't release the queue: its frames are lost"
            );
            return;
        }
        umem.ledger().reclaim_all(self.owner, &mut give);
        rings.socket_chunks.release(umem.segments(), give);
        registry.release(self.owner);
    }

    /// Kicks the kernel until it has taken all frames of the tx ring or makes no headway.
    fn kick_tx(socket: &mut Socket, pool: &mut Pool<UmemMemory>) -> Result<(), i32> {
        let mut pending = socket.rings.tx.pending();
        let rounds = pending / KICK + 2;
        for _ in 0..rounds {
            // A socket that polls has no interrupts: nothing moves without a call.
            if pending == 0 || !(socket.polls.is_some() || socket.rings.tx.needs_wakeup()) {
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

/// Fewer frames than this no kick sends in copy mode, if there are so many (net/xdp/xsk.c, `TX_BATCH_SIZE`).
const KICK: u32 = 32;

/// Turns what passes by itself into success: a full device queue or completion ring, no memory at the moment, a signal.
fn lasting(result: io::Result<()>) -> Result<(), i32> {
    match result
        .as_ref()
        .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    {
        Ok(()) | Err(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

impl Port<UmemMemory> for XskPort {
    #[inline]
    fn receive(&mut self, pool: &mut Pool<UmemMemory>, burst: &mut Vec<Frame>) -> usize {
        self.socket
            .as_mut()
            .map_or(0, |socket| socket.rings.receive(pool, burst))
    }

    #[inline]
    fn send(&mut self, pool: &mut Pool<UmemMemory>, frames: &mut Vec<Frame>) -> usize {
        self.socket
            .as_mut()
            .map_or(0, |socket| socket.rings.send(pool, frames))
    }

    fn wake(&mut self, pool: &mut Pool<UmemMemory>) -> Result<(), i32> {
        let Some(socket) = &mut self.socket else {
            return Err(libc::ENXIO);
        };
        if socket.polls.is_some() || socket.rings.fill.needs_wakeup() {
            lasting(sys::kick_rx(socket.fd.as_fd()))?;
        }
        socket.rings.reap(pool);
        Self::kick_tx(socket, pool)?;
        let Some(stall) = &mut socket.polls else {
            return Ok(());
        };
        let (pending, moved) = socket.rings.sending();
        if stall.look(pending, moved, Instant::now()) {
            lasting(sys::end_busy_poll(socket.fd.as_fd()))?;
            socket.polls = None;
            socket.polling_ended.store(true, Ordering::Relaxed);
            self.news = true;
            Self::kick_tx(socket, pool)?;
        }
        Ok(())
    }

    #[inline]
    fn busy_poll_ended(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    #[inline]
    fn errors(&self) -> PortErrors {
        self.socket
            .as_ref()
            .map_or(PortErrors::default(), |socket| socket.rings.errors)
    }

    fn close(mut self, pool: &mut Pool<UmemMemory>) {
        self.shut(|frame| pool.free(frame));
    }
}

impl AsFd for XskPort {
    /// To sleep in `poll` until a frame arrives (`POLLIN`).
    ///
    /// # Panics
    /// Never: only [`Port::close`], which takes the port, leaves it without a socket.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket
            .as_ref()
            .expect("a port has its socket until it is closed")
            .fd
            .as_fd()
    }
}

impl Drop for XskPort {
    fn drop(&mut self) {
        let umem = self.umem.clone();
        self.shut(|frame| umem.keep_recovered(frame));
    }
}
