//! Token buckets for each port: flooded frames (storm), ICMP icmp_errors, and events to the control thread.
//!
//! A bucket is kept as what is spent of it, so that all zero means full, and all buckets that a port number can name
//! are there from the start: nothing is allocated when a port is added. Each worker has its own buckets, so a port whose
//! queues several workers read may pass its limit once for each of them.

use crate::addr::PortId;
use crate::table::port::StormLimit;

/// The cost of one frame: a bucket counts in frames times nanoseconds.
const FRAME: u64 = 1_000_000_000;

/// Answers "too big" that one port gets: enough for path MTU discovery of many flows, too few to be a load.
const ICMP_ERRORS: StormLimit = StormLimit {
    rate: 100,
    burst: 50,
};

/// LearnEvents that one port gives: a boot of many hosts at once passes, a port that invents addresses is held back.
const EVENTS: StormLimit = StormLimit {
    rate: 500,
    burst: 500,
};

/// The buckets of one kind, by port.
#[derive(Debug)]
struct Buckets {
    spent: Vec<u64>,
    last_ns: Vec<u64>,
}

impl Buckets {
    fn new() -> Self {
        // Zeroed memory that is touched only for ports that exist.
        let all = usize::from(u16::MAX) + 1;
        Self {
            spent: vec![0; all],
            last_ns: vec![0; all],
        }
    }

    /// Takes one frame's worth. False when the bucket is empty.
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
    /// Full buckets for every port.
    pub(super) fn new() -> Self {
        Self {
            storm: Buckets::new(),
            icmp_errors: Buckets::new(),
            events: Buckets::new(),
        }
    }

    /// Whether a frame from `port` may be flooded now.
    #[inline]
    pub(super) fn may_flood(
        &mut self,
        port: PortId,
        limit: Option<StormLimit>,
        now_ns: u64,
    ) -> bool {
        limit.is_none_or(|limit| self.storm.take(port, limit, now_ns))
    }

    /// Whether `port` may get an ICMP answer now.
    #[inline]
    pub(super) fn may_send_error(&mut self, port: PortId, now_ns: u64) -> bool {
        self.icmp_errors.take(port, ICMP_ERRORS, now_ns)
    }

    /// Whether the control thread may be told something of `port` now.
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
            "what half a frame refilled is kept"
        );
        assert_eq!(passed(1, start, 100), 0, "time never goes back");
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
