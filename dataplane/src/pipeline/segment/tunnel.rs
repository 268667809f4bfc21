//! The outer headers of a superframe in a tunnel of its sender's.

use super::{
    IDENTIFICATION, Layout, PAYLOAD_LEN, TOTAL_LEN, UDP_LEN, Unsegmentable, headers_end, of_v4,
    of_v6,
};
use crate::frame::offload::SegmentKind;
use crate::wire::checksum::Sum;
use crate::wire::{be16, ethernet, ipv4, ipv6, put16, tcp, udp};

/// Protocols of IP with a packet inside: IPv4, IPv6, GRE.
const IPV4_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
/// Flag of a GRE header with a key. Others (a checksum, a sequence number) are not cut.
const GRE_KEY: u16 = 0x2000;

/// The outer headers of a tunnel of the sender's. Offsets from the Ethernet header, bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tunnel {
    pub(super) ip: usize,
    /// What follows the IP header.
    transport: usize,
    pub(super) is_v6: bool,
    is_udp: bool,
}

impl Tunnel {
    /// The tunnel whose IP header is at `ip`, of a frame with a partial checksum that begins at `start`;
    /// `None` when that is not the checksum of a packet inside.
    #[cold]
    pub(super) fn of(front: &[u8], (ethertype, ip): (u16, usize), start: usize) -> Option<Self> {
        let packet = front.get(ip..)?;
        let is_v6 = ethertype == ethernet::IPV6;
        let (protocol, offset) = match ethertype {
            ethernet::IPV4 => of_v4(packet).ok()?,
            ethernet::IPV6 => of_v6(packet, false).ok()?,
            _ => return None,
        };
        let transport = ip + offset;
        let least = match protocol {
            udp::PROTOCOL => udp::LEN,
            IPV4_IN_IP | IPV6_IN_IP => 0,
            GRE if be16(front.get(transport..transport + 2)?, 0) & !GRE_KEY == 0 => 4,
            _ => return None,
        };
        let inside = start.checked_sub(transport + least + ipv4::LEN)?;
        inside.is_multiple_of(2).then_some(Self {
            ip,
            transport,
            is_v6,
            is_udp: protocol == udp::PROTOCOL,
        })
    }

    /// The inner packet, whose transport header is at `start`. Its IP header has neither options nor
    /// extension headers.
    #[cold]
    pub(super) fn inside(
        self,
        front: &[u8],
        kind: SegmentKind,
        start: usize,
    ) -> Result<Layout, Unsegmentable> {
        let is_tcp = kind != SegmentKind::Udp;
        let wanted = if is_tcp { tcp::PROTOCOL } else { udp::PROTOCOL };
        let is = |ip: &usize, is_v6: bool| {
            let found = front.get(*ip..).and_then(|packet| {
                let found = if is_v6 {
                    of_v6(packet, true)
                } else {
                    of_v4(packet)
                };
                found.ok()
            });
            *ip >= self.transport && found == Some((wanted, start - ip))
        };
        let v4 = start
            .checked_sub(ipv4::LEN)
            .filter(|ip| kind != SegmentKind::TcpV6 && is(ip, false));
        let v6 = start
            .checked_sub(ipv6::LEN)
            .filter(|ip| kind != SegmentKind::TcpV4 && is(ip, true));
        let ip = v4.or(v6).ok_or(Unsegmentable::ChecksumStart)?;
        Ok(Layout {
            tunnel: Some(self),
            ip,
            transport: start,
            end: headers_end(front, start, is_tcp)?,
            is_v6: v4.is_none(),
            is_tcp,
        })
    }

    /// Writes lengths, identification and checksums of the outer headers of segment `index`: `out` are
    /// all of its headers, `payload_len` bytes with the sum `payload_sum` follow.
    #[cold]
    pub(super) fn write(&self, index: usize, out: &mut [u8], payload_len: usize, payload_sum: Sum) {
        let (network, rest) = out[self.ip..].split_at_mut(self.transport - self.ip);
        let len = rest.len() + payload_len;
        if self.is_v6 {
            let extensions = network.len() - ipv6::LEN;
            put16(network, PAYLOAD_LEN, (extensions + len) as u16);
        } else {
            let id = be16(network, IDENTIFICATION).wrapping_add(index as u16);
            put16(network, TOTAL_LEN, (network.len() + len) as u16);
            put16(network, IDENTIFICATION, id);
            put16(network, ipv4::CHECKSUM, 0);
            let checksum = Sum::new().bytes(network).checksum();
            put16(network, ipv4::CHECKSUM, checksum);
        }
        if !self.is_udp {
            return;
        }
        put16(rest, UDP_LEN, len as u16);
        // 0: it has no checksum.
        if be16(rest, udp::CHECKSUM) == 0 {
            return;
        }
        put16(rest, udp::CHECKSUM, 0);
        let addresses = if self.is_v6 {
            &network[8..40]
        } else {
            &network[12..20]
        };
        let sum = Sum::new()
            .pseudo_header(addresses, udp::PROTOCOL, len)
            .then(Sum::new().bytes(rest), false)
            .then(payload_sum, false);
        put16(rest, udp::CHECKSUM, udp::never_zero(sum.checksum()));
    }
}
