//! A worker: one pinned thread that moves frames between the queues it owns, run to completion.
//!
//! ```text
//! iteration:  commands -> refresh tables -> each port: receive, pipeline, send
//!             -> some copies of pending floods -> frames handed off by other workers
//!             -> wake ports -> return chunks to their owners -> heartbeat
//! ```
//!
//! An iteration takes no lock, allocates nothing and logs nothing. After some microseconds without
//! work the worker sleeps in `epoll_wait` until a port has frames or another thread signals its
//! wakeup descriptor; with busy polling it never sleeps.

mod command;
mod drops;
mod egress;
pub mod handoff;
mod park;
mod status;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender};

pub use self::command::{Command, Reply};
use self::handoff::Handoff;
use self::park::Parker;
pub use self::status::{WorkerStatus, WorkerStatusView};
use crate::addr::{DeviceId, WorkerId};
use crate::drop::DropReason;
use crate::event::{EventQueue, WorkerEvent};
use crate::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool};
use crate::pipeline::tx_queues::TxQueues;
use crate::pipeline::{Pipeline, Tables};
use crate::port::{Port, PortErrors};
use crate::table::Snapshot;
use crate::table::mac::MacReader;
use crate::table::neighbor::NeighborReader;
use crate::table::publish::Reader;

/// Iterations without work before a worker sleeps.
const IDLE_ITERATIONS: u32 = 8;

/// Nanoseconds without work before a worker sleeps. To wake one takes its sender several microseconds,
/// and the gaps in a stream of superframes are that short. If it is much longer, a spinning worker takes
/// the core from the kernel's part of the work (softirq on the same core).
const IDLE_NS: u64 = 15_000;

/// Frames of the control thread that are injected in one iteration, so that ports do not wait
/// behind them: one burst.
const INJECTED: usize = BURST;

/// Free chunks below which a worker is short of them: ports then receive less than they could, and
/// a chunk that another worker returns wakes it.
const SHORT: usize = 2 * BURST;

/// The resources of a worker, from which it is built.
#[derive(Debug)]
pub struct WorkerConfig<M, P> {
    /// Its number, which is also its row in all counters.
    pub id: WorkerId,
    /// Its share of the packet memory.
    pub pool: Pool<M>,
    /// The tables.
    pub snapshots: Reader<Snapshot>,
    /// The MAC table.
    pub macs: MacReader,
    /// The neighbor table.
    pub neighbors: NeighborReader,
    /// Hand-off between workers.
    pub handoff: Arc<Handoff>,
    /// Events for the control thread.
    pub events: EventQueue,
    /// Commands from the control thread.
    pub commands: Receiver<Command<P>>,
    /// Replies to commands.
    pub replies: Sender<Reply<P>>,
    /// The status that `show workers` reads.
    pub status: Arc<WorkerStatus>,
    /// Poll without ever sleeping.
    pub busy_poll: bool,
}

/// A queue that the worker serves.
#[derive(Debug)]
struct Slot<P> {
    device: DeviceId,
    queue: u32,
    port: P,
    /// The version of the first snapshot with the device; `None` before it is in the tables.
    since: Option<u64>,
    /// The last error that was reported, so that a lasting error is reported once.
    failed: Option<i32>,
    /// The port's errors that are counted as drops already.
    port_errors: PortErrors,
    /// Frames are queued that the device has not taken.
    waiting: bool,
}

impl<P> Slot<P> {
    /// Whether its device was in the tables, and is not any more. Notes when it is there first.
    fn is_removed(&mut self, snapshot: &Snapshot) -> bool {
        let is_present = snapshot.ports.device(self.device).is_some();
        let since = snapshot.since.device(self.device);
        match self.since {
            Some(first) => !is_present || since != first,
            None => {
                self.since = is_present.then_some(since);
                false
            }
        }
    }
}

/// A worker and all that it owns.
#[derive(Debug)]
pub struct Worker<M, P> {
    config: WorkerConfig<M, P>,
    slots: Vec<Slot<P>>,
    /// By device: the slot to send on, where this worker has one.
    tx_slots: Vec<Option<usize>>,
    pipeline: Pipeline,
    tx_queues: TxQueues,
    burst: Vec<Frame>,
    parker: Parker,
    started: Instant,
    /// Frames from other workers that were dropped because their port was removed.
    removed: u64,
    stop: bool,
}

impl<M: FrameMemory, P: Port<M>> Worker<M, P> {
    /// A worker without queues.
    ///
    /// # Errors
    /// When the kernel has no epoll descriptor left (EMFILE, ENFILE, ENOMEM).
    pub fn new(config: WorkerConfig<M, P>) -> io::Result<Self> {
        let devices = config.snapshots.get().ports.devices.len();
        let parker = Parker::new(&config.handoff, config.id)?;
        Ok(Self {
            slots: Vec::new(),
            tx_slots: Vec::new(),
            pipeline: Pipeline::new(config.id),
            tx_queues: TxQueues::new(devices),
            burst: Vec::with_capacity(BURST),
            parker,
            started: Instant::now(),
            removed: 0,
            stop: false,
            config,
        })
    }

