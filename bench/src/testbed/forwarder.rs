//! Forwarders over AF_XDP on a [`Topology`]: one pinned thread between the tenant's and the
//! underlay's interface, in both directions.
//!
//! ```text
//! bare     rx -----------------------------------> tx of the other   a loop, frames unexamined
//! VXLAN    rx -> Worker: pipeline, tables -------> tx                the complete daemon thread
//! ```

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::gettid;
use vtep_dataplane::addr::VtepId;
use vtep_dataplane::afxdp::{Program, UmemMemory, XskPort};
use vtep_dataplane::event::EventQueue;
use vtep_dataplane::frame::{BURST, Frame, Pool};
use vtep_dataplane::port::Port;
use vtep_dataplane::stats::Totals;
use vtep_dataplane::table::Snapshot;
use vtep_dataplane::table::mac::{Destination, MacTable};
use vtep_dataplane::table::neighbor::NeighborTable;
use vtep_dataplane::table::publish::Publisher;
use vtep_dataplane::worker::handoff::Handoff;
use vtep_dataplane::worker::{Command, Worker, WorkerConfig, WorkerStatus};

use super::link::{CHUNKS, Link};
use super::topology::{self, REMOTE, Topology};
use crate::cores::{Spent, pin};
use crate::row::Failure;
use crate::tables::{
    self, DOMAIN, LOCAL, PORT, TENANT, TENANT_DEVICE, TableSpec, UDP_PORT, UNDERLAY,
    UNDERLAY_DEVICE, WORKER,
};

/// What the thread does between receiving and sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing: every received frame is sent.
    Bare,
    /// The daemon's worker.
    Vxlan,
}

/// A running forwarder; dropping it stops it.
#[derive(Debug)]
pub struct Forwarder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    thread_id: i32,
    status: Arc<WorkerStatus>,
    modes: Vec<String>,
}

/// Sent by the thread once it has started.
struct Started {
    thread_id: i32,
    modes: Vec<String>,
}

impl Forwarder {
    /// Starts one in the topology's forwarder namespace, pinned to `core`.
    ///
    /// # Errors
    /// [`Failure`] when the interfaces can't be opened.
    pub fn start(topology: &Topology, work: Work, core: usize) -> Result<Self, Failure> {
        let (stop, status) = (
            Arc::new(AtomicBool::new(false)),
            Arc::<WorkerStatus>::default(),
        );
        let (sender, receiver) = mpsc::channel();
        let thread = topology.forwarder.within(|| {
            let (stop, status) = (Arc::clone(&stop), Arc::clone(&status));
            // The thread outlives this closure; it is in the namespace because its parent is.
            Ok(thread::spawn(move || {
                pin(core);
                match open() {
                    Ok(link) => {
                        let thread_id = gettid().as_raw_nonzero().get();
                        if sender
                            .send(Ok(Started {
                                thread_id,
                                modes: link.modes(),
                            }))
                            .is_ok()
                        {
                            run(link, work, &stop, status);
                        }
                    }
                    // If sending fails, the receiver no longer exists.
                    Err(why) => drop(sender.send(Err(why))),
                }
            }))
        })?;
        let started = receiver
            .recv()
            .unwrap_or_else(|_| Err(Failure::new("the forwarder ended before it started")))?;
        let Started { thread_id, modes } = started;
        Ok(Self {
            stop,
            thread: Some(thread),
            thread_id,
            status,
            modes,
        })
    }

    /// The attach and bind modes of its interfaces.
    #[must_use]
    pub fn modes(&self) -> &[String] {
        &self.modes
    }

    /// CPU time of its thread so far.
    ///
    /// # Errors
    /// [`Failure`] if the thread has ended because its device was removed.
    pub fn spent(&self) -> Result<Spent, Failure> {
        Spent::read(&format!("/proc/self/task/{}/stat", self.thread_id))
    }

    /// The thread ID.
    #[must_use]
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// Iterations of the daemon's worker; 0 for the bare forwarder.
    #[must_use]
    pub fn iterations(&self) -> u64 {
        self.status.view().iterations
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            eprintln!("vtep-bench: the forwarder panicked");
        }
    }
}

fn open() -> Result<Link, Failure> {
    let underlay = Program::Underlay {
        locals: vec![IpAddr::V4(LOCAL)],
        udp_port: UDP_PORT,
    };
    Link::open(&[(TENANT, Program::Tenant), (UNDERLAY, underlay)], 0)
}

fn run(link: Link, work: Work, stop: &AtomicBool, status: Arc<WorkerStatus>) {
    let ended = match work {
        Work::Bare => {
            bare(link, stop);
            Ok(())
        }
        Work::Vxlan => vxlan(link, stop, status),
    };
    if let Err(why) = ended {
        eprintln!("vtep-bench: the forwarder: {why}");
    }
}

/// Iterations without a frame before the bare forwarder sleeps: as many as the daemon's worker
/// takes.
const IDLE_ITERATIONS: u32 = 8;

