//! Sends what the pipeline has queued: on this worker's own queues, or through the worker that owns
//! the queue.
//!
//! Before frames are queued, the worker states how many chunks each device accepts. A port that
//! stops consuming (no link, a peer that has paused it, a tap without a reader, a dead NIC) thus
//! refuses frames where their port and VNI are known, and keeps at most a part of the free chunks:
//! each such port takes its part of what the ones before it have left ([`Share`]).

use super::handoff::HandedOff;
use super::{Worker, WorkerConfig, drops};
use crate::addr::{DeviceId, WorkerId};
use crate::drop::DropReason;
use crate::frame::{BURST, Frame, FrameMemory};
use crate::pipeline::superframe::WireSize;
use crate::pipeline::tx_queues::Room;
use crate::port::{Port, TxState};
use crate::table::port::{Device, PortEntry, Role};
use crate::wire::vlan;

/// What a device may hold.
struct Share {
    /// One in this many of the chunks that are free.
    of: usize,
    /// Chunks of a burst of superframes, which it may hold although they are more than its share,
    /// if they are at most twice as many, and it holds nothing else: it has sent all before.
    burst: usize,
}

/// Five superframes, as many as are received at once: 33 chunks of 2048 bytes each.
const TENANT: Share = Share {
    of: 8,
    burst: 3 * BURST,
};

/// There are few underlay devices, and each sends the traffic of many ports, cut into segments of
/// one chunk each.
const UNDERLAY: Share = Share { of: 4, burst: LOW };

/// Room below which the kernel is made to drain the queue before the end of the iteration.
const LOW: usize = 4 * BURST;

impl Share {
    const fn of(device: &Device) -> &'static Self {
        match device.role {
            Role::Underlay => &UNDERLAY,
            Role::Access(_) | Role::Trunk(_) => &TENANT,
        }
    }

    /// Chunks of `available` ones that a device which holds some may hold in all.
    const fn part(&self, available: usize) -> usize {
        available.div_ceil(self.of)
    }

    /// Chunks that a device in this state accepts, of `available` ones.
    fn room(&self, available: usize, state: TxState) -> usize {
        let part = self.part(available);
        let may_hold = match state.held {
            0 => self.burst.clamp(part, 2 * part),
            _ => part,
        };
        state.free.min(may_hold.saturating_sub(state.held))
    }
}

impl<M: FrameMemory, P: Port<M>> Worker<M, P> {
    /// States what each device accepts: its tables or this worker's queues have changed.
    pub(super) fn set_room_of_all(&mut self) {
        let ports = &self.config.snapshots.get().ports;
        for (number, device) in (0..).map(DeviceId).zip(&ports.devices) {
            let own = self.tx_slots.get(number.index()).copied().flatten();
            // Its owner decides what is sent on another worker's queue.
            let elsewhere = device
                .as_ref()
                .is_some_and(|device| device.link_up && !device.is_sent_by(self.config.id));
            if own.is_none() {
                let room = if elsewhere {
                    Room::UNLIMITED
                } else {
                    Room::CLOSED
                };
                self.tx_queues.set_room(number, room);
            }
        }
        for slot_index in 0..self.slots.len() {
            self.set_room(slot_index);
        }
    }

    /// States what the device of a slot accepts. Returns the chunks.
    #[inline]
    pub(super) fn set_room(&mut self, slot_index: usize) -> usize {
        let slot = &mut self.slots[slot_index];
        let state = slot.port.tx_state();
        slot.waiting = state.waiting > 0 && slot.failed.is_none();
        let id = slot.device;
        if self.tx_slots.get(id.index()) != Some(&Some(slot_index)) {
            return 0;
        }
        let device = self.config.snapshots.get().ports.device(id);
        let room = match device {
            Some(device) if device.link_up && slot.failed.is_none() => {
                let available = self.config.pool.available();
                Room {
                    chunks: Share::of(device).room(available, state),
                    refusal: DropReason::TxFull,
                }
            }
            _ => Room::CLOSED,
        };
        self.tx_queues.set_room(id, room);
        room.chunks
    }

