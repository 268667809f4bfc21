//! `[[vni]]` without its entries: types and keys.

use vtep_dataplane::addr::Vni;

use super::diagnostic::Diagnostics;
use super::key::{Codec, custom, one_of, optional, plain, read_keys, write_keys};
use super::node::{Located, Node};
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
}

/// The settings of one VNI.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VniSettings {
    /// Inner 802.1Q tags.
    pub inner_vlan: InnerVlan,
    /// Answer ARP and ND for known hosts.
    pub suppress: bool,
    /// Limit on MACs from routes and learning, 1 and more; `None` = the capacity of the table.
    pub max_macs: Option<u32>,
    /// Report unknown destinations and addresses on the control socket.
    pub miss_events: bool,
    /// Targets, distinguisher and tag of its EVPN routes.
    pub evpn: EvpnSettings,
}

keys! {
    /// The keys of `[[vni]]`, except `id` and the entries.
    pub(super) const VNI: VniSettings {
        "inner-vlan" => inner_vlan: one_of(INNER_VLAN);
        "suppress" => suppress: plain(boolean);
        "max-macs" => max_macs: optional(plain(integer(1..=u32::MAX)));
        "miss-events" => miss_events: plain(boolean);
        "rd" => evpn.rd: custom(|t, key, d| t.optional(key, d, rd), |rd| rd.map(quoted));
        "import-rt" => evpn.import: route_targets();
        "export-rt" => evpn.export: route_targets();
        "ethernet-tag" => evpn.tag: one_of(ETHERNET_TAG);
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
