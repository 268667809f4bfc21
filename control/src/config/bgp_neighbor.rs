//! `[[bgp.neighbor]]`: type and keys.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use super::bgp::{BgpSettings, asn, router_ip};
use super::diagnostic::Diagnostics;
use super::key::{
    KeyValue, custom, duration, optional, plain, read_keys, string_of, values, write_keys,
    write_only,
};
use super::node::Located;
use super::password::{Password, PasswordSource};
use super::table::TableReader;
use super::value::{Read, boolean, integer, invalid, seconds, string};
use super::write::{line, quoted};
use crate::bgp::wire::MAX_RESTART_TIME;
use crate::bgp::{MaxPrefixes, PeerConfig, RestartConfig};

/// The TCP port of BGP (RFC 4271 section 8.2.1).
pub const BGP_PORT: u16 = 179;

/// A `[[bgp.neighbor]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpNeighbor {
    /// Its address.
    pub address: IpAddr,
    /// The AS that it must have.
    pub remote_asn: u32,
    /// Source address of the session, of the same family; `None` = chosen by the kernel.
    pub local_address: Option<IpAddr>,
    /// TCP port to connect to.
    pub port: u16,
    /// Wait for the neighbor to connect.
    pub passive: bool,
    /// TCP-MD5 (RFC 2385).
    pub password: Option<Password>,
    /// Maximum number of hops to the neighbor, 1..=254 (GTSM, RFC 5082); `None` = not checked.
    pub ttl_security: Option<u8>,
    /// Limit on routes.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Interval between connection attempts, before jitter.
    pub connect_retry: Duration,
    /// Offer messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Graceful restart; `None` = not offered.
    pub restart: Option<RestartConfig>,
    /// Free text for operators.
    pub description: Option<String>,
}

impl BgpNeighbor {
    /// A neighbor with the defaults of [`PeerConfig`].
    #[must_use]
    pub fn new(address: IpAddr, remote_asn: u32) -> Self {
        let default = PeerConfig::new(0, Ipv4Addr::UNSPECIFIED, remote_asn);
        Self {
            address,
            remote_asn,
            local_address: None,
            port: BGP_PORT,
            passive: default.passive,
            password: None,
            ttl_security: None,
            max_prefixes: default.max_prefixes,
            connect_retry: default.connect_retry,
            extended_messages: default.extended_messages,
            restart: default.restart,
            description: None,
        }
    }

    /// What its TCP connections consist of: local address, port, TCP-MD5 key, maximum number of
    /// hops.
    #[must_use]
    pub fn connection(&self) -> (Option<IpAddr>, u16, Option<&[u8]>, Option<u8>) {
        let key = self.password.as_ref().map(Password::key);
        (self.local_address, self.port, key, self.ttl_security)
    }

    /// The configuration of the session.
    #[must_use]
    pub fn peer_config(&self, settings: &BgpSettings, hostname: Option<String>) -> PeerConfig {
        PeerConfig {
            passive: self.passive,
            hold_time: settings.hold_time,
            connect_retry: self.connect_retry,
            extended_messages: self.extended_messages,
            restart: self.restart,
            max_prefixes: self.max_prefixes,
            hostname,
            ..PeerConfig::new(settings.asn, settings.router_id, self.remote_asn)
        }
    }
}

keys! {
    /// Optional keys of `[[bgp.neighbor]]`.
    pub(super) const NEIGHBOR: BgpNeighbor {
        @session "local-address" => local_address: optional(string_of(router_ip));
        @session "port" => port: plain(integer(1..=u16::MAX));
        @live "passive" => passive: plain(boolean);
        @session "password-file" => password: write_only(|password: &Option<Password>| {
            password.as_ref().map(|password| quoted(password.file().display()))
        });
        @session "ttl-security" => ttl_security: optional(plain(integer(1..=254)));
        @live "max-prefixes" => max_prefixes: optional(custom(max_prefixes, write_max_prefixes));
        @live "connect-retry" => connect_retry: duration();
        @session "extended-messages" => extended_messages: plain(boolean);
        @session "graceful-restart" => restart: custom(graceful_restart, write_graceful_restart);
        @live "description" => description: optional(string_of(description));
    }
}

