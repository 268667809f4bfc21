//! Path attributes: their types, codes and encoding.

use std::net::{IpAddr, Ipv4Addr};

use super::community::ExtendedCommunity;
use super::limits::MAX_SEGMENT_ASNS;
use super::reader::{put_ip, put_u24};

/// Attribute type codes (IANA "BGP Path Attributes").
pub(super) mod code {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MED: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH: u8 = 14;
    pub(crate) const MP_UNREACH: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const PMSI_TUNNEL: u8 = 22;
    pub(crate) const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
}

/// Attribute flags (RFC 4271 section 4.3).
pub(super) mod flag {
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const TRANSITIVE: u8 = 0x40;
    pub(crate) const PARTIAL: u8 = 0x20;
    pub(crate) const EXTENDED: u8 = 0x10;

    /// Well-known attributes are transitive.
    pub(crate) const WELL_KNOWN: u8 = TRANSITIVE;
    pub(crate) const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;
}

/// AS_TRANS: replaces a 4-octet AS number in a 2-octet field (RFC 6793 section 9).
pub const AS_TRANS: u16 = 23456;

/// ORIGIN (RFC 4271 section 5.1.1); the lower value is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp = 0,
    /// Learned via EGP.
    Egp = 1,
    /// Learned by other means.
    Incomplete = 2,
}

/// One segment of an AS_PATH (RFC 4271 section 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AsPathSegment {
    /// AS_SET: counts as one AS in path selection.
    Set(Vec<u32>),
    /// AS_SEQUENCE, nearest AS first.
    Sequence(Vec<u32>),
}

impl AsPathSegment {
    /// The segment type, and the AS numbers in order.
    #[must_use]
    pub const fn parts(&self) -> (u8, &Vec<u32>) {
        match self {
            Self::Set(list) => (1, list),
            Self::Sequence(list) => (2, list),
        }
    }
}

/// AS_PATH (RFC 4271 section 5.1.2), always of 4-octet AS numbers; empty for a route that
/// originates in the local AS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AsPath(pub Vec<AsPathSegment>);

impl std::fmt::Display for AsPath {
    /// As operators write it: numbers separated by spaces, sets in braces.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let join = |list: &[u32], between| {
            list.iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(between)
        };
        let segments = self.0.iter().map(|segment| match segment {
            AsPathSegment::Set(list) => format!("{{{}}}", join(list, ",")),
            AsPathSegment::Sequence(list) => join(list, " "),
        });
        f.write_str(&segments.collect::<Vec<_>>().join(" "))
    }
}

impl AsPath {
    /// Length for path selection: an AS_SET counts as one (RFC 4271 section 9.1.2.2).
    #[must_use]
    pub fn path_len(&self) -> usize {
        self.0
            .iter()
            .map(|s| {
                if let AsPathSegment::Sequence(list) = s {
                    list.len()
                } else {
                    1
                }
            })
            .sum()
    }

    /// True if `asn` occurs anywhere; the local AS means a loop (RFC 4271 section 9.1.2).
    #[must_use]
    pub fn contains(&self, asn: u32) -> bool {
        self.0.iter().any(|s| s.parts().1.contains(&asn))
    }

    /// The leftmost AS, which sent the route; `None` if the first segment is an AS_SET.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.0.first().and_then(|s| {
            if let AsPathSegment::Sequence(list) = s {
                list.first().copied()
            } else {
                None
            }
        })
    }

    /// Prepends an AS, as for an external peer (RFC 4271 section 5.1.2 b).
    pub fn prepend(&mut self, asn: u32) {
        match self.0.first_mut() {
            Some(AsPathSegment::Sequence(list)) if list.len() < MAX_SEGMENT_ASNS => {
                list.insert(0, asn);
            }
            _ => self.0.insert(0, AsPathSegment::Sequence(vec![asn])),
        }
    }
}

/// AGGREGATOR (RFC 4271 section 5.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// The AS that aggregated.
    pub asn: u32,
    /// BGP identifier of the router that aggregated.
    pub router: Ipv4Addr,
}

/// PMSI_TUNNEL (RFC 6514 section 5): the tunnel for BUM traffic to the originator of a type 3
/// route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pmsi {
    /// Flags; bit 0 is Leaf Information Required.
    pub flags: u8,
    /// Raw 24-bit label: the VNI (RFC 8365 section 5.1.3).
    pub label: u32,
    /// The tunnel.
    pub tunnel: PmsiTunnel,
}

