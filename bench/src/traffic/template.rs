//! Frame templates: built once with etherparse; a packet is a copy with a few fields changed.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use vtep_dataplane::addr::{HostMac, MacAddr, Vni};
use vtep_dataplane::wire::checksum::Sum;

use crate::row::Failure;

/// First bytes of the payload of every generated frame: "vtb" and a version.
const MAGIC: [u8; 4] = *b"vtb1";

/// Ethernet, IPv4 without options and UDP.
const UDP_PAYLOAD: usize = 14 + 20 + 8;

/// Offset of the UDP source port.
const UDP_SOURCE: usize = 14 + 20;

/// Outer headers and VXLAN header, IPv4 without a VLAN tag (RFC 7348 section 5).
pub const VXLAN_OVERHEAD: usize = UDP_PAYLOAD + 8;

/// The same with IPv6.
const VXLAN6_OVERHEAD: usize = VXLAN_OVERHEAD + 20;

/// Magic, sequence, time.
const STAMP: usize = 16;

/// The shortest generated frame, without the frame check sequence: Ethernet's minimum of 60 bytes.
pub const MIN_FRAME: usize = 60;

/// The first port of the range for outer UDP source ports (RFC 7348 section 5), and of inner flows.
pub const FIRST_PORT: u16 = 49152;

/// The maximum number of flows: the number of dynamic ports.
pub const MAX_FLOWS: u16 = u16::MAX - FIRST_PORT + 1;

/// The outer header of generated VXLAN packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Outer source MAC.
    pub source_mac: MacAddr,
    /// Outer destination MAC: that of the next-hop router or of the VTEP.
    pub destination_mac: MacAddr,
    /// Outer source address: the emulated VTEP.
    pub source: IpAddr,
    /// Outer destination address: the VTEP under test, of the same family.
    pub destination: IpAddr,
    /// UDP destination port.
    pub udp_port: u16,
    /// The VNI.
    pub vni: Vni,
}

/// The frames to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Source MAC.
    pub source: HostMac,
    /// The first destination MAC.
    pub destination: MacAddr,
    /// Number of consecutive destination MACs; at least 1.
    pub destinations: u32,
    /// Number of UDP flows: 1..=[`MAX_FLOWS`].
    pub flows: u16,
    /// Length without the frame check sequence and without [`Tunnel`], bytes; at least
    /// [`MIN_FRAME`].
    pub size: usize,
    /// Encapsulate every frame in VXLAN.
    pub tunnel: Option<Tunnel>,
}

/// A sequence of frames of one shape.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    inner: usize,
    first: u64,
    destinations: u32,
    flows: u16,
    sequence: u32,
    complete: bool,
}

fn plain(shape: &Shape) -> Result<Vec<u8>, Failure> {
    let mut payload = vec![0; shape.size - UDP_PAYLOAD];
    payload[..4].copy_from_slice(&MAGIC);
    // Benchmarking addresses (RFC 2544 appendix C.2.2).
    let builder = PacketBuilder::ethernet2(shape.source.get().0, shape.destination.0)
        .ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64)
        .udp(FIRST_PORT, 9);
    let mut bytes = Vec::with_capacity(shape.size);
    builder
        .write(&mut bytes, &payload)
        .map_err(Failure::of("building a frame"))?;
    // The payload changes with every packet: no UDP checksum, which IPv4 allows (RFC 768).
    bytes[UDP_PAYLOAD - 2..UDP_PAYLOAD].fill(0);
    Ok(bytes)
}

fn wrap(tunnel: &Tunnel, frame: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut payload = vec![0x08, 0, 0, 0];
    payload.extend_from_slice(&(tunnel.vni.get() << 8).to_be_bytes());
    payload.extend_from_slice(frame);
    let ethernet = PacketBuilder::ethernet2(tunnel.source_mac.0, tunnel.destination_mac.0);
    let ip = match (tunnel.source, tunnel.destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        (from, to) => {
            return Err(Failure::new(format!(
                "{from} and {to} are of different families"
            )));
        }
    };
    let mut bytes = Vec::with_capacity(payload.len() + VXLAN6_OVERHEAD);
    ip.udp(FIRST_PORT, tunnel.udp_port)
        .write(&mut bytes, &payload)
        .map_err(Failure::of("building a VXLAN packet"))?;
    // Zero, as RFC 7348 section 5 recommends over IPv4. Over IPv6 it is computed for each packet.
    let end = bytes.len() - payload.len();
    bytes[end - 2..end].fill(0);
    Ok(bytes)
}

/// Writes the checksum of the UDP datagram that begins after an IP header ending at `udp`, whose
/// addresses are the last `addresses` bytes of it.
fn complete(bytes: &mut [u8], udp: usize, addresses: usize) {
    bytes[udp + 6..udp + 8].fill(0);
    let length = bytes.len() - udp;
    let sum = Sum::new()
        .pseudo_header(&bytes[udp - addresses..udp], 17, length)
        .bytes(&bytes[udp..])
        .checksum();
    // Zero is sent as its complement (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    bytes[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
}

