//! Parses the L3 header of a frame, once, for the flow hash, checksums, DSCP and ECN, and ICMP
//! errors.

use crate::wire::ipv4::Ipv4;
use crate::wire::{ethernet, ipv4, ipv6, vlan};

/// The network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// Neither IPv4 nor IPv6, or malformed.
    Other,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Which part of an IP packet a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The whole packet.
    Whole,
    /// The first fragment, which has the transport header.
    First,
    /// A later fragment.
    Later,
}

/// Where the headers of a frame's packet are. Offsets are in bytes from the start of the frame. All
/// lie inside the frame, and the addresses inside its first segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct L3Info {
    pub(super) network: Network,
    pub(super) part: Part,
    /// DSCP and ECN; 0 when not IP.
    pub(super) tos: u8,
    /// Transport protocol; valid when `transport` is not 0.
    pub(super) protocol: u8,
    /// Offset of the IP header.
    pub(super) ip: u16,
    /// Offset of the transport header; 0 when there is none, or it can't be located.
    pub(super) transport: u16,
    /// Offset of the end of the IP packet; padding may follow. Beyond 65,535 for the longest ones.
    pub(super) end: u32,
    /// IPv6 with segments left in a Routing header: the pseudo-header's destination is not known.
    pub(super) has_routing_header: bool,
}

impl L3Info {
    /// The header information of a frame that is not IP.
    pub(super) const OTHER: Self = Self {
        network: Network::Other,
        part: Part::Whole,
        tos: 0,
        protocol: 0,
        ip: 0,
        transport: 0,
        end: 0,
        has_routing_header: false,
    };

    /// Parses an untagged frame with an unfragmented IPv4 packet that has no options and at least 8
    /// bytes of payload, as most frames do. `None` for any other, which [`L3Info::of`] parses; the
    /// results of both are equal.
    #[inline(always)]
    pub(super) fn of_plain_v4(frame: &[u8]) -> Option<Self> {
        const IP: usize = ethernet::LEN;
        const TRANSPORT: usize = IP + ipv4::LEN;
        // EtherType, version 4 and header length 20, TOS: four consecutive bytes.
        const FRONT: u32 = u32::from_be_bytes([0x08, 0x00, 0x45, 0x00]);
        let head: &[u8; TRANSPORT + 8] = frame.first_chunk()?;
        let header = Ipv4::parse(&head[IP..])?;
        let total = header.total_len();
        let front = u32::from_be_bytes(*head[IP - 2..].first_chunk()?);
        // Non-short-circuit: all hold for nearly every frame, so one branch suffices.
        let plain = (front & !0xff == FRONT)
            & !header.is_fragment()
            & (total >= ipv4::LEN + 8)
            & (total <= frame.len() - IP);
        plain.then_some(Self {
            network: Network::V4,
            part: Part::Whole,
            tos: header.tos(),
            protocol: header.protocol(),
            ip: IP as u16,
            transport: TRANSPORT as u16,
            end: (IP + total) as u32,
            has_routing_header: false,
        })
    }

    /// Parses a whole frame, with up to two VLAN tags.
    #[inline]
    pub(super) fn of(frame: &[u8]) -> Self {
        Self::of_first(frame, frame.len())
    }

    /// Parses a frame of `len` bytes, whose first segment is `frame`.
    #[inline]
    pub(super) fn of_first(frame: &[u8], len: usize) -> Self {
        let found = match vlan::skip(frame) {
            Some((ethernet::IPV4, at)) => Self::of_v4(frame, at, len),
            Some((ethernet::IPV6, at)) => Self::of_v6(frame, at, len),
            _ => None,
        };
        found.unwrap_or(Self::OTHER)
    }

