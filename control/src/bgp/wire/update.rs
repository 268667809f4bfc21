//! UPDATE (RFC 4271 section 4.3, RFC 4760): reading one, and packing many routes into few.
//!
//! ```text
//! | withdrawn length: 2 | withdrawn IPv4 | attributes length: 2 | attributes | IPv4 routes |
//!                                           MP_REACH_NLRI (14), MP_UNREACH_NLRI (15): the EVPN routes
//! ```
//!
//! A read [`Update`] borrows the message: its routes are decoded while they are walked, without allocation.
//! IPv4 routes in the body and other families are delimited, then ignored: we offer EVPN only.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;

use super::attribute::{Attributes, code, put_extended};
use super::attribute_decode::{Action, Context, Draft, Fault, Raw, check_flags, split};
use super::evpn::{EvpnRoute, LONGEST_ROUTE, Nlri, Parsed};
use super::header::{HEADER_LEN, MessageType, finish, start};
use super::notification::Notification;
use super::open::Family;
use super::reader::{Reader, put_ip};

/// One change of the peer's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The route is there, with the attributes of the UPDATE.
    Announce(EvpnRoute),
    /// The route with this [key](EvpnRoute::key) is gone. Fields outside of the key say nothing.
    Withdraw(EvpnRoute),
}

impl Change {
    /// The route that it is about.
    #[must_use]
    pub const fn route(&self) -> &EvpnRoute {
        match self {
            Self::Announce(route) | Self::Withdraw(route) => route,
        }
    }
}

/// What an UPDATE holds besides its octets; with them it is an [`Update`].
#[derive(Debug, Clone)]
pub struct Parts {
    attributes: Option<Arc<Attributes>>,
    faults: Vec<Fault>,
    withdrawn: Range<usize>,
    announced: Range<usize>,
    add_path: bool,
    withdraw_all: bool,
    skipped: u32,
    malformed: u32,
    end_of_rib: Option<Family>,
}

/// A decoded UPDATE.
#[derive(Debug, Clone)]
pub struct Update<'a> {
    body: &'a [u8],
    parts: Parts,
}

impl<'a> Update<'a> {
    /// Puts together what [`Decoder::decode`] made of `body`, and `body`.
    #[must_use]
    pub const fn new(body: &'a [u8], parts: Parts) -> Self {
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
    pub fn changes(&self) -> Changes<'a> {
        Changes {
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
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }
}

/// The changes of an UPDATE, decoded one by one.
#[derive(Debug, Clone)]
pub struct Changes<'a> {
    withdrawn: Nlri<'a>,
    announced: Nlri<'a>,
    /// What is announced is so, and not to be treated as withdrawn.
    keep: bool,
}

impl Iterator for Changes<'_> {
    type Item = Change;

    #[inline]
    fn next(&mut self) -> Option<Change> {
        loop {
            let (parsed, announced) = match self.withdrawn.next() {
                Some(parsed) => (parsed, false),
                None => (self.announced.next()?, true),
            };
            match parsed {
                Parsed::Route(route) if announced && self.keep => {
                    return Some(Change::Announce(route));
                }
                Parsed::Route(route) | Parsed::Malformed(route) => {
                    return Some(Change::Withdraw(route));
                }
                Parsed::Unknown => {}
            }
        }
    }
}

