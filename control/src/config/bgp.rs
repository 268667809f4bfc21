//! Reads `[bgp]` with its neighbours.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use super::bgp_neighbor::{BgpNeighbor, BgpSettings, Duplicates, Password};
use super::diagnostic::Diagnostics;
use super::model::Addresses;
use super::node::{Located, Node};
use super::table::{Read, TableReader, boolean, integer, text};
use crate::bgp::wire::{AS_TRANS, MAX_RESTART_TIME};
use crate::bgp::{MaxPrefixes, RestartConfig};

/// Where a password comes from: its file, or for requests what is known of that file already.
pub(super) type Passwords<'a> = &'a dyn Fn(&Path) -> Read<Password>;

/// Hold time that we propose where the file says nothing, seconds (RFC 4271 section 10).
const HOLD_TIME: u16 = 90;
/// A week: the longest time that a table may wait, seconds.
const WEEK: u32 = 7 * 24 * 3600;

/// `[bgp]` without its neighbours. `own`: the VTEP's addresses, of which the router identifier is made.
pub(super) fn settings(
    table: &mut TableReader<'_>,
    own: Addresses,
    diagnostics: &mut Diagnostics,
) -> Option<BgpSettings> {
    let asn = table.required("asn", "65000", diagnostics, asn);
    let router_id = router_id(table, own, diagnostics);
    let hold_time = table.optional("hold-time", diagnostics, hold_time);
    let default = Duplicates::default();
    let moves = table.optional("duplicate-moves", diagnostics, integer(2..=1000));
    let window = table.optional("duplicate-window", diagnostics, seconds);
    let freeze = table.optional("duplicate-freeze", diagnostics, freeze);
    let duplicates = Duplicates {
        moves: moves.unwrap_or(default.moves),
        window: window.unwrap_or(default.window),
        freeze: freeze.unwrap_or(default.freeze),
    };
    Some(BgpSettings {
        asn: asn?,
        router_id: router_id?,
        hold_time: hold_time.unwrap_or(HOLD_TIME),
        duplicates,
    })
}

/// The identifier, by default the VTEP's IPv4 address.
fn router_id(
    table: &mut TableReader<'_>,
    own: Addresses,
    diagnostics: &mut Diagnostics,
) -> Option<Ipv4Addr> {
    let given = table.optional("router-id", diagnostics, |value| {
        let id: Ipv4Addr = address(value).and_then(|ip| match ip {
            IpAddr::V4(v4) => Ok(v4),
            IpAddr::V6(v6) => Err(format!(
                "{v6} is no router identifier; write an IPv4 address"
            )),
        })?;
        Ok(id)
    });
    if table.has("router-id") {
        return given;
    }
    match own.v4.map(vtep_dataplane::addr::VtepAddr::get) {
        Some(IpAddr::V4(v4)) => Some(v4),
        // What is wrong with [vtep] is told there.
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
fn asn(value: &Located) -> Read<u32> {
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
            format!(
                "{} is wrong; write 0, or seconds from 3 to 65535 (RFC 4271 section 4.2)",
                value.describe()
            )
        })
}

/// Seconds, at least one.
pub(super) fn seconds(value: &Located) -> Read<Duration> {
    integer(1..=WEEK)(value).map(|seconds| Duration::from_secs(seconds.into()))
}

fn freeze(value: &Located) -> Read<Option<Duration>> {
    match &value.node {
        Node::Text(text) if text == "permanent" => Ok(None),
        Node::Integer(_) => seconds(value).map(Some),
        _ => Err(format!(
            "{} is wrong; write seconds or \"permanent\"",
            value.describe()
        )),
    }
}

/// An address that TCP can connect to without more than the address.
fn address(value: &Located) -> Read<IpAddr> {
    let Node::Text(text) = &value.node else {
        return Err(format!(
            "{} is no string; write it in quotes",
            value.describe()
        ));
    };
    let address: IpAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is no IPv4 or IPv6 address"))?;
    let near = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || broadcast || near {
        return Err(format!(
            "{address} can't be the address of a router; write a unicast address that is routed"
        ));
    }
    Ok(address)
}

