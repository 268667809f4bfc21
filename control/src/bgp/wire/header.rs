//! The message header (RFC 4271 section 4.1) and its errors (RFC 4271 section 6.1).
//!
//! ```text
//! | marker: 16 octets of 0xff | length: 2, header included | type: 1 | body ...
//! ```

use super::error_code::ErrorCode;
use super::limits::{
    HEADER_LEN, MARKER_LEN, MAX_MESSAGE_LEN, MIN_NOTIFICATION_LEN, MIN_OPEN_LEN, MIN_UPDATE_LEN,
    ROUTE_REFRESH_LEN,
};
use super::notification::Notification;

/// Message type (RFC 4271 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// OPEN
    Open = 1,
    /// UPDATE
    Update = 2,
    /// NOTIFICATION
    Notification = 3,
    /// KEEPALIVE
    Keepalive = 4,
    /// ROUTE-REFRESH (RFC 2918)
    RouteRefresh = 5,
}

impl MessageType {
    /// Shortest and longest message of this type, in octets, where `limit` is negotiated for
    /// messages other than OPEN and KEEPALIVE (RFC 8654 section 4).
    const fn lengths(self, limit: usize) -> (usize, usize) {
        match self {
            Self::Open => (MIN_OPEN_LEN, MAX_MESSAGE_LEN),
            Self::Update => (MIN_UPDATE_LEN, limit),
            Self::RouteRefresh => (ROUTE_REFRESH_LEN, limit),
            Self::Notification => (MIN_NOTIFICATION_LEN, limit),
            Self::Keepalive => (HEADER_LEN, HEADER_LEN),
        }
    }
}

/// Decodes the header at the start of `buffer` into the type and the length of the message, header
/// included. `Ok(None)` while the header is incomplete; the body may still be incomplete.
///
/// # Errors
/// 1/1 Connection Not Synchronized for an invalid marker, 1/2 Bad Message Length for a length that
/// this type cannot have, 1/3 Bad Message Type for an unknown type.
pub fn read_header(
    buffer: &[u8],
    limit: usize,
) -> Result<Option<(MessageType, usize)>, Notification> {
    let marker = buffer.len().min(MARKER_LEN);
    if buffer[..marker].iter().any(|b| *b != 0xff) {
        return Err(Notification::new(
            ErrorCode::CONNECTION_NOT_SYNCHRONIZED,
            &[],
        ));
    }
    let Some(&[high, low, code]) = buffer
        .get(MARKER_LEN..HEADER_LEN)
        .and_then(|b| b.first_chunk())
    else {
        return Ok(None);
    };
    let kind = match code {
        1 => MessageType::Open,
        2 => MessageType::Update,
        3 => MessageType::Notification,
        4 => MessageType::Keepalive,
        5 => MessageType::RouteRefresh,
        _ => return Err(Notification::new(ErrorCode::BAD_MESSAGE_TYPE, &[code])),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (shortest, longest) = kind.lengths(limit);
    if length < shortest || length > longest {
        return Err(Notification::new(
            ErrorCode::BAD_MESSAGE_LENGTH,
            &[high, low],
        ));
    }
    Ok(Some((kind, length)))
}

/// Clears `out` and starts a message in it; [`finish`] sets its length.
pub(super) fn start(out: &mut Vec<u8>, kind: MessageType) {
    out.clear();
    out.extend_from_slice(&[0xff; MARKER_LEN]);
    out.extend_from_slice(&[0, 0, kind as u8]);
}

/// Sets the length field of the message in `out`.
///
/// # Panics
/// If the message is longer than 65535 octets, which the encoders prevent.
pub(super) fn finish(out: &mut [u8]) {
    let length = u16::try_from(out.len()).expect("an encoder limits messages to 65535 octets");
    out[MARKER_LEN..MARKER_LEN + 2].copy_from_slice(&length.to_be_bytes());
}

/// A KEEPALIVE message, which has no body (RFC 4271 section 4.4).
pub const KEEPALIVE: [u8; HEADER_LEN] = {
    let mut message = [0xff; HEADER_LEN];
    message[MARKER_LEN] = 0;
    message[MARKER_LEN + 1] = HEADER_LEN as u8;
    message[MARKER_LEN + 2] = MessageType::Keepalive as u8;
    message
};

#[cfg(test)]
mod tests {
    use super::super::limits::MAX_EXTENDED_MESSAGE_LEN;
    use super::*;

    fn header(length: u16, code: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.push(code);
        bytes
    }

    #[test]
    fn each_header_error_has_its_subcode() {
        let mut marker = header(19, 4);
        marker[3] = 0;
        assert_eq!(
            read_header(&marker, MAX_MESSAGE_LEN),
            Err(Notification::new(
                ErrorCode::CONNECTION_NOT_SYNCHRONIZED,
                &[]
            ))
        );
        assert_eq!(
            read_header(&marker[..4], MAX_MESSAGE_LEN),
            Err(Notification::new(
                ErrorCode::CONNECTION_NOT_SYNCHRONIZED,
                &[]
            ))
        );
        for (length, code) in [
            (18, 4),
            (20, 4),
            (28, 1),
            (22, 2),
            (20, 3),
            (22, 5),
            (4097, 2),
            (4097, 1),
        ] {
            let result = read_header(&header(length, code), MAX_MESSAGE_LEN);
            assert_eq!(
                result,
                Err(Notification::new(
                    ErrorCode::BAD_MESSAGE_LENGTH,
                    &length.to_be_bytes()
                )),
                "{length} {code}"
            );
        }
        assert_eq!(
            read_header(&header(19, 9), MAX_MESSAGE_LEN),
            Err(Notification::new(ErrorCode::BAD_MESSAGE_TYPE, &[9]))
        );
    }

    #[test]
    fn extended_messages_raise_the_limit_of_all_but_open_and_keepalive() {
        assert_eq!(
            read_header(&header(65535, 2), MAX_EXTENDED_MESSAGE_LEN),
            Ok(Some((MessageType::Update, MAX_EXTENDED_MESSAGE_LEN)))
        );
        assert!(read_header(&header(65535, 1), MAX_EXTENDED_MESSAGE_LEN).is_err());
        assert_eq!(
            read_header(&KEEPALIVE, MAX_MESSAGE_LEN),
            Ok(Some((MessageType::Keepalive, 19)))
        );
        assert_eq!(read_header(&KEEPALIVE[..18], MAX_MESSAGE_LEN), Ok(None));
    }
}
