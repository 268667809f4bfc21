//! Transmit queues: one for each device, until the worker sends the frames or hands them off.

use crate::addr::DeviceId;
use crate::frame::Frame;

/// One bounded queue for each device. Only [`TxQueues::new`] and [`TxQueues::grow`] allocate.
#[derive(Debug, Default)]
pub struct TxQueues {
    queues: Vec<Vec<Frame>>,
    /// Devices whose queue is not empty, each once.
    busy: Vec<DeviceId>,
}

/// Capacity of a device's queue, frames: that of a transmit ring.
pub const QUEUE: usize = 2048;

impl TxQueues {
    /// Queues for the devices 0..`devices`.
    #[must_use]
    pub fn new(devices: usize) -> Self {
        let mut queues = Self::default();
        queues.grow(devices);
        queues
    }

    /// Adds queues up to device `devices` - 1. Allocates, when the configuration changes.
    pub fn grow(&mut self, devices: usize) {
        while self.queues.len() < devices {
            self.queues.push(Vec::with_capacity(QUEUE));
        }
        self.busy.reserve(devices);
    }

    /// Queues a frame for `device`.
    ///
    /// # Errors
    /// The frame, to be counted and freed, when the queue is full or does not exist.
    #[inline]
    pub fn push(&mut self, device: DeviceId, frame: Frame) -> Result<(), Frame> {
        let Some(queue) = self.queues.get_mut(device.index()) else {
            return Err(frame);
        };
        // The capacity is the bound, so that a push never allocates.
        if queue.len() == queue.capacity() {
            return Err(frame);
        }
        if queue.is_empty() {
            self.busy.push(device);
        }
        queue.push(frame);
        Ok(())
    }

    /// Takes the queue of the next device that has frames. Return it, empty, with
    /// [`TxQueues::restore`].
    #[inline]
    pub fn take_busy(&mut self) -> Option<(DeviceId, Vec<Frame>)> {
        let device = self.busy.pop()?;
        Some((device, std::mem::take(&mut self.queues[device.index()])))
    }

    /// Returns an empty queue, so that its memory is reused.
    #[inline]
    pub fn restore(&mut self, device: DeviceId, queue: Vec<Frame>) {
        debug_assert!(
            queue.is_empty(),
            "frames must be sent, handed off or dropped"
        );
        self.queues[device.index()] = queue;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_busy_once_and_its_queue_is_bounded() {
        let mut queues = TxQueues::new(2);
        for chunk in 0..QUEUE as u32 {
            queues.push(DeviceId(1), Frame::new(chunk, 0, 1)).unwrap();
        }
        assert_eq!(
            queues.push(DeviceId(1), Frame::new(9, 0, 1)),
            Err(Frame::new(9, 0, 1))
        );
        assert_eq!(
            queues.push(DeviceId(2), Frame::new(9, 0, 1)),
            Err(Frame::new(9, 0, 1))
        );
        let (device, mut queue) = queues.take_busy().unwrap();
        assert_eq!((device, queue.len()), (DeviceId(1), QUEUE));
        assert!(queues.take_busy().is_none());
        queue.clear();
        queues.restore(device, queue);
        queues.push(DeviceId(1), Frame::new(0, 0, 1)).unwrap();
        assert_eq!(queues.take_busy().unwrap().1.len(), 1);
    }
}
