//! Checks the outer headers of a packet from the underlay, and finds the inner frame in it (RFC 7348 section 4.1).
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

/// A VXLAN packet for us. Whether its sender is a VTEP of that VNI is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VxlanPacket {
    /// Outer source address.
    pub(super) source: IpAddr,
    /// It came to a multicast group, and not to us alone.
    pub(super) to_group: bool,
    /// Outer DSCP and ECN.
    pub(super) tos: u8,
    /// VXLAN Network Identifier.
    pub(super) vni: u32,
    /// The inner frame in the packet.
    pub(super) inner: Range<usize>,
}

/// The outer IP header, checked.
struct Outer<'a> {
    source: IpAddr,
    to_group: bool,
    tos: u8,
    /// Source and destination, for the pseudo-header.
    addresses: &'a [u8],
    /// Where UDP header and payload are in the packet.
    datagram: Range<usize>,
    /// A datagram without a checksum is right.
    zero_checksum: bool,
}

/// Reads and checks all outer headers of a packet of `len` bytes whose first ones are `packet`, over IPv4 and without a
/// tag; `None` for any other. `sum` adds up a range of it.
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

/// [`parse_plain_v4`] for all packets.
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

/// The group that a packet came to, if it came to one.
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
    // Bytes behind the UDP length are covered by no checksum, and no VTEP sends any.
    if header.len() != outer.datagram.len() {
        return Err(DropReason::OuterUdp);
    }
    let right = if header.has_no_checksum() {
        outer.zero_checksum
    } else {
        let sum = sum(outer.datagram.clone());
        sum.pseudo_header(outer.addresses, udp::PROTOCOL, outer.datagram.len())
            .is_valid()
    };
    if !right {
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
    let sound = header.version() == 4
        && header.header_len() == ipv4::LEN
        && (ipv4::LEN..=len - at).contains(&total)
        && header.checksum_is_valid();
    if !sound {
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

/// Whether a packet is for us: to our address, or (true) to a group, which may be that of its VNI. What we have sent to a
/// group ourselves is not.
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
