//! Reads `[vtep]` and `[control]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use vtep_dataplane::addr::VtepAddr;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::host::HostReferences;
use super::model::{
    Addresses, AfXdp, Control, Dscp, InterfaceName, Tristate, Tunnel, VXLAN_PORT, Vtep, XdpMode,
};
use super::node::{Located, Node};
use super::table::{Read, TableReader, boolean, integer, text, word};

/// The words of `mode`.
pub(super) const XDP_MODE: &[(&str, XdpMode)] = &[
    ("auto", XdpMode::Auto),
    ("zero-copy", XdpMode::ZeroCopy),
    ("copy", XdpMode::Copy),
    ("generic", XdpMode::Generic),
];

/// `[vtep]`. Notes where addresses, interfaces and cores stand, for checks against the host.
pub(super) fn vtep(
    table: &mut TableReader<'_>,
    references: &mut HostReferences,
    diagnostics: &mut Diagnostics,
) -> Vtep {
    let found = table.required("address", "\"203.0.113.2\"", diagnostics, addresses);
    let found = found.unwrap_or_default();
    let address_line = table.line_of("address");
    references
        .addresses
        .extend(found.iter().map(|address| (address_line, address)));
    let underlay = underlay(table, references, diagnostics);
    let udp_port = table
        .optional("udp-port", diagnostics, integer(1..=u16::MAX))
        .unwrap_or(VXLAN_PORT);
    let cores = cores(table, references, diagnostics);
    let tunnel = tunnel(table, diagnostics);
    let afxdp = table
        .table("afxdp", diagnostics)
        .map(|mut table| afxdp(&mut table, diagnostics));
    table.finish(diagnostics);
    Vtep {
        addresses: found,
        underlay,
        udp_port,
        cores,
        tunnel,
        afxdp: afxdp.unwrap_or_default(),
    }
}

/// One address, or one of each family.
fn addresses(value: &Located) -> Read<Addresses> {
    let single = std::slice::from_ref(value);
    let items = if let Node::Array(items) = &value.node {
        items.as_slice()
    } else {
        single
    };
    let mut all = Addresses::default();
    for item in items {
        let address: VtepAddr = text(item)?;
        let (place, family) = if address.is_v6() {
            (&mut all.v6, "IPv6")
        } else {
            (&mut all.v4, "IPv4")
        };
        if let Some(first) = place.replace(address) {
            return Err(format!(
                "{first} and {address} are both {family}; write at most one of each family"
            ));
        }
    }
    if all.is_empty() {
        Err("empty; write at least one address of this host".to_owned())
    } else {
        Ok(all)
    }
}

fn underlay(
    table: &mut TableReader<'_>,
    references: &mut HostReferences,
    diagnostics: &mut Diagnostics,
) -> Vec<InterfaceName> {
    let before = diagnostics.errors();
    let names = table.set("underlay", diagnostics, text::<InterfaceName>);
    if names.is_empty() && diagnostics.errors() == before {
        let message = "missing or empty; write the interfaces that carry VXLAN, such as underlay = [\"eth0\"]";
        table.reject("underlay", message, diagnostics);
    }
    let line = table.line_of("underlay");
    references
        .underlay
        .extend(names.iter().map(|name| (line, name.clone())));
    names
}