/// Tunnel type and identifier of a PMSI_TUNNEL attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PmsiTunnel {
    /// Type 6, ingress replication to this address; `None` if the attribute has none.
    IngressReplication(Option<IpAddr>),
    /// Another defined type, with its identifier as received.
    Other(u8, Vec<u8>),
}

/// An unknown optional transitive attribute: passed on with the Partial bit (RFC 4271 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnknownAttribute {
    /// Flags as received.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value as received.
    pub value: Vec<u8>,
}

/// Path attributes, which all announced routes of one UPDATE share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH.
    pub as_path: AsPath,
    /// Next hop in MP_REACH_NLRI; not validated as a VTEP address.
    pub next_hop: IpAddr,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; `None` from an external peer.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE is present.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<u32>,
    /// ORIGINATOR_ID (RFC 4456); `None` from an external peer.
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456), nearest reflector first; empty from an external peer.
    pub cluster_list: Vec<Ipv4Addr>,
    /// EXTENDED COMMUNITIES (RFC 4360), in the order received.
    pub extended: Vec<ExtendedCommunity>,
    /// PMSI_TUNNEL.
    pub pmsi: Option<Pmsi>,
    /// IPv6 address specific extended communities (RFC 5701).
    pub ipv6_extended: Vec<[u8; 20]>,
    /// LARGE_COMMUNITIES (RFC 8092).
    pub large: Vec<[u32; 3]>,
    /// Unknown optional transitive attributes.
    pub unknown: Vec<UnknownAttribute>,
}

