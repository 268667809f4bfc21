//! Open sockets, their groups, and their statistics as the kernel counts them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::sys;
use crate::afxdp::Statistics;

/// An open socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    /// Sends superframes.
    pub(super) superframes: OwnedFd,
    /// Frames for which the kernel had no room, up to the last look.
    drops: AtomicU64,
    /// Frames that the kernel has put into the ring, up to the last look.
    received: AtomicU64,
    /// The worker has found the ring empty, and no frame since.
    is_empty: AtomicBool,
    /// The kernel has refused a superframe of UDP.
    refuses_trains: AtomicBool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, superframes: OwnedFd) -> Self {
        Self {
            fd,
            superframes,
            drops: AtomicU64::new(0),
            received: AtomicU64::new(0),
            is_empty: AtomicBool::new(false),
            refuses_trains: AtomicBool::new(false),
        }
    }

    /// Counts a frame for which the kernel had no room, and which it has not counted.
    #[cold]
    pub(super) fn count_drop(&self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the kernel has refused a superframe of UDP.
    #[cold]
    pub(super) fn refuse_trains(&self) {
        self.refuses_trains.store(true, Ordering::Relaxed);
    }

    /// Notes whether the worker finds the ring empty.
    #[inline]
    pub(super) fn set_empty(&self, is_empty: bool) {
        self.is_empty.store(is_empty, Ordering::Relaxed);
    }

    /// The kernel's counters since the socket was opened.
    pub(super) fn statistics(&self) -> io::Result<Statistics> {
        let reception = self.reception()?;
        Ok(Statistics {
            rx_ring_full: reception.lost,
            ..Statistics::default()
        })
    }

    fn reception(&self) -> io::Result<Reception> {
        // The kernel starts again from 0 at each look.
        let new = sys::take_statistics(self.fd.as_fd())?;
        let (lost, received) = (new.drops, new.packets.saturating_sub(new.drops));
        let add = |sum: &AtomicU64, new| sum.fetch_add(new, Ordering::Relaxed) + new;
        Ok(Reception {
            received: add(&self.received, u64::from(received)),
            lost: add(&self.drops, u64::from(lost)),
            is_empty: self.is_empty.load(Ordering::Relaxed),
        })
    }
}

/// What became of the frames for a socket since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reception {
    /// Frames that the kernel has put into the ring.
    pub received: u64,
    /// Frames that it has dropped because the ring was full.
    pub lost: u64,
    /// The worker has found the ring empty, and no frame since.
    pub is_empty: bool,
}

/// The sockets of an interface that share its frames by flow (`PACKET_FANOUT`): the group exists as
/// long as one of them.
#[derive(Debug)]
pub(super) struct Group(pub(super) u16);

/// Identifies an open socket to other threads.
#[derive(Debug, Clone)]
pub struct SocketId(Weak<Socket>);

impl SocketId {
    pub(super) fn of(socket: &Arc<Socket>) -> Self {
        Self(Arc::downgrade(socket))
    }

    /// The kernel's statistics of the socket: what its full buffer did not take is in
    /// `rx_ring_full`. `None` once it is closed.
    #[must_use]
    pub fn statistics(&self) -> Option<Statistics> {
        self.0.upgrade()?.statistics().ok()
    }

    /// What became of the frames for the socket; `None` once it is closed.
    #[must_use]
    pub fn reception(&self) -> Option<Reception> {
        self.0.upgrade()?.reception().ok()
    }

    /// Whether the kernel has refused a superframe of UDP, so that frames are sent one by one.
    #[must_use]
    pub fn refuses_superframes(&self) -> bool {
        let socket = self.0.upgrade();
        socket.is_some_and(|socket| socket.refuses_trains.load(Ordering::Relaxed))
    }
}
