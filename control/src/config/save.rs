//! Writes a configuration as TOML. Equal configurations give equal texts, and the text reads back as it was.

use std::fmt::{Display, Write};

use vtep_dataplane::addr::Vni;
use vtep_dataplane::table::port::ChecksumMode;

use super::bgp_neighbor::{BgpNeighbor, BgpSettings, Duplicates, Password};
use super::model::{Config, Control, Dscp, Learn, Port, Tristate, VniConfig, VniSettings, Vtep};
use super::port::{CHECKSUM, ETHERNET_TAG, INNER_VLAN};
use super::target::target_texts;
use super::vtep::XDP_MODE;

/// The configuration as a file that [`load`](super::load) reads.
#[must_use]
pub fn save(config: &Config) -> String {
    let mut out = String::new();
    vtep(&mut out, config.vtep());
    control(&mut out, config.control());
    if let Some(settings) = config.bgp() {
        bgp(&mut out, settings);
        config
            .bgp_neighbors()
            .values()
            .for_each(|neighbor| bgp_neighbor(&mut out, neighbor));
    }
    for (vni, content) in config.vnis() {
        write_vni(&mut out, *vni, content);
    }
    out
}

/// One line. Writing to a string can't fail.
fn line(out: &mut String, key: &str, value: impl Display) {
    let _ = writeln!(out, "{key} = {value}");
}

fn quoted(text: impl Display) -> String {
    toml::Value::from(text.to_string()).to_string()
}

fn array<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

/// The word that a reader takes for `value`.
fn word<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> String {
    quoted(
        words
            .iter()
            .find(|(_, meaning)| *meaning == value)
            .map_or("", |(word, _)| word),
    )
}

fn tristate(value: Tristate) -> &'static str {
    match value {
        Tristate::Auto => "\"auto\"",
        Tristate::On => "true",
        Tristate::Off => "false",
    }
}

fn vtep(out: &mut String, vtep: &Vtep) {
    let tunnel = &vtep.tunnel;
    out.push_str("[vtep]\n");
    line(out, "address", array(vtep.addresses.iter().map(quoted)));
    line(out, "underlay", array(vtep.underlay.iter().map(quoted)));
    line(out, "udp-port", vtep.udp_port);
    if let Some(cores) = &vtep.cores {
        line(out, "cores", array(cores));
    }
    line(out, "ttl", tunnel.ttl);
    line(out, "df", tunnel.df);
    match tunnel.dscp {
        Dscp::Inherit => line(out, "dscp", quoted("inherit")),
        Dscp::Fixed(dscp) => line(out, "dscp", dscp),
    }
    line(out, "strict-reserved", tunnel.strict_reserved);
    line(out, "udp6-zero-checksum-rx", tunnel.udp6_zero_checksum_rx);
    line(out, "udp6-zero-checksum-tx", tunnel.udp6_zero_checksum_tx);
    out.push_str("\n[vtep.afxdp]\n");
    line(out, "mode", word(XDP_MODE, vtep.afxdp.mode));
    line(out, "frames", vtep.afxdp.frames);
    line(out, "frame-size", vtep.afxdp.frame_size);
    line(out, "huge-pages", tristate(vtep.afxdp.huge_pages));
    line(out, "busy-poll", tristate(vtep.afxdp.busy_poll));
}

fn control(out: &mut String, control: &Control) {
    out.push_str("\n[control]\n");
    line(out, "socket", quoted(control.socket.display()));
    if let Some(group) = &control.group {
        line(out, "group", quoted(group));
    }
    if let Some(metrics) = control.metrics {
        line(out, "metrics", quoted(metrics));
    }
}

fn bgp(out: &mut String, settings: &BgpSettings) {
    out.push_str("\n[bgp]\n");
    line(out, "asn", settings.asn);
    line(out, "router-id", quoted(settings.router_id));
    line(out, "hold-time", settings.hold_time);
    let (duplicates, default) = (settings.duplicates, Duplicates::default());
    if duplicates != default {
        line(out, "duplicate-moves", duplicates.moves);
        line(out, "duplicate-window", duplicates.window.as_secs());
        let freeze = duplicates.freeze.map(|time| time.as_secs().to_string());
        line(
            out,
            "duplicate-freeze",
            freeze.unwrap_or_else(|| quoted("permanent")),
        );
    }
}

