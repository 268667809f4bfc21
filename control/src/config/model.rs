//! The configuration as a whole. Values are typed, so one that exists is in range; rules between
//! values (nothing twice, nothing both local and remote) are kept by
//! [`Config::apply`](super::Config::apply).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::bgp::BgpSettings;
use super::bgp_neighbor::BgpNeighbor;
use super::control::Control;
use super::group::GroupAddr;
use super::interface::{InterfaceName, PortKey};
use super::port::{Io, Port};
use super::vni::VniSettings;
use super::vtep::Vtep;
use crate::bgp::wire::Rd;

/// A remote MAC that is not from BGP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// The VTEP that the host is behind.
    pub vtep: VtepAddr,
    /// How long the entry stays, counted from the change that added it; `None` = forever. Only
    /// entries without a lifetime are saved, and loading a configuration keeps the others.
    pub lifetime: Option<Duration>,
}

/// A neighbor entry that is not from BGP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborEntry {
    /// Its MAC.
    pub mac: HostMac,
    /// It is an IPv6 router: the R flag of advertisements (RFC 4861 section 4.4).
    pub router: bool,
    /// As that of [`FdbEntry`].
    pub lifetime: Option<Duration>,
}

/// One VNI with its entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VniConfig {
    pub(super) settings: VniSettings,
    pub(super) ports: BTreeMap<PortKey, Port>,
    pub(super) flood: BTreeSet<VtepAddr>,
    pub(super) group: Option<GroupAddr>,
    pub(super) fdb: BTreeMap<HostMac, FdbEntry>,
    pub(super) neighbors: BTreeMap<IpAddr, NeighborEntry>,
    /// Index of `ports` by their MACs.
    pub(super) local: BTreeMap<HostMac, PortKey>,
}

impl VniConfig {
    /// Its settings.
    #[must_use]
    pub const fn settings(&self) -> &VniSettings {
        &self.settings
    }

    /// Its ports.
    #[must_use]
    pub const fn ports(&self) -> &BTreeMap<PortKey, Port> {
        &self.ports
    }

    /// The static head-end replication list.
    #[must_use]
    pub const fn flood(&self) -> &BTreeSet<VtepAddr> {
        &self.flood
    }

    /// The multicast group to flood to; never together with a list.
    #[must_use]
    pub const fn group(&self) -> Option<GroupAddr> {
        self.group
    }

    /// Static remote MACs and the VTEPs that they are behind.
    #[must_use]
    pub const fn fdb(&self) -> &BTreeMap<HostMac, FdbEntry> {
        &self.fdb
    }

    /// Static neighbors: IP address to MAC.
    #[must_use]
    pub const fn neighbors(&self) -> &BTreeMap<IpAddr, NeighborEntry> {
        &self.neighbors
    }

    /// MACs of local hosts and the ports that they are behind.
    #[must_use]
    pub const fn local(&self) -> &BTreeMap<HostMac, PortKey> {
        &self.local
    }
}

/// A complete configuration, always consistent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    pub(super) vtep: Vtep,
    pub(super) control: Control,
    pub(super) bgp: Option<BgpSettings>,
    /// Empty without `bgp`.
    pub(super) bgp_neighbors: BTreeMap<IpAddr, BgpNeighbor>,
    pub(super) vnis: BTreeMap<Vni, VniConfig>,
    /// Index of all ports by interface, then VLAN.
    pub(super) interfaces: BTreeMap<InterfaceName, BTreeMap<Option<u16>, Vni>>,
    /// Number of ports.
    pub(super) port_count: usize,
    /// Index of the VNIs whose route distinguisher is not automatic.
    pub(super) distinguishers: BTreeMap<Rd, Vni>,
}

impl Config {
    /// A configuration without VNIs.
    #[must_use]
    pub fn new(vtep: Vtep, control: Control) -> Self {
        Self {
            vtep,
            control,
            ..Self::default()
        }
    }

    /// `[vtep]`.
    #[must_use]
    pub const fn vtep(&self) -> &Vtep {
        &self.vtep
    }

    /// `[control]`.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// `[bgp]`; `None` = static tables only.
    #[must_use]
    pub const fn bgp(&self) -> Option<&BgpSettings> {
        self.bgp.as_ref()
    }

    /// BGP neighbors by address.
    #[must_use]
    pub const fn bgp_neighbors(&self) -> &BTreeMap<IpAddr, BgpNeighbor> {
        &self.bgp_neighbors
    }

    /// Every VNI.
    #[must_use]
    pub const fn vnis(&self) -> &BTreeMap<Vni, VniConfig> {
        &self.vnis
    }

    /// The interfaces of all ports, in the order of their names.
    pub fn port_interfaces(&self) -> impl Iterator<Item = &InterfaceName> {
        self.interfaces.keys()
    }

    /// How the frames of an underlay interface, or of one with ports, are to enter and leave.
    #[must_use]
    pub fn interface_io(&self, name: &InterfaceName) -> Io {
        if self.vtep.underlay.contains(name) {
            return self.vtep.underlay_io;
        }
        let first = self
            .interfaces
            .get(name)
            .and_then(BTreeMap::first_key_value);
        let port = first.and_then(|(vlan, vni)| {
            let key = PortKey {
                interface: name.clone(),
                vlan: *vlan,
            };
            self.vnis.get(vni)?.ports.get(&key)
        });
        port.map_or(Io::Auto, |port| port.io)
    }

    /// The VNI of a port.
    #[must_use]
    pub fn port_vni(&self, key: &PortKey) -> Option<Vni> {
        self.interfaces.get(&key.interface)?.get(&key.vlan).copied()
    }
}
