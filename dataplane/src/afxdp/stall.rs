//! Finds a driver that does not transmit while it is busy-polled.
//!
//! A socket with `SO_PREFER_BUSY_POLL` polls the NAPI instance of its *receive* queue, and the
//! kernel skips the driver's wakeup (net/xdp/xsk.c, `xsk_no_wakeup`). A driver whose transmit queue
//! belongs to another NAPI instance (igb with few queues, virtio-net) then sends nothing until
//! something else polls that one, seconds later. No call returns an error.
//!
//! Frames that stay in the tx ring prove nothing by themselves: the link may be down or paused, or
//! the CPU that has the NAPI instance scheduled may not run (another thread has it, or a hypervisor
//! gives it no time), and each poll by this worker then does nothing. So the driver is woken as
//! without busy polling, for a moment: only if the frames leave then, polling is to blame.

use std::time::{Duration, Instant};

/// How long the worker polls while the kernel neither takes nor completes any frame, until it tries
/// to wake the driver. Longer than a hypervisor with some load withholds a CPU.
const POLLED: Duration = Duration::from_millis(250);

/// How long the driver is woken at each poll. Woken drivers transmit within microseconds on
/// hardware; a CPU that gets time again by chance within this moment would be mistaken for one.
const WOKEN: Duration = Duration::from_millis(10);

/// The most that the time between two polls counts: longer ago, the worker was itself preempted.
const MAX_GAP: Duration = Duration::from_millis(1);

/// What the port is to do after a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Continue as before.
    Continue,
    /// Wake the driver at each kick from now on.
    Wake,
    /// Prefer busy polling again: waking had no effect.
    Poll,
    /// End busy polling: the driver transmits only when it is woken.
    End,
}

/// Frames that are waiting.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    moved: u32,
    last: Instant,
    /// Time since `moved` changed, or since the driver is woken, as far as the worker was polling.
    polled: Duration,
    woken: bool,
}

/// The state of one tx ring.
#[derive(Debug, Default)]
pub(super) struct Stall(Option<Waiting>);

impl Stall {
    /// Must be called after each poll with its kick. `pending`: frames in the tx ring that the kernel
    /// has not taken; `moved` changes with each frame that it takes or completes.
    pub(super) fn check(&mut self, pending: u32, moved: u32, now: Instant) -> Verdict {
        let start = |woken| Waiting {
            moved,
            last: now,
            polled: Duration::ZERO,
            woken,
        };
        let (waiting, verdict) = match self.0 {
            Some(waiting) if waiting.woken && waiting.moved != moved => (None, Verdict::End),
            _ if pending == 0 => (None, Verdict::Continue),
            Some(mut waiting) if waiting.moved == moved => {
                let gap = now.saturating_duration_since(waiting.last);
                waiting.polled += gap.min(MAX_GAP);
                waiting.last = now;
                match waiting.woken {
                    false if waiting.polled >= POLLED => (Some(start(true)), Verdict::Wake),
                    true if waiting.polled >= WOKEN => (Some(start(false)), Verdict::Poll),
                    _ => (Some(waiting), Verdict::Continue),
                }
            }
            _ => (Some(start(false)), Verdict::Continue),
        };
        self.0 = waiting;
        verdict
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

        /// Polls at intervals of `apart` until the verdict changes, at most `times` times.
        fn poll(&mut self, times: u32, apart: Duration) -> Verdict {
            let verdicts = (0..times).map(|_| {
                self.now += apart;
                let pending = self.tx.pending();
                self.stall.check(pending, self.tx.consumed(), self.now)
            });
            let mut changes = verdicts.filter(|verdict| *verdict != Verdict::Continue);
            changes.next().unwrap_or(Verdict::Continue)
        }
    }

    const TICK: Duration = Duration::from_micros(100);

    /// Polls, one tick apart, that `time` takes.
    fn polls(time: Duration) -> u32 {
        (time.as_micros() / TICK.as_micros()) as u32
    }

    /// As igb with few queues, and virtio-net (finding N1).
    #[test]
    fn a_driver_that_sends_only_when_it_is_woken_is_found() {
        let mut fixture = Fixture::new();
        fixture.send(3);
        assert_eq!(
            fixture.poll(polls(POLLED), TICK),
            Verdict::Continue,
            "early"
        );
        assert_eq!(fixture.poll(2, TICK), Verdict::Wake);
        fixture.kernel_takes(1);
        assert_eq!(fixture.poll(1, TICK), Verdict::End);
    }

    #[test]
    fn one_that_takes_all_frames_when_it_is_woken_is_found() {
        let mut fixture = Fixture::new();
        fixture.send(3);
        assert_eq!(fixture.poll(polls(POLLED) + 2, TICK), Verdict::Wake);
        fixture.kernel_takes(3);
        assert_eq!(fixture.poll(1, TICK), Verdict::End);
    }

    /// A link that is down, a NIC that its switch has paused, or a CPU that gets no time.
    #[test]
    fn frames_that_stay_although_the_driver_is_woken_end_nothing() {
        let mut fixture = Fixture::new();
        fixture.send(3);
        for _ in 0..10 {
            assert_eq!(fixture.poll(polls(POLLED) + 2, TICK), Verdict::Wake);
            assert_eq!(fixture.poll(polls(WOKEN) + 2, TICK), Verdict::Poll);
        }
        fixture.kernel_takes(3);
        assert_eq!(fixture.poll(polls(POLLED) * 2, TICK), Verdict::Continue);
    }

    #[test]
    fn an_empty_ring_is_never_stuck() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.poll(polls(POLLED) * 2, TICK), Verdict::Continue);
        fixture.send(8);
        fixture.kernel_takes(8);
        assert_eq!(fixture.poll(polls(POLLED) * 2, TICK), Verdict::Continue);
    }

    #[test]
    fn a_slow_kernel_that_takes_a_frame_now_and_then_is_not_stuck() {
        let mut fixture = Fixture::new();
        fixture.send(40);
        for _ in 0..40 {
            let most = polls(POLLED) - 1;
            assert_eq!(fixture.poll(most, TICK), Verdict::Continue);
            fixture.kernel_takes(1);
        }
        fixture.send(1);
        assert_eq!(fixture.poll(polls(POLLED) + 2, TICK), Verdict::Wake);
    }

    #[test]
    fn time_in_which_the_worker_did_not_run_does_not_count() {
        let mut fixture = Fixture::new();
        fixture.send(1);
        let most = (POLLED.as_micros() / MAX_GAP.as_micros()) as u32;
        let paused = Duration::from_secs(1);
        assert_eq!(fixture.poll(most, paused), Verdict::Continue);
        assert_eq!(fixture.poll(2, TICK), Verdict::Continue);
        fixture.kernel_takes(1);
        assert_eq!(fixture.poll(most, paused), Verdict::Continue);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_does_not_count() {
        let mut fixture = Fixture::new();
        fixture.send(1);
        assert_eq!(fixture.poll(100_000, Duration::ZERO), Verdict::Continue);
        fixture.now -= Duration::from_secs(1);
        assert_eq!(fixture.poll(1, TICK), Verdict::Continue);
        assert_eq!(fixture.poll(polls(POLLED) + 2, TICK), Verdict::Wake);
    }
}
