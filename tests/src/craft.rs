//! VXLAN packets, valid and malformed, byte by byte.

use std::net::IpAddr;

use crate::fabric::{vtep4, vtep6};
use crate::frame::{checksum, mac};

/// A VXLAN packet to build: tests change the public fields; everything else is as a correct sender
/// sets it.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Outer destination and source MAC.
    pub macs: (String, String),
    /// Outer destination address.
    pub to: IpAddr,
    /// Outer source address.
    pub from: IpAddr,
    /// Outer TOS or traffic class.
    pub tos: u8,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// IPv4 flags and fragment offset: 0x4000 is DF.
    pub fragment: u16,
    /// IPv4 options: a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Added to the correct IPv4 header checksum.
    pub ip_checksum_error: u16,
    /// Added to the correct length in the IP header.
    pub ip_length_error: i16,
    /// UDP source and destination port.
    pub ports: (u16, u16),
    /// Added to the correct UDP length.
    pub udp_length_error: i16,
    /// Contents of the UDP checksum field.
    pub udp_checksum: Checksum,
    /// The 8 bytes of the VXLAN header.
    pub vxlan: [u8; 8],
    /// The inner frame.
    pub inner: Vec<u8>,
    /// How many bytes of the VXLAN header and the inner frame are sent; the IP and UDP lengths
    /// agree with it.
    pub cut: Option<usize>,
    /// Bytes after the end of the IP packet, as Ethernet padding.
    pub padding: usize,
    /// A VLAN tag in front of the outer IP header.
    pub outer_vlan: Option<u16>,
}

/// Contents of the UDP checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// 0: not computed.
    Zero,
    /// The correct one.
    Right,
    /// An incorrect one.
    Wrong,
}

impl Packet {
    /// A packet from hypervisor 9 to hypervisor 1 over IPv4, VNI 100.
    #[must_use]
    pub fn v4(destination_mac: &str, source_mac: &str, inner: Vec<u8>) -> Self {
        Self {
            macs: (destination_mac.into(), source_mac.into()),
            to: vtep4(1),
            from: vtep4(9),
            tos: 0,
            ttl: 64,
            fragment: 0x4000,
            options: Vec::new(),
            ip_checksum_error: 0,
            ip_length_error: 0,
            ports: (50_000, 4789),
            udp_length_error: 0,
            udp_checksum: Checksum::Zero,
            vxlan: vxlan(0x08, 100),
            inner,
            cut: None,
            padding: 0,
            outer_vlan: None,
        }
    }

    /// As [`Packet::v4`], over IPv6 with a UDP checksum.
    #[must_use]
    pub fn v6(destination_mac: &str, source_mac: &str, inner: Vec<u8>) -> Self {
        let packet = Self::v4(destination_mac, source_mac, inner);
        Self {
            to: vtep6(1),
            from: vtep6(9),
            udp_checksum: Checksum::Right,
            ..packet
        }
    }

    /// The bytes, starting with the outer destination MAC.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut payload = [&self.vxlan[..], &self.inner].concat();
        payload.truncate(self.cut.unwrap_or(usize::MAX));
        let udp = self.udp(&payload);
        let (kind, header) = match (self.to, self.from) {
            (IpAddr::V4(to), IpAddr::V4(from)) => (
                0x0800_u16,
                self.ipv4(&to.octets(), &from.octets(), udp.len()),
            ),
            (to, from) => (0x86dd, self.ipv6(&octets(to), &octets(from), udp.len())),
        };
        let mut frame = [mac(&self.macs.0), mac(&self.macs.1)].concat();
        if let Some(vlan) = self.outer_vlan {
            frame.extend([0x8100_u16.to_be_bytes(), vlan.to_be_bytes()].concat());
        }
        frame.extend(kind.to_be_bytes());
        frame.extend(header);
        frame.extend(udp);
        frame.resize(frame.len() + self.padding, 0xee);
        frame
    }

    fn ipv4(&self, to: &[u8], from: &[u8], udp_len: usize) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let length = wrong(header_len + udp_len, self.ip_length_error).to_be_bytes();
        let fragment = self.fragment.to_be_bytes();
        let words = u8::try_from(header_len / 4).expect("at most 15");
        let mut header = vec![
            0x40 | words,
            self.tos,
            length[0],
            length[1],
            0,
            1,
            fragment[0],
            fragment[1],
            self.ttl,
            17,
            0,
            0,
        ];
        header.extend([from, to, &self.options].concat());
        let sum = checksum(0, &header).wrapping_add(self.ip_checksum_error);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn ipv6(&self, to: &[u8], from: &[u8], udp_len: usize) -> Vec<u8> {
        let length = wrong(udp_len, self.ip_length_error).to_be_bytes();
        let class = [0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        [&class[..], &length, &[17, self.ttl], from, to].concat()
    }

    fn udp(&self, payload: &[u8]) -> Vec<u8> {
        let length = wrong(8 + payload.len(), self.udp_length_error);
        let mut udp = [self.ports.0, self.ports.1, length, 0]
            .map(u16::to_be_bytes)
            .concat();
        udp.extend(payload);
        if self.udp_checksum != Checksum::Zero {
            let pseudo = [
                octets(self.to),
                octets(self.from),
                vec![0, 17],
                length.to_be_bytes().to_vec(),
            ]
            .concat();
            let part = u32::from(!checksum(0, &pseudo));
            let right = match checksum(part, &udp) {
                0 => 0xffff,
                sum => sum,
            };
            let sum = if self.udp_checksum == Checksum::Right {
                right
            } else {
                right ^ 0x5555
            };
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        udp
    }
}

/// A VXLAN header with `flags` (0x08 is the I flag) and `vni`, the rest 0.
#[must_use]
pub fn vxlan(flags: u8, vni: u32) -> [u8; 8] {
    let [_, a, b, c] = vni.to_be_bytes();
    [flags, 0, 0, 0, a, b, c, 0]
}

fn wrong(right: usize, error: i16) -> u16 {
    u16::try_from(right)
        .expect("a short packet")
        .wrapping_add_signed(error)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}
