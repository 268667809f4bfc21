//! Token buckets for each port: flooded frames (storm control), ICMP errors, and events for the
//! control thread. A domain has one for what the overlay floods to its ports.
//!
//! A bucket stores how much of it has been spent, so that zeroed memory means full. The buckets of
//! all possible port IDs exist from the start, so that adding a port allocates nothing. Each worker
//! has its own buckets: a port whose queues are read by several workers may reach its limit once
//! per worker.

use crate::addr::{DomainId, PortId};
use crate::table::port::StormLimit;
use crate::table::version::RowVersions;

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

/// The buckets of one kind, by port or domain ID.
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

    /// Spends `frames` that pass together. False when the bucket is empty; one that is not may be
    /// overdrawn, or superframes of more segments than it holds would never pass.
    #[inline]
    fn take(&mut self, index: usize, limit: StormLimit, now_ns: u64, frames: u64) -> bool {
        let (spent, last) = (&mut self.spent[index], &mut self.last_ns[index]);
        let refilled = now_ns
            .saturating_sub(*last)
            .saturating_mul(u64::from(limit.rate));
        *spent = spent.saturating_sub(refilled);
        *last = now_ns.max(*last);
        let allowed = *spent + FRAME <= u64::from(limit.burst) * FRAME;
        if allowed {
            *spent += frames * FRAME;
        }
        allowed
    }

    /// Fills a bucket, whose ID belongs to another port or domain now.
    fn reset(&mut self, index: usize) {
        self.spent[index] = 0;
    }
}

/// All buckets of a worker.
#[derive(Debug)]
pub(super) struct RateLimits {
    storm: Buckets,
    overlay_storm: Buckets,
    icmp_errors: Buckets,
    events: Buckets,
}

impl RateLimits {
    /// Full buckets for all ports.
    pub(super) fn new() -> Self {
        Self {
            storm: Buckets::new(),
            overlay_storm: Buckets::new(),
            icmp_errors: Buckets::new(),
            events: Buckets::new(),
        }
    }

    /// Whether `frames` frames from `port`, the segments of one superframe, may be flooded now; always
    /// true without a limit.
    #[inline]
    pub(super) fn may_flood(
        &mut self,
        port: PortId,
        limit: Option<StormLimit>,
        now_ns: u64,
        frames: u64,
    ) -> bool {
        limit.is_none_or(|limit| self.storm.take(port.index(), limit, now_ns, frames))
    }

    /// Whether a frame from the overlay may be flooded to the ports of `domain` now; always true
    /// without a limit.
    #[inline]
    pub(super) fn may_flood_overlay(
        &mut self,
        domain: DomainId,
        limit: Option<StormLimit>,
        now_ns: u64,
    ) -> bool {
        limit.is_none_or(|limit| self.overlay_storm.take(domain.index(), limit, now_ns, 1))
    }

    /// Fills the buckets of IDs whose meaning has changed after snapshot `version`.
    pub(super) fn forget(&mut self, since: &RowVersions, version: u64) {
        for port in since.ports_after(version) {
            for buckets in [&mut self.storm, &mut self.icmp_errors, &mut self.events] {
                buckets.reset(port.index());
            }
        }
        since
            .domains_after(version)
            .for_each(|domain| self.overlay_storm.reset(domain.index()));
    }

    /// Whether an ICMP error may be sent to `port` now.
    #[inline]
    pub(super) fn may_send_error(&mut self, port: PortId, now_ns: u64) -> bool {
        self.icmp_errors.take(port.index(), ICMP_ERRORS, now_ns, 1)
    }

    /// Whether the control thread may be notified of an event of `port` now.
    #[inline]
    pub(super) fn may_notify(&mut self, port: PortId, now_ns: u64) -> bool {
        self.events.take(port.index(), EVENTS, now_ns, 1)
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
                .filter(|_| limits.may_flood(PortId(port), limit, now, 1))
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
        assert!((0..1000).all(|_| limits.may_flood(PortId(1), None, 0, 1)));
    }

    #[test]
    fn a_superframe_spends_as_many_frames_as_it_has_segments() {
        let mut limits = RateLimits::new();
        let limit = Some(StormLimit {
            rate: 1000,
            burst: 10,
        });
        let mut passes = |now_ms: u64, frames| {
            limits.may_flood(
                PortId(1),
                limit,
                (1 + now_ms) * 1_000_000_000 / 1000,
                frames,
            )
        };
        assert!(passes(1000, 46), "more than the bucket holds");
        assert!(!passes(1036, 1), "46 frames take 46 ms");
        assert!(passes(1037, 1));
        assert!(!passes(1037, 1));
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
            assert!(!limits.may_flood(PortId(0), Some(limit), 1 << 40, 1));
        }
        assert_eq!(
            (0..1000)
                .filter(|_| limits.may_send_error(PortId(0), 1))
                .count(),
            50
        );
    }
}
