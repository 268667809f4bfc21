//! Next hops: for each remote VTEP the complete outer header of each underlay path, ready to copy.
//!
//! The control thread resolves route and neighbour when it builds a next hop; no packet ever does. A MAC points to a
//! next-hop identifier, so a new path for a VTEP is one write here and none in the MAC table.
//!
//! ```text
//! | Ethernet 14 | [802.1Q 4] | IPv4 20 or IPv6 40 | UDP 8 | VXLAN 8 |
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::addr::{DeviceId, MacAddr, VtepAddr, VtepId};
use crate::stats::Counters;

/// Length of a UDP and of a VXLAN header, bytes.
const UDP_LEN: usize = 8;
const VXLAN_LEN: usize = 8;

/// The longest outer header: Ethernet, 802.1Q, IPv6, UDP, VXLAN.
pub const MAX_HEADER: usize = 14 + 4 + 40 + UDP_LEN + VXLAN_LEN;

/// Paths that one VTEP can be reached by at once (ECMP).
pub const MAX_PATHS: usize = 16;

/// What the outer header of a path is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderFields {
    /// MAC of our underlay interface.
    pub source_mac: MacAddr,
    /// MAC of the neighbour that the route leads to.
    pub next_hop_mac: MacAddr,
    /// VLAN ID when the route leaves by a VLAN of the underlay interface.
    pub vlan: Option<u16>,
    /// Our VTEP address.
    pub source: VtepAddr,
    /// The remote VTEP's address; of the same family.
    pub destination: VtepAddr,
    /// TTL or hop limit, 1..=255.
    pub ttl: u8,
    /// IPv4 Don't Fragment.
    pub df: bool,
    /// UDP destination port.
    pub udp_port: u16,
}

/// A complete outer header. Per packet only lengths, checksums, TOS, the UDP source port and the VNI are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OuterHeader {
    bytes: [u8; MAX_HEADER],
    len: u8,
    ip: u8,
    v6: bool,
    sum: u32,
}

impl OuterHeader {
    /// Builds the header. Lengths, TOS, UDP source port, checksums and VNI are zero. `None` when the two addresses are
    /// of different families.
    #[must_use]
    pub fn new(fields: &HeaderFields) -> Option<Self> {
        let mut bytes = [0; MAX_HEADER];
        bytes[0..6].copy_from_slice(&fields.next_hop_mac.0);
        bytes[6..12].copy_from_slice(&fields.source_mac.0);
        let v6 = fields.destination.is_v6();
        let mut at = 12;
        if let Some(vlan) = fields.vlan {
            bytes[12..14].copy_from_slice(&[0x81, 0x00]);
            bytes[14..16].copy_from_slice(&(vlan & 0x0fff).to_be_bytes());
            at = 16;
        }
        bytes[at..at + 2].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        let ip = at + 2;
        let udp = match (fields.source.get(), fields.destination.get()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes[ip] = 0x45;
                bytes[ip + 6] = if fields.df { 0x40 } else { 0 };
                bytes[ip + 8] = fields.ttl;
                bytes[ip + 9] = 17;
                bytes[ip + 12..ip + 16].copy_from_slice(&source.octets());
                bytes[ip + 16..ip + 20].copy_from_slice(&destination.octets());
                ip + 20
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes[ip] = 0x60;
                bytes[ip + 6] = 17;
                bytes[ip + 7] = fields.ttl;
                bytes[ip + 8..ip + 24].copy_from_slice(&source.octets());
                bytes[ip + 24..ip + 40].copy_from_slice(&destination.octets());
                ip + 40
            }
            _ => return None,
        };
        bytes[udp + 2..udp + 4].copy_from_slice(&fields.udp_port.to_be_bytes());
        bytes[udp + UDP_LEN] = 0x08;
        let len = udp + UDP_LEN + VXLAN_LEN;
        let summed = if v6 {
            &bytes[ip + 8..ip + 40]
        } else {
            &bytes[ip..ip + 20]
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

    /// Its length, bytes.
    #[inline]
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.len as u16
    }

    /// The first `LEN` bytes; zeros behind the header's end.
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

    /// Not folded sum of 16-bit words: of the IPv4 header as it stands here (lengths, TOS and checksum zero), or of
    /// both IPv6 addresses.
    #[inline]
    #[must_use]
    pub const fn sum(&self) -> u32 {
        self.sum
    }
}

/// One way to a VTEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjacency {
    /// The underlay device that frames leave by.
    pub device: DeviceId,
    /// The header to put before the inner frame.
    pub rewrite: OuterHeader,
    /// Longest inner frame (from its destination MAC on) that fits the path's MTU. Bytes.
    pub max_frame: u16,
}

/// A remote VTEP.
#[derive(Debug, Clone)]
pub struct RemoteVtep {
    /// Its address.
    pub vtep: VtepAddr,
    /// At most [`MAX_PATHS`] paths, chosen from by flow hash; a path of weight n stands n times. None = unresolved.
    pub paths: Box<[Adjacency]>,
    /// From (rx) and to (tx) this VTEP, and drops.
    pub counters: Arc<Counters>,
}

