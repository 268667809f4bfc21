//! `[bgp]`: types and keys of the speaker.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::diagnostic::Diagnostics;
use super::key::{KeyValue, duration, plain, read_keys, single, values, write_keys};
use super::node::{Located, Node};
use super::table::TableReader;
use super::value::{Read, any_ip, integer, invalid, seconds};
use super::vtep::Addresses;
use super::write::{line, quoted};
use crate::bgp::wire::AS_TRANS;

/// `[bgp]` without the neighbors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpSettings {
    /// Local AS, not a reserved one.
    pub asn: u32,
    /// BGP identifier, not zero.
    pub router_id: Ipv4Addr,
    /// Hold time offered in the OPEN message, seconds: 0, or 3 and more.
    pub hold_time: u16,
    /// When a MAC that moves back and forth is treated as a duplicate.
    pub duplicates: DuplicateDetection,
}

/// Detection of duplicate MACs (RFC 7432 section 15.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateDetection {
    /// Number of moves within `window` that freeze a MAC, 2 and more.
    pub moves: u32,
    /// Interval in which moves are counted.
    pub window: Duration,
    /// How long a MAC stays frozen; `None` = until an operator unfreezes it.
    pub freeze: Option<Duration>,
}

impl Default for DuplicateDetection {
    /// Those of RFC 7432 section 15.1: 5 moves in 180 seconds; frozen until an operator unfreezes.
    fn default() -> Self {
        Self {
            moves: 5,
            window: Duration::from_secs(180),
            freeze: None,
        }
    }
}

impl BgpSettings {
    /// Settings with the defaults of all optional keys.
    #[must_use]
    pub fn new(asn: u32, router_id: Ipv4Addr) -> Self {
        Self {
            asn,
            router_id,
            hold_time: HOLD_TIME,
            duplicates: DuplicateDetection::default(),
        }
    }
}

/// Default hold time, seconds (RFC 4271 section 10).
const HOLD_TIME: u16 = 90;

keys! {
    /// Optional keys of `[bgp]`.
    pub(super) const BGP: BgpSettings {
        @session "hold-time" => hold_time: plain(hold_time);
    }
}

keys! {
    /// Keys of `[bgp]` for duplicate detection, saved together when one is not the default.
    pub(super) const DUPLICATES: DuplicateDetection {
        @live "duplicate-moves" => moves: plain(integer(2..=1000));
        @live "duplicate-window" => window: duration();
        @live "duplicate-freeze" => freeze: single(freeze, write_freeze);
    }
}

/// Reads `[bgp]` without its neighbors. `own`: the VTEP's addresses, the default of `router-id`.
pub(super) fn read(
    table: &mut TableReader<'_>,
    own: Addresses,
    diagnostics: &mut Diagnostics,
) -> Option<BgpSettings> {
    let asn = table.required("asn", "65000", diagnostics, asn);
    let router_id = router_id(table, own, diagnostics);
    let mut settings = BgpSettings::new(
        asn.unwrap_or_default(),
        router_id.unwrap_or(Ipv4Addr::UNSPECIFIED),
    );
    read_keys(BGP, &mut settings, table, diagnostics);
    read_keys(DUPLICATES, &mut settings.duplicates, table, diagnostics);
    (asn.is_some() && router_id.is_some()).then_some(settings)
}

/// Writes `[bgp]` without its neighbors. An identifier that is the default stays the default, so
/// that it follows the VTEP's address.
pub(super) fn write(settings: &BgpSettings, own: Addresses, out: &mut String) {
    out.push_str("\n[bgp]\n");
    line(out, "asn", settings.asn);
    let default = own.v4.map(vtep_dataplane::addr::VtepAddr::get);
    if default != Some(IpAddr::V4(settings.router_id)) {
        line(out, "router-id", quoted(settings.router_id));
    }
    write_keys(BGP, settings, None, out);
    if settings.duplicates != DuplicateDetection::default() {
        write_keys(DUPLICATES, &settings.duplicates, None, out);
    }
}

/// The value of each key of `[bgp]`.
pub(super) fn all_values(settings: &BgpSettings) -> Vec<KeyValue> {
    let mut all = vec![
        KeyValue::session("asn", Some(settings.asn.to_string())),
        KeyValue::session("router-id", Some(quoted(settings.router_id))),
    ];
    all.extend(values(BGP, settings));
    all.extend(values(DUPLICATES, &settings.duplicates));
    all
}

/// The identifier, by default the VTEP's IPv4 address.
fn router_id(
    table: &mut TableReader<'_>,
    own: Addresses,
    diagnostics: &mut Diagnostics,
) -> Option<Ipv4Addr> {
    let given = table.optional("router-id", diagnostics, |value| match router_ip(value)? {
        IpAddr::V4(v4) => Ok(v4),
        IpAddr::V6(v6) => Err(format!(
            "invalid router identifier {v6}: must be an IPv4 address"
        )),
    });
    if table.has("router-id") {
        return given;
    }
    match own.v4.map(vtep_dataplane::addr::VtepAddr::get) {
        Some(IpAddr::V4(v4)) => Some(v4),
        // [vtep] has its own diagnostics.
        _ if own.is_empty() => None,
        _ => {
            let message =
                "missing; a VTEP without IPv4 address needs one: write router-id = \"203.0.113.2\"";
            table.reject("router-id", message, diagnostics);
            None
        }
    }
}

/// An AS number that a speaker may have (RFC 7607, RFC 7300, RFC 6793).
pub(super) fn asn(value: &Located) -> Read<u32> {
    let asn = integer(1..=u32::MAX - 1)(value)?;
    if asn == u32::from(AS_TRANS) || asn == 65_535 {
        return Err(format!("AS {asn} is reserved; write your own AS number"));
    }
    Ok(asn)
}

fn hold_time(value: &Located) -> Read<u16> {
    integer(0..=u16::MAX)(value)
        .ok()
        .filter(|time| !matches!(time, 1 | 2))
        .ok_or_else(|| {
            invalid(
                value,
                "0, or seconds from 3 to 65535 (RFC 4271 section 4.2)",
            )
        })
}

fn freeze(value: &Located) -> Read<Option<Duration>> {
    match &value.node {
        Node::Text(text) if text == "permanent" => Ok(None),
        Node::Integer(_) => seconds(value).map(Some),
        _ => Err(invalid(value, "seconds or \"permanent\"")),
    }
}

fn write_freeze(freeze: &Option<Duration>) -> String {
    let time = freeze.map(|time| time.as_secs().to_string());
    time.unwrap_or_else(|| quoted("permanent"))
}

/// An address that TCP can connect to without a scope. An IPv4-mapped one is refused: the sessions
/// would run over IPv4, where the options of the IPv6 socket have no effect (TTL security), and
/// connections from the neighbor have its IPv4 address.
pub(super) fn router_ip(value: &Located) -> Read<IpAddr> {
    let address = any_ip(value)?;
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified() || address.is_multicast() || broadcast || link_local || mapped {
        return Err(format!(
            "invalid router address {address}: must be a unicast address that is routed, not \
             IPv4-mapped"
        ));
    }
    Ok(address)
}