    /// Queues frames that other workers handed off to be sent on this worker's queues.
    pub(super) fn poll_handoff(&mut self) -> usize {
        let mut taken = 0;
        while taken < BURST
            && let Some(handed_off) = self.config.handoff.pop_handoff(self.config.id)
        {
            taken += 1;
            self.queue_handed_off(handed_off);
        }
        if taken > 0 {
            self.flush_tx();
        }
        taken
    }

    /// Queues one frame of another worker, and counts it as sent or dropped.
    fn queue_handed_off(&mut self, handed_off: HandedOff) {
        let HandedOff {
            device: id,
            version,
            frame,
        } = handed_off;
        let Self {
            config,
            tx_queues,
            slots,
            tx_slots,
            ..
        } = self;
        let snapshot = config.snapshots.get();
        let bytes = config.pool.memory().bytes(&frame);
        let device = match snapshot.ports.device(id) {
            Some(device) if snapshot.may_send(version, id, bytes) => device,
            _ => return self.drop_removed(id, version, frame),
        };
        let slot = tx_slots.get(id.index()).copied().flatten();
        let held = slot.map_or(0, |slot| slots[slot].port.tx_state().held);
        let owner_free = config.handoff.free_of_owner(&frame);
        if held > Share::of(device).part(owner_free) {
            return drop_frame(config, id, frame, DropReason::TxFull);
        }
        let port = recipient(config, device, &frame);
        let size = WireSize::of(config.pool.memory(), &frame);
        let chunks = config.pool.memory().chunks(&frame);
        match tx_queues.push(id, frame, chunks) {
            Ok(()) => count_sent(config.id, device, port, size),
            Err(frame) => drop_frame(config, id, frame, tx_queues.refusal(id)),
        }
    }

    /// Frees a frame whose device or port was removed while the frame waited.
    #[cold]
    fn drop_removed(&mut self, id: DeviceId, version: u64, frame: Frame) {
        let config = &mut self.config;
        if let Some(device) = config.snapshots.get().device_of(version, id) {
            let counters = device.counters.row(config.id);
            counters.dropped(DropReason::Removed);
        }
        config.pool.free(frame);
        self.removed += 1;
    }

    /// Sends all queued frames on this worker's own queues, or hands them off to the worker that
    /// sends on the device.
    pub(super) fn flush_tx(&mut self) {
        while let Some((device, mut frames)) = self.tx_queues.take_busy() {
            match self.tx_slots.get(device.index()).copied().flatten() {
                Some(slot_index) => self.send(slot_index, &mut frames),
                None => self.hand_off(device, &mut frames),
            }
            self.tx_queues.restore(device, frames);
        }
    }

    fn send(&mut self, slot_index: usize, frames: &mut Vec<Frame>) {
        let pool = &mut self.config.pool;
        self.slots[slot_index].port.send(pool, frames);
        let room = self.set_room(slot_index);
        let Self { config, slots, .. } = self;
        let slot = &mut slots[slot_index];
        if frames.is_empty() && (room >= LOW || !slot.waiting) {
            return;
        }
        // Let the kernel drain the ring before it is full, or holds what the device may hold.
        let _ = slot.port.wake(&mut config.pool);
        slot.port.send(&mut config.pool, frames);
        let device = slot.device;
        for frame in frames.drain(..) {
            drop_frame(config, device, frame, DropReason::TxFull);
        }
        self.set_room(slot_index);
    }

