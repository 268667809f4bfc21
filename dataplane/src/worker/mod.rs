//! A worker: one pinned thread that moves frames between the queues it owns, run to completion.
//!
//! ```text
//! turn:  commands -> refresh tables -> each port: receive, pipeline, send -> some copies of floods -> frames handed over
//!        by others -> wake ports -> chunks sent home -> heartbeat
//! ```
//!
//! A turn has no lock, no allocation and no log. When nothing was done for a while the worker sleeps in `epoll_wait`
//! until a port has frames or another thread rings its bell; with busy polling it never sleeps.

pub mod exchange;
mod sleep;
mod status;
#[cfg(test)]
mod tests;

pub use status::{Status, StatusView};

use crate::addr::{DeviceId, WorkerId};
use crate::core::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool};
use crate::core::outbox::Outbox;
use crate::core::pipeline::{Pipeline, Tables};
use crate::core::verdict::Reason;
use crate::event::{Event, Events};
use crate::port::{Port, Refused};
use crate::table::Snapshot;
use crate::table::mac::MacReader;
use crate::table::neighbor::NeighborReader;
use crate::table::publish::Reader;
use crossbeam::channel::{Receiver, Sender};
use exchange::Exchange;
use sleep::Bed;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Turns without work before a worker sleeps. Few: a spinning worker takes the core from the kernel's own half of the
/// work (softirq on the same core).
const IDLE_TURNS: u32 = 8;

/// What the control thread asks of a worker.
#[derive(Debug)]
pub enum Command<P> {
    /// Serve one more queue.
    Attach {
        /// The device that the queue belongs to.
        device: DeviceId,
        /// Its number there.
        queue: u32,
        /// The queue.
        port: P,
    },
    /// Close every queue of the device; the worker answers with [`Reply::Detached`].
    Detach {
        /// The device.
        device: DeviceId,
    },
    /// Treat these bytes as a frame that the device has received: how the control thread speaks for a tenant (gratuitous
    /// ARP after a migration).
    Inject {
        /// The device.
        device: DeviceId,
        /// The frame, from its destination MAC on; with its tag on a trunk.
        frame: Box<[u8]>,
    },
    /// Close everything and end the thread.
    Stop,
}

/// What a worker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// No queue of the device is open at this worker any more.
    Detached {
        /// Who answers.
        worker: WorkerId,
        /// The device.
        device: DeviceId,
    },
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts<M, P> {
    /// Its number; also its row in all counters.
    pub id: WorkerId,
    /// Its share of the frames.
    pub pool: Pool<M>,
    /// The tables.
    pub snapshots: Reader<Snapshot>,
    /// The MAC table.
    pub macs: MacReader,
    /// The neighbour table.
    pub neighbors: NeighborReader,
    /// Hand-off between workers.
    pub exchange: Arc<Exchange>,
    /// To the control thread.
    pub events: Events,
    /// From the control thread.
    pub commands: Receiver<Command<P>>,
    /// Answers to commands.
    pub replies: Sender<Reply>,
    /// What `show workers` reads.
    pub status: Arc<Status>,
    /// Never sleep.
    pub busy_poll: bool,
}

/// A queue that the worker serves.
#[derive(Debug)]
struct Slot<P> {
    device: DeviceId,
    queue: u32,
    port: P,
    /// The last error that was reported, so that a lasting one is reported once.
    failed: Option<i32>,
    /// What the port has refused and is counted already.
    refused: Refused,
}

/// A worker and all that it owns.
#[derive(Debug)]
pub struct Worker<M, P> {
    parts: Parts<M, P>,
    slots: Vec<Slot<P>>,
    /// By device: the slot to send on, if one is ours.
    own: Vec<Option<usize>>,
    pipeline: Pipeline,
    outbox: Outbox,
    burst: Vec<Frame>,
    bed: Bed,
    started: Instant,
    stop: bool,
}

impl<M: FrameMemory, P: Port<M>> Worker<M, P> {
    /// A worker without queues.
    ///
    /// # Errors
    /// When the kernel gives no epoll descriptor.
    pub fn new(parts: Parts<M, P>) -> io::Result<Self> {
        let devices = parts.snapshots.get().ports.devices.len();
        let bed = Bed::new(&parts.exchange, parts.id)?;
        Ok(Self {
            slots: Vec::new(),
            own: Vec::new(),
            pipeline: Pipeline::new(parts.id),
            outbox: Outbox::new(devices),
            burst: Vec::with_capacity(BURST),
            bed,
            started: Instant::now(),
            stop: false,
            parts,
        })
    }

    /// Works until [`Command::Stop`] comes or the control thread's end of the command channel is gone.
    pub fn run(mut self) {
        let mut idle = 0;
        while !self.stop {
            let work = self.turn(self.now());
            self.parts.status.turn(work, self.parts.pool.available(), self.now());
            idle = if work == 0 { idle + 1 } else { 0 };
            if idle > IDLE_TURNS && !self.parts.busy_poll {
                self.sleep();
                idle = 0;
            }
        }
        self.close_all();
    }

