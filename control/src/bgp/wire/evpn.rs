//! EVPN NLRI in MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 7432 section 7, RFC 9136).
//!
//! ```text
//! | type: 1 | length: 1 | value: length octets |  ... repeated to the end of the attribute
//! ```
//!
//! [`Nlri`] iterates over them without allocation. Labels are raw 24-bit numbers
//! (RFC 8365 section 5.1.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vtep_dataplane::addr::MacAddr;

use super::esi::Esi;
use super::rd::Rd;
use super::reader::{ByteReader, put_ip, put_u24};

/// Type 1: Ethernet auto-discovery (RFC 7432 section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EthernetAd {
    /// Route distinguisher.
    pub rd: Rd,
    /// Ethernet segment identifier.
    pub esi: Esi,
    /// Ethernet tag ID; 0xffff_ffff for a route per Ethernet segment.
    pub tag: u32,
    /// Label, 24 bits.
    pub label: u32,
}

/// Type 2: a MAC address, with or without an IP address (RFC 7432 section 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacIp {
    /// Route distinguisher.
    pub rd: Rd,
    /// Ethernet segment identifier of the host.
    pub esi: Esi,
    /// Ethernet tag ID.
    pub tag: u32,
    /// MAC address, as received: not necessarily a unicast address.
    pub mac: MacAddr,
    /// IP address, if the route has one.
    pub ip: Option<IpAddr>,
    /// Label 1, 24 bits: the layer 2 VNI.
    pub label: u32,
    /// Label 2, 24 bits: the layer 3 VNI (RFC 9135).
    pub label2: Option<u32>,
}

/// Type 3: inclusive multicast Ethernet tag (RFC 7432 section 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InclusiveMulticast {
    /// Route distinguisher.
    pub rd: Rd,
    /// Ethernet tag ID.
    pub tag: u32,
    /// Originating router's IP address.
    pub originator: IpAddr,
}

/// Type 4: Ethernet segment (RFC 7432 section 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EthernetSegment {
    /// Route distinguisher.
    pub rd: Rd,
    /// Ethernet segment identifier.
    pub esi: Esi,
    /// Originating router's IP address.
    pub originator: IpAddr,
}

/// Type 5: an IP prefix (RFC 9136 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpPrefix {
    /// Route distinguisher.
    pub rd: Rd,
    /// Ethernet segment identifier as overlay index; zero for none.
    pub esi: Esi,
    /// Ethernet tag ID.
    pub tag: u32,
    /// IP prefix; the gateway is of the same family.
    pub prefix: IpAddr,
    /// Prefix length, in bits: 0 to 32, or to 128 for IPv6.
    pub length: u8,
    /// Gateway IP address as overlay index; unspecified for none.
    pub gateway: IpAddr,
    /// Label, 24 bits: the layer 3 VNI.
    pub label: u32,
}

/// An EVPN route (RFC 7432 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EvpnRoute {
    /// Type 1.
    EthernetAd(EthernetAd),
    /// Type 2.
    MacIp(MacIp),
    /// Type 3.
    InclusiveMulticast(InclusiveMulticast),
    /// Type 4.
    EthernetSegment(EthernetSegment),
    /// Type 5.
    IpPrefix(IpPrefix),
}

impl EvpnRoute {
    /// The names of the route types, from type 1 on.
    pub const TYPES: [&str; 5] = [
        "Ethernet A-D",
        "MAC/IP",
        "inclusive multicast",
        "Ethernet segment",
        "IP prefix",
    ];

