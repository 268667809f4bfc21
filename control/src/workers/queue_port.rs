//! The port of a queue that workers serve: one type for all kinds of port.

use std::os::fd::BorrowedFd;

use vtep_dataplane::afxdp::{BindMode, ClosingPort, UmemMemory, XskPort};
use vtep_dataplane::frame::{Frame, Pool};
use vtep_dataplane::packet::PacketPort;
use vtep_dataplane::port::{Port, PortErrors, TxState};

/// A socket of an interface, of any kind.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost each call on the packet path, to save 300 bytes a packet socket"
)]
pub enum QueuePort {
    /// An AF_XDP socket on one receive queue.
    AfXdp(XskPort),
    /// A packet socket.
    Packet(PacketPort),
}

/// Calls the same method of the port of each kind.
macro_rules! each {
    ($self:ident, $port:ident => $call:expr) => {
        match $self {
            QueuePort::AfXdp($port) => $call,
            QueuePort::Packet($port) => $call,
        }
    };
}

impl QueuePort {
    /// The number of the queue, or of the socket.
    #[must_use]
    pub fn number(&self) -> u32 {
        match self {
            Self::AfXdp(port) => port.queue(),
            Self::Packet(port) => port.number(),
        }
    }

    /// Whether frames of several chunks are received and sent.
    #[must_use]
    pub fn is_multi_buffer(&self) -> bool {
        match self {
            Self::AfXdp(port) => port.is_multi_buffer(),
            Self::Packet(_) => true,
        }
    }

    /// How the kernel moves frames of AF_XDP; `None` for other kinds.
    #[must_use]
    pub fn bind_mode(&self) -> Option<BindMode> {
        match self {
            Self::AfXdp(port) => Some(port.bind_mode()),
            Self::Packet(_) => None,
        }
    }

    /// As [`Port::close`], from any thread: each chunk is returned through `give`. When the kernel
    /// still uses them after half a second, returns what is to be asked again.
    #[must_use]
    pub fn close_with(self, give: impl FnMut(Frame)) -> Option<ClosingPort> {
        match self {
            Self::AfXdp(port) => port.close_with(give),
            Self::Packet(port) => {
                port.close_with(give);
                None
            }
        }
    }
}

impl Port<UmemMemory> for QueuePort {
    #[inline]
    fn receive(&mut self, pool: &mut Pool<UmemMemory>, burst: &mut Vec<Frame>) -> usize {
        each!(self, port => port.receive(pool, burst))
    }

    #[inline]
    fn send(&mut self, pool: &mut Pool<UmemMemory>, frames: &mut Vec<Frame>) -> usize {
        each!(self, port => port.send(pool, frames))
    }

    #[inline]
    fn wake(&mut self, pool: &mut Pool<UmemMemory>) -> Result<(), i32> {
        each!(self, port => port.wake(pool))
    }

    #[inline]
    fn tx_state(&mut self) -> TxState {
        each!(self, port => port.tx_state())
    }

    #[inline]
    fn busy_poll_ended(&mut self) -> bool {
        each!(self, port => port.busy_poll_ended())
    }

    #[inline]
    fn expect_cuts(&mut self, cuts: bool) {
        each!(self, port => port.expect_cuts(cuts));
    }

    fn takes_superframes(&self) -> bool {
        each!(self, port => port.takes_superframes())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        each!(self, port => port.poll_fd())
    }

    #[inline]
    fn errors(&self) -> PortErrors {
        each!(self, port => port.errors())
    }

    fn close(self, pool: &mut Pool<UmemMemory>) {
        match self {
            Self::AfXdp(port) => port.close(pool),
            Self::Packet(port) => port.close(pool),
        }
    }
}
