//! Decoding of UPDATE (RFC 4271 section 4.3, RFC 4760).
//!
//! ```text
//! | withdrawn length: 2 | withdrawn IPv4 | attributes length: 2 | attributes | IPv4 routes |
//!                                            MP_REACH_NLRI, MP_UNREACH_NLRI: EVPN routes
//! ```
//!
//! A decoded [`UpdateMessage`] borrows the message: its routes are decoded during iteration,
//! without allocation. IPv4 routes in the body and other families are delimited and ignored: only
//! EVPN is offered.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;

use super::attribute::Attributes;
use super::attribute_decode::{AttributesBuilder, DecodeContext, RawAttribute, check_flags, split};
use super::attribute_error::{AttrError, AttrErrorAction};
use super::error_code::ErrorCode;
use super::evpn::{EvpnRoute, Nlri, NlriCounts, ParsedNlri};
use super::notification::Notification;
use super::open::AddressFamily;
use super::reader::ByteReader;

/// A change of one of the peer's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteChange {
    /// The route is announced, with the attributes of the UPDATE.
    Announce(EvpnRoute),
    /// The route with this [key](EvpnRoute::key) is withdrawn. Fields outside of the key have no
    /// meaning.
    Withdraw(EvpnRoute),
}

impl RouteChange {
    /// The route that changes.
    #[must_use]
    pub const fn route(&self) -> &EvpnRoute {
        match self {
            Self::Announce(route) | Self::Withdraw(route) => route,
        }
    }
}

/// A decoded UPDATE without its octets; with them it is an [`UpdateMessage`].
#[derive(Debug, Clone)]
pub struct UpdateParts {
    attributes: Option<Arc<Attributes>>,
    errors: Vec<AttrError>,
    withdrawn: Range<usize>,
    announced: Range<usize>,
    add_path: bool,
    withdraw_all: bool,
    skipped: u32,
    malformed: u32,
    end_of_rib: Option<AddressFamily>,
}

/// A decoded UPDATE.
#[derive(Debug, Clone)]
pub struct UpdateMessage<'a> {
    body: &'a [u8],
    parts: UpdateParts,
}

impl<'a> UpdateMessage<'a> {
    /// An UPDATE from its `body` and the result of [`Decoder::decode`] for it.
    #[must_use]
    pub const fn new(body: &'a [u8], parts: UpdateParts) -> Self {
        Self { body, parts }
    }

    fn nlri(&self, range: &Range<usize>) -> Nlri<'a> {
        Nlri::new(
            self.body.get(range.clone()).unwrap_or_default(),
            self.parts.add_path,
        )
    }

    /// The changes, withdrawals first, to be applied in order. Routes treated as withdrawn
    /// (RFC 7606) are already withdrawals here.
    #[must_use]
    pub fn changes(&self) -> RouteChanges<'a> {
        RouteChanges {
            withdrawn: self.nlri(&self.parts.withdrawn),
            announced: self.nlri(&self.parts.announced),
            announce: !self.parts.withdraw_all,
        }
    }

    /// The attributes of all announced routes; `None` if no route is announced. Consecutive UPDATEs
    /// with the same attributes share the [`Arc`], so that a RIB can intern by pointer first.
    #[must_use]
    pub const fn attributes(&self) -> Option<&Arc<Attributes>> {
        self.parts.attributes.as_ref()
    }

    /// Errors, counters and End-of-RIB.
    #[must_use]
    pub const fn parts(&self) -> &UpdateParts {
        &self.parts
    }
}

/// Iterator over the changes of an UPDATE.
#[derive(Debug, Clone)]
pub struct RouteChanges<'a> {
    withdrawn: Nlri<'a>,
    announced: Nlri<'a>,
    /// Announced routes are not treated as withdrawn.
    announce: bool,
}

impl Iterator for RouteChanges<'_> {
    type Item = RouteChange;

    #[inline]
    fn next(&mut self) -> Option<RouteChange> {
        loop {
            let (parsed, announced) = match self.withdrawn.next() {
                Some(parsed) => (parsed, false),
                None => (self.announced.next()?, true),
            };
            match parsed {
                ParsedNlri::Route(route) if announced && self.announce => {
                    return Some(RouteChange::Announce(route));
                }
                ParsedNlri::Route(route) | ParsedNlri::Malformed(route) => {
                    return Some(RouteChange::Withdraw(route));
                }
                ParsedNlri::Unknown => {}
            }
        }
    }
}

