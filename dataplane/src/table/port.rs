//! Devices (interfaces with AF_XDP sockets) and tenant ports (a device, or one VLAN of it).

use std::net::IpAddr;
use std::sync::Arc;

use crate::addr::{DeviceId, DomainId, MacAddr, PortId, WorkerId};
use crate::stats::Counters;
use crate::wire::vlan;

/// The role of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Carries VXLAN packets.
    Underlay,
    /// One tenant port, which receives every frame.
    Access(PortId),
    /// Several tenant ports, each on a VLAN of its own: (VLAN ID 1..=4094, port), sorted.
    Trunk(Box<[(u16, PortId)]>),
}

/// An interface with AF_XDP sockets.
#[derive(Debug)]
pub struct Device {
    /// Index in the table.
    pub id: DeviceId,
    /// Interface name at the time it was opened.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Received frames may have incomplete transport checksums (`CHECKSUM_PARTIAL`): there is no
    /// hardware behind the interface (veth, macvlan, tap), yet senders on this host leave checksums
    /// to it.
    pub csum_incomplete: bool,
    /// Its sockets accept frames of several chunks to send.
    pub multi_buffer: bool,
    /// Its sockets accept superframes, and frames whose transport checksum is partial
    /// ([`crate::frame::offload`]).
    pub superframes: bool,
    /// The interface is up and has a carrier. Frames for one without are dropped at once: the
    /// kernel would keep them until the link returns, or discard them without a counter.
    pub link_up: bool,
    /// The MACs under which this host receives on an underlay device: its own, and those of the VLAN
    /// interfaces, bonds and bridges over it. Empty: unknown, frames to any are taken.
    pub macs: Box<[MacAddr]>,
    /// This host receives nothing on this underlay device: it is an inactive member of a bond, and
    /// what a switch floods arrives on the active one too.
    pub standby: bool,
    /// For each worker, the worker that sends its frames on this device: itself where it owns a
    /// queue.
    pub tx_worker: Box<[WorkerId]>,
    /// All frames of the device, and drops.
    pub counters: Arc<Counters>,
}

impl Device {
    /// Whether `worker` itself sends its frames on this device, rather than another worker.
    #[inline]
    #[must_use]
    pub fn is_sent_by(&self, worker: WorkerId) -> bool {
        self.tx_worker
            .get(worker.index())
            .is_none_or(|sender| *sender == worker)
    }
}

/// How to treat the TCP and UDP checksums of frames from a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumMode {
    /// Complete those that hold only the sum of the pseudo-header, as Linux leaves them to
    /// hardware.
    Auto,
    /// Recompute every TCP and UDP checksum.
    Complete,
    /// Leave all unchanged: the sender has real hardware, or computes them itself.
    Trust,
}

/// Storm control of one port: a token bucket for broadcast, unknown unicast and multicast, before
/// replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormLimit {
    /// Sustained rate, frames per second.
    pub rate: u32,
    /// Bucket size, frames.
    pub burst: u32,
}

/// A tenant port.
#[derive(Debug)]
pub struct PortEntry {
    /// Index in the table.
    pub id: PortId,
    /// The device of the port.
    pub device: DeviceId,
    /// The VLAN ID whose tag is popped from received frames and pushed to sent ones.
    pub vlan: Option<u16>,
    /// The bridge domain of its VNI.
    pub domain: DomainId,
    /// Source MACs that may send, sorted; `None` for any unicast MAC.
    pub lock: Option<Box<[MacAddr]>>,
    /// Addresses that ARP and ND from a locked port may claim, sorted; empty for any.
    pub ips: Box<[IpAddr]>,
    /// Maximum number of source MACs that the control thread learns on the port; `None` disables
    /// learning.
    pub learn: Option<u16>,
    /// Treatment of transport checksums.
    pub checksum: ChecksumMode,
    /// Storm control; `None` for no limit.
    pub storm: Option<StormLimit>,
    /// Longest frame that the interface accepts, with the Ethernet header, without the VLAN tag.
    /// Bytes; 0 while the interface is not open.
    pub max_frame: u16,
    /// Frames from (rx) and to (tx) the tenant, and drops.
    pub counters: Arc<Counters>,
}

impl PortEntry {
    /// Whether its interface is open.
    #[inline]
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.max_frame > 0
    }

    /// Whether a frame of `len` bytes that came from this port is longer than its interface carries,
    /// even with two VLAN tags: its sender has left segmentation to the interface.
    #[must_use]
    pub const fn is_unsegmented(&self, len: usize) -> bool {
        self.is_open() && len > self.max_frame as usize + 2 * vlan::LEN
    }
}

impl Device {
    /// Whether a frame with this destination MAC is for this host: one of the device's addresses,
    /// broadcast or multicast, and the device is not on standby.
    #[inline]
    #[must_use]
    pub fn is_destination(&self, mac: MacAddr) -> bool {
        !self.standby && (self.macs.first() == Some(&mac) || self.is_other_destination(mac))
    }

    #[inline(never)]
    fn is_other_destination(&self, mac: MacAddr) -> bool {
        self.macs.contains(&mac) || mac.is_multicast() || self.macs.is_empty()
    }
}

/// All devices and ports, by identifier.
#[derive(Debug, Clone, Default)]
pub struct PortTable {
    /// By [`DeviceId`].
    pub devices: Vec<Option<Arc<Device>>>,
    /// By [`PortId`].
    pub ports: Vec<Option<Arc<PortEntry>>>,
}

impl PortTable {
    /// The device with this identifier.
    #[inline]
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(id.index())?.as_deref()
    }

    /// The port with this identifier.
    #[inline]
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&PortEntry> {
        self.ports.get(id.index())?.as_deref()
    }
}
