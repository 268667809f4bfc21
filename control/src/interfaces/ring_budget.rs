//! Ring sizes of each socket, so that the UMEM frames suffice for all of them.
//!
//! Chunks in a fill ring are unavailable until the kernel receives into them. Each worker keeps a
//! reserve for frames in flight and for copies; the rest is divided: a tenant queue gets an eighth
//! of what is left, so that the first ports get long rings and later ones shorter rings instead of
//! none.

use vtep_dataplane::addr::WorkerId;
use vtep_dataplane::afxdp::{BusyPoll, SocketConfig};

use super::{InterfaceError, Purpose};

/// Receive ring of underlay sockets, which carry most traffic, entries.
const UNDERLAY: u32 = 2048;
/// Longest and shortest ring of a tenant socket, entries: sixteen bursts, and one.
const TENANT_MAX: u32 = 1024;
const TENANT_MIN: u32 = 64;
/// One chunk in this many is kept out of the fill rings.
const RESERVE: u32 = 4;

/// Chunks that each worker may still put into fill rings.
#[derive(Debug, Clone)]
pub struct RingBudget {
    left: Vec<u32>,
    share: u32,
}

impl RingBudget {
    /// For `workers` workers with `share` chunks each.
    #[must_use]
    pub fn new(workers: usize, share: u32) -> Self {
        Self {
            left: vec![share - share / RESERVE; workers],
            share,
        }
    }

    /// Number of workers.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.left.len()
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
        let left = &mut self.left[worker.index()];
        let (most, part, least) = match purpose {
            // The fill ring holds more than the receive ring: a zero-copy driver keeps some in its
            // own ring.
            Purpose::Underlay => (UNDERLAY * 2, 2, TENANT_MIN * 2),
            Purpose::Tenant | Purpose::Trunk => (TENANT_MAX, 8, TENANT_MIN),
        };
        let fill_ring = previous_power_of_two(*left / part).clamp(least, most);
        if fill_ring > *left {
            return Err(InterfaceError::NoFrames {
                share: self.share,
                wanted: fill_ring,
            });
        }
        *left -= fill_ring;
        let rx_ring = if purpose == Purpose::Underlay {
            fill_ring / 2
        } else {
            fill_ring
        };
        Ok(SocketConfig {
            rx_ring,
            tx_ring: rx_ring.max(512),
            fill_ring,
            busy_poll,
        })
    }

    /// Returns the chunks of a closed queue.
    pub fn free(&mut self, worker: WorkerId, rings: SocketConfig) {
        self.left[worker.index()] += rings.fill_ring;
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

    #[test]
    fn many_ports_get_short_rings_rather_than_none() {
        let mut budget = RingBudget::new(1, 16384);
        let allocate =
            |budget: &mut RingBudget, purpose| budget.allocate(WorkerId(0), purpose, BusyPoll::Off);
        let mut all = vec![allocate(&mut budget, Purpose::Underlay).unwrap()];
        assert_eq!((all[0].fill_ring, all[0].rx_ring), (4096, 2048));
        while let Ok(rings) = allocate(&mut budget, Purpose::Tenant) {
            assert!(rings.fill_ring.is_power_of_two() && rings.rx_ring.is_power_of_two());
            all.push(rings);
        }
        assert!(all.len() > 30, "only {} ports", all.len());
        assert_eq!(all[1].fill_ring, 1024);
        let used: u32 = all.iter().map(|rings| rings.fill_ring).sum();
        assert!(used <= 16384 - 16384 / RESERVE);
        for rings in all {
            budget.free(WorkerId(0), rings);
        }
        assert_eq!(budget.left, [16384 - 16384 / RESERVE]);
    }
}
