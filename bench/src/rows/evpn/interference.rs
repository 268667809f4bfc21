//! What the packet path loses while a full table is loaded on another core.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::thread;

use super::super::pipeline::{Caches, Operation, PipelineHarness, Shared};
use super::hosts::Hosts;
use super::ingest::Feed;
use crate::cores;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec, median};
use crate::tables::WORKER;

/// A worker and the control thread at the same time.
pub const INTERFERENCE: Spec = Spec {
    name: "load-interference",
    measures: "encapsulation by a worker, 1 M MACs, cold, while another core loads 1 M type 2 \
               routes / alone",
    unit: "x",
    bar: Bar::AtLeast(0.90),
    open: |effort| Ok(Box::new(Interference::open(effort)?)),
};

/// Runs of the worker alone, half of them before and half after the load.
const ALONE: usize = 6;

struct Interference {
    harness: PipelineHarness,
    hosts: Hosts,
    octets: Vec<u8>,
    last: String,
}

/// Nanoseconds per packet of each run.
struct Runs {
    alone: Vec<f64>,
    during: Vec<f64>,
}

/// State shared by both threads.
#[derive(Default)]
struct Common {
    /// Runs during the load.
    runs: AtomicUsize,
    /// The load has ended.
    done: AtomicBool,
}

impl Interference {
    fn open(effort: Effort) -> Result<Self, Failure> {
        let harness = PipelineHarness::of_worker(
            WORKER,
            &Shared::new(Operation::Encap, Caches::Cold, effort)?,
            effort,
        )?;
        let hosts = Hosts::of(effort);
        Ok(Self {
            harness,
            hosts,
            octets: hosts.all_announced()?,
            last: String::new(),
        })
    }

    /// The worker runs alone, calls `ready`, runs until the load is `done`, and alone again.
    fn work(
        harness: &mut PipelineHarness,
        ready: impl FnOnce(),
        common: &Common,
    ) -> Result<Runs, Failure> {
        cores::pin(1);
        let (mut alone, mut during) = (Vec::new(), Vec::new());
        for _ in 0..ALONE / 2 {
            alone.push(harness.run()?);
        }
        ready();
        while !common.done.load(Relaxed) {
            let ns = harness.run()?;
            // A run that outlasted the load does not count.
            if !common.done.load(Relaxed) {
                during.push(ns);
                common.runs.fetch_add(1, Relaxed);
            }
        }
        for _ in 0..ALONE / 2 {
            alone.push(harness.run()?);
        }
        Ok(Runs { alone, during })
    }
}

/// Loads all routes into empty tables.
fn load(hosts: Hosts, octets: &[u8]) -> Result<Feed, Failure> {
    let mut feed = Feed::new(hosts.hosts)?;
    feed.take(octets)?;
    Ok(feed)
}

impl Measure for Interference {
    fn once(&mut self) -> Result<f64, Failure> {
        let Self {
            harness,
            hosts,
            octets,
            ..
        } = self;
        let common = Common::default();
        let (say, word) = sync_channel(1);
        let (loaded, worked) = thread::scope(|scope| {
            let ready = move || {
                // If sending fails, the receiver no longer exists.
                let _ = say.send(());
            };
            let worker = scope.spawn(|| Self::work(harness, ready, &common));
            cores::pin(0);
            // Without a message the worker has failed, and returns the reason.
            let begun = word.recv().is_ok();
            let mut loaded = Err(Failure::new("nothing was loaded"));
            // Once, unless the machine is so busy that the worker completes no run meanwhile.
            while begun && common.runs.load(Relaxed) == 0 && !worker.is_finished() {
                loaded = load(*hosts, octets);
                if loaded.is_err() {
                    break;
                }
            }
            common.done.store(true, Relaxed);
            (
                loaded,
                worker
                    .join()
                    .unwrap_or_else(|_| Err(Failure::new("the worker panicked"))),
            )
        });
        let Runs {
            mut alone,
            mut during,
        } = worked?;
        loaded?.sink.check_all(self.hosts)?;
        alone.sort_by(f64::total_cmp);
        during.sort_by(f64::total_cmp);
        let count = during.len();
        let (alone, during) = (median(&alone), median(&during));
        self.last = format!(
            "last: {alone:.1} ns per packet alone, {during:.1} ns during the load ({count} runs)"
        );
        Ok(alone / during)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 5,
        }
    }

    fn notes(&self) -> Vec<String> {
        vec![
            self.last.clone(),
            format!(
                "CPU time; {} routes are loaded into separate tables: both share \
                 only the last-level cache, the \
                 memory and the address space",
                self.hosts.hosts
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_runs_alone_and_during_a_load() {
        let mut row = Interference::open(Effort::Quick).unwrap();
        assert!(row.once().unwrap() > 0.0);
        assert!(row.notes()[0].contains("during the load"));
    }
}
