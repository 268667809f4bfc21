//! A bound AF_XDP socket as a [`Port`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ledger::Owner;
use super::options::BindMode;
use super::socket::{self, Queue, Socket};
use super::statistics::{SocketId, Statistics};
use super::sys;
use super::umem::{Umem, UmemMemory};
use crate::frame::{Frame, Pool};
use crate::port::{Port, PortErrors};

/// One receive and one transmit queue of a device, owned by one worker.
///
/// [`Port::close`] returns all its chunks; [`Umem::recover`] reclaims those of a dropped port.
#[derive(Debug)]
pub struct XskPort {
    /// `None` only after closing.
    socket: Option<Socket>,
    owner: Owner,
    umem: Umem,
    ifindex: u32,
    queue: u32,
    mode: BindMode,
    multi_buffer: bool,
    /// Busy polling was disabled, which is not reported yet.
    busy_poll_end_pending: bool,
}

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
            busy_poll_end_pending: false,
        }
    }

    /// How the kernel moves frames.
    #[must_use]
    pub fn bind_mode(&self) -> BindMode {
        self.mode
    }

    /// Whether frames of several chunks are received and sent (`XDP_USE_SG`, Linux 6.6 or later).
    #[must_use]
    pub fn is_multi_buffer(&self) -> bool {
        self.multi_buffer
    }

    /// The queue of the device.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// The identifier of the socket, for other threads.
    #[must_use]
    pub fn id(&self) -> SocketId {
        SocketId(self.owner)
    }

    /// The kernel's counters so far.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let Some(socket) = &self.socket else {
            return Ok(Statistics::default());
        };
        sys::statistics(socket.fd.as_fd()).map(Statistics::from)
    }

    /// Whether the device still exists and is up. A system call, so not for the packet path.
    ///
    /// # Errors
    /// The kernel's error number: ENETDOWN for a link that is down, ENXIO for a device that is
    /// gone.
    pub fn probe(&self) -> Result<(), i32> {
        let Some(socket) = &self.socket else {
            return Err(libc::ENXIO);
        };
        lasting(sys::kick_rx(socket.fd.as_fd()))
    }

    fn close_socket(&mut self, mut give: impl FnMut(Frame)) {
        let Some(Socket { fd, rings, .. }) = self.socket.take() else {
            return;
        };
        let umem = self.umem.clone();
        // Under the lock no other socket shares this one: the drops below close the last
        // descriptor, and with it the kernel releases all chunks (net/xdp/xsk.c, `xsk_release`).
        let mut registry = umem.registry();
        registry.bound.retain(|bound| bound.owner != self.owner);
        drop((rings.rx, rings.tx, rings.fill, rings.completion));
        drop(fd);
        if self.mode == BindMode::ZeroCopy && !socket::await_release(self.ifindex, self.queue) {
            // The device may still write to these chunks, so they must not be reused: report the
            // loss.
            tracing::error!(
                self.ifindex,
                self.queue,
                "the kernel does not release the queue: its frames are lost"
            );
            return;
        }
        umem.ledger().reclaim_all(self.owner, &mut give);
        rings.socket_chunks.release(umem.segments(), give);
        registry.release(self.owner);
    }

    /// Kicks the kernel until it has taken all frames of the tx ring, or makes no progress.
    fn kick_tx(socket: &mut Socket, pool: &mut Pool<UmemMemory>) -> Result<(), i32> {
        let mut pending = socket.rings.tx.pending();
        let rounds = pending / KICK + 2;
        for _ in 0..rounds {
            // A busy-polling socket has no interrupts: nothing moves without a system call.
            if pending == 0 || !(socket.busy_poll.is_some() || socket.rings.tx.needs_wakeup()) {
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

/// Frames that a kick sends at least in copy mode, if there are as many (net/xdp/xsk.c,
/// `TX_BATCH_SIZE`).
const KICK: u32 = 32;

/// Turns transient errors into success: a full device queue or completion ring, no memory at the
/// moment, a signal.
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
        if socket.busy_poll.is_some() || socket.rings.fill.needs_wakeup() {
            lasting(sys::kick_rx(socket.fd.as_fd()))?;
        }
        socket.rings.reap(pool);
        Self::kick_tx(socket, pool)?;
        let Some(stall) = &mut socket.busy_poll else {
            return Ok(());
        };
        let (pending, moved) = socket.rings.tx_progress();
        if stall.check(pending, moved, Instant::now()) {
            lasting(sys::end_busy_poll(socket.fd.as_fd()))?;
            socket.busy_poll = None;
            socket.busy_poll_ended.store(true, Ordering::Relaxed);
            self.busy_poll_end_pending = true;
            Self::kick_tx(socket, pool)?;
        }
        Ok(())
    }

    #[inline]
    fn busy_poll_ended(&mut self) -> bool {
        std::mem::take(&mut self.busy_poll_end_pending)
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
        self.close_socket(|frame| pool.free(frame));
    }
}

impl AsFd for XskPort {
    /// The descriptor to wait on for received frames (`POLLIN`).
    ///
    /// # Panics
    /// Never: only [`Port::close`], which consumes the port, removes its socket.
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
        self.close_socket(|frame| umem.keep_recovered(frame));
    }
}
