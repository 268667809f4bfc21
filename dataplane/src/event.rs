//! Events from the workers for the control thread, over a bounded queue. When it is full, workers
//! count the loss and continue.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use crossbeam::queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use crate::addr::{DeviceId, WorkerId};
pub use crate::pipeline::learn_event::LearnEvent;

/// An event from a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerEvent {
    /// A socket of `device` failed: its interface was deleted, or is down.
    SocketFailed {
        /// The worker that owns the socket.
        worker: WorkerId,
        /// The device.
        device: DeviceId,
        /// The receive queue of the device.
        queue: u32,
        /// The error number from the kernel (errno(3)).
        errno: i32,
    },
    /// Busy polling of a socket was switched off: the driver transmits only when it is woken, or the
    /// kernel can't poll the queue.
    BusyPollEnded {
        /// The worker that owns the socket.
        worker: WorkerId,
        /// The device.
        device: DeviceId,
        /// Queue of the device.
        queue: u32,
    },
    /// A worker saw a host, or a tenant requested an unknown address. The first field is the
    /// version of the snapshot in which the identifiers have their meaning.
    Learn(u64, LearnEvent),
}

/// The queue from all workers to the control thread.
#[derive(Debug, Clone)]
pub struct EventQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: ArrayQueue<WorkerEvent>,
    lost: AtomicU64,
    /// Readable when the queue has events.
    wakeup_fd: OwnedFd,
    /// The descriptor is readable already, so that workers make one system call until the next
    /// [`EventQueue::clear_wakeup`].
    signalled: AtomicBool,
}

impl EventQueue {
    /// An empty queue for `capacity` events, more than 0.
    ///
    /// # Errors
    /// When no eventfd can be created (EMFILE, ENFILE, ENOMEM).
    pub fn new(capacity: usize) -> io::Result<Self> {
        let wakeup_fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let (queue, lost, signalled) = (
            ArrayQueue::new(capacity),
            AtomicU64::new(0),
            AtomicBool::new(false),
        );
        Ok(Self {
            shared: Arc::new(Shared {
                queue,
                lost,
                wakeup_fd,
                signalled,
            }),
        })
    }

    /// Sends an event. When the queue is full, the event is counted as lost.
    pub fn send(&self, event: WorkerEvent) {
        let shared = &*self.shared;
        if shared.queue.push(event).is_err() {
            shared.lost.fetch_add(1, Relaxed);
        }
        if !shared.signalled.swap(true, AcqRel) {
            // EAGAIN: the descriptor is readable already. No other error is possible on an open
            // eventfd.
            let _ = rustix::io::write(&shared.wakeup_fd, &1u64.to_ne_bytes());
        }
    }

    /// Clears the readiness of the descriptor. Must be called before the queue is drained, so that
    /// later events make it readable again.
    pub fn clear_wakeup(&self) {
        let _ = rustix::io::read(&self.shared.wakeup_fd, &mut [0u8; 8]);
        self.shared.signalled.store(false, Release);
    }

    /// The next event, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<WorkerEvent> {
        self.shared.queue.pop()
    }

    /// The number of events lost because the queue was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }
}

impl AsFd for EventQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wakeup_fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        let events = EventQueue::new(1).unwrap();
        let event = WorkerEvent::SocketFailed {
            worker: WorkerId(0),
            device: DeviceId(3),
            queue: 0,
            errno: 6,
        };
        events.send(event);
        events.send(event);
        assert_eq!(events.lost(), 1);
        assert_eq!(events.next(), Some(event));
        assert_eq!(events.next(), None);
    }

    #[test]
    fn the_queue_is_readable_once_until_it_is_cleared() {
        let events = EventQueue::new(8).unwrap();
        let is_readable = || rustix::io::read(&events, &mut [0u8; 8]).is_ok();
        let event = WorkerEvent::SocketFailed {
            worker: WorkerId(0),
            device: DeviceId(3),
            queue: 0,
            errno: 6,
        };
        assert!(!is_readable());
        events.send(event);
        events.send(event);
        assert!(is_readable());
        events.send(event);
        assert!(!is_readable(), "the wakeup has not been cleared yet");
        events.clear_wakeup();
        events.send(event);
        assert!(is_readable());
    }
}
