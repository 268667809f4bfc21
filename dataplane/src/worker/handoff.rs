//! Hand-off of frames between workers: bounded queues, and an eventfd to wake a sleeping worker.
//!
//! ```text
//! worker A --frames for a device that only B can send on--> `inbox` of B
//! worker B --chunks of A's pool that B's device has sent--> `returned` of A
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use rustix::event::{EventfdFlags, eventfd};

use crate::addr::{DeviceId, WorkerId};
use crate::frame::Frame;

/// Frames that may wait in one worker's inbox: several transmit bursts of every other worker.
/// Beyond that the worker is overloaded, and a longer queue would only add delay.
const INBOX_CAPACITY: usize = 4096;

/// A frame for another worker.
#[derive(Debug, PartialEq, Eq)]
pub struct HandedOff {
    /// The device to send it on.
    pub device: DeviceId,
    /// The version of the snapshot in which `device` is that device.
    pub version: u64,
    /// The frame.
    pub frame: Frame,
}

/// The queues that other workers fill for one worker.
#[derive(Debug)]
struct WorkerQueues {
    /// Frames to send.
    inbox: ArrayQueue<HandedOff>,
    /// Frames whose chunk belongs to the worker's pool.
    returned: ArrayQueue<Frame>,
    /// The worker sleeps or is about to.
    sleeping: CachePadded<AtomicBool>,
    /// It sleeps short of chunks: one that is returned wakes it.
    short: AtomicBool,
    /// Its free chunks, as of its last iteration.
    free: CachePadded<AtomicUsize>,
    /// An eventfd, readable when the worker has been signalled.
    wakeup_fd: OwnedFd,
}

/// The queues of all workers.
#[derive(Debug)]
pub struct Handoff {
    queues: Box<[WorkerQueues]>,
    /// Chunks in each worker's pool: worker i owns those from i * share on.
    share: u32,
}

impl Handoff {
    /// Queues for `workers` workers. The pool of worker i owns the chunks from `i * share` to
    /// `(i + 1) * share - 1`; the last worker also owns the remainder, fewer chunks than there are
    /// workers.
    ///
    /// # Errors
    /// When the kernel has no eventfd left (EMFILE, ENFILE, ENOMEM).
    pub fn new(workers: usize, share: u32) -> io::Result<Self> {
        let new_queues = |_| {
            Ok(WorkerQueues {
                inbox: ArrayQueue::new(INBOX_CAPACITY),
                // As large as the pool, so that returning a chunk never fails.
                returned: ArrayQueue::new(share.max(1) as usize + workers),
                sleeping: CachePadded::new(AtomicBool::new(false)),
                short: AtomicBool::new(false),
                free: CachePadded::new(AtomicUsize::new(share as usize)),
                wakeup_fd: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            })
        };
        Ok(Self {
            queues: (0..workers).map(new_queues).collect::<io::Result<_>>()?,
            share: share.max(1),
        })
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.queues.len()
    }

    /// Hands a frame off to the worker that sends on its device.
    ///
    /// # Errors
    /// The frame, when that worker's inbox is full or the worker does not exist.
    pub fn push_handoff(&self, to: WorkerId, frame: HandedOff) -> Result<(), Frame> {
        match self.queues.get(to.index()) {
            Some(worker) => worker.inbox.push(frame).map_err(|rejected| rejected.frame),
            None => Err(frame.frame),
        }
    }

    /// Takes the next frame that another worker handed off to `worker`.
    #[must_use]
    pub fn pop_handoff(&self, worker: WorkerId) -> Option<HandedOff> {
        self.queues[worker.index()].inbox.pop()
    }

    /// Frames that wait in the inbox of `worker`.
    #[must_use]
    pub fn waiting(&self, worker: WorkerId) -> usize {
        self.queues
            .get(worker.index())
            .map_or(0, |worker| worker.inbox.len())
    }

    /// Publishes how many chunks of `worker` are free.
    #[inline]
    pub fn set_free(&self, worker: WorkerId, chunks: usize) {
        let free = &self.queues[worker.index()].free;
        if free.load(Ordering::Relaxed) != chunks {
            free.store(chunks, Ordering::Relaxed);
        }
    }

    /// The free chunks of the worker whose pool owns the frame's first chunk.
    #[must_use]
    pub fn free_of_owner(&self, frame: &Frame) -> usize {
        self.owner(frame).free.load(Ordering::Relaxed)
    }

    fn owner(&self, frame: &Frame) -> &WorkerQueues {
        let worker = (frame.chunk() / self.share) as usize;
        &self.queues[worker.min(self.queues.len() - 1)]
    }

    /// Returns a frame's chunk to the worker whose pool owns it.
    ///
    /// # Errors
    /// The frame, when that queue is full, which can't happen while no chunk is owned twice.
    pub fn return_chunk(&self, frame: Frame) -> Result<(), Frame> {
        self.owner(&frame).returned.push(frame)
    }

