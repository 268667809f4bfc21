//! ROUTE-REFRESH (RFC 2918) with the subtypes of enhanced route refresh (RFC 7313).
//! The crate `rustbgpd-wire` decodes and encodes the octets.

use rustbgpd_wire::RouteRefreshMessage;

use super::error_code::ErrorCode;
use super::limits::{HEADER_LEN, ROUTE_REFRESH_LEN};
use super::notification::Notification;
use super::open::AddressFamily;

/// Message subtype of a ROUTE-REFRESH (RFC 7313 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshKind {
    /// Subtype 0: a request for all routes.
    Request,
    /// Subtype 1, BoRR: beginning of route refresh. Routes not sent before the end are removed.
    Begin,
    /// Subtype 2, EoRR: end of route refresh.
    End,
}

/// A ROUTE-REFRESH message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// The address family to refresh.
    pub family: AddressFamily,
    /// Its subtype.
    pub kind: RefreshKind,
}

impl RouteRefresh {
    /// Decodes the body. `Ok(None)` for an unknown subtype, which is ignored (RFC 7313 section 5).
    ///
    /// # Errors
    /// 7/1 Invalid Message Length for a BoRR or EoRR whose body is longer than 4 octets (RFC 7313
    /// section 5), 1/2 Bad Message Length for a body that cannot be decoded.
    pub(super) fn parse(body: &[u8]) -> Result<Option<Self>, Notification> {
        let length = (body.len() + HEADER_LEN) as u16;
        let malformed = |_| Notification::new(ErrorCode::BAD_MESSAGE_LENGTH, &length.to_be_bytes());
        let message = RouteRefreshMessage::decode(&mut &*body, body.len()).map_err(malformed)?;
        let kind = match message.subtype_raw {
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            _ => return Ok(None),
        };
        if kind != RefreshKind::Request && body.len() != ROUTE_REFRESH_LEN - HEADER_LEN {
            return Err(Notification::new(ErrorCode::INVALID_REFRESH_LENGTH, body));
        }
        Ok(Some(Self {
            family: AddressFamily {
                afi: message.afi_raw,
                safi: message.safi_raw,
            },
            kind,
        }))
    }

    /// Encodes the complete message.
    #[must_use]
    pub fn emit(self) -> Vec<u8> {
        let message = RouteRefreshMessage {
            afi_raw: self.family.afi,
            subtype_raw: match self.kind {
                RefreshKind::Request => 0,
                RefreshKind::Begin => 1,
                RefreshKind::End => 2,
            },
            safi_raw: self.family.safi,
            orf: None,
        };
        let mut out = Vec::with_capacity(ROUTE_REFRESH_LEN);
        message
            .encode(&mut out)
            .expect("a ROUTE-REFRESH of 23 octets fits into a message");
        out
    }
}
