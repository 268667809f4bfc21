//! BGP messages: octets in, our own types out, and back.
//!
//! ```text
//! octets -> read_header -> Decoder (UPDATE) | OpenMessage | Notification | RouteRefresh -> BgpMessage
//! ```
//!
//! This room is the one adapter between vtepd and the octets. The crate `rustbgpd-wire` reads and writes OPEN,
//! NOTIFICATION and ROUTE-REFRESH. UPDATE is read here: the crate decodes all routes into a list before it says what
//! is wrong, loses the key of a malformed route, and deviates from RFC 7606 in what some errors cost.

pub(crate) mod attribute;
mod attribute_decode;
mod community;
mod error_code;
mod evpn;
mod header;
mod limits;
mod notification;
mod open;
mod reader;
mod refresh;
mod update;

pub use self::attribute::{
    AS_TRANS, Aggregator, AsPath, AsPathSegment, Attributes, Origin, Pmsi, PmsiTunnel,
    UnknownAttribute,
};
pub use self::attribute_decode::{AttrError, AttrErrorAction, DecodeContext};
pub use self::community::ExtendedCommunity;
pub use self::error_code::ErrorCode;
pub use self::evpn::{
    Esi, EthernetAd, EthernetSegment, EvpnRoute, InclusiveMulticast, IpPrefix, MacIp, Rd,
};
pub use self::header::{KEEPALIVE, MessageType, read_header};
pub use self::limits::{
    HEADER_LEN, MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN, MAX_RESTART_TIME, MIN_HOLD_TIME,
};
pub use self::notification::Notification;
pub use self::open::{AddressFamily, Capability, LongLivedFamily, OpenMessage, RestartFamily};
pub use self::refresh::{RefreshKind, RouteRefresh};
pub use self::update::{
    Decoder, Encoding, RouteChange, RouteChanges, UpdateMessage, UpdateParts, announce, end_of_rib,
    withdraw,
};

/// One message.
#[derive(Debug, Clone)]
pub enum BgpMessage<'a> {
    /// OPEN
    Open(OpenMessage),
    /// UPDATE
    Update(UpdateMessage<'a>),
    /// NOTIFICATION
    Notification(Notification),
    /// KEEPALIVE
    Keepalive,
    /// ROUTE-REFRESH; None for a subtype that we don't know.
    RouteRefresh(Option<RouteRefresh>),
}

/// Reads one whole message, whose header [`read_header`] has accepted.
///
/// # Errors
/// The NOTIFICATION that has to end the session. Never panics, whatever the octets are.
pub fn decode<'a>(
    kind: MessageType,
    message: &'a [u8],
    decoder: &mut Decoder,
) -> Result<BgpMessage<'a>, Notification> {
    let body = message.get(HEADER_LEN..).unwrap_or_default();
    match kind {
        MessageType::Open => OpenMessage::parse(body).map(BgpMessage::Open),
        MessageType::Update => decoder
            .decode(body)
            .map(|parts| BgpMessage::Update(UpdateMessage::new(body, parts))),
        MessageType::Notification => Notification::parse(body)
            .map(BgpMessage::Notification)
            .ok_or_else(|| {
                Notification::new(
                    ErrorCode::BAD_MESSAGE_LENGTH,
                    &(message.len() as u16).to_be_bytes(),
                )
            }),
        MessageType::Keepalive => Ok(BgpMessage::Keepalive),
        MessageType::RouteRefresh => RouteRefresh::parse(body).map(BgpMessage::RouteRefresh),
    }
}

/// Reads octets as a stream of messages, and walks all routes that come out: how many there are. It is what a fuzz
/// target calls, and does nothing else than a session does.
///
/// # Errors
/// The NOTIFICATION that the first error costs, where it costs the session.
pub fn walk(octets: &[u8], context: DecodeContext) -> Result<usize, Notification> {
    let mut decoder = Decoder::new(context);
    let mut rest = octets;
    let mut routes = 0;
    while let Some((kind, length)) = read_header(rest, MAX_EXTENDED_MESSAGE_LEN)? {
        let Some((message, next)) = rest.split_at_checked(length) else {
            break;
        };
        if let BgpMessage::Update(update) = decode(kind, message, &mut decoder)? {
            routes += update.changes().count();
        }
        rest = next;
    }
    Ok(routes)
}