    /// Runs until [`Command::Stop`] or until the control thread drops its end of the command
    /// channel.
    pub fn run(mut self) {
        let (mut idle, mut worked) = (0, 0);
        while !self.stop {
            let work = self.poll_once(self.now());
            let now = self.now();
            self.config
                .status
                .record_iteration(work, self.config.pool.available(), now);
            self.config
                .status
                .record_removed(self.removed + self.pipeline.removed());
            if work > 0 {
                (idle, worked) = (0, now);
                continue;
            }
            idle += 1;
            let is_idle = idle > IDLE_ITERATIONS && now - worked >= IDLE_NS;
            if is_idle && !self.config.busy_poll {
                self.sleep();
                (idle, worked) = (0, self.now());
            }
        }
        self.close_all();
    }

    /// Nanoseconds since the worker was created.
    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// One iteration. `now`: monotonic time in nanoseconds. Returns how many frames were moved.
    pub fn poll_once(&mut self, now: u64) -> usize {
        if !self.config.commands.is_empty() {
            self.handle_commands();
        }
        // Not while commands are left: they name devices of this snapshot, or of one before it.
        if self.config.commands.is_empty() && self.config.snapshots.refresh() {
            self.tx_queues
                .grow(self.config.snapshots.get().ports.devices.len());
            self.close_removed();
            self.set_room_of_all();
        }
        self.config
            .handoff
            .set_free(self.config.id, self.config.pool.available());
        self.config.macs.refresh();
        let mut work = 0;
        for slot_index in 0..self.slots.len() {
            work += self.poll_slot(slot_index, now);
        }
        work += self.continue_floods(now);
        work += self.poll_handoff();
        self.wake_ports();
        self.return_chunks();
        work
    }

    /// Receives one burst from a slot, processes it, and sends the result.
    fn poll_slot(&mut self, slot_index: usize, now: u64) -> usize {
        let slot = &mut self.slots[slot_index];
        let received = slot.port.receive(&mut self.config.pool, &mut self.burst);
        if received > 0 {
            let device = slot.device;
            if let Some(cuts) = self.process(device, now) {
                self.slots[slot_index].port.expect_cuts(cuts);
            }
        }
        received
    }

    /// Runs the received burst of `device` through the pipeline, and sends the result.
    /// Returns whether its superframes were cut; `None` if there were none.
    fn process(&mut self, device: DeviceId, now: u64) -> Option<bool> {
        let Self {
            config,
            burst,
            pipeline,
            tx_queues,
            ..
        } = self;
        let snapshot = config.snapshots.get();
        let tables = Tables {
            snapshot,
            macs: &config.macs,
            neighbors: &config.neighbors,
        };
        pipeline.burst(tables, now, device, burst, &mut config.pool, tx_queues);
        while let Some(event) = pipeline.next_event() {
            config
                .events
                .send(WorkerEvent::Learn(snapshot.version, event));
        }
        let cuts = pipeline.cuts();
        self.flush_tx();
        cuts
    }

    /// Continues pending floods. Returns how many copies were made.
    fn continue_floods(&mut self, now: u64) -> usize {
        let Self {
            config,
            pipeline,
            tx_queues,
            ..
        } = self;
        let snapshot = config.snapshots.get();
        let tables = Tables {
            snapshot,
            macs: &config.macs,
            neighbors: &config.neighbors,
        };
        let served = pipeline.replicate(tables, now, &mut config.pool, tx_queues);
        if served > 0 {
            self.flush_tx();
        }
        served
    }

    /// Wakes every port at the end of an iteration, and reports an error that is new.
    fn wake_ports(&mut self) {
        for slot_index in 0..self.slots.len() {
            self.wake_port(slot_index);
            self.set_room(slot_index);
        }
    }

    fn wake_port(&mut self, slot_index: usize) {
        let Self { config, slots, .. } = self;
        let slot = &mut slots[slot_index];
        let failed = slot.port.wake(&mut config.pool).err();
        if let Some(errno) = failed.filter(|_| failed != slot.failed) {
            config.events.send(WorkerEvent::SocketFailed {
                worker: config.id,
                device: slot.device,
                queue: slot.queue,
                errno,
            });
        }
        slot.failed = failed;
        if slot.port.busy_poll_ended() {
            let (worker, device, queue) = (config.id, slot.device, slot.queue);
            config.events.send(WorkerEvent::BusyPollEnded {
                worker,
                device,
                queue,
            });
        }
        let errors = slot.port.errors();
        if errors != slot.port_errors {
            drops::count_port_errors(config, slot.device, slot.port_errors, errors);
            slot.port_errors = errors;
        }
    }

    /// Returns foreign chunks to the workers that own them, and takes back this worker's own.
    fn return_chunks(&mut self) {
        let config = &mut self.config;
        let returned = config.pool.foreign() > 0;
        while let Some(frame) = config.pool.pop_foreign() {
            if let Err(frame) = config.handoff.return_chunk(frame) {
                config.pool.free(frame);
                break;
            }
        }
        if returned {
            config.handoff.wake_short();
        }
        while let Some(frame) = config.handoff.pop_returned(config.id) {
            config.pool.free(frame);
        }
    }