    /// Wakes the workers that sleep short of chunks. Must be called after chunks were returned.
    pub fn wake_short(&self) {
        // Pairs with the fence in `prepare_sleep`, as in `wake`.
        fence(Ordering::SeqCst);
        for worker in &self.queues {
            if worker.short.load(Ordering::Relaxed) && !worker.returned.is_empty() {
                worker.short.store(false, Ordering::Relaxed);
                let _ = rustix::io::write(&worker.wakeup_fd, &1u64.to_ne_bytes());
            }
        }
    }

    /// Takes the next chunk that was returned to `worker`.
    #[must_use]
    pub fn pop_returned(&self, worker: WorkerId) -> Option<Frame> {
        self.queues[worker.index()].returned.pop()
    }

    /// Wakes `worker` if it sleeps; only then it makes a system call. Must be called after a
    /// hand-off.
    pub fn wake(&self, worker: WorkerId) {
        let Some(worker) = self.queues.get(worker.index()) else {
            return;
        };
        // Pairs with the fence in `prepare_sleep`: either this thread sees the worker sleeping, or
        // the worker sees what was queued.
        fence(Ordering::SeqCst);
        if worker.sleeping.load(Ordering::Relaxed) {
            // EAGAIN: it is signalled already. Nothing else can fail on an open eventfd.
            let _ = rustix::io::write(&worker.wakeup_fd, &1u64.to_ne_bytes());
        }
    }

    /// Wakes every worker, whether it sleeps or is about to sleep.
    pub fn wake_all(&self) {
        for worker in &self.queues {
            let _ = rustix::io::write(&worker.wakeup_fd, &1u64.to_ne_bytes());
        }
    }

    /// Announces that `worker` is about to sleep, and whether it is `short` of chunks. False when
    /// frames have arrived meanwhile: then the worker must not sleep.
    #[must_use]
    pub fn prepare_sleep(&self, worker: WorkerId, short: bool) -> bool {
        let own = &self.queues[worker.index()];
        own.sleeping.store(true, Ordering::Relaxed);
        own.short.store(short, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if own.inbox.is_empty() && own.returned.is_empty() {
            return true;
        }
        own.sleeping.store(false, Ordering::Relaxed);
        own.short.store(false, Ordering::Relaxed);
        false
    }

    /// Marks `worker` as awake again, and clears its wakeup descriptor.
    pub fn clear(&self, worker: WorkerId) {
        let own = &self.queues[worker.index()];
        own.sleeping.store(false, Ordering::Relaxed);
        own.short.store(false, Ordering::Relaxed);
        let _ = rustix::io::read(&own.wakeup_fd, &mut [0u8; 8]);
    }

    /// The wakeup descriptor of `worker`: readable when it has been signalled.
    #[must_use]
    pub fn wakeup_fd(&self, worker: WorkerId) -> BorrowedFd<'_> {
        self.queues[worker.index()].wakeup_fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn signalled(handoff: &Handoff, worker: WorkerId) -> bool {
        let fd = handoff.wakeup_fd(worker);
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .unwrap()
            == 1
    }

    #[test]
    fn only_a_sleeping_worker_is_signalled() {
        let handoff = Handoff::new(2, 8).unwrap();
        let worker = WorkerId(1);
        handoff.wake(worker);
        assert!(!signalled(&handoff, worker));
        assert!(handoff.prepare_sleep(worker, false));
        handoff.wake(worker);
        assert!(signalled(&handoff, worker));
        handoff.clear(worker);
        assert!(!signalled(&handoff, worker));
    }

    /// Chunks that come home wake a worker that waits for them (finding D6).
    #[test]
    fn a_returned_chunk_wakes_only_a_worker_that_is_short_of_chunks() {
        let handoff = Handoff::new(2, 8).unwrap();
        let worker = WorkerId(0);
        for short in [false, true] {
            assert!(handoff.prepare_sleep(worker, short));
            handoff.return_chunk(Frame::new(3, 256, 60)).unwrap();
            handoff.wake_short();
            assert_eq!(signalled(&handoff, worker), short);
            handoff.clear(worker);
            assert!(handoff.pop_returned(worker).is_some());
        }
    }

    #[test]
    fn a_worker_with_work_does_not_sleep() {
        let frame = || HandedOff {
            device: DeviceId(5),
            version: 1,
            frame: Frame::new(3, 256, 60),
        };
        let handoff = Handoff::new(2, 8).unwrap();
        handoff.push_handoff(WorkerId(0), frame()).unwrap();
        assert!(!handoff.prepare_sleep(WorkerId(0), false));
        let popped = handoff.pop_handoff(WorkerId(0)).unwrap();
        assert_eq!(popped, frame());
        handoff.return_chunk(popped.frame).unwrap();
        assert!(!handoff.prepare_sleep(WorkerId(0), false));
        assert_eq!(handoff.pop_returned(WorkerId(0)).unwrap().chunk(), 3);
        assert!(handoff.prepare_sleep(WorkerId(0), false));
        assert!(handoff.push_handoff(WorkerId(2), frame()).is_err());
    }
}
