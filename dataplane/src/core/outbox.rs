//! Frames on their way out, sorted by device, until the worker sends or hands them over.

use super::frame::Frame;
use crate::addr::DeviceId;

/// One bounded queue for each device. Nothing is allocated after [`Outbox::new`] and [`Outbox::grow`].
#[derive(Debug, Default)]
pub struct Outbox {
    queues: Vec<Vec<Frame>>,
    /// Devices whose queue is not empty, each once.
    busy: Vec<DeviceId>,
}

/// Frames a device's queue holds at most: as many as a transmit ring.
pub const QUEUE: usize = 2048;

impl Outbox {
    /// Queues for the devices 0..`devices`.
    #[must_use]
    pub fn new(devices: usize) -> Self {
        let mut outbox = Self::default();
        outbox.grow(devices);
        outbox
    }

    /// Makes room for the devices 0..`devices`. Allocates: only when the configuration changes.
    pub fn grow(&mut self, devices: usize) {
        while self.queues.len() < devices {
            self.queues.push(Vec::with_capacity(QUEUE));
        }
        self.busy.reserve(devices);
    }

    /// Queues a frame for `device`; gives it back when that queue is full or unknown.
    ///
    /// # Errors
    /// The frame, to be counted and given to the pool.
    #[inline]
    pub fn push(&mut self, device: DeviceId, frame: Frame) -> Result<(), Frame> {
        let Some(queue) = self.queues.get_mut(device.index()) else { return Err(frame) };
        if queue.len() == QUEUE {
            return Err(frame);
        }
        if queue.is_empty() {
            self.busy.push(device);
        }
        queue.push(frame);
        Ok(())
    }

    /// The next device that has frames, and its frames. The caller must empty the queue.
    #[inline]
    pub fn next_busy(&mut self) -> Option<(DeviceId, &mut Vec<Frame>)> {
        let device = self.busy.pop()?;
        Some((device, &mut self.queues[device.index()]))
    }
}
