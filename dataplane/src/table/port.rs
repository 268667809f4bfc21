//! Devices (interfaces with AF_XDP sockets) and tenant ports (a device, or one VLAN of it).

use std::net::IpAddr;
use std::sync::Arc;

use crate::addr::{DeviceId, DomainId, MacAddr, PortId, WorkerId};
use crate::stats::Counters;

/// What a device is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Carries VXLAN packets.
    Underlay,
    /// One tenant port takes every frame.
    Access(PortId),
    /// Several ports, each with a VLAN of its own: (VLAN ID 1..=4094, port), sorted.
    Trunk(Box<[(u16, PortId)]>),
}

/// An interface with AF_XDP sockets.
#[derive(Debug)]
pub struct Device {
    /// Place in the table.
    pub id: DeviceId,
    /// Interface name when it was opened.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// No hardware is behind it (veth, macvlan, tap): senders on this host may have left checksums to it all the same.
    pub csum_incomplete: bool,
    /// Its sockets take frames of several chunks to send.
    pub multi_buffer: bool,
    /// For each worker, the worker that sends for it on this device: itself where it owns a queue.
    pub tx_worker: Box<[WorkerId]>,
    /// All frames of the device.
    pub counters: Arc<Counters>,
}

/// What to do with TCP and UDP checksums of frames from a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumMode {
    /// Complete those that hold only the pseudo-header sum, as Linux leaves them to hardware.
    Auto,
    /// Compute every TCP and UDP checksum anew.
    Complete,
    /// Leave all as they are: the sender has real hardware or computes them itself.
    Trust,
}

/// The limit for broadcast, unknown unicast and multicast from one port: a token bucket, before replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormLimit {
    /// Frames a second that may pass in the long run.
    pub rate: u32,
    /// Frames that may pass at once.
    pub burst: u32,
}

/// A tenant port.
#[derive(Debug)]
pub struct PortEntry {
    /// Place in the table.
    pub id: PortId,
    /// The interface it is on.
    pub device: DeviceId,
    /// The VLAN that is stripped from, and pushed to, its frames.
    pub vlan: Option<u16>,
    /// The bridge domain of its VNI.
    pub domain: DomainId,
    /// Sorted source MACs that may send; `None` = any unicast MAC.
    pub lock: Option<Box<[MacAddr]>>,
    /// Sorted addresses that ARP and ND of a locked port may claim; empty = any.
    pub ips: Box<[IpAddr]>,
    /// How many source MACs the control thread may learn from frames of the port; `None` = tell it nothing.
    pub learn: Option<u16>,
    /// Checksums that were left to hardware.
    pub checksum: ChecksumMode,
    /// Limit for frames that are flooded.
    pub storm: Option<StormLimit>,
    /// Longest frame that its interface takes, with the Ethernet header, without the VLAN tag. Bytes.
    pub max_frame: u16,
    /// From (rx) and to (tx) the tenant, and drops.
    pub counters: Arc<Counters>,
}

/// All devices and ports, by their identifiers.
#[derive(Debug, Clone, Default)]
pub struct PortTable {
    /// By [`DeviceId`].
    pub devices: Vec<Option<Arc<Device>>>,
    /// By [`PortId`].
    pub ports: Vec<Option<Arc<PortEntry>>>,
}

impl PortTable {
    /// The device, if it exists.
    #[inline]
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(id.index())?.as_deref()
    }

    /// The port, if it exists.
    #[inline]
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&PortEntry> {
        self.ports.get(id.index())?.as_deref()
    }
}
