//! Checks the outer headers of a packet from the underlay, and locates the inner frame (RFC 7348
//! section 4.1).
//!
//! ```text
//! | Ethernet [802.1Q [802.1Q]] | IPv4 or IPv6 | UDP | VXLAN | inner frame | [padding]
//! ```

use std::net::IpAddr;
use std::ops::Range;

use crate::drop::DropReason;
use crate::table::Settings;
use crate::table::encapsulation::INNER_OFFSET;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Ethernet;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::udp::Udp;
use crate::wire::vxlan::Vxlan;
use crate::wire::{ethernet, ipv4, ipv6, udp, vlan};

/// A VXLAN packet that is addressed to this VTEP. Its VNI and its sender are not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VxlanPacket {
    /// Outer source address.
    pub(super) source: IpAddr,
    /// It was sent to a multicast group, not to the local VTEP address.
    pub(super) to_group: bool,
    /// Outer DSCP and ECN.
    pub(super) tos: u8,
    /// VXLAN Network Identifier.
    pub(super) vni: u32,
    /// Where the inner frame is in the packet.
    pub(super) inner: Range<usize>,
}

/// The fields of a validated outer IP header.
struct Outer<'a> {
    source: IpAddr,
    to_group: bool,
    tos: u8,
    /// Source and destination, for the pseudo-header.
    addresses: &'a [u8],
    /// Where UDP header and payload are in the packet.
    datagram: Range<usize>,
    /// A datagram without a checksum is accepted.
    zero_checksum: bool,
}

/// Parses and checks all outer headers of an untagged IPv4 packet; `None` for any other. `packet`:
/// the first segment of a packet of `len` bytes. `sum`: the Internet checksum of a range of it.
#[inline(always)]
pub(super) fn parse_plain_v4(
    packet: &[u8],
    len: usize,
    settings: &Settings,
    sum: impl FnOnce(Range<usize>) -> Sum,
) -> Option<Result<VxlanPacket, DropReason>> {
    if Ethernet::parse(packet)?.ethertype() != ethernet::IPV4 {
        return None;
    }
    let outer = parse_v4(packet, ethernet::LEN, len, settings);
    Some(outer.and_then(|outer| parse_datagram(packet, outer, settings, sum)))
}

/// [`parse_plain_v4`] for packets of any kind.
#[inline(never)]
pub(super) fn parse(
    packet: &[u8],
    len: usize,
    settings: &Settings,
    sum: impl FnOnce(Range<usize>) -> Sum,
) -> Result<VxlanPacket, DropReason> {
    let (ethertype, at) = vlan::skip(packet).ok_or(DropReason::OuterTruncated)?;
    let outer = match ethertype {
        ethernet::IPV4 => parse_v4(packet, at, len, settings)?,
        ethernet::IPV6 => parse_v6(packet, at, len, settings)?,
        _ => return Err(DropReason::WrongDestination),
    };
    parse_datagram(packet, outer, settings, sum)
}

/// The multicast group that a packet was sent to; `None` for unicast.
pub(super) fn group(packet: &[u8]) -> Option<IpAddr> {
    let destination = match vlan::skip(packet)? {
        (ethernet::IPV4, at) => IpAddr::V4(Ipv4::parse(&packet[at..])?.destination()),
        (_, at) => IpAddr::V6(Ipv6::parse(&packet[at..])?.destination()),
    };
    destination.is_multicast().then_some(destination)
}

