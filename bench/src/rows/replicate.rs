//! Head-end replication in memory: the cost of each further copy of a flooded frame.
//!
//! ```text
//! frame -> Pipeline::burst -> Pipeline::replicate, in iterations -> queues -> chunks are freed
//! ```
//!
//! A copy is allocated, written, queued, counted and freed. The cost of a frame before it is copied
//! (and of making it) is part of the flood to one VTEP too, and is subtracted: (flood to N - flood
//! to 1) / (N - 1).

use std::hint::black_box;
use std::net::Ipv4Addr;

use vtep_dataplane::addr::MacAddr;
use vtep_dataplane::frame::{Frame, FrameMemory, HEADROOM, Pool};
use vtep_dataplane::pipeline::flood::COPIES_PER_ITERATION;
use vtep_dataplane::pipeline::tx_queues::TxQueues;
use vtep_dataplane::pipeline::{Pipeline, Tables};
use vtep_dataplane::port::memory::{HeapMemory, memory_pools};
use vtep_dataplane::table::Snapshot;
use vtep_dataplane::table::mac::{MacReader, MacTable};
use vtep_dataplane::table::neighbor::{NeighborReader, NeighborTable};

use crate::clock::{now_ns, spent_ns};
use crate::cores::pin;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::tables::{self, LOCAL, TENANT_DEVICE, TableSpec, UNDERLAY_DEVICE, VNI, WORKER};
use crate::testbed::topology;
use crate::traffic::check::{Outer, check};
use crate::traffic::template::{Shape, Template};

const fn spec(name: &'static str, measures: &'static str, bar: Bar, open: Open) -> Spec {
    Spec {
        name,
        measures,
        unit: "ns/copy",
        bar,
        open,
    }
}

type Open = fn(Effort) -> Result<Box<dyn Measure>, Failure>;

/// 64 bytes to one VTEP: no copy is made.
pub const ONE_64: Spec = spec(
    "replicate-1-64",
    "flooding one 64 B frame to 1 VTEP: the frame itself, no copy; making the frame is counted too",
    Bar::Report,
    |effort| Ok(Box::new(One(FloodHarness::new(1, 64, true, effort)?))),
);

/// 1500 bytes to one VTEP: no copy is made.
pub const ONE_1500: Spec = spec(
    "replicate-1-1500",
    "flooding one 1500 B frame to 1 VTEP: the frame itself, no copy; making the frame is counted \
     too",
    Bar::Report,
    |effort| Ok(Box::new(One(FloodHarness::new(1, 1500, true, effort)?))),
);

/// 64 bytes to 8 VTEPs.
pub const EIGHT_64: Spec = spec(
    "replicate-8-64",
    "each further copy of one 64 B frame flooded to 8 VTEPs, user space only",
    Bar::AtMost(5.0),
    |effort| Ok(Box::new(Many::new(8, 64, effort)?)),
);

/// 1500 bytes to 8 VTEPs.
pub const EIGHT_1500: Spec = spec(
    "replicate-8-1500",
    "each further copy of one 1500 B frame flooded to 8 VTEPs, header and payload as two buffers, \
     user space only",
    Bar::AtMost(5.0),
    |effort| Ok(Box::new(Many::new(8, 1500, effort)?)),
);

/// 64 bytes to 128 VTEPs.
pub const MANY_64: Spec = spec(
    "replicate-128-64",
    "each further copy of one 64 B frame flooded to 128 VTEPs, user space only",
    Bar::AtMost(5.0),
    |effort| Ok(Box::new(Many::new(128, 64, effort)?)),
);

/// 1500 bytes to 128 VTEPs.
pub const MANY_1500: Spec = spec(
    "replicate-128-1500",
    "each further copy of one 1500 B frame flooded to 128 VTEPs, header and payload as two \
     buffers, user space only",
    Bar::AtMost(5.0),
    |effort| Ok(Box::new(Many::new(128, 1500, effort)?)),
);

/// For a port that supports only one buffer per frame.
pub const COPIED: Spec = Spec {
    name: "replicate-copied",
    measures: "each further copy of one 1500 B frame flooded to 128 VTEPs where the port takes one \
               buffer per frame / \
               memcpy of the frame into the same chunks",
    unit: "x",
    bar: Bar::AtMost(1.1),
    open: |effort| Ok(Box::new(Copied::new(effort)?)),
};

/// Chunks: enough for all copies of a flood.
const CHUNKS: usize = 1024;
const CHUNK: usize = 2048;

/// The address of VTEP number `n`.
fn vtep(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + n as u32)
}