impl Template {
    /// # Errors
    /// [`Failure`] if the shape is invalid, with the value and the valid range.
    pub fn new(shape: &Shape) -> Result<Self, Failure> {
        if !(MIN_FRAME..=9014).contains(&shape.size) {
            return Err(Failure::new(format!(
                "invalid frame size {}: must be {MIN_FRAME} to 9014 bytes",
                shape.size
            )));
        }
        if shape.destinations == 0 {
            return Err(Failure::new(
                "invalid number of destination MACs 0: must be at least 1",
            ));
        }
        if !(1..=MAX_FLOWS).contains(&shape.flows) {
            return Err(Failure::new(format!(
                "invalid number of flows {}: must be 1 to {MAX_FLOWS}",
                shape.flows
            )));
        }
        let frame = plain(shape)?;
        let (bytes, inner) = match &shape.tunnel {
            Some(tunnel) => {
                let packet = wrap(tunnel, &frame)?;
                let overhead = packet.len() - frame.len();
                (packet, overhead)
            }
            None => (frame, 0),
        };
        Ok(Self {
            bytes,
            inner,
            first: shape.destination.to_bits(),
            destinations: shape.destinations,
            flows: shape.flows,
            sequence: 0,
            complete: false,
        })
    }

    /// With complete UDP checksums of the plain frames, which are zero otherwise.
    #[must_use]
    pub const fn with_checksums(mut self) -> Self {
        self.complete = true;
        self
    }

    /// Bytes before the plain frame: outer headers and the VXLAN header, or 0.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        self.inner
    }

    /// Length of every frame, bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the next frame, stamped with `now_ns`. `buffer` must be [`Template::size`] bytes
    /// long.
    ///
    /// # Panics
    /// If the length of `buffer` differs.
    pub fn write(&mut self, buffer: &mut [u8], now_ns: u64) {
        buffer.copy_from_slice(&self.bytes);
        let port = (FIRST_PORT + (self.sequence % u32::from(self.flows)) as u16).to_be_bytes();
        if let Some(outer) = self.inner.checked_sub(16) {
            buffer[outer..outer + 2].copy_from_slice(&port);
        }
        let frame = &mut buffer[self.inner..];
        if self.destinations > 1 {
            let mac = self.first + u64::from(self.sequence % self.destinations);
            frame[..6].copy_from_slice(&MacAddr::from_bits(mac).0);
        }
        frame[UDP_SOURCE..UDP_SOURCE + 2].copy_from_slice(&port);
        frame[UDP_PAYLOAD + 4..UDP_PAYLOAD + 8].copy_from_slice(&self.sequence.to_be_bytes());
        frame[UDP_PAYLOAD + 8..UDP_PAYLOAD + STAMP].copy_from_slice(&now_ns.to_be_bytes());
        if self.complete {
            complete(frame, UDP_SOURCE, 8);
        }
        if self.inner == VXLAN6_OVERHEAD {
            complete(buffer, VXLAN6_OVERHEAD - 16, 32);
        }
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// The `sequence`-th plain frame, except for its time stamp.
    #[must_use]
    pub fn expected(&self, sequence: u32) -> Vec<u8> {
        let mut at = Self {
            sequence,
            ..self.clone()
        };
        let mut buffer = vec![0; at.size()];
        at.write(&mut buffer, 0);
        buffer.split_off(self.inner)
    }
}

/// The identification of a generated frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its number, from 0, modulo 2^32.
    pub sequence: u32,
    /// When it was generated, `CLOCK_MONOTONIC` nanoseconds.
    pub sent_ns: u64,
    /// Its VNI, if it was encapsulated in VXLAN.
    pub vni: Option<u32>,
    /// Offset of the plain frame.
    pub inner: usize,
}

/// Reads a generated frame, plain or in VXLAN. `None` for every other frame.
#[must_use]
pub fn read(frame: &[u8]) -> Option<Stamp> {
    if let Some((sequence, sent_ns)) = read_at(frame) {
        return Some(Stamp {
            sequence,
            sent_ns,
            vni: None,
            inner: 0,
        });
    }
    [VXLAN_OVERHEAD, VXLAN6_OVERHEAD]
        .into_iter()
        .find_map(|inner| {
            let (sequence, sent_ns) = read_at(frame.get(inner..)?)?;
            let [flags, _, _, _, a, b, c, _] = *frame[inner - 8..].first_chunk()?;
            let vni = Some(u32::from_be_bytes([0, a, b, c]));
            (flags & 0x08 != 0).then_some(Stamp {
                sequence,
                sent_ns,
                vni,
                inner,
            })
        })
}

