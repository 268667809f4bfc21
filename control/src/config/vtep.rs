//! `[vtep]` and `[vtep.afxdp]`: types and keys.

use std::fmt::Display;

use vtep_dataplane::addr::VtepAddr;

use super::diagnostic::Diagnostics;
use super::interface::InterfaceName;
use super::key::{Codec, custom, one_of, optional, plain, read_keys, single, write_keys};
use super::node::{Located, Node};
use super::port::{IO, Io};
use super::references::HostReferences;
use super::table::TableReader;
use super::value::{Read, boolean, integer, invalid, text};
use super::write::{array, quoted};

/// The VXLAN port that IANA assigned (RFC 7348 section 5).
pub const VXLAN_PORT: u16 = 4789;

/// The DSCP of outer headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dscp {
    /// That of the inner packet (RFC 2983, uniform model).
    #[default]
    Inherit,
    /// The same for all packets, 0..=63 (pipe model).
    Fixed(u8),
}

/// Local VTEP addresses: at most one of each family, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// IPv4.
    pub v4: Option<VtepAddr>,
    /// IPv6.
    pub v6: Option<VtepAddr>,
}

impl Addresses {
    /// Each address, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = VtepAddr> {
        self.v4.into_iter().chain(self.v6)
    }

    /// The local address of the same family as `remote`.
    #[must_use]
    pub fn for_remote(&self, remote: VtepAddr) -> Option<VtepAddr> {
        if remote.is_v6() { self.v6 } else { self.v4 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

/// The keys of `[vtep]` that can change while frames flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// TTL or hop limit of outer headers, 1..=255.
    pub ttl: u8,
    /// Don't Fragment in outer IPv4 headers.
    pub df: bool,
    /// DSCP of outer headers.
    pub dscp: Dscp,
    /// Drop VXLAN headers with reserved bits set, as Linux does (RFC 7348 says ignore).
    pub strict_reserved: bool,
    /// Accept UDP checksum 0 over IPv6 (RFC 6935).
    pub udp6_zero_checksum_rx: bool,
    /// Send UDP checksum 0 over IPv6 (RFC 6935).
    pub udp6_zero_checksum_tx: bool,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            ttl: 64,
            df: true,
            dscp: Dscp::Fixed(0),
            strict_reserved: false,
            udp6_zero_checksum_rx: false,
            udp6_zero_checksum_tx: false,
        }
    }
}

/// How AF_XDP sockets are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpMode {
    /// The best mode that binds.
    #[default]
    Auto,
    /// Native program and zero-copy, or fail.
    ZeroCopy,
    /// Native program and copies, or fail.
    Copy,
    /// The generic (skb) program and copies.
    Generic,
}

/// The words of `mode`.
const XDP_MODE: &[(&str, XdpMode)] = &[
    ("auto", XdpMode::Auto),
    ("zero-copy", XdpMode::ZeroCopy),
    ("copy", XdpMode::Copy),
    ("generic", XdpMode::Generic),
];

/// A feature that is on, off, or on where it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tristate {
    /// On where it works.
    #[default]
    Auto,
    /// On, or fail.
    On,
    /// Off.
    Off,
}

/// `[vtep.afxdp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfXdp {
    /// How sockets are bound.
    pub mode: XdpMode,
    /// UMEM frames: a power of two, [`AfXdp::MIN_FRAMES`] to [`AfXdp::MAX_FRAMES`].
    pub frames: u32,
    /// Bytes of a UMEM frame: 2048 or 4096.
    pub frame_size: u32,
    /// Back the UMEM with huge pages.
    pub huge_pages: Tristate,
    /// Busy polling of sockets; [`Tristate::Auto`] is off.
    pub busy_poll: Tristate,
}

impl AfXdp {
    /// Fewer frames can't fill the rings of one underlay and one tenant queue.
    pub const MIN_FRAMES: u32 = 2048;
    /// The most that a frame's token can name: 2 GiB of 2048-byte frames.
    pub const MAX_FRAMES: u32 = 1 << 20;
}

