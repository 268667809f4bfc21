//! Token buckets for each port: flooded frames (storm control), ICMP errors, and events for the
//! control thread.
//!
//! A bucket stores how much of it has been spent, so that zeroed memory means full. The buckets of
//! all possible port IDs exist from the start, so that adding a port allocates nothing. Each worker
//! has its own buckets: a port whose queues are read by several workers may reach its limit once
//! per worker.

use crate::addr::PortId;
use crate::table::port::StormLimit;

/// The cost of one frame. Buckets count in frames times nanoseconds.
const FRAME: u64 = 1_000_000_000;

/// ICMP errors to one port: enough for path MTU discovery of many flows, too few to cause load.
const ICMP_ERRORS: StormLimit = StormLimit {
    rate: 100,
    burst: 50,
};

/// Events about one port: enough for many hosts that boot at once, and a limit for a port that
/// invents addresses.
const EVENTS: StormLimit = StormLimit {
    rate: 500,
    burst: 500,
};

/// The buckets of one kind, by port ID.
#[derive(Debug)]
struct Buckets {
    spent: Vec<u64>,
    last_ns: Vec<u64>,
}

impl Buckets {
    fn new() -> Self {
        // Zeroed pages that are only touched for ports that exist.
        let all = usize::from(u16::MAX) + 1;
        Self {
            spent: vec![0; all],
            last_ns: vec![0; all],
        }
    }

    /// Spends one frame. False when the bucket is empty.
    #[inline]
    fn take(&mut self, port: PortId, limit: StormLimit, now_ns: u64) -> bool {
        let (spent, last) = (
            &mut self.spent[port.index()],
            &mut self.last_ns[port.index()],
        );
        let refilled = now_ns
            .saturating_sub(*last)
            .saturating_mul(u64::from(limit.rate));
        *spent = spent.saturating_sub(refilled);
        *last = now_ns.max(*last);
        let allowed = *spent + FRAME <= u64::from(limit.burst) * FRAME;
        if allowed {
            *spent += FRAME;
        }
        allowed
    }
}

/// All buckets of a worker.
#[derive(Debug)]
pub(super) struct RateLimits {
    storm: Buckets,
    icmp_errors: Buckets,
    events: Buckets,
}

impl RateLimits {
    /// Full buckets for all ports.
    pub(super) fn new() -> Self {
        Self {
            storm: Buckets::new(),
            icmp_errors: Buckets::new(),
            events: Buckets::new(),
        }
    }

    /// Whether a frame from `port` may be flooded now; always true without a limit.
    #[inline]
    pub(super) fn may_flood(
        &mut self,
        port: PortId,
        limit: Option<StormLimit>,
        now_ns: u64,
    ) -> bool {
        limit.is_none_or(|limit| self.storm.take(port, limit, now_ns))
    }

    /// Whether an ICMP error may be sent to `port` now.
    #[inline]
    pub(super) fn may_send_error(&mut self, port: PortId, now_ns: u64) -> bool {
        self.icmp_errors.take(port, ICMP_ERRORS, now_ns)
    }

    /// Whether the control thread may be notified of an event of `port` now.
    #[inline]
    pub(super) fn may_notify(&mut self, port: PortId, now_ns: u64) -> bool {
        self.events.take(port, EVENTS, now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_passes_at_once_and_then_the_rate() {
        let mut limits = RateLimits::new();
        let limit = Some(StormLimit {
            rate: 1000,
            burst: 10,
        });
        let mut passed = |port, now, tries| {
            (0..tries)
                .filter(|_| limits.may_flood(PortId(port), limit, now))
                .count()
        };
        let start = 5_000_000_000;
        assert_eq!(passed(1, start, 100), 10);
        assert_eq!(passed(2, start, 100), 10, "another port has its own");
        assert_eq!(passed(1, start + 2_500_000, 100), 2);
        assert_eq!(
            passed(1, start + 3_000_000, 100),
            1,
            "a partial refill is kept"
        );
        assert_eq!(passed(1, start, 100), 0, "time never runs backwards");
        assert_eq!(passed(1, u64::MAX, 100), 10);
        assert!((0..1000).all(|_| limits.may_flood(PortId(1), None, 0)));
    }

    #[test]
    fn a_limit_of_zero_passes_nothing() {
        let mut limits = RateLimits::new();
        for limit in [
            StormLimit { rate: 0, burst: 0 },
            StormLimit {
                rate: 1000,
                burst: 0,
            },
        ] {
            assert!(!limits.may_flood(PortId(0), Some(limit), 1 << 40));
        }
        assert_eq!(
            (0..1000)
                .filter(|_| limits.may_send_error(PortId(0), 1))
                .count(),
            50
        );
    }
}