/// One `[[bgp.neighbor]]`.
pub(super) fn neighbor(
    table: &mut TableReader<'_>,
    passwords: Passwords<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<BgpNeighbor> {
    let remote = table.required("address", "\"203.0.113.254\"", diagnostics, address);
    let remote_asn = table.required("remote-asn", "65000", diagnostics, asn);
    let local_address = table.optional("local-address", diagnostics, |value| {
        let local = address(value)?;
        match remote {
            Some(remote) if remote.is_ipv4() != local.is_ipv4() => Err(format!(
                "{local} is of another family than the neighbour's {remote}"
            )),
            _ => Ok(local),
        }
    });
    let port = table.optional("port", diagnostics, integer(1..=u16::MAX));
    let passive = table.optional("passive", diagnostics, boolean);
    let password = table.optional("password-file", diagnostics, |value| {
        passwords(Path::new(&text::<String>(value)?))
    });
    let ttl_security = table.optional("ttl-security", diagnostics, integer(1..=254));
    let max_prefixes = max_prefixes(table, diagnostics);
    let connect_retry = table.optional("connect-retry", diagnostics, seconds);
    let extended = table.optional("extended-messages", diagnostics, boolean);
    let restart = graceful_restart(table, diagnostics);
    let description = table.optional("description", diagnostics, description);
    let default = BgpNeighbor::new(remote?, remote_asn?);
    Some(BgpNeighbor {
        local_address,
        port: port.unwrap_or(default.port),
        passive: passive.unwrap_or(default.passive),
        password,
        ttl_security,
        max_prefixes,
        connect_retry: connect_retry.unwrap_or(default.connect_retry),
        extended_messages: extended.unwrap_or(default.extended_messages),
        restart: restart.unwrap_or(default.restart),
        description,
        ..default
    })
}

/// A number, or `{ limit, retry }`.
fn max_prefixes(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> Option<MaxPrefixes> {
    const KEY: &str = "max-prefixes";
    if !table.is_table(KEY) {
        let limit = table.optional(KEY, diagnostics, |value| {
            integer(1..=u32::MAX)(value)
                .map_err(|wrong| format!("{wrong}, or {{ limit = N, retry = SECONDS }}"))
        });
        return limit.map(|limit| MaxPrefixes { limit, retry: None });
    }
    let mut inner = table.table(KEY, diagnostics)?;
    let limit = inner.required("limit", "100000", diagnostics, integer(1..=u32::MAX));
    let retry = inner.optional("retry", diagnostics, seconds);
    inner.finish(diagnostics);
    Some(MaxPrefixes {
        limit: limit?,
        retry,
    })
}

/// `true`, `false`, or `{ restart-time, stale-time }`. The outer `None`: nothing is written, or it is wrong.
fn graceful_restart(
    table: &mut TableReader<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Option<RestartConfig>> {
    const KEY: &str = "graceful-restart";
    let default = RestartConfig::default();
    if !table.is_table(KEY) {
        let on = table.optional(KEY, diagnostics, |value| {
            boolean(value)
                .map_err(|wrong| format!("{wrong}, or {{ restart-time = S, stale-time = S }}"))
        });
        return on.map(|on| on.then_some(default));
    }
    let mut inner = table.table(KEY, diagnostics)?;
    let time = inner.optional("restart-time", diagnostics, integer(1..=MAX_RESTART_TIME));
    let stale = inner.optional("stale-time", diagnostics, seconds);
    inner.finish(diagnostics);
    Some(Some(RestartConfig {
        time: time.unwrap_or(default.time),
        stale_limit: stale.unwrap_or(default.stale_limit),
        ..default
    }))
}

fn description(value: &Located) -> Read<String> {
    const LONGEST: usize = 80;
    let text: String = text(value)?;
    if text.chars().count() > LONGEST || text.chars().any(char::is_control) {
        return Err(format!(
            "{} is too long or has control characters; write one line of at most {LONGEST}",
            value.describe()
        ));
    }
    Ok(text)
}
