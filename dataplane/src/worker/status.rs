//! What a worker tells of itself: turns, work, sleep, free frames, heartbeat.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Written by its worker alone, read by `show workers` and the watchdog.
#[derive(Debug, Default)]
pub struct Status {
    turns: AtomicU64,
    busy_turns: AtomicU64,
    frames: AtomicU64,
    sleeps: AtomicU64,
    slept_ns: AtomicU64,
    free: AtomicU64,
    heartbeat_ns: AtomicU64,
}

/// A [`Status`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusView {
    /// Rounds over all ports.
    pub turns: u64,
    /// Those in which frames were moved.
    pub busy_turns: u64,
    /// Frames received, from ports and from other workers.
    pub frames: u64,
    /// How often it slept.
    pub sleeps: u64,
    /// Time asleep since it began, nanoseconds.
    pub slept_ns: u64,
    /// Chunks in its pool that are free now.
    pub free: u64,
    /// Age of the worker at its last turn, nanoseconds.
    pub heartbeat_ns: u64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

impl Status {
    pub(super) fn turn(&self, frames: usize, free: usize, now: u64) {
        add(&self.turns, 1);
        if frames > 0 {
            add(&self.busy_turns, 1);
            add(&self.frames, frames as u64);
        }
        self.free.store(free as u64, Relaxed);
        self.heartbeat_ns.store(now, Relaxed);
    }

    pub(super) fn slept(&self, ns: u64) {
        add(&self.sleeps, 1);
        add(&self.slept_ns, ns);
    }

    /// The values now.
    #[must_use]
    pub fn view(&self) -> StatusView {
        StatusView {
            turns: self.turns.load(Relaxed),
            busy_turns: self.busy_turns.load(Relaxed),
            frames: self.frames.load(Relaxed),
            sleeps: self.sleeps.load(Relaxed),
            slept_ns: self.slept_ns.load(Relaxed),
            free: self.free.load(Relaxed),
            heartbeat_ns: self.heartbeat_ns.load(Relaxed),
        }
    }
}
