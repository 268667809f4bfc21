//! Events for the control thread: hosts that were seen on ports, and unknown addresses that tenants
//! requested.
//!
//! Workers never change the tables: they notify the control thread, which decides. An event that
//! was sent a short while ago is not sent again, and the rate of each port is limited, so that a
//! port that invents addresses neither floods the queue nor suppresses the events of other ports.
//!
//! ```text
//! seen, missed -> sent recently? -> port's limit -> queue of the burst -> worker -> control thread
//! ```

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::flow::mix;
use super::rate_limit::RateLimits;
use crate::addr::{DomainId, HostMac, MacAddr, PortId};
use crate::wire::nd::NdFlags;

/// An event that the control thread learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnEvent {
    /// A source MAC on a port that learns: new, moved, or still present.
    MacSeen {
        /// The port that it was seen on.
        port: PortId,
        /// The port's bridge domain.
        domain: DomainId,
        /// The source MAC.
        mac: HostMac,
    },
    /// An ARP or ND message maps `ip` to `mac`, which is also the frame's source: on a port that
    /// learns, or for an address that the table has.
    NeighborSeen {
        /// The port that it was seen on.
        port: PortId,
        /// The port's bridge domain.
        domain: DomainId,
        /// The sender's address.
        ip: IpAddr,
        /// The sender's MAC.
        mac: HostMac,
        /// The flags of an IPv6 address, if the message tells them.
        nd: Option<NdFlags>,
    },
    /// A tenant's frame has a destination MAC that is not in the table.
    MacMiss {
        /// The bridge domain.
        domain: DomainId,
        /// The destination MAC.
        mac: MacAddr,
    },
    /// A tenant requested an IP address that is not in the neighbor table.
    NeighborMiss {
        /// The bridge domain.
        domain: DomainId,
        /// The requested address.
        ip: IpAddr,
    },
}

impl LearnEvent {
    /// The port that it is about, if it is about one.
    #[must_use]
    pub const fn port(&self) -> Option<PortId> {
        match self {
            Self::MacSeen { port, .. } | Self::NeighborSeen { port, .. } => Some(*port),
            Self::MacMiss { .. } | Self::NeighborMiss { .. } => None,
        }
    }

    /// Its bridge domain.
    #[must_use]
    pub const fn domain(&self) -> DomainId {
        match self {
            Self::MacSeen { domain, .. }
            | Self::NeighborSeen { domain, .. }
            | Self::MacMiss { domain, .. }
            | Self::NeighborMiss { domain, .. } => *domain,
        }
    }
}

/// How soon a change is reported again while the tables don't show it, nanoseconds: the queue may
/// have lost the event.
pub(super) const CHANGE_INTERVAL_NS: u64 = 1_000_000_000;

/// How often an entry that the tables already have is reported again, nanoseconds, so that the
/// control thread can age the others.
pub(super) const REFRESH_INTERVAL_NS: u64 = 4_000_000_000;

/// Slots for events that were sent recently.
const RECENT: usize = 1 << 12;

/// Events that one burst can produce.
const QUEUE: usize = 4 * crate::frame::BURST;

/// The events of a burst, and those that were sent recently.
#[derive(Debug)]
pub(super) struct LearnEvents {
    /// Key of the fingerprints, so that a tenant can't choose addresses that collide.
    secret: [u64; 2],
    /// Fingerprint, and when the event was sent last, nanoseconds; indexed by fingerprint.
    recent: Box<[(u64, u64)]>,
    /// In the order of the frames: the latest claim of an address counts.
    queue: VecDeque<LearnEvent>,
}

impl LearnEvents {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            secret: [random.hash_one(0), random.hash_one(1) | 1],
            recent: vec![(0, 0); RECENT].into(),
            queue: VecDeque::with_capacity(QUEUE),
        }
    }

    /// Queues an event of a port, which has its ID since snapshot `since`, unless the event was sent
    /// less than `period_ns` ago. False when it is suppressed: the port's limit is reached, or the
    /// queue is full.
    pub(super) fn notify(
        &mut self,
        (port, since): (PortId, u64),
        event: LearnEvent,
        period_ns: u64,
        now_ns: u64,
        limits: &mut RateLimits,
    ) -> bool {
        let fingerprint = self.fingerprint((port, since), event);
        let (before, at_ns) = &mut self.recent[fingerprint as usize % RECENT];
        if *before == fingerprint && now_ns.saturating_sub(*at_ns) < period_ns {
            return true;
        }
        if self.queue.len() >= QUEUE || !limits.may_notify(port, now_ns) {
            return false;
        }
        // Suppressed events are not recorded, so that they evict none of those that were sent.
        (*before, *at_ns) = (fingerprint, now_ns);
        self.queue.push_back(event);
        true
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Option<LearnEvent> {
        self.queue.pop_front()
    }

    /// A 64-bit hash of an event; never 0.
    fn fingerprint(&self, (port, since): (PortId, u64), event: LearnEvent) -> u64 {
        let (kind, domain, mac, ip) = match event {
            LearnEvent::MacSeen { domain, mac, .. } => (1, domain, mac.get(), None),
            LearnEvent::NeighborSeen {
                domain,
                ip,
                mac,
                nd,
                ..
            } => {
                // Other flags are another event.
                let flags = nd.map_or(0, |nd| {
                    8 | u64::from(nd.router) << 4 | u64::from(nd.overrides) << 5
                });
                (2 | flags, domain, mac.get(), Some(ip))
            }
            LearnEvent::MacMiss { domain, mac } => (3, domain, mac, None),
            LearnEvent::NeighborMiss { domain, ip } => (4, domain, MacAddr::default(), Some(ip)),
        };
        let header = since << 40 | u64::from(port.0) << 24 | u64::from(domain.0) << 8 | kind;
        let [a, b] = self.secret;
        let head = mix(header ^ a, mac.to_bits() ^ b);
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
    fn an_event_is_sent_once_per_period() {
        let (mut events, mut limits) = (LearnEvents::new(), RateLimits::new());
        let mut notify = |now| {
            assert!(events.notify((PORT, 0), seen(1), CHANGE_INTERVAL_NS, now, &mut limits));
            events.next()
        };
        let start = 5 * CHANGE_INTERVAL_NS;
        assert_eq!(notify(start), Some(seen(1)));
        assert_eq!(notify(start + CHANGE_INTERVAL_NS - 1), None);
        assert_eq!(notify(start + CHANGE_INTERVAL_NS), Some(seen(1)));
    }

    #[test]
    fn a_port_that_invents_macs_uses_only_its_own_limit() {
        let (mut events, mut limits) = (LearnEvents::new(), RateLimits::new());
        let mut sent = 0;
        for n in 0..100_000 {
            events.notify(
                (PORT, 0),
                seen(n),
                CHANGE_INTERVAL_NS,
                CHANGE_INTERVAL_NS,
                &mut limits,
            );
            sent += std::iter::from_fn(|| events.next()).count();
        }
        assert!((1..=1000).contains(&sent), "{sent}");
        assert!(events.notify(
            (PortId(4), 0),
            seen(1 << 20),
            CHANGE_INTERVAL_NS,
            CHANGE_INTERVAL_NS,
            &mut limits
        ));
        assert_eq!(events.next(), Some(seen(1 << 20)));
    }
}
