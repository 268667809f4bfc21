//! What the kernel counts of an interface: the programs there, and the sockets.

use std::ops::Add;

use vtep_dataplane::drop::DropReason;
use vtep_dataplane::stats::Totals;

use super::backend::{QueueDrops, SocketStatistics};
use super::{InterfaceQueue, ManagedInterface, OpenInterface};

/// Frames that the kernel has dropped on an interface, and that no worker saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgramDrops {
    /// On queues that had no socket.
    pub no_socket: u64,
    /// Pieces of frames longer than the MTU.
    pub segments: u64,
    /// While the rings or buffers of sockets were full.
    pub socket_full: u64,
    /// For which AF_XDP sockets had no chunk.
    pub no_chunk: u64,
}

impl ProgramDrops {
    /// The sum over queues.
    pub(super) fn of(drops: &[QueueDrops]) -> Self {
        let one = |drops: &QueueDrops| Self {
            no_socket: drops.no_socket,
            segments: drops.segments,
            ..Self::default()
        };
        drops.iter().map(one).fold(Self::default(), Self::add)
    }

    /// What sockets with these counters have not received.
    const fn of_sockets(statistics: SocketStatistics) -> Self {
        Self {
            no_socket: 0,
            segments: 0,
            socket_full: statistics.rx_ring_full,
            no_chunk: statistics.rx_dropped,
        }
    }

    /// Adds them to the counters of an interface or of its port.
    pub fn add_to(self, totals: &mut Totals) {
        totals.drops[DropReason::NoSocket as usize] += self.no_socket;
        totals.drops[DropReason::SplitFrame as usize] += self.segments;
        totals.drops[DropReason::SocketFull as usize] += self.socket_full;
        totals.drops[DropReason::NoChunk as usize] += self.no_chunk;
    }
}

impl Add for ProgramDrops {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            no_socket: self.no_socket + more.no_socket,
            segments: self.segments + more.segments,
            socket_full: self.socket_full + more.socket_full,
            no_chunk: self.no_chunk + more.no_chunk,
        }
    }
}

impl OpenInterface {
    /// The kernel's counters of the sockets of some of its queues, summed up.
    pub(super) fn statistics_of(
        &self,
        wanted: impl Fn(&InterfaceQueue) -> bool,
    ) -> SocketStatistics {
        let queues = self.queues.iter().filter(|queue| wanted(queue));
        queues
            .filter_map(|queue| queue.socket.statistics(&self.umem))
            .fold(SocketStatistics::default(), SocketStatistics::add)
    }
}

impl ManagedInterface {
    /// The kernel's counters of its sockets, since it was requested.
    #[must_use]
    pub fn statistics(&self) -> SocketStatistics {
        let now = self.open().map(|open| open.statistics_of(|_| true));
        self.earlier_sockets + now.unwrap_or_default()
    }

    /// Frames that the kernel has dropped there, since it was requested.
    #[must_use]
    pub fn program_drops(&self) -> ProgramDrops {
        let now = self
            .open()
            .map(|open| ProgramDrops::of(&open.backend.drops()));
        let programs = self.earlier_drops + now.unwrap_or_default();
        programs + ProgramDrops::of_sockets(self.statistics())
    }

    /// Everything that is counted for it.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = self.counters.totals();
        self.program_drops().add_to(&mut totals);
        totals
    }
}
