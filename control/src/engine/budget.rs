//! How large the rings of each socket may be, so that the frames suffice for all of them.
//!
//! Chunks in a fill ring are out of use until the kernel receives into them. Each worker keeps a reserve for frames on
//! their way and for copies; the rest is shared out: a tenant queue gets a quarter of what is left, so that the
//! first ports get long rings, and later ones shorter rings instead of none.

use vtep_dataplane::addr::WorkerId;
use vtep_dataplane::afxdp::{Error, Rings};

use super::devices::Purpose;

/// Ring sizes of underlay sockets: most traffic goes here.
const UNDERLAY: u32 = 2048;
/// The longest and the shortest ring of a tenant socket: four bursts, and half a burst.
const TENANT_MOST: u32 = 1024;
const TENANT_LEAST: u32 = 32;
/// One chunk in this many stays out of the fill rings.
const RESERVE: u32 = 4;

/// Chunks that each worker can still put into fill rings.
#[derive(Debug, Clone)]
pub struct Budget {
    left: Vec<u32>,
    share: u32,
}

impl Budget {
    /// For `workers` workers with `share` chunks each.
    #[must_use]
    pub fn new(workers: usize, share: u32) -> Self {
        Self { left: vec![share - share / RESERVE; workers], share }
    }

    /// How many workers there are.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.left.len()
    }

    /// Ring sizes for one more queue of `worker`.
    ///
    /// # Errors
    /// When the chunks that are left don't fill even the shortest ring.
    pub fn take(&mut self, worker: WorkerId, purpose: Purpose) -> Result<Rings, Error> {
        let left = &mut self.left[worker.index()];
        let (wish, least) = match purpose {
            // The fill ring holds more than the receive ring: a zero-copy driver keeps some in its own ring.
            Purpose::Underlay => ((UNDERLAY * 2).min(previous_power_of_two(*left / 2)), TENANT_LEAST * 2),
            Purpose::Tenant => (TENANT_MOST.min(previous_power_of_two(*left / 4)), TENANT_LEAST),
        };
        let fill = wish.max(least);
        if fill > *left {
            return Err(Error::FramesExhausted { share: self.share, wanted: fill });
        }
        *left -= fill;
        let rx = if purpose == Purpose::Underlay { fill / 2 } else { fill };
        Ok(Rings { fill, rx, tx: rx.max(512), completion: rx.max(512) })
    }

    /// Gives back the rings of a closed queue.
    pub fn give(&mut self, worker: WorkerId, rings: Rings) {
        self.left[worker.index()] += rings.fill;
    }
}

const fn previous_power_of_two(n: u32) -> u32 {
    if n == 0 { 0 } else { 1 << (31 - n.leading_zeros()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ports_get_short_rings_rather_than_none() {
        let mut budget = Budget::new(1, 16384);
        let mut all = vec![budget.take(WorkerId(0), Purpose::Underlay).unwrap()];
        assert_eq!((all[0].fill, all[0].rx), (4096, 2048));
        while let Ok(rings) = budget.take(WorkerId(0), Purpose::Tenant) {
            assert!(rings.fill.is_power_of_two() && rings.rx.is_power_of_two());
            all.push(rings);
        }
        assert!(all.len() > 60, "only {} ports", all.len());
        assert_eq!(all[1].fill, 1024);
        let used: u32 = all.iter().map(|rings| rings.fill).sum();
        assert!(used <= 16384 - 16384 / RESERVE);
        for rings in all {
            budget.give(WorkerId(0), rings);
        }
        assert_eq!(budget.left, [16384 - 16384 / RESERVE]);
    }
}
