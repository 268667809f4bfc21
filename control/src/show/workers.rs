//! `show workers`.

use std::time::Instant;

use crate::api::show::WorkerRow;
use crate::engine::EngineView;

/// When each worker was sampled last, and how long it had slept by then, nanoseconds.
#[derive(Debug, Default)]
pub(super) struct WorkerSamples(Vec<(Instant, u64)>);

impl WorkerSamples {
    /// One row for each worker, with its load since the last call.
    pub(super) fn rows(&mut self, engine: EngineView<'_>, now: Instant) -> Vec<WorkerRow> {
        let samples = engine.workers.status().map(|(id, core, view)| {
            let before = self
                .0
                .get(id.index())
                .copied()
                .unwrap_or((engine.started, 0));
            let span = now.saturating_duration_since(before.0).as_nanos().max(1) as f64;
            let slept = view.slept_ns.saturating_sub(before.1) as f64;
            let row = WorkerRow {
                id: id.0,
                core,
                busy: (100.0 * (1.0 - slept / span)).clamp(0.0, 100.0),
                iterations: view.iterations,
                frames: view.frames,
                frames_free: view.free as usize,
                removed: view.removed,
            };
            (row, (now, view.slept_ns))
        });
        let (rows, samples) = samples.unzip();
        self.0 = samples;
        rows
    }
}
