//! The unicast throughput that a flood to a thousand VTEPs leaves to another port of the same
//! worker.

use std::net::Ipv4Addr;
use std::sync::Arc;

use vtep_dataplane::addr::{DeviceId, MacAddr, PortId, VtepId};
use vtep_dataplane::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool};
use vtep_dataplane::pipeline::flood::COPIES_PER_ITERATION;
use vtep_dataplane::pipeline::tx_queues::TxQueues;
use vtep_dataplane::pipeline::{Pipeline, Tables};
use vtep_dataplane::port::memory::{HeapMemory, memory_pools};
use vtep_dataplane::table::Snapshot;
use vtep_dataplane::table::mac::{Destination, MacTable};
use vtep_dataplane::table::neighbor::{NeighborReader, NeighborTable};
use vtep_dataplane::table::port::Role;

use crate::clock::{now_ns, spent_ns};
use crate::cores::pin;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::tables::{self, DOMAIN, TENANT_DEVICE, TableSpec, UNDERLAY_DEVICE, WORKER};
use crate::testbed::topology::{self, Direction};
use crate::traffic::template::{MIN_FRAME, Shape, Template, VXLAN_OVERHEAD};

/// An iteration makes at most half as many copies of a flood as a port can deliver frames, so that
/// a busy port keeps at least half of its rate even if a copy costs twice as much as a frame.
pub const FAIRNESS: Spec = Spec {
    name: "flood-fairness",
    measures: "unicast frames/s from one port while another floods 1500 B frames to 1,000 VTEPs \
               continuously / without \
               the flood, in memory",
    unit: "x",
    bar: Bar::AtLeast(0.5),
    open: |effort| Ok(Box::new(Fairness::open(effort)?)),
};

const VTEPS: u32 = 1000;
const CHUNKS: usize = 1024;
const CHUNK: usize = 2048;

/// The port whose frames are unicast.
const QUIET: (DeviceId, PortId) = (DeviceId(2), PortId(1));

struct Fairness {
    iterations: usize,
    pool: Pool<HeapMemory>,
    /// Frames of the quiet port.
    unicast: Vec<Frame>,
    flood: Vec<u8>,
    snapshot: Snapshot,
    macs: MacTable,
    neighbors: NeighborReader,
    pipeline: Pipeline,
    queues: TxQueues,
    last: String,
}

impl Fairness {
    fn open(effort: Effort) -> Result<Self, Failure> {
        let (underlay_mac, next_hop_mac) = topology::underlay_macs()?;
        let first = u32::from(Ipv4Addr::new(198, 18, 0, 1));
        let vteps = (first..first + VTEPS)
            .map(|address| Ipv4Addr::from(address).into())
            .collect();
        let mut snapshot = TableSpec {
            underlay_mac,
            next_hop_mac,
            vteps,
            multi_buffer: true,
        }
        .snapshot()?;
        let ports = Arc::make_mut(&mut snapshot.ports);
        ports.devices.push(tables::device(
            QUIET.0,
            "tenant1",
            Role::Access(QUIET.1),
            &[],
            true,
        ));
        ports.ports.push(tables::port(QUIET.1, QUIET.0));
        let mut macs = MacTable::new(16);
        let to = Destination::Vtep(VtepId(0));
        macs.insert(DOMAIN, topology::destination()?, to)
            .map_err(Failure::of("MAC table"))?;
        let pool = memory_pools(1, CHUNKS, CHUNK).pop();
        let mut pool = pool.ok_or_else(|| Failure::new("no pool for one worker"))?;
        let mut template = Template::new(&topology::shape(MIN_FRAME, Direction::Out)?)?;
        let mut unicast = Vec::with_capacity(BURST);
        for _ in 0..BURST {
            let mut frame = pool.alloc().ok_or_else(|| Failure::new("too few chunks"))?;
            frame
                .set_extent(HEADROOM, template.size(), CHUNK)
                .map_err(Failure::of("a frame"))?;
            template.write(pool.memory_mut().bytes_mut(&mut frame), 0);
            unicast.push(frame);
        }
        let shape = Shape {
            destination: MacAddr::BROADCAST,
            ..topology::shape(1500, Direction::Out)?
        };
        let mut flood = vec![0; 1500];
        Template::new(&shape)?.write(&mut flood, 0);
        Ok(Self {
            iterations: effort.pick(2000, 40_000),
            pool,
            unicast,
            flood,
            snapshot,
            macs,
            neighbors: NeighborTable::new(1).reader(),
            pipeline: Pipeline::new(WORKER),
            queues: TxQueues::new(3),
            last: String::new(),
        })
    }

