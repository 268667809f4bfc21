//! Timers as an array indexed by name, and jitter against synchronized peers.

use std::time::{Duration, Instant};

/// The timers of a peer and of each of its connections (RFC 4271 section 8, RFC 9687, RFC 4724).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Timer {
    /// Next attempt to connect.
    ConnectRetry,
    /// Leaves Idle after an error.
    IdleHold,
    /// Removes the stale routes of a peer that is down, or up without an End-of-RIB.
    Stale,
    /// Ends a refresh for which the peer sends no EoRR (RFC 7313 section 4).
    Refresh,
    /// The peer has sent no complete message for the hold time.
    Hold,
    /// Next KEEPALIVE.
    Keepalive,
    /// The peer has read nothing for the send hold time.
    SendHold,
}

/// How many timers there are.
const COUNT: usize = 7;

/// All timers, by name.
const ALL: [Timer; COUNT] = [
    Timer::ConnectRetry,
    Timer::IdleHold,
    Timer::Stale,
    Timer::Refresh,
    Timer::Hold,
    Timer::Keepalive,
    Timer::SendHold,
];

/// Expiry of each running timer.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers([Option<Instant>; COUNT]);

impl Timers {
    pub(super) const fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) const fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// Makes a running timer expire at `at`, if it would expire later.
    pub(super) fn shorten(&mut self, timer: Timer, at: Instant) {
        let expiry = &mut self.0[timer as usize];
        *expiry = expiry.map(|old| old.min(at));
    }

    pub(super) const fn is_running(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// The earliest expiry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops and returns one expired timer.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let due = ALL
            .into_iter()
            .find(|timer| self.0[*timer as usize].is_some_and(|at| at <= now))?;
        self.stop(due);
        Some(due)
    }
}

/// A source of random factors (SplitMix64) from a seed that the caller chooses.
#[derive(Debug, Clone)]
pub(super) struct Jitter(pub(super) u64);

impl Jitter {
    /// `full` multiplied by a random factor from 0.75 to 1 (RFC 4271 section 10).
    pub(super) fn apply(&mut self, full: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let thousandths = 750 + ((mixed ^ (mixed >> 31)) % 251) as u32;
        full * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_timer_is_next_and_fires_once() {
        let start = Instant::now();
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Hold, start + Duration::from_secs(9));
        timers.set(Timer::Keepalive, start + Duration::from_secs(3));
        assert_eq!(timers.next(), Some(start + Duration::from_secs(3)));
        assert_eq!(timers.expired(start), None);
        assert_eq!(
            timers.expired(start + Duration::from_secs(3)),
            Some(Timer::Keepalive)
        );
        assert_eq!(timers.expired(start + Duration::from_secs(3)), None);
        assert!(timers.is_running(Timer::Hold));
    }

    #[test]
    fn jitter_stays_between_three_quarters_and_one() {
        let mut jitter = Jitter(7);
        let full = Duration::from_secs(100);
        let all: Vec<_> = (0..1000).map(|_| jitter.apply(full)).collect();
        assert!(all.iter().all(|d| *d >= full * 3 / 4 && *d <= full));
        assert!(
            all.iter().max().unwrap().as_secs() > 95 && all.iter().min().unwrap().as_secs() < 80
        );
    }
}
