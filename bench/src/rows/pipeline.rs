//! The pipeline in memory: encapsulation and decapsulation, with all caches warm and with all of
//! them cold.
//!
//! ```text
//! frames -> Pipeline::burst -> queues -> the harness restores the frames
//! ```
//!
//! Restoring a frame is two additions per frame and is counted with the rest. One read of the clock
//! per burst is counted as well, since the daemon does it.

use std::net::IpAddr;

use vtep_dataplane::addr::{DeviceId, HostMac, MacAddr, VtepId, WorkerId};
use vtep_dataplane::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool};
use vtep_dataplane::pipeline::tx_queues::TxQueues;
use vtep_dataplane::pipeline::{Pipeline, Tables};
use vtep_dataplane::port::memory::{HeapMemory, memory_pools};
use vtep_dataplane::table::Snapshot;
use vtep_dataplane::table::mac::{Destination, MacReader, MacTable};
use vtep_dataplane::table::neighbor::{NeighborReader, NeighborTable};

use super::random::Random;
use crate::clock::{core_ghz, now_ns, spent_ns};
use crate::cores::pin;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::tables::{
    self, DOMAIN, LOCAL, LOCAL6, PORT, TENANT_DEVICE, TableSpec, UDP_PORT, UNDERLAY_DEVICE, VNI,
    WORKER,
};
use crate::testbed::topology::{self, REMOTE, REMOTE6};
use crate::traffic::check::{Outer, check};
use crate::traffic::template::{MIN_FRAME, Shape, Template, Tunnel};

/// The operation of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Encap,
    Decap,
}

/// The working set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caches {
    /// One burst of frames, one MAC; all in L1/L2.
    Hot,
    /// More frames than the last-level cache holds, a million MACs.
    Cold,
    /// As many frames as [`Caches::Cold`], and this many MACs.
    Table(u32),
}

/// The frames and their underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Length of the inner frames, bytes.
    pub size: usize,
    /// The inner UDP checksums are complete; else zero.
    pub checksums: bool,
    /// The underlay is IPv6.
    pub v6: bool,
}

impl Traffic {
    /// The shortest frames, without checksums, over IPv4.
    pub const SHORTEST: Self = Self {
        size: MIN_FRAME,
        checksums: false,
        v6: false,
    };

    /// The VTEP under test, and the remote one.
    fn vteps(self) -> (IpAddr, IpAddr) {
        match self.v6 {
            true => (LOCAL6.into(), REMOTE6.into()),
            false => (LOCAL.into(), REMOTE.into()),
        }
    }
}

/// Encapsulation, warm.
pub const ENCAP_HOT: Spec = Spec {
    name: "encap-hot",
    measures: "known-unicast encapsulation, 60 B frames, all in L1/L2, no I/O",
    unit: "cycles/packet",
    bar: Bar::AtMost(45.0),
    open: |effort| {
        Ok(Box::new(PipelineHarness::open(
            Operation::Encap,
            Caches::Hot,
            effort,
        )?))
    },
};

/// Encapsulation, cold.
pub const ENCAP_COLD: Spec = Spec {
    name: "encap-cold",
    measures: "the same over 65,536 frames in 128 MiB, 1 M MACs, scattered destinations",
    unit: "ns/packet",
    bar: Bar::AtMost(30.0),
    open: |effort| {
        Ok(Box::new(PipelineHarness::open(
            Operation::Encap,
            Caches::Cold,
            effort,
        )?))
    },
};

/// Decapsulation, warm.
pub const DECAP_HOT: Spec = Spec {
    name: "decap-hot",
    measures: "outer header checks, source VTEP, VNI, inner lookup, strip; 60 B inner frames, all \
               in L1/L2",
    unit: "cycles/packet",
    bar: Bar::AtMost(45.0),
    open: |effort| {
        Ok(Box::new(PipelineHarness::open(
            Operation::Decap,
            Caches::Hot,
            effort,
        )?))
    },
};

/// Decapsulation, cold.
pub const DECAP_COLD: Spec = Spec {
    name: "decap-cold",
    measures: "the same over 65,536 frames in 128 MiB, 1 M MACs, scattered destinations",
    unit: "ns/packet",
    bar: Bar::AtMost(25.0),
    open: |effort| {
        Ok(Box::new(PipelineHarness::open(
            Operation::Decap,
            Caches::Cold,
            effort,
        )?))
    },
};

/// Chunk size, bytes: the daemon's default.
const CHUNK: usize = 2048;

/// The first of the MACs that frames go to.
const FIRST: MacAddr = MacAddr([0x02, 0x10, 0, 0, 0, 0]);