impl RemoteVtep {
    /// The path for a flow; the same flow always takes the same path.
    #[inline]
    #[must_use]
    pub fn path(&self, flow_hash: u32) -> Option<&Adjacency> {
        let place = (u64::from(flow_hash) * self.paths.len() as u64) >> 32;
        self.paths.get(place as usize)
    }
}

/// All remote VTEPs.
#[derive(Debug, Clone, Default)]
pub struct VtepTable {
    hops: Vec<Option<Arc<RemoteVtep>>>,
    by_v4: HashMap<u32, VtepId>,
    by_v6: HashMap<u128, VtepId>,
}

impl VtepTable {
    /// The next hop, if it exists.
    #[inline]
    #[must_use]
    pub fn get(&self, id: VtepId) -> Option<&RemoteVtep> {
        self.hops.get(id.index())?.as_deref()
    }

    /// The VTEP with this address.
    #[must_use]
    pub fn by_address(&self, vtep: VtepAddr) -> Option<VtepId> {
        self.by_source(vtep.get())
    }

    /// The VTEP with this address, the outer source of a received packet, which may be any.
    #[inline]
    #[must_use]
    pub fn by_source(&self, address: IpAddr) -> Option<VtepId> {
        match address {
            IpAddr::V4(v4) => self.by_v4.get(&v4.to_bits()).copied(),
            IpAddr::V6(v6) => self.by_v6.get(&v6.to_bits()).copied(),
        }
    }

    /// Sets, replaces or (with `None`) removes one next hop. Of two with one address, the one set last is found by it.
    pub fn set(&mut self, id: VtepId, hop: Option<Arc<RemoteVtep>>) {
        if self.hops.len() <= id.index() {
            self.hops.resize(id.index() + 1, None);
        }
        if let Some(old) = self.hops[id.index()].take()
            && self.by_address(old.vtep) == Some(id)
        {
            match old.vtep.get() {
                IpAddr::V4(v4) => self.by_v4.remove(&v4.to_bits()),
                IpAddr::V6(v6) => self.by_v6.remove(&v6.to_bits()),
            };
        }
        if let Some(new) = &hop {
            match new.vtep.get() {
                IpAddr::V4(v4) => self.by_v4.insert(v4.to_bits(), id),
                IpAddr::V6(v6) => self.by_v6.insert(v6.to_bits(), id),
            };
        }
        self.hops[id.index()] = hop;
    }

    /// Every next hop.
    pub fn iter(&self) -> impl Iterator<Item = (VtepId, &Arc<RemoteVtep>)> {
        (0..)
            .map(VtepId)
            .zip(&self.hops)
            .filter_map(|(id, hop)| Some((id, hop.as_ref()?)))
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

    /// Checks the IP header and the sum that goes with it; returns what follows.
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
    fn headers_parse_as_what_they_were_built_from() {
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

    #[test]
    fn a_removed_next_hop_is_found_no_more() {
        let mut table = VtepTable::default();
        let vtep = "192.0.2.2".parse().unwrap();
        let hop = Arc::new(RemoteVtep {
            vtep,
            paths: Box::new([]),
            counters: Arc::new(Counters::new(1)),
        });
        table.set(VtepId(3), Some(hop));
        assert_eq!(table.by_address(vtep), Some(VtepId(3)));
        assert!(table.get(VtepId(3)).unwrap().path(u32::MAX).is_none());
        table.set(VtepId(3), None);
        assert_eq!(table.by_address(vtep), None);
        assert_eq!(table.iter().count(), 0);
    }

    #[test]
    fn an_address_taken_over_stays_when_its_old_holder_goes() {
        let mut table = VtepTable::default();
        let vtep = "192.0.2.2".parse().unwrap();
        let hop = Arc::new(RemoteVtep {
            vtep,
            paths: Box::new([]),
            counters: Arc::new(Counters::new(1)),
        });
        table.set(VtepId(1), Some(hop.clone()));
        table.set(VtepId(2), Some(hop));
        table.set(VtepId(1), None);
        assert_eq!(table.by_address(vtep), Some(VtepId(2)));
    }

    #[test]
    fn flows_spread_over_all_paths_and_none_is_out_of_range() {
        let path = |device| Adjacency {
            device: DeviceId(device),
            rewrite: OuterHeader::new(&fields("192.0.2.1", "192.0.2.2", None)).unwrap(),
            max_frame: 1450,
        };
        let hop = RemoteVtep {
            vtep: "192.0.2.2".parse().unwrap(),
            paths: (0..3).map(path).collect(),
            counters: Arc::new(Counters::new(1)),
        };
        let device = |hash| hop.path(hash).unwrap().device.0;
        assert_eq!([0, u32::MAX / 2, u32::MAX].map(device), [0, 1, 2]);
    }
}
