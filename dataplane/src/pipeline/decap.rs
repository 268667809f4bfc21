//! Checks the outer headers of a packet from the underlay, and locates the inner frame (RFC 7348
//! section 4.1).
//!
//! ```text
//! | Ethernet [802.1Q [802.1Q]] | IPv4 or IPv6 | UDP | VXLAN | inner frame | [padding]
//! ```

use std::net::IpAddr;
use std::ops::Range;

use super::{ecn, validate};
use crate::addr::MacAddr;
use crate::drop::DropReason;
use crate::table::Settings;
use crate::table::encapsulation::{
    INNER_OFFSET, IP_OFFSET, OVERHEAD_V4, PLAIN_V4, PLAIN_V6, TUNNEL_LEN, tunnel_header,
};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Ethernet;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::udp::Udp;
use crate::wire::vxlan::Vxlan;
use crate::wire::{ethernet, ipv4, ipv6, put16, udp, vlan, vxlan};

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

/// The outer headers that all packets of one tunnel have in common: untagged, to the local address,
/// without IPv4 options, IPv6 extension headers, fragments, and ECN marks that change the inner
/// header, with no UDP checksum over IPv4, and with no other bit set in the VXLAN header than RFC
/// 7348 tells to set. A packet with anything else is left to the general functions.
#[derive(Debug, Clone, Copy)]
pub(super) enum TunnelHeaders {
    V4(CommonV4),
    /// With the sum of what the UDP checksum covers and is equal in all packets.
    V6(CommonV6, Sum),
}

/// The headers over IPv4, and as much of the inner frame as fills the last word: zero but for what
/// packets have in common.
pub(super) type CommonV4 = [u64; 8];
/// The same over IPv6.
pub(super) type CommonV6 = [u64; 9];

impl TunnelHeaders {
    /// The headers of packets from `source` to the MAC address `to`, which is one of the device's.
    /// `None` without a local address.
    pub(super) fn new(to: MacAddr, source: IpAddr, vni: u32, settings: &Settings) -> Option<Self> {
        let mut headers = [0; size_of::<CommonV6>()];
        headers[..6].copy_from_slice(&to.0);
        let (ethernet, packet) = headers.split_at_mut(IP_OFFSET);
        let datagram = match source {
            IpAddr::V4(source) => {
                put16(ethernet, ethernet::ETHERTYPE, ethernet::IPV4);
                (packet[0], packet[9]) = (0x45, udp::PROTOCOL);
                packet[12..16].copy_from_slice(&source.octets());
                packet[16..20].copy_from_slice(&settings.local_v4?.octets());
                &mut packet[ipv4::LEN..]
            }
            IpAddr::V6(source) => {
                put16(ethernet, ethernet::ETHERTYPE, ethernet::IPV6);
                (packet[0], packet[6]) = (0x60, udp::PROTOCOL);
                packet[8..24].copy_from_slice(&source.octets());
                packet[24..40].copy_from_slice(&settings.local_v6?.octets());
                &mut packet[ipv6::LEN..]
            }
        };
        put16(datagram, 2, settings.udp_port);
        datagram[udp::LEN..INNER_OFFSET].copy_from_slice(&tunnel_header(vni));
        Some(match source {
            IpAddr::V4(_) => Self::V4(words(&headers)),
            // Only what is equal is set, from the addresses on.
            IpAddr::V6(_) => Self::V6(
                words(&headers),
                Sum::new().bytes(&headers[IP_OFFSET + 8..PLAIN_V6]),
            ),
        })
    }
}

/// The inner frame of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct InnerFrame {
    /// Where it begins, bytes.
    pub(super) start: u16,
    /// Its length, bytes.
    pub(super) len: usize,
    /// Its destination MAC, as [`MacAddr::to_bits`].
    pub(super) destination: u64,
}