#[inline(always)]
fn parse_datagram(
    packet: &[u8],
    outer: Outer<'_>,
    settings: &Settings,
    sum: impl FnOnce(Range<usize>) -> Sum,
) -> Result<VxlanPacket, DropReason> {
    let datagram = packet
        .get(outer.datagram.start..)
        .ok_or(DropReason::OuterTruncated)?;
    let datagram = &datagram[..outer.datagram.len().min(datagram.len())];
    let header = Udp::parse(datagram).ok_or(DropReason::OuterTruncated)?;
    if header.destination_port() != settings.udp_port {
        return Err(DropReason::WrongDestination);
    }
    // Bytes after the UDP length are not covered by the checksum, and no VTEP sends any.
    if header.len() != outer.datagram.len() {
        return Err(DropReason::OuterUdp);
    }
    let checksum_ok = if header.has_no_checksum() {
        outer.zero_checksum
    } else {
        let sum = sum(outer.datagram.clone());
        sum.pseudo_header(outer.addresses, udp::PROTOCOL, outer.datagram.len())
            .is_valid()
    };
    if !checksum_ok {
        return Err(DropReason::OuterUdpChecksum);
    }
    let vxlan = Vxlan::parse(&datagram[udp::LEN..]).ok_or(DropReason::OuterTruncated)?;
    if !vxlan.has_vni() {
        return Err(DropReason::VxlanFlags);
    }
    if settings.strict_reserved && vxlan.has_reserved_bits() {
        return Err(DropReason::VxlanReserved);
    }
    let inner = outer.datagram.start + INNER_OFFSET..outer.datagram.end;
    Ok(VxlanPacket {
        source: outer.source,
        to_group: outer.to_group,
        tos: outer.tos,
        vni: vxlan.vni(),
        inner,
    })
}

#[inline(always)]
fn parse_v4<'a>(
    packet: &'a [u8],
    at: usize,
    len: usize,
    settings: &Settings,
) -> Result<Outer<'a>, DropReason> {
    let bytes = &packet[at..];
    let header = Ipv4::parse(bytes).ok_or(DropReason::OuterTruncated)?;
    let total = header.total_len();
    let valid = header.version() == 4
        && header.header_len() == ipv4::LEN
        && (ipv4::LEN..=len - at).contains(&total)
        && header.checksum_is_valid();
    if !valid {
        return Err(DropReason::OuterIp);
    }
    if header.is_fragment() {
        return Err(DropReason::OuterFragment);
    }
    let (source, destination) = (header.source(), header.destination());
    let to_group = check_destination(
        source,
        destination,
        settings.local_v4,
        destination.is_multicast(),
    )?;
    if header.protocol() != udp::PROTOCOL {
        return Err(DropReason::WrongDestination);
    }
    Ok(Outer {
        source: source.into(),
        to_group,
        tos: header.tos(),
        addresses: header.addresses(),
        datagram: at + ipv4::LEN..at + total,
        zero_checksum: true,
    })
}

#[inline]
fn parse_v6<'a>(
    packet: &'a [u8],
    at: usize,
    len: usize,
    settings: &Settings,
) -> Result<Outer<'a>, DropReason> {
    let bytes = &packet[at..];
    let header = Ipv6::parse(bytes).ok_or(DropReason::OuterTruncated)?;
    let total = ipv6::LEN + header.payload_len();
    if header.version() != 6 || total > len - at {
        return Err(DropReason::OuterIp);
    }
    match header.next_header() {
        udp::PROTOCOL => {}
        ipv6::FRAGMENT => return Err(DropReason::OuterFragment),
        next if ipv6::is_extension(next) => return Err(DropReason::OuterIp),
        _ => return Err(DropReason::WrongDestination),
    }
    let (source, destination) = (header.source(), header.destination());
    let to_group = check_destination(
        source,
        destination,
        settings.local_v6,
        destination.is_multicast(),
    )?;
    Ok(Outer {
        source: source.into(),
        to_group,
        tos: header.traffic_class(),
        addresses: header.addresses(),
        datagram: at + ipv6::LEN..at + total,
        zero_checksum: settings.udp6_zero_rx,
    })
}

/// Checks that a packet is addressed to this VTEP: true for a multicast group, which may be that of
/// its VNI, false for the local address. Packets that this VTEP has sent to a group itself are
/// rejected.
#[inline]
fn check_destination<A: PartialEq + Copy>(
    source: A,
    destination: A,
    local: Option<A>,
    multicast: bool,
) -> Result<bool, DropReason> {
    if local == Some(destination) {
        Ok(false)
    } else if multicast && local.is_some() && local != Some(source) {
        Ok(true)
    } else {
        Err(DropReason::WrongDestination)
    }
}
