//! Time: nanoseconds that two processes share, and cycles of the core's actual clock.
//!
//! The time stamp counter can only be read by `unsafe` code, which this crate does not contain.
//! Rows therefore use `CLOCK_MONOTONIC` over large batches, and convert it into cycles with the
//! core's clock as measured just before and just after: a chain of 64-bit multiplications, each of
//! which depends on the previous one. One takes 3 cycles on every x86-64 core since 2008 (Intel)
//! and 2017 (AMD Zen).

use std::hint::black_box;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Latency of a 64-bit multiplication, cycles.
const MULTIPLY_CYCLES: f64 = 3.0;

/// Multiplications per measurement of the clock: about a millisecond.
const CHAIN: u32 = 1 << 20;

/// `CLOCK_MONOTONIC`, nanoseconds; the same for all processes of this host.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// CPU time of this thread, nanoseconds. It excludes the time of other programs on a shared
/// machine, but not their effect on caches and memory.
#[must_use]
pub fn spent_ns() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

/// The current clock of the core that this thread runs on, GHz. The best of three measurements, as
/// an interruption can only make one slower. `None` on a machine where the latency of a
/// multiplication is not known.
#[must_use]
pub fn core_ghz() -> Option<f64> {
    cfg!(target_arch = "x86_64").then(|| (0..3).map(|_| look()).fold(0.0, f64::max))
}

fn look() -> f64 {
    let mut x: u64 = black_box(3);
    let start = Instant::now();
    for _ in 0..CHAIN {
        x = x.wrapping_mul(x);
    }
    black_box(x);
    MULTIPLY_CYCLES * f64::from(CHAIN) / start.elapsed().as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_one_that_a_core_can_have() {
        if let Some(ghz) = core_ghz() {
            assert!((0.3..8.0).contains(&ghz), "{ghz} GHz");
        }
    }

    #[test]
    fn only_work_is_spent() {
        let (before, start) = (spent_ns(), now_ns());
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(spent_ns() - before < now_ns() - start);
        black_box(look());
        assert!(spent_ns() > before);
    }

    #[test]
    fn nanoseconds_go_forward() {
        let before = now_ns();
        assert!(now_ns() >= before);
    }
}