fn cores(
    table: &mut TableReader<'_>,
    references: &mut HostReferences,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<usize>> {
    let before = diagnostics.errors();
    let cores = table.set("cores", diagnostics, integer(0..=u16::MAX));
    if !table.has("cores") {
        return None;
    }
    if cores.is_empty() && diagnostics.errors() == before {
        let message = "empty; list CPU numbers, or remove the key to let the daemon choose";
        table.reject("cores", message, diagnostics);
    }
    let cores: Vec<_> = cores.into_iter().map(usize::from).collect();
    let line = table.line_of("cores");
    references
        .cores
        .extend(cores.iter().map(|core| (line, *core)));
    Some(cores)
}

fn tunnel(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> Tunnel {
    let default = Tunnel::default();
    let mut switch = |key, default| table.optional(key, diagnostics, boolean).unwrap_or(default);
    let df = switch("df", default.df);
    let strict_reserved = switch("strict-reserved", default.strict_reserved);
    let udp6_zero_checksum_rx = switch("udp6-zero-checksum-rx", default.udp6_zero_checksum_rx);
    let udp6_zero_checksum_tx = switch("udp6-zero-checksum-tx", default.udp6_zero_checksum_tx);
    Tunnel {
        ttl: table
            .optional("ttl", diagnostics, integer(1..=u8::MAX))
            .unwrap_or(default.ttl),
        df,
        dscp: table
            .optional("dscp", diagnostics, dscp)
            .unwrap_or(default.dscp),
        strict_reserved,
        udp6_zero_checksum_rx,
        udp6_zero_checksum_tx,
    }
}

fn dscp(value: &Located) -> Read<Dscp> {
    match &value.node {
        Node::Text(text) if text == "inherit" => Ok(Dscp::Inherit),
        Node::Integer(number @ 0..=63) => Ok(Dscp::Fixed(*number as u8)),
        _ => Err(format!(
            "{} is wrong; write \"inherit\" or an integer from 0 to 63",
            value.describe()
        )),
    }
}

fn afxdp(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> AfXdp {
    let default = AfXdp::default();
    let mode = table.optional("mode", diagnostics, word(XDP_MODE));
    let frames = table.optional("frames", diagnostics, frames);
    let frame_size = table.optional("frame-size", diagnostics, frame_size);
    let huge_pages = table.optional("huge-pages", diagnostics, tristate);
    let busy_poll = table.optional("busy-poll", diagnostics, tristate);
    table.finish(diagnostics);
    AfXdp {
        mode: mode.unwrap_or_default(),
        frames: frames.unwrap_or(default.frames),
        frame_size: frame_size.unwrap_or(default.frame_size),
        huge_pages: huge_pages.unwrap_or_default(),
        busy_poll: busy_poll.unwrap_or_default(),
    }
}

fn frames(value: &Located) -> Read<u32> {
    let (low, high) = (AfXdp::MIN_FRAMES, AfXdp::MAX_FRAMES);
    let number = integer(low..=high)(value).map_err(|wrong| format!("{wrong}, a power of two"))?;
    if number.is_power_of_two() {
        return Ok(number);
    }
    let above = number.next_power_of_two();
    Err(format!(
        "{number} is no power of two; write {} or {above}",
        above / 2
    ))
}

fn frame_size(value: &Located) -> Read<u32> {
    match value.node {
        Node::Integer(2048) => Ok(2048),
        Node::Integer(4096) => Ok(4096),
        _ => Err(format!("{} is wrong; write 2048 or 4096", value.describe())),
    }
}

fn tristate(value: &Located) -> Read<Tristate> {
    match &value.node {
        Node::Boolean(true) => Ok(Tristate::On),
        Node::Boolean(false) => Ok(Tristate::Off),
        Node::Text(text) if text == "auto" => Ok(Tristate::Auto),
        _ => Err(format!(
            "{} is wrong; write \"auto\", true or false",
            value.describe()
        )),
    }
}

/// `[control]`.
pub(super) fn control(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> Control {
    let default = Control::default();
    let socket = table.optional("socket", diagnostics, socket_path);
    let group = table.optional("group", diagnostics, text::<String>);
    let metrics = table.optional("metrics", diagnostics, socket_address);
    if group.as_deref() == Some("") {
        let message = "empty; name a group, or remove the key so that only root may connect";
        diagnostics.push(Diagnostic::error(
            table.line_of("group"),
            table.name("group"),
            message.to_owned(),
        ));
    }
    table.finish(diagnostics);
    Control {
        socket: socket.unwrap_or(default.socket),
        group,
        metrics,
    }
}

fn socket_path(value: &Located) -> Read<PathBuf> {
    /// `sun_path` without its final zero (unix(7)).
    const LONGEST: usize = 107;
    let path: String = text(value)?;
    if !path.starts_with('/') || path.ends_with('/') || path.len() > LONGEST || path.contains('\0')
    {
        return Err(format!(
            "{path:?} is no path for a socket; write an absolute one of at most {LONGEST} bytes"
        ));
    }
    Ok(path.into())
}

fn socket_address(value: &Located) -> Read<SocketAddr> {
    let address: String = text(value)?;
    address
        .parse()
        .map_err(|_| format!("{address:?} is no address and port; write \"127.0.0.1:9464\""))
}
