//! A worker forwards a million frames without an allocation: known unicast, floods, superframes and
//! dropped frames, in both directions. A single test in a separate program: the allocator counts for all
//! threads.

use std::alloc::System;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::channel::{bounded, unbounded};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vtep_bench::tables::{
    DOMAIN, LOCAL, PORT, TENANT_DEVICE, TableSpec, UDP_PORT, UNDERLAY_DEVICE, WORKER,
};
use vtep_bench::testbed::topology::{self, REMOTE};
use vtep_bench::traffic::template::{Shape, Template, Tunnel};
use vtep_dataplane::addr::{MacAddr, VtepId};
use vtep_dataplane::event::EventQueue;
use vtep_dataplane::frame::assembly::ChainBuilder;
use vtep_dataplane::frame::offload::{ChecksumState, Offload, SegmentKind, Segmentation};
use vtep_dataplane::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool};
use vtep_dataplane::port::Port;
use vtep_dataplane::port::memory::{HeapMemory, memory_pools};
use vtep_dataplane::table::Snapshot;
use vtep_dataplane::table::mac::{Destination, MacTable};
use vtep_dataplane::table::neighbor::NeighborTable;
use vtep_dataplane::table::publish::Publisher;
use vtep_dataplane::worker::handoff::Handoff;
use vtep_dataplane::worker::{Command, Worker, WorkerConfig};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Frames that the two devices deliver in total.
const FRAMES: u64 = 1_000_000;
const CHUNKS: usize = 8192;
const CHUNK: usize = 2048;

/// The longest frame that is not a superframe, bytes.
const LONGEST: usize = 1600;

/// UDP, seven datagrams in 9000 bytes.
const SUPERFRAME: Offload = Offload {
    segmentation: Some(Segmentation {
        kind: SegmentKind::Udp,
        size: 1400,
        ecn: false,
    }),
    checksum: ChecksumState::Unknown,
    vlan_tci: None,
};