    /// Handles the pending commands of the control thread, up to a number of injected frames.
    fn handle_commands(&mut self) {
        let mut injected = 0;
        while injected < INJECTED
            && let Ok(command) = self.config.commands.try_recv()
        {
            injected += usize::from(matches!(command, Command::Inject { .. }));
            match command {
                Command::Attach {
                    device,
                    queue,
                    port,
                } => self.attach(device, queue, port),
                Command::Detach {
                    device,
                    from,
                    request,
                } => self.detach(device, from, request),
                Command::Inject { device, frame } => self.inject(device, &frame),
                Command::Stop => self.stop = true,
            }
        }
    }

    fn attach(&mut self, device: DeviceId, queue: u32, port: P) {
        self.tx_queues.grow(device.index() + 1);
        if let Some(fd) = port.poll_fd()
            && let Err(error) = self.parker.add(fd)
        {
            // The worker still polls the port whenever it wakes: report the error and continue.
            self.config.events.send(WorkerEvent::SocketFailed {
                worker: self.config.id,
                device,
                queue,
                errno: error.raw_os_error().unwrap_or(0),
            });
        }
        let mut slot = Slot {
            device,
            queue,
            port,
            since: None,
            failed: None,
            port_errors: PortErrors::default(),
            waiting: false,
        };
        slot.is_removed(self.config.snapshots.get());
        self.slots.push(slot);
        self.index_tx_slots();
    }

    fn detach(&mut self, device: DeviceId, from: u32, request: u64) {
        let ports = self.take_ports(|slot| slot.device == device && slot.queue >= from);
        let reply = Reply::Detached {
            worker: self.config.id,
            request: Some(request),
            ports,
        };
        // Fails only when the control thread is gone, and then no reply is needed.
        let _ = self.config.replies.send(reply);
    }

    /// Gives up the queues of devices that are not in the tables any more: the control thread has
    /// given up waiting for this worker, and the identifier may soon belong to another device.
    fn close_removed(&mut self) {
        let snapshots = self.config.snapshots.clone();
        let ports = self.take_ports(|slot| slot.is_removed(snapshots.get()));
        if !ports.is_empty() {
            let reply = Reply::Detached {
                worker: self.config.id,
                request: None,
                ports,
            };
            let _ = self.config.replies.send(reply);
        }
    }

    /// Takes the ports of some slots, for the control thread to close: the kernel may take long to
    /// release a queue.
    fn take_ports(&mut self, mut is_taken: impl FnMut(&mut Slot<P>) -> bool) -> Vec<P> {
        let Self {
            config,
            slots,
            parker,
            removed,
            ..
        } = self;
        let mut ports = Vec::new();
        for mut slot in slots.extract_if(.., |slot| is_taken(slot)) {
            if let Some(fd) = slot.port.poll_fd() {
                parker.remove(fd);
            }
            let unsent = slot.port.tx_state().waiting as u64;
            let failed = slot.failed.is_some();
            *removed += drops::count_unsent(config, slot.device, unsent, failed);
            ports.push(slot.port);
        }
        if !ports.is_empty() {
            self.index_tx_slots();
        }
        ports
    }

    /// Runs a frame through the pipeline as if `device` had received it.
    fn inject(&mut self, device: DeviceId, bytes: &[u8]) {
        let config = &mut self.config;
        let Some(mut frame) = config.pool.alloc() else {
            return drops::count(config, device, DropReason::NoFrame, 1);
        };
        let chunk_size = config.pool.memory().chunk_size();
        if frame.set_extent(HEADROOM, bytes.len(), chunk_size).is_ok() {
            config
                .pool
                .memory_mut()
                .bytes_mut(&mut frame)
                .copy_from_slice(bytes);
        }
        self.burst.push(frame);
        self.process(device, self.now());
    }

    /// Finds the first slot of each device, which frames are sent on.
    fn index_tx_slots(&mut self) {
        self.tx_slots.fill(None);
        for (slot_index, slot) in self.slots.iter().enumerate() {
            let device = slot.device.index();
            if self.tx_slots.len() <= device {
                self.tx_slots.resize(device + 1, None);
            }
            self.tx_slots[device].get_or_insert(slot_index);
        }
        self.set_room_of_all();
    }

    fn sleep(&mut self) {
        let short = self.config.pool.available() <= SHORT;
        // No event tells when a device takes frames or when chunks of sent frames come back.
        let work_left = short || self.slots.iter().any(|slot| slot.waiting);
        let (id, limit) = (self.config.id, park::limit(work_left));
        if self.config.handoff.prepare_sleep(id, short) {
            if self.config.commands.is_empty() {
                let before = self.now();
                self.parker.park(limit);
                self.config.status.slept(self.now() - before);
            }
            self.config.handoff.clear(self.config.id);
        }
    }

    fn close_all(&mut self) {
        for slot in self.slots.drain(..) {
            slot.port.close(&mut self.config.pool);
        }
        self.pipeline.close(&mut self.config.pool);
    }
}
