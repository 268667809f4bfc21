//! Counters: each worker writes a row of its own, readers sum the rows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    flood: Option<OwnedFloodRow>,
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
            flood: None,
        }
    }

    /// Counters of a VTEP, for the workers of `floods`: copies of flooded frames are counted there.
    #[must_use]
    pub fn of_vtep(floods: &FloodCounters) -> Self {
        Self {
            flood: Some(floods.alloc()),
            ..Self::new(floods.0.workers)
        }
    }

    /// The row for copies of flooded frames; `None` for those that count them as all others.
    pub(crate) fn flood_row(&self) -> Option<&FloodRow> {
        self.flood.as_ref().map(|flood| &flood.row)
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
        let mut flooded = Totals::default();
        if let Some(flood) = &self.flood {
            for worker in (0..).map(WorkerId).take(self.rows.len()) {
                if let Some(sent) = flood.row.get(worker) {
                    flooded.tx_frames += sent.frames.load(Relaxed);
                    flooded.tx_bytes += sent.bytes.load(Relaxed);
                }
            }
        }
        self.rows.iter().fold(flooded, |mut sum, row| {
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

/// Rows of a page of [`FloodCounters`].
const PAGE: usize = 1 << u8::BITS;

/// The copies of flooded frames that were sent to each VTEP, for all VTEPs side by side: a flood
/// adds to those of all its VTEPs, so that four share a cache line where each of [`Counters`] has
/// several. Clones share them.
#[derive(Debug, Clone)]
pub struct FloodCounters(Arc<FloodPages>);

#[derive(Debug)]
struct FloodPages {
    workers: usize,
    /// Rows without an owner, all zero. Locked by the control thread alone, to add and remove VTEPs.
    free: Mutex<Vec<FloodRow>>,
}

/// What a worker has sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Sent {
    /// Counts one copy of `bytes` bytes.
    #[inline]
    pub(crate) fn add(&self, bytes: u64) {
        add(&self.frames, 1);
        add(&self.bytes, bytes);
    }
}

/// The rows of a page, of one worker.
pub(crate) type FloodRows = [Sent; PAGE];

/// Rows of up to [`PAGE`] VTEPs, for each worker.
#[derive(Debug, Clone)]
pub(crate) struct FloodPage(Arc<Box<[FloodRows]>>);

impl FloodPage {
    /// The rows that `worker` counts in.
    #[inline]
    pub(crate) fn of(&self, worker: WorkerId) -> Option<&FloodRows> {
        self.0.get(worker.index())
    }

    /// True for the same page.
    #[inline]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A VTEP's place in a page.
#[derive(Debug, Clone)]
pub(crate) struct FloodRow {
    pub(crate) page: FloodPage,
    pub(crate) place: u8,
}

impl FloodRow {
    fn get(&self, worker: WorkerId) -> Option<&Sent> {
        let rows = self.page.of(worker)?;
        Some(&rows[usize::from(self.place)])
    }
}

/// A row that returns to its page when its VTEP is removed. No table has the VTEP then: workers do
/// not write to it any more.
#[derive(Debug)]
struct OwnedFloodRow {
    row: FloodRow,
    pages: Arc<FloodPages>,
}

impl Drop for OwnedFloodRow {
    fn drop(&mut self) {
        for worker in (0..).map(WorkerId).take(self.pages.workers) {
            if let Some(sent) = self.row.get(worker) {
                sent.frames.store(0, Relaxed);
                sent.bytes.store(0, Relaxed);
            }
        }
        self.pages.free().push(self.row.clone());
    }
}

impl FloodPages {
    fn free(&self) -> MutexGuard<'_, Vec<FloodRow>> {
        // Every state of the list is consistent.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FloodCounters {
    /// No rows yet, for `workers` workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(Arc::new(FloodPages {
            workers,
            free: Mutex::default(),
        }))
    }

    fn alloc(&self) -> OwnedFloodRow {
        let mut free = self.0.free();
        let row = free.pop().unwrap_or_else(|| {
            let rows = |_| std::array::from_fn(|_| Sent::default());
            let page = FloodPage(Arc::new((0..self.0.workers).map(rows).collect()));
            let row = |place| FloodRow {
                page: page.clone(),
                place,
            };
            // The first is taken first: VTEPs that are added together lie together.
            free.extend((1..=u8::MAX).rev().map(row));
            row(0)
        });
        OwnedFloodRow {
            row,
            pages: Arc::clone(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_floods_are_counted_for_their_vtep_alone() {
        let floods = FloodCounters::new(2);
        let mut vteps: Vec<_> = (0..300).map(|_| Counters::of_vtep(&floods)).collect();
        for (number, vtep) in (1..).zip(&vteps) {
            for worker in [WorkerId(0), WorkerId(1)] {
                let row = vtep.flood_row().unwrap().get(worker).unwrap();
                (0..number).for_each(|_| row.add(10));
                vtep.row(worker).sent(1, 1000);
            }
            assert!(vtep.flood_row().unwrap().get(WorkerId(2)).is_none());
        }
        for (number, vtep) in (1..).zip(&vteps) {
            let totals = vtep.totals();
            let sent = (totals.tx_frames, totals.tx_bytes);
            assert_eq!(sent, (2 * number + 2, 20 * number + 2000));
        }
        // Removed VTEPs leave their rows to others, which start at zero.
        let removed = vteps.split_off(100).len();
        let new: Vec<_> = (0..removed).map(|_| Counters::of_vtep(&floods)).collect();
        assert!(new.iter().all(|vtep| vtep.totals() == Totals::default()));
        assert_eq!(floods.0.free().len(), 2 * PAGE - 300);
        assert_eq!(vteps[99].totals().tx_frames, 202);
        assert!(Counters::new(1).flood_row().is_none());
    }

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
