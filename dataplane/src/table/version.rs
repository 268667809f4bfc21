//! Which snapshot gave an identifier its present meaning.
//!
//! Identifiers of rows are used again. What a worker keeps from one snapshot to the next (frames
//! that wait to be flooded or to be sent by another worker, events, rate limits) therefore has the
//! version of the snapshot that it was made under, and is valid only while each of its identifiers
//! has kept its meaning since then.
//!
//! ```text
//! version   4               5               6
//! domain 7  VNI 100         -               VNI 999, since 6
//! a frame   made under 4 .................. not flooded: 6 > 4
//! ```

use super::Snapshot;
use super::port::{Device, PortEntry, Role};
use super::vni::Domain;
use crate::addr::{DeviceId, DomainId, PortId};
use crate::wire::vlan;

/// For each identifier, the version of the first snapshot in which it had its present meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowVersions {
    devices: Vec<u64>,
    ports: Vec<u64>,
    domains: Vec<u64>,
}

fn set(versions: &mut Vec<u64>, index: usize, version: u64) {
    if versions.len() <= index {
        versions.resize(index + 1, 0);
    }
    versions[index] = version;
}

impl RowVersions {
    /// `id` is another device from snapshot `version` on.
    pub fn set_device(&mut self, id: DeviceId, version: u64) {
        set(&mut self.devices, id.index(), version);
    }

    /// `id` is another port from snapshot `version` on: another interface, VLAN or domain.
    pub fn set_port(&mut self, id: PortId, version: u64) {
        set(&mut self.ports, id.index(), version);
    }

    /// `id` is the domain of another VNI from snapshot `version` on.
    pub fn set_domain(&mut self, id: DomainId, version: u64) {
        set(&mut self.domains, id.index(), version);
    }

    /// Since when `id` is the present device.
    #[inline]
    #[must_use]
    pub fn device(&self, id: DeviceId) -> u64 {
        self.devices.get(id.index()).copied().unwrap_or(0)
    }

    /// Since when `id` is the present port.
    #[inline]
    #[must_use]
    pub fn port(&self, id: PortId) -> u64 {
        self.ports.get(id.index()).copied().unwrap_or(0)
    }

    /// Since when `id` is the present domain.
    #[inline]
    #[must_use]
    pub fn domain(&self, id: DomainId) -> u64 {
        self.domains.get(id.index()).copied().unwrap_or(0)
    }

    /// The ports that have changed their meaning after snapshot `version`.
    pub fn ports_after(&self, version: u64) -> impl Iterator<Item = PortId> {
        after(&self.ports, version).map(PortId)
    }

    /// The domains that have changed their meaning after snapshot `version`.
    pub fn domains_after(&self, version: u64) -> impl Iterator<Item = DomainId> {
        after(&self.domains, version).map(DomainId)
    }
}

fn after(versions: &[u64], version: u64) -> impl Iterator<Item = u16> {
    (0..=u16::MAX)
        .zip(versions)
        .filter(move |(_, since)| **since > version)
        .map(|(id, _)| id)
}

impl Snapshot {
    /// The device that had this identifier in snapshot `version`, if it is still there.
    #[must_use]
    pub fn device_of(&self, version: u64, id: DeviceId) -> Option<&Device> {
        let device = self.ports.device(id)?;
        (self.since.device(id) <= version).then_some(device)
    }

    /// The port that had this identifier in snapshot `version`, if it is still there.
    #[must_use]
    pub fn port_of(&self, version: u64, id: PortId) -> Option<&PortEntry> {
        let port = self.ports.port(id)?;
        (self.since.port(id) <= version).then_some(port)
    }

    /// The domain that had this identifier in snapshot `version`, if it is still there.
    #[must_use]
    pub fn domain_of(&self, version: u64, id: DomainId) -> Option<&Domain> {
        let domain = self.vnis.domain(id)?;
        (self.since.domain(id) <= version).then_some(domain)
    }

    /// Whether a frame that was queued for a device under snapshot `version` still reaches the
    /// network that it was queued for: device and port, by the frame's VLAN tag on a trunk, are the
    /// same.
    #[must_use]
    pub fn may_send(&self, version: u64, device: DeviceId, frame: &[u8]) -> bool {
        if version == self.version {
            return true;
        }
        match self.device_of(version, device).map(|device| &device.role) {
            None => false,
            Some(Role::Underlay) => true,
            Some(Role::Access(port)) => self.port_of(version, *port).is_some(),
            Some(Role::Trunk(vlans)) => vlan::id(frame)
                .and_then(|id| vlans.binary_search_by_key(&id, |(id, _)| *id).ok())
                .is_some_and(|index| self.port_of(version, vlans[index].1).is_some()),
        }
    }
}
