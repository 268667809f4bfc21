//! What a valid configuration is made of. Values are typed, so one that exists is in range; rules between values
//! (nothing twice, nothing both local and remote) are kept by [`Config::apply`](super::Config::apply).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};
use vtep_dataplane::table::port::{ChecksumMode, StormLimit};

use super::bgp_neighbor::{BgpNeighbor, BgpSettings, EvpnSettings};
use super::group::GroupAddr;
use crate::bgp::wire::Rd;

/// The VXLAN port that IANA assigned (RFC 7348 section 5).
pub const VXLAN_PORT: u16 = 4789;

/// The name of a network interface: 1 to 15 bytes, no slash, no colon, no white space (`dev_valid_name` in Linux
/// net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > 15 || text == "." || text == ".." || text.contains(wrong)
        {
            return Err(format!(
                "{text:?} is no interface name; write one as `ip link` shows it, 1 to 15 bytes"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What tells one tenant port from another: an interface, or one VLAN of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// The Linux interface.
    pub interface: InterfaceName,
    /// The VLAN taken from a trunk, 1..=4094; `None` = every frame of the interface.
    pub vlan: Option<u16>,
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vlan {
            None => self.interface.fmt(f),
            Some(vlan) => write!(f, "{} vlan {vlan}", self.interface),
        }
    }
}

impl FromStr for PortKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((interface, vlan)) = text.split_once(" vlan ") else {
            return Ok(Self {
                interface: text.parse()?,
                vlan: None,
            });
        };
        let vlan = vlan.parse().ok().filter(|v| (1..=4094).contains(v));
        let vlan =
            vlan.ok_or_else(|| format!("{text:?} is no port; write IF or `IF vlan 1..4094`"))?;
        Ok(Self {
            interface: interface.parse()?,
            vlan: Some(vlan),
        })
    }
}

/// The DSCP of outer headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dscp {
    /// That of the inner packet (RFC 2983, uniform model).
    #[default]
    Inherit,
    /// The same for all, 0..=63 (pipe model).
    Fixed(u8),
}

/// Our VTEP addresses: at most one of each family, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// IPv4.
    pub v4: Option<VtepAddr>,
    /// IPv6.
    pub v6: Option<VtepAddr>,
}

impl Addresses {
    /// Each address, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = VtepAddr> {
        self.v4.into_iter().chain(self.v6)
    }

    /// Our address of the same family as `remote`.
    #[must_use]
    pub fn for_remote(&self, remote: VtepAddr) -> Option<VtepAddr> {
        if remote.is_v6() { self.v6 } else { self.v4 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

/// What of `[vtep]` can change while frames flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// TTL or hop limit of outer headers, 1..=255.
    pub ttl: u8,
    /// Don't Fragment in outer IPv4 headers.
    pub df: bool,
    /// DSCP of outer headers.
    pub dscp: Dscp,
    /// Drop VXLAN headers with reserved bits set, as Linux does (RFC 7348 says ignore).
    pub strict_reserved: bool,
    /// Accept UDP checksum 0 over IPv6 (RFC 6935).
    pub udp6_zero_checksum_rx: bool,
    /// Send UDP checksum 0 over IPv6 (RFC 6935).
    pub udp6_zero_checksum_tx: bool,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            ttl: 64,
            df: true,
            dscp: Dscp::Inherit,
            strict_reserved: false,
            udp6_zero_checksum_rx: false,
            udp6_zero_checksum_tx: false,
        }
    }
}

/// How AF_XDP sockets are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpMode {
    /// The best that binds.
    #[default]
    Auto,
    /// Native program and zero-copy, or fail.
    ZeroCopy,
    /// Native program and copies, or fail.
    Copy,
    /// The generic (skb) program and copies.
    Generic,
}

/// A feature that is on, off, or on where it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tristate {
    /// On where it works.
    #[default]
    Auto,
    /// On, or fail.
    On,
    /// Off.
    Off,
}

/// `[vtep.afxdp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfXdp {
    /// How sockets are bound.
    pub mode: XdpMode,
    /// UMEM frames: a power of two, [`AfXdp::MIN_FRAMES`] to [`AfXdp::MAX_FRAMES`].
    pub frames: u32,
    /// Bytes of a UMEM frame: 2048 or 4096.
    pub frame_size: u32,
    /// Back the UMEM with huge pages.
    pub huge_pages: Tristate,
    /// Busy polling of sockets; [`Tristate::Auto`] is off.
    pub busy_poll: Tristate,
}

impl AfXdp {
    /// Fewer frames can't fill the rings of one underlay and one tenant queue.
    pub const MIN_FRAMES: u32 = 2048;
    /// 8 GiB of 2048-byte frames.
    pub const MAX_FRAMES: u32 = 1 << 22;
}

impl Default for AfXdp {
    fn default() -> Self {
        Self {
            mode: XdpMode::Auto,
            frames: 16384,
            frame_size: 2048,
            huge_pages: Tristate::Auto,
            busy_poll: Tristate::Auto,
        }
    }
}

