//! The status of a worker: iterations, frames, sleep, free chunks, heartbeat.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Status counters, written by the worker alone and read by `show workers` and the watchdog.
#[derive(Debug, Default)]
pub struct WorkerStatus {
    iterations: AtomicU64,
    busy_iterations: AtomicU64,
    frames: AtomicU64,
    sleeps: AtomicU64,
    slept_ns: AtomicU64,
    free: AtomicU64,
    heartbeat_ns: AtomicU64,
    removed: AtomicU64,
}

/// A [`WorkerStatus`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerStatusView {
    /// Iterations over all ports.
    pub iterations: u64,
    /// Iterations in which frames were moved.
    pub busy_iterations: u64,
    /// Frames received, from ports and from other workers.
    pub frames: u64,
    /// Number of sleeps.
    pub sleeps: u64,
    /// Total time asleep, nanoseconds.
    pub slept_ns: u64,
    /// Chunks in the worker's pool that are free.
    pub free: u64,
    /// Age of the worker at its last iteration, nanoseconds.
    pub heartbeat_ns: u64,
    /// Frames that were dropped because their port, interface or VNI was removed while they waited.
    pub removed: u64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

impl WorkerStatus {
    pub(super) fn record_iteration(&self, frames: usize, free: usize, now: u64) {
        add(&self.iterations, 1);
        if frames > 0 {
            add(&self.busy_iterations, 1);
            add(&self.frames, frames as u64);
        }
        self.free.store(free as u64, Relaxed);
        self.heartbeat_ns.store(now, Relaxed);
    }

    pub(super) fn record_removed(&self, removed: u64) {
        self.removed.store(removed, Relaxed);
    }

    pub(super) fn slept(&self, ns: u64) {
        add(&self.sleeps, 1);
        add(&self.slept_ns, ns);
    }

    /// The current values.
    #[must_use]
    pub fn view(&self) -> WorkerStatusView {
        WorkerStatusView {
            iterations: self.iterations.load(Relaxed),
            busy_iterations: self.busy_iterations.load(Relaxed),
            frames: self.frames.load(Relaxed),
            sleeps: self.sleeps.load(Relaxed),
            slept_ns: self.slept_ns.load(Relaxed),
            free: self.free.load(Relaxed),
            heartbeat_ns: self.heartbeat_ns.load(Relaxed),
            removed: self.removed.load(Relaxed),
        }
    }
}
