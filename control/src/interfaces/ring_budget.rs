//! Ring sizes of each socket, and the chunks that it has for itself, so that the UMEM frames
//! suffice for all of them.
//!
//! Chunks in a fill ring are unavailable until the kernel receives into them. Each worker keeps a
//! reserve for frames in flight and for copies; the rest is divided: underlay queues get up to half
//! of it, a tenant queue a small part of what is left, so that the first ones get many chunks and
//! later ones fewer instead of none. A busy queue gets more as long as most of its worker's chunks
//! are free.

use vtep_dataplane::addr::WorkerId;
use vtep_dataplane::afxdp::{BusyPoll, SocketConfig};

use super::{InterfaceError, Purpose};

/// Ring sizes, entries. The fill ring holds more than the receive ring: a driver may keep some
/// chunks in a ring of its own, and igb stalls when it runs out. An underlay queue receives a whole
/// window of TCP between two turns of a busy worker: tcp_rmem allows 6 MB, some 4000 segments.
const UNDERLAY: Rings = Rings {
    rx: 8192,
    tx: 2048,
    fill: 16384,
};
const TENANT: Rings = Rings {
    rx: 1024,
    tx: 1024,
    fill: 2048,
};

/// Sizes of the rings of one socket, entries.
struct Rings {
    rx: u32,
    tx: u32,
    fill: u32,
}

/// Chunks for a queue: one part in this many of what is left, and the least and the most.
struct Part {
    of: u32,
    least: u32,
    most: u32,
}

const UNDERLAY_PART: Part = Part {
    of: 2,
    least: 128,
    most: 8192,
};
/// Of less than [`FEW_CHUNKS`]: so that several queues of a small pool leave room for tenants.
const SMALL_UNDERLAY_PART: Part = Part {
    of: 4,
    ..UNDERLAY_PART
};
const FEW_CHUNKS: u32 = 4096;
const TENANT_PART: Part = Part {
    of: 64,
    least: 64,
    most: 1024,
};

/// One chunk in this many is kept out of the fill rings.
const RESERVE: u32 = 4;

/// Chunks that each worker may still put into fill rings.
#[derive(Debug, Clone)]
pub struct RingBudget {
    left: Vec<u32>,
    /// What underlay queues may still take of it, as long as they can do with less.
    underlay: Vec<u32>,
    share: u32,
}

impl RingBudget {
    /// For `workers` workers (at least one), which share `frames` chunks.
    #[must_use]
    pub fn new(workers: usize, frames: u32) -> Self {
        let share = frames / workers.max(1) as u32;
        let all = share - share / RESERVE;
        Self {
            left: vec![all; workers],
            underlay: vec![all / 2; workers],
            share,
        }
    }

    /// Number of workers.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.left.len()
    }

    /// The worker with this number, counted on from the first one again after the last one.
    #[must_use]
    pub const fn nth_worker(&self, number: usize) -> WorkerId {
        WorkerId((number % self.workers()) as u16)
    }

    /// Ring sizes for one more queue of `worker`.
    ///
    /// # Errors
    /// [`InterfaceError::NoFrames`] when the chunks that are left do not fill the shortest ring.
    pub fn allocate(
        &mut self,
        worker: WorkerId,
        purpose: Purpose,
        busy_poll: BusyPoll,
    ) -> Result<SocketConfig, InterfaceError> {
        let (left, underlay) = (
            &mut self.left[worker.index()],
            &mut self.underlay[worker.index()],
        );
        let (rings, part, from) = match purpose {
            Purpose::Underlay => {
                let from = *underlay.min(left);
                let is_small = from < FEW_CHUNKS;
                let part = if is_small {
                    SMALL_UNDERLAY_PART
                } else {
                    UNDERLAY_PART
                };
                (UNDERLAY, part, from)
            }
            Purpose::Tenant | Purpose::Trunk => (TENANT, TENANT_PART, *left),
        };
        let chunks = previous_power_of_two(from / part.of).clamp(part.least, part.most);
        if chunks > *left {
            return Err(InterfaceError::NoFrames {
                share: self.share,
                wanted: chunks,
            });
        }
        *left -= chunks;
        if purpose == Purpose::Underlay {
            *underlay = underlay.saturating_sub(chunks);
        }
        Ok(SocketConfig {
            rx_ring: rings.rx,
            tx_ring: rings.tx,
            fill_ring: rings.fill,
            fill_start: chunks,
            busy_poll,
        })
    }

    /// Returns the chunks of a closed queue, if it had any for itself.
    pub fn free(&mut self, worker: WorkerId, rings: Option<SocketConfig>) {
        let Some(rings) = rings else {
            return;
        };
        self.left[worker.index()] += rings.fill_start;
        if rings.fill_ring == UNDERLAY.fill {
            let of_underlay = &mut self.underlay[worker.index()];
            let most = (self.share - self.share / RESERVE) / 2;
            *of_underlay = (*of_underlay + rings.fill_start).min(most);
        }
    }

    /// For each worker, the chunks that further queues may take.
    #[must_use]
    pub fn left(&self) -> &[u32] {
        &self.left
    }
}

