//! The worker threads: started once with their share of the frames, controlled through command
//! queues.

mod queue_port;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use vtep_dataplane::addr::{DeviceId, WorkerId};
use vtep_dataplane::afxdp::{ClosingPort, Umem};
use vtep_dataplane::event::EventQueue;
use vtep_dataplane::worker::handoff::Handoff;
use vtep_dataplane::worker::{
    Command, Reply, Worker, WorkerConfig, WorkerStatus, WorkerStatusView,
};

pub use self::queue_port::QueuePort;
use crate::fib::Fib;

/// Length of a worker's command queue: more than the queues that any change attaches at once.
const COMMAND_QUEUE: usize = 4096;

/// Length of the event queue to the control thread.
const EVENT_QUEUE: usize = 4096;

/// Time limit for a worker to close its queues or to end. An iteration takes microseconds; a worker
/// that needs seconds is stuck.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// One running worker.
#[derive(Debug)]
struct WorkerThread {
    commands: Sender<Command<QueuePort>>,
    status: Arc<WorkerStatus>,
    core: Option<usize>,
    thread: Option<JoinHandle<()>>,
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<WorkerThread>,
    replies: Receiver<Reply<QueuePort>>,
    closer: Closer,
    /// The last [`Command::Detach`].
    request: u64,
    handoff: Arc<Handoff>,
    /// Events of the workers.
    pub events: EventQueue,
}

/// Number and placement of the workers.
#[derive(Debug, Clone)]
pub struct WorkerPlan {
    /// The CPU of each worker; `None` leaves it to the scheduler.
    pub cores: Vec<Option<usize>>,
    /// Workers never sleep.
    pub busy_poll: bool,
}

impl Workers {
    /// Starts one thread for each core of the plan.
    ///
    /// # Errors
    /// When the kernel refuses a thread, an eventfd or an epoll descriptor.
    pub fn start(plan: &WorkerPlan, umem: &Umem, tables: &Fib) -> io::Result<Self> {
        let count = plan.cores.len();
        let pools = umem.pools(count).map_err(io::Error::other)?;
        let share = pools.first().map_or(1, |pool| pool.capacity() as u32);
        let handoff = Arc::new(Handoff::new(count, share)?);
        let events = EventQueue::new(EVENT_QUEUE)?;
        let (reply_sender, replies) = channel::unbounded();
        let mut all = Self {
            threads: Vec::new(),
            replies,
            closer: Closer::start(&handoff)?,
            request: 0,
            handoff,
            events,
        };
        for ((number, core), pool) in (0..).zip(&plan.cores).zip(pools) {
            let (commands, received) = channel::bounded(COMMAND_QUEUE);
            let status = Arc::new(WorkerStatus::default());
            let worker = Worker::new(WorkerConfig {
                id: WorkerId(number),
                pool,
                snapshots: tables.snapshots(),
                macs: tables.mac_reader(),
                neighbors: tables.neighbor_reader(),
                handoff: all.handoff.clone(),
                events: all.events.clone(),
                commands: received,
                replies: reply_sender.clone(),
                status: status.clone(),
                busy_poll: plan.busy_poll,
            })?;
            let core = *core;
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    pin(number, core);
                    worker.run();
                })?;
            all.threads.push(WorkerThread {
                commands,
                status,
                core,
                thread: Some(thread),
            });
        }
        Ok(all)
    }

    /// Number of workers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Hands a queue to a worker. Returns false, with the queue closed, when the worker accepts no
    /// more commands because it is stuck or has ended.
    #[must_use]
    pub fn attach(&self, worker: WorkerId, device: DeviceId, queue: u32, port: QueuePort) -> bool {
        let command = Command::Attach {
            device,
            queue,
            port,
        };
        let accepted = self.threads[worker.index()]
            .commands
            .try_send(command)
            .is_ok();
        self.handoff.wake(worker);
        accepted
    }

    /// Takes the queues of `device` from number `from` on (0 = all of them) from all workers and
    /// has
    /// other threads close them. Returns whether all workers gave them up in time.
    #[must_use]
    pub fn detach(&mut self, device: DeviceId, from: u32) -> bool {
        self.request += 1;
        let request = self.request;
        let mut waiting: Vec<_> = (0..self.threads.len() as u16).map(WorkerId).collect();
        waiting.retain(|worker| {
            self.threads[worker.index()]
                .commands
                .try_send(Command::Detach {
                    device,
                    from,
                    request,
                })
                .is_ok()
        });
        let notified = waiting.len();
        waiting.iter().for_each(|worker| self.handoff.wake(*worker));
        let deadline = Instant::now() + REPLY_TIMEOUT;
        while !waiting.is_empty() {
            let Ok(Reply::Detached {
                worker,
                request: done,
                ports,
            }) = self.replies.recv_deadline(deadline)
            else {
                return false;
            };
            // A late reply to an earlier request does not count.
            if done == Some(request) {
                waiting.retain(|w| *w != worker);
            }
            ports.into_iter().for_each(|port| self.closer.close(port));
        }
        notified == self.threads.len()
    }

    /// Closes queues that a worker gave up later than [`Self::detach`] waited.
    pub fn close_late(&self) {
        while let Ok(Reply::Detached { ports, .. }) = self.replies.try_recv() {
            ports.into_iter().for_each(|port| self.closer.close(port));
        }
    }

    /// Makes `worker` process a frame as if `device` had received it. Returns whether the worker
    /// accepts the command.
    #[must_use]
    pub fn inject(&self, worker: WorkerId, device: DeviceId, frame: Box<[u8]>) -> bool {
        let accepted = self.threads[worker.index()]
            .commands
            .try_send(Command::Inject { device, frame })
            .is_ok();
        self.handoff.wake(worker);
        accepted
    }

    /// Wakes sleeping workers, so that they switch to the latest snapshot.
    pub fn refresh(&self) {
        (0..self.threads.len() as u16).for_each(|worker| self.handoff.wake(WorkerId(worker)));
    }

    /// Status of each worker, with its CPU.
    pub fn status(&self) -> impl Iterator<Item = (WorkerId, Option<usize>, WorkerStatusView)> {
        (0..)
            .map(WorkerId)
            .zip(&self.threads)
            .map(|(id, worker)| (id, worker.core, worker.status.view()))
    }

    /// Ends all workers, which closes their queues. Returns whether every one ended in time and
    /// without a panic.
    pub fn stop(&mut self) -> bool {
        for worker in &self.threads {
            let _ = worker.commands.try_send(Command::Stop);
        }
        self.handoff.wake_all();
        let deadline = Instant::now() + REPLY_TIMEOUT;
        let mut all_ended = true;
        for worker in &mut self.threads {
            let Some(thread) = worker.thread.take() else {
                continue;
            };
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            all_ended &= thread.is_finished() && thread.join().is_ok();
        }
        all_ended
    }
}