impl UpdateParts {
    /// The errors in its attributes.
    #[must_use]
    pub fn errors(&self) -> &[AttrError] {
        &self.errors
    }

    /// The strongest action of all errors; `None` without errors.
    #[must_use]
    pub fn action(&self) -> Option<AttrErrorAction> {
        self.errors.iter().map(|error| error.action).max()
    }

    /// Number of routes skipped because their type is unknown (RFC 7606 section 5.4).
    #[must_use]
    pub const fn skipped(&self) -> u32 {
        self.skipped
    }

    /// Number of malformed announced routes, each treated as withdrawn (RFC 7606 section 5.3).
    #[must_use]
    pub const fn malformed(&self) -> u32 {
        self.malformed
    }

    /// The address family of an End-of-RIB marker (RFC 4724 section 2).
    #[must_use]
    pub const fn end_of_rib(&self) -> Option<AddressFamily> {
        self.end_of_rib
    }
}

/// Decodes the UPDATEs of one session. Caches the attributes of the last one: peers that send one
/// route per message repeat them, and comparing octets is faster than decoding them again.
#[derive(Debug)]
pub struct Decoder {
    context: DecodeContext,
    scratch: Vec<u8>,
    last: Option<(Vec<u8>, Arc<Attributes>)>,
}

impl Decoder {
    /// A decoder for a session that negotiated `context`.
    #[must_use]
    pub const fn new(context: DecodeContext) -> Self {
        Self {
            context,
            scratch: Vec::new(),
            last: None,
        }
    }

    /// Decodes the body of an UPDATE.
    ///
    /// # Errors
    /// The NOTIFICATION to send before the session ends: routes cannot be located or trusted
    /// (RFC 7606 section 3).
    pub fn decode(&mut self, body: &[u8]) -> Result<UpdateParts, Notification> {
        let lengths = || Notification::new(ErrorCode::MALFORMED_ATTRIBUTE_LIST, &[]);
        let mut reader = ByteReader(body);
        let mut section = || {
            reader
                .u16()
                .and_then(|length| reader.bytes(usize::from(length)))
        };
        let (withdrawn4, bytes) = (
            section().ok_or_else(lengths)?,
            section().ok_or_else(lengths)?,
        );
        let routes4 = reader.0;
        check_ipv4(withdrawn4)?;
        check_ipv4(routes4)?;

        let mut errors = Vec::new();
        self.scratch.clear();
        let routes = split(bytes, &mut self.scratch, &mut errors)?;
        if routes.truncated
            && routes.reach.is_none()
            && routes.unreach.is_none()
            && routes4.is_empty()
        {
            // The routes may follow the error; unknown routes cannot be withdrawn
            // (RFC 7606 section 3 j).
            return Err(lengths());
        }
        let (announced, next_hop) = match &routes.reach {
            Some(raw) => self.reach(raw, &mut errors)?,
            None => (NlriSection::default(), None),
        };
        let withdrawn = match &routes.unreach {
            Some(raw) => self.unreach(raw, &mut errors)?,
            None => NlriSection::default(),
        };
        let alone =
            announced.bytes.is_empty() && withdrawn.bytes.is_empty() && self.scratch.is_empty();
        let empty4 = withdrawn4.is_empty() && routes4.is_empty();
        let end_of_rib = match (&routes.reach, withdrawn.family) {
            (None, family @ Some(_)) if alone && empty4 => family,
            (None, None) if bytes.is_empty() && empty4 => Some(AddressFamily::IPV4_UNICAST),
            _ => None,
        };
        let announces = routes.reach.is_some() || !routes4.is_empty();
        let attributes = self.attributes(next_hop, announces, !routes4.is_empty(), &mut errors)?;
        let withdraw_all = errors
            .iter()
            .any(|error| error.action == AttrErrorAction::TreatAsWithdraw);
        let after = |raw: &Option<RawAttribute<'_>>| routes4.len() + raw.map_or(0, |raw| raw.after);
        Ok(UpdateParts {
            attributes: attributes.filter(|_| !withdraw_all && announced.counts.valid > 0),
            errors,
            withdrawn: withdrawn.range(body.len() - after(&routes.unreach)),
            announced: announced.range(body.len() - after(&routes.reach)),
            add_path: self.context.add_path,
            withdraw_all,
            skipped: announced.counts.unknown + withdrawn.counts.unknown,
            malformed: announced.counts.malformed,
            end_of_rib,
        })
    }

