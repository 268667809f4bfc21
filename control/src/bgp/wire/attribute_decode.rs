//! Decoding of path attributes with the revised error handling of RFC 7606: each error has an
//! action, and the strongest applies.
//!
//! ```text
//! octets -> split: framing, duplicates -> MP_REACH, MP_UNREACH: they hold the routes
//!                                      -> the others, once each -> AttributesBuilder -> Attributes
//! ```
//!
//! A session reset is an `Err(Notification)`; weaker actions are [`AttrError`]s in a list.

use std::net::{IpAddr, Ipv4Addr};

use super::attribute::{
    Aggregator, AsPath, AsPathSegment, Attributes, Origin, Pmsi, PmsiTunnel, UnknownAttribute,
};
use super::attribute::{code, flag};
use super::attribute_error::AttrError;
use super::community::ExtendedCommunity;
use super::error_code::ErrorCode;
use super::notification::Notification;
use super::reader::ByteReader;

/// What decoding of an UPDATE depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeContext {
    /// AS numbers have 4 octets (RFC 6793).
    pub four_octet: bool,
    /// The session is internal (iBGP).
    pub internal: bool,
    /// A path identifier precedes each EVPN route (RFC 7911). Never offered; for recorded messages.
    pub add_path: bool,
}

/// An attribute as encoded in the message.
#[derive(Clone, Copy)]
pub(super) struct RawAttribute<'a> {
    pub(super) flags: u8,
    pub(super) code: u8,
    pub(super) value: &'a [u8],
    /// Flags, code, length and value.
    pub(super) whole: &'a [u8],
    /// Octets of the attributes after this one.
    pub(super) after: usize,
}

/// The two attributes that contain routes (RFC 4760).
#[derive(Default)]
pub(super) struct MpAttributes<'a> {
    pub(super) reach: Option<RawAttribute<'a>>,
    pub(super) unreach: Option<RawAttribute<'a>>,
    /// The last attribute overruns the attribute list; the rest is lost.
    pub(super) truncated: bool,
}

fn next<'a>(reader: &mut ByteReader<'a>) -> Option<RawAttribute<'a>> {
    let all = reader.0;
    let [flags, code] = reader.array()?;
    let extended = flags & flag::EXTENDED != 0;
    let length = if extended {
        usize::from(reader.u16()?)
    } else {
        usize::from(reader.u8()?)
    };
    let value = reader.bytes(length)?;
    Some(RawAttribute {
        flags,
        code,
        value,
        whole: &all[..all.len() - reader.0.len()],
        after: reader.0.len(),
    })
}

/// Splits the attribute list. The first attribute of each code is appended to `others` as encoded,
/// except for those with routes.
///
/// # Errors
/// 3/1 Malformed Attribute List if an attribute with routes occurs twice or is truncated
/// (RFC 7606 sections 3 g and 5.3).
pub(super) fn split<'a>(
    bytes: &'a [u8],
    others: &mut Vec<u8>,
    errors: &mut Vec<AttrError>,
) -> Result<MpAttributes<'a>, Notification> {
    let mut routes = MpAttributes::default();
    let mut seen = [0_u64; 4];
    let mut reader = ByteReader(bytes);
    while !reader.0.is_empty() {
        let start = reader.0;
        let Some(raw) = next(&mut reader) else {
            let code = start.get(1).copied().unwrap_or(0);
            if matches!(code, code::MP_REACH | code::MP_UNREACH) {
                return Err(Notification::new(ErrorCode::MALFORMED_ATTRIBUTE_LIST, &[]));
            }
            errors.push(AttrError::treat_as_withdraw(
                code,
                "overruns the attribute list",
            ));
            routes.truncated = true;
            return Ok(routes);
        };
        let (word, bit) = (usize::from(raw.code >> 6), 1_u64 << (raw.code & 63));
        let duplicate = seen[word] & bit != 0;
        seen[word] |= bit;
        match raw.code {
            code::MP_REACH | code::MP_UNREACH if duplicate => {
                return Err(Notification::new(ErrorCode::MALFORMED_ATTRIBUTE_LIST, &[]));
            }
            _ if duplicate => errors.push(AttrError::discard(raw.code, "is a duplicate")),
            code::MP_REACH => routes.reach = Some(raw),
            code::MP_UNREACH => routes.unreach = Some(raw),
            _ => others.extend_from_slice(raw.whole),
        }
    }
    Ok(routes)
}

