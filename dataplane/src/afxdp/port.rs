//! A bound AF_XDP socket as a [`Port`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::options::BindMode;
use super::rings::SocketChunks;
use super::socket::{self, Queue, Socket};
use super::stall::Verdict;
use super::statistics::{SocketId, Statistics};
use super::sys;
use super::umem::{Umem, UmemMemory};
use crate::drop::DropReason;
use crate::frame::buffer::Owner;
use crate::frame::{BURST, Frame, Pool};
use crate::port::{Port, PortErrors, TxState};

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
    /// Whether the kernel can poll the queue was checked.
    napi_checked: bool,
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
            napi_checked: false,
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

    /// As [`Port::close`], from any thread: each chunk is returned through `give`. When the kernel
    /// still uses them after half a second, returns what is to be asked again.
    #[must_use]
    pub fn close_with(mut self, give: impl FnMut(Frame)) -> Option<ClosingPort> {
        self.close_socket(give)
    }

    fn shut(&mut self) -> Option<ClosingPort> {
        let Socket { fd, mut rings, .. } = self.socket.take()?;
        let in_use = self.mode == BindMode::ZeroCopy || rings.is_sending();
        let umem = self.umem.clone();
        // Other threads use the descriptor only under the lock, and not once it has left the
        // registry: the drops below close the last one, and with it the kernel releases all chunks
        // (net/xdp/xsk.c, `xsk_release`). That takes milliseconds, for which no one must wait.
        let mut registry = umem.registry();
        registry.bound.retain(|bound| bound.owner != self.owner);
        drop(registry);
        drop((rings.rx, rings.tx, rings.fill, rings.completion));
        drop(fd);
        Some(ClosingPort {
            owner: self.owner,
            umem,
            ifindex: self.ifindex,
            queue: self.queue,
            chunks: rings.socket_chunks,
            in_use,
        })
    }

    fn close_socket(&mut self, give: impl FnMut(Frame)) -> Option<ClosingPort> {
        self.shut()?.finish(give)
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
            let kicked = sys::kick_tx(socket.fd.as_fd());
            if socket.mode == BindMode::Copy && has_dropped(&kicked) {
                socket.rings.errors.count(DropReason::TxDropped);
            }
            lasting(kicked)?;
            socket.rings.reap(pool);
            let left = socket.rings.tx.pending();
            if left == pending {
                return Ok(());
            }
            pending = left;
        }
        Ok(())
    }

    /// Ends busy polling if the kernel can't poll the queue, or transmits only when it is woken.
    fn check_busy_poll(&mut self, pool: &mut Pool<UmemMemory>) -> Result<(), i32> {
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        let Some(stall) = &mut socket.busy_poll else {
            return Ok(());
        };
        let fd = socket.fd.as_fd();
        // After the first burst the kernel knows what to poll, or never will.
        let received = socket.rings.total_received();
        let unknown = received > BURST as u32
            && !std::mem::replace(&mut self.napi_checked, true)
            && !sys::knows_napi(fd).unwrap_or(true);
        let (pending, moved) = socket.rings.tx_progress();
        let verdict = stall.check(pending, moved, Instant::now());
        if unknown || verdict == Verdict::End {
            lasting(sys::end_busy_poll(fd))?;
            socket.busy_poll = None;
            socket.busy_poll_ended.store(true, Ordering::Relaxed);
            self.busy_poll_end_pending = true;
            return Self::kick_tx(socket, pool);
        }
        match verdict {
            Verdict::Wake => lasting(sys::set_wakeups(fd, true)),
            Verdict::Poll => lasting(sys::set_wakeups(fd, false)),
            Verdict::Continue | Verdict::End => Ok(()),
        }
    }
}

/// A closed port whose chunks the kernel may still use: a zero-copy device that writes to those of
/// the fill ring, or packet buffers of the network stack that refer to frames that were sent. Its
/// chunks must not be reused before the kernel has released the queue.
#[derive(Debug)]
pub struct ClosingPort {
    owner: Owner,
    umem: Umem,
    ifindex: u32,
    queue: u32,
    chunks: SocketChunks,
    in_use: bool,
}

impl ClosingPort {
    /// Waits for the kernel up to half a second, then returns all chunks through `give`.
    fn finish(self, give: impl FnMut(Frame)) -> Option<Self> {
        if self.in_use && !socket::await_release(|| self.is_released()) {
            // Packets wait below the device, or it may still write to these chunks: they must not be
            // reused now.
            tracing::warn!(
                self.ifindex,
                self.queue,
                "the kernel does not release the queue: its frames are missing until it does"
            );
            return Some(self);
        }
        self.reclaim(give);
        None
    }

    /// Returns all chunks through `give` if the kernel has released the queue meanwhile; else itself.
    #[must_use]
    pub fn retry(self, give: impl FnMut(Frame)) -> Option<Self> {
        if !self.is_released() {
            return Some(self);
        }
        tracing::info!(
            self.ifindex,
            self.queue,
            "the kernel has released the queue"
        );
        self.reclaim(give);
        None
    }

    fn is_released(&self) -> bool {
        // The queue could be bound again only after it had been released.
        let again = self.umem.is_bound(self.ifindex, self.queue);
        again || socket::is_released(self.ifindex, self.queue)
    }

    fn reclaim(self, mut give: impl FnMut(Frame)) {
        self.umem.buffers().reclaim_all(self.owner, &mut give);
        self.chunks.release(self.umem.buffers(), give);
        self.umem.registry().release(self.owner);
    }
}

/// Frames that a kick sends at least in copy mode, if there are as many (net/xdp/xsk.c,
/// `TX_BATCH_SIZE`).
const KICK: u32 = 32;

/// Whether a kick in copy mode has ended with a frame that the driver dropped, such as that of a tap
/// whose reader has stopped, or of a veth whose other end is overloaded. The kernel completes that
/// one as if it had been sent (net/xdp/xsk.c, `__xsk_generic_xmit`: NET_XMIT_DROP becomes EBUSY).
fn has_dropped(kicked: &io::Result<()>) -> bool {
    let error = kicked.as_ref().err();
    error.and_then(io::Error::raw_os_error) == Some(libc::EBUSY)
}

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
        let mut result = Ok(());
        if socket.busy_poll.is_some() || socket.rings.fill.needs_wakeup() {
            result = lasting(sys::kick_rx(socket.fd.as_fd()));
        }
        // An error in one direction must not stop the other one, nor the return of sent chunks.
        socket.rings.reap(pool);
        result.and(Self::kick_tx(socket, pool))?;
        self.check_busy_poll(pool)
    }

    #[inline]
    fn tx_state(&mut self) -> TxState {
        let closed = TxState {
            free: 0,
            held: 0,
            waiting: 0,
        };
        self.socket
            .as_mut()
            .map_or(closed, |socket| socket.rings.tx_state())
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
        // At the end of a worker: what the kernel does not release then is not needed.
        let _ = self.close_socket(|frame| pool.free(frame));
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
        let _ = self.close_socket(|frame| umem.keep_recovered(frame));
    }
}