    fn attributes(
        &mut self,
        next_hop: Option<IpAddr>,
        announces: bool,
        body_routes: bool,
        errors: &mut Vec<AttrError>,
    ) -> Result<Option<Arc<Attributes>>, Notification> {
        if let Some((octets, last)) = &self.last
            && !body_routes
            && *octets == self.scratch
            && Some(last.next_hop) == next_hop
        {
            return Ok(Some(last.clone()));
        }
        let before = errors.len();
        let unset = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let builder = AttributesBuilder::decode(
            &self.scratch,
            next_hop.unwrap_or(unset),
            body_routes,
            self.context,
            errors,
        )?;
        if !announces {
            return Ok(None);
        }
        let attributes = Arc::new(builder.finish(body_routes, errors));
        if errors.len() == before && next_hop.is_some() {
            let (mut octets, _) = self
                .last
                .take()
                .unwrap_or_else(|| (Vec::new(), attributes.clone()));
            octets.clear();
            octets.extend_from_slice(&self.scratch);
            self.last = Some((octets, attributes.clone()));
        }
        Ok(Some(attributes))
    }

    /// MP_REACH_NLRI: AFI and SAFI 3, next hop length 1, next hop, reserved 1, routes (RFC 4760
    /// section 3).
    fn reach<'a>(
        &self,
        raw: &RawAttribute<'a>,
        errors: &mut Vec<AttrError>,
    ) -> Result<(NlriSection<'a>, Option<IpAddr>), Notification> {
        let malformed = || Notification::new(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR, raw.whole);
        errors.extend(check_flags(raw).err());
        let mut reader = ByteReader(raw.value);
        let family = AddressFamily::read(&mut reader).ok_or_else(malformed)?;
        let octets = usize::from(reader.u8().ok_or_else(malformed)?);
        let mut next_hop = ByteReader(reader.bytes(octets).ok_or_else(malformed)?);
        reader.u8().ok_or_else(malformed)?;
        if family != AddressFamily::EVPN {
            return Ok((
                NlriSection {
                    family: Some(family),
                    ..NlriSection::default()
                },
                None,
            ));
        }
        // An IPv6 next hop may be followed by the link-local address of the same router (RFC 2545
        // section 3), which is of no use to a VTEP.
        let address = if octets == 32 { 16 } else { octets };
        let next_hop = next_hop.ip(address).ok_or_else(malformed)?;
        let counts = Nlri::check(reader.0, self.context.add_path).ok_or_else(malformed)?;
        Ok((
            NlriSection {
                family: Some(family),
                bytes: reader.0,
                counts,
            },
            Some(next_hop),
        ))
    }

    /// MP_UNREACH_NLRI: AFI and SAFI 3, routes (RFC 4760 section 4).
    fn unreach<'a>(
        &self,
        raw: &RawAttribute<'a>,
        errors: &mut Vec<AttrError>,
    ) -> Result<NlriSection<'a>, Notification> {
        let malformed = || Notification::new(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR, raw.whole);
        errors.extend(check_flags(raw).err());
        let mut reader = ByteReader(raw.value);
        let family = AddressFamily::read(&mut reader).ok_or_else(malformed)?;
        if family != AddressFamily::EVPN {
            // With withdrawals it is not an End-of-RIB either.
            let family = reader.0.is_empty().then_some(family);
            return Ok(NlriSection {
                family,
                ..NlriSection::default()
            });
        }
        let counts = Nlri::check(reader.0, self.context.add_path).ok_or_else(malformed)?;
        Ok(NlriSection {
            family: Some(family),
            bytes: reader.0,
            counts,
        })
    }
}

/// The EVPN routes of one attribute.
#[derive(Default)]
struct NlriSection<'a> {
    family: Option<AddressFamily>,
    bytes: &'a [u8],
    counts: NlriCounts,
}

impl NlriSection<'_> {
    /// Range of the routes in the body, whose attribute ends at `end`.
    const fn range(&self, end: usize) -> Range<usize> {
        end - self.bytes.len()..end
    }
}

/// Checks IPv4 routes in the body, which are not used otherwise.
fn check_ipv4(bytes: &[u8]) -> Result<(), Notification> {
    let mut reader = ByteReader(bytes);
    while let Some(bits) = reader.u8() {
        if bits > 32 || reader.bytes(usize::from(bits.div_ceil(8))).is_none() {
            return Err(Notification::new(ErrorCode::INVALID_NETWORK_FIELD, &[]));
        }
    }
    Ok(())
}