/// The Optional and Transitive flags that an attribute must have; `None` for an unknown attribute.
const fn expected_flags(attribute: u8) -> Option<u8> {
    match attribute {
        code::ORIGIN
        | code::AS_PATH
        | code::NEXT_HOP
        | code::LOCAL_PREF
        | code::ATOMIC_AGGREGATE => Some(flag::WELL_KNOWN),
        code::MED
        | code::ORIGINATOR_ID
        | code::CLUSTER_LIST
        | code::MP_REACH
        | code::MP_UNREACH => Some(flag::OPTIONAL),
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::PMSI_TUNNEL
        | code::IPV6_EXTENDED_COMMUNITIES
        | code::LARGE_COMMUNITIES => Some(flag::OPTIONAL_TRANSITIVE),
        _ => None,
    }
}

/// Checks the Optional and Transitive flags (RFC 7606 section 3 c).
pub(super) fn check_flags(raw: &RawAttribute<'_>) -> Result<(), AttrError> {
    let invalid =
        expected_flags(raw.code).is_some_and(|want| raw.flags & flag::OPTIONAL_TRANSITIVE != want);
    if invalid {
        Err(AttrError::treat_as_withdraw(raw.code, "has invalid flags"))
    } else {
        Ok(())
    }
}

/// Attributes while they are decoded.
pub(super) struct AttributesBuilder {
    attributes: Attributes,
    origin: bool,
    path: bool,
    next_hop: bool,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
}

impl AttributesBuilder {
    /// Decodes all of `others`, which [`split`] filled. Without `body_routes`, NEXT_HOP is ignored,
    /// whatever it holds: the next hop of routes in MP_REACH_NLRI is there too (RFC 4760 section
    /// 3).
    ///
    /// # Errors
    /// 3/2 Unrecognized Well-known Attribute.
    pub(super) fn decode(
        others: &[u8],
        next_hop: IpAddr,
        body_routes: bool,
        context: DecodeContext,
        errors: &mut Vec<AttrError>,
    ) -> Result<Self, Notification> {
        let mut builder = Self {
            attributes: Attributes::local(next_hop),
            origin: false,
            path: false,
            next_hop: false,
            as4_path: None,
            as4_aggregator: None,
        };
        let mut reader = ByteReader(others);
        while let Some(raw) = next(&mut reader) {
            if raw.code == code::NEXT_HOP && !body_routes {
                continue;
            }
            if expected_flags(raw.code).is_none() {
                builder.add_unknown(&raw)?;
                continue;
            }
            if let Err(error) = check_flags(&raw).and_then(|()| builder.set(&raw, context)) {
                errors.push(error);
            }
        }
        if !context.four_octet {
            builder.merge_as4();
        }
        Ok(builder)
    }

    /// The attributes; adds an error for each missing mandatory one. NEXT_HOP is mandatory only for
    /// routes in the body of the UPDATE.
    pub(super) fn finish(self, body_routes: bool, errors: &mut Vec<AttrError>) -> Attributes {
        if !self.origin {
            errors.push(AttrError::treat_as_withdraw(code::ORIGIN, "is missing"));
        }
        if !self.path {
            errors.push(AttrError::treat_as_withdraw(code::AS_PATH, "is missing"));
        }
        if body_routes && !self.next_hop {
            errors.push(AttrError::treat_as_withdraw(code::NEXT_HOP, "is missing"));
        }
        self.attributes
    }

    fn add_unknown(&mut self, raw: &RawAttribute<'_>) -> Result<(), Notification> {
        if raw.flags & flag::OPTIONAL == 0 {
            return Err(Notification::new(
                ErrorCode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
                raw.whole,
            ));
        }
        if raw.flags & flag::TRANSITIVE != 0 {
            let value = raw.value.to_vec();
            self.attributes.unknown.push(UnknownAttribute {
                flags: raw.flags,
                code: raw.code,
                value,
            });
        }
        Ok(())
    }

