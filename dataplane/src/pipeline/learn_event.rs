//! What the control thread should know of frames: hosts that were seen, and addresses that nobody knows.
//!
//! A worker never learns: it tells, and the control thread decides. What was told a short while ago is not told again,
//! and each port may tell only so much a second, so that a port that invents addresses neither floods the queue nor
//! silences the others (their notices have their own budget).
//!
//! ```text
//! seen, missed -> told lately? -> budget of the port -> queue of the burst -> worker -> control thread
//! ```

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::flow::mix;
use super::rate_limit::Limits;
use crate::addr::{DomainId, HostMac, MacAddr, PortId};

/// Something that the control thread should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
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
    MacMissed {
        /// The domain.
        domain: DomainId,
        /// The destination MAC.
        mac: MacAddr,
    },
    /// A tenant asks for an address that the domain does not know.
    IpMissed {
        /// The domain.
        domain: DomainId,
        /// The address asked for.
        ip: IpAddr,
    },
}

/// News is told again after a second as long as the tables don't say the same: the queue may have lost it.
pub(super) const NEWS_NS: u64 = 1_000_000_000;

/// What the tables already say is told again after 4 seconds, so that the control thread can age what is not.
pub(super) const STILL_THERE_NS: u64 = 4_000_000_000;

/// Notices that are remembered as told.
const REMEMBERED: usize = 1 << 12;

/// Notices that one burst can give.
const QUEUE: usize = 4 * crate::frame::BURST;

/// The notices of a burst, and those told lately.
#[derive(Debug)]
pub(super) struct Notices {
    /// With a secret, so that nobody can choose addresses that hide one another.
    secret: [u64; 2],
    /// By fingerprint: when it was told last. Nanoseconds.
    told: Box<[(u64, u64)]>,
    queue: Vec<Notice>,
}

impl Notices {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            secret: [random.hash_one(0), random.hash_one(1) | 1],
            told: vec![(0, 0); REMEMBERED].into(),
            queue: Vec::with_capacity(QUEUE),
        }
    }

    /// Tells, unless it was told less than `period_ns` ago. False when `port` has told too much, or the queue is full.
    pub(super) fn tell(
        &mut self,
        port: PortId,
        notice: Notice,
        period_ns: u64,
        now_ns: u64,
        limits: &mut Limits,
    ) -> bool {
        let print = self.fingerprint(port, notice);
        let (before, at_ns) = &mut self.told[print as usize % REMEMBERED];
        if *before == print && now_ns.saturating_sub(*at_ns) < period_ns {
            return true;
        }
        if self.queue.len() >= QUEUE || !limits.may_tell(port, now_ns) {
            return false;
        }
        // Only what is told is remembered: who has no budget left drives nothing out of here.
        (*before, *at_ns) = (print, now_ns);
        self.queue.push(notice);
        true
    }

    /// The next notice.
    pub(super) fn next(&mut self) -> Option<Notice> {
        self.queue.pop()
    }

    /// 64 bits that stand for a notice. Never 0.
    fn fingerprint(&self, port: PortId, notice: Notice) -> u64 {
        let (kind, domain, mac, ip) = match notice {
            Notice::MacSeen { domain, mac, .. } => (1, domain, mac.get(), None),
            Notice::NeighborSeen {
                domain, ip, mac, ..
            } => (2, domain, mac.get(), Some(ip)),
            Notice::MacMissed { domain, mac } => (3, domain, mac, None),
            Notice::IpMissed { domain, ip } => (4, domain, MacAddr::default(), Some(ip)),
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

    fn seen(n: u64) -> Notice {
        let mac = HostMac::new(MacAddr::from_bits(0x0200_0000_0000 + n)).unwrap();
        Notice::MacSeen {
            port: PORT,
            domain: DomainId(1),
            mac,
        }
    }

    #[test]
    fn the_same_is_told_once_a_period() {
        let (mut notices, mut limits) = (Notices::new(), Limits::new());
        let mut told = |now| {
            assert!(notices.tell(PORT, seen(1), NEWS_NS, now, &mut limits));
            notices.next()
        };
        let start = 5 * NEWS_NS;
        assert_eq!(told(start), Some(seen(1)));
        assert_eq!(told(start + NEWS_NS - 1), None);
        assert_eq!(told(start + NEWS_NS), Some(seen(1)));
    }

    #[test]
    fn a_port_that_invents_macs_spends_only_its_own_budget() {
        let (mut notices, mut limits) = (Notices::new(), Limits::new());
        let mut told = 0;
        for n in 0..100_000 {
            notices.tell(PORT, seen(n), NEWS_NS, NEWS_NS, &mut limits);
            told += std::iter::from_fn(|| notices.next()).count();
        }
        assert!((1..=1000).contains(&told), "{told}");
        assert!(notices.tell(PortId(4), seen(1 << 20), NEWS_NS, NEWS_NS, &mut limits));
        assert_eq!(notices.next(), Some(seen(1 << 20)));
    }
}
