//! What workers tell the control thread, over a bounded queue. When it is full they count, and go on.

use crate::addr::{DeviceId, WorkerId};
use crate::core::notice::Notice;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    /// A worker saw a host, or a tenant asked for one that is not known.
    Notice(Notice),
}

/// The queue from all workers to the control thread.
#[derive(Debug, Clone)]
pub struct Events {
    queue: Arc<ArrayQueue<Event>>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// Room for `capacity` events.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { queue: Arc::new(ArrayQueue::new(capacity)), lost: Arc::default() }
    }

    /// Sends an event; a full queue counts it as lost.
    pub fn send(&self, event: Event) {
        if self.queue.push(event).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// The next event, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<Event> {
        self.queue.pop()
    }

    /// How many events found the queue full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        let events = Events::new(1);
        let event = Event::SocketFailed { worker: WorkerId(0), device: DeviceId(3), queue: 0, errno: 6 };
        events.send(event);
        events.send(event);
        assert_eq!(events.lost(), 1);
        assert_eq!(events.next(), Some(event));
        assert_eq!(events.next(), None);
    }
}
