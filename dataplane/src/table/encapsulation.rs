//! The outer header of an encapsulated frame: its length and layout are defined only here.
//!
//! ```text
//! | Ethernet 14 | [802.1Q 4] | IPv4 20 or IPv6 40 | UDP 8 | VXLAN 8 | inner frame |
//! ```
//!
//! Everything that adds, removes or accounts for an outer header takes its lengths from here: the
//! pipeline, the MTU of underlay paths and the checks of the configuration. Another encapsulation
//! over UDP (Geneve, RFC 8926) replaces [`TUNNEL_LEN`] and [`tunnel_header`].

use std::net::IpAddr;

use crate::addr::{MacAddr, VtepAddr};
use crate::wire::{ethernet, ipv4, ipv6, put16, udp, vlan, vxlan};

/// Length of the tunnel header between the UDP header and the inner frame, bytes.
pub const TUNNEL_LEN: usize = vxlan::LEN;

/// Offset of the inner frame from the start of the UDP header, bytes.
pub const INNER_OFFSET: usize = udp::LEN + TUNNEL_LEN;

/// Offset of the IP header without an 802.1Q tag, bytes.
pub const IP_OFFSET: usize = ethernet::LEN;
/// Offset of the IP header after an 802.1Q tag, bytes.
pub const TAGGED_IP_OFFSET: usize = ethernet::LEN + vlan::LEN;

/// Bytes that an IPv4 underlay packet has before the inner frame, from its IP header on.
pub const OVERHEAD_V4: usize = ipv4::LEN + INNER_OFFSET;
/// Bytes that an IPv6 underlay packet has before the inner frame, from its IP header on.
pub const OVERHEAD_V6: usize = ipv6::LEN + INNER_OFFSET;

/// Length of the outer header over IPv4 without an 802.1Q tag, bytes. Each of the four lengths belongs
/// to one form only.
pub(crate) const PLAIN_V4: usize = IP_OFFSET + OVERHEAD_V4;
/// Length of the outer header over IPv6 without a tag, bytes.
pub(crate) const PLAIN_V6: usize = IP_OFFSET + OVERHEAD_V6;
/// Length of the outer header over IPv4 with a tag, bytes.
pub(crate) const TAGGED_V4: usize = TAGGED_IP_OFFSET + OVERHEAD_V4;
/// Length of the outer header over IPv6 with a tag, bytes.
pub(crate) const TAGGED_V6: usize = TAGGED_IP_OFFSET + OVERHEAD_V6;

/// Length of the longest outer header, bytes: Ethernet, 802.1Q, IPv6, UDP, VXLAN.
pub const MAX_HEADER: usize = TAGGED_V6;

/// Bytes of an underlay packet that are not the inner frame, from its IP header on: 36 over IPv4,
/// 56 over IPv6. The longest inner frame of a path is its MTU less these.
#[must_use]
pub const fn overhead(v6: bool) -> usize {
    if v6 { OVERHEAD_V6 } else { OVERHEAD_V4 }
}

/// Bytes by which the underlay's MTU must exceed the tenants' (RFC 7348 section 4.3): the
/// [`overhead`] and the inner Ethernet header, 50 over IPv4 and 70 over IPv6.
#[must_use]
pub const fn mtu_overhead(v6: bool) -> usize {
    overhead(v6) + ethernet::LEN
}

/// The tunnel header of a frame of this VNI, 24 bits (RFC 7348 section 5).
#[inline]
#[must_use]
pub const fn tunnel_header(vni: u32) -> [u8; TUNNEL_LEN] {
    vxlan::header(vni)
}

/// The fields of a path's outer header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderFields {
    /// MAC of the underlay interface.
    pub source_mac: MacAddr,
    /// MAC of the next hop, or of the VTEP itself on the same link.
    pub next_hop_mac: MacAddr,
    /// VLAN ID, 1 to 4094, when the route uses a VLAN of the underlay interface.
    pub vlan: Option<u16>,
    /// Local VTEP address.
    pub source: VtepAddr,
    /// Address of the remote VTEP, of the same family.
    pub destination: VtepAddr,
    /// TTL or hop limit, 1..=255.
    pub ttl: u8,
    /// IPv4 Don't Fragment.
    pub df: bool,
    /// UDP destination port.
    pub udp_port: u16,
}

/// A complete outer header. Per packet, only lengths, checksums, TOS, UDP source port and VNI are
/// written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OuterHeader {
    bytes: [u8; MAX_HEADER],
    len: u8,
    ip: u8,
    v6: bool,
    sum: u32,
}