impl Default for AfXdp {
    fn default() -> Self {
        Self {
            mode: XdpMode::Auto,
            frames: 32768,
            frame_size: 2048,
            huge_pages: Tristate::Auto,
            busy_poll: Tristate::Auto,
        }
    }
}

/// `[vtep]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vtep {
    /// Local VTEP addresses.
    pub addresses: Addresses,
    /// Interfaces that carry VXLAN, in the order of the file; none twice.
    pub underlay: Vec<InterfaceName>,
    /// How frames enter and leave the underlay interfaces.
    pub underlay_io: Io,
    /// UDP destination port, 1..=65535.
    pub udp_port: u16,
    /// CPU numbers, one worker each, none twice; `None` = as many as the underlay has queues.
    pub cores: Option<Vec<usize>>,
    /// Settings that can change at run time.
    pub tunnel: Tunnel,
    /// Settings of the AF_XDP sockets.
    pub afxdp: AfXdp,
}

keys! {
    /// The keys of `[vtep]`.
    pub(super) const VTEP: Vtep {
        "address" => addresses: custom(read_addresses, |all: &Addresses| strings(all.iter()));
        "underlay" => underlay: custom(read_underlay, |all: &Vec<_>| strings(all));
        "underlay-io" => underlay_io: one_of(IO);
        "udp-port" => udp_port: plain(integer(1..=u16::MAX));
        "cores" => cores: optional(custom(read_cores, |all| Some(array(all))));
        @live "ttl" => tunnel.ttl: plain(integer(1..=u8::MAX));
        @live "df" => tunnel.df: plain(boolean);
        @live "dscp" => tunnel.dscp: single(dscp, write_dscp);
        @live "strict-reserved" => tunnel.strict_reserved: plain(boolean);
        @live "udp6-zero-checksum-rx" => tunnel.udp6_zero_checksum_rx: plain(boolean);
        @live "udp6-zero-checksum-tx" => tunnel.udp6_zero_checksum_tx: plain(boolean);
    }
}

keys! {
    /// The keys of `[vtep.afxdp]`.
    pub(super) const AFXDP: AfXdp {
        "mode" => mode: one_of(XDP_MODE);
        "frames" => frames: plain(frames);
        "frame-size" => frame_size: plain(frame_size);
        "huge-pages" => huge_pages: tristate();
        "busy-poll" => busy_poll: tristate();
    }
}

/// Reads `[vtep]`, and notes where the file names addresses, interfaces and cores of the host.
pub(super) fn read(
    table: &mut TableReader<'_>,
    references: &mut HostReferences,
    diagnostics: &mut Diagnostics,
) -> Vtep {
    let mut vtep = Vtep {
        udp_port: VXLAN_PORT,
        ..Vtep::default()
    };
    read_keys(VTEP, &mut vtep, table, diagnostics);
    if let Some(mut inner) = table.table("afxdp", diagnostics) {
        read_keys(AFXDP, &mut vtep.afxdp, &mut inner, diagnostics);
        inner.finish(diagnostics);
        inner.note_lines(&mut references.places.keys);
    }
    if vtep.underlay_io == Io::Packet && vtep.afxdp.mode == XdpMode::ZeroCopy {
        let message = "invalid value \"packet\": [vtep.afxdp] mode = \"zero-copy\" requires AF_XDP of the underlay; \
            write underlay-io = \"xdp\", or another mode";
        table.reject("underlay-io", message, diagnostics);
    }
    table.finish(diagnostics);
    table.note_lines(&mut references.places.keys);
    let line = table.line_of("address");
    let addresses = vtep.addresses.iter().map(|address| (line, address));
    references.addresses.extend(addresses);
    let line = table.line_of("underlay");
    let underlay = vtep.underlay.iter().map(|name| (line, name.clone()));
    references.underlay.extend(underlay);
    let line = table.line_of("cores");
    let cores = vtep.cores.iter().flatten().map(|core| (line, *core));
    references.cores.extend(cores);
    vtep
}

