//! Commands of the control thread to a worker, and its replies.

use crate::addr::{DeviceId, WorkerId};

/// A command from the control thread to a worker.
#[derive(Debug)]
pub enum Command<P> {
    /// Serve one more queue.
    Attach {
        /// The device that the queue belongs to.
        device: DeviceId,
        /// The queue's number on that device.
        queue: u32,
        /// The queue.
        port: P,
    },
    /// Close every queue of the device; the worker replies with [`Reply::Detached`].
    Detach {
        /// The device.
        device: DeviceId,
    },
    /// Process these bytes as a frame that the device has received. In this way the control thread
    /// sends on behalf of a tenant (gratuitous ARP after a migration).
    Inject {
        /// The device.
        device: DeviceId,
        /// The frame, from its destination MAC on; with its VLAN tag on a trunk.
        frame: Box<[u8]>,
    },
    /// Close everything and end the thread.
    Stop,
}

/// A worker's reply to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The worker has no queue of the device open any more.
    Detached {
        /// The worker that replies.
        worker: WorkerId,
        /// The device.
        device: DeviceId,
    },
}