    fn hand_off(&mut self, device: DeviceId, frames: &mut Vec<Frame>) {
        let config = &mut self.config;
        let sender = config
            .snapshots
            .get()
            .ports
            .device(device)
            .and_then(|d| d.tx_worker.get(config.id.index()).copied());
        let Some(to) = sender.filter(|to| *to != config.id) else {
            frames
                .drain(..)
                .for_each(|frame| drop_frame(config, device, frame, DropReason::PortDown));
            return;
        };
        // A worker that does not keep up must not get all chunks of this one.
        let mut may_wait = config.pool.available();
        may_wait = may_wait.saturating_sub(config.handoff.waiting(to));
        let version = config.snapshots.get().version;
        for frame in frames.drain(..) {
            if may_wait == 0 {
                drop_frame(config, device, frame, DropReason::HandOffFull);
                continue;
            }
            may_wait = may_wait.saturating_sub(config.pool.memory().chunks(&frame));
            let frame = HandedOff {
                device,
                version,
                frame,
            };
            if let Err(frame) = config.handoff.push_handoff(to, frame) {
                drop_frame(config, device, frame, DropReason::HandOffFull);
            }
        }
        config.handoff.wake(to);
    }
}

/// The tenant's port that a frame to be sent on `device` is for.
fn recipient<'t, M: FrameMemory, P>(
    config: &'t WorkerConfig<M, P>,
    device: &Device,
    frame: &Frame,
) -> Option<&'t PortEntry> {
    let ports = &config.snapshots.get().ports;
    match &device.role {
        Role::Underlay => None,
        Role::Access(port) => ports.port(*port),
        Role::Trunk(vlans) => {
            let tag = vlan::id(config.pool.memory().bytes(frame))?;
            let at = vlans.binary_search_by_key(&tag, |(vlan, _)| *vlan).ok()?;
            ports.port(vlans[at].1)
        }
    }
}

/// Counts a frame that another worker has handed off. That worker has counted frames to VTEPs.
fn count_sent(worker: WorkerId, device: &Device, port: Option<&PortEntry>, size: WireSize) {
    let Some(port) = port else {
        return;
    };
    let WireSize { frames, bytes, .. } = size;
    let tags = port.vlan.map_or(0, |_| frames * vlan::LEN as u64);
    device.counters.row(worker).sent(frames, bytes);
    let bytes = bytes.saturating_sub(tags);
    port.counters.row(worker).sent(frames, bytes);
}

/// Counts a frame that can't be sent for its device, VNI, and port or VTEP, and frees it.
#[cold]
fn drop_frame<M: FrameMemory, P>(
    config: &mut WorkerConfig<M, P>,
    id: DeviceId,
    frame: Frame,
    reason: DropReason,
) {
    let frames = WireSize::of(config.pool.memory(), &frame).frames;
    drops::count(config, id, reason, frames);
    let snapshot = config.snapshots.get();
    let device = snapshot.ports.device(id);
    if device.is_some_and(|device| device.role == Role::Underlay) {
        drops::count_of_tunnel(config, config.pool.memory().bytes(&frame), reason, frames);
    }
    if let Some(port) = device.and_then(|device| recipient(config, device, &frame)) {
        port.counters.row(config.id).dropped_many(reason, frames);
        if let Some(domain) = snapshot.vnis.domain(port.domain) {
            domain.counters.row(config.id).dropped_many(reason, frames);
        }
    }
    config.pool.free(frame);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(free: usize, held: usize) -> TxState {
        TxState {
            free,
            held,
            waiting: held,
        }
    }

    #[test]
    fn a_device_holds_a_part_of_the_free_chunks_or_a_burst_of_superframes() {
        for (share, available, free, held, room) in [
            // Plenty of chunks: its part.
            (&TENANT, 8000, 4000, 0, 1000),
            (&TENANT, 8000, 4000, 900, 100),
            (&TENANT, 8000, 50, 0, 50),
            (&UNDERLAY, 8000, 4000, 0, 2000),
            // Few: five superframes of 33 chunks fit, if it holds nothing.
            (&TENANT, 800, 4000, 0, 192),
            (&TENANT, 800, 4000, 33, 67),
            (&TENANT, 800, 4000, 192, 0),
            (&UNDERLAY, 800, 4000, 0, 256),
            // Very few: at most two parts.
            (&TENANT, 80, 4000, 0, 20),
            (&TENANT, 0, 4000, 0, 0),
        ] {
            let is = share.room(available, state(free, held));
            assert_eq!(is, room, "{available} free, {held} held");
        }
    }
}
