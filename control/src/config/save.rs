//! Writes a configuration as TOML. Equal configurations give equal texts, and the text reads back as it was.

use super::entry::{CHECKSUM, INNER_VLAN};
use super::model::{Config, Control, Dscp, Port, Switch, VniConfig, VniSettings, Vtep};
use super::section::XDP_MODE;
use std::fmt::{Display, Write};
use vtep_dataplane::addr::Vni;
use vtep_dataplane::table::port::ChecksumMode;

/// The configuration as a file that [`load`](super::load) reads.
#[must_use]
pub fn save(config: &Config) -> String {
    let mut out = String::new();
    vtep(&mut out, config.vtep());
    control(&mut out, config.control());
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
    quoted(words.iter().find(|(_, meaning)| *meaning == value).map_or("", |(word, _)| word))
}

fn switch(value: Switch) -> &'static str {
    match value {
        Switch::Auto => "\"auto\"",
        Switch::On => "true",
        Switch::Off => "false",
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
    line(out, "huge-pages", switch(vtep.afxdp.huge_pages));
    line(out, "busy-poll", switch(vtep.afxdp.busy_poll));
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

fn write_vni(out: &mut String, vni: Vni, content: &VniConfig) {
    let (settings, default) = (content.settings(), VniSettings::default());
    out.push_str("\n[[vni]]\n");
    line(out, "id", vni);
    if !content.flood().is_empty() {
        line(out, "flood", array(content.flood().iter().map(quoted)));
    }
    if settings.inner_vlan != default.inner_vlan {
        line(out, "inner-vlan", word(INNER_VLAN, settings.inner_vlan));
    }
    if settings.suppress != default.suppress {
        line(out, "suppress", settings.suppress);
    }
    for port in content.ports().values() {
        write_port(out, port);
    }
    for (mac, vtep) in content.fdb() {
        out.push_str("[[vni.fdb]]\n");
        line(out, "mac", quoted(mac));
        line(out, "vtep", quoted(vtep));
    }
    for (ip, mac) in content.neighbors() {
        out.push_str("[[vni.neighbor]]\n");
        line(out, "ip", quoted(ip));
        line(out, "mac", quoted(mac));
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
    if !port.ips.is_empty() {
        line(out, "ips", array(port.ips.iter().map(quoted)));
    }
    if let Some(storm) = port.storm {
        line(out, "storm", format_args!("{{ rate = {}, burst = {} }}", storm.rate, storm.burst));
    }
    if port.checksum != ChecksumMode::Auto {
        line(out, "checksum", word(CHECKSUM, port.checksum));
    }
}
