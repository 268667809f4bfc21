//! Reads what belongs to a VNI: settings, ports, FDB entries, neighbours. Files and requests share these readers.

use std::net::IpAddr;
use std::time::Duration;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};
use vtep_dataplane::table::port::{ChecksumMode, StormLimit};

use super::model::{InnerVlan, Learn, Port, PortKey, VniSettings, host_ip};
use super::node::{Located, Node};
use super::problem::Problems;
use super::routing::EvpnSettings;
use super::table::{Read, TableReader, boolean, integer, text, word};
use super::target::{Tag, rd, targets};

/// The words of `inner-vlan`.
pub(super) const INNER_VLAN: &[(&str, InnerVlan)] =
    &[("drop", InnerVlan::Drop), ("pass", InnerVlan::Pass)];

/// The words of `ethernet-tag`.
pub(super) const ETHERNET_TAG: &[(&str, Tag)] = &[("zero", Tag::Zero), ("vni", Tag::Vni)];

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
pub(super) fn settings(table: &mut TableReader<'_>, problems: &mut Problems) -> VniSettings {
    let default = VniSettings::default();
    let inner_vlan = table.optional("inner-vlan", problems, word(INNER_VLAN));
    let suppress = table.optional("suppress", problems, boolean);
    let miss_events = table.optional("miss-events", problems, boolean);
    VniSettings {
        inner_vlan: inner_vlan.unwrap_or(default.inner_vlan),
        suppress: suppress.unwrap_or(default.suppress),
        max_macs: table.optional("max-macs", problems, integer(1..=u32::MAX)),
        miss_events: miss_events.unwrap_or(default.miss_events),
        evpn: EvpnSettings {
            rd: table.optional("rd", problems, rd).flatten(),
            import: targets(table, "import-rt", problems),
            export: targets(table, "export-rt", problems),
            tag: table
                .optional("ethernet-tag", problems, word(ETHERNET_TAG))
                .unwrap_or_default(),
        },
    }
}

/// What tells one port from another.
pub(super) fn port_key(table: &mut TableReader<'_>, problems: &mut Problems) -> Option<PortKey> {
    let interface = table.required("interface", "\"vnet10\"", problems, text);
    let vlan = table.optional("vlan", problems, integer(1..=4094));
    Some(PortKey {
        interface: interface?,
        vlan,
    })
}

/// A port with its settings.
pub(super) fn port(table: &mut TableReader<'_>, problems: &mut Problems) -> Option<Port> {
    let key = port_key(table, problems);
    let macs = table.set("macs", problems, text::<HostMac>);
    let lock = table.optional("lock", problems, boolean).unwrap_or(false);
    let ips = table.set("ips", problems, ip);
    let storm = table
        .table("storm", problems)
        .and_then(|mut storm| storm_limit(&mut storm, problems));
    let checksum = table.optional("checksum", problems, word(CHECKSUM));
    let sticky = table.optional("sticky", problems, boolean).unwrap_or(false);
    let learn = learn(table, lock, problems);
    if lock && macs.is_empty() {
        let message = "a locked port without macs lets nothing in; list the hosts in macs, or write lock = false";
        table.refuse("lock", message, problems);
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
fn learn(table: &mut TableReader<'_>, lock: bool, problems: &mut Problems) -> Option<Learn> {
    let limit = table.optional("learn-limit", problems, integer(1..=u32::MAX));
    let age = table.optional("learn-age", problems, learn_age);
    if lock && table.has("learn-limit") {
        let message = "a locked port learns nothing; write lock = false, or remove the key";
        table.refuse("learn-limit", message, problems);
    }
    if table.has("learn-age") && !table.has("learn-limit") {
        let message =
            "nothing is learned without a limit; write learn-limit = 100 too, or remove the key";
        table.refuse("learn-age", message, problems);
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

fn storm_limit(table: &mut TableReader<'_>, problems: &mut Problems) -> Option<StormLimit> {
    let rate = table.required("rate", "1000", problems, integer(1..=u32::MAX));
    let burst = table.required("burst", "100", problems, integer(1..=u32::MAX));
    table.finish(problems);
    Some(StormLimit {
        rate: rate?,
        burst: burst?,
    })
}

/// A static remote MAC.
pub(super) fn fdb(
    table: &mut TableReader<'_>,
    problems: &mut Problems,
) -> Option<(HostMac, VtepAddr)> {
    let mac = table.required("mac", "\"50:54:33:00:00:0c\"", problems, text);
    let vtep = table.required("vtep", "\"203.0.113.3\"", problems, text);
    Some((mac?, vtep?))
}

/// A static neighbour.
pub(super) fn neighbor(
    table: &mut TableReader<'_>,
    problems: &mut Problems,
) -> Option<(IpAddr, HostMac)> {
    let address = table.required("ip", "\"192.0.2.12\"", problems, ip);
    let mac = table.required("mac", "\"50:54:33:00:00:0c\"", problems, text);
    Some((address?, mac?))
}
