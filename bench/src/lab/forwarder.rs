//! Forwarders over AF_XDP on a [`Topology`]: one pinned thread between the tenant's and the underlay's interface.
//!
//! ```text
//! bare     tenant0 rx -------------------------> underlay0 tx
//! VXLAN    tenant0 rx -> core::pipeline, tables -> underlay0 tx        the daemon's own functions
//! ```

use super::cores::{Spent, pin};
use super::link::Link;
use super::topology::{self, LOCAL, REMOTE, TENANT, Topology, UDP_PORT, UNDERLAY};
use crate::clock::now_ns;
use crate::row::Failure;
use crate::scene::{self, DOMAIN, Scene, TENANT_DEVICE, UNDERLAY_DEVICE, WORKER};
use rustix::thread::gettid;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use vtep_dataplane::addr::NextHopId;
use vtep_dataplane::afxdp::{Program, UmemMemory, XskPort};
use vtep_dataplane::core::frame::{BURST, Frame, Pool};
use vtep_dataplane::core::outbox::Outbox;
use vtep_dataplane::core::pipeline::{Pipeline, Tables};
use vtep_dataplane::port::Port;
use vtep_dataplane::table::Snapshot;
use vtep_dataplane::table::mac::{Destination, MacTable};
use vtep_dataplane::table::publish::Publisher;

/// What the thread does between receiving and sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing: what is received is sent.
    Bare,
    /// The daemon's pipeline.
    Vxlan,
}

/// A running forwarder; stopped when it is dropped.
#[derive(Debug)]
pub struct Forwarder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    stat: String,
    modes: Vec<String>,
}

/// What a started thread says.
struct Started {
    stat: String,
    modes: Vec<String>,
}

impl Forwarder {
    /// Starts one in the topology's forwarder namespace, pinned to `core`.
    ///
    /// # Errors
    /// [`Failure`] when the interfaces can't be opened.
    pub fn start(topology: &Topology, work: Work, core: usize) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let thread = topology.forwarder.within(|| {
            let stop = Arc::clone(&stop);
            // The thread outlives this closure; it is in the namespace since its parent is.
            Ok(thread::spawn(move || {
                pin(core);
                match Turns::open() {
                    Ok(mut turns) => {
                        let stat = format!("/proc/self/task/{}/stat", gettid().as_raw_nonzero());
                        if tell.send(Ok(Started { stat, modes: turns.link.modes() })).is_ok() {
                            turns.run(work, &stop);
                        }
                    }
                    // A failure to tell means that nobody waits any more.
                    Err(why) => drop(tell.send(Err(why))),
                }
            }))
        })?;
        let started =
            told.recv().unwrap_or_else(|_| Err(Failure::new("the forwarder ended before it began")))?;
        Ok(Self { stop, thread: Some(thread), stat: started.stat, modes: started.modes })
    }

    /// How its interfaces are attached and bound.
    #[must_use]
    pub fn modes(&self) -> &[String] {
        &self.modes
    }

    /// Time that its thread has spent so far.
    ///
    /// # Errors
    /// [`Failure`] when the thread has ended: its device went away.
    pub fn spent(&self) -> Result<Spent, Failure> {
        Spent::read(&self.stat)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("vtep-bench: the forwarder panicked");
        }
    }
}

/// What one worker has, with the tables that the control thread would fill.
struct Turns {
    link: Link,
    tables: Publisher<Snapshot>,
    macs: MacTable,
}

impl Turns {
    fn open() -> Result<Self, Failure> {
        let locals = vec![IpAddr::V4(LOCAL)];
        let underlay = Program::Underlay { locals, udp_port: UDP_PORT };
        let link = Link::open(&[(TENANT, Program::Tenant), (UNDERLAY, underlay)], 0)?;
        let (underlay_mac, next_hop_mac) = topology::underlay_macs()?;
        let scene = Scene { underlay_mac, next_hop_mac, vteps: vec![REMOTE] };
        let mut macs = MacTable::new(1024);
        let behind = Destination::NextHop(NextHopId(0));
        macs.insert(DOMAIN, topology::destination()?, behind).map_err(Failure::of("MAC table"))?;
        Ok(Self { link, tables: Publisher::new(scene.snapshot()?), macs })
    }

    fn run(&mut self, work: Work, stop: &AtomicBool) {
        let Link { ports, pool, .. } = &mut self.link;
        let [tenant, underlay] = ports.as_mut_slice() else { return };
        let mut burst = Vec::with_capacity(BURST);
        let mut reader = self.tables.reader();
        let mut macs = self.macs.reader();
        let mut pipeline = Pipeline::new(WORKER);
        let mut outbox = Outbox::new(2);
        while !stop.load(Relaxed) {
            if tenant.receive(pool, &mut burst) > 0 {
                match work {
                    Work::Bare => send(underlay, pool, &mut burst),
                    Work::Vxlan => {
                        reader.refresh();
                        macs.refresh();
                        let tables = Tables { snapshot: reader.get(), macs: &macs };
                        pipeline.burst(tables, now_ns(), TENANT_DEVICE, &mut burst, pool, &mut outbox);
                        while let Some((device, mut queue)) = outbox.take_busy() {
                            let port = if device == UNDERLAY_DEVICE { &mut *underlay } else { &mut *tenant };
                            send(port, pool, &mut queue);
                            outbox.restore(device, queue);
                        }
                    }
                }
            } else {
                // The generator may share the core on a small machine.
                thread::yield_now();
            }
            if tenant.wake(pool).is_err() || underlay.wake(pool).is_err() {
                return;
            }
        }
        let totals = scene::device_totals(self.tables.current(), TENANT_DEVICE);
        if totals.dropped() > 0 {
            eprintln!("vtep-bench: the pipeline dropped frames: {}", scene::drops(&totals));
        }
    }
}

/// Sends what there is room for; the rest is dropped, as the daemon does.
fn send(port: &mut XskPort, pool: &mut Pool<UmemMemory>, frames: &mut Vec<Frame>) {
    port.send(pool, frames);
    frames.drain(..).for_each(|frame| pool.give(frame));
}