impl Attributes {
    /// Attributes of a local route: ORIGIN IGP, an empty AS_PATH, this next hop, nothing else.
    #[must_use]
    pub const fn local(next_hop: IpAddr) -> Self {
        Self {
            origin: Origin::Igp,
            as_path: AsPath(Vec::new()),
            next_hop,
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Vec::new(),
            originator_id: None,
            cluster_list: Vec::new(),
            extended: Vec::new(),
            pmsi: None,
            ipv6_extended: Vec::new(),
            large: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Appends all attributes but MP_REACH_NLRI, in the order of their codes. `four_octet`: the
    /// peer uses 4-octet AS numbers; if not, AS4_PATH and AS4_AGGREGATOR carry numbers that do not
    /// fit (RFC 6793 section 4.2.2).
    pub(super) fn emit(&self, out: &mut Vec<u8>, four_octet: bool) {
        put(out, flag::WELL_KNOWN, code::ORIGIN, |v| {
            v.push(self.origin as u8);
        });
        // Always with a 2-octet length, as FRR encodes it, so that both are identical on the wire.
        put_extended(out, flag::WELL_KNOWN, code::AS_PATH, |v| {
            emit_path(v, &self.as_path, four_octet);
        });
        if let Some(med) = self.med {
            put(out, flag::OPTIONAL, code::MED, |v| {
                v.extend_from_slice(&med.to_be_bytes());
            });
        }
        if let Some(preference) = self.local_pref {
            put(out, flag::WELL_KNOWN, code::LOCAL_PREF, |v| {
                v.extend_from_slice(&preference.to_be_bytes());
            });
        }
        if self.atomic_aggregate {
            put(out, flag::WELL_KNOWN, code::ATOMIC_AGGREGATE, |_| {});
        }
        if let Some(aggregator) = self.aggregator {
            put(out, flag::OPTIONAL_TRANSITIVE, code::AGGREGATOR, |v| {
                emit_aggregator(v, aggregator, four_octet);
            });
        }
        self.emit_optional(out);
        let wide = |asn: &u32| u16::try_from(*asn).is_err();
        if !four_octet && self.as_path.0.iter().any(|s| s.parts().1.iter().any(wide)) {
            put(out, flag::OPTIONAL_TRANSITIVE, code::AS4_PATH, |v| {
                emit_path(v, &self.as_path, true);
            });
        }
        if let Some(aggregator) = self.aggregator.filter(|a| !four_octet && wide(&a.asn)) {
            put(out, flag::OPTIONAL_TRANSITIVE, code::AS4_AGGREGATOR, |v| {
                emit_aggregator(v, aggregator, true);
            });
        }
        if let Some(pmsi) = &self.pmsi {
            put(out, flag::OPTIONAL_TRANSITIVE, code::PMSI_TUNNEL, |v| {
                pmsi.emit(v);
            });
        }
        if !self.ipv6_extended.is_empty() {
            let value = self.ipv6_extended.as_flattened();
            put(
                out,
                flag::OPTIONAL_TRANSITIVE,
                code::IPV6_EXTENDED_COMMUNITIES,
                |v| v.extend_from_slice(value),
            );
        }
        if !self.large.is_empty() {
            let words = self.large.as_flattened();
            put(
                out,
                flag::OPTIONAL_TRANSITIVE,
                code::LARGE_COMMUNITIES,
                |v| v.extend(words.iter().flat_map(|w| w.to_be_bytes())),
            );
        }
        for unknown in &self.unknown {
            let flags = (unknown.flags & flag::OPTIONAL_TRANSITIVE) | flag::PARTIAL;
            put(out, flags, unknown.code, |v| {
                v.extend_from_slice(&unknown.value);
            });
        }
    }

    fn emit_optional(&self, out: &mut Vec<u8>) {
        if !self.communities.is_empty() {
            let words = self.communities.iter();
            put(out, flag::OPTIONAL_TRANSITIVE, code::COMMUNITIES, |v| {
                v.extend(words.flat_map(|w| w.to_be_bytes()));
            });
        }
        if let Some(id) = self.originator_id {
            put(out, flag::OPTIONAL, code::ORIGINATOR_ID, |v| {
                v.extend_from_slice(&id.octets());
            });
        }
        if !self.cluster_list.is_empty() {
            let ids = self.cluster_list.iter();
            put(out, flag::OPTIONAL, code::CLUSTER_LIST, |v| {
                v.extend(ids.flat_map(|id| id.octets()));
            });
        }
        if !self.extended.is_empty() {
            let all = self.extended.iter();
            put(
                out,
                flag::OPTIONAL_TRANSITIVE,
                code::EXTENDED_COMMUNITIES,
                |v| v.extend(all.flat_map(|c| c.0)),
            );
        }
    }
}

impl Pmsi {
    fn emit(&self, out: &mut Vec<u8>) {
        let kind = if let PmsiTunnel::Other(kind, _) = &self.tunnel {
            *kind
        } else {
            6
        };
        out.extend_from_slice(&[self.flags, kind]);
        put_u24(out, self.label);
        match &self.tunnel {
            PmsiTunnel::IngressReplication(Some(address)) => put_ip(out, *address),
            PmsiTunnel::IngressReplication(None) => {}
            PmsiTunnel::Other(_, identifier) => out.extend_from_slice(identifier),
        }
    }
}

fn emit_path(out: &mut Vec<u8>, path: &AsPath, four_octet: bool) {
    for (kind, list) in path.0.iter().map(AsPathSegment::parts) {
        for chunk in list.chunks(MAX_SEGMENT_ASNS) {
            out.extend_from_slice(&[kind, chunk.len() as u8]);
            for asn in chunk {
                put_asn(out, *asn, four_octet);
            }
        }
    }
}

fn emit_aggregator(out: &mut Vec<u8>, aggregator: Aggregator, four_octet: bool) {
    put_asn(out, aggregator.asn, four_octet);
    out.extend_from_slice(&aggregator.router.octets());
}

fn put_asn(out: &mut Vec<u8>, asn: u32, four_octet: bool) {
    if four_octet {
        out.extend_from_slice(&asn.to_be_bytes());
    } else {
        out.extend_from_slice(&u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
    }
}

/// Appends an attribute, with a 1-octet length if the value fits.
fn put(out: &mut Vec<u8>, flags: u8, code: u8, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[flags, code, 0]);
    value(out);
    let length = out.len() - start - 3;
    if let Ok(short) = u8::try_from(length) {
        out[start + 2] = short;
    } else {
        out[start] |= flag::EXTENDED;
        let [high, low] = (length as u16).to_be_bytes();
        out[start + 2] = high;
        out.insert(start + 3, low);
    }
}

/// Appends an attribute with a 2-octet length.
pub(super) fn put_extended(
    out: &mut Vec<u8>,
    flags: u8,
    code: u8,
    value: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[flags | flag::EXTENDED, code, 0, 0]);
    value(out);
    let length = (out.len() - start - 4) as u16;
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
}