/// Writes `[vtep]`.
pub(super) fn write(vtep: &Vtep, out: &mut String) {
    out.push_str("[vtep]\n");
    write_keys(VTEP, vtep, None, out);
    out.push_str("\n[vtep.afxdp]\n");
    write_keys(AFXDP, &vtep.afxdp, None, out);
}

/// One address, or one of each family.
fn read_addresses(
    table: &mut TableReader<'_>,
    key: &'static str,
    diagnostics: &mut Diagnostics,
) -> Option<Addresses> {
    table.required(key, "\"203.0.113.2\"", diagnostics, addresses)
}

fn addresses(value: &Located) -> Read<Addresses> {
    let mut all = Addresses::default();
    for item in value.one_or_list() {
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

fn strings<T: Display>(items: impl IntoIterator<Item = T>) -> Option<String> {
    Some(array(items.into_iter().map(quoted)))
}

fn read_underlay(
    table: &mut TableReader<'_>,
    key: &'static str,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<InterfaceName>> {
    let before = diagnostics.errors();
    let names = table.set(key, diagnostics, text::<InterfaceName>);
    if names.is_empty() && diagnostics.errors() == before {
        let message = "missing or empty; write the interfaces that carry VXLAN, such as underlay \
            = [\"eth0\"]";
        table.reject(key, message, diagnostics);
    }
    Some(names)
}

fn read_cores(
    table: &mut TableReader<'_>,
    key: &'static str,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<usize>> {
    let before = diagnostics.errors();
    let cores = table.set(key, diagnostics, integer(0..=u16::MAX));
    if !table.has(key) {
        return None;
    }
    if cores.is_empty() && diagnostics.errors() == before {
        let message = "empty; list CPU numbers, or remove the key to let the daemon choose";
        table.reject(key, message, diagnostics);
    }
    // Checks that follow in the same round need at least one.
    (!cores.is_empty()).then(|| cores.into_iter().map(usize::from).collect())
}

fn dscp(value: &Located) -> Read<Dscp> {
    match &value.node {
        Node::Text(text) if text == "inherit" => Ok(Dscp::Inherit),
        Node::Integer(number @ 0..=63) => Ok(Dscp::Fixed(*number as u8)),
        _ => Err(invalid(value, "\"inherit\" or an integer from 0 to 63")),
    }
}

fn write_dscp(dscp: &Dscp) -> String {
    match dscp {
        Dscp::Inherit => quoted("inherit"),
        Dscp::Fixed(dscp) => dscp.to_string(),
    }
}

fn frames(value: &Located) -> Read<u32> {
    let (low, high) = (AfXdp::MIN_FRAMES, AfXdp::MAX_FRAMES);
    let number = integer(low..=high)(value).map_err(|wrong| format!("{wrong}, a power of two"))?;
    if number.is_power_of_two() {
        return Ok(number);
    }
    let above = number.next_power_of_two();
    let near = format_args!("a power of two, such as {} or {above}", above / 2);
    Err(invalid(value, near))
}

fn frame_size(value: &Located) -> Read<u32> {
    match value.node {
        Node::Integer(2048) => Ok(2048),
        Node::Integer(4096) => Ok(4096),
        _ => Err(invalid(value, "2048 or 4096")),
    }
}

fn tristate() -> impl Codec<Value = Tristate> {
    let write = |value: &Tristate| match value {
        Tristate::Auto => "\"auto\"".to_owned(),
        Tristate::On => "true".to_owned(),
        Tristate::Off => "false".to_owned(),
    };
    single(read_tristate, write)
}

fn read_tristate(value: &Located) -> Read<Tristate> {
    match &value.node {
        Node::Boolean(true) => Ok(Tristate::On),
        Node::Boolean(false) => Ok(Tristate::Off),
        Node::Text(text) if text == "auto" => Ok(Tristate::Auto),
        _ => Err(invalid(value, "\"auto\", true or false")),
    }
}
