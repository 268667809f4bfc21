//! UPDATE (RFC 4271 section 4.3, RFC 4760): reading one, and packing many routes into few.
//!
//! ```text
//! | withdrawn length: 2 | withdrawn IPv4 | attributes length: 2 | attributes | IPv4 routes |
//!                                           MP_REACH_NLRI (14), MP_UNREACH_NLRI (15): the EVPN routes
//! ```
//!
//! A read [`UpdateMessage`] borrows the message: its routes are decoded while they are walked, without allocation.
//! IPv4 routes in the body and other families are delimited, then ignored: we offer EVPN only.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;

use super::attribute::{Attributes, code, put_extended};
use super::attribute_decode::{
    AttrError, AttrErrorAction, AttributesBuilder, DecodeContext, RawAttribute, check_flags, split,
};
use super::error_code::ErrorCode;
use super::evpn::{EvpnRoute, Nlri, ParsedNlri};
use super::header::{MessageType, finish, start};
use super::limits::{END_OF_RIB_LEN, HEADER_LEN, MARKER_LEN, MAX_EVPN_ROUTE_LEN, MIN_UPDATE_LEN};
use super::notification::Notification;
use super::open::AddressFamily;
use super::reader::{ByteReader, put_ip};

/// One change of the peer's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteChange {
    /// The route is there, with the attributes of the UPDATE.
    Announce(EvpnRoute),
    /// The route with this [key](EvpnRoute::key) is gone. Fields outside of the key say nothing.
    Withdraw(EvpnRoute),
}

impl RouteChange {
    /// The route that it is about.
    #[must_use]
    pub const fn route(&self) -> &EvpnRoute {
        match self {
            Self::Announce(route) | Self::Withdraw(route) => route,
        }
    }
}

/// What an UPDATE holds besides its octets; with them it is an [`UpdateMessage`].
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
    /// Puts together what [`Decoder::decode`] made of `body`, and `body`.
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

    /// What changes, withdrawals first. All that is to be treated as withdrawn (RFC 7606) is so here already:
    /// applying these changes in order is all there is to do.
    #[must_use]
    pub fn changes(&self) -> RouteChanges<'a> {
        RouteChanges {
            withdrawn: self.nlri(&self.parts.withdrawn),
            announced: self.nlri(&self.parts.announced),
            keep: !self.parts.withdraw_all,
        }
    }

    /// The attributes of all announced routes; None if no route is announced. Updates in a row with the same
    /// attributes share them, which a RIB may use to intern them by pointer first.
    #[must_use]
    pub const fn attributes(&self) -> Option<&Arc<Attributes>> {
        self.parts.attributes.as_ref()
    }

    /// All else that is known of it.
    #[must_use]
    pub const fn parts(&self) -> &UpdateParts {
        &self.parts
    }
}

/// The changes of an UPDATE, decoded one by one.
#[derive(Debug, Clone)]
pub struct RouteChanges<'a> {
    withdrawn: Nlri<'a>,
    announced: Nlri<'a>,
    /// What is announced is so, and not to be treated as withdrawn.
    keep: bool,
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
                ParsedNlri::Route(route) if announced && self.keep => {
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
    /// What is wrong with it; usually nothing.
    #[must_use]
    pub fn errors(&self) -> &[AttrError] {
        &self.errors
    }

    /// The strongest action of all errors.
    #[must_use]
    pub fn action(&self) -> Option<AttrErrorAction> {
        self.errors.iter().map(|error| error.action).max()
    }

    /// Routes of types that we don't know, skipped (RFC 7606 section 5.4).
    #[must_use]
    pub const fn skipped(&self) -> u32 {
        self.skipped
    }

    /// Announced routes that are malformed, and therefore withdrawn, one by one.
    #[must_use]
    pub const fn malformed(&self) -> u32 {
        self.malformed
    }

    /// The family whose first table is complete with this message (RFC 4724 section 2).
    #[must_use]
    pub const fn end_of_rib(&self) -> Option<AddressFamily> {
        self.end_of_rib
    }
}

/// Reads the UPDATEs of one session. Keeps the attributes of the last one: peers that send one route a message
/// repeat them, and comparing octets is quicker than reading them again.
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

    /// Reads the body of an UPDATE.
    ///
    /// # Errors
    /// The NOTIFICATION that has to end the session, where routes can't be found or trusted (RFC 7606 section 3).
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
            // The routes may be behind the error: without them nothing can be withdrawn (RFC 7606 section 3 j).
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
            attributes: attributes.filter(|_| !withdraw_all && announced.counts.sound > 0),
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
        let draft = AttributesBuilder::read(
            &self.scratch,
            next_hop.unwrap_or(unset),
            self.context,
            errors,
        )?;
        if !announces {
            return Ok(None);
        }
        let attributes = Arc::new(draft.finish(body_routes, errors));
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

    /// MP_REACH_NLRI: family 3, next hop length 1, next hop, reserved 1, routes (RFC 4760 section 3).
    fn reach<'a>(
        &self,
        raw: &RawAttribute<'a>,
        errors: &mut Vec<AttrError>,
    ) -> Result<(NlriSection<'a>, Option<IpAddr>), Notification> {
        let wrong = || Notification::new(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR, raw.whole);
        errors.extend(check_flags(raw).err());
        let mut reader = ByteReader(raw.value);
        let family = AddressFamily::read(&mut reader).ok_or_else(wrong)?;
        let octets = usize::from(reader.u8().ok_or_else(wrong)?);
        let mut next_hop = ByteReader(reader.bytes(octets).ok_or_else(wrong)?);
        reader.u8().ok_or_else(wrong)?;
        if family != AddressFamily::EVPN {
            return Ok((
                NlriSection {
                    family: Some(family),
                    ..NlriSection::default()
                },
                None,
            ));
        }
        let next_hop = next_hop.ip(octets).ok_or_else(wrong)?;
        let counts = Nlri::check(reader.0, self.context.add_path).ok_or_else(wrong)?;
        Ok((
            NlriSection {
                family: Some(family),
                bytes: reader.0,
                counts,
            },
            Some(next_hop),
        ))
    }

    /// MP_UNREACH_NLRI: family 3, routes (RFC 4760 section 4).
    fn unreach<'a>(
        &self,
        raw: &RawAttribute<'a>,
        errors: &mut Vec<AttrError>,
    ) -> Result<NlriSection<'a>, Notification> {
        let wrong = || Notification::new(ErrorCode::OPTIONAL_ATTRIBUTE_ERROR, raw.whole);
        errors.extend(check_flags(raw).err());
        let mut reader = ByteReader(raw.value);
        let family = AddressFamily::read(&mut reader).ok_or_else(wrong)?;
        if family != AddressFamily::EVPN {
            // Not End-of-RIB either if it withdraws something.
            let family = reader.0.is_empty().then_some(family);
            return Ok(NlriSection {
                family,
                ..NlriSection::default()
            });
        }
        let counts = Nlri::check(reader.0, self.context.add_path).ok_or_else(wrong)?;
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
    counts: super::evpn::NlriCounts,
}

