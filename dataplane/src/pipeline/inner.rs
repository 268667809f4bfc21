//! Finds the packet inside a tunnel packet of a tenant: guests may have tunnels of their own
//! (container networks, for example), whose inner packets leave their checksums to hardware too.
//!
//! ```text
//! | Ethernet | IP | UDP | VXLAN, VXLAN-GPE or Geneve | Ethernet | IP | TCP or UDP
//! | Ethernet | IP | GRE | [Ethernet] | IP | ...
//! | Ethernet | IP | IP | ...
//! ```

use super::parse::{L3Info, Part};
use crate::wire::{be16, ethernet, udp, vxlan};

/// IPv4 in IP (RFC 2003).
const IPV4_IN_IP: u8 = 4;
/// IPv6 in IP (RFC 4213, RFC 2473).
const IPV6_IN_IP: u8 = 41;
/// GRE (RFC 2784, RFC 2890).
const GRE: u8 = 47;

/// Protocol type of an Ethernet frame in GRE or Geneve.
const TRANSPARENT_ETHERNET: u16 = 0x6558;

/// VXLAN: the IANA's port, that of Linux before there was one (Flannel and Cilium use it), and
/// Weave's.
const VXLAN_PORTS: [u16; 3] = [4789, 8472, 6784];
/// VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe).
const VXLAN_GPE_PORT: u16 = 4790;
/// Geneve (RFC 8926).
const GENEVE_PORT: u16 = 6081;

/// The UDP ports of all tunnels.
const PORTS: [u16; 5] = [
    VXLAN_PORTS[0],
    VXLAN_PORTS[1],
    VXLAN_PORTS[2],
    VXLAN_GPE_PORT,
    GENEVE_PORT,
];

/// A bit for the last six bits of each of [`PORTS`], so that most packets are told from tunnels by
/// one test.
const LAST_BITS: u64 = {
    let (mut bits, mut at) = (0, 0);
    while at < PORTS.len() {
        bits |= 1 << (PORTS[at] % 64);
        at += 1;
    }
    bits
};

/// What a packet begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// An Ethernet header.
    Ethernet,
    /// An IPv4 or IPv6 header.
    Ip,
}

/// Where the inner packet is, in bytes from the start of the outer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InnerPacket {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) layer: Layer,
}

/// True for a packet that may have another one inside.
#[inline(always)]
pub(super) fn is_tunnel(l3: L3Info, packet: &[u8]) -> bool {
    if l3.protocol == udp::PROTOCOL {
        packet
            .get(usize::from(l3.transport)..)
            .and_then(udp::Udp::parse)
            .map(udp::Udp::destination_port)
            .is_some_and(|port| may_be_tunnel_port(port) && is_tunnel_port(port))
    } else {
        matches!(l3.protocol, IPV4_IN_IP | IPV6_IN_IP | GRE) && l3.transport != 0
    }
}

/// False for a UDP port that no tunnel has; true for those of tunnels, and for some others.
#[inline(always)]
pub(super) const fn may_be_tunnel_port(port: u16) -> bool {
    // The shift is modulo 64.
    LAST_BITS.wrapping_shr(port as u32) & 1 == 1
}

#[cold]
fn is_tunnel_port(port: u16) -> bool {
    PORTS.contains(&port)
}

/// The packet inside `packet`, which `l3` was parsed from; `None` when there is none, or its header
/// is not in this segment.
pub(super) fn find(l3: L3Info, packet: &[u8]) -> Option<InnerPacket> {
    if l3.part != Part::Whole {
        return None;
    }
    let range = l3.transport_range()?;
    let (at, end) = (range.start, range.end);
    let payload = packet.get(at..end.min(packet.len()))?;
    let (skipped, layer) = match l3.protocol {
        IPV4_IN_IP | IPV6_IN_IP => (0, Layer::Ip),
        GRE => gre(payload)?,
        udp::PROTOCOL => {
            let port = udp::Udp::parse(payload)?.destination_port();
            let (len, layer) = in_udp(port, payload.get(udp::LEN..)?)?;
            (udp::LEN + len, layer)
        }
        _ => return None,
    };
    (at + skipped < end).then_some(InnerPacket {
        start: at + skipped,
        end,
        layer,
    })
}

/// Length of the tunnel header in a UDP datagram to `port`, and what follows it.
fn in_udp(port: u16, header: &[u8]) -> Option<(usize, Layer)> {
    let [flags, _, _, next, ..] = *header else {
        return None;
    };
    match port {
        GENEVE_PORT => {
            let layer = layer_of(be16(header, 2))?;
            let options = usize::from(flags & 0x3f) * 4;
            (flags >> 6 == 0).then_some((8 + options, layer))
        }
        VXLAN_GPE_PORT => match next {
            1 | 2 => Some((vxlan::LEN, Layer::Ip)),
            3 => Some((vxlan::LEN, Layer::Ethernet)),
            _ => None,
        },
        _ if VXLAN_PORTS.contains(&port) && flags & 0x08 != 0 => {
            Some((vxlan::LEN, Layer::Ethernet))
        }
        _ => None,
    }
}

/// Length of a GRE header, and what follows it.
fn gre(header: &[u8]) -> Option<(usize, Layer)> {
    let flags = u16::from_be_bytes(*header.first_chunk()?);
    let kind = u16::from_be_bytes(*header.get(2..)?.first_chunk()?);
    // Version 0 without source routes.
    if flags & 0x4fff != 0 {
        return None;
    }
    let optional = [0x8000, 0x2000, 0x1000];
    let present = optional.iter().filter(|flag| flags & **flag != 0).count();
    Some((4 + 4 * present, layer_of(kind)?))
}

fn layer_of(kind: u16) -> Option<Layer> {
    match kind {
        TRANSPARENT_ETHERNET => Some(Layer::Ethernet),
        ethernet::IPV4 | ethernet::IPV6 => Some(Layer::Ip),
        _ => None,
    }
}