    /// The route with all fields outside of its key set to zero. Two routes are the same BGP prefix
    /// if their keys are equal: the ESI of types 2 and 5, the gateway and all labels are not part
    /// of the key (RFC 7432 sections 7.1 and 7.2, RFC 9136 section 3.1). A withdrawal may contain
    /// other labels than the announcement.
    #[must_use]
    pub const fn key(self) -> Self {
        match self {
            Self::EthernetAd(r) => Self::EthernetAd(EthernetAd { label: 0, ..r }),
            Self::MacIp(r) => Self::MacIp(MacIp {
                esi: Esi::ZERO,
                label: 0,
                label2: None,
                ..r
            }),
            Self::IpPrefix(r) => {
                let gateway = match r.gateway {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                Self::IpPrefix(IpPrefix {
                    esi: Esi::ZERO,
                    gateway,
                    label: 0,
                    ..r
                })
            }
            Self::InclusiveMulticast(_) | Self::EthernetSegment(_) => self,
        }
    }

    /// Route type: 1 to the number of [`EvpnRoute::TYPES`].
    #[must_use]
    pub const fn route_type(self) -> u8 {
        match self {
            Self::EthernetAd(_) => 1,
            Self::MacIp(_) => 2,
            Self::InclusiveMulticast(_) => 3,
            Self::EthernetSegment(_) => 4,
            Self::IpPrefix(_) => 5,
        }
    }

    /// Appends type, length and value.
    pub(super) fn emit(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.route_type(), 0]);
        match self {
            Self::EthernetAd(r) => {
                out.extend_from_slice(&r.rd.0);
                out.extend_from_slice(&r.esi.0);
                out.extend_from_slice(&r.tag.to_be_bytes());
                put_u24(out, r.label);
            }
            Self::MacIp(r) => emit_mac_ip(out, &r),
            Self::InclusiveMulticast(r) => {
                out.extend_from_slice(&r.rd.0);
                out.extend_from_slice(&r.tag.to_be_bytes());
                out.push(bits(r.originator));
                put_ip(out, r.originator);
            }
            Self::EthernetSegment(r) => {
                out.extend_from_slice(&r.rd.0);
                out.extend_from_slice(&r.esi.0);
                out.push(bits(r.originator));
                put_ip(out, r.originator);
            }
            Self::IpPrefix(r) => {
                out.extend_from_slice(&r.rd.0);
                out.extend_from_slice(&r.esi.0);
                out.extend_from_slice(&r.tag.to_be_bytes());
                out.push(r.length);
                put_ip(out, r.prefix);
                put_ip(out, r.gateway);
                put_u24(out, r.label);
            }
        }
        // The longest value, an IPv6 prefix, has 58 octets.
        out[start + 1] = (out.len() - start - 2) as u8;
    }
}

fn emit_mac_ip(out: &mut Vec<u8>, r: &MacIp) {
    out.extend_from_slice(&r.rd.0);
    out.extend_from_slice(&r.esi.0);
    out.extend_from_slice(&r.tag.to_be_bytes());
    out.push(48);
    out.extend_from_slice(&r.mac.0);
    out.push(r.ip.map_or(0, bits));
    if let Some(ip) = r.ip {
        put_ip(out, ip);
    }
    put_u24(out, r.label);
    if let Some(label) = r.label2 {
        put_u24(out, label);
    }
}

const fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// One decoded NLRI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParsedNlri {
    /// A valid route.
    Route(EvpnRoute),
    /// Malformed, but with a valid key: treated as withdrawn (RFC 7606 section 5.3).
    Malformed(EvpnRoute),
    /// An unknown type: skipped by its length (RFC 7606 section 5.4).
    Unknown,
}

/// Iterator over octets that [`Nlri::check`] has already accepted, so that iterating cannot fail.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nlri<'a> {
    rest: &'a [u8],
    add_path: bool,
}

/// Number of NLRI of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NlriCounts {
    pub(super) valid: u32,
    pub(super) malformed: u32,
    pub(super) unknown: u32,
}

impl<'a> Nlri<'a> {
    /// Checks and counts all NLRI in `bytes`. `None` if one cannot be delimited, or its key cannot
    /// be decoded: the rest cannot be trusted then. With `add_path` a path identifier precedes each
    /// (RFC 7911).
    pub(super) fn check(bytes: &'a [u8], add_path: bool) -> Option<NlriCounts> {
        let mut nlri = Self::new(bytes, add_path);
        let mut counts = NlriCounts::default();
        while !nlri.rest.is_empty() {
            let (kind, value) = nlri.next_tlv()?;
            if is_valid_mac_ip(kind, value) {
                counts.valid += 1;
                continue;
            }
            match parse(kind, value)? {
                ParsedNlri::Route(_) => counts.valid += 1,
                ParsedNlri::Malformed(_) => counts.malformed += 1,
                ParsedNlri::Unknown => counts.unknown += 1,
            }
        }
        Some(counts)
    }

    pub(super) const fn new(bytes: &'a [u8], add_path: bool) -> Self {
        Self {
            rest: bytes,
            add_path,
        }
    }

    /// Type and value of the next NLRI.
    #[inline]
    fn next_tlv(&mut self) -> Option<(u8, &'a [u8])> {
        let mut reader = ByteReader(self.rest);
        if self.add_path {
            reader.u32()?;
        }
        let [kind, length] = reader.array()?;
        let value = reader.bytes(usize::from(length))?;
        self.rest = reader.0;
        Some((kind, value))
    }
}