impl NlriSection<'_> {
    /// Where the routes stand in the body, given where their attribute ends.
    const fn range(&self, end: usize) -> Range<usize> {
        end - self.bytes.len()..end
    }
}

/// Walks IPv4 routes of the body, which are not used.
fn check_ipv4(bytes: &[u8]) -> Result<(), Notification> {
    let mut reader = ByteReader(bytes);
    while let Some(bits) = reader.u8() {
        if bits > 32 || reader.bytes(usize::from(bits.div_ceil(8))).is_none() {
            return Err(Notification::new(ErrorCode::INVALID_NETWORK_FIELD, &[]));
        }
    }
    Ok(())
}

/// How UPDATEs to one peer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// The peer reads AS numbers of 4 octets.
    pub four_octet: bool,
    /// The longest message that the peer reads: 4096 or 65535 octets.
    pub limit: usize,
}

/// Announces routes that share attributes, as many in each message as fit; each message goes to `sink` in a buffer
/// that is used again. Returns false, and has sent nothing, if the attributes leave no room for a route.
pub fn announce(
    attributes: &Attributes,
    routes: impl IntoIterator<Item = EvpnRoute>,
    encoding: Encoding,
    mut sink: impl FnMut(&[u8]),
) -> bool {
    let mut others = Vec::new();
    attributes.emit(&mut others, encoding.four_octet);
    let next_hop = attributes.next_hop;
    let around = MIN_UPDATE_LEN + 4 + 3 + 1 + 16 + 1 + others.len();
    if around + MAX_EVPN_ROUTE_LEN > encoding.limit {
        return false;
    }
    let head = |out: &mut Vec<u8>| {
        AddressFamily::EVPN.emit(out);
        out.push(if next_hop.is_ipv4() { 4 } else { 16 });
        put_ip(out, next_hop);
        out.push(0);
    };
    pack(
        code::MP_REACH,
        head,
        &others,
        routes,
        encoding.limit,
        &mut sink,
    );
    true
}

/// Withdraws routes, as many in each message as fit into `limit` octets.
pub fn withdraw(
    routes: impl IntoIterator<Item = EvpnRoute>,
    limit: usize,
    mut sink: impl FnMut(&[u8]),
) {
    pack(
        code::MP_UNREACH,
        |out| AddressFamily::EVPN.emit(out),
        &[],
        routes,
        limit,
        &mut sink,
    );
}

/// End-of-RIB of EVPN (RFC 4724 section 2): an empty MP_UNREACH_NLRI.
#[must_use]
pub fn end_of_rib() -> [u8; END_OF_RIB_LEN] {
    let mut message = [0xff; END_OF_RIB_LEN];
    message[MARKER_LEN..].copy_from_slice(&[
        0,
        END_OF_RIB_LEN as u8,
        2,
        0,
        0,
        0,
        6,
        0x80,
        code::MP_UNREACH,
        3,
        0,
        25,
        70,
    ]);
    message
}

/// Writes messages with one attribute `code` of routes, before all others (RFC 7606 section 5.1 wants it first).
fn pack(
    code: u8,
    head: impl Fn(&mut Vec<u8>),
    others: &[u8],
    routes: impl IntoIterator<Item = EvpnRoute>,
    limit: usize,
    sink: &mut impl FnMut(&[u8]),
) {
    let mut routes = routes.into_iter().peekable();
    let mut out = Vec::with_capacity(limit);
    while routes.peek().is_some() {
        start(&mut out, MessageType::Update);
        out.extend_from_slice(&[0; 4]);
        put_extended(&mut out, 0x80, code, |out| {
            head(out);
            while let Some(route) = routes.peek() {
                let before = out.len();
                route.emit(out);
                if out.len() + others.len() > limit {
                    out.truncate(before);
                    break;
                }
                routes.next();
            }
        });
        out.extend_from_slice(others);
        let attributes = (out.len() - MIN_UPDATE_LEN) as u16;
        out[HEADER_LEN + 2..MIN_UPDATE_LEN].copy_from_slice(&attributes.to_be_bytes());
        finish(&mut out);
        sink(&out);
    }
}
