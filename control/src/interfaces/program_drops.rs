//! What the kernel counts of an interface: the programs there, and packet sockets.

use std::ops::Add;

use vtep_dataplane::drop::DropReason;
use vtep_dataplane::stats::Totals;

use super::backend::QueueDrops;
use super::{InterfaceQueue, ManagedInterface, OpenInterface};

/// Frames that the kernel has dropped on an interface, and that no worker saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgramDrops {
    /// On queues that had no socket.
    pub no_socket: u64,
    /// Pieces of frames longer than the MTU.
    pub segments: u64,
    /// While packet sockets were full.
    pub socket_full: u64,
}

impl ProgramDrops {
    /// The sum over queues.
    pub(super) fn of(drops: &[QueueDrops]) -> Self {
        let one = |drops: &QueueDrops| Self {
            no_socket: drops.no_socket,
            segments: drops.segments,
            socket_full: 0,
        };
        drops.iter().map(one).fold(Self::default(), Self::add)
    }

    /// Of packet sockets.
    pub(super) fn of_sockets<'a>(queues: impl IntoIterator<Item = &'a InterfaceQueue>) -> Self {
        let queues = queues.into_iter();
        let receptions = queues.filter_map(|queue| queue.socket.reception());
        Self {
            socket_full: receptions.map(|reception| reception.lost).sum(),
            ..Self::default()
        }
    }

    /// Of everything that an open interface has.
    pub(super) fn of_open(open: &OpenInterface) -> Self {
        Self::of(&open.backend.drops()) + Self::of_sockets(&open.queues)
    }

    /// Adds them to the counters of an interface or of its port.
    pub fn add_to(self, totals: &mut Totals) {
        totals.drops[DropReason::NoSocket as usize] += self.no_socket;
        totals.drops[DropReason::SplitFrame as usize] += self.segments;
        totals.drops[DropReason::SocketFull as usize] += self.socket_full;
    }
}

impl Add for ProgramDrops {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            no_socket: self.no_socket + more.no_socket,
            segments: self.segments + more.segments,
            socket_full: self.socket_full + more.socket_full,
        }
    }
}

impl ManagedInterface {
    /// Frames that the kernel has dropped there, since it was requested.
    #[must_use]
    pub fn program_drops(&self) -> ProgramDrops {
        let now = self.open().map(ProgramDrops::of_open);
        self.earlier_drops + now.unwrap_or_default()
    }

    /// Everything that is counted for it.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = self.counters.totals();
        self.program_drops().add_to(&mut totals);
        totals
    }
}
