//! Workers over memory ports: a turn at a time, on one thread, with every chunk counted.

use super::*;
use crate::addr::{DomainId, MacAddr, NextHopId, PortId, Vni};
use crate::port::memory::{HeapMemory, MemoryPort, memory_pools};
use crate::stats::Counters;
use crate::table::flood::{FloodList, VtepSet};
use crate::table::mac::MacTable;
use crate::table::neighbor::NeighborTable;
use crate::table::nexthop::{HeaderFields, NextHop, NextHopTable, OuterHeader, Path};
use crate::table::port::{ChecksumMode, Device, PortEntry, PortTable, Role};
use crate::table::publish::Publisher;
use crate::table::vni::{Domain, VniTable};
use crate::table::{Dscp, Settings};
use crossbeam::channel;

const FRAMES: usize = 64;

/// Two workers, two access ports of one VNI: device 0 belongs to worker 0, device 1 to worker 1.
struct Lab {
    workers: Vec<Worker<HeapMemory, MemoryPort>>,
    commands: Vec<Sender<Command<MemoryPort>>>,
    replies: Receiver<Reply>,
    events: Events,
    device_counters: Vec<Arc<Counters>>,
    publisher: Publisher<Snapshot>,
    _macs: MacTable,
}

fn device(id: u16, counters: &Arc<Counters>) -> Option<Arc<Device>> {
    Some(Arc::new(Device {
        id: DeviceId(id),
        name: format!("tenant{id}"),
        role: Role::Access(PortId(id)),
        software: true,
        multi_buffer: true,
        sender: Box::new([WorkerId(id), WorkerId(id)]),
        counters: counters.clone(),
    }))
}

fn port(id: u16) -> Option<Arc<PortEntry>> {
    Some(Arc::new(PortEntry {
        id: PortId(id),
        device: DeviceId(id),
        vlan: None,
        domain: DomainId(0),
        lock: None,
        ips: Box::new([]),
        learn: None,
        checksum: ChecksumMode::Auto,
        storm: None,
        max_frame: 1514,
        counters: Arc::new(Counters::new(2)),
    }))
}

fn snapshot(device_counters: &[Arc<Counters>]) -> Snapshot {
    let domain = Domain {
        id: DomainId(0),
        vni: Vni::new(100).unwrap(),
        flood: FloodList::new([], [PortId(0), PortId(1)]),
        group: None,
        sources: VtepSet::default(),
        pass_tags: false,
        suppress: false,
        miss_events: false,
        counters: Arc::new(Counters::new(2)),
    };
    Snapshot {
        settings: Settings {
            local_v4: Some([192, 0, 2, 1].into()),
            local_v6: None,
            udp_port: 4789,
            dscp: Dscp::Inherit,
            strict_reserved: false,
            udp6_zero_rx: false,
            udp6_zero_tx: false,
        },
        vnis: Arc::new(VniTable::new([Arc::new(domain)])),
        next_hops: Arc::default(),
        ports: Arc::new(PortTable {
            devices: (0..2).map(|id| device(id, &device_counters[usize::from(id)])).collect(),
            ports: vec![port(0), port(1)],
        }),
    }
}

fn lab() -> Lab {
    let device_counters: Vec<_> = (0..2).map(|_| Arc::new(Counters::new(2))).collect();
    let publisher = Publisher::new(snapshot(&device_counters));
    let macs = MacTable::new(16);
    let neighbors = NeighborTable::new(16);
    let exchange = Arc::new(Exchange::new(2, FRAMES as u32).unwrap());
    let events = Events::new(16).unwrap();
    let (reply_to, replies) = channel::unbounded();
    let (mut workers, mut commands) = (Vec::new(), Vec::new());
    for (id, pool) in (0..).map(WorkerId).zip(memory_pools(2, FRAMES, 2048)) {
        let (command, received) = channel::bounded(16);
        let worker = Worker::new(Parts {
            id,
            pool,
            snapshots: publisher.reader(),
            macs: macs.reader(),
            neighbors: neighbors.reader(),
            exchange: exchange.clone(),
            events: events.clone(),
            commands: received,
            replies: reply_to.clone(),
            status: Arc::default(),
            busy_poll: false,
        });
        workers.push(worker.unwrap());
        commands.push(command);
    }
    Lab { workers, commands, replies, events, device_counters, publisher, _macs: macs }
}

impl Lab {
    /// Gives device `n` to worker `n`, with frames already waiting in it.
    fn attach(&mut self, n: u16, frames: usize) {
        let mut port = MemoryPort::new();
        for _ in 0..frames {
            port.inject(&broadcast());
        }
        let command = Command::Attach { device: DeviceId(n), queue: 0, port };
        self.commands[usize::from(n)].send(command).unwrap();
    }

    fn turns(&mut self, rounds: u64) {
        for now in 0..rounds {
            for worker in &mut self.workers {
                worker.turn(now);
            }
        }
    }

