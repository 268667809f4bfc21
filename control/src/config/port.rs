//! Reads what belongs to a VNI: settings, ports, FDB entries, neighbours. Files and requests share these readers.

use std::net::IpAddr;
use std::time::Duration;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};
use vtep_dataplane::table::port::{ChecksumMode, StormLimit};

use super::bgp_neighbor::EvpnSettings;
use super::diagnostic::Diagnostics;
use super::model::{InnerVlan, Learn, Port, PortKey, VniSettings, host_ip};
use super::node::{Located, Node};
use super::table::{Read, TableReader, boolean, integer, text, word};
use super::target::{EthernetTagMode, rd, targets};

/// The words of `inner-vlan`.
pub(super) const INNER_VLAN: &[(&str, InnerVlan)] =
    &[("drop", InnerVlan::Drop), ("pass", InnerVlan::Pass)];

/// The words of `ethernet-tag`.
pub(super) const ETHERNET_TAG: &[(&str, EthernetTagMode)] = &[
    ("zero", EthernetTagMode::Zero),
    ("vni", EthernetTagMode::Vni),
];

/// The words of `checksum`.
pub(super) const CHECKSUM: &[(&str, ChecksumMode)] = &[
    ("auto", ChecksumMode::Auto),
    ("complete", ChecksumMode::Complete),
    ("trust", ChecksumMode::Trust),
];

/// A VNI as a number.
pub(super) fn vni(value: &Located) -> Read<Vni> {
    let Node::Integer(number) = value.node else {
        return Err(format!(
            "{} is no VNI; write a number from 1 to 16777215",
            value.describe()
        ));
    };
    number
        .to_string()
        .parse()
        .map_err(|error: vtep_dataplane::addr::AddrError| error.to_string())
}

/// The address of a host.
pub(super) fn ip(value: &Located) -> Read<IpAddr> {
    let Node::Text(text) = &value.node else {
        return Err(format!(
            "{} is no string; write it in quotes",
            value.describe()
        ));
    };
    let address = text
        .parse()
        .map_err(|_| format!("{text:?} is no IPv4 or IPv6 address"))?;
    host_ip(address)
}

/// What a VNI has beside its entries.
pub(super) fn settings(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> VniSettings {
    let default = VniSettings::default();
    let inner_vlan = table.optional("inner-vlan", diagnostics, word(INNER_VLAN));
    let suppress = table.optional("suppress", diagnostics, boolean);
    let miss_events = table.optional("miss-events", diagnostics, boolean);
    VniSettings {
        inner_vlan: inner_vlan.unwrap_or(default.inner_vlan),
        suppress: suppress.unwrap_or(default.suppress),
        max_macs: table.optional("max-macs", diagnostics, integer(1..=u32::MAX)),
        miss_events: miss_events.unwrap_or(default.miss_events),
        evpn: EvpnSettings {
            rd: table.optional("rd", diagnostics, rd).flatten(),
            import: targets(table, "import-rt", diagnostics),
            export: targets(table, "export-rt", diagnostics),
            tag: table
                .optional("ethernet-tag", diagnostics, word(ETHERNET_TAG))
                .unwrap_or_default(),
        },
    }
}

/// What tells one port from another.
pub(super) fn port_key(
    table: &mut TableReader<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<PortKey> {
    let interface = table.required("interface", "\"vnet10\"", diagnostics, text);
    let vlan = table.optional("vlan", diagnostics, integer(1..=4094));
    Some(PortKey {
        interface: interface?,
        vlan,
    })
}

/// A port with its settings.
pub(super) fn port(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> Option<Port> {
    let key = port_key(table, diagnostics);
    let macs = table.set("macs", diagnostics, text::<HostMac>);
    let lock = table
        .optional("lock", diagnostics, boolean)
        .unwrap_or(false);
    let ips = table.set("ips", diagnostics, ip);
    let storm = table
        .table("storm", diagnostics)
        .and_then(|mut storm| storm_limit(&mut storm, diagnostics));
    let checksum = table.optional("checksum", diagnostics, word(CHECKSUM));
    let sticky = table
        .optional("sticky", diagnostics, boolean)
        .unwrap_or(false);
    let learn = learn(table, lock, diagnostics);
    if lock && macs.is_empty() {
        let message = "a locked port without macs lets nothing in; list the hosts in macs, or write lock = false";
        table.reject("lock", message, diagnostics);
    }
    Some(Port {
        macs: macs.into_iter().collect(),
        lock,
        sticky,
        learn,
        ips: ips.into_iter().collect(),
        storm,
        checksum: checksum.unwrap_or(ChecksumMode::Auto),
        ..Port::new(key?)
    })
}

/// `learn-limit` and `learn-age`.
fn learn(table: &mut TableReader<'_>, lock: bool, diagnostics: &mut Diagnostics) -> Option<Learn> {
    let limit = table.optional("learn-limit", diagnostics, integer(1..=u32::MAX));
    let age = table.optional("learn-age", diagnostics, learn_age);
    if lock && table.has("learn-limit") {
        let message = "a locked port learns nothing; write lock = false, or remove the key";
        table.reject("learn-limit", message, diagnostics);
    }
    if table.has("learn-age") && !table.has("learn-limit") {
        let message =
            "nothing is learned without a limit; write learn-limit = 100 too, or remove the key";
        table.reject("learn-age", message, diagnostics);
    }
    Some(Learn {
        limit: limit?,
        age: age.unwrap_or(Learn::DEFAULT_AGE),
    })
}

/// Hosts that still speak are told every 4 seconds: a shorter age would forget them in between.
fn learn_age(value: &Located) -> Read<Duration> {
    integer(10_u32..=7 * 24 * 3600)(value).map(|seconds| Duration::from_secs(seconds.into()))
}

fn storm_limit(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> Option<StormLimit> {
    let rate = table.required("rate", "1000", diagnostics, integer(1..=u32::MAX));
    let burst = table.required("burst", "100", diagnostics, integer(1..=u32::MAX));
    table.finish(diagnostics);
    Some(StormLimit {
        rate: rate?,
        burst: burst?,
    })
}

/// A static remote MAC.
pub(super) fn fdb(
    table: &mut TableReader<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<(HostMac, VtepAddr)> {
    let mac = table.required("mac", "\"50:54:33:00:00:0c\"", diagnostics, text);
    let vtep = table.required("vtep", "\"203.0.113.3\"", diagnostics, text);
    Some((mac?, vtep?))
}

/// A static neighbour.
pub(super) fn neighbor(
    table: &mut TableReader<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<(IpAddr, HostMac)> {
    let address = table.required("ip", "\"192.0.2.12\"", diagnostics, ip);
    let mac = table.required("mac", "\"50:54:33:00:00:0c\"", diagnostics, text);
    Some((address?, mac?))
}
