//! NOTIFICATION error codes and subcodes with their names in the IANA registries
//! "BGP Error (Notification) Codes" and "BGP Error Subcodes".

use std::fmt;

/// The error code and subcode of a NOTIFICATION (RFC 4271 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 where none is defined, or for an unspecific error.
    pub subcode: u8,
}

macro_rules! error_codes {
    ($($code:literal $class:literal {
        $($name:ident = $subcode:literal $text:literal, $source:literal;)*
    })*) => {
        impl ErrorCode {
            $($(
                #[doc = concat!($text, " (", $source, ").")]
                pub const $name: Self = Self { code: $code, subcode: $subcode };
            )*)*

            /// Every pair that has a name.
            #[cfg(test)]
            const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// The name of the code; `None` if it is not assigned.
            #[must_use]
            pub const fn class(self) -> Option<&'static str> {
                match self.code {
                    $($code => Some($class),)*
                    _ => None,
                }
            }

            /// The name of the pair, which is that of the code where it has no subcodes;
            /// `None` if it is not assigned.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $($(Self::$name => Some($text),)*)*
                    _ => None,
                }
            }
        }
    };
}

error_codes! {
    1 "Message Header Error" {
        MESSAGE_HEADER_UNSPECIFIC = 0 "Unspecific", "RFC 4271 section 6.1";
        CONNECTION_NOT_SYNCHRONIZED = 1 "Connection Not Synchronized", "RFC 4271 section 6.1";
        BAD_MESSAGE_LENGTH = 2 "Bad Message Length", "RFC 4271 section 6.1";
        BAD_MESSAGE_TYPE = 3 "Bad Message Type", "RFC 4271 section 6.1";
    }
    2 "OPEN Message Error" {
        OPEN_UNSPECIFIC = 0 "Unspecific", "RFC 4271 section 6.2";
        UNSUPPORTED_VERSION_NUMBER = 1 "Unsupported Version Number", "RFC 4271 section 6.2";
        BAD_PEER_AS = 2 "Bad Peer AS", "RFC 4271 section 6.2";
        BAD_BGP_IDENTIFIER = 3 "Bad BGP Identifier", "RFC 4271 section 6.2";
        UNSUPPORTED_OPTIONAL_PARAMETER = 4 "Unsupported Optional Parameter", "RFC 4271 section 6.2";
        UNACCEPTABLE_HOLD_TIME = 6 "Unacceptable Hold Time", "RFC 4271 section 6.2";
        UNSUPPORTED_CAPABILITY = 7 "Unsupported Capability", "RFC 5492 section 5";
        ROLE_MISMATCH = 11 "Role Mismatch", "RFC 9234 section 4.2";
    }
    3 "UPDATE Message Error" {
        UPDATE_UNSPECIFIC = 0 "Unspecific", "RFC 4271 section 6.3";
        MALFORMED_ATTRIBUTE_LIST = 1 "Malformed Attribute List", "RFC 4271 section 6.3";
        UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE = 2 "Unrecognized Well-known Attribute",
            "RFC 4271 section 6.3";
        MISSING_WELL_KNOWN_ATTRIBUTE = 3 "Missing Well-known Attribute", "RFC 4271 section 6.3";
        ATTRIBUTE_FLAGS_ERROR = 4 "Attribute Flags Error", "RFC 4271 section 6.3";
        ATTRIBUTE_LENGTH_ERROR = 5 "Attribute Length Error", "RFC 4271 section 6.3";
        INVALID_ORIGIN_ATTRIBUTE = 6 "Invalid ORIGIN Attribute", "RFC 4271 section 6.3";
        INVALID_NEXT_HOP_ATTRIBUTE = 8 "Invalid NEXT_HOP Attribute", "RFC 4271 section 6.3";
        OPTIONAL_ATTRIBUTE_ERROR = 9 "Optional Attribute Error", "RFC 4271 section 6.3";
        INVALID_NETWORK_FIELD = 10 "Invalid Network Field", "RFC 4271 section 6.3";
        MALFORMED_AS_PATH = 11 "Malformed AS_PATH", "RFC 4271 section 6.3";
    }
    4 "Hold Timer Expired" {
        HOLD_TIMER_EXPIRED = 0 "Hold Timer Expired", "RFC 4271 section 6.5";
    }
    5 "Finite State Machine Error" {
        FSM_UNSPECIFIED = 0 "Unspecified Error", "RFC 6608 section 3";
        UNEXPECTED_MESSAGE_IN_OPEN_SENT = 1 "Receive Unexpected Message in OpenSent State",
            "RFC 6608 section 3";
        UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM = 2 "Receive Unexpected Message in OpenConfirm State",
            "RFC 6608 section 3";
        UNEXPECTED_MESSAGE_IN_ESTABLISHED = 3 "Receive Unexpected Message in Established State",
            "RFC 6608 section 3";
    }
    6 "Cease" {
        MAX_PREFIXES_REACHED = 1 "Maximum Number of Prefixes Reached", "RFC 4486 section 4";
        ADMINISTRATIVE_SHUTDOWN = 2 "Administrative Shutdown", "RFC 4486 section 4, RFC 9003";
        PEER_DECONFIGURED = 3 "Peer De-configured", "RFC 4486 section 4";
        ADMINISTRATIVE_RESET = 4 "Administrative Reset", "RFC 4486 section 4, RFC 9003";
        CONNECTION_REJECTED = 5 "Connection Rejected", "RFC 4486 section 4";
        OTHER_CONFIGURATION_CHANGE = 6 "Other Configuration Change", "RFC 4486 section 4";
        CONNECTION_COLLISION_RESOLUTION = 7 "Connection Collision Resolution",
            "RFC 4486 section 4";
        OUT_OF_RESOURCES = 8 "Out of Resources", "RFC 4486 section 4";
        HARD_RESET = 9 "Hard Reset", "RFC 8538 section 3";
        BFD_DOWN = 10 "BFD Down", "RFC 9384 section 3";
    }
    7 "ROUTE-REFRESH Message Error" {
        INVALID_REFRESH_LENGTH = 1 "Invalid Message Length", "RFC 7313 section 5";
    }
    8 "Send Hold Timer Expired" {
        SEND_HOLD_TIMER_EXPIRED = 0 "Send Hold Timer Expired", "RFC 9687";
    }
}