/// The longest sleep, which bounds the time to stop.
const NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// The minimum that forwards: sockets, rings, wake-ups, sleep. It is a lower bound for every
/// forwarder over AF_XDP.
fn bare(mut link: Link, stop: &AtomicBool) {
    let Link { ports, pool, .. } = &mut link;
    let [tenant, underlay] = ports.as_mut_slice() else {
        return;
    };
    let mut burst = Vec::with_capacity(BURST);
    let mut idle = 0;
    while !stop.load(Relaxed) {
        let received =
            pass(tenant, underlay, pool, &mut burst) + pass(underlay, tenant, pool, &mut burst);
        if tenant.wake(pool).is_err() || underlay.wake(pool).is_err() {
            return;
        }
        idle = if received == 0 { idle + 1 } else { 0 };
        if idle > IDLE_ITERATIONS {
            let [one, other] = [tenant.as_fd(), underlay.as_fd()];
            let mut fds = [
                PollFd::new(&one, PollFlags::IN),
                PollFd::new(&other, PollFlags::IN),
            ];
            // An interrupted sleep is only shorter.
            let _ = poll(&mut fds, Some(&NAP));
            idle = 0;
        }
    }
}

/// Receives a burst and sends as much as fits into the tx ring; the rest is dropped, as in the
/// daemon.
fn pass(
    from: &mut XskPort,
    to: &mut XskPort,
    pool: &mut Pool<UmemMemory>,
    burst: &mut Vec<Frame>,
) -> usize {
    let received = from.receive(pool, burst);
    if received > 0 {
        to.send(pool, burst);
        burst.drain(..).for_each(|frame| pool.free(frame));
    }
    received
}

/// The control thread's side of a worker.
struct Control {
    tables: Publisher<Snapshot>,
    commands: Sender<Command<XskPort>>,
    handoff: Arc<Handoff>,
    // They must outlive the worker.
    _macs: MacTable,
    _replies: Receiver<vtep_dataplane::worker::Reply<XskPort>>,
}

/// Runs the daemon's worker on this thread until `stop` is set; another thread polls that flag.
fn vxlan(link: Link, stop: &AtomicBool, status: Arc<WorkerStatus>) -> Result<(), Failure> {
    let Link {
        ports,
        pool,
        devices,
    } = link;
    let (worker, control) = worker(pool, status)?;
    for (device, port) in [TENANT_DEVICE, UNDERLAY_DEVICE].into_iter().zip(ports) {
        let attach = Command::Attach {
            device,
            queue: 0,
            port,
        };
        control
            .commands
            .send(attach)
            .map_err(Failure::of("the worker's commands"))?;
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                thread::park_timeout(std::time::Duration::from_millis(20));
            }
            // A worker that has already ended needs no command.
            let _ = control.commands.send(Command::Stop);
            control.handoff.wake_all();
        });
        worker.run();
    });
    drop(devices);
    for device in [TENANT_DEVICE, UNDERLAY_DEVICE] {
        let totals: Totals = tables::device_totals(control.tables.current(), device);
        if totals.dropped() > 0 {
            eprintln!(
                "vtep-bench: the worker dropped frames: {}",
                tables::drops(&totals)
            );
        }
    }
    Ok(())
}

fn worker(
    pool: Pool<UmemMemory>,
    status: Arc<WorkerStatus>,
) -> Result<(Worker<UmemMemory, XskPort>, Control), Failure> {
    let (underlay_mac, next_hop_mac) = topology::underlay_macs()?;
    let spec = TableSpec {
        underlay_mac,
        next_hop_mac,
        vteps: vec![REMOTE.into()],
        multi_buffer: true,
    };
    let tables = Publisher::new(spec.snapshot()?);
    let mut macs = MacTable::new(1024);
    let entries = [
        (topology::destination()?, Destination::Vtep(VtepId(0))),
        (topology::source()?, Destination::Port(PORT)),
    ];
    for (mac, behind) in entries {
        macs.insert(DOMAIN, mac, behind)
            .map_err(Failure::of("MAC table"))?;
    }
    let handoff = Arc::new(Handoff::new(1, CHUNKS).map_err(Failure::of("eventfd"))?);
    let (commands, received) = bounded(8);
    let (reply, replies) = unbounded();
    let worker = Worker::new(WorkerConfig {
        id: WORKER,
        pool,
        snapshots: tables.reader(),
        macs: macs.reader(),
        neighbors: NeighborTable::new(1).reader(),
        handoff: Arc::clone(&handoff),
        events: EventQueue::new(16).map_err(Failure::of("eventfd"))?,
        commands: received,
        replies: reply,
        status,
        busy_poll: false,
    });
    let worker = worker.map_err(Failure::of("the worker"))?;
    Ok((
        worker,
        Control {
            tables,
            commands,
            handoff,
            _macs: macs,
            _replies: replies,
        },
    ))
}
