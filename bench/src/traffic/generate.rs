//! The generator: fills chunks from a template and sends them, at a rate or as fast as the port
//! takes them.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use vtep_dataplane::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool};
use vtep_dataplane::port::Port;

use super::template::Template;
use crate::clock::now_ns;
use crate::row::Failure;

/// When to send, and when to stop: at the first limit that is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// Frames per second; `None` = as fast as the port accepts them.
    pub rate: Option<u64>,
    /// Stop after this many frames.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sent {
    /// Frames that the port accepted.
    pub frames: u64,
    /// Time from the first to the last.
    pub elapsed: Duration,
}

impl Sent {
    /// Frames per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.frames as f64 / self.elapsed.as_secs_f64()
    }
}

/// How many frames are due `elapsed` after the start, if `made` were generated so far.
fn due(pace: &Pace, elapsed: Duration, made: u64) -> usize {
    let by_rate = pace.rate.map_or(u64::MAX, |rate| {
        // One frame immediately, then one per period.
        1 + (elapsed.as_nanos() * u128::from(rate) / 1_000_000_000) as u64
    });
    let by_count = pace.count.unwrap_or(u64::MAX);
    by_rate.min(by_count).saturating_sub(made).min(BURST as u64) as usize
}

/// Fills new chunks until `burst` has `wanted` frames; fewer if the kernel still owns the chunks.
fn fill<M: FrameMemory>(
    pool: &mut Pool<M>,
    template: &mut Template,
    burst: &mut Vec<Frame>,
    wanted: usize,
) -> Result<(), Failure> {
    let chunk_size = pool.memory().chunk_size();
    let now = now_ns();
    while burst.len() < wanted {
        let Some(mut frame) = pool.alloc() else { break };
        if frame
            .set_extent(HEADROOM, template.size(), chunk_size)
            .is_err()
        {
            pool.free(frame);
            let most = chunk_size - usize::from(HEADROOM);
            return Err(Failure::new(format!(
                "frames of {} bytes: at most {most} fit",
                template.size()
            )));
        }
        template.write(pool.memory_mut().bytes_mut(&mut frame), now);
        burst.push(frame);
    }
    Ok(())
}

/// Sends frames until a limit of the pace is reached or `stop` is set.
///
/// # Errors
/// [`Failure`] if a frame does not fit into a chunk, or the device fails permanently.
pub fn run<M: FrameMemory, P: Port<M>>(
    pool: &mut Pool<M>,
    port: &mut P,
    template: &mut Template,
    pace: &Pace,
    stop: &AtomicBool,
) -> Result<Sent, Failure> {
    let refused = |errno: i32| {
        let why = std::io::Error::from_raw_os_error(errno);
        Failure::new(format!(
            "sending: {why}; is the interface up, and its peer too?"
        ))
    };
    let mut burst = Vec::with_capacity(BURST);
    let (mut made, mut accepted) = (0, 0);
    let start = Instant::now();
    let mut result = Ok(());
    while !stop.load(Relaxed) && result.is_ok() {
        let elapsed = start.elapsed();
        if pace.duration.is_some_and(|most| elapsed >= most) {
            break;
        }
        let before = burst.len();
        let wanted = before.max(due(pace, elapsed, made));
        if let Err(why) = fill(pool, template, &mut burst, wanted) {
            result = Err(why);
            break;
        }
        made += (burst.len() - before) as u64;
        if burst.is_empty() && pace.count.is_some_and(|count| made >= count) {
            break;
        }
        accepted += port.send(pool, &mut burst) as u64;
        result = port.wake(pool).map_err(refused);
        if wanted == 0 && pace.rate.is_some_and(|rate| rate < 20_000) {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
    burst.drain(..).for_each(|frame| pool.free(frame));
    result.map(|()| Sent {
        frames: accepted,
        elapsed: start.elapsed(),
    })
}

/// Waits until the kernel has sent all accepted frames, at most one second.
///
/// # Errors
/// [`Failure`] if chunks are still missing then.
pub fn drain<M: FrameMemory, P: Port<M>>(
    pool: &mut Pool<M>,
    port: &mut P,
    idle: usize,
) -> Result<(), Failure> {
    let start = Instant::now();
    while pool.available() < idle {
        if start.elapsed() > Duration::from_secs(1) {
            let missing = idle - pool.available();
            return Err(Failure::new(format!(
                "{missing} frames were not sent within a second"
            )));
        }
        port.wake(pool)
            .map_err(|errno| Failure::new(format!("sending: error {errno}")))?;
        std::thread::yield_now();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_fall_due_by_rate_and_by_count() {
        let pace = Pace {
            rate: Some(1000),
            count: Some(20),
            duration: None,
        };
        assert_eq!(due(&pace, Duration::ZERO, 0), 1);
        assert_eq!(due(&pace, Duration::from_millis(9), 3), 7);
        assert_eq!(due(&pace, Duration::from_secs(9), 15), 5);
        assert_eq!(due(&pace, Duration::from_secs(9), 20), 0);
        assert_eq!(due(&Pace::default(), Duration::ZERO, 1 << 40), BURST);
    }
}
