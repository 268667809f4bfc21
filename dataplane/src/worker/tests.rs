//! Workers over memory ports, polled one iteration at a time on one thread, with every chunk
//! counted.

use crossbeam::channel;

use super::*;
use crate::addr::{DomainId, MacAddr, PortId, Vni, VtepId};
use crate::port::memory::{HeapMemory, MemoryPort, memory_pools};
use crate::stats::Counters;
use crate::table::encapsulation::{HeaderFields, OuterHeader};
use crate::table::flood::{FloodList, VtepSet};
use crate::table::mac::MacTable;
use crate::table::neighbor::NeighborTable;
use crate::table::port::{ChecksumMode, Device, PortEntry, PortTable, Role};
use crate::table::publish::Publisher;
use crate::table::vni::{Domain, VniTable};
use crate::table::vtep::{Adjacency, RemoteVtep, VtepTable};
use crate::table::{Dscp, Settings};

const FRAMES: usize = 1024;

/// Two workers, two access ports of one VNI: device 0 belongs to worker 0, device 1 to worker 1.
struct Pair {
    workers: Vec<Worker<HeapMemory, MemoryPort>>,
    commands: Vec<Sender<Command<MemoryPort>>>,
    replies: Receiver<Reply<MemoryPort>>,
    events: EventQueue,
    device_counters: Vec<Arc<Counters>>,
    publisher: Publisher<Snapshot>,
    _macs: MacTable,
}

