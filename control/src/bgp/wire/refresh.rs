//! ROUTE-REFRESH (RFC 2918) with the marks of enhanced route refresh (RFC 7313).
//! The octets are read and written by the crate `rustbgpd-wire`.

use rustbgpd_wire::RouteRefreshMessage;

use super::error_code::ErrorCode;
use super::limits::{HEADER_LEN, ROUTE_REFRESH_LEN};
use super::notification::Notification;
use super::open::AddressFamily;

/// What a ROUTE-REFRESH says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshKind {
    /// Send all routes again.
    Request,
    /// Beginning of the answer: routes not sent until its end are gone (RFC 7313).
    Begin,
    /// End of the answer.
    End,
}

/// A ROUTE-REFRESH message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// The family that is meant.
    pub family: AddressFamily,
    /// What it says.
    pub kind: RefreshKind,
}

impl RouteRefresh {
    /// Reads the body. `Ok(None)` for a subtype that we don't know: it is ignored (RFC 7313 section 5).
    ///
    /// # Errors
    /// 7/1 for a Begin or End that is longer than 4 octets (RFC 7313 section 5), 1/2 for a body that can't be read.
    pub(super) fn parse(body: &[u8]) -> Result<Option<Self>, Notification> {
        let length = (body.len() + HEADER_LEN) as u16;
        let wrong = |_| Notification::new(ErrorCode::BAD_MESSAGE_LENGTH, &length.to_be_bytes());
        let message = RouteRefreshMessage::decode(&mut &*body, body.len()).map_err(wrong)?;
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

    /// The whole message.
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