const fn previous_power_of_two(n: u32) -> u32 {
    if n == 0 {
        0
    } else {
        1 << (31 - n.leading_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocate(budget: &mut RingBudget, worker: usize, purpose: Purpose) -> Option<SocketConfig> {
        let worker = WorkerId(worker as u16);
        let rings = budget.allocate(worker, purpose, BusyPoll::Off).ok()?;
        for size in [rings.rx_ring, rings.tx_ring, rings.fill_ring] {
            assert!(size.is_power_of_two());
        }
        assert!(rings.fill_start <= rings.fill_ring && rings.rx_ring < rings.fill_ring);
        Some(rings)
    }

    /// With the default number of frames, whatever the number of workers (finding D16).
    #[test]
    fn two_hundred_tenant_queues_fit_with_the_default() {
        for workers in [1, 2, 4, 8, 16] {
            let frames = crate::config::AfXdp::default().frames;
            let mut budget = RingBudget::new(workers, frames);
            (0..workers).for_each(|at| {
                allocate(&mut budget, at, Purpose::Underlay).unwrap();
            });
            for queue in 0..200 {
                let rings = allocate(&mut budget, queue % workers, Purpose::Tenant);
                assert!(rings.is_some(), "{workers} workers, queue {queue}");
            }
        }
    }

    /// Eight queues of a NIC and one core (finding N5).
    #[test]
    fn many_underlay_queues_leave_room_for_tenants() {
        for frames in [2048, 16384, 32768] {
            let mut budget = RingBudget::new(1, frames);
            let queues: Vec<_> = (0..8)
                .map(|_| {
                    allocate(&mut budget, 0, Purpose::Underlay)
                        .unwrap()
                        .fill_start
                })
                .collect();
            let tenants = std::iter::from_fn(|| allocate(&mut budget, 0, Purpose::Tenant)).count();
            assert!(tenants >= 8, "{frames} frames: {queues:?}, then {tenants}");
        }
    }

    #[test]
    fn what_closed_queues_had_is_available_again() {
        let mut budget = RingBudget::new(1, 16384);
        let before = budget.clone();
        let mut all = Vec::new();
        for purpose in [Purpose::Underlay, Purpose::Trunk, Purpose::Tenant] {
            all.extend(allocate(&mut budget, 0, purpose));
        }
        while let Some(rings) = allocate(&mut budget, 0, Purpose::Tenant) {
            all.push(rings);
        }
        let used: u32 = all.iter().map(|rings| rings.fill_start).sum();
        assert_eq!(used + budget.left()[0], 16384 - 16384 / RESERVE);
        for rings in all {
            budget.free(WorkerId(0), Some(rings));
        }
        assert_eq!(
            (budget.left, budget.underlay),
            (before.left, before.underlay)
        );
    }
}
