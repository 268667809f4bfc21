//! Whether the kernel takes what lies in a tx ring: how busy polling is verified.
//!
//! A socket with `SO_PREFER_BUSY_POLL` polls the NAPI instance of its *receive* queue, and the kernel skips the driver's
//! wake-up (net/xdp/xsk.c, `xsk_no_wakeup`). A driver whose transmit queue belongs to another NAPI instance (igb with few
//! queues, virtio-net) then sends nothing until something else polls that one, seconds later. No call returns an error.

use std::time::{Duration, Instant};

/// How long frames may lie in a tx ring while the kernel neither takes nor completes any.
pub(super) const LONGEST: Duration = Duration::from_millis(10);

/// Kicks that must have been in vain besides: a worker that was off its core for [`LONGEST`] has proved nothing.
const KICKS: u32 = 16;

/// Frames that wait.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    kicks: u32,
    moved: u32,
}

/// Watches one tx ring.
#[derive(Debug, Default)]
pub(super) struct Stall(Option<Waiting>);

impl Stall {
    /// To be called after each kick. `pending`: frames in the tx ring that the kernel has not taken; `moved` changes with
    /// each frame that it takes or completes. True when frames have waited [`LONGEST`], and several kicks, for nothing.
    pub(super) fn look(&mut self, pending: u32, moved: u32, now: Instant) -> bool {
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
            waiting.kicks >= KICKS && now.saturating_duration_since(waiting.since) >= LONGEST
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeRing;
    use super::super::ring::{Consumer, Producer};
    use super::*;

    /// A tx and a completion ring with a kernel that does what the test says.
    struct Bench {
        tx: Producer<u64, FakeRing<u64>>,
        taken: Consumer<u64, FakeRing<u64>>,
        stall: Stall,
        now: Instant,
    }

    impl Bench {
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

        /// Kicks `times` times, `apart` from one another, and says whether the ring was ever found stuck.
        fn kick(&mut self, times: u32, apart: Duration) -> bool {
            (0..times).any(|_| {
                self.now += apart;
                let pending = self.tx.pending();
                self.stall.look(pending, self.tx.taken(), self.now)
            })
        }
    }

    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn frames_that_nobody_takes_for_ten_milliseconds_are_noticed() {
        let mut bench = Bench::new();
        bench.send(3);
        assert!(!bench.kick(10, TICK / 2), "too early");
        assert!(bench.kick(30, TICK / 2));
    }

    #[test]
    fn an_empty_ring_is_never_stuck() {
        let mut bench = Bench::new();
        assert!(!bench.kick(1000, TICK));
        bench.send(8);
        bench.kernel_takes(8);
        assert!(!bench.kick(1000, TICK));
    }

    #[test]
    fn a_slow_kernel_that_takes_a_frame_now_and_then_is_not_stuck() {
        let mut bench = Bench::new();
        bench.send(40);
        for _ in 0..40 {
            assert!(!bench.kick(9, TICK));
            bench.kernel_takes(1);
        }
        bench.send(1);
        assert!(bench.kick(40, TICK), "and then it stopped");
    }

    #[test]
    fn a_worker_that_was_away_has_proved_nothing() {
        let mut bench = Bench::new();
        bench.send(1);
        assert!(!bench.kick(3, Duration::from_secs(1)));
        bench.kernel_takes(1);
        assert!(!bench.kick(3, TICK));
    }
}
