//! `[[vni]]` without its entries: types and keys.

use vtep_dataplane::addr::Vni;
use vtep_dataplane::table::port::StormLimit;

use super::diagnostic::Diagnostics;
use super::key::{Codec, custom, one_of, optional, plain, read_keys, write_keys};
use super::node::{Located, Node};
use super::port::{storm, write_storm};
use super::table::TableReader;
use super::target::{EthernetTagMode, RouteTargets, rd, target_texts, targets};
use super::value::{Read, boolean, integer};
use super::write::{array, quoted};
use crate::bgp::wire::Rd;

/// Handling of inner frames with an 802.1Q tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InnerVlan {
    /// Dropped (RFC 7348 section 6.1).
    #[default]
    Drop,
    /// Passed unchanged.
    Pass,
}

/// The words of `inner-vlan`.
const INNER_VLAN: &[(&str, InnerVlan)] = &[("drop", InnerVlan::Drop), ("pass", InnerVlan::Pass)];

/// The words of `ethernet-tag`.
const ETHERNET_TAG: &[(&str, EthernetTagMode)] = &[
    ("zero", EthernetTagMode::Zero),
    ("vni", EthernetTagMode::Vni),
];

/// EVPN settings of a VNI.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvpnSettings {
    /// Route distinguisher; `None` = automatic.
    pub rd: Option<Rd>,
    /// Targets of routes to import.
    pub import: RouteTargets,
    /// Targets of local routes.
    pub export: RouteTargets,
    /// Ethernet tag of local routes.
    pub tag: EthernetTagMode,
    /// Announce the Router and Override flags of IPv6 addresses (RFC 9047).
    pub nd_flags: bool,
}

/// The settings of one VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VniSettings {
    /// Inner 802.1Q tags.
    pub inner_vlan: InnerVlan,
    /// Answer ARP and ND for known hosts.
    pub suppress: bool,
    /// Limit on MACs from routes and learning, 1 and more; `None` = the capacity of the table.
    pub max_macs: Option<u32>,
    /// Limit on addresses learned from frames.
    pub max_addresses: u32,
    /// Report unknown destinations and addresses on the control socket.
    pub miss_events: bool,
    /// Storm control of what the overlay floods to the ports of the VNI; `None` = no limit.
    pub storm: Option<StormLimit>,
    /// Targets, distinguisher and tag of its EVPN routes.
    pub evpn: EvpnSettings,
}

/// Default of `max-addresses`.
const MAX_ADDRESSES: u32 = 65_536;

impl Default for VniSettings {
    fn default() -> Self {
        Self {
            inner_vlan: InnerVlan::default(),
            suppress: false,
            max_macs: None,
            max_addresses: MAX_ADDRESSES,
            miss_events: false,
            storm: None,
            evpn: EvpnSettings::default(),
        }
    }
}

keys! {
    /// The keys of `[[vni]]`, except `id` and the entries.
    pub(super) const VNI: VniSettings {
        "inner-vlan" => inner_vlan: one_of(INNER_VLAN);
        "suppress" => suppress: plain(boolean);
        "max-macs" => max_macs: optional(plain(integer(1..=u32::MAX)));
        "max-addresses" => max_addresses: plain(integer(1..=u32::MAX));
        "miss-events" => miss_events: plain(boolean);
        "storm" => storm: optional(custom(storm, write_storm));
        "rd" => evpn.rd: custom(|t, key, d| t.optional(key, d, rd), write_rd);
        "import-rt" => evpn.import: route_targets();
        "export-rt" => evpn.export: route_targets();
        "ethernet-tag" => evpn.tag: one_of(ETHERNET_TAG);
        "advertise-nd-flags" => evpn.nd_flags: plain(boolean);
    }
}

/// Reads the settings of a VNI.
pub(super) fn read(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> VniSettings {
    let mut settings = VniSettings::default();
    read_keys(VNI, &mut settings, table, diagnostics);
    settings
}

/// Writes the settings that are not the defaults.
pub(super) fn write(settings: &VniSettings, out: &mut String) {
    write_keys(VNI, settings, Some(&VniSettings::default()), out);
}

/// The automatic one is written by its word, as it may be in a file.
fn write_rd(rd: &Option<Rd>) -> Option<String> {
    Some(rd.map_or_else(|| quoted("auto"), quoted))
}

fn route_targets() -> impl Codec<Value = RouteTargets> {
    custom(targets, |targets| {
        Some(array(target_texts(targets).map(quoted)))
    })
}

/// A VNI as a number.
pub(super) fn number(value: &Located) -> Read<Vni> {
    let text = match value.node {
        Node::Integer(number) => number.to_string(),
        _ => value.describe(),
    };
    text.parse()
        .map_err(|error: vtep_dataplane::addr::AddrError| error.to_string())
}
