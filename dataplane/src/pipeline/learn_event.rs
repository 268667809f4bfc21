//! What the control thread should know of frames: hosts that were seen, and addresses that nobody knows.
//!
//! A worker never learns: it tells, and the control thread decides. What was recent a short while ago is not recent again,
//! and each port may tell only so much a second, so that a port that invents addresses neither floods the queue nor
//! silences the others (their events have their own budget).
//!
//! ```text
//! seen, missed -> recent lately? -> budget of the port -> queue of the burst -> worker -> control thread
//! ```

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::flow::mix;
use super::rate_limit::RateLimits;
use crate::addr::{DomainId, HostMac, MacAddr, PortId};

/// Something that the control thread should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnEvent {
    /// A source MAC on a port that learns: new, moved, or still there.
    MacSeen {
        /// Where it was seen.
        port: PortId,
        /// The port's bridge domain.
        domain: DomainId,
        /// The source MAC.
        mac: HostMac,
    },
    /// An ARP or ND message on a port that learns says that `ip` has `mac`, which is also the frame's source.
    NeighborSeen {
        /// Where it was seen.
        port: PortId,
        /// The port's bridge domain.
        domain: DomainId,
        /// The sender's address.
        ip: IpAddr,
        /// The sender's MAC.
        mac: HostMac,
    },
    /// A tenant's frame is for a MAC that the domain does not know.
    MacMiss {
        /// The domain.
        domain: DomainId,
        /// The destination MAC.
        mac: MacAddr,
    },
    /// A tenant asks for an address that the domain does not know.
    NeighborMiss {
        /// The domain.
        domain: DomainId,
        /// The address asked for.
        ip: IpAddr,
    },
}

/// News is recent again after a second as long as the tables don't say the same: the queue may have lost it.
pub(super) const CHANGE_INTERVAL_NS: u64 = 1_000_000_000;

/// What the tables already say is recent again after 4 seconds, so that the control thread can age what is not.
pub(super) const REFRESH_INTERVAL_NS: u64 = 4_000_000_000;

/// LearnEvents that are remembered as recent.
const RECENT: usize = 1 << 12;

/// LearnEvents that one burst can give.
const QUEUE: usize = 4 * crate::frame::BURST;

/// The events of a burst, and those recent lately.
#[derive(Debug)]
pub(super) struct LearnEvents {
    /// With a secret, so that nobody can choose addresses that hide one another.
    secret: [u64; 2],
    /// By fingerprint: when it was recent last. Nanoseconds.
    recent: Box<[(u64, u64)]>,
    queue: Vec<LearnEvent>,
}

impl LearnEvents {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            secret: [random.hash_one(0), random.hash_one(1) | 1],
            recent: vec![(0, 0); RECENT].into(),
            queue: Vec::with_capacity(QUEUE),
        }
    }

    /// Tells, unless it was recent less than `period_ns` ago. False when `port` has recent too much, or the queue is full.
    pub(super) fn notify(
        &mut self,
        port: PortId,
        event: LearnEvent,
        period_ns: u64,
        now_ns: u64,
        limits: &mut RateLimits,
    ) -> bool {
        let fingerprint = self.fingerprint(port, event);
        let (before, at_ns) = &mut self.recent[fingerprint as usize % RECENT];
        if *before == fingerprint && now_ns.saturating_sub(*at_ns) < period_ns {
            return true;
        }
        if self.queue.len() >= QUEUE || !limits.may_notify(port, now_ns) {
            return false;
        }
        // Only what is recent is remembered: who has no budget left drives nothing out of here.
        (*before, *at_ns) = (fingerprint, now_ns);
        self.queue.push(event);
        true
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Option<LearnEvent> {
        self.queue.pop()
    }

    /// 64 bits that stand for a event. Never 0.
    fn fingerprint(&self, port: PortId, event: LearnEvent) -> u64 {
        let (kind, domain, mac, ip) = match event {
            LearnEvent::MacSeen { domain, mac, .. } => (1, domain, mac.get(), None),
            LearnEvent::NeighborSeen {
                domain, ip, mac, ..
            } => (2, domain, mac.get(), Some(ip)),
            LearnEvent::MacMiss { domain, mac } => (3, domain, mac, None),
            LearnEvent::NeighborMiss { domain, ip } => (4, domain, MacAddr::default(), Some(ip)),
        };
        let place = u64::from(port.0) << 24 | u64::from(domain.0) << 8 | kind;
        let [a, b] = self.secret;
        let head = mix(place ^ a, mac.to_bits() ^ b);
        let ip = match ip {
            None => 0,
            Some(IpAddr::V4(v4)) => u128::from(v4.to_bits()),
            Some(IpAddr::V6(v6)) => v6.to_bits(),
        };
        mix(mix(head ^ a, (ip >> 64) as u64 ^ b) ^ a, ip as u64 ^ b) | 1 << 63
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId(3);

    fn seen(n: u64) -> LearnEvent {
        let mac = HostMac::new(MacAddr::from_bits(0x0200_0000_0000 + n)).unwrap();
        LearnEvent::MacSeen {
            port: PORT,
            domain: DomainId(1),
            mac,
        }
    }

    #[test]
    fn the_same_is_told_once_a_period() {
        let (mut events, mut limits) = (LearnEvents::new(), RateLimits::new());
        let mut recent = |now| {
            assert!(events.notify(PORT, seen(1), CHANGE_INTERVAL_NS, now, &mut limits));
            events.next()
        };
        let start = 5 * CHANGE_INTERVAL_NS;
        assert_eq!(recent(start), Some(seen(1)));
        assert_eq!(recent(start + CHANGE_INTERVAL_NS - 1), None);
        assert_eq!(recent(start + CHANGE_INTERVAL_NS), Some(seen(1)));
    }

    #[test]
    fn a_port_that_invents_macs_spends_only_its_own_budget() {
        let (mut events, mut limits) = (LearnEvents::new(), RateLimits::new());
        let mut recent = 0;
        for n in 0..100_000 {
            events.notify(
                PORT,
                seen(n),
                CHANGE_INTERVAL_NS,
                CHANGE_INTERVAL_NS,
                &mut limits,
            );
            recent += std::iter::from_fn(|| events.next()).count();
        }
        assert!((1..=1000).contains(&recent), "{recent}");
        assert!(events.notify(
            PortId(4),
            seen(1 << 20),
            CHANGE_INTERVAL_NS,
            CHANGE_INTERVAL_NS,
            &mut limits
        ));
        assert_eq!(events.next(), Some(seen(1 << 20)));
    }
}