pub(super) struct PipelineHarness {
    operation: Operation,
    caches: Caches,
    rounds: usize,
    pool: Pool<HeapMemory>,
    bursts: Vec<Vec<Frame>>,
    template: Template,
    traffic: Traffic,
    /// Bytes of the outer headers.
    overhead: u16,
    snapshot: Snapshot,
    macs: MacReader,
    neighbors: NeighborReader,
    pipeline: Pipeline,
    queues: TxQueues,
    ghz: f64,
}

fn template(operation: Operation, macs: u32, traffic: Traffic) -> Result<Template, Failure> {
    let (underlay, remote) = topology::underlay_macs()?;
    let (local, far) = traffic.vteps();
    let tunnel = Tunnel {
        source_mac: remote,
        destination_mac: underlay,
        source: far,
        destination: local,
        udp_port: UDP_PORT,
        vni: topology::vni()?,
    };
    let template = Template::new(&Shape {
        destination: FIRST,
        destinations: macs,
        tunnel: (operation == Operation::Decap).then_some(tunnel),
        ..topology::shape(traffic.size, topology::Direction::Out)?
    })?;
    Ok(if traffic.checksums {
        template.with_checksums()
    } else {
        template
    })
}

fn table(operation: Operation, macs: u32) -> Result<MacTable, Failure> {
    let mut table = MacTable::new(2 * macs as usize);
    let to = match operation {
        Operation::Encap => Destination::Vtep(VtepId(0)),
        Operation::Decap => Destination::Port(PORT),
    };
    for host in 0..u64::from(macs) {
        let mac =
            HostMac::new(MacAddr::from_bits(FIRST.to_bits() + host)).map_err(Failure::of("MAC"))?;
        table
            .insert(DOMAIN, mac, to)
            .map_err(Failure::of("filling the MAC table"))?;
    }
    Ok(table)
}

/// The tables that all workers share.
pub(super) struct Shared {
    operation: Operation,
    caches: Caches,
    traffic: Traffic,
    macs: u32,
    snapshot: Snapshot,
    reader: MacReader,
}

impl Shared {
    pub(super) fn new(
        operation: Operation,
        caches: Caches,
        effort: Effort,
    ) -> Result<Self, Failure> {
        Self::of(operation, caches, Traffic::SHORTEST, effort)
    }

    fn of(
        operation: Operation,
        caches: Caches,
        traffic: Traffic,
        effort: Effort,
    ) -> Result<Self, Failure> {
        let macs = match caches {
            Caches::Hot => 1,
            Caches::Cold => effort.pick(100_000, 1_000_000),
            Caches::Table(macs) => macs,
        };
        let (underlay_mac, next_hop_mac) = topology::underlay_macs()?;
        let snapshot = TableSpec {
            underlay_mac,
            next_hop_mac,
            vteps: vec![traffic.vteps().1],
            multi_buffer: true,
        }
        .snapshot()?;
        Ok(Self {
            operation,
            caches,
            traffic,
            macs,
            snapshot,
            reader: table(operation, macs)?.reader(),
        })
    }
}

impl PipelineHarness {
    pub(super) fn open(
        operation: Operation,
        caches: Caches,
        effort: Effort,
    ) -> Result<Self, Failure> {
        Self::of_worker(WORKER, &Shared::new(operation, caches, effort)?, effort)
    }

    /// With other frames than the shortest, all in L1/L2.
    pub(super) fn of_traffic(
        operation: Operation,
        traffic: Traffic,
        effort: Effort,
    ) -> Result<Self, Failure> {
        let shared = Shared::of(operation, Caches::Hot, traffic, effort)?;
        Self::of_worker(WORKER, &shared, effort)
    }

    /// The harness of one of several workers, which have separate frames and share the tables.
    pub(super) fn of_worker(
        worker: WorkerId,
        shared: &Shared,
        effort: Effort,
    ) -> Result<Self, Failure> {
        let Shared {
            operation,
            caches,
            traffic,
            macs,
            ..
        } = *shared;
        let (count, rounds) = match caches {
            Caches::Hot => (BURST, effort.pick(20_000, 200_000)),
            Caches::Cold | Caches::Table(_) => (65_536, effort.pick(4, 40)),
        };
        let mut template = self::template(operation, macs, traffic)?;
        let overhead = self::template(Operation::Decap, macs, traffic)?.overhead();
        let pool = memory_pools(1, count, CHUNK).pop();
        let mut pool = pool.ok_or_else(|| Failure::new("no pool for one worker"))?;
        let mut frames = Vec::with_capacity(count);
        while let Some(mut frame) = pool.alloc() {
            frame
                .set_extent(HEADROOM, template.size(), CHUNK)
                .map_err(Failure::of("a frame"))?;
            template.write(pool.memory_mut().bytes_mut(&mut frame), 0);
            frames.push(frame);
        }
        Random(3).shuffle(&mut frames);
        let mut bursts = Vec::with_capacity(count / BURST);
        while !frames.is_empty() {
            bursts.push(frames.split_off(frames.len() - BURST));
        }
        let mut harness = Self {
            operation,
            caches,
            rounds,
            pool,
            bursts,
            template,
            traffic,
            overhead: overhead as u16,
            snapshot: shared.snapshot.clone(),
            macs: shared.reader.clone(),
            neighbors: NeighborTable::new(1).reader(),
            pipeline: Pipeline::new(worker),
            queues: TxQueues::new(2),
            ghz: 0.0,
        };
        harness.check()?;
        Ok(harness)
    }