    /// Nanoseconds since the worker began.
    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// One round over everything. `now` in nanoseconds, never going back. Returns how many frames were moved.
    pub fn turn(&mut self, now: u64) -> usize {
        if !self.parts.commands.is_empty() {
            self.obey();
        }
        if self.parts.snapshots.refresh() {
            self.outbox.grow(self.parts.snapshots.get().ports.devices.len());
        }
        self.parts.macs.refresh();
        let mut work = 0;
        for place in 0..self.slots.len() {
            work += self.serve(place, now);
        }
        work += self.replicate(now);
        work += self.take_over();
        self.wake_ports();
        self.exchange_chunks();
        work
    }

    /// Receives one burst from a slot, decides, and sends what comes of it.
    fn serve(&mut self, place: usize, now: u64) -> usize {
        let slot = &mut self.slots[place];
        let received = slot.port.receive(&mut self.parts.pool, &mut self.burst);
        if received > 0 {
            let device = slot.device;
            self.process(device, now);
        }
        received
    }

    /// Puts what `device` has received through the pipeline, and sends what comes of it.
    fn process(&mut self, device: DeviceId, now: u64) {
        let Self { parts, burst, pipeline, outbox, .. } = self;
        let snapshot = parts.snapshots.get();
        let tables = Tables { snapshot, macs: &parts.macs, neighbors: &parts.neighbors };
        pipeline.burst(tables, now, device, burst, &mut parts.pool, outbox);
        while let Some(notice) = pipeline.next_notice() {
            parts.events.send(Event::Notice(notice));
        }
        self.dispatch();
    }

    /// Goes on with floods. Returns how many receivers were served.
    fn replicate(&mut self, now: u64) -> usize {
        let Self { parts, pipeline, outbox, .. } = self;
        let snapshot = parts.snapshots.get();
        let tables = Tables { snapshot, macs: &parts.macs, neighbors: &parts.neighbors };
        let served = pipeline.replicate(tables, now, &mut parts.pool, outbox);
        if served > 0 {
            self.dispatch();
        }
        served
    }

    /// Takes over frames that other workers want sent on our queues.
    fn take_over(&mut self) -> usize {
        let mut taken = 0;
        while taken < BURST
            && let Some((device, frame)) = self.parts.exchange.take_over(self.parts.id)
        {
            taken += 1;
            if let Err(frame) = self.outbox.push(device, frame) {
                self.drop_frame(device, frame, Reason::TxFull);
            }
        }
        if taken > 0 {
            self.dispatch();
        }
        taken
    }

    /// Empties the outbox: onto our own queues, or into the inbox of the worker that has the queue.
    fn dispatch(&mut self) {
        while let Some((device, mut frames)) = self.outbox.take_busy() {
            match self.own.get(device.index()).copied().flatten() {
                Some(place) => self.send(place, &mut frames),
                None => self.hand_over(device, &mut frames),
            }
            self.outbox.restore(device, frames);
        }
    }

    fn send(&mut self, place: usize, frames: &mut Vec<Frame>) {
        let Self { parts, slots, .. } = self;
        let slot = &mut slots[place];
        slot.port.send(&mut parts.pool, frames);
        if !frames.is_empty() {
            // The ring is full: let the kernel empty it, once, before giving up.
            let _ = slot.port.wake(&mut parts.pool);
            slot.port.send(&mut parts.pool, frames);
        }
        let device = slot.device;
        for frame in frames.drain(..) {
            drop_frame(parts, device, frame, Reason::TxFull);
        }
    }

    fn hand_over(&mut self, device: DeviceId, frames: &mut Vec<Frame>) {
        let parts = &mut self.parts;
        let sender =
            parts.snapshots.get().ports.device(device).and_then(|d| d.sender.get(parts.id.index()).copied());
        let Some(to) = sender.filter(|to| *to != parts.id) else {
            frames.drain(..).for_each(|frame| drop_frame(parts, device, frame, Reason::PortDown));
            return;
        };
        for frame in frames.drain(..) {
            if let Err(frame) = parts.exchange.hand_over(to, device, frame) {
                drop_frame(parts, device, frame, Reason::HandOffFull);
            }
        }
        parts.exchange.ring(to);
    }

    fn drop_frame(&mut self, device: DeviceId, frame: Frame, reason: Reason) {
        drop_frame(&mut self.parts, device, frame, reason);
    }