/// Threads that close queues: the kernel takes milliseconds for each, most of it waiting, and a
/// zero-copy driver longer. Their chunks return to their owners.
#[derive(Debug)]
struct Closer {
    ports: Option<Sender<QueuePort>>,
    threads: Vec<JoinHandle<()>>,
}

/// How often queues that the kernel has not released are looked at.
const CLOSE_RETRY: Duration = Duration::from_secs(1);

/// Threads of the [`Closer`].
const CLOSERS: usize = 8;

impl Closer {
    fn start(handoff: &Arc<Handoff>) -> io::Result<Self> {
        let (ports, received) = channel::unbounded::<QueuePort>();
        let start = |_| {
            let (received, handoff) = (received.clone(), Arc::clone(handoff));
            thread::Builder::new()
                .name("closer".to_owned())
                .spawn(move || Self::run(&received, &handoff))
        };
        Ok(Self {
            ports: Some(ports),
            threads: (0..CLOSERS).map(start).collect::<io::Result<_>>()?,
        })
    }

    /// Closes queues until no more can come. Those that the kernel does not release, since their
    /// packets wait in a lower interface, are looked at again, however long that takes.
    fn run(received: &Receiver<QueuePort>, handoff: &Handoff) {
        // The queue of returned chunks is as long as the pool: it refuses none.
        let give = |frame| drop(handoff.return_chunk(frame));
        let mut waiting: Vec<ClosingPort> = Vec::new();
        let mut retry_at = Instant::now();
        loop {
            let timeout = if waiting.is_empty() {
                Duration::MAX
            } else {
                retry_at.saturating_duration_since(Instant::now())
            };
            match received.recv_timeout(timeout) {
                Ok(port) => waiting.extend(port.close_with(give)),
                Err(RecvTimeoutError::Timeout) => {
                    waiting = waiting
                        .into_iter()
                        .filter_map(|it| it.retry(give))
                        .collect();
                    retry_at = Instant::now() + CLOSE_RETRY;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            handoff.wake_short();
        }
    }

    fn close(&self, port: QueuePort) {
        if let Some(ports) = &self.ports {
            // Fails only when no thread is left; the port then closes here.
            let _ = ports.send(port);
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.ports = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Pins the calling thread. A CPU that is missing or not allowed costs speed, not service: a
/// warning is logged.
fn pin(worker: u16, core: Option<usize>) {
    if let Some(id) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!(
            worker,
            core = id,
            "can't pin the worker to its core; it runs where the scheduler puts it"
        );
    }
}
