//! Detects a tx ring that the kernel does not drain: this verifies busy polling.
//!
//! A socket with `SO_PREFER_BUSY_POLL` polls the NAPI instance of its *receive* queue, and the
//! kernel skips the driver's wakeup (net/xdp/xsk.c, `xsk_no_wakeup`). A driver whose transmit queue
//! belongs to another NAPI instance (igb with few queues, virtio-net) then sends nothing until
//! something else polls that one, seconds later. No call returns an error.

use std::time::{Duration, Instant};

/// How long frames may wait in a tx ring while the kernel neither takes nor completes any.
pub(super) const MAX_WAIT: Duration = Duration::from_millis(10);

/// Kicks without effect that are required in addition: waiting alone proves nothing if the worker
/// was preempted for [`MAX_WAIT`].
const KICKS: u32 = 16;

/// Frames that are waiting.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    kicks: u32,
    moved: u32,
}

/// The state of one tx ring.
#[derive(Debug, Default)]
pub(super) struct Stall(Option<Waiting>);

impl Stall {
    /// Must be called after each kick. `pending`: frames in the tx ring that the kernel has not
    /// taken; `moved` changes with each frame that it takes or completes. True when frames have
    /// waited [`MAX_WAIT`] and several kicks without effect.
    pub(super) fn check(&mut self, pending: u32, moved: u32, now: Instant) -> bool {
        self.0 = match self.0 {
            _ if pending == 0 => None,
            Some(waiting) if waiting.moved == moved => Some(Waiting {
                kicks: waiting.kicks + 1,
                ..waiting
            }),
            _ => Some(Waiting {
                since: now,
                kicks: 0,
                moved,
            }),
        };
        self.0.is_some_and(|waiting| {
            waiting.kicks >= KICKS && now.saturating_duration_since(waiting.since) >= MAX_WAIT
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeRing;
    use super::super::ring::{Consumer, Producer};
    use super::*;

    /// A tx ring whose kernel end the test controls.
    struct Fixture {
        tx: Producer<u64, FakeRing<u64>>,
        taken: Consumer<u64, FakeRing<u64>>,
        stall: Stall,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            // Near the end of the indices, so that they wrap.
            let ring = FakeRing::new(64, u32::MAX - 3);
            let (tx, taken) = (Producer::new(ring.clone()), Consumer::new(ring));
            Self {
                tx,
                taken,
                stall: Stall::default(),
                now: Instant::now(),
            }
        }

        fn send(&mut self, frames: u64) {
            (0..frames).for_each(|frame| assert!(self.tx.push(frame)));
            self.tx.publish();
        }

        fn kernel_takes(&mut self, frames: usize) {
            (0..frames).for_each(|_| assert!(self.taken.pop().is_some()));
            self.taken.release();
        }

        /// Kicks `times` times at intervals of `apart`, and returns whether a stall was detected.
        fn kick(&mut self, times: u32, apart: Duration) -> bool {
            (0..times).any(|_| {
                self.now += apart;
                let pending = self.tx.pending();
                self.stall.check(pending, self.tx.consumed(), self.now)
            })
        }
    }

    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn frames_not_taken_for_ten_milliseconds_are_detected() {
        let mut fixture = Fixture::new();
        fixture.send(3);
        assert!(!fixture.kick(10, TICK / 2), "too early");
        assert!(fixture.kick(30, TICK / 2));
    }

    #[test]
    fn an_empty_ring_is_never_stuck() {
        let mut fixture = Fixture::new();
        assert!(!fixture.kick(1000, TICK));
        fixture.send(8);
        fixture.kernel_takes(8);
        assert!(!fixture.kick(1000, TICK));
    }

    #[test]
    fn a_slow_kernel_that_takes_a_frame_now_and_then_is_not_stuck() {
        let mut fixture = Fixture::new();
        fixture.send(40);
        for _ in 0..40 {
            assert!(!fixture.kick(9, TICK));
            fixture.kernel_takes(1);
        }
        fixture.send(1);
        assert!(fixture.kick(40, TICK), "the kernel has stopped");
    }

    #[test]
    fn a_worker_that_was_preempted_detects_nothing() {
        let mut fixture = Fixture::new();
        fixture.send(1);
        assert!(!fixture.kick(3, Duration::from_secs(1)));
        fixture.kernel_takes(1);
        assert!(!fixture.kick(3, TICK));
    }
}
