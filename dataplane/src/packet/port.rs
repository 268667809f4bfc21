//! A packet socket as a [`Port`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::receiver::Receiver;
use super::ring::RxRing;
use super::socket::{Group, Socket, SocketId};
use super::sys;
use super::transmitter::Transmitter;
use crate::afxdp::{Statistics, Umem, UmemMemory};
use crate::frame::{Frame, Pool};
use crate::port::{Port, PortErrors, TxState};

/// One packet socket of an interface, owned by one worker.
///
/// The kernel holds none of its chunks. [`Port::close`] returns those that wait to be received into
/// and to be sent; [`Umem::recover`] reclaims those of a dropped port.
#[derive(Debug)]
pub struct PacketPort {
    socket: Arc<Socket>,
    number: u32,
    /// Kept as long as the socket is in it.
    _group: Option<Arc<Group>>,
    umem: Umem,
    receiver: Receiver,
    transmitter: Transmitter,
    errors: PortErrors,
    /// The interface is down or gone, as the last system call has said.
    failed: Option<i32>,
}

impl PacketPort {
    pub(super) fn new(
        (socket, ring): (Socket, RxRing),
        number: u32,
        group: Option<Arc<Group>>,
        umem: &Umem,
        is_underlay: bool,
    ) -> Self {
        Self {
            socket: Arc::new(socket),
            number,
            _group: group,
            umem: umem.clone(),
            receiver: Receiver::new(ring, umem.frame_size() as usize, is_underlay),
            transmitter: Transmitter::new(is_underlay),
            errors: PortErrors::default(),
            failed: None,
        }
    }

    /// The number of the socket, from 0.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The identifier of the socket, for other threads.
    #[must_use]
    pub fn id(&self) -> SocketId {
        SocketId::of(&self.socket)
    }

    /// The kernel's counters so far.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn statistics(&self) -> io::Result<Statistics> {
        self.socket.statistics()
    }

    /// Whether the interface still exists and is up. A system call, so not for the packet path.
    ///
    /// # Errors
    /// The kernel's error number: ENETDOWN for a link that is down, ENXIO for an interface that is
    /// gone.
    pub fn probe(&self) -> Result<(), i32> {
        sys::probe(self.socket.fd.as_fd())
            .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// As [`Port::close`], from any thread: each frame and chunk is returned through `give`.
    pub fn close_with(mut self, give: impl FnMut(Frame)) {
        self.release(give);
    }

    fn flush(&mut self, pool: &mut Pool<UmemMemory>) -> Result<(), i32> {
        self.transmitter.flush(&self.socket, pool, &mut self.errors)
    }

    fn release(&mut self, mut give: impl FnMut(Frame)) {
        self.receiver.release(&mut give);
        self.transmitter.release(give);
    }
}

impl Port<UmemMemory> for PacketPort {
    #[inline]
    fn receive(&mut self, pool: &mut Pool<UmemMemory>, burst: &mut Vec<Frame>) -> usize {
        let Self {
            socket,
            receiver,
            errors,
            failed,
            ..
        } = self;
        let before = burst.len();
        if let Err(errno) = receiver.receive(socket, pool, burst, errors) {
            *failed = Some(errno);
        }
        burst.len() - before
    }

    #[inline]
    fn send(&mut self, pool: &mut Pool<UmemMemory>, frames: &mut Vec<Frame>) -> usize {
        self.transmitter.queue(pool, frames, &mut self.errors)
    }

    fn wake(&mut self, pool: &mut Pool<UmemMemory>) -> Result<(), i32> {
        let mut result = self.failed.map_or_else(|| self.flush(pool), Err);
        if result.is_err() {
            result = self.probe().and_then(|()| self.flush(pool));
        }
        self.failed = result.err();
        if result.is_err() {
            // Nothing is sent late, when the link is up again.
            self.transmitter.discard(pool, &mut self.errors);
        }
        result
    }

    #[inline]
    fn tx_state(&mut self) -> TxState {
        self.transmitter.state()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.fd.as_fd())
    }

    #[inline]
    fn errors(&self) -> PortErrors {
        self.errors
    }

    #[inline]
    fn expect_cuts(&mut self, cuts: bool) {
        self.receiver.expect_cuts(cuts);
    }

    fn takes_superframes(&self) -> bool {
        true
    }

    fn close(mut self, pool: &mut Pool<UmemMemory>) {
        self.release(|frame| pool.free(frame));
    }
}

impl Drop for PacketPort {
    fn drop(&mut self) {
        let umem = self.umem.clone();
        self.release(|frame| umem.keep_recovered(frame));
    }
}
