//! The latency that a forwarder adds to a frame, at a tenth of the load that it can carry.
//!
//! ```text
//! over veth    generator -> link -> forwarder -> link -> sink, less generator -> link -> sink
//! in memory    receive one frame -> pipeline -> queues
//! ```
//!
//! Before anything is timed, frames are sent one by one, each after the previous one has arrived: a
//! forwarder that waited for a full batch would never send the first.

use std::time::Duration;

use vtep_dataplane::addr::VtepId;
use vtep_dataplane::frame::{FrameMemory, HEADROOM, Pool};
use vtep_dataplane::pipeline::tx_queues::TxQueues;
use vtep_dataplane::pipeline::{Pipeline, Tables};
use vtep_dataplane::port::memory::{HeapMemory, memory_pools};
use vtep_dataplane::table::Snapshot;
use vtep_dataplane::table::mac::{Destination, MacTable};
use vtep_dataplane::table::neighbor::{NeighborReader, NeighborTable};

use crate::clock::now_ns;
use crate::cores::pin;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::tables::{DOMAIN, TENANT_DEVICE, TableSpec, WORKER};
use crate::testbed::forwarder::{Forwarder, Work};
use crate::testbed::topology::{self, Direction};
use crate::testbed::trial::{ExpectedFrame, FORWARDER_CORE, GENERATOR_CORE, LinkTest};
use crate::traffic::histogram::Histogram;
use crate::traffic::sink::Summary;
use crate::traffic::template::{MIN_FRAME, Template};

/// The median.
pub const P50: Spec = Spec {
    name: "latency-p50",
    measures: "added by one forwarder over veth at 10% load, median: generator to sink through the \
               worker, less one link alone",
    unit: "us",
    bar: Bar::Report,
    open: |effort| {
        Ok(Box::new(AddedLatency::open(effort, |summary| {
            summary.p50_ns
        })?))
    },
};

/// The 99th percentile.
pub const P99: Spec = Spec {
    name: "latency-p99",
    measures: "added by one forwarder over veth at 10% load, 99th percentile of the whole path, \
               less that of one link alone",
    unit: "us",
    bar: Bar::Report,
    open: |effort| {
        Ok(Box::new(AddedLatency::open(effort, |summary| {
            summary.p99_ns
        })?))
    },
};

/// The pipeline alone.
pub const MEMORY: Spec = Spec {
    name: "latency-memory",
    measures: "added by the pipeline to a single 60 B frame, in memory, median",
    unit: "ns",
    bar: Bar::Report,
    open: |effort| Ok(Box::new(SingleFrame::open(effort)?)),
};

struct AddedLatency {
    link_test: LinkTest,
    rate: u64,
    window: Duration,
    figure: fn(&Summary) -> u64,
    last: String,
}

impl AddedLatency {
    fn open(effort: Effort, figure: fn(&Summary) -> u64) -> Result<Self, Failure> {
        let mut link_test = LinkTest::new("latency", MIN_FRAME, Direction::Out)?;
        let forwarder = Forwarder::start(&link_test.topology, Work::Vxlan, FORWARDER_CORE)?;
        link_test.check(ExpectedFrame::Vxlan)?;
        link_test.check_lone(ExpectedFrame::Vxlan)?;
        let window = effort.pick(Duration::from_millis(500), Duration::from_secs(2));
        let full = link_test.measure(window)?.arrived;
        drop(forwarder);
        Ok(Self {
            link_test,
            rate: (full / 10.0) as u64,
            window,
            figure,
            last: String::new(),
        })
    }
}