    /// Parses a packet of `len` bytes without Ethernet header, whose first segment is `packet`.
    pub(super) fn of_ip(packet: &[u8], len: usize) -> Self {
        let found = match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::of_v4(packet, 0, len),
            Some(6) => Self::of_v6(packet, 0, len),
            _ => None,
        };
        found.unwrap_or(Self::OTHER)
    }

    #[inline]
    fn of_v4(frame: &[u8], at: usize, len: usize) -> Option<Self> {
        let bytes = &frame[at..];
        let header = Ipv4::parse(bytes)?;
        if header.version() != 4 || header.header_len() < ipv4::LEN {
            return None;
        }
        let part = match (header.is_fragment(), header.is_later_fragment()) {
            (_, true) => Part::Later,
            (true, false) => Part::First,
            (false, false) => Part::Whole,
        };
        let mut packet = Self {
            network: Network::V4,
            part,
            tos: header.tos(),
            ip: at as u16,
            ..Self::OTHER
        };
        // When the packet claims to be longer than the frame, only the addresses are used.
        if at + header.total_len() <= len && header.header_len() <= header.total_len() {
            packet.end = (at + header.total_len()) as u32;
            packet.transport = (at + header.header_len()) as u16;
            packet.protocol = header.protocol();
        }
        Some(packet)
    }

    #[inline]
    fn of_v6(frame: &[u8], at: usize, len: usize) -> Option<Self> {
        let bytes = &frame[at..];
        let header = ipv6::Ipv6::parse(bytes)?;
        if header.version() != 6 {
            return None;
        }
        let mut packet = Self {
            network: Network::V6,
            tos: header.traffic_class(),
            ip: at as u16,
            ..Self::OTHER
        };
        let end = at + ipv6::LEN + header.payload_len();
        if end > len {
            return Some(packet);
        }
        if let Some(upper) = ipv6::upper(&frame[at..end.min(frame.len())]) {
            packet.end = end as u32;
            packet.transport = (at + upper.offset) as u16;
            packet.protocol = upper.protocol;
            packet.has_routing_header = upper.routed;
            packet.part = match upper.fragment {
                None => Part::Whole,
                Some(0) => Part::First,
                Some(_) => Part::Later,
            };
        }
        Some(packet)
    }

    /// Source and destination address in network byte order, 8 or 32 bytes; empty when not IP.
    #[inline]
    pub(super) fn addresses(self, frame: &[u8]) -> &[u8] {
        let ip = usize::from(self.ip);
        match self.network {
            Network::Other => &[],
            Network::V4 => &frame[ip + 12..ip + 20],
            Network::V6 => &frame[ip + 8..ip + 40],
        }
    }

    /// The transport header and its payload, without padding; `None` when there is none, or it
    /// can't be located.
    #[inline]
    pub(super) fn transport_range(self) -> Option<std::ops::Range<usize>> {
        (self.transport != 0).then(|| usize::from(self.transport)..self.end as usize)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    fn udp4() -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1, 2)
            .write(&mut bytes, &[0; 10])
            .unwrap();
        bytes
    }

    #[test]
    fn padding_is_not_part_of_the_packet() {
        let bytes = [udp4(), vec![0xff; 20]].concat();
        let packet = L3Info::of(&bytes);
        assert_eq!(
            (packet.network, packet.ip, packet.protocol),
            (Network::V4, 14, 17)
        );
        assert_eq!(packet.transport_range(), Some(34..52));
        assert_eq!(packet.addresses(&bytes), [10, 0, 0, 1, 10, 0, 0, 2]);
    }

    #[test]
    fn a_packet_longer_than_its_frame_has_no_transport_header() {
        let bytes = udp4();
        let packet = L3Info::of(&bytes[..51]);
        assert_eq!(
            (packet.network, packet.transport_range()),
            (Network::V4, None)
        );
    }

    #[test]
    fn fragments_are_recognized() {
        for (flags, part) in [
            (0x4000u16, Part::Whole),
            (0x2000, Part::First),
            (0x2001, Part::Later),
            (1, Part::Later),
        ] {
            let mut bytes = udp4();
            crate::wire::put16(&mut bytes, 20, flags);
            assert_eq!(L3Info::of(&bytes).part, part, "{flags:x}");
        }
    }

    proptest! {
        #[test]
        fn both_parsers_agree_on_plain_packets(at in 12usize..54, value: u8, short in 0usize..12) {
            let mut bytes = udp4();
            prop_assert_eq!(L3Info::of_plain_v4(&bytes), Some(L3Info::of(&bytes)));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(bytes.len() - short);
            if let Some(packet) = L3Info::of_plain_v4(&bytes) {
                prop_assert_eq!(packet, L3Info::of(&bytes));
            }
        }

        #[test]
        fn offsets_lie_inside_of_any_frame(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            ip: Option<bool>,
        ) {
            if let (Some(v6), true) = (ip, bytes.len() >= 15) {
                crate::wire::put16(&mut bytes, 12, if v6 { 0x86dd } else { 0x0800 });
                bytes[14] = if v6 { 0x60 } else { 0x45 };
            }
            let packet = L3Info::of(&bytes);
            let _ = packet.addresses(&bytes);
            if let Some(range) = packet.transport_range() {
                prop_assert!(range.start <= range.end && range.end <= bytes.len());
            }
        }
    }
}
