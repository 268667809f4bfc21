//! What workers tell the control thread, over a bounded queue. When it is full they count, and go on.

use crate::addr::{DeviceId, WorkerId};
use crate::core::notice::Notice;
use crossbeam::queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Something that the control thread should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A socket of `device` failed: its interface is gone or down. `errno` as the kernel gave it.
    SocketFailed {
        /// The worker that owns the socket.
        worker: WorkerId,
        /// The device.
        device: DeviceId,
        /// Receive queue of the device.
        queue: u32,
        /// The kernel's error number.
        errno: i32,
    },
    /// Busy polling of a socket was taken back: the kernel took nothing that the socket had to send for 10 ms.
    BusyPollEnded {
        /// The worker that owns the socket.
        worker: WorkerId,
        /// The device.
        device: DeviceId,
        /// Queue of the device.
        queue: u32,
    },
    /// A worker saw a host, or a tenant asked for one that is not known.
    Notice(Notice),
}

/// The queue from all workers to the control thread.
#[derive(Debug, Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: ArrayQueue<Event>,
    lost: AtomicU64,
    /// Readable when there is something in the queue.
    bell: OwnedFd,
    /// The bell rings already: one system call for all events until the control thread looks.
    rung: AtomicBool,
}

impl Events {
    /// Room for `capacity` events.
    ///
    /// # Errors
    /// When the kernel gives no eventfd (EMFILE, ENFILE, ENOMEM).
    pub fn new(capacity: usize) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let (queue, lost, rung) = (ArrayQueue::new(capacity), AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { shared: Arc::new(Shared { queue, lost, bell, rung }) })
    }

    /// Sends an event; a full queue counts it as lost.
    pub fn send(&self, event: Event) {
        let shared = &*self.shared;
        if shared.queue.push(event).is_err() {
            shared.lost.fetch_add(1, Relaxed);
        }
        if !shared.rung.swap(true, AcqRel) {
            // EAGAIN: the bell rings already. Nothing else can fail on an eventfd that is open.
            let _ = rustix::io::write(&shared.bell, &1u64.to_ne_bytes());
        }
    }

    /// Silences the bell. To be called before the queue is emptied: what comes after it rings again.
    pub fn hush(&self) {
        let _ = rustix::io::read(&self.shared.bell, &mut [0u8; 8]);
        self.shared.rung.store(false, Release);
    }

    /// The next event, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<Event> {
        self.shared.queue.pop()
    }

    /// How many events found the queue full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        let events = Events::new(1).unwrap();
        let event = Event::SocketFailed { worker: WorkerId(0), device: DeviceId(3), queue: 0, errno: 6 };
        events.send(event);
        events.send(event);
        assert_eq!(events.lost(), 1);
        assert_eq!(events.next(), Some(event));
        assert_eq!(events.next(), None);
    }

    #[test]
    fn the_bell_rings_once_until_it_is_hushed() {
        let events = Events::new(8).unwrap();
        let rings = || rustix::io::read(&events, &mut [0u8; 8]).is_ok();
        let event = Event::SocketFailed { worker: WorkerId(0), device: DeviceId(3), queue: 0, errno: 6 };
        assert!(!rings());
        events.send(event);
        events.send(event);
        assert!(rings());
        events.send(event);
        assert!(!rings(), "the control thread has not looked yet");
        events.hush();
        events.send(event);
        assert!(rings());
    }
}