impl ErrorCode {
    const CEASE: u8 = 6;

    /// True for every subcode of Cease (RFC 4271 section 6.7).
    #[must_use]
    pub const fn is_cease(self) -> bool {
        self.code == Self::CEASE
    }
}

impl fmt::Display for ErrorCode {
    /// The numbers and their names: `6/2 (Cease/Administrative Shutdown)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.code, self.subcode)?;
        match (self.class(), self.name()) {
            (Some(class), Some(name)) if class != name => write!(f, " ({class}/{name})"),
            (Some(class), _) => write!(f, " ({class})"),
            (None, _) => write!(f, " (unassigned error code)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustbgpd_wire::NotificationCode;
    use rustbgpd_wire::notification::description;

    use super::*;

    #[test]
    fn names_are_those_of_the_codec() {
        for error in ErrorCode::ALL {
            let theirs = description(NotificationCode::from_u8(error.code), error.subcode);
            let ours = error.name().unwrap();
            let unspecific = ours.starts_with("Unspecif");
            assert!(unspecific || theirs == ours, "{error}: {theirs}");
        }
    }

    #[test]
    fn errors_show_numbers_and_names() {
        for (error, text) in [
            (
                ErrorCode::ADMINISTRATIVE_SHUTDOWN,
                "6/2 (Cease/Administrative Shutdown)",
            ),
            (ErrorCode::HOLD_TIMER_EXPIRED, "4/0 (Hold Timer Expired)"),
            (
                ErrorCode {
                    code: 3,
                    subcode: 99,
                },
                "3/99 (UPDATE Message Error)",
            ),
            (
                ErrorCode {
                    code: 42,
                    subcode: 1,
                },
                "42/1 (unassigned error code)",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
