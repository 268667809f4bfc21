//! Transmit queues: one for each device, until the worker sends the frames or hands them off.

use crate::addr::DeviceId;
use crate::drop::DropReason;
use crate::frame::Frame;

/// One bounded queue for each device. Only [`TxQueues::new`] and [`TxQueues::grow`] allocate.
#[derive(Debug, Default)]
pub struct TxQueues {
    queues: Vec<TxQueue>,
    /// Devices whose queue is not empty, each once.
    busy: Vec<DeviceId>,
}

/// The frames for one device.
#[derive(Debug)]
struct TxQueue {
    frames: Vec<Frame>,
    room: Room,
}

/// How much more a device accepts, so that a frame that can't be sent is refused while its port is
/// known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Chunks that may be queued until the worker sets the room again.
    pub chunks: usize,
    /// Why further frames are dropped.
    pub refusal: DropReason,
}

impl Room {
    /// Only the capacity of the queue limits what is accepted.
    pub const UNLIMITED: Self = Self {
        chunks: usize::MAX,
        refusal: DropReason::TxFull,
    };
    /// The device has no link or no socket: nothing is accepted.
    pub const CLOSED: Self = Self {
        chunks: 0,
        refusal: DropReason::PortDown,
    };
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
            self.queues.push(TxQueue {
                frames: Vec::with_capacity(QUEUE),
                room: Room::UNLIMITED,
            });
        }
        self.busy.reserve(devices);
    }

    /// Sets how much more `device` accepts.
    #[inline]
    pub fn set_room(&mut self, device: DeviceId, room: Room) {
        if let Some(queue) = self.queues.get_mut(device.index()) {
            queue.room = room;
        }
    }

    /// Why `device` has refused a frame.
    #[must_use]
    pub fn refusal(&self, device: DeviceId) -> DropReason {
        self.queues
            .get(device.index())
            .map_or(DropReason::PortDown, |queue| queue.room.refusal)
    }

    /// Queues a frame of `chunks` chunks for `device`.
    ///
    /// # Errors
    /// The frame, to be counted with the reason [`TxQueues::refusal`] and freed, when the device
    /// accepts no more, or the queue is full or does not exist.
    #[inline]
    pub fn push(&mut self, device: DeviceId, frame: Frame, chunks: usize) -> Result<(), Frame> {
        let Some(TxQueue { frames, room }) = self.queues.get_mut(device.index()) else {
            return Err(frame);
        };
        // The capacity is a bound as well, so that a push never allocates.
        if room.chunks < chunks || frames.len() == frames.capacity() {
            return Err(frame);
        }
        room.chunks -= chunks;
        if frames.is_empty() {
            self.busy.push(device);
        }
        frames.push(frame);
        Ok(())
    }

    /// How many frames of `chunks` chunks each `device` accepts now.
    #[inline]
    pub(super) fn accepts(&self, device: DeviceId, chunks: usize) -> usize {
        self.queues.get(device.index()).map_or(0, |queue| {
            let space = queue.frames.capacity() - queue.frames.len();
            // Without a division where a frame has one or two chunks.
            let frames = match chunks {
                0 | 1 => queue.room.chunks,
                2 => queue.room.chunks / 2,
                _ => queue.room.chunks / chunks,
            };
            space.min(frames)
        })
    }

    /// Queues frames of `chunks` chunks each for `device`, which accepts as many
    /// ([`TxQueues::accepts`]).
    ///
    /// # Panics
    /// If it accepts fewer.
    #[inline]
    pub(super) fn extend(
        &mut self,
        device: DeviceId,
        frames: impl ExactSizeIterator<Item = Frame>,
        chunks: usize,
    ) {
        let count = frames.len();
        if count == 0 {
            return;
        }
        let queue = &mut self.queues[device.index()];
        let room = queue.room.chunks.checked_sub(count * chunks);
        let space = queue.frames.capacity() - queue.frames.len();
        queue.room.chunks = room
            .filter(|_| count <= space)
            .expect("no more frames than the queue accepts");
        if queue.frames.is_empty() {
            self.busy.push(device);
        }
        queue.frames.extend(frames);
    }

    /// Queues `frames`, of one chunk each, for `device`, as many as it accepts, and takes them.
    /// Returns their number; the others are to be counted with the reason [`TxQueues::refusal`] and
    /// freed.
    #[inline]
    pub(super) fn push_run(&mut self, device: DeviceId, frames: &mut [Frame]) -> usize {
        let count = frames.len().min(self.accepts(device, 1));
        self.extend(device, frames[..count].iter_mut().map(Frame::take), 1);
        count
    }

    /// Takes the queue of the next device that has frames. Return it, empty, with
    /// [`TxQueues::restore`].
    #[inline]
    pub fn take_busy(&mut self) -> Option<(DeviceId, Vec<Frame>)> {
        let device = self.busy.pop()?;
        Some((
            device,
            std::mem::take(&mut self.queues[device.index()].frames),
        ))
    }

    /// Returns an empty queue, so that its memory is reused.
    #[inline]
    pub fn restore(&mut self, device: DeviceId, queue: Vec<Frame>) {
        debug_assert!(
            queue.is_empty(),
            "frames must be sent, handed off or dropped"
        );
        self.queues[device.index()].frames = queue;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_busy_once_and_its_queue_is_bounded() {
        let mut queues = TxQueues::new(2);
        for chunk in 0..QUEUE as u32 {
            queues
                .push(DeviceId(1), Frame::new(chunk, 0, 1), 1)
                .unwrap();
        }
        assert_eq!(
            queues.push(DeviceId(1), Frame::new(9, 0, 1), 1),
            Err(Frame::new(9, 0, 1))
        );
        assert_eq!(
            queues.push(DeviceId(2), Frame::new(9, 0, 1), 1),
            Err(Frame::new(9, 0, 1))
        );
        let (device, mut queue) = queues.take_busy().unwrap();
        assert_eq!((device, queue.len()), (DeviceId(1), QUEUE));
        assert!(queues.take_busy().is_none());
        queue.clear();
        queues.restore(device, queue);
        queues.push(DeviceId(1), Frame::new(0, 0, 1), 1).unwrap();
        assert_eq!(queues.take_busy().unwrap().1.len(), 1);
    }

    #[test]
    fn frames_are_queued_together_up_to_the_room() {
        let mut queues = TxQueues::new(1);
        let refusal = DropReason::TxFull;
        assert_eq!(queues.accepts(DeviceId(0), 2), QUEUE);
        queues.set_room(DeviceId(0), Room { chunks: 7, refusal });
        assert_eq!(queues.accepts(DeviceId(0), 2), 3);
        assert_eq!(queues.accepts(DeviceId(1), 1), 0);
        let frames = |count: u32| (0..count).map(|chunk| Frame::new(chunk, 0, 1));
        queues.extend(DeviceId(0), frames(0), 2);
        assert!(queues.take_busy().is_none());
        queues.extend(DeviceId(0), frames(1), 2);
        queues.extend(DeviceId(0), frames(2), 2);
        assert_eq!(queues.accepts(DeviceId(0), 1), 1);
        assert_eq!(queues.accepts(DeviceId(0), 2), 0);
        assert_eq!(queues.take_busy().unwrap().1.len(), 3);
        assert!(queues.take_busy().is_none());
    }

    #[test]
    fn a_device_accepts_as_many_chunks_as_it_has_room_for() {
        let mut queues = TxQueues::new(2);
        let refusal = DropReason::TxFull;
        queues.set_room(DeviceId(0), Room { chunks: 3, refusal });
        queues.push(DeviceId(0), Frame::new(0, 0, 1), 2).unwrap();
        assert!(queues.push(DeviceId(0), Frame::new(1, 0, 1), 2).is_err());
        queues.push(DeviceId(0), Frame::new(1, 0, 1), 1).unwrap();
        assert_eq!(queues.refusal(DeviceId(0)), DropReason::TxFull);
        queues.set_room(DeviceId(1), Room::CLOSED);
        assert!(queues.push(DeviceId(1), Frame::new(2, 0, 1), 1).is_err());
        assert_eq!(queues.refusal(DeviceId(1)), DropReason::PortDown);
        assert_eq!(queues.refusal(DeviceId(2)), DropReason::PortDown);
    }
}