    fn sent(&mut self, n: usize) -> usize {
        self.workers[n].slots.iter_mut().map(|slot| slot.port.take_sent().len()).sum()
    }

    fn free(&self) -> usize {
        self.workers.iter().map(|worker| worker.parts.pool.available()).sum()
    }

    fn drops(&self, device: usize, reason: Reason) -> u64 {
        self.device_counters[device].totals().drops[reason as usize]
    }
}

/// A flood of long frames to 128 VTEPs behind device 2, which worker 1 has, from device 0, which worker 0 has.
impl Lab {
    fn flooding(frames: usize, room: usize) -> Self {
        let mut lab = lab();
        lab.device_counters.push(Arc::new(Counters::new(2)));
        let mut next = Snapshot::clone(lab.publisher.current());
        let mut hops = NextHopTable::default();
        for id in 0..128 {
            hops.set(NextHopId(id), Some(Arc::new(hop(id))));
        }
        let ports = Arc::make_mut(&mut next.ports);
        let mut underlay = Arc::into_inner(device(2, &lab.device_counters[2]).unwrap()).unwrap();
        (underlay.role, underlay.sender) = (Role::Underlay, Box::new([WorkerId(1); 2]));
        ports.devices.push(Some(Arc::new(underlay)));
        let mut domain = Domain::clone(next.vnis.by_vni(100).unwrap());
        domain.flood = FloodList::new((0..128).map(NextHopId), [PortId(0), PortId(1)]);
        next.vnis = Arc::new(VniTable::new([Arc::new(domain)]));
        next.next_hops = Arc::new(hops);
        lab.publisher.publish(next);
        let mut tenant = MemoryPort::new();
        for _ in 0..frames {
            tenant.inject(&[broadcast(), vec![0; 600]].concat());
        }
        let mut full = MemoryPort::new();
        full.set_room(room);
        let attach = |device, port| Command::Attach { device: DeviceId(device), queue: 0, port };
        lab.commands[0].send(attach(0, tenant)).unwrap();
        lab.commands[1].send(attach(2, full)).unwrap();
        lab
    }

    /// Whether all chunks are at home.
    fn is_whole(&self) -> bool {
        self.workers.iter().all(|worker| worker.parts.pool.available() == FRAMES)
    }
}

fn hop(id: u32) -> NextHop {
    let header = OuterHeader::new(&HeaderFields {
        source_mac: MacAddr([2, 1, 1, 1, 1, 1]),
        next_hop_mac: MacAddr([2, 2, 2, 2, 2, 2]),
        vlan: None,
        source: "192.0.2.1".parse().unwrap(),
        destination: format!("198.18.0.{}", id + 1).parse().unwrap(),
        ttl: 64,
        df: true,
        udp_port: 4789,
    });
    let path = Path { device: DeviceId(2), header: header.unwrap(), max_frame: 1514 };
    let vtep = format!("198.18.0.{}", id + 1).parse().unwrap();
    NextHop { vtep, paths: Box::new([path]), counters: Arc::new(Counters::new(2)) }
}

#[test]
fn a_flood_over_another_workers_port_reaches_all_and_every_chunk_comes_home() {
    let mut lab = Lab::flooding(3, usize::MAX);
    lab.turns(30);
    let underlay = lab.workers[1].slots.iter_mut().find(|slot| slot.device == DeviceId(2)).unwrap();
    let sent = underlay.port.take_sent();
    let lost = lab.drops(0, Reason::NoFrame) as usize;
    assert_eq!(sent.len() + lost, 3 * 128);
    assert!(sent.len() > 128 && sent.iter().all(|packet| packet.len() == 660 + 50), "{}", sent.len());
    assert!(lab.is_whole());
}

#[test]
fn every_chunk_comes_home_from_a_flood_that_meets_full_rings_and_closed_ports() {
    for turns in 0..12 {
        for room in [0, 1, 7, 100, 400] {
            let mut lab = Lab::flooding(5, room);
            lab.turns(turns);
            // The underlay goes down in the middle, and comes back with frames still waiting.
            lab.commands[1].send(Command::Detach { device: DeviceId(2) }).unwrap();
            lab.turns(2);
            let port = MemoryPort::new();
            lab.commands[1].send(Command::Attach { device: DeviceId(2), queue: 0, port }).unwrap();
            lab.turns(2);
            if turns % 2 == 0 {
                // The worker ends with frames that wait to be flooded.
                lab.workers[0].close_all();
            }
            lab.turns(40);
            assert!(lab.is_whole(), "{turns} turns, room for {room}");
        }
    }
}

fn broadcast() -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&MacAddr::BROADCAST.0);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

