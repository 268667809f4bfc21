//! NOTIFICATION (RFC 4271 section 4.5), shutdown communication (RFC 9003), hard reset (RFC 8538).
//! The crate `rustbgpd-wire` decodes and encodes the octets.

use std::fmt;

use bytes::Bytes;
use rustbgpd_wire::notification as codec;
use rustbgpd_wire::{NotificationCode, NotificationMessage};

use super::error_code::ErrorCode;
use super::limits::{MAX_MESSAGE_LEN, MIN_NOTIFICATION_LEN};

/// A NOTIFICATION: the error that ends a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code and subcode.
    pub error: ErrorCode,
    /// Data, whose format depends on the error.
    pub data: Vec<u8>,
}

/// Octets of a shutdown communication (RFC 9003 section 2).
pub const MAX_SHUTDOWN_TEXT: usize = 255;

impl Notification {
    /// A NOTIFICATION with `data`, truncated so that even its [hard reset](Self::hard) fits into a
    /// message of [`MAX_MESSAGE_LEN`] octets.
    #[must_use]
    pub fn new(error: ErrorCode, data: &[u8]) -> Self {
        let fits = data.len().min(MAX_MESSAGE_LEN - MIN_NOTIFICATION_LEN - 2);
        Self {
            error,
            data: data[..fits].to_vec(),
        }
    }

    /// An administrative shutdown or reset with a text for the operator of the peer (RFC 9003),
    /// truncated to [`MAX_SHUTDOWN_TEXT`] octets at a character boundary.
    #[must_use]
    pub fn with_text(error: ErrorCode, text: Option<&str>) -> Self {
        let mut data = Vec::new();
        if let Some(text) = text {
            let fits = text.floor_char_boundary(MAX_SHUTDOWN_TEXT);
            data.push(fits as u8);
            data.extend_from_slice(&text.as_bytes()[..fits]);
        }
        Self { error, data }
    }

    /// This NOTIFICATION encapsulated in a hard reset, after which the peer does not keep our
    /// routes (RFC 8538 section 3.1).
    #[must_use]
    pub fn hard(self) -> Self {
        let mut data = vec![self.error.code, self.error.subcode];
        data.extend_from_slice(&self.data);
        Self::new(ErrorCode::HARD_RESET, &data)
    }

    /// True for Cease/Hard Reset (RFC 8538 section 3).
    #[must_use]
    pub const fn is_hard_reset(&self) -> bool {
        matches!(self.error, ErrorCode::HARD_RESET)
    }

    /// The shutdown communication (RFC 9003), also from within a hard reset. `None` if there is
    /// none or if it is not valid UTF-8.
    #[must_use]
    pub fn shutdown_text(&self) -> Option<String> {
        codec::extract_shutdown_communication(&self.message())
            .ok()
            .flatten()
            .map(str::to_owned)
    }

    /// Decodes the body, which has at least two octets according to the header.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let message = NotificationMessage::decode(&mut &*body, body.len()).ok()?;
        Some(Self {
            error: ErrorCode {
                code: message.code.as_u8(),
                subcode: message.subcode,
            },
            data: message.data.to_vec(),
        })
    }

    /// Encodes the complete message.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MIN_NOTIFICATION_LEN + self.data.len());
        // `new` truncates the data to fit; a NOTIFICATION built otherwise is sent without too long
        // data.
        if self.message().encode(&mut out).is_err() {
            return Self::new(self.error, &[]).emit();
        }
        out
    }

    fn message(&self) -> NotificationMessage {
        NotificationMessage {
            code: NotificationCode::from_u8(self.error.code),
            subcode: self.error.subcode,
            data: Bytes::copy_from_slice(&self.data),
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        if let (true, [code, subcode, ..]) = (self.is_hard_reset(), &self.data[..]) {
            let (code, subcode) = (*code, *subcode);
            write!(f, " for {}", ErrorCode { code, subcode })?;
        }
        self.shutdown_text()
            .map_or(Ok(()), |text| write!(f, ": {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::HEADER_LEN;
    use super::*;

    #[test]
    fn a_text_is_read_back_and_truncated_at_a_character() {
        let shutdown =
            Notification::with_text(ErrorCode::ADMINISTRATIVE_SHUTDOWN, Some("maintenance h5"));
        assert_eq!(shutdown.shutdown_text().as_deref(), Some("maintenance h5"));
        let hard = shutdown.hard();
        assert!(hard.is_hard_reset());
        assert_eq!(hard.shutdown_text().as_deref(), Some("maintenance h5"));
        assert_eq!(Notification::parse(&hard.emit()[HEADER_LEN..]), Some(hard));
        let long =
            Notification::with_text(ErrorCode::ADMINISTRATIVE_SHUTDOWN, Some(&"é".repeat(150)));
        assert_eq!(long.shutdown_text(), Some("é".repeat(127)));
    }

    #[test]
    fn an_invalid_text_is_ignored() {
        for data in [&[5, b'a'][..], &[1, 0xff], &[0, b'a']] {
            assert_eq!(
                Notification::new(ErrorCode::ADMINISTRATIVE_SHUTDOWN, data).shutdown_text(),
                None
            );
        }
        assert_eq!(
            Notification::new(ErrorCode::HARD_RESET, &[6]).shutdown_text(),
            None
        );
    }

    #[test]
    fn data_that_does_not_fit_is_truncated() {
        let long = Notification::new(ErrorCode::ATTRIBUTE_LENGTH_ERROR, &[0; 5000]).emit();
        assert!(long.len() <= MAX_MESSAGE_LEN);
        let by_hand = Notification {
            error: ErrorCode::ATTRIBUTE_LENGTH_ERROR,
            data: vec![0; 5000],
        };
        assert_eq!(by_hand.emit().len(), MIN_NOTIFICATION_LEN);
    }
}