/// A device that always delivers a burst of `templates`, in rotation, and accepts everything that
/// is sent.
struct LoopPort {
    templates: Vec<Vec<u8>>,
    next: usize,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Port<HeapMemory> for LoopPort {
    fn receive(&mut self, pool: &mut Pool<HeapMemory>, burst: &mut Vec<Frame>) -> usize {
        for _ in 0..BURST {
            let bytes = &self.templates[self.next % self.templates.len()];
            self.next += 1;
            let mut whole: Option<ChainBuilder> = None;
            for bytes in bytes.chunks(CHUNK - usize::from(HEADROOM)) {
                let mut chunk = pool.alloc().expect("chunks are freed in each iteration");
                chunk.set_extent(HEADROOM, bytes.len(), CHUNK).unwrap();
                pool.memory_mut()
                    .bytes_mut(&mut chunk)
                    .copy_from_slice(bytes);
                match &mut whole {
                    None => whole = Some(ChainBuilder::new(chunk)),
                    Some(whole) => whole.push(pool.memory().buffers(), chunk).unwrap(),
                }
            }
            let mut frame = whole.expect("no template is empty").finish();
            if bytes.len() > LONGEST {
                pool.memory().buffers().set_offload(&mut frame, SUPERFRAME);
            }
            burst.push(frame);
        }
        self.received.fetch_add(BURST as u64, Relaxed);
        BURST
    }

    fn send(&mut self, pool: &mut Pool<HeapMemory>, frames: &mut Vec<Frame>) -> usize {
        let count = frames.len();
        frames.drain(..).for_each(|frame| pool.free(frame));
        self.sent.fetch_add(count as u64, Relaxed);
        count
    }

    fn wake(&mut self, _pool: &mut Pool<HeapMemory>) -> Result<(), i32> {
        Ok(())
    }

    fn close(self, _pool: &mut Pool<HeapMemory>) {}
}

fn frame(shape: &Shape) -> Vec<u8> {
    let mut template = Template::new(shape).unwrap();
    let mut bytes = vec![0; template.size()];
    template.write(&mut bytes, 0);
    bytes
}

/// Seven known frames and one of each other kind.
fn templates(direction: topology::Direction) -> Vec<Vec<u8>> {
    let shape = |size, destination| Shape {
        destination,
        ..topology::shape(size, direction).unwrap()
    };
    let known = topology::shape(60, direction).unwrap().destination;
    let unknown = MacAddr([0x02, 0xee, 0, 0, 0, 1]);
    let mut all = vec![frame(&shape(60, known)); 7];
    all.extend(
        [
            (60, MacAddr::BROADCAST),
            (1500, MacAddr::BROADCAST),
            (1500, known),
            (60, unknown),
        ]
        .map(|(size, to)| frame(&shape(size, to))),
    );
    // From an unknown VTEP, or with an unknown source MAC.
    let mut wrong = frame(&match shape(60, known) {
        Shape {
            tunnel: Some(tunnel),
            ..
        } => {
            let tunnel = Some(Tunnel {
                source: Ipv4Addr::new(192, 0, 2, 250).into(),
                ..tunnel
            });
            Shape {
                tunnel,
                ..shape(60, known)
            }
        }
        shape => shape,
    });
    if direction == topology::Direction::Out {
        wrong[6] |= 1;
        // To a VTEP, and to all of them.
        all.extend([known, MacAddr::BROADCAST].map(|to| frame(&shape(9000, to))));
    }
    all.push(wrong);
    all
}

/// Tables with eight remote VTEPs.
fn snapshot() -> Snapshot {
    let (underlay_mac, next_hop_mac) = topology::underlay_macs().unwrap();
    let vteps = [REMOTE]
        .into_iter()
        .chain((1..8).map(|n| Ipv4Addr::new(192, 0, 2, 100 + n)))
        .map(IpAddr::V4)
        .collect();
    let spec = TableSpec {
        underlay_mac,
        next_hop_mac,
        vteps,
        multi_buffer: true,
    };
    spec.snapshot().unwrap()
}

/// The known MACs of both directions.
fn macs() -> MacTable {
    let mut macs = MacTable::new(1024);
    let entries = [
        (
            topology::destination().unwrap(),
            Destination::Vtep(VtepId(0)),
        ),
        (topology::source().unwrap(), Destination::Port(PORT)),
    ];
    for (mac, destination) in entries {
        macs.insert(DOMAIN, mac, destination).unwrap();
    }
    macs
}

#[test]
fn a_million_frames_without_an_allocation() {
    let tables = Publisher::new(snapshot());
    let macs = macs();
    let handoff = Arc::new(Handoff::new(1, CHUNKS as u32).unwrap());
    let (commands, received_commands) = bounded(8);
    let (reply, _replies) = unbounded();
    let mut worker = Worker::new(WorkerConfig {
        id: WORKER,
        pool: memory_pools(1, CHUNKS, CHUNK).remove(0),
        snapshots: tables.reader(),
        macs: macs.reader(),
        neighbors: NeighborTable::new(1).reader(),
        handoff,
        events: EventQueue::new(16).unwrap(),
        commands: received_commands,
        replies: reply,
        status: Arc::default(),
        busy_poll: false,
    })
    .unwrap();
    assert_eq!(
        (LOCAL.octets()[0], UDP_PORT),
        (192, 4789),
        "the addresses of the templates"
    );
    let (received, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for (device, direction) in [
        (TENANT_DEVICE, topology::Direction::Out),
        (UNDERLAY_DEVICE, topology::Direction::In),
    ] {
        let (received, sent) = (Arc::clone(&received), Arc::clone(&sent));
        let port = LoopPort {
            templates: templates(direction),
            next: 0,
            received,
            sent,
        };
        commands
            .send(Command::Attach {
                device,
                queue: 0,
                port,
            })
            .unwrap();
    }
    // The first iterations handle the commands, and fill buffers that are retained.
    for iteration in 0..100 {
        worker.poll_once(iteration * 1_000_000);
    }
    let (before_received, before_sent) = (received.load(Relaxed), sent.load(Relaxed));
    let region = Region::new(COUNTING);
    let mut iteration = 100;
    while received.load(Relaxed) - before_received < FRAMES {
        worker.poll_once(iteration * 1_000_000);
        iteration += 1;
    }
    let counted = region.change();
    let sent = sent.load(Relaxed) - before_sent;
    assert_eq!(
        (counted.allocations, counted.reallocations),
        (0, 0),
        "{counted:?}"
    );
    // 9 of 12 are unicast; floods have many more copies, up to the limit of an iteration.
    assert!(sent > FRAMES * 9 / 12, "{sent} frames were sent");
}