impl Iterator for Nlri<'_> {
    type Item = ParsedNlri;

    #[inline]
    fn next(&mut self) -> Option<ParsedNlri> {
        let (kind, value) = self.next_tlv()?;
        parse(kind, value)
    }
}

/// True if [`parse`] returns a valid type 2 route, decided by the lengths alone. A fast path for
/// [`Nlri::check`]: nearly all routes are of type 2.
#[inline]
fn is_valid_mac_ip(kind: u8, value: &[u8]) -> bool {
    // RD 8, ESI 10, tag 4, | MAC length 1 | MAC 6 | IP length 1 | IP, one or two labels.
    const MAC_BITS: usize = 22;
    const IP_BITS: usize = MAC_BITS + 7;
    if kind != 2 || value.len() <= IP_BITS || value[MAC_BITS] != 48 {
        return false;
    }
    match value[IP_BITS] {
        0 => matches!(value.len(), 33 | 36),
        32 => matches!(value.len(), 37 | 40),
        128 => matches!(value.len(), 49 | 52),
        _ => false,
    }
}

fn parse(kind: u8, value: &[u8]) -> Option<ParsedNlri> {
    let reader = ByteReader(value);
    let (route, valid) = match kind {
        1 => ethernet_ad(reader)?,
        2 => mac_ip(reader)?,
        3 => inclusive_multicast(reader)?,
        4 => ethernet_segment(reader)?,
        5 => ip_prefix(reader)?,
        _ => return Some(ParsedNlri::Unknown),
    };
    Some(if valid {
        ParsedNlri::Route(route)
    } else {
        ParsedNlri::Malformed(route)
    })
}

/// Octets of an address by its length in bits; if that is invalid, by the length of the NLRI.
fn address_octets(bits: u8, by_length: Option<usize>) -> Option<usize> {
    match bits {
        0 => Some(0),
        32 => Some(4),
        128 => Some(16),
        _ => by_length,
    }
}

fn ethernet_ad(mut r: ByteReader<'_>) -> Option<(EvpnRoute, bool)> {
    let (rd, esi, tag) = (Rd(r.array()?), Esi(r.array()?), r.u32()?);
    let valid = r.0.len() == 3;
    let label = r.u24().unwrap_or(0);
    Some((
        EvpnRoute::EthernetAd(EthernetAd {
            rd,
            esi,
            tag,
            label,
        }),
        valid,
    ))
}

fn mac_ip(mut r: ByteReader<'_>) -> Option<(EvpnRoute, bool)> {
    let by_length = match r.0.len() {
        33 | 36 => Some(0),
        37 | 40 => Some(4),
        49 | 52 => Some(16),
        _ => None,
    };
    let (rd, esi, tag, mac_bits) = (Rd(r.array()?), Esi(r.array()?), r.u32()?, r.u8()?);
    let (mac, ip_bits) = (MacAddr(r.array()?), r.u8()?);
    let octets = address_octets(ip_bits, by_length)?;
    let ip = if octets == 0 {
        None
    } else {
        Some(r.ip(octets)?)
    };
    let valid = mac_bits == 48 && matches!(ip_bits, 0 | 32 | 128) && matches!(r.0.len(), 3 | 6);
    let label = r.u24().unwrap_or(0);
    let label2 = r.u24();
    Some((
        EvpnRoute::MacIp(MacIp {
            rd,
            esi,
            tag,
            mac,
            ip,
            label,
            label2,
        }),
        valid,
    ))
}

fn inclusive_multicast(mut r: ByteReader<'_>) -> Option<(EvpnRoute, bool)> {
    let by_length = match r.0.len() {
        17 => Some(4),
        29 => Some(16),
        _ => None,
    };
    let (rd, tag, ip_bits) = (Rd(r.array()?), r.u32()?, r.u8()?);
    let originator = r.ip(address_octets(ip_bits, by_length)?)?;
    let valid = bits(originator) == ip_bits && r.0.is_empty();
    Some((
        EvpnRoute::InclusiveMulticast(InclusiveMulticast {
            rd,
            tag,
            originator,
        }),
        valid,
    ))
}

fn ethernet_segment(mut r: ByteReader<'_>) -> Option<(EvpnRoute, bool)> {
    let by_length = match r.0.len() {
        23 => Some(4),
        35 => Some(16),
        _ => None,
    };
    let (rd, esi, ip_bits) = (Rd(r.array()?), Esi(r.array()?), r.u8()?);
    let originator = r.ip(address_octets(ip_bits, by_length)?)?;
    let valid = bits(originator) == ip_bits && r.0.is_empty();
    Some((
        EvpnRoute::EthernetSegment(EthernetSegment {
            rd,
            esi,
            originator,
        }),
        valid,
    ))
}