impl Measure for AddedLatency {
    fn once(&mut self) -> Result<f64, Failure> {
        pin(FORWARDER_CORE);
        let link = self.link_test.time_link(self.rate, self.window)?.summary();
        let _forwarder = Forwarder::start(&self.link_test.topology, Work::Vxlan, FORWARDER_CORE)?;
        let forwarded = self.link_test.time(self.rate, self.window)?.summary();
        self.last = format!("last: link alone {link}; with the forwarder {forwarded}");
        // If the link alone was slower, it was disturbed: the figure is negative then.
        Ok(((self.figure)(&forwarded) as f64 - (self.figure)(&link) as f64) / 1000.0)
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
                "{} frames per second, a tenth of what the forwarder carried; generator on core \
                 {GENERATOR_CORE}, forwarder and \
                 sink on core {FORWARDER_CORE}, both asleep until a frame arrives; bounded by the \
                 kernel's wake-ups",
                self.rate
            ),
            "20 frames were sent one at a time first, each after the previous one had arrived"
                .to_owned(),
        ]
    }
}

struct SingleFrame {
    rounds: usize,
    pool: Pool<HeapMemory>,
    template: Template,
    snapshot: Snapshot,
    macs: MacTable,
    neighbors: NeighborReader,
    pipeline: Pipeline,
    queues: TxQueues,
    last: String,
}

impl SingleFrame {
    fn open(effort: Effort) -> Result<Self, Failure> {
        let (underlay_mac, next_hop_mac) = topology::underlay_macs()?;
        let vteps = vec![topology::REMOTE.into()];
        let snapshot = TableSpec {
            underlay_mac,
            next_hop_mac,
            vteps,
            multi_buffer: true,
        }
        .snapshot()?;
        let mut macs = MacTable::new(16);
        let to = Destination::Vtep(VtepId(0));
        macs.insert(DOMAIN, topology::destination()?, to)
            .map_err(Failure::of("MAC table"))?;
        let pool = memory_pools(1, 64, 2048).pop();
        Ok(Self {
            rounds: effort.pick(10_000, 1_000_000),
            pool: pool.ok_or_else(|| Failure::new("no pool for one worker"))?,
            template: Template::new(&topology::shape(MIN_FRAME, Direction::Out)?)?,
            snapshot,
            macs,
            neighbors: NeighborTable::new(1).reader(),
            pipeline: Pipeline::new(WORKER),
            queues: TxQueues::new(2),
            last: String::new(),
        })
    }
}

impl Measure for SingleFrame {
    fn once(&mut self) -> Result<f64, Failure> {
        pin(0);
        let mut histogram = Histogram::default();
        let macs = self.macs.reader();
        let tables = Tables {
            snapshot: &self.snapshot,
            macs: &macs,
            neighbors: &self.neighbors,
        };
        let mut burst = Vec::with_capacity(1);
        for _ in 0..self.rounds {
            let mut frame = self
                .pool
                .alloc()
                .ok_or_else(|| Failure::new("a chunk was lost"))?;
            frame
                .set_extent(HEADROOM, self.template.size(), 2048)
                .map_err(Failure::of("a frame"))?;
            self.template
                .write(self.pool.memory_mut().bytes_mut(&mut frame), 0);
            burst.push(frame);
            let start = now_ns();
            self.pipeline.burst(
                tables,
                start,
                TENANT_DEVICE,
                &mut burst,
                &mut self.pool,
                &mut self.queues,
            );
            histogram.record(now_ns() - start);
            let Some((device, mut queue)) = self.queues.take_busy() else {
                return Err(Failure::new("a single frame was not sent"));
            };
            self.pool.free_bulk(queue.drain(..));
            self.queues.restore(device, queue);
        }
        let [p50, p99] = [50.0, 99.0].map(|percent| histogram.percentile(percent));
        self.last = format!("last: p50 {p50} ns, p99 {p99} ns, two reads of the clock included");
        Ok(p50 as f64)
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
                "{} frames, each sent before the next was received",
                self.rounds
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_frame_is_not_held_for_a_batch() {
        let mut single = SingleFrame::open(Effort::Quick).unwrap();
        assert!(single.once().unwrap() > 0.0);
    }
}