    fn set(&mut self, raw: &RawAttribute<'_>, context: DecodeContext) -> Result<(), AttrError> {
        let attributes = &mut self.attributes;
        let (code, value) = (raw.code, raw.value);
        let length = || AttrError::treat_as_withdraw(code, "has an invalid length");
        match code {
            code::ORIGIN => {
                self.origin = true;
                attributes.origin = origin(value)?;
            }
            code::AS_PATH => {
                self.path = true;
                attributes.as_path = as_path(value, context.four_octet)
                    .map_err(|w| AttrError::treat_as_withdraw(code, w))?;
            }
            code::NEXT_HOP => {
                self.next_hop = true;
                body_next_hop(value)?;
            }
            code::MED => attributes.med = Some(word(value).ok_or_else(length)?),
            code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST => {
                if !context.internal {
                    return Err(AttrError::discard(code, "comes from an external peer"));
                }
                self.set_internal(code, value)?;
            }
            code::ATOMIC_AGGREGATE => {
                if !value.is_empty() {
                    return Err(AttrError::discard(code, "has an invalid length"));
                }
                attributes.atomic_aggregate = true;
            }
            code::AGGREGATOR => {
                let read = aggregator(value, context.four_octet);
                attributes.aggregator =
                    Some(read.ok_or(AttrError::discard(code, "has an invalid length"))?);
            }
            // Both are discarded from a peer with 4-octet AS numbers (RFC 6793 section 4.1).
            code::AS4_PATH | code::AS4_AGGREGATOR if context.four_octet => {
                return Err(AttrError::discard(
                    code,
                    "comes from a peer with 4-octet AS numbers",
                ));
            }
            code::AS4_PATH => {
                self.as4_path =
                    Some(as_path(value, true).map_err(|w| AttrError::treat_as_withdraw(code, w))?);
            }
            code::AS4_AGGREGATOR => {
                let read = aggregator(value, true);
                self.as4_aggregator =
                    Some(read.ok_or(AttrError::discard(code, "has an invalid length"))?);
            }
            code::PMSI_TUNNEL => {
                attributes.pmsi =
                    Some(pmsi(value).map_err(|w| AttrError::treat_as_withdraw(code, w))?);
            }
            _ => return self.set_list(code, value).ok_or_else(length),
        }
        Ok(())
    }

    fn set_internal(&mut self, code: u8, value: &[u8]) -> Result<(), AttrError> {
        let length = AttrError::treat_as_withdraw(code, "has an invalid length");
        if code == code::CLUSTER_LIST {
            let ids = chunks::<4>(value).ok_or(length)?;
            self.attributes.cluster_list = ids.iter().map(|id| Ipv4Addr::from(*id)).collect();
            return Ok(());
        }
        let number = word(value).ok_or(length)?;
        if code == code::LOCAL_PREF {
            self.attributes.local_pref = Some(number);
        } else {
            self.attributes.originator_id = Some(Ipv4Addr::from(number));
        }
        Ok(())
    }

    /// The four attributes that are lists of fixed-size entries; `None` for an invalid length.
    fn set_list(&mut self, code: u8, value: &[u8]) -> Option<()> {
        let attributes = &mut self.attributes;
        match code {
            code::COMMUNITIES => {
                attributes.communities = chunks::<4>(value)?
                    .iter()
                    .map(|c| u32::from_be_bytes(*c))
                    .collect();
            }
            code::EXTENDED_COMMUNITIES => {
                attributes.extended = chunks::<8>(value)?
                    .iter()
                    .map(|c| ExtendedCommunity(*c))
                    .collect();
            }
            code::IPV6_EXTENDED_COMMUNITIES => {
                attributes.ipv6_extended = chunks::<20>(value)?.to_vec();
            }
            _ => {
                let words = |c: &[u8; 12]| {
                    let part =
                        |at: usize| u32::from_be_bytes([c[at], c[at + 1], c[at + 2], c[at + 3]]);
                    [part(0), part(4), part(8)]
                };
                attributes.large = chunks::<12>(value)?.iter().map(words).collect();
            }
        }
        Some(())
    }

    /// Merges AS4_PATH and AS4_AGGREGATOR into AS_PATH and AGGREGATOR (RFC 6793 section 4.2.3).
    fn merge_as4(&mut self) {
        let aggregator_as = self.attributes.aggregator.map(|a| a.asn);
        if aggregator_as.is_some_and(|asn| asn != u32::from(super::attribute::AS_TRANS)) {
            // An AGGREGATOR other than AS_TRANS is newer than AS4_AGGREGATOR and AS4_PATH.
            return;
        }
        if aggregator_as.is_some() && self.as4_aggregator.is_some() {
            self.attributes.aggregator = self.as4_aggregator;
        }
        let Some(as4_path) = self.as4_path.take() else {
            return;
        };
        let Some(mut missing) = self
            .attributes
            .as_path
            .path_len()
            .checked_sub(as4_path.path_len())
        else {
            return;
        };
        let mut merged = Vec::new();
        for segment in &self.attributes.as_path.0 {
            match segment {
                _ if missing == 0 => break,
                AsPathSegment::Set(_) => {
                    missing -= 1;
                    merged.push(segment.clone());
                }
                AsPathSegment::Sequence(list) => {
                    let take = missing.min(list.len());
                    missing -= take;
                    merged.push(AsPathSegment::Sequence(list[..take].to_vec()));
                }
            }
        }
        merged.extend(as4_path.0);
        self.attributes.as_path = AsPath(merged);
    }
}