fn ip_prefix(mut r: ByteReader<'_>) -> Option<(EvpnRoute, bool)> {
    let octets = match r.0.len() {
        34 => 4,
        58 => 16,
        _ => return None,
    };
    let (rd, esi, tag, length) = (Rd(r.array()?), Esi(r.array()?), r.u32()?, r.u8()?);
    let (prefix, gateway, label) = (r.ip(octets)?, r.ip(octets)?, r.u24()?);
    let valid = length <= bits(prefix);
    Some((
        EvpnRoute::IpPrefix(IpPrefix {
            rd,
            esi,
            tag,
            prefix,
            length,
            gateway,
            label,
        }),
        valid,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(address: IpAddr) -> String {
        let field = if address.is_ipv4() { "ip" } else { "ipv6" };
        format!("{field}.addr={address}")
    }

    fn rd(rd: Rd) -> String {
        format!("{:016x}", u64::from_be_bytes(rd.0))
    }

    fn esi(esi: Esi) -> String {
        esi.to_string().replace(':', "")
    }

    impl EvpnRoute {
        /// The route in the format of `tests/golden/bgp-read`, for the tests of whole messages.
        pub(in crate::bgp) fn as_golden(self) -> String {
            match self {
                Self::EthernetAd(r) => {
                    let (rd, esi) = (rd(r.rd), esi(r.esi));
                    format!("1 rd={rd} esi={esi} etag={} labels={:06x}", r.tag, r.label)
                }
                Self::MacIp(r) => {
                    let address = r.ip.map_or(String::new(), |a| format!(" {}", ip(a)));
                    let second = r.label2.map_or(String::new(), |l| format!(",{l:06x}"));
                    let (rd, esi, length) = (rd(r.rd), esi(r.esi), r.ip.map_or(0, bits));
                    format!(
                        "2 rd={rd} esi={esi} etag={} mac_addr={} iplen={length}{address} labels={:06x}{second}",
                        r.tag, r.mac, r.label
                    )
                }
                Self::InclusiveMulticast(r) => {
                    let (rd, length, from) = (rd(r.rd), bits(r.originator), ip(r.originator));
                    format!("3 rd={rd} etag={} iplen={length} {from}", r.tag)
                }
                Self::EthernetSegment(r) => {
                    let (length, from) = (bits(r.originator), ip(r.originator));
                    format!("4 rd={} esi={} iplen={length} {from}", rd(r.rd), esi(r.esi))
                }
                Self::IpPrefix(r) => {
                    let family = if r.gateway.is_ipv4() { "ipv4" } else { "ipv6" };
                    format!(
                        "5 rd={} esi={} etag={} prefix_len={} {} {family}.gtw_addr={} labels={:06x}",
                        rd(r.rd),
                        esi(r.esi),
                        r.tag,
                        r.length,
                        ip(r.prefix),
                        r.gateway,
                        r.label
                    )
                }
            }
        }
    }

    #[test]
    fn every_type_that_is_decoded_has_a_name() {
        for kind in 0..=u8::MAX {
            let known = parse(kind, &[]) != Some(ParsedNlri::Unknown);
            let named = (1..=EvpnRoute::TYPES.len()).contains(&usize::from(kind));
            assert_eq!(known, named, "type {kind}");
        }
    }

    /// Values close to a valid type 2 route: of any length, with any length fields.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let bits = prop_oneof![Just(0_u8), Just(32), Just(48), Just(128), any::<u8>()];
        let length = prop_oneof![
            prop::sample::select(vec![33_usize, 36, 37, 40, 49, 52]),
            0..60_usize
        ];
        let octets = length.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length));
        (octets, bits.clone(), bits).prop_map(|(mut value, mac, ip)| {
            value.get_mut(22).into_iter().for_each(|octet| *octet = mac);
            value.get_mut(29).into_iter().for_each(|octet| *octet = ip);
            value
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn lengths_decide_whether_a_type_2_is_valid(
            kind in prop_oneof![Just(2_u8), 0..7_u8],
            value in value(),
        ) {
            let valid = matches!(parse(kind, &value), Some(ParsedNlri::Route(EvpnRoute::MacIp(_))));
            prop_assert_eq!(is_valid_mac_ip(kind, &value), valid);
        }
    }
}