impl OuterHeader {
    /// Builds the header, with lengths, TOS, UDP source port, checksums and VNI zero. `None` when
    /// the two addresses are of different families.
    #[must_use]
    pub fn new(fields: &HeaderFields) -> Option<Self> {
        let mut bytes = [0; MAX_HEADER];
        bytes[0..6].copy_from_slice(&fields.next_hop_mac.0);
        bytes[6..12].copy_from_slice(&fields.source_mac.0);
        let v6 = fields.destination.is_v6();
        let mut ip = IP_OFFSET;
        if let Some(vlan_id) = fields.vlan {
            put16(&mut bytes, ethernet::ETHERTYPE, vlan::TPID);
            put16(&mut bytes, ethernet::LEN, vlan_id & 0x0fff);
            ip = TAGGED_IP_OFFSET;
        }
        let ethertype = if v6 { ethernet::IPV6 } else { ethernet::IPV4 };
        put16(&mut bytes, ip - 2, ethertype);
        let udp_header = match (fields.source.get(), fields.destination.get()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes[ip] = 0x45;
                bytes[ip + 6] = if fields.df { 0x40 } else { 0 };
                bytes[ip + 8] = fields.ttl;
                bytes[ip + 9] = udp::PROTOCOL;
                bytes[ip + 12..ip + 16].copy_from_slice(&source.octets());
                bytes[ip + 16..ip + 20].copy_from_slice(&destination.octets());
                ip + ipv4::LEN
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes[ip] = 0x60;
                bytes[ip + 6] = udp::PROTOCOL;
                bytes[ip + 7] = fields.ttl;
                bytes[ip + 8..ip + 24].copy_from_slice(&source.octets());
                bytes[ip + 24..ip + 40].copy_from_slice(&destination.octets());
                ip + ipv6::LEN
            }
            _ => return None,
        };
        put16(&mut bytes, udp_header + 2, fields.udp_port);
        let len = udp_header + INNER_OFFSET;
        bytes[udp_header + udp::LEN..len].copy_from_slice(&tunnel_header(0));
        let summed = if v6 {
            &bytes[ip + 8..ip + ipv6::LEN]
        } else {
            &bytes[ip..ip + ipv4::LEN]
        };
        let sum = summed
            .chunks_exact(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        Some(Self {
            bytes,
            len: len as u8,
            ip: ip as u8,
            v6,
            sum,
        })
    }

    /// The header's bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Length of the header, bytes.
    #[inline]
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.len as u16
    }

    /// The first `LEN` bytes; zeros past the end of the header.
    #[inline]
    #[must_use]
    pub(crate) const fn front<const LEN: usize>(&self) -> &[u8; LEN] {
        match self.bytes.first_chunk() {
            Some(front) => front,
            None => panic!("longer than the longest header"),
        }
    }

    /// Offset of the IP header.
    #[inline]
    #[must_use]
    pub const fn ip_offset(&self) -> usize {
        self.ip as usize
    }

    /// True for IPv6.
    #[inline]
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        self.v6
    }

    /// Sum of 16-bit words, not folded: of the IPv4 header as built here (lengths, TOS and checksum
    /// zero), or of both IPv6 addresses.
    #[inline]
    #[must_use]
    pub const fn sum(&self) -> u32 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use etherparse::{
        EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, SingleVlanHeader, UdpHeader,
    };

    use super::*;

    fn fields(source: &str, destination: &str, vlan: Option<u16>) -> HeaderFields {
        HeaderFields {
            source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            next_hop_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            vlan,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ttl: 64,
            df: true,
            udp_port: 4789,
        }
    }

    /// Checks the IP header and its sum; returns the bytes after it.
    fn check_ip<'a>(
        header: &OuterHeader,
        ip: &'a [u8],
        source: &str,
        destination: &str,
    ) -> &'a [u8] {
        if header.is_v6() {
            let (v6, rest) = Ipv6Header::from_slice(ip).unwrap();
            assert_eq!(v6.source_addr(), source.parse::<Ipv6Addr>().unwrap());
            assert_eq!(
                v6.destination_addr(),
                destination.parse::<Ipv6Addr>().unwrap()
            );
            assert_eq!((v6.next_header, v6.hop_limit), (IpNumber::UDP, 64));
            // 2001:db8::1 and ::2.
            assert_eq!(header.sum(), 2 * (0x2001 + 0xdb8) + 1 + 2);
            rest
        } else {
            let (v4, rest) = Ipv4Header::from_slice(ip).unwrap();
            assert_eq!(
                Ipv4Addr::from(v4.source),
                source.parse::<Ipv4Addr>().unwrap()
            );
            assert_eq!(
                Ipv4Addr::from(v4.destination),
                destination.parse::<Ipv4Addr>().unwrap()
            );
            assert_eq!(
                (v4.protocol, v4.time_to_live, v4.dont_fragment),
                (IpNumber::UDP, 64, true)
            );
            let folded = (header.sum() & 0xffff) + (header.sum() >> 16);
            let without_length = Ipv4Header { total_len: 0, ..v4 };
            assert_eq!(!(folded as u16), without_length.calc_header_checksum());
            rest
        }
    }

    #[test]
    fn headers_parse_into_the_fields_they_were_built_from() {
        for (source, destination, vlan, len) in [
            ("192.0.2.1", "192.0.2.2", None, 50),
            ("192.0.2.1", "192.0.2.2", Some(7), 54),
            ("2001:db8::1", "2001:db8::2", None, 70),
            ("2001:db8::1", "2001:db8::2", Some(4094), 74),
        ] {
            let header = OuterHeader::new(&fields(source, destination, vlan)).unwrap();
            assert_eq!(header.bytes().len(), len);
            let (ethernet, rest) = Ethernet2Header::from_slice(header.bytes()).unwrap();
            assert_eq!(
                (ethernet.destination, ethernet.source),
                ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
            );
            let rest = match vlan {
                Some(id) => {
                    let (tag, rest) = SingleVlanHeader::from_slice(rest).unwrap();
                    assert_eq!(
                        (ethernet.ether_type, tag.vlan_id.value()),
                        (EtherType(0x8100), id)
                    );
                    rest
                }
                None => rest,
            };
            assert_eq!(header.ip_offset(), header.bytes().len() - rest.len());
            let rest = check_ip(&header, rest, source, destination);
            let (udp, rest) = UdpHeader::from_slice(rest).unwrap();
            assert_eq!(
                (udp.source_port, udp.destination_port, udp.checksum),
                (0, 4789, 0)
            );
            assert_eq!(
                rest,
                [8, 0, 0, 0, 0, 0, 0, 0],
                "VXLAN with the I flag, RFC 7348 section 5"
            );
        }
        assert!(OuterHeader::new(&fields("192.0.2.1", "2001:db8::2", None)).is_none());
    }
}