/// The components of a worker, and one frame that is flooded repeatedly.
struct FloodHarness {
    vteps: usize,
    rounds: usize,
    pool: Pool<HeapMemory>,
    template: Template,
    bytes: Vec<u8>,
    snapshot: Snapshot,
    macs: MacReader,
    neighbors: NeighborReader,
    pipeline: Pipeline,
    queues: TxQueues,
    burst: Vec<Frame>,
}

impl FloodHarness {
    fn new(vteps: usize, size: usize, multi_buffer: bool, effort: Effort) -> Result<Self, Failure> {
        let (underlay_mac, next_hop_mac) = topology::underlay_macs()?;
        let addresses = (0..vteps).map(|number| vtep(number).into()).collect();
        let snapshot = TableSpec {
            underlay_mac,
            next_hop_mac,
            vteps: addresses,
            multi_buffer,
        }
        .snapshot()?;
        let shape = Shape {
            destination: MacAddr::BROADCAST,
            ..topology::shape(size, topology::Direction::Out)?
        };
        let template = Template::new(&shape)?;
        let mut bytes = vec![0; size];
        template.clone().write(&mut bytes, 0);
        let pool = memory_pools(1, CHUNKS, CHUNK).pop();
        let mut harness = Self {
            vteps,
            rounds: effort.pick(20_000, 400_000) / vteps.max(8),
            pool: pool.ok_or_else(|| Failure::new("no pool for one worker"))?,
            template,
            bytes,
            snapshot,
            macs: MacTable::new(16).reader(),
            neighbors: NeighborTable::new(1).reader(),
            pipeline: Pipeline::new(WORKER),
            queues: TxQueues::new(2),
            burst: Vec::with_capacity(1),
        };
        harness.check()?;
        Ok(harness)
    }

    /// Floods the frame once. Calls `visit` with each copy. Returns how many were sent.
    #[inline]
    fn flood(
        &mut self,
        mut visit: impl FnMut(&Pool<HeapMemory>, &Frame),
    ) -> Result<usize, Failure> {
        let mut frame = self
            .pool
            .alloc()
            .ok_or_else(|| Failure::new("a chunk was lost"))?;
        frame
            .set_extent(HEADROOM, self.bytes.len(), CHUNK)
            .map_err(Failure::of("a frame"))?;
        self.pool
            .memory_mut()
            .bytes_mut(&mut frame)
            .copy_from_slice(&self.bytes);
        self.burst.push(frame);
        let tables = Tables {
            snapshot: &self.snapshot,
            macs: &self.macs,
            neighbors: &self.neighbors,
        };
        let now = now_ns();
        self.pipeline.burst(
            tables,
            now,
            TENANT_DEVICE,
            &mut self.burst,
            &mut self.pool,
            &mut self.queues,
        );
        let mut left = 0;
        loop {
            let served = self
                .pipeline
                .replicate(tables, now, &mut self.pool, &mut self.queues);
            while let Some((device, mut queue)) = self.queues.take_busy() {
                left += queue.len();
                queue.iter().for_each(|frame| visit(&self.pool, frame));
                self.pool.free_bulk(queue.drain(..));
                self.queues.restore(device, queue);
            }
            if served < COPIES_PER_ITERATION {
                return Ok(left);
            }
        }
    }

    /// CPU time per flood, nanoseconds.
    fn run(&mut self) -> Result<f64, Failure> {
        let (start, mut left) = (spent_ns(), 0);
        for _ in 0..self.rounds {
            left += self.flood(|_, _| ())?;
        }
        let spent = spent_ns() - start;
        if left != self.rounds * self.vteps || self.pool.available() != CHUNKS {
            let (all, chunks) = (self.rounds * self.vteps, self.pool.available());
            return Err(Failure::new(format!(
                "{left} of {all} copies were sent, {chunks} of {CHUNKS} chunks were freed"
            )));
        }
        Ok(spent as f64 / self.rounds as f64)
    }

    /// One flood in which every byte of every copy is checked.
    fn check(&mut self) -> Result<(), Failure> {
        let (template, macs) = (self.template.clone(), topology::underlay_macs()?);
        let (mut wrong, mut number) = (None, 0);
        let left = self.flood(|pool, frame| {
            let mut bytes = vec![0; frame.len()];
            pool.memory().read(frame, &mut bytes);
            let outer = Outer {
                macs,
                addresses: (LOCAL.into(), vtep(number).into()),
                vni: VNI,
            };
            number += 1;
            if let Err(why) = check(&bytes, &template, Some(&outer)) {
                wrong = wrong.take().or(Some(why));
            }
        })?;
        match wrong {
            Some(why) => Err(why),
            None if left != self.vteps => Err(Failure::new(format!(
                "{left} copies for {} VTEPs",
                self.vteps
            ))),
            None => Ok(()),
        }
    }

