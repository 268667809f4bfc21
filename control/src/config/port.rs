//! `[[vni.port]]`: types and keys.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use vtep_dataplane::addr::HostMac;
use vtep_dataplane::table::port::{ChecksumMode, StormLimit};

use super::diagnostic::Diagnostics;
use super::interface::PortKey;
use super::key::{custom, one_of, optional, plain, read_keys, set, write_keys, write_only};
use super::node::Located;
use super::table::TableReader;
use super::value::{Read, boolean, integer, ip, text};
use super::write::{line, quoted};

/// Learning of local MACs from frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learn {
    /// Limit on MACs learned at a time, 1 and more.
    pub limit: u32,
    /// Time without a frame after which a MAC is removed, and without an ARP or ND message after
    /// which an address is.
    pub age: Duration,
}

/// How frames enter and leave the interface of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// What suits the interface.
    #[default]
    Auto,
    /// AF_XDP sockets.
    Xdp,
    /// Packet sockets.
    Packet,
}

impl Io {
    /// Its word in files and requests.
    #[must_use]
    pub fn word(self) -> &'static str {
        let found = IO.iter().find(|(_, io)| *io == self);
        found.map_or("", |(word, _)| word)
    }
}

/// The words of `io`.
pub(super) const IO: &[(&str, Io)] =
    &[("auto", Io::Auto), ("xdp", Io::Xdp), ("packet", Io::Packet)];

/// Default of `learn-addresses`: a host with several prefixes, and temporary IPv6 addresses in each
/// (RFC 8981).
const LEARN_ADDRESSES: u32 = 16;

/// Default of `max-addresses` of a port.
const MAX_ADDRESSES: u32 = 1024;

impl Learn {
    /// The default of Linux bridges (`ageing_time`).
    pub const DEFAULT_AGE: Duration = Duration::from_secs(300);
}

/// A tenant port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Interface and VLAN.
    pub key: PortKey,
    /// Hosts behind the port.
    pub macs: BTreeSet<HostMac>,
    /// Only `macs` may send.
    pub lock: bool,
    /// `macs` never move to another VTEP (RFC 7432 section 15.2).
    pub sticky: bool,
    /// Other VTEPs have `macs` too, as they have an anycast gateway: never claimed from them.
    pub anycast: bool,
    /// Learning from frames; never together with `lock`.
    pub learn: Option<Learn>,
    /// Limit on addresses learned for one MAC at a time.
    pub learn_addresses: u32,
    /// Limit on addresses learned on the port at a time.
    pub max_addresses: u32,
    /// The hosts behind it are IPv6 routers: the R flag of advertisements (RFC 4861 section 4.4).
    pub router: bool,
    /// IP addresses of the hosts behind it.
    pub ips: BTreeSet<IpAddr>,
    /// Limit on flooded frames.
    pub storm: Option<StormLimit>,
    /// Checksums left to hardware.
    pub checksum: ChecksumMode,
    /// How its frames enter and leave; the same for all ports of an interface.
    pub io: Io,
}

impl Port {
    /// A port with default settings: no hosts, not locked, no limit, checksums and `io` `auto`.
    #[must_use]
    pub const fn new(key: PortKey) -> Self {
        Self {
            key,
            macs: BTreeSet::new(),
            lock: false,
            sticky: false,
            anycast: false,
            learn: None,
            learn_addresses: LEARN_ADDRESSES,
            max_addresses: MAX_ADDRESSES,
            router: false,
            ips: BTreeSet::new(),
            storm: None,
            checksum: ChecksumMode::Auto,
            io: Io::Auto,
        }
    }
}

/// The words of `checksum`.
const CHECKSUM: &[(&str, ChecksumMode)] = &[
    ("auto", ChecksumMode::Auto),
    ("complete", ChecksumMode::Complete),
    ("trust", ChecksumMode::Trust),
];

keys! {
    /// The keys of `[[vni.port]]`, except `interface` and `vlan`.
    pub(super) const PORT: Port {
        "macs" => macs: set(text::<HostMac>);
        "lock" => lock: plain(boolean);
        "sticky" => sticky: plain(boolean);
        "anycast" => anycast: plain(boolean);
        "learn-limit" => learn: write_only(|learn: &Option<Learn>| {
            learn.map(|learn| learn.limit.to_string())
        });
        "learn-age" => learn: write_only(write_age);
        "learn-addresses" => learn_addresses: plain(integer(1..=65_535));
        "max-addresses" => max_addresses: plain(integer(1..=u32::MAX));
        "router" => router: plain(boolean);
        "ips" => ips: set(ip);
        "storm" => storm: optional(custom(storm, write_storm));
        "checksum" => checksum: one_of(CHECKSUM);
        "io" => io: one_of(IO);
    }
}

/// Reads what identifies a port.
pub(super) fn read_key(
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

/// Reads a port with its settings.
pub(super) fn read(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> Option<Port> {
    let key = read_key(table, diagnostics);
    // The settings are read, and so checked, even when the key is invalid.
    let mut port = Port::new(key.clone().unwrap_or_else(PortKey::placeholder));
    read_keys(PORT, &mut port, table, diagnostics);
    port.learn = learn(table, port.lock, diagnostics);
    if port.lock && port.macs.is_empty() {
        let message = "a locked port without macs accepts no frames; list the hosts in macs, or \
            write lock = false";
        table.reject("lock", message, diagnostics);
    }
    key.map(|_| port)
}

/// Writes one `[[vni.port]]`.
pub(super) fn write(port: &Port, out: &mut String) {
    out.push_str("[[vni.port]]\n");
    line(out, "interface", quoted(&port.key.interface));
    if let Some(vlan) = port.key.vlan {
        line(out, "vlan", vlan);
    }
    write_keys(PORT, port, Some(&defaults(port)), out);
}

/// The port with the default of each key, as far as it has the key: one that learns has an age.
pub(super) fn defaults(port: &Port) -> Port {
    Port {
        learn: port.learn.map(|_| Learn {
            limit: 0,
            age: Learn::DEFAULT_AGE,
        }),
        ..Port::new(port.key.clone())
    }
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

/// Workers report hosts that still send every 4 seconds: a shorter age would remove them between
/// two reports.
fn learn_age(value: &Located) -> Read<Duration> {
    integer(10_u32..=7 * 24 * 3600)(value).map(|seconds| Duration::from_secs(seconds.into()))
}

fn write_age(learn: &Option<Learn>) -> Option<String> {
    learn.map(|learn| learn.age.as_secs().to_string())
}

/// Reads a storm limit.
pub(super) fn storm(
    table: &mut TableReader<'_>,
    key: &'static str,
    diagnostics: &mut Diagnostics,
) -> Option<StormLimit> {
    let mut table = table.table(key, diagnostics)?;
    let rate = table.required("rate", "1000", diagnostics, integer(1..=u32::MAX));
    let burst = table.required("burst", "100", diagnostics, integer(1..=u32::MAX));
    table.finish(diagnostics);
    Some(StormLimit {
        rate: rate?,
        burst: burst?,
    })
}

/// Writes a storm limit.
pub(super) fn write_storm(storm: &StormLimit) -> Option<String> {
    Some(format!(
        "{{ rate = {}, burst = {} }}",
        storm.rate, storm.burst
    ))
}