/// `[vtep]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vtep {
    /// Our addresses.
    pub addresses: Addresses,
    /// Interfaces that carry VXLAN, in the order of the file; no one twice.
    pub underlay: Vec<InterfaceName>,
    /// UDP destination port, 1..=65535.
    pub udp_port: u16,
    /// CPU numbers, one worker each, no one twice; `None` = as many as the underlay has queues.
    pub cores: Option<Vec<usize>>,
    /// What can change at run time.
    pub tunnel: Tunnel,
    /// Socket set-up.
    pub afxdp: AfXdp,
}

/// `[control]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Path of the control socket, absolute.
    pub socket: PathBuf,
    /// Group that may connect, a name or a number; `None` = root only.
    pub group: Option<String>,
    /// Where Prometheus may scrape; `None` = nowhere.
    pub metrics: Option<SocketAddr>,
}

/// Default path of the control socket.
pub const DEFAULT_SOCKET: &str = "/run/vtepd/control.sock";

impl Default for Control {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            group: None,
            metrics: None,
        }
    }
}

/// What happens to inner frames with an 802.1Q tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InnerVlan {
    /// Dropped (RFC 7348 section 6.1).
    #[default]
    Drop,
    /// Passed as they are.
    Pass,
}

/// The settings of one VNI.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VniSettings {
    /// Inner 802.1Q tags.
    pub inner_vlan: InnerVlan,
    /// Answer ARP and ND for known hosts.
    pub suppress: bool,
    /// Most MACs that routes and learning may bring, 1 and more; `None` = as many as the table holds.
    pub max_macs: Option<u32>,
    /// Tell on the control socket of destinations and addresses that nobody knows.
    pub miss_events: bool,
    /// Targets, distinguisher and tag of its EVPN routes.
    pub evpn: EvpnSettings,
}

/// Learning of local MACs from frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learn {
    /// Most MACs that are learned at a time, 1 and more.
    pub limit: u32,
    /// Time without a frame after which a MAC is forgotten.
    pub age: Duration,
}

impl Learn {
    /// As Linux bridges have it (`ageing_time`).
    pub const DEFAULT_AGE: Duration = Duration::from_secs(300);
}

/// A tenant port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Interface and VLAN.
    pub key: PortKey,
    /// Hosts behind it.
    pub macs: BTreeSet<HostMac>,
    /// Only `macs` may send.
    pub lock: bool,
    /// `macs` never move to another VTEP (RFC 7432 section 15.2).
    pub sticky: bool,
    /// Learning from frames; never together with `lock`.
    pub learn: Option<Learn>,
    /// IP addresses of the hosts behind it.
    pub ips: BTreeSet<IpAddr>,
    /// Limit for frames that are flooded.
    pub storm: Option<StormLimit>,
    /// Checksums left to hardware.
    pub checksum: ChecksumMode,
}

impl Port {
    /// A port with default settings: no hosts, not locked, no limit, checksums `auto`.
    #[must_use]
    pub const fn new(key: PortKey) -> Self {
        Self {
            key,
            macs: BTreeSet::new(),
            lock: false,
            sticky: false,
            learn: None,
            ips: BTreeSet::new(),
            storm: None,
            checksum: ChecksumMode::Auto,
        }
    }
}

/// A remote MAC that is not from BGP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// The VTEP that it is behind.
    pub vtep: VtepAddr,
    /// How long it stays, counted from the change that brought it; `None` = for ever. Only entries without one are
    /// saved, and loading a configuration leaves those with one where they are.
    pub lifetime: Option<Duration>,
}

/// A neighbour that is not from BGP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborEntry {
    /// Its MAC.
    pub mac: HostMac,
    /// As that of [`FdbEntry`].
    pub lifetime: Option<Duration>,
}

/// One VNI with all that belongs to it.
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

    /// The multicast group that floods; never together with a list.
    #[must_use]
    pub const fn group(&self) -> Option<GroupAddr> {
        self.group
    }

    /// Static remote MACs and the VTEPs that they are behind.
    #[must_use]
    pub const fn fdb(&self) -> &BTreeMap<HostMac, FdbEntry> {
        &self.fdb
    }

    /// Static neighbours: IP address to MAC.
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

/// A complete configuration, always valid in itself.
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
    /// How many ports there are.
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

    /// The neighbours of BGP by their addresses.
    #[must_use]
    pub const fn bgp_neighbors(&self) -> &BTreeMap<IpAddr, BgpNeighbor> {
        &self.bgp_neighbors
    }

    /// Every VNI.
    #[must_use]
    pub const fn vnis(&self) -> &BTreeMap<Vni, VniConfig> {
        &self.vnis
    }

    /// The VNI of a port.
    #[must_use]
    pub fn port_vni(&self, key: &PortKey) -> Option<Vni> {
        self.interfaces.get(&key.interface)?.get(&key.vlan).copied()
    }
}

/// Checks that a host can have this address: no group, broadcast, loopback or unspecified one.
pub(crate) fn host_ip(address: IpAddr) -> Result<IpAddr, String> {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast {
        return Err(format!(
            "{address} can't be the address of a host; write a unicast address"
        ));
    }
    Ok(address)
}