    /// CPU time to copy the frame into as many chunks as a flood has copies, nanoseconds.
    fn memcpy(&mut self) -> f64 {
        let mut chunks: Vec<_> = (0..self.vteps).filter_map(|_| self.pool.alloc()).collect();
        for frame in &mut chunks {
            // The place of the frame; it fitted there before.
            let _ = frame.set_extent(HEADROOM, self.bytes.len(), CHUNK);
        }
        let start = spent_ns();
        for _ in 0..self.rounds {
            for frame in &mut chunks {
                self.pool
                    .memory_mut()
                    .bytes_mut(frame)
                    .copy_from_slice(black_box(&self.bytes));
            }
        }
        let spent = spent_ns() - start;
        self.pool.free_bulk(chunks.drain(..));
        spent as f64 / self.rounds as f64
    }

    fn notes(&self) -> Vec<String> {
        let dropped = tables::device_totals(&self.snapshot, UNDERLAY_DEVICE).dropped();
        vec![
            format!("CPU time over {} floods of {} bytes; {dropped} drops", self.rounds, self.bytes.len()),
            "every byte of every copy was checked first; freeing the chunks is counted; bounded by \
             vtepd"
                .to_owned(),
        ]
    }
}

const PLAN: Plan = Plan {
    warm_ups: 1,
    repetitions: 7,
};

/// A flood to one VTEP.
struct One(FloodHarness);

impl Measure for One {
    fn once(&mut self) -> Result<f64, Failure> {
        pin(0);
        self.0.run()
    }

    fn plan(&self) -> Plan {
        PLAN
    }

    fn notes(&self) -> Vec<String> {
        self.0.notes()
    }
}

/// A flood to many VTEPs, and one to one VTEP to subtract.
struct Many {
    one: FloodHarness,
    many: FloodHarness,
    last: String,
}

impl Many {
    fn new(vteps: usize, size: usize, effort: Effort) -> Result<Self, Failure> {
        let [one, many] = [1, vteps].map(|vteps| FloodHarness::new(vteps, size, true, effort));
        Ok(Self {
            one: one?,
            many: many?,
            last: String::new(),
        })
    }
}

impl Measure for Many {
    fn once(&mut self) -> Result<f64, Failure> {
        pin(0);
        let (one, many) = (self.one.run()?, self.many.run()?);
        let vteps = self.many.vteps;
        self.last = format!("last: {one:.1} ns to 1 VTEP, {many:.1} ns to {vteps}");
        Ok((many - one) / (vteps - 1) as f64)
    }

    fn plan(&self) -> Plan {
        PLAN
    }

    fn notes(&self) -> Vec<String> {
        [vec![self.last.clone()], self.many.notes()].concat()
    }
}

/// A port without multi-buffer, compared with memcpy.
struct Copied {
    one: FloodHarness,
    many: FloodHarness,
    last: String,
}

impl Copied {
    fn new(effort: Effort) -> Result<Self, Failure> {
        let [one, many] = [1, 128].map(|vteps| FloodHarness::new(vteps, 1500, false, effort));
        Ok(Self {
            one: one?,
            many: many?,
            last: String::new(),
        })
    }
}

impl Measure for Copied {
    fn once(&mut self) -> Result<f64, Failure> {
        pin(0);
        let vteps = self.many.vteps as f64;
        let (one, many, memcpy) = (
            self.one.run()?,
            self.many.run()?,
            self.many.memcpy() / vteps,
        );
        let copy = (many - one) / (vteps - 1.0);
        self.last = format!("last: {copy:.1} ns per copy, {memcpy:.1} ns per memcpy");
        Ok(copy / memcpy)
    }

    fn plan(&self) -> Plan {
        PLAN
    }

    fn notes(&self) -> Vec<String> {
        [vec![self.last.clone()], self.many.notes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_reaches_every_vtep_whether_copied_or_shared() {
        for (vteps, size, multi_buffer) in [
            (1, 64, true),
            (8, 1500, true),
            (128, 1500, false),
            (300, 700, true),
        ] {
            let mut harness = FloodHarness::new(vteps, size, multi_buffer, Effort::Quick).unwrap();
            harness.rounds = 3;
            harness.run().unwrap();
        }
    }
}