impl Parts {
    /// What is wrong with it; usually nothing.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The strongest action of all faults.
    #[must_use]
    pub fn action(&self) -> Option<Action> {
        self.faults.iter().map(|fault| fault.action).max()
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
    pub const fn end_of_rib(&self) -> Option<Family> {
        self.end_of_rib
    }
}

/// Reads the UPDATEs of one session. Keeps the attributes of the last one: peers that send one route a message
/// repeat them, and comparing octets is quicker than reading them again.
#[derive(Debug)]
pub struct Decoder {
    context: Context,
    scratch: Vec<u8>,
    last: Option<(Vec<u8>, Arc<Attributes>)>,
}

impl Decoder {
    /// A decoder for a session that negotiated `context`.
    #[must_use]
    pub const fn new(context: Context) -> Self {
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
    pub fn decode(&mut self, body: &[u8]) -> Result<Parts, Notification> {
        let lengths = || Notification::new(3, 1, &[]);
        let mut reader = Reader(body);
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

        let mut faults = Vec::new();
        self.scratch.clear();
        let routes = split(bytes, &mut self.scratch, &mut faults)?;
        if routes.overran
            && routes.reach.is_none()
            && routes.unreach.is_none()
            && routes4.is_empty()
        {
            // The routes may be behind the fault: without them nothing can be withdrawn (RFC 7606 section 3 j).
            return Err(lengths());
        }
        let (announced, next_hop) = match &routes.reach {
            Some(raw) => self.reach(raw, &mut faults)?,
            None => (Section::default(), None),
        };
        let withdrawn = match &routes.unreach {
            Some(raw) => self.unreach(raw, &mut faults)?,
            None => Section::default(),
        };
        let alone =
            announced.bytes.is_empty() && withdrawn.bytes.is_empty() && self.scratch.is_empty();
        let empty4 = withdrawn4.is_empty() && routes4.is_empty();
        let end_of_rib = match (&routes.reach, withdrawn.family) {
            (None, family @ Some(_)) if alone && empty4 => family,
            (None, None) if bytes.is_empty() && empty4 => Some(Family::IPV4_UNICAST),
            _ => None,
        };
        let announces = routes.reach.is_some() || !routes4.is_empty();
        let attributes = self.attributes(next_hop, announces, !routes4.is_empty(), &mut faults)?;
        let withdraw_all = faults.iter().any(|fault| fault.action == Action::Withdraw);
        let after = |raw: &Option<Raw<'_>>| routes4.len() + raw.map_or(0, |raw| raw.after);
        Ok(Parts {
            attributes: attributes.filter(|_| !withdraw_all && announced.counts.sound > 0),
            faults,
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
        faults: &mut Vec<Fault>,
    ) -> Result<Option<Arc<Attributes>>, Notification> {
        if let Some((octets, last)) = &self.last
            && !body_routes
            && *octets == self.scratch
            && Some(last.next_hop) == next_hop
        {
            return Ok(Some(last.clone()));
        }
        let before = faults.len();
        let unset = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let draft = Draft::read(
            &self.scratch,
            next_hop.unwrap_or(unset),
            self.context,
            faults,
        )?;
        if !announces {
            return Ok(None);
        }
        let attributes = Arc::new(draft.finish(body_routes, faults));
        if faults.len() == before && next_hop.is_some() {
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
        raw: &Raw<'a>,
        faults: &mut Vec<Fault>,
    ) -> Result<(Section<'a>, Option<IpAddr>), Notification> {
        let wrong = || Notification::new(3, 9, raw.whole);
        faults.extend(check_flags(raw).err());
        let mut reader = Reader(raw.value);
        let family = Family::read(&mut reader).ok_or_else(wrong)?;
        let octets = usize::from(reader.u8().ok_or_else(wrong)?);
        let mut next_hop = Reader(reader.bytes(octets).ok_or_else(wrong)?);
        reader.u8().ok_or_else(wrong)?;
        if family != Family::EVPN {
            return Ok((
                Section {
                    family: Some(family),
                    ..Section::default()
                },
                None,
            ));
        }
        let next_hop = next_hop.ip(octets).ok_or_else(wrong)?;
        let counts = Nlri::check(reader.0, self.context.add_path).ok_or_else(wrong)?;
        Ok((
            Section {
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
        raw: &Raw<'a>,
        faults: &mut Vec<Fault>,
    ) -> Result<Section<'a>, Notification> {
        let wrong = || Notification::new(3, 9, raw.whole);
        faults.extend(check_flags(raw).err());
        let mut reader = Reader(raw.value);
        let family = Family::read(&mut reader).ok_or_else(wrong)?;
        if family != Family::EVPN {
            // Not End-of-RIB either if it withdraws something.
            let family = reader.0.is_empty().then_some(family);
            return Ok(Section {
                family,
                ..Section::default()
            });
        }
        let counts = Nlri::check(reader.0, self.context.add_path).ok_or_else(wrong)?;
        Ok(Section {
            family: Some(family),
            bytes: reader.0,
            counts,
        })
    }
}

/// The EVPN routes of one attribute.
#[derive(Default)]
struct Section<'a> {
    family: Option<Family>,
    bytes: &'a [u8],
    counts: super::evpn::Counts,
}

impl Section<'_> {
    /// Where the routes stand in the body, given where their attribute ends.
    const fn range(&self, end: usize) -> Range<usize> {
        end - self.bytes.len()..end
    }
}

/// Walks IPv4 routes of the body, which are not used.
fn check_ipv4(bytes: &[u8]) -> Result<(), Notification> {
    let mut reader = Reader(bytes);
    while let Some(bits) = reader.u8() {
        if bits > 32 || reader.bytes(usize::from(bits.div_ceil(8))).is_none() {
            return Err(Notification::new(3, 10, &[]));
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
    let around = HEADER_LEN + 4 + 4 + 3 + 1 + 16 + 1 + others.len();
    if around + LONGEST_ROUTE > encoding.limit {
        return false;
    }
    let head = |out: &mut Vec<u8>| {
        Family::EVPN.emit(out);
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
        |out| Family::EVPN.emit(out),
        &[],
        routes,
        limit,
        &mut sink,
    );
}

/// End-of-RIB of EVPN (RFC 4724 section 2): an empty MP_UNREACH_NLRI.
#[must_use]
pub fn end_of_rib() -> [u8; 29] {
    let mut message = [0xff; 29];
    message[16..].copy_from_slice(&[0, 29, 2, 0, 0, 0, 6, 0x80, code::MP_UNREACH, 3, 0, 25, 70]);
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
        let attributes = (out.len() - HEADER_LEN - 4) as u16;
        out[HEADER_LEN + 2..HEADER_LEN + 4].copy_from_slice(&attributes.to_be_bytes());
        finish(&mut out);
        sink(&out);
    }
}
