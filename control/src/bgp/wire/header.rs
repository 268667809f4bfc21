//! The 19-octet message header (RFC 4271 section 4.1), its limits (RFC 8654) and its errors (section 6.1).
//!
//! ```text
//! | marker: 16 octets of ff | length: 2, with the header | type: 1 | body ...
//! ```

use super::error_code::ErrorCode;
use super::limits::{
    HEADER_LEN, MARKER_LEN, MAX_MESSAGE_LEN, MIN_NOTIFICATION_LEN, MIN_OPEN_LEN, MIN_UPDATE_LEN,
    ROUTE_REFRESH_LEN,
};
use super::notification::Notification;

/// The type octet.
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
    /// The shortest and the longest message of this type; `limit` is what the session negotiated.
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

/// Reads the header at the start of `buffer`: the type and the whole length of the message there.
/// `Ok(None)` while the header is incomplete; the body may be incomplete still.
///
/// # Errors
/// NOTIFICATION 1/1 for a wrong marker, 1/2 for a length that this type can't have, 1/3 for an unknown type.
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

/// Starts a message in `out`, which holds nothing else; [`finish`] sets its length.
pub(super) fn start(out: &mut Vec<u8>, kind: MessageType) {
    out.clear();
    out.extend_from_slice(&[0xff; MARKER_LEN]);
    out.extend_from_slice(&[0, 0, kind as u8]);
}

/// Sets the length of the message that `out` holds.
///
/// # Panics
/// If the message is longer than 65535 octets: the writers stop before that.
pub(super) fn finish(out: &mut [u8]) {
    let length = u16::try_from(out.len()).expect("a writer keeps messages below 65536 octets");
    out[MARKER_LEN..MARKER_LEN + 2].copy_from_slice(&length.to_be_bytes());
}

/// The whole KEEPALIVE message.
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
    fn each_fault_has_its_subcode() {
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
            let wrong = read_header(&header(length, code), MAX_MESSAGE_LEN);
            assert_eq!(
                wrong,
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
    fn extended_messages_lift_the_limit_of_all_but_open_and_keepalive() {
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