/// Reads one `[[bgp.neighbor]]`.
pub(super) fn read(
    table: &mut TableReader<'_>,
    passwords: PasswordSource<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<BgpNeighbor> {
    let address = table.required("address", "\"203.0.113.254\"", diagnostics, router_ip);
    let remote_asn = table.required("remote-asn", "65000", diagnostics, asn);
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut neighbor = BgpNeighbor::new(address.unwrap_or(unknown), remote_asn.unwrap_or_default());
    read_keys(NEIGHBOR, &mut neighbor, table, diagnostics);
    if let (Some(remote), Some(local)) = (address, neighbor.local_address)
        && remote.is_ipv4() != local.is_ipv4()
    {
        let message =
            format_args!("{local} is of another address family than the neighbor's {remote}");
        table.reject("local-address", message, diagnostics);
    }
    neighbor.password = table.optional("password-file", diagnostics, |value| {
        passwords(Path::new(string(value)?))
    });
    (address.is_some() && remote_asn.is_some()).then_some(neighbor)
}

/// Writes one `[[bgp.neighbor]]`.
pub(super) fn write(neighbor: &BgpNeighbor, out: &mut String) {
    out.push_str("[[bgp.neighbor]]\n");
    line(out, "address", quoted(neighbor.address));
    line(out, "remote-asn", neighbor.remote_asn);
    let default = BgpNeighbor::new(neighbor.address, neighbor.remote_asn);
    write_keys(NEIGHBOR, neighbor, Some(&default), out);
}

/// The value of each key but `address`, `remote-asn` first.
pub(super) fn all_values(neighbor: &BgpNeighbor) -> Vec<KeyValue> {
    let asn = KeyValue::session("remote-asn", Some(neighbor.remote_asn.to_string()));
    std::iter::once(asn)
        .chain(values(NEIGHBOR, neighbor))
        .collect()
}

/// A number, or `{ limit, retry }`.
fn max_prefixes(
    table: &mut TableReader<'_>,
    key: &'static str,
    diagnostics: &mut Diagnostics,
) -> Option<MaxPrefixes> {
    if !table.is_table(key) {
        let limit = table.optional(key, diagnostics, |value| {
            integer(1..=u32::MAX)(value)
                .map_err(|wrong| format!("{wrong}, or {{ limit = N, retry = SECONDS }}"))
        });
        return limit.map(|limit| MaxPrefixes { limit, retry: None });
    }
    let mut inner = table.table(key, diagnostics)?;
    let limit = inner.required("limit", "100000", diagnostics, integer(1..=u32::MAX));
    let retry = inner.optional("retry", diagnostics, seconds);
    inner.finish(diagnostics);
    Some(MaxPrefixes {
        limit: limit?,
        retry,
    })
}

fn write_max_prefixes(max: &MaxPrefixes) -> Option<String> {
    Some(match max.retry {
        None => max.limit.to_string(),
        Some(retry) => format!("{{ limit = {}, retry = {} }}", max.limit, retry.as_secs()),
    })
}

/// `true`, `false`, or `{ restart-time, stale-time }`. The outer `None`: missing or invalid.
fn graceful_restart(
    table: &mut TableReader<'_>,
    key: &'static str,
    diagnostics: &mut Diagnostics,
) -> Option<Option<RestartConfig>> {
    let default = RestartConfig::default();
    if !table.is_table(key) {
        let on = table.optional(key, diagnostics, |value| {
            boolean(value)
                .map_err(|wrong| format!("{wrong}, or {{ restart-time = S, stale-time = S }}"))
        });
        return on.map(|on| on.then_some(default));
    }
    let mut inner = table.table(key, diagnostics)?;
    let time = inner.optional("restart-time", diagnostics, integer(1..=MAX_RESTART_TIME));
    let stale = inner.optional("stale-time", diagnostics, seconds);
    inner.finish(diagnostics);
    Some(Some(RestartConfig {
        time: time.unwrap_or(default.time),
        stale_limit: stale.unwrap_or(default.stale_limit),
        ..default
    }))
}

fn write_graceful_restart(restart: &Option<RestartConfig>) -> Option<String> {
    Some(match restart {
        None => false.to_string(),
        Some(restart) => {
            let (time, stale) = (restart.time, restart.stale_limit.as_secs());
            format!("{{ restart-time = {time}, stale-time = {stale} }}")
        }
    })
}

fn description(value: &Located) -> Read<String> {
    const LONGEST: usize = 80;
    let text = string(value)?;
    if text.chars().count() > LONGEST || text.chars().any(disturbs_lines) {
        let must_be = format_args!(
            "one line of at most {LONGEST} characters, without control and formatting characters"
        );
        return Err(invalid(value, must_be));
    }
    Ok(text.to_owned())
}

/// True for what ends a line, or changes the order in which the line that it stands in is shown:
/// control characters, line and paragraph separators, and the controls of bidirectional text
/// (Unicode Standard Annex #9).
fn disturbs_lines(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}