fn bgp_neighbor(out: &mut String, neighbor: &BgpNeighbor) {
    let default = BgpNeighbor::new(neighbor.address, neighbor.remote_asn);
    out.push_str("[[bgp.neighbor]]\n");
    line(out, "address", quoted(neighbor.address));
    line(out, "remote-asn", neighbor.remote_asn);
    let mut given =
        |key, value: Option<String>| value.into_iter().for_each(|value| line(out, key, value));
    let differs = |differs: bool, value: String| differs.then_some(value);
    given("local-address", neighbor.local_address.map(quoted));
    given(
        "port",
        differs(neighbor.port != default.port, neighbor.port.to_string()),
    );
    given("passive", differs(neighbor.passive, true.to_string()));
    given(
        "password-file",
        neighbor
            .password
            .as_ref()
            .map(Password::file)
            .map(|file| quoted(file.display())),
    );
    given(
        "ttl-security",
        neighbor.ttl_security.map(|hops| hops.to_string()),
    );
    given(
        "max-prefixes",
        neighbor.max_prefixes.map(|max| match max.retry {
            None => max.limit.to_string(),
            Some(retry) => format!("{{ limit = {}, retry = {} }}", max.limit, retry.as_secs()),
        }),
    );
    let retry = neighbor.connect_retry;
    given(
        "connect-retry",
        differs(retry != default.connect_retry, retry.as_secs().to_string()),
    );
    given(
        "extended-messages",
        differs(!neighbor.extended_messages, false.to_string()),
    );
    let restart = match neighbor.restart {
        None => false.to_string(),
        Some(restart) => {
            let (time, stale) = (restart.time, restart.stale_limit.as_secs());
            format!("{{ restart-time = {time}, stale-time = {stale} }}")
        }
    };
    given(
        "graceful-restart",
        differs(neighbor.restart != default.restart, restart),
    );
    given("description", neighbor.description.as_ref().map(quoted));
}

/// What differs from the defaults.
fn vni_settings(out: &mut String, settings: &VniSettings) {
    let default = VniSettings::default();
    if settings.inner_vlan != default.inner_vlan {
        line(out, "inner-vlan", word(INNER_VLAN, settings.inner_vlan));
    }
    if settings.suppress != default.suppress {
        line(out, "suppress", settings.suppress);
    }
    if let Some(limit) = settings.max_macs {
        line(out, "max-macs", limit);
    }
    if settings.miss_events != default.miss_events {
        line(out, "miss-events", settings.miss_events);
    }
    let evpn = &settings.evpn;
    if let Some(rd) = evpn.rd {
        line(out, "rd", quoted(rd));
    }
    for (key, targets) in [("import-rt", &evpn.import), ("export-rt", &evpn.export)] {
        if *targets != default.evpn.import {
            line(out, key, array(target_texts(targets).map(quoted)));
        }
    }
    if evpn.tag != default.evpn.tag {
        line(out, "ethernet-tag", word(ETHERNET_TAG, evpn.tag));
    }
}

fn write_vni(out: &mut String, vni: Vni, content: &VniConfig) {
    out.push_str("\n[[vni]]\n");
    line(out, "id", vni);
    if !content.flood().is_empty() {
        line(out, "flood", array(content.flood().iter().map(quoted)));
    }
    if let Some(group) = content.group() {
        line(out, "flood", quoted(group));
    }
    vni_settings(out, content.settings());
    for port in content.ports().values() {
        write_port(out, port);
    }
    // An entry with a lifetime belongs to the program that added it.
    for (mac, entry) in content
        .fdb()
        .iter()
        .filter(|(_, entry)| entry.lifetime.is_none())
    {
        out.push_str("[[vni.fdb]]\n");
        line(out, "mac", quoted(mac));
        line(out, "vtep", quoted(entry.vtep));
    }
    for (ip, entry) in content
        .neighbors()
        .iter()
        .filter(|(_, entry)| entry.lifetime.is_none())
    {
        out.push_str("[[vni.neighbor]]\n");
        line(out, "ip", quoted(ip));
        line(out, "mac", quoted(entry.mac));
    }
}

fn write_port(out: &mut String, port: &Port) {
    out.push_str("[[vni.port]]\n");
    line(out, "interface", quoted(&port.key.interface));
    if let Some(vlan) = port.key.vlan {
        line(out, "vlan", vlan);
    }
    if !port.macs.is_empty() {
        line(out, "macs", array(port.macs.iter().map(quoted)));
    }
    if port.lock {
        line(out, "lock", true);
    }
    if port.sticky {
        line(out, "sticky", true);
    }
    if let Some(learn) = port.learn {
        line(out, "learn-limit", learn.limit);
        if learn.age != Learn::DEFAULT_AGE {
            line(out, "learn-age", learn.age.as_secs());
        }
    }
    if !port.ips.is_empty() {
        line(out, "ips", array(port.ips.iter().map(quoted)));
    }
    if let Some(storm) = port.storm {
        line(
            out,
            "storm",
            format_args!("{{ rate = {}, burst = {} }}", storm.rate, storm.burst),
        );
    }
    if port.checksum != ChecksumMode::Auto {
        line(out, "checksum", word(CHECKSUM, port.checksum));
    }
}