impl InnerFrame {
    /// The frame at `start`, and a number whose top bit is set when it is left to the general
    /// functions.
    #[inline(always)]
    fn new(header: Ethernet<'_>, (start, len): (usize, i64), pass_tags: bool) -> (Self, u64) {
        let tag = if pass_tags {
            0
        } else {
            validate::may_have_tag(header)
        };
        let frame = Self {
            start: start as u16,
            len: len as usize,
            destination: header.destination_bits(),
        };
        let runt = (len - ethernet::LEN as i64) as u64;
        (frame, runt | tag | validate::rejected_macs(header))
    }
}

/// The inner frame of a packet of the tunnel whose headers are `common` and whose VNI passes tags if
/// `pass_tags`; `None` for any other packet, for one that is dropped because of its headers, and for
/// few others. `packet`: all of it, in one segment.
#[inline(always)]
pub(super) fn inner_v4(common: &CommonV4, packet: &[u8], pass_tags: bool) -> Option<InnerFrame> {
    let headers: &[u8; PLAIN_V4 + ethernet::LEN] = packet.first_chunk()?;
    let inner = Ethernet::parse(&headers[PLAIN_V4..])?;
    let ip = Ipv4::parse(&headers[IP_OFFSET..])?;
    let udp = Udp::parse(&headers[IP_OFFSET + ipv4::LEN..])?;
    let total = ip.total_len() as i64;
    let place = (PLAIN_V4, total - OVERHEAD_V4 as i64);
    let (frame, rejected) = InnerFrame::new(inner, place, pass_tags);
    // All hold for nearly every packet of a run, so one branch suffices: a bit is set where a field
    // is not as it should be, and the sign where a number is less.
    let wrong = differences(headers, common, &MASK_V4)
        | (udp.len() as i64 + ipv4::LEN as i64 - total) as u64;
    let less = (packet.len() as i64 - IP_OFFSET as i64 - total) as u64 | rejected;
    (wrong | less >> 63 == 0 && ip.checksum_is_valid()).then_some(frame)
}

/// [`inner_v4`] over IPv6.
#[inline(always)]
pub(super) fn inner_v6(
    (common, sum): (&CommonV6, Sum),
    packet: &[u8],
    pass_tags: bool,
) -> Option<InnerFrame> {
    const DATAGRAM: usize = IP_OFFSET + ipv6::LEN;
    let headers: &[u8; PLAIN_V6 + ethernet::LEN] = packet.first_chunk()?;
    let inner = Ethernet::parse(&headers[PLAIN_V6..])?;
    let udp = Udp::parse(&headers[DATAGRAM..])?;
    let payload = Ipv6::parse(&headers[IP_OFFSET..])?.payload_len();
    let place = (PLAIN_V6, payload as i64 - INNER_OFFSET as i64);
    let (frame, rejected) = InnerFrame::new(inner, place, pass_tags);
    let wrong = differences(headers, common, &MASK_V6)
        | (udp.len() ^ payload) as u64
        | u64::from(udp.has_no_checksum());
    let sum = sum
        .pseudo_header(&[], udp::PROTOCOL, payload)
        .word(udp.source_port())
        .word(payload as u16)
        .word(udp.checksum())
        .bytes(packet.get(PLAIN_V6..DATAGRAM + payload)?);
    (wrong | rejected >> 63 == 0 && sum.is_valid()).then_some(frame)
}

/// The bits that are equal in all packets of a tunnel.
const MASK_V4: CommonV4 = words(&mask::<{ size_of::<CommonV4>() }>(&[
    (0, &[0xff; 6]),
    // EtherType, version and header length, ECN.
    (ethernet::ETHERTYPE, &[0xff, 0xff, 0xff, ecn::CHANGING]),
    // More Fragments and the offset; protocol; addresses.
    (IP_OFFSET + ipv4::FLAGS, &[0x3f, 0xff]),
    (IP_OFFSET + 9, &[0xff]),
    (IP_OFFSET + 12, &[0xff; 8]),
    // Destination port and checksum.
    (IP_OFFSET + ipv4::LEN + 2, &[0xff; 2]),
    (IP_OFFSET + ipv4::LEN + udp::CHECKSUM, &[0xff; 2]),
    (IP_OFFSET + ipv4::LEN + udp::LEN, &[0xff; TUNNEL_LEN]),
]));