fn device(id: u16, counters: &Arc<Counters>) -> Option<Arc<Device>> {
    Some(Arc::new(Device {
        id: DeviceId(id),
        name: format!("tenant{id}"),
        role: Role::Access(PortId(id)),
        csum_incomplete: true,
        macs: Box::new([]),
        multi_buffer: true,
        superframes: false,
        link_up: true,
        standby: false,
        tx_worker: Box::new([WorkerId(id), WorkerId(id)]),
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
        storm: None,
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
        vteps: Arc::default(),
        ports: Arc::new(PortTable {
            devices: (0..2)
                .map(|id| device(id, &device_counters[usize::from(id)]))
                .collect(),
            ports: vec![port(0), port(1)],
        }),
        version: 0,
        since: Arc::default(),
    }
}

fn pair() -> Pair {
    let device_counters: Vec<_> = (0..2).map(|_| Arc::new(Counters::new(2))).collect();
    let publisher = Publisher::new(snapshot(&device_counters));
    let macs = MacTable::new(16);
    let neighbors = NeighborTable::new(16);
    let handoff = Arc::new(Handoff::new(2, FRAMES as u32).unwrap());
    let events = EventQueue::new(16).unwrap();
    let (reply_to, replies) = channel::unbounded();
    let (mut workers, mut commands) = (Vec::new(), Vec::new());
    for (id, pool) in (0..).map(WorkerId).zip(memory_pools(2, FRAMES, 2048)) {
        let (command, received) = channel::bounded(16);
        let worker = Worker::new(WorkerConfig {
            id,
            pool,
            snapshots: publisher.reader(),
            macs: macs.reader(),
            neighbors: neighbors.reader(),
            handoff: handoff.clone(),
            events: events.clone(),
            commands: received,
            replies: reply_to.clone(),
            status: Arc::default(),
            busy_poll: false,
        });
        workers.push(worker.unwrap());
        commands.push(command);
    }
    Pair {
        workers,
        commands,
        replies,
        events,
        device_counters,
        publisher,
        _macs: macs,
    }
}

impl Pair {
    /// Gives device `n` to worker `n`, with frames already waiting in it.
    fn attach(&mut self, n: u16, frames: usize) {
        let mut port = MemoryPort::new();
        for _ in 0..frames {
            port.inject(&broadcast());
        }
        self.attach_port(usize::from(n), n, port);
    }

    /// Gives a device to a worker.
    fn attach_port(&mut self, worker: usize, device: u16, port: MemoryPort) {
        let command = Command::Attach {
            device: DeviceId(device),
            queue: 0,
            port,
        };
        self.commands[worker].send(command).unwrap();
    }

    fn poll(&mut self, rounds: u64) {
        for now in 0..rounds {
            for worker in &mut self.workers {
                worker.poll_once(now);
            }
        }
    }

    fn sent(&mut self, n: usize) -> usize {
        self.workers[n]
            .slots
            .iter_mut()
            .map(|slot| slot.port.take_sent().len())
            .sum()
    }

    fn free(&self) -> usize {
        self.workers
            .iter()
            .map(|worker| worker.config.pool.available())
            .sum()
    }

    fn drops(&self, device: usize, reason: DropReason) -> u64 {
        self.device_counters[device].totals().drops[reason as usize]
    }
}

/// A flood of long frames from device 0 of worker 0 to 128 VTEPs behind device 2 of worker 1.
impl Pair {
    fn flooding(frames: usize, tx_capacity: usize) -> Self {
        let mut pair = pair();
        pair.device_counters.push(Arc::new(Counters::new(2)));
        let mut next = Snapshot::clone(pair.publisher.current());
        let mut vteps = VtepTable::default();
        for id in 0..128 {
            vteps.set(VtepId(id), Some(Arc::new(remote_vtep(id))));
        }
        let ports = Arc::make_mut(&mut next.ports);
        let mut underlay = Arc::into_inner(device(2, &pair.device_counters[2]).unwrap()).unwrap();
        (underlay.role, underlay.tx_worker) = (Role::Underlay, Box::new([WorkerId(1); 2]));
        ports.devices.push(Some(Arc::new(underlay)));
        let mut domain = Domain::clone(next.vnis.by_vni(100).unwrap());
        domain.flood = FloodList::new((0..128).map(VtepId), [PortId(0), PortId(1)]);
        next.vnis = Arc::new(VniTable::new([Arc::new(domain)]));
        next.vteps = Arc::new(vteps);
        pair.publisher.publish(next);
        let mut tenant = MemoryPort::new();
        for _ in 0..frames {
            tenant.inject(&[broadcast(), vec![0; 600]].concat());
        }
        let mut full = MemoryPort::new();
        full.set_tx_capacity(tx_capacity);
        pair.attach_port(0, 0, tenant);
        pair.attach_port(1, 2, full);
        pair
    }

    /// Whether every chunk is in the pool that owns it.
    fn is_whole(&self) -> bool {
        self.workers
            .iter()
            .all(|worker| worker.config.pool.available() == FRAMES)
    }
}

fn remote_vtep(id: u32) -> RemoteVtep {
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
    let path = Adjacency {
        device: DeviceId(2),
        rewrite: header.unwrap(),
        max_frame: 1514,
    };
    let vtep = format!("198.18.0.{}", id + 1).parse().unwrap();
    RemoteVtep {
        vtep,
        paths: Box::new([path]),
        counters: Arc::new(Counters::new(2)),
    }
}

#[test]
fn a_flood_over_another_workers_port_reaches_all_and_every_chunk_is_returned() {
    let mut pair = Pair::flooding(3, usize::MAX);
    pair.poll(30);
    let underlay = pair.workers[1]
        .slots
        .iter_mut()
        .find(|slot| slot.device == DeviceId(2))
        .unwrap();
    let sent = underlay.port.take_sent();
    let lost = pair.drops(0, DropReason::NoFrame) as usize;
    assert_eq!(sent.len() + lost, 3 * 128);
    assert!(
        sent.len() > 128 && sent.iter().all(|packet| packet.len() == 660 + 50),
        "{}",
        sent.len()
    );
    assert!(pair.is_whole());
}

/// What can't be handed off to the worker of an underlay device is counted for its VNI and its VTEP,
/// which the frame itself names.
#[test]
fn frames_to_the_underlay_are_counted_for_their_vni_and_vtep() {
    let mut pair = Pair::flooding(20, 0);
    // Worker 1 does not take what waits for it.
    for now in 0..200 {
        pair.workers[0].poll_once(now);
    }
    let reason = DropReason::HandOffFull;
    let of = |counters: &Counters| counters.totals().drops[reason as usize];
    let snapshot = pair.publisher.current();
    let vteps: Vec<_> = snapshot
        .vteps
        .iter()
        .map(|(_, vtep)| of(&vtep.counters))
        .collect();
    let dropped = pair.drops(2, reason);
    assert_eq!(vteps.iter().sum::<u64>(), dropped);
    assert!(
        vteps.iter().filter(|drops| **drops > 0).count() > 100,
        "{vteps:?}"
    );
    // The other port of the VNI is worker 1's, too.
    let of_vni = of(&snapshot.vnis.by_vni(100).unwrap().counters);
    assert_eq!(of_vni, dropped + pair.drops(1, reason));
}

#[test]
fn every_chunk_is_returned_from_a_flood_that_meets_full_rings_and_closed_ports() {
    for iterations in 0..12 {
        for tx_capacity in [0, 1, 7, 100, 400] {
            let mut pair = Pair::flooding(5, tx_capacity);
            pair.poll(iterations);
            // The underlay goes down halfway, and comes back with frames still queued.
            pair.commands[1]
                .send(Command::Detach {
                    device: DeviceId(2),
                    from: 0,
                    request: 1,
                })
                .unwrap();
            pair.poll(2);
            let port = MemoryPort::new();
            pair.attach_port(1, 2, port);
            pair.poll(2);
            if iterations % 2 == 0 {
                // The worker ends while floods are pending.
                pair.workers[0].close_all();
            }
            pair.poll(40);
            assert!(
                pair.is_whole(),
                "{iterations} iterations, capacity {tx_capacity}"
            );
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
fn a_frame_for_another_workers_port_is_handed_off_and_its_chunk_is_returned() {
    let mut pair = pair();
    pair.attach(0, 10);
    pair.attach(1, 0);
    pair.poll(4);
    assert_eq!(pair.sent(1), 10);
    assert_eq!(pair.sent(0), 0);
    pair.poll(2);
    assert_eq!(pair.free(), 2 * FRAMES);
    assert_eq!(
        pair.workers[0].config.pool.available(),
        FRAMES,
        "each chunk is in its own pool"
    );
}

#[test]
fn frames_for_a_port_without_a_socket_are_counted_and_freed() {
    let mut pair = pair();
    pair.attach(0, 10);
    pair.poll(4);
    assert_eq!(pair.drops(1, DropReason::PortDown), 10);
    pair.poll(2);
    assert_eq!(pair.free(), 2 * FRAMES);
}

#[test]
fn a_full_transmit_queue_is_counted_and_leaks_nothing() {
    let mut pair = pair();
    pair.attach(0, 10);
    let mut full = MemoryPort::new();
    full.set_tx_capacity(3);
    pair.attach_port(1, 1, full);
    pair.poll(1);
    let dropped = pair.drops(1, DropReason::TxFull);
    pair.poll(3);
    assert_eq!(pair.sent(1) as u64 + pair.drops(1, DropReason::TxFull), 10);
    assert!(dropped + pair.drops(1, DropReason::TxFull) > 0);
    pair.poll(2);
    assert_eq!(pair.free(), 2 * FRAMES);
}

/// Device 1 of worker `owner`, which takes frames and never sends them.
fn stuck(pair: &mut Pair, owner: usize) {
    let mut port = MemoryPort::new();
    port.set_stuck(true);
    pair.attach_port(owner, 1, port);
}

/// Any port that stops consuming leaves most chunks to the others, whichever worker owns the port
/// and whichever the chunks (finding D1).
#[test]
fn a_port_that_stops_consuming_holds_a_part_of_the_free_chunks() {
    for owner in [0, 1] {
        let mut pair = pair();
        let mut next = Snapshot::clone(pair.publisher.current());
        let ports = Arc::make_mut(&mut next.ports);
        let mut second = Arc::into_inner(device(1, &pair.device_counters[1]).unwrap()).unwrap();
        second.tx_worker = Box::new([WorkerId(owner); 2]);
        ports.devices[1] = Some(Arc::new(second));
        pair.publisher.publish(next);
        pair.attach(0, 2000);
        stuck(&mut pair, usize::from(owner));
        pair.poll(60);
        let (free, full) = (pair.workers[0].config.pool.available(), DropReason::TxFull);
        assert!(
            free > FRAMES * 3 / 4,
            "owner {owner}: {free} of {FRAMES} chunks are free"
        );
        let snapshot = pair.publisher.current();
        let port = snapshot.ports.port(PortId(1)).unwrap().counters.totals();
        let vni = snapshot.vnis.by_vni(100).unwrap().counters.totals();
        let dropped = pair.drops(1, full);
        assert!(dropped > 0, "owner {owner}");
        assert_eq!(
            (port.drops[full as usize], vni.drops[full as usize]),
            (dropped, dropped),
            "the port and its VNI count what the device does (finding N5)"
        );
        let ingress = pair.device_counters[0].totals().dropped();
        assert_eq!(
            (port.tx_frames + port.dropped() + ingress, port.dropped()),
            (2000, dropped),
            "what is dropped is not counted as sent"
        );
    }
}

/// Frames for a port without a link are dropped at once, and with their own reason (finding D1).
#[test]
fn frames_for_a_port_without_a_link_are_dropped_and_none_is_kept() {
    for (failed, link_up) in [(true, true), (false, false)] {
        let mut pair = pair();
        pair.attach(1, 0);
        stuck(&mut pair, 1);
        pair.poll(1);
        if failed {
            for slot in &mut pair.workers[1].slots {
                slot.port.set_error(Some(100));
            }
        }
        let mut next = Snapshot::clone(pair.publisher.current());
        let ports = Arc::make_mut(&mut next.ports);
        let mut down = Arc::into_inner(device(1, &pair.device_counters[1]).unwrap()).unwrap();
        down.link_up = link_up;
        ports.devices[1] = Some(Arc::new(down));
        pair.publisher.publish(next);
        pair.poll(1);
        pair.attach(0, 10);
        pair.poll(6);
        assert_eq!(
            pair.drops(1, DropReason::PortDown),
            10,
            "{failed} {link_up}"
        );
        assert_eq!(pair.free(), 2 * FRAMES);
        let snapshot = pair.publisher.current();
        let port = snapshot.ports.port(PortId(1)).unwrap().counters.totals();
        assert_eq!(port.tx_frames, 0);
        assert_eq!(port.drops[DropReason::PortDown as usize], 10);
    }
}

/// Frames that are still in the ring of a queue when it is closed were counted as sent: they are
/// counted as dropped then, for the port too (findings D1, N5).
#[test]
fn frames_in_the_ring_of_a_closed_queue_are_counted() {
    for (failed, reason) in [(false, DropReason::Removed), (true, DropReason::PortDown)] {
        let mut pair = pair();
        stuck(&mut pair, 1);
        pair.poll(1);
        pair.attach(0, 10);
        pair.poll(6);
        let port = || {
            let ports = &pair.publisher.current().ports;
            ports.port(PortId(1)).unwrap().counters.totals()
        };
        assert_eq!((port().tx_frames, port().dropped()), (10, 0));
        for slot in pair.workers[1].slots.iter_mut().filter(|_| failed) {
            slot.port.set_error(Some(100));
        }
        pair.poll(1);
        pair.commands[1]
            .send(Command::Detach {
                device: DeviceId(1),
                from: 0,
                request: 1,
            })
            .unwrap();
        pair.poll(1);
        assert_eq!(pair.drops(1, reason), 10, "{failed}");
        let ports = &pair.publisher.current().ports;
        let port = ports.port(PortId(1)).unwrap().counters.totals();
        assert_eq!(port.drops[reason as usize], 10, "{failed}");
    }
}

/// A worker whose port has frames to send does not sleep for long (finding D6).
#[test]
fn a_worker_with_frames_in_a_ring_looks_again_within_a_millisecond() {
    let mut pair = pair();
    let worker = pair.workers.remove(0);
    let (handoff, status) = (worker.config.handoff.clone(), worker.config.status.clone());
    let mut port = MemoryPort::new();
    port.set_stuck(true);
    pair.attach_port(0, 0, port);
    pair.commands[0]
        .send(Command::Inject {
            device: DeviceId(1),
            frame: broadcast().into_boxed_slice(),
        })
        .unwrap();
    let started = Instant::now();
    let thread = std::thread::spawn(move || worker.run());
    while status.view().sleeps < 5 {
        std::thread::yield_now();
    }
    let view = status.view();
    assert!(
        view.slept_ns / view.sleeps < 100_000_000,
        "{} sleeps took {} ns",
        view.sleeps,
        view.slept_ns
    );
    assert!(started.elapsed().as_secs() < 1, "250 ms each");
    pair.commands[0].send(Command::Stop).unwrap();
    handoff.wake(WorkerId(0));
    thread.join().unwrap();
}

/// Frames that the control thread injects do not keep ports waiting (finding D17).
#[test]
fn injected_frames_do_not_delay_the_ports() {
    let mut pair = pair();
    let (command, received) = channel::bounded(4096);
    pair.workers[0].config.commands = received;
    pair.commands[0] = command;
    pair.attach(0, 1);
    pair.attach(1, 0);
    for _ in 0..4000 {
        pair.commands[0]
            .send(Command::Inject {
                device: DeviceId(0),
                frame: broadcast().into_boxed_slice(),
            })
            .unwrap();
    }
    pair.poll(1);
    assert_eq!(pair.workers[0].slots[0].port.waiting(), 0);
    assert!(pair.workers[0].config.commands.len() >= 4000 - 64);
    pair.poll(200);
    assert!(pair.workers[0].config.commands.is_empty());
}

#[test]
fn a_detached_device_returns_every_chunk_and_is_replied_to() {
    let mut pair = pair();
    pair.attach(0, 5);
    pair.attach(1, 0);
    pair.poll(1);
    pair.commands[1]
        .send(Command::Detach {
            device: DeviceId(1),
            from: 0,
            request: 1,
        })
        .unwrap();
    pair.commands[0]
        .send(Command::Detach {
            device: DeviceId(1),
            from: 0,
            request: 1,
        })
        .unwrap();
    pair.poll(3);
    let closed: Vec<_> = pair
        .replies
        .try_iter()
        .map(|Reply::Detached { worker, ports, .. }| (worker, ports.len()))
        .collect();
    assert_eq!(closed.len(), 2);
    assert!(closed.contains(&(WorkerId(1), 1)) && closed.contains(&(WorkerId(0), 0)));
    assert!(pair.workers[1].slots.is_empty());
    pair.poll(2);
    assert_eq!(pair.free(), 2 * FRAMES);
}

#[test]
fn a_lasting_error_is_reported_once_and_again_after_it_was_gone() {
    let mut pair = pair();
    pair.attach(0, 0);
    pair.poll(1);
    let error = |pair: &mut Pair, errno| pair.workers[0].slots[0].port.set_error(errno);
    error(&mut pair, Some(100));
    pair.poll(5);
    error(&mut pair, None);
    pair.poll(1);
    error(&mut pair, Some(100));
    pair.poll(5);
    let reported: Vec<_> = std::iter::from_fn(|| pair.events.next()).collect();
    let expected = WorkerEvent::SocketFailed {
        worker: WorkerId(0),
        device: DeviceId(0),
        queue: 0,
        errno: 100,
    };
    assert_eq!(reported, [expected; 2]);
}

#[test]
fn busy_polling_that_was_switched_off_is_reported_once() {
    let mut pair = pair();
    pair.attach(0, 0);
    pair.poll(1);
    pair.workers[0].slots[0].port.end_busy_poll();
    pair.poll(5);
    let expected = WorkerEvent::BusyPollEnded {
        worker: WorkerId(0),
        device: DeviceId(0),
        queue: 0,
    };
    assert_eq!(
        (pair.events.next(), pair.events.next()),
        (Some(expected), None)
    );
}

#[test]
fn a_new_snapshot_is_used_from_the_next_iteration_and_the_old_one_released() {
    let mut pair = pair();
    pair.poll(1);
    let mut next = Snapshot::clone(pair.publisher.current());
    next.vnis = Arc::default();
    pair.publisher.publish(next);
    assert_eq!(pair.publisher.reclaim(), 1);
    pair.poll(1);
    assert_eq!(pair.publisher.reclaim(), 0);
}

#[test]
fn an_injected_frame_goes_where_a_received_one_would() {
    let mut pair = pair();
    pair.attach(0, 0);
    pair.attach(1, 0);
    let frame = broadcast().into_boxed_slice();
    pair.commands[0]
        .send(Command::Inject {
            device: DeviceId(0),
            frame,
        })
        .unwrap();
    pair.poll(4);
    assert_eq!(pair.sent(1), 1);
    assert_eq!(pair.sent(0), 0);
    pair.poll(2);
    assert_eq!(pair.free(), 2 * FRAMES);
}

#[test]
fn a_sleeping_worker_wakes_for_a_command() {
    let mut pair = pair();
    let worker = pair.workers.remove(0);
    let handoff = worker.config.handoff.clone();
    let status = worker.config.status.clone();
    let thread = std::thread::spawn(move || worker.run());
    while status.view().sleeps == 0 {
        std::thread::yield_now();
    }
    pair.commands[0].send(Command::Stop).unwrap();
    handoff.wake(WorkerId(0));
    thread.join().unwrap();
    assert!(status.view().iterations > u64::from(IDLE_ITERATIONS));
}

impl Pair {
    /// Publishes a snapshot without device and port 1, or one in which both numbers are used again
    /// by another tenant.
    fn publish_reused(&mut self, reused: bool) {
        let mut next = Snapshot::clone(self.publisher.current());
        next.version += 1;
        let ports = Arc::make_mut(&mut next.ports);
        if reused {
            self.device_counters[1] = Arc::new(Counters::new(2));
            ports.devices[1] = device(1, &self.device_counters[1]);
            ports.ports[1] = port(1);
            let since = Arc::make_mut(&mut next.since);
            since.set_device(DeviceId(1), next.version);
            since.set_port(PortId(1), next.version);
        } else {
            (ports.devices[1], ports.ports[1]) = (None, None);
        }
        self.publisher.publish(next);
    }
}

/// Frames that wait in another worker's inbox are not sent to the next owner of the device's number
/// (finding D2).
#[test]
fn a_handed_off_frame_is_not_sent_to_the_next_owner_of_the_number() {
    for seen in [true, false] {
        let mut pair = pair();
        pair.attach(0, 20);
        pair.attach(1, 0);
        // Worker 0 still has the first snapshot, worker 1 does not run yet.
        pair.workers[1].poll_once(0);
        pair.workers[0].poll_once(0);
        pair.workers[0].poll_once(1);
        pair.publish_reused(false);
        if seen {
            // A late frame of worker 0 arrives after worker 1 has the new snapshot.
            pair.workers[1].config.snapshots.refresh();
        }
        pair.publish_reused(true);
        pair.attach(1, 0);
        pair.poll(20);
        assert_eq!(pair.sent(1), 0, "seen: {seen}");
        assert_eq!(pair.workers[1].removed, 20);
        assert_eq!(pair.free(), 2 * FRAMES);
    }
}

/// A queue that was never detached, because its worker was stuck or its command was lost, is closed
/// as soon as its device is gone, and the next owner of the number gets none of its frames (finding
/// D2).
#[test]
fn a_queue_that_was_not_detached_in_time_is_closed_with_its_device() {
    for seen in [true, false] {
        let mut pair = pair();
        pair.attach(0, 0);
        pair.attach(1, 0);
        pair.poll(2);
        pair.publish_reused(false);
        if seen {
            pair.poll(1);
            assert_eq!(pair.workers[1].slots.len(), 0);
        }
        pair.publish_reused(true);
        if let Some(slot) = pair.workers[1].slots.first_mut() {
            slot.port.inject(&broadcast());
        }
        pair.poll(5);
        assert_eq!(pair.workers[1].slots.len(), 0);
        assert_eq!(
            pair.sent(0),
            0,
            "no frame of the old device is taken for the new one's"
        );
        assert_eq!(pair.free(), 2 * FRAMES);
        // The new device's own queue is served.
        pair.attach(1, 1);
        pair.poll(5);
        assert_eq!((pair.workers[1].slots.len(), pair.sent(0)), (1, 1));
    }
}

/// A queue may be attached before the tables have its device.
#[test]
fn a_queue_that_is_attached_before_its_device_is_published_stays() {
    let mut pair = pair();
    pair.publish_reused(false);
    pair.poll(1);
    pair.attach(1, 0);
    pair.poll(3);
    assert_eq!(pair.workers[1].slots.len(), 1);
    pair.publish_reused(true);
    pair.poll(3);
    assert_eq!(pair.workers[1].slots.len(), 1);
}