    /// Runs all iterations; returns the CPU time per unicast frame, nanoseconds. With `floods`, a
    /// flood is pending all the time.
    fn run(&mut self, floods: bool) -> Result<f64, Failure> {
        let macs = self.macs.reader();
        let tables = Tables {
            snapshot: &self.snapshot,
            macs: &macs,
            neighbors: &self.neighbors,
        };
        let (start, mut copies) = (spent_ns(), 0);
        let mut flood = Vec::with_capacity(1);
        for iteration in 0..self.iterations {
            let Self {
                pipeline,
                pool,
                queues,
                unicast,
                ..
            } = self;
            // The copies of a frame take about 31 iterations.
            if floods && (iteration + 1) * COPIES_PER_ITERATION > copies {
                copies += VTEPS as usize;
                let mut frame = pool
                    .alloc()
                    .ok_or_else(|| Failure::new("a chunk was lost"))?;
                frame
                    .set_extent(HEADROOM, self.flood.len(), CHUNK)
                    .map_err(Failure::of("a frame"))?;
                pool.memory_mut()
                    .bytes_mut(&mut frame)
                    .copy_from_slice(&self.flood);
                flood.push(frame);
                pipeline.burst(tables, now_ns(), TENANT_DEVICE, &mut flood, pool, queues);
            }
            pipeline.burst(tables, now_ns(), QUIET.0, unicast, pool, queues);
            if let Some((device, mut queue)) = queues.take_busy() {
                for mut frame in queue.drain(..) {
                    frame
                        .trim_front(VXLAN_OVERHEAD as u16)
                        .map_err(Failure::of("restoring a frame"))?;
                    unicast.push(frame);
                }
                queues.restore(device, queue);
            }
            if unicast.len() != BURST {
                return Err(Failure::new(format!(
                    "{} of {BURST} unicast frames were sent",
                    unicast.len()
                )));
            }
            let served = pipeline.replicate(tables, now_ns(), pool, queues);
            if served != if floods { COPIES_PER_ITERATION } else { 0 } {
                return Err(Failure::new(format!("{served} copies in an iteration")));
            }
            while let Some((device, mut queue)) = queues.take_busy() {
                pool.free_bulk(queue.drain(..));
                queues.restore(device, queue);
            }
        }
        let spent = spent_ns() - start;
        self.pipeline.close(&mut self.pool);
        let dropped = tables::device_totals(&self.snapshot, UNDERLAY_DEVICE).dropped();
        if dropped > 0 || self.pool.available() + BURST != CHUNKS {
            return Err(Failure::new(format!(
                "{dropped} drops, {} chunks were freed",
                self.pool.available()
            )));
        }
        Ok(spent as f64 / (self.iterations * BURST) as f64)
    }
}

impl Measure for Fairness {
    fn once(&mut self) -> Result<f64, Failure> {
        pin(0);
        let (alone, during) = (self.run(false)?, self.run(true)?);
        self.last =
            format!("last: {alone:.1} ns per unicast frame alone, {during:.1} ns during the flood");
        Ok(alone / during)
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
                "an iteration: {BURST} unicast frames and {COPIES_PER_ITERATION} copies; CPU time \
                 over {} iterations, no unicast frame lost; bounded \
                 by vtepd",
                self.iterations
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_unicast_frame_is_lost_during_a_flood() {
        let mut fairness = Fairness::open(Effort::Quick).unwrap();
        fairness.iterations = 100;
        assert!(fairness.once().unwrap() > 0.0);
    }
}