const MASK_V6: CommonV6 = words(&mask::<{ size_of::<CommonV6>() }>(&[
    (0, &[0xff; 6]),
    // EtherType, version, ECN.
    (ethernet::ETHERTYPE, &[0xff, 0xff, 0xf0, ecn::CHANGING << 4]),
    // Next header; addresses.
    (IP_OFFSET + 6, &[0xff]),
    (IP_OFFSET + 8, &[0xff; 32]),
    // Destination port.
    (IP_OFFSET + ipv6::LEN + 2, &[0xff; 2]),
    (IP_OFFSET + ipv6::LEN + udp::LEN, &[0xff; TUNNEL_LEN]),
]));

/// These bytes at these offsets, and zeros.
const fn mask<const LEN: usize>(fields: &[(usize, &[u8])]) -> [u8; LEN] {
    let (mut mask, mut field) = ([0; LEN], 0);
    while field < fields.len() {
        let ((at, bytes), mut byte) = (fields[field], 0);
        while byte < bytes.len() {
            mask[at + byte] = bytes[byte];
            byte += 1;
        }
        field += 1;
    }
    mask
}

/// The words that `bytes` begin with.
const fn words<const WORDS: usize>(bytes: &[u8]) -> [u64; WORDS] {
    let (chunks, _) = bytes.as_chunks::<8>();
    let (mut words, mut at) = ([0; WORDS], 0);
    while at < WORDS {
        words[at] = u64::from_ne_bytes(chunks[at]);
        at += 1;
    }
    words
}

/// The bits of the mask in which `headers` differ from `common`: all words are compared, which the
/// compiler turns into vector operations.
#[inline(always)]
fn differences<const WORDS: usize>(
    headers: &[u8],
    common: &[u64; WORDS],
    mask: &[u64; WORDS],
) -> u64 {
    let headers: [u64; WORDS] = words(headers);
    (0..WORDS).fold(0, |bits, at| bits | (headers[at] ^ common[at]) & mask[at])
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
/// the first segment of a packet of `len` bytes. `sum`: the Internet checksum of a range of it; `None` when the
/// checksum of UDP is verified, unless there is none.
#[inline(always)]
pub(super) fn parse_plain_v4(
    packet: &[u8],
    len: usize,
    settings: &Settings,
    sum: impl FnOnce(Range<usize>) -> Option<Sum>,
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
    sum: impl FnOnce(Range<usize>) -> Option<Sum>,
) -> Result<VxlanPacket, DropReason> {
    let (ethertype, at) = vlan::skip(packet).ok_or(DropReason::OuterTruncated)?;
    let outer = match ethertype {
        ethernet::IPV4 => parse_v4(packet, at, len, settings)?,
        ethernet::IPV6 => parse_v6(packet, at, len, settings)?,
        _ => return Err(DropReason::WrongDestination),
    };
    parse_datagram(packet, outer, settings, sum)
}

/// Where the inner frame is in a packet, whose outer headers are not checked; `None` when it ends
/// before.
pub(super) fn inner_start(packet: &[u8]) -> Option<usize> {
    let (ethertype, at) = vlan::skip(packet)?;
    let network = match ethertype {
        ethernet::IPV4 => Ipv4::parse(packet.get(at..)?)?.header_len(),
        _ => ipv6::LEN,
    };
    Some(at + network + udp::LEN + vxlan::LEN)
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
    sum: impl FnOnce(Range<usize>) -> Option<Sum>,
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
        sum(outer.datagram.clone()).is_none_or(|sum| {
            sum.pseudo_header(outer.addresses, udp::PROTOCOL, outer.datagram.len())
                .is_valid()
        })
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
