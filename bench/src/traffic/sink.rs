//! The sink: receives, counts and times the frames of the generator.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;
use vtep_dataplane::frame::{BURST, Frame, FrameMemory, Pool};
use vtep_dataplane::port::Port;

use super::histogram::Histogram;
use super::template;
use crate::clock::now_ns;

/// What was received.
#[derive(Debug, Default)]
pub struct Received {
    /// Frames of the generator.
    pub made: u64,
    /// Bytes of all frames.
    pub bytes: u64,
    /// Other frames.
    pub foreign: u64,
    /// Frames whose number is below that of the previous frame.
    pub late: u64,
    /// Time from generation to reception, nanoseconds.
    pub latency: Histogram,
    /// Lowest and highest number seen.
    numbers: Option<(u32, u32)>,
    last: Option<u32>,
}

/// The figures of [`Received`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Frames of the generator.
    pub frames: u64,
    /// Other frames.
    pub foreign: u64,
    /// Bytes of all frames.
    pub bytes: u64,
    /// Numbers between the lowest and the highest that did not arrive.
    pub missing: u64,
    /// Frames whose number is below that of the previous frame.
    pub late: u64,
    /// Median latency, nanoseconds.
    pub p50_ns: u64,
    /// 99th percentile of the latency, nanoseconds.
    pub p99_ns: u64,
    /// Maximum latency, nanoseconds.
    pub max_ns: u64,
}

impl Received {
    /// Counts one frame that arrived at `now_ns`.
    pub fn count(&mut self, frame: &[u8], now_ns: u64) {
        self.bytes += frame.len() as u64;
        let Some(stamp) = template::read(frame) else {
            self.foreign += 1;
            return;
        };
        self.made += 1;
        self.latency.record(now_ns.saturating_sub(stamp.sent_ns));
        self.late += u64::from(self.last.is_some_and(|last| stamp.sequence < last));
        self.last = Some(stamp.sequence);
        let (low, high) = self.numbers.unwrap_or((stamp.sequence, stamp.sequence));
        self.numbers = Some((low.min(stamp.sequence), high.max(stamp.sequence)));
    }

    /// The figures.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let span = self
            .numbers
            .map_or(0, |(low, high)| u64::from(high - low) + 1);
        Summary {
            frames: self.made,
            foreign: self.foreign,
            bytes: self.bytes,
            missing: span.saturating_sub(self.made),
            late: self.late,
            p50_ns: self.latency.percentile(50.0),
            p99_ns: self.latency.percentile(99.0),
            max_ns: self.latency.percentile(100.0),
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = |ns: u64| ns as f64 / 1000.0;
        write!(
            f,
            "{} frames, {} bytes, {} missing, {} late, {} foreign; latency p50 {:.1} us, p99 {:.1} \
             us, max {:.1} us",
            self.frames,
            self.bytes,
            self.missing,
            self.late,
            self.foreign,
            micros(self.p50_ns),
            micros(self.p99_ns),
            micros(self.max_ns)
        )
    }
}

/// Receives one burst; calls `visit` with each frame's bytes and the time, and frees the chunks.
/// Returns the number of frames.
pub fn receive<M: FrameMemory, P: Port<M>>(
    pool: &mut Pool<M>,
    port: &mut P,
    burst: &mut Vec<Frame>,
    mut visit: impl FnMut(&[u8], u64),
) -> usize {
    let count = port.receive(pool, burst);
    let now = now_ns();
    for frame in burst.drain(..) {
        visit(pool.memory().bytes(&frame), now);
        pool.free(frame);
    }
    count
}

/// Receives for `duration` (`None` = unlimited), or until `count` generated frames have arrived or
/// `stop` is set. Calls `second` once per second with the frames of that second.
pub fn run<M: FrameMemory, P: Port<M>>(
    pool: &mut Pool<M>,
    port: &mut P,
    limits: (Option<Duration>, Option<u64>),
    stop: &AtomicBool,
    mut second: impl FnMut(u64),
) -> Received {
    let (duration, count) = limits;
    let mut received = Received::default();
    let mut burst = Vec::with_capacity(BURST);
    let start = Instant::now();
    let (mut ticks, mut before) = (1, 0);
    while !stop.load(Relaxed)
        && duration.is_none_or(|most| start.elapsed() < most)
        && count.is_none_or(|most| received.made < most)
    {
        if receive(pool, port, &mut burst, |frame, now| {
            received.count(frame, now);
        }) == 0
        {
            // An idle sink yields its core to what it measures.
            std::thread::sleep(Duration::from_micros(20));
        }
        if start.elapsed() >= Duration::from_secs(ticks) {
            let all = received.made + received.foreign;
            second(all - before);
            (ticks, before) = (ticks + 1, all);
        }
    }
    received
}

#[cfg(test)]
mod tests {
    use vtep_dataplane::addr::MacAddr;

    use super::super::template::{Shape, Template};
    use super::*;

    #[test]
    fn missing_late_and_foreign_frames_are_distinguished() {
        let shape = Shape {
            source: "02:00:00:00:00:01".parse().unwrap(),
            destination: MacAddr::BROADCAST,
            destinations: 1,
            flows: 1,
            size: 60,
            tunnel: None,
        };
        let template = Template::new(&shape).unwrap();
        let mut received = Received::default();
        for sequence in [3, 4, 7, 6] {
            received.count(&template.expected(sequence), 1000);
        }
        received.count(&[0; 60], 1000);
        let summary = received.summary();
        assert_eq!(
            (summary.frames, summary.foreign, summary.bytes),
            (4, 1, 300)
        );
        assert_eq!((summary.missing, summary.late), (1, 1));
        assert!((1000..1040).contains(&summary.p50_ns));
    }
}