/// True if two plain frames are the same except for the time stamp.
#[must_use]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    let (time, end) = (UDP_PAYLOAD + 8, UDP_PAYLOAD + STAMP);
    one.len() == other.len()
        && one.get(..time) == other.get(..time)
        && one.get(end..) == other.get(end..)
}

fn read_at(frame: &[u8]) -> Option<(u32, u64)> {
    let stamp: &[u8; STAMP] = frame.get(UDP_PAYLOAD..)?.first_chunk()?;
    let (magic, rest) = stamp.split_first_chunk::<4>()?;
    let (sequence, time) = rest.split_first_chunk::<4>()?;
    (*magic == MAGIC).then_some((
        u32::from_be_bytes(*sequence),
        u64::from_be_bytes(*time.first_chunk()?),
    ))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use etherparse::SlicedPacket;

    use super::*;

    fn shape(tunnel: bool) -> Shape {
        Shape {
            source: "02:00:00:00:00:01".parse().unwrap(),
            destination: MacAddr([2, 0, 0, 0, 1, 0]),
            destinations: 4,
            flows: 3,
            size: 60,
            tunnel: tunnel.then(|| Tunnel {
                source_mac: MacAddr([2, 0, 0, 0, 2, 1]),
                destination_mac: MacAddr([2, 0, 0, 0, 2, 2]),
                source: Ipv4Addr::new(192, 0, 2, 1).into(),
                destination: Ipv4Addr::new(192, 0, 2, 2).into(),
                udp_port: 4789,
                vni: Vni::new(100).unwrap(),
            }),
        }
    }

    #[test]
    fn frames_step_through_destinations_and_flows() {
        let mut template = Template::new(&shape(false)).unwrap();
        let mut buffer = vec![0; 60];
        for sequence in 0..12u32 {
            template.write(&mut buffer, 77);
            assert_eq!(buffer[5], (sequence % 4) as u8);
            assert_eq!(buffer[35], (sequence % 3) as u8);
            let stamp = read(&buffer).unwrap();
            assert_eq!(
                stamp,
                Stamp {
                    sequence,
                    sent_ns: 77,
                    vni: None,
                    inner: 0
                }
            );
            let parsed = SlicedPacket::from_ethernet(&buffer).unwrap();
            assert!(parsed.net.is_some() && parsed.transport.is_some());
        }
    }

    #[test]
    fn vxlan_packets_hold_the_plain_frame() {
        let mut template = Template::new(&shape(true)).unwrap();
        assert_eq!(template.size(), 110);
        let mut buffer = vec![0; 110];
        template.write(&mut buffer, 5);
        let stamp = read(&buffer).unwrap();
        assert_eq!((stamp.vni, stamp.inner), (Some(100), 50));
        assert!(
            SlicedPacket::from_ethernet(&buffer)
                .unwrap()
                .transport
                .is_some()
        );
        buffer[50 + UDP_PAYLOAD + 8..50 + UDP_PAYLOAD + STAMP].fill(0);
        assert_eq!(template.expected(0), &buffer[50..]);
    }

    #[test]
    fn over_ipv6_all_checksums_are_complete() {
        let mut all = shape(true);
        let tunnel = all.tunnel.as_mut().unwrap();
        tunnel.source = "2001:db8::1".parse().unwrap();
        assert!(Template::new(&all).is_err());
        all.tunnel.as_mut().unwrap().destination = "2001:db8::2".parse().unwrap();
        let mut template = Template::new(&all).unwrap().with_checksums();
        assert_eq!((template.size(), template.overhead()), (130, 70));
        let mut buffer = vec![0; 130];
        for sequence in 0..4 {
            template.write(&mut buffer, 5);
            let stamp = read(&buffer).unwrap();
            assert_eq!(
                (stamp.sequence, stamp.vni, stamp.inner),
                (sequence, Some(100), 70)
            );
            let sum = |addresses, udp: &[u8]| {
                let sum = Sum::new().pseudo_header(addresses, 17, udp.len());
                sum.bytes(udp).is_valid()
            };
            assert!(sum(&buffer[22..54], &buffer[54..]), "outer");
            assert!(sum(&buffer[70 + 26..70 + 34], &buffer[70 + 34..]), "inner");
        }
    }

    #[test]
    fn invalid_shapes_and_foreign_frames_are_rejected() {
        assert!(
            Template::new(&Shape {
                size: 59,
                ..shape(false)
            })
            .is_err()
        );
        assert!(
            Template::new(&Shape {
                destinations: 0,
                ..shape(false)
            })
            .is_err()
        );
        assert!(
            Template::new(&Shape {
                flows: 0,
                ..shape(false)
            })
            .is_err()
        );
        assert_eq!(read(&[0; 200]), None);
        assert_eq!(read(&[]), None);
    }
}
