//! How workers pass frames to one another: bounded queues, and a bell for those that sleep.
//!
//! ```text
//! worker A --frames for a device that only B can send on--> inbox of B
//! worker B --chunks of A's pool that B's device has sent --> home of A
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use rustix::event::{EventfdFlags, eventfd};

use crate::addr::{DeviceId, WorkerId};
use crate::frame::Frame;

/// Frames that may wait to be taken over by one worker. Several transmit bursts of every other worker; beyond that
/// the taker is overloaded and a longer queue would only add delay.
const INBOX: usize = 4096;

/// What others leave for one worker.
#[derive(Debug)]
struct Letterbox {
    /// Frames to send, with the device to send them on.
    inbox: ArrayQueue<(DeviceId, Frame)>,
    /// Frames whose chunk belongs to the worker's pool.
    home: ArrayQueue<Frame>,
    sleeping: CachePadded<AtomicBool>,
    bell: OwnedFd,
}

/// The boxes of all workers.
#[derive(Debug)]
pub struct Exchange {
    boxes: Box<[Letterbox]>,
    /// Chunks in each worker's pool: worker i has those from i * share on.
    share: u32,
}

impl Exchange {
    /// Boxes for `workers` workers. The pool of worker i owns the chunks from `i * share` to `(i + 1) * share - 1`; the
    /// last one also what is left, fewer than there are workers.
    ///
    /// # Errors
    /// When the kernel gives no eventfd (EMFILE, ENFILE, ENOMEM).
    pub fn new(workers: usize, share: u32) -> io::Result<Self> {
        let new_box = |_| {
            Ok(Letterbox {
                inbox: ArrayQueue::new(INBOX),
                // As large as the pool: a chunk always finds room on its way home.
                home: ArrayQueue::new(share.max(1) as usize + workers),
                sleeping: CachePadded::new(AtomicBool::new(false)),
                bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            })
        };
        Ok(Self {
            boxes: (0..workers).map(new_box).collect::<io::Result<_>>()?,
            share: share.max(1),
        })
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.boxes.len()
    }

    /// Hands a frame to the worker that owns the sending queue of `device`.
    ///
    /// # Errors
    /// The frame, when that worker's inbox is full or there is no such worker.
    pub fn hand_over(&self, to: WorkerId, device: DeviceId, frame: Frame) -> Result<(), Frame> {
        match self.boxes.get(to.index()) {
            Some(worker) => worker
                .inbox
                .push((device, frame))
                .map_err(|(_, frame)| frame),
            None => Err(frame),
        }
    }

    /// Takes the next frame that another worker handed to `worker`.
    #[must_use]
    pub fn take_over(&self, worker: WorkerId) -> Option<(DeviceId, Frame)> {
        self.boxes[worker.index()].inbox.pop()
    }

    /// Sends a frame's chunk back to the pool that it belongs to.
    ///
    /// # Errors
    /// The frame, when its home is full, which can't happen while no chunk is owned twice.
    pub fn send_home(&self, frame: Frame) -> Result<(), Frame> {
        let worker = (frame.chunk() / self.share) as usize;
        self.boxes[worker.min(self.boxes.len() - 1)]
            .home
            .push(frame)
    }

    /// Takes the next chunk that came back to `worker`.
    #[must_use]
    pub fn take_home(&self, worker: WorkerId) -> Option<Frame> {
        self.boxes[worker.index()].home.pop()
    }

    /// Wakes `worker` if it sleeps. Call it after handing over: one system call only for a worker that sleeps.
    pub fn ring(&self, worker: WorkerId) {
        let Some(worker) = self.boxes.get(worker.index()) else {
            return;
        };
        // Pairs with the fence in `may_sleep`: either we see it sleeping, or it sees what we left.
        fence(Ordering::SeqCst);
        if worker.sleeping.load(Ordering::Relaxed) {
            // EAGAIN: the bell rings already. Nothing else can fail on an eventfd that is open.
            let _ = rustix::io::write(&worker.bell, &1u64.to_ne_bytes());
        }
    }

    /// Wakes every worker, whether it sleeps or is about to.
    pub fn ring_all(&self) {
        for worker in &self.boxes {
            let _ = rustix::io::write(&worker.bell, &1u64.to_ne_bytes());
        }
    }

    /// Says that `worker` is about to sleep. False: something has come in meanwhile, so it must not.
    #[must_use]
    pub fn may_sleep(&self, worker: WorkerId) -> bool {
        let own = &self.boxes[worker.index()];
        own.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if own.inbox.is_empty() && own.home.is_empty() {
            return true;
        }
        own.sleeping.store(false, Ordering::Relaxed);
        false
    }

    /// Says that `worker` is awake again, and silences its bell.
    pub fn awake(&self, worker: WorkerId) {
        let own = &self.boxes[worker.index()];
        own.sleeping.store(false, Ordering::Relaxed);
        let _ = rustix::io::read(&own.bell, &mut [0u8; 8]);
    }

    /// The bell of `worker`: readable when it has been rung.
    #[must_use]
    pub fn bell(&self, worker: WorkerId) -> BorrowedFd<'_> {
        self.boxes[worker.index()].bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn rung(exchange: &Exchange, worker: WorkerId) -> bool {
        let bell = exchange.bell(worker);
        let mut fds = [PollFd::new(&bell, PollFlags::IN)];
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
    fn only_a_sleeper_is_rung() {
        let exchange = Exchange::new(2, 8).unwrap();
        let worker = WorkerId(1);
        exchange.ring(worker);
        assert!(!rung(&exchange, worker));
        assert!(exchange.may_sleep(worker));
        exchange.ring(worker);
        assert!(rung(&exchange, worker));
        exchange.awake(worker);
        assert!(!rung(&exchange, worker));
    }

    #[test]
    fn nobody_sleeps_on_work() {
        let exchange = Exchange::new(2, 8).unwrap();
        exchange
            .hand_over(WorkerId(0), DeviceId(5), Frame::new(3, 256, 60))
            .unwrap();
        assert!(!exchange.may_sleep(WorkerId(0)));
        let (device, frame) = exchange.take_over(WorkerId(0)).unwrap();
        assert_eq!((device, frame.chunk()), (DeviceId(5), 3));
        exchange.send_home(frame).unwrap();
        assert!(!exchange.may_sleep(WorkerId(0)));
        assert_eq!(exchange.take_home(WorkerId(0)).unwrap().chunk(), 3);
        assert!(exchange.may_sleep(WorkerId(0)));
        assert!(
            exchange
                .hand_over(WorkerId(2), DeviceId(5), Frame::new(3, 256, 60))
                .is_err()
        );
    }
}
