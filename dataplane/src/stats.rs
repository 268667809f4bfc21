//! Counters: each worker writes a row of its own, readers sum the rows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use crate::addr::WorkerId;
use crate::drop::DropReason;

/// What one worker has counted for one object: a device, a port, a VNI or a VTEP. Only that worker
/// writes it.
#[derive(Debug)]
pub struct Row {
    rx_frames: AtomicU64,
    rx_bytes: AtomicU64,
    tx_frames: AtomicU64,
    tx_bytes: AtomicU64,
    events_suppressed: AtomicU64,
    drops: [AtomicU64; DropReason::COUNT],
}

/// Adds without a locked instruction, since the row has one writer.
#[inline]
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

impl Row {
    const fn new() -> Self {
        Self {
            rx_frames: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
            tx_frames: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
            events_suppressed: AtomicU64::new(0),
            drops: [const { AtomicU64::new(0) }; DropReason::COUNT],
        }
    }

    /// Counts `frames` received frames of `bytes` bytes in total.
    #[inline]
    pub fn received(&self, frames: u64, bytes: u64) {
        add(&self.rx_frames, frames);
        add(&self.rx_bytes, bytes);
    }

    /// Counts `frames` sent frames of `bytes` bytes in total.
    #[inline]
    pub fn sent(&self, frames: u64, bytes: u64) {
        add(&self.tx_frames, frames);
        add(&self.tx_bytes, bytes);
    }

    /// Counts one event that was suppressed by the limit of the port.
    #[inline]
    pub fn event_suppressed(&self) {
        add(&self.events_suppressed, 1);
    }

    /// Counts one dropped frame.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.dropped_many(reason, 1);
    }

    /// Counts `frames` frames dropped for one reason.
    #[inline]
    pub fn dropped_many(&self, reason: DropReason, frames: u64) {
        add(&self.drops[reason as usize], frames);
    }
}

/// The counters of one object: a row for each worker. They live as long as the object, across table
/// snapshots.
#[derive(Debug)]
pub struct Counters {
    rows: Box<[CachePadded<Row>]>,
}

/// The sums over all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Events for the control thread that were suppressed by the limit of the port.
    pub events_suppressed: u64,
    /// Frames dropped, by `DropReason as usize`.
    pub drops: [u64; DropReason::COUNT],
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            rx_frames: 0,
            rx_bytes: 0,
            tx_frames: 0,
            tx_bytes: 0,
            events_suppressed: 0,
            drops: [0; DropReason::COUNT],
        }
    }
}

impl Totals {
    /// Frames dropped, for all reasons.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }
}

impl Counters {
    /// Rows for `workers` workers, all zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            rows: (0..workers).map(|_| CachePadded::new(Row::new())).collect(),
        }
    }

    /// The row that `worker` writes.
    ///
    /// # Panics
    /// If `worker` is not less than the number of workers.
    #[inline]
    #[must_use]
    pub fn row(&self, worker: WorkerId) -> &Row {
        &self.rows[worker.index()]
    }

    /// Sums the rows of all workers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.rows.iter().fold(Totals::default(), |mut sum, row| {
            sum.rx_frames += row.rx_frames.load(Relaxed);
            sum.rx_bytes += row.rx_bytes.load(Relaxed);
            sum.tx_frames += row.tx_frames.load(Relaxed);
            sum.tx_bytes += row.tx_bytes.load(Relaxed);
            sum.events_suppressed += row.events_suppressed.load(Relaxed);
            for (total, drops) in sum.drops.iter_mut().zip(&row.drops) {
                *total += drops.load(Relaxed);
            }
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_sum_the_workers_rows() {
        let counters = Counters::new(2);
        counters.row(WorkerId(0)).received(2, 120);
        counters.row(WorkerId(1)).received(1, 60);
        counters.row(WorkerId(1)).sent(3, 300);
        counters.row(WorkerId(0)).dropped(DropReason::Storm);
        let totals = counters.totals();
        assert_eq!(
            (
                totals.rx_frames,
                totals.rx_bytes,
                totals.tx_frames,
                totals.tx_bytes
            ),
            (3, 180, 3, 300)
        );
        assert_eq!(totals.drops[DropReason::Storm as usize], 1);
        assert_eq!(totals.dropped(), 1);
    }
}
