//! Drops of a queue's frames that no stage of the pipeline has seen.

use super::WorkerConfig;
use crate::addr::DeviceId;
use crate::drop::DropReason;
use crate::port::PortErrors;
use crate::table::port::Role;

/// Counts a port's errors since the last iteration.
#[cold]
pub(super) fn count_port_errors<M, P>(
    config: &WorkerConfig<M, P>,
    device: DeviceId,
    before: PortErrors,
    now: PortErrors,
) {
    for ((reason, before), (_, now)) in before.iter().zip(now.iter()) {
        count_of_queue(config, device, reason, now - before);
    }
}

/// Counts the `frames` that a queue has not sent when it is closed; they were counted as sent when they
/// were queued. `failed`: the socket reports an error, as it does without a link. Returns how many of them
/// have lost their interface or queue, not its link.
pub(super) fn count_unsent<M, P>(
    config: &WorkerConfig<M, P>,
    device: DeviceId,
    frames: u64,
    failed: bool,
) -> u64 {
    if frames == 0 {
        return 0;
    }
    let row = config.snapshots.get().ports.device(device);
    if row.is_some_and(|row| failed || !row.link_up) {
        count_of_queue(config, device, DropReason::PortDown, frames);
        0
    } else {
        count_of_queue(config, device, DropReason::Removed, frames);
        frames
    }
}

/// Counts drops for the device, and for the tenant's port and VNI unless several ports share it.
#[cold]
fn count_of_queue<M, P>(
    config: &WorkerConfig<M, P>,
    device: DeviceId,
    reason: DropReason,
    frames: u64,
) {
    count(config, device, reason, frames);
    let snapshot = config.snapshots.get();
    let Some(Role::Access(id)) = snapshot.ports.device(device).map(|device| &device.role) else {
        return;
    };
    let Some(port) = snapshot.ports.port(*id) else {
        return;
    };
    port.counters.row(config.id).dropped_many(reason, frames);
    if let Some(domain) = snapshot.vnis.domain(port.domain) {
        domain.counters.row(config.id).dropped_many(reason, frames);
    }
}

/// Counts drops for the device.
pub(super) fn count<M, P>(
    config: &WorkerConfig<M, P>,
    device: DeviceId,
    reason: DropReason,
    frames: u64,
) {
    if let Some(device) = config.snapshots.get().ports.device(device) {
        device.counters.row(config.id).dropped_many(reason, frames);
    }
}
