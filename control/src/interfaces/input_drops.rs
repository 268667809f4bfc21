//! What the programs of an interface count themselves.

use std::ops::Add;

use vtep_dataplane::drop::DropReason;
use vtep_dataplane::stats::Totals;

use super::ManagedInterface;
use super::backend::QueueDrops;

/// Frames that the program of an interface has dropped, and that no worker saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgramDrops {
    /// On queues that had no socket.
    pub no_socket: u64,
    /// Pieces of frames longer than the MTU.
    pub segments: u64,
}

impl ProgramDrops {
    /// The sum over queues.
    pub(super) fn of(drops: &[QueueDrops]) -> Self {
        let one = |drops: &QueueDrops| Self {
            no_socket: drops.no_socket,
            segments: drops.segments,
        };
        drops.iter().map(one).fold(Self::default(), Self::add)
    }

    /// Adds them to the counters of an interface or of its port.
    pub fn add_to(self, totals: &mut Totals) {
        totals.drops[DropReason::NoSocket as usize] += self.no_socket;
        totals.drops[DropReason::SplitFrame as usize] += self.segments;
    }
}

impl Add for ProgramDrops {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            no_socket: self.no_socket + more.no_socket,
            segments: self.segments + more.segments,
        }
    }
}

impl ManagedInterface {
    /// Frames that its program has dropped, since it was requested.
    #[must_use]
    pub fn program_drops(&self) -> ProgramDrops {
        let now = self
            .open()
            .map(|open| ProgramDrops::of(&open.backend.drops()));
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
