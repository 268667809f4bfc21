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
    /// Serve the queues of the device from number `from` on no longer; the worker returns them in
    /// [`Reply::Detached`].
    Detach {
        /// The device.
        device: DeviceId,
        /// The first queue to close; 0 = all of them.
        from: u32,
        /// Number of this request, for the reply.
        request: u64,
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
#[derive(Debug)]
pub enum Reply<P> {
    /// The worker does not serve these queues of the device any more.
    Detached {
        /// The worker that replies.
        worker: WorkerId,
        /// The request; `None`: the device was removed from the tables before the worker was asked.
        request: Option<u64>,
        /// Its queues, to be closed: the worker must not wait for the kernel to release them.
        ports: Vec<P>,
    },
}
