//! Drops of a queue's frames that no stage of the pipeline has seen.

use std::net::IpAddr;

use super::WorkerConfig;
use crate::addr::DeviceId;
use crate::drop::DropReason;
use crate::port::PortErrors;
use crate::table::port::Role;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::vxlan::Vxlan;
use crate::wire::{ethernet, udp, vlan};

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

/// Counts drops of a frame that is VXLAN to a VTEP already: for its VNI and its VTEP, which its headers
/// name.
#[cold]
pub(super) fn count_of_tunnel<M, P>(
    config: &WorkerConfig<M, P>,
    frame: &[u8],
    reason: DropReason,
    frames: u64,
) {
    let Some((vtep, vni)) = tunnel_of(frame) else {
        return;
    };
    let snapshot = config.snapshots.get();
    if let Some(domain) = snapshot.vnis.by_vni(vni) {
        domain.counters.row(config.id).dropped_many(reason, frames);
    }
    let vtep = snapshot.vteps.by_source(vtep);
    if let Some(vtep) = vtep.and_then(|id| snapshot.vteps.get(id)) {
        vtep.counters.row(config.id).dropped_many(reason, frames);
    }
}

/// The outer destination and the VNI of a VXLAN packet that a worker has made.
fn tunnel_of(frame: &[u8]) -> Option<(IpAddr, u32)> {
    let (ethertype, at) = vlan::skip(frame)?;
    let packet = frame.get(at..)?;
    let (destination, len) = match ethertype {
        ethernet::IPV4 => {
            let header = Ipv4::parse(packet)?;
            (header.destination().into(), header.header_len())
        }
        ethernet::IPV6 => (Ipv6::parse(packet)?.destination().into(), ipv6::LEN),
        _ => return None,
    };
    let vxlan = Vxlan::parse(packet.get(len + udp::LEN..)?)?;
    Some((destination, vxlan.vni()))
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
