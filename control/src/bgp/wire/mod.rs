//! BGP messages: decoding octets into types of this module, and encoding them.
//!
//! ```text
//! octets -> read_header -> Decoder (UPDATE) | OpenMessage | Notification | RouteRefresh
//!        -> BgpMessage
//! ```
//!
//! The crate `rustbgpd-wire` decodes and encodes OPEN, NOTIFICATION and ROUTE-REFRESH. UPDATE is
//! decoded here: the crate collects all routes into a list before it reports an error, loses the
//! key of a malformed route, and deviates from RFC 7606 in the handling of some errors.

pub(crate) mod attribute;
mod attribute_decode;
mod attribute_error;
mod community;
mod error_code;
mod esi;
mod evpn;
mod header;
mod limits;
mod notification;
mod open;
mod printable;
mod rd;
mod reader;
mod refresh;
mod update;
mod update_encode;

pub use self::attribute::{
    AS_TRANS, Aggregator, AsPath, AsPathSegment, Attributes, Origin, Pmsi, PmsiTunnel,
    UnknownAttribute,
};
pub use self::attribute_decode::DecodeContext;
pub use self::attribute_error::{AttrError, AttrErrorAction};
pub use self::community::ExtendedCommunity;
pub use self::error_code::ErrorCode;
pub use self::esi::Esi;
pub use self::evpn::*;
pub use self::header::{KEEPALIVE, MessageType, read_header};
pub use self::limits::{
    HEADER_LEN, MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN, MAX_RESTART_TIME, MIN_HOLD_TIME,
};
pub use self::notification::{MAX_SHUTDOWN_TEXT, Notification};
pub use self::open::{AddressFamily, Capability, LongLivedFamily, OpenMessage, RestartFamily};
pub use self::printable::printable;
pub use self::rd::Rd;
pub use self::refresh::{RefreshKind, RouteRefresh};
pub use self::update::{Decoder, RouteChange, RouteChanges, UpdateMessage, UpdateParts};
pub use self::update_encode::{Encoding, announce, end_of_rib, withdraw};

/// One decoded message.
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
    /// ROUTE-REFRESH; `None` for an unknown subtype, which is ignored (RFC 7313 section 5).
    RouteRefresh(Option<RouteRefresh>),
}

/// Decodes one complete message whose header [`read_header`] has accepted.
///
/// # Errors
/// The NOTIFICATION to send before the session ends. Never panics, for any octets.
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

/// Decodes octets as a stream of messages, as a session does, and returns the number of routes in
/// them. For fuzz targets.
///
/// # Errors
/// The NOTIFICATION for the first error that ends the session.
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