#[test]
fn a_frame_for_another_workers_port_is_handed_over_and_its_chunk_comes_home() {
    let mut lab = lab();
    lab.attach(0, 10);
    lab.attach(1, 0);
    lab.turns(4);
    assert_eq!(lab.sent(1), 10);
    assert_eq!(lab.sent(0), 0);
    lab.turns(2);
    assert_eq!(lab.free(), 2 * FRAMES);
    assert_eq!(lab.workers[0].parts.pool.available(), FRAMES, "each chunk is at home");
}

#[test]
fn frames_for_a_port_without_a_socket_are_counted_and_freed() {
    let mut lab = lab();
    lab.attach(0, 10);
    lab.turns(4);
    assert_eq!(lab.drops(1, Reason::PortDown), 10);
    lab.turns(2);
    assert_eq!(lab.free(), 2 * FRAMES);
}

#[test]
fn a_full_transmit_queue_is_counted_and_leaks_nothing() {
    let mut lab = lab();
    lab.attach(0, 10);
    let mut full = MemoryPort::new();
    full.set_room(3);
    lab.commands[1].send(Command::Attach { device: DeviceId(1), queue: 0, port: full }).unwrap();
    lab.turns(1);
    let dropped = lab.drops(1, Reason::TxFull);
    lab.turns(3);
    assert_eq!(lab.sent(1) as u64 + lab.drops(1, Reason::TxFull), 10);
    assert!(dropped + lab.drops(1, Reason::TxFull) > 0);
    lab.turns(2);
    assert_eq!(lab.free(), 2 * FRAMES);
}

#[test]
fn a_detached_device_gives_everything_back_and_is_answered_for() {
    let mut lab = lab();
    lab.attach(0, 5);
    lab.attach(1, 0);
    lab.turns(1);
    lab.commands[1].send(Command::Detach { device: DeviceId(1) }).unwrap();
    lab.commands[0].send(Command::Detach { device: DeviceId(1) }).unwrap();
    lab.turns(3);
    let answers: Vec<_> = lab.replies.try_iter().collect();
    assert_eq!(answers.len(), 2);
    assert!(answers.contains(&Reply::Detached { worker: WorkerId(1), device: DeviceId(1) }));
    assert!(lab.workers[1].slots.is_empty());
    lab.turns(2);
    assert_eq!(lab.free(), 2 * FRAMES);
}

#[test]
fn a_lasting_error_is_reported_once_and_again_after_it_went() {
    let mut lab = lab();
    lab.attach(0, 0);
    lab.turns(1);
    let error = |lab: &mut Lab, errno| lab.workers[0].slots[0].port.set_error(errno);
    error(&mut lab, Some(100));
    lab.turns(5);
    error(&mut lab, None);
    lab.turns(1);
    error(&mut lab, Some(100));
    lab.turns(5);
    let reported: Vec<_> = std::iter::from_fn(|| lab.events.next()).collect();
    let expected = Event::SocketFailed { worker: WorkerId(0), device: DeviceId(0), queue: 0, errno: 100 };
    assert_eq!(reported, [expected; 2]);
}

#[test]
fn busy_polling_that_was_taken_back_is_reported_once() {
    let mut lab = lab();
    lab.attach(0, 0);
    lab.turns(1);
    lab.workers[0].slots[0].port.end_busy_poll();
    lab.turns(5);
    let expected = Event::BusyPollEnded { worker: WorkerId(0), device: DeviceId(0), queue: 0 };
    assert_eq!((lab.events.next(), lab.events.next()), (Some(expected), None));
}

#[test]
fn a_new_snapshot_is_taken_up_at_the_next_turn_and_the_old_one_let_go() {
    let mut lab = lab();
    lab.turns(1);
    let mut next = Snapshot::clone(lab.publisher.current());
    next.vnis = Arc::default();
    lab.publisher.publish(next);
    assert_eq!(lab.publisher.reclaim(), 1);
    lab.turns(1);
    assert_eq!(lab.publisher.reclaim(), 0);
}

#[test]
fn an_injected_frame_goes_where_a_received_one_would() {
    let mut lab = lab();
    lab.attach(0, 0);
    lab.attach(1, 0);
    let frame = broadcast().into_boxed_slice();
    lab.commands[0].send(Command::Inject { device: DeviceId(0), frame }).unwrap();
    lab.turns(4);
    assert_eq!(lab.sent(1), 1);
    assert_eq!(lab.sent(0), 0);
    lab.turns(2);
    assert_eq!(lab.free(), 2 * FRAMES);
}

#[test]
fn a_sleeping_worker_wakes_for_a_command() {
    let mut lab = lab();
    let worker = lab.workers.remove(0);
    let exchange = worker.parts.exchange.clone();
    let status = worker.parts.status.clone();
    let thread = std::thread::spawn(move || worker.run());
    while status.view().sleeps == 0 {
        std::thread::yield_now();
    }
    lab.commands[0].send(Command::Stop).unwrap();
    exchange.ring(WorkerId(0));
    thread.join().unwrap();
    assert!(status.view().turns > u64::from(IDLE_TURNS));
}