    /// Tells every port that its turn is over; reports an error that is new.
    fn wake_ports(&mut self) {
        let Self { parts, slots, .. } = self;
        for slot in slots {
            let failed = slot.port.wake(&mut parts.pool).err();
            if let Some(errno) = failed.filter(|_| failed != slot.failed) {
                parts.events.send(Event::SocketFailed {
                    worker: parts.id,
                    device: slot.device,
                    queue: slot.queue,
                    errno,
                });
            }
            slot.failed = failed;
            if slot.port.busy_poll_ended() {
                let (worker, device, queue) = (parts.id, slot.device, slot.queue);
                parts.events.send(Event::BusyPollEnded { worker, device, queue });
            }
            let refused = slot.port.refused();
            if refused != slot.refused {
                count_refused(parts, slot.device, slot.refused, refused);
                slot.refused = refused;
            }
        }
    }

    /// Sends chunks of others home and takes ours back.
    fn exchange_chunks(&mut self) {
        let parts = &mut self.parts;
        while let Some(frame) = parts.pool.next_stray() {
            if let Err(frame) = parts.exchange.send_home(frame) {
                parts.pool.give(frame);
                break;
            }
        }
        while let Some(frame) = parts.exchange.take_home(parts.id) {
            parts.pool.give(frame);
        }
    }

    /// Does what the control thread has asked for.
    fn obey(&mut self) {
        while let Ok(command) = self.parts.commands.try_recv() {
            match command {
                Command::Attach { device, queue, port } => self.attach(device, queue, port),
                Command::Detach { device } => self.detach(device),
                Command::Inject { device, frame } => self.inject(device, &frame),
                Command::Stop => self.stop = true,
            }
        }
    }

    fn attach(&mut self, device: DeviceId, queue: u32, port: P) {
        self.outbox.grow(device.index() + 1);
        if let Some(fd) = port.poll_fd()
            && let Err(error) = self.bed.add(fd)
        {
            // Without it the worker still looks at the port whenever it wakes: say so, and go on.
            self.parts.events.send(Event::SocketFailed {
                worker: self.parts.id,
                device,
                queue,
                errno: error.raw_os_error().unwrap_or(0),
            });
        }
        self.slots.push(Slot { device, queue, port, failed: None, refused: Refused::default() });
        self.find_own();
    }

    fn detach(&mut self, device: DeviceId) {
        while let Some(place) = self.slots.iter().position(|slot| slot.device == device) {
            let slot = self.slots.swap_remove(place);
            slot.port.close(&mut self.parts.pool);
        }
        self.find_own();
        let reply = Reply::Detached { worker: self.parts.id, device };
        // The control thread is gone: there is nobody left to tell.
        let _ = self.parts.replies.send(reply);
    }

    /// Puts a frame into the pipeline as if `device` had received it.
    fn inject(&mut self, device: DeviceId, bytes: &[u8]) {
        let parts = &mut self.parts;
        let Some(mut frame) = parts.pool.take() else {
            return count_drops(parts, device, Reason::NoFrame, 1);
        };
        let chunk_size = parts.pool.memory().chunk_size();
        if frame.place(HEADROOM, bytes.len(), chunk_size).is_ok() {
            parts.pool.memory_mut().bytes_mut(&mut frame).copy_from_slice(bytes);
        }
        self.burst.push(frame);
        self.process(device, self.now());
    }

    /// Sends on the first queue that we have of each device.
    fn find_own(&mut self) {
        self.own.fill(None);
        for (place, slot) in self.slots.iter().enumerate() {
            let device = slot.device.index();
            if self.own.len() <= device {
                self.own.resize(device + 1, None);
            }
            self.own[device].get_or_insert(place);
        }
    }

    fn sleep(&mut self) {
        if self.parts.exchange.may_sleep(self.parts.id) {
            if self.parts.commands.is_empty() {
                let before = self.now();
                self.bed.sleep();
                self.parts.status.slept(self.now() - before);
            }
            self.parts.exchange.awake(self.parts.id);
        }
    }

    fn close_all(&mut self) {
        for slot in self.slots.drain(..) {
            slot.port.close(&mut self.parts.pool);
        }
        self.pipeline.close(&mut self.parts.pool);
    }
}

/// Counts a frame that could not be sent, and frees its chunk.
fn drop_frame<M: FrameMemory, P>(parts: &mut Parts<M, P>, device: DeviceId, frame: Frame, reason: Reason) {
    count_drops(parts, device, reason, 1);
    parts.pool.give(frame);
}

/// Counts what a port has refused since it was asked last.
#[cold]
fn count_refused<M, P>(parts: &Parts<M, P>, device: DeviceId, before: Refused, now: Refused) {
    let counts = [
        (Reason::BadDescriptor, before.bad_descriptors, now.bad_descriptors),
        (Reason::TooLong, before.too_long, now.too_long),
        (Reason::SeveralChunks, before.several_chunks, now.several_chunks),
    ];
    for (reason, before, now) in counts {
        count_drops(parts, device, reason, now - before);
    }
}

fn count_drops<M, P>(parts: &Parts<M, P>, device: DeviceId, reason: Reason, frames: u64) {
    if let Some(device) = parts.snapshots.get().ports.device(device) {
        device.counters.row(parts.id).dropped_many(reason, frames);
    }
}