    /// Frames in one pass.
    fn packets(&self) -> usize {
        self.bursts.len() * BURST
    }

    /// The ingress and the egress device.
    const fn devices(&self) -> (DeviceId, DeviceId) {
        match self.operation {
            Operation::Encap => (TENANT_DEVICE, UNDERLAY_DEVICE),
            Operation::Decap => (UNDERLAY_DEVICE, TENANT_DEVICE),
        }
    }

    /// One pass over all bursts. Calls `visit` with each frame as it was sent, before it is
    /// restored.
    #[inline]
    fn pass(&mut self, mut visit: impl FnMut(&Pool<HeapMemory>, &Frame)) -> Result<(), Failure> {
        let from = self.devices().0;
        for burst in &mut self.bursts {
            self.macs.refresh();
            let tables = Tables {
                snapshot: &self.snapshot,
                macs: &self.macs,
                neighbors: &self.neighbors,
            };
            self.pipeline.burst(
                tables,
                now_ns(),
                from,
                burst,
                &mut self.pool,
                &mut self.queues,
            );
            let Some((device, mut queue)) = self.queues.take_busy() else {
                return Err(Failure::new("no frame of a burst was sent"));
            };
            for mut frame in queue.drain(..) {
                visit(&self.pool, &frame);
                let restored = match self.operation {
                    Operation::Encap => frame.trim_front(self.overhead),
                    Operation::Decap => frame.prepend(self.overhead),
                };
                restored.map_err(Failure::of("restoring a frame"))?;
                burst.push(frame);
            }
            self.queues.restore(device, queue);
        }
        Ok(())
    }

    /// All passes of one repetition; returns the CPU time per packet, nanoseconds.
    pub(super) fn run(&mut self) -> Result<f64, Failure> {
        let start = spent_ns();
        for _ in 0..self.rounds {
            self.pass(|_, _| ())?;
        }
        Ok((spent_ns() - start) as f64 / (self.rounds * self.packets()) as f64)
    }

    /// One pass in which every byte of every sent frame is checked.
    fn check(&mut self) -> Result<(), Failure> {
        let template = self.template.clone();
        let outer = Outer {
            macs: topology::underlay_macs()?,
            addresses: self.traffic.vteps(),
            vni: VNI,
        };
        let outer = (self.operation == Operation::Encap).then_some(outer);
        let mut wrong = None;
        self.pass(|pool, frame| {
            if let Err(why) = check(pool.memory().bytes(frame), &template, outer.as_ref()) {
                wrong = wrong.take().or(Some(why));
            }
        })?;
        wrong.map_or(Ok(()), Err)
    }
}

impl Measure for PipelineHarness {
    fn once(&mut self) -> Result<f64, Failure> {
        pin(0);
        let before = tables::device_totals(&self.snapshot, self.devices().1);
        let ghz = core_ghz();
        let ns = self.run()?;
        let ghz = ghz
            .zip(core_ghz())
            .map(|(one, other)| f64::midpoint(one, other));
        let packets = (self.rounds * self.packets()) as u64;
        let sent =
            tables::device_totals(&self.snapshot, self.devices().1).tx_frames - before.tx_frames;
        if sent != packets {
            return Err(Failure::new(format!(
                "{sent} of {packets} frames were counted as sent"
            )));
        }
        self.ghz = ghz.unwrap_or(f64::NAN);
        Ok(if self.caches == Caches::Hot {
            ns * self.ghz
        } else {
            ns
        })
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 7,
        }
    }

    fn notes(&self) -> Vec<String> {
        vec![
            format!(
                "CPU time over {} packets; core clock {:.2} GHz by a chain of multiplications \
                 around each run",
                self.rounds * self.packets(),
                self.ghz
            ),
            format!(
                "every byte of {} frames was checked first; bounded by vtepd",
                self.packets()
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_forward_every_frame_repeatedly() {
        for operation in [Operation::Encap, Operation::Decap] {
            let mut harness = PipelineHarness::open(operation, Caches::Hot, Effort::Quick).unwrap();
            harness.rounds = 3;
            assert!(harness.once().is_ok());
            harness.check().unwrap();
        }
    }
}
