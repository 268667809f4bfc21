//! NOTIFICATION (RFC 4271 section 4.5), shutdown communication (RFC 9003), hard reset (RFC 8538).
//! The octets are read and written by the crate `rustbgpd-wire`.

use std::fmt;

use bytes::Bytes;
use rustbgpd_wire::notification as codec;
use rustbgpd_wire::{NotificationCode, NotificationMessage};

use super::header::{HEADER_LEN, MAX_MESSAGE_LEN};

/// Error code CEASE.
pub const CEASE: u8 = 6;

/// Subcodes of CEASE (RFC 4486, RFC 8538).
pub mod cease {
    /// More routes than we allow.
    pub const MAX_PREFIXES: u8 = 1;
    /// Administrative shutdown.
    pub const SHUTDOWN: u8 = 2;
    /// Peer de-configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative reset.
    pub const RESET: u8 = 4;
    /// Connection rejected.
    pub const REJECTED: u8 = 5;
    /// Connection collision resolution.
    pub const COLLISION: u8 = 7;
    /// Out of resources.
    pub const RESOURCES: u8 = 8;
    /// Hard reset: the routes are not to be kept (RFC 8538).
    pub const HARD_RESET: u8 = 9;
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 if unspecific.
    pub subcode: u8,
    /// Data, as the subcode has it.
    pub data: Vec<u8>,
}

impl Notification {
    /// A notification; data that does not fit into a message is cut off.
    #[must_use]
    pub fn new(code: u8, subcode: u8, data: &[u8]) -> Self {
        let fits = data.len().min(MAX_MESSAGE_LEN - HEADER_LEN - 4);
        Self {
            code,
            subcode,
            data: data[..fits].to_vec(),
        }
    }

    /// CEASE with a subcode and a text for the operator of the peer (RFC 9003); the text is cut at 128 octets.
    #[must_use]
    pub fn cease(subcode: u8, text: Option<&str>) -> Self {
        let data = text
            .map(codec::encode_shutdown_communication)
            .unwrap_or_default();
        Self {
            code: CEASE,
            subcode,
            data: data.to_vec(),
        }
    }

    /// This notification inside a hard reset: the peer does not keep our routes (RFC 8538 section 3.1).
    #[must_use]
    pub fn hard(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self::new(CEASE, cease::HARD_RESET, &data)
    }

    /// True for CEASE / hard reset.
    #[must_use]
    pub const fn is_hard_reset(&self) -> bool {
        self.code == CEASE && self.subcode == cease::HARD_RESET
    }

    /// The text of the peer's operator (RFC 9003), also out of a hard reset. None if there is none, or it is no UTF-8.
    #[must_use]
    pub fn shutdown_text(&self) -> Option<String> {
        codec::extract_shutdown_communication(&self.message())
            .ok()
            .flatten()
            .map(str::to_owned)
    }

    /// Reads the body of a NOTIFICATION: at least two octets, which the header has promised.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let message = NotificationMessage::decode(&mut &*body, body.len()).ok()?;
        Some(Self {
            code: message.code.as_u8(),
            subcode: message.subcode,
            data: message.data.to_vec(),
        })
    }

    /// The whole message.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + 2 + self.data.len());
        // `new` keeps the data within a message; a longer one, built by hand, is sent without it.
        if self.message().encode(&mut out).is_err() {
            return Self::new(self.code, self.subcode, &[]).emit();
        }
        out
    }

    fn message(&self) -> NotificationMessage {
        NotificationMessage {
            code: NotificationCode::from_u8(self.code),
            subcode: self.subcode,
            data: Bytes::copy_from_slice(&self.data),
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = codec::description(NotificationCode::from_u8(self.code), self.subcode);
        write!(f, "{}/{} {name}", self.code, self.subcode)?;
        if self.is_hard_reset() && self.data.len() >= 2 {
            write!(f, " of {}/{}", self.data[0], self.data[1])?;
        }
        self.shutdown_text()
            .map_or(Ok(()), |text| write!(f, ": {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_survives_and_is_cut_at_a_character() {
        let shutdown = Notification::cease(cease::SHUTDOWN, Some("maintenance h5"));
        assert_eq!(shutdown.shutdown_text().as_deref(), Some("maintenance h5"));
        let hard = shutdown.hard();
        assert!(hard.is_hard_reset());
        assert_eq!(hard.shutdown_text().as_deref(), Some("maintenance h5"));
        assert_eq!(Notification::parse(&hard.emit()[HEADER_LEN..]), Some(hard));
        let long = Notification::cease(cease::SHUTDOWN, Some(&"é".repeat(100)));
        assert_eq!(long.shutdown_text(), Some("é".repeat(64)));
    }

    #[test]
    fn a_wrong_text_is_no_text() {
        for data in [&[5, b'a'][..], &[1, 0xff], &[0, b'a']] {
            assert_eq!(
                Notification::new(CEASE, cease::SHUTDOWN, data).shutdown_text(),
                None
            );
        }
        assert_eq!(
            Notification::new(CEASE, cease::HARD_RESET, &[6]).shutdown_text(),
            None
        );
    }

    #[test]
    fn data_that_does_not_fit_is_cut() {
        let long = Notification::new(3, 5, &[0; 5000]).emit();
        assert!(long.len() <= MAX_MESSAGE_LEN);
        let by_hand = Notification {
            code: 3,
            subcode: 5,
            data: vec![0; 5000],
        };
        assert_eq!(by_hand.emit().len(), HEADER_LEN + 2);
    }
}
