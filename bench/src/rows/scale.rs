//! How the throughput of the pipeline scales with the number of workers, in memory.

use std::sync::Barrier;
use std::thread;

use vtep_dataplane::addr::WorkerId;

use super::pipeline::{Caches, Operation, PipelineHarness, Shared};
use crate::cores;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};

/// One worker per core on the same tables and counters.
pub const SCALE: Spec = Spec {
    name: "scale",
    measures: "encapsulation by one worker per core, 1 M MACs, cold / workers x encapsulation by \
               one alone",
    unit: "x",
    bar: Bar::AtLeast(0.95),
    open: |effort| Ok(Box::new(Scale::open(effort)?)),
};

struct Scale {
    harnesses: Vec<PipelineHarness>,
    last: String,
}

impl Scale {
    fn open(effort: Effort) -> Result<Self, Failure> {
        let shared = Shared::new(Operation::Encap, Caches::Cold, effort)?;
        let harness = |worker| PipelineHarness::of_worker(WorkerId(worker), &shared, effort);
        let harnesses = (0..cores::count() as u16)
            .map(harness)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            harnesses,
            last: String::new(),
        })
    }
}

impl Measure for Scale {
    fn once(&mut self) -> Result<f64, Failure> {
        cores::pin(0);
        let workers = self.harnesses.len();
        let first = self
            .harnesses
            .first_mut()
            .ok_or_else(|| Failure::new("no core"))?;
        let alone = first.run()?;
        let start = Barrier::new(workers);
        let together = thread::scope(|scope| {
            let running: Vec<_> = (0..)
                .zip(&mut self.harnesses)
                .map(|(core, harness)| {
                    let start = &start;
                    scope.spawn(move || {
                        cores::pin(core);
                        start.wait();
                        harness.run()
                    })
                })
                .collect();
            let panicked = |_| Err(Failure::new("a worker panicked"));
            running
                .into_iter()
                .map(|harness| harness.join().unwrap_or_else(panicked))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let each: Vec<_> = together.iter().map(|ns| format!("{ns:.1}")).collect();
        self.last = format!(
            "last: {alone:.1} ns per packet alone, {} ns together",
            each.join(" and ")
        );
        Ok(together.iter().map(|ns| alone / ns).sum::<f64>() / workers as f64)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 7,
        }
    }

    fn notes(&self) -> Vec<String> {
        vec![
            self.last.clone(),
            format!(
                "{} workers, each on its own core with its own 65,536 frames; CPU time; \
                 bounded by the memory \
                 and last-level cache that they share",
                self.harnesses.len()
            ),
        ]
    }
}