fn origin(value: &[u8]) -> Result<Origin, AttrError> {
    match value {
        [0] => Ok(Origin::Igp),
        [1] => Ok(Origin::Egp),
        [2] => Ok(Origin::Incomplete),
        [_] => Err(AttrError::treat_as_withdraw(
            code::ORIGIN,
            "is greater than 2",
        )),
        _ => Err(AttrError::treat_as_withdraw(
            code::ORIGIN,
            "has an invalid length",
        )),
    }
}

/// NEXT_HOP applies only to IPv4 routes in the body, which are not used: it is validated, not kept.
fn body_next_hop(value: &[u8]) -> Result<(), AttrError> {
    match value {
        [0 | 127 | 224.., _, _, _] => Err(AttrError::treat_as_withdraw(
            code::NEXT_HOP,
            "is not a unicast address",
        )),
        [_, _, _, _] => Ok(()),
        _ => Err(AttrError::treat_as_withdraw(
            code::NEXT_HOP,
            "has an invalid length",
        )),
    }
}

fn word(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Splits `value` into entries of N octets; `None` unless there is at least one and no remainder.
fn chunks<const N: usize>(value: &[u8]) -> Option<&[[u8; N]]> {
    let (entries, rest) = value.as_chunks::<N>();
    (rest.is_empty() && !entries.is_empty()).then_some(entries)
}

fn asn(reader: &mut ByteReader<'_>, four_octet: bool) -> Option<u32> {
    if four_octet {
        reader.u32()
    } else {
        reader.u16().map(u32::from)
    }
}

fn aggregator(value: &[u8], four_octet: bool) -> Option<Aggregator> {
    let mut reader = ByteReader(value);
    let aggregator = Aggregator {
        asn: asn(&mut reader, four_octet)?,
        router: reader.u32()?.into(),
    };
    reader.0.is_empty().then_some(aggregator)
}

fn as_path(value: &[u8], four_octet: bool) -> Result<AsPath, &'static str> {
    const OVERRUN: &str = "has a segment that overruns it";
    let mut reader = ByteReader(value);
    let mut segments = Vec::new();
    while !reader.0.is_empty() {
        let [kind, count] = reader.array().ok_or(OVERRUN)?;
        if count == 0 {
            return Err("has an empty segment");
        }
        let mut list = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            list.push(asn(&mut reader, four_octet).ok_or(OVERRUN)?);
        }
        if list.contains(&0) {
            return Err("contains AS 0 (RFC 7607)");
        }
        segments.push(match kind {
            1 => AsPathSegment::Set(list),
            2 => AsPathSegment::Sequence(list),
            _ => return Err("has a segment of unknown type"),
        });
    }
    Ok(AsPath(segments))
}

fn pmsi(value: &[u8]) -> Result<Pmsi, &'static str> {
    let mut reader = ByteReader(value);
    let (Some([flags, kind]), Some(label)) = (reader.array(), reader.u24()) else {
        return Err("is shorter than 5 octets");
    };
    let rest = reader.0;
    let tunnel = match kind {
        6 if rest.is_empty() => PmsiTunnel::IngressReplication(None),
        6 => PmsiTunnel::IngressReplication(Some(
            reader
                .ip(rest.len())
                .ok_or("has an invalid tunnel address")?,
        )),
        // RFC 6514 section 5 defines 0 to 7; RFC 7524, 8317 and 8556 add 8 to 12, and 0x7b to 0x7f
        // are experimental or reserved.
        0..=12 | 0x7b..=0x7f => PmsiTunnel::Other(kind, rest.to_vec()),
        _ => return Err("has an undefined tunnel type"),
    };
    Ok(Pmsi {
        flags,
        label,
        tunnel,
    })
}
