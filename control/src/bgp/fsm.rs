//! The finite state machine of RFC 4271 section 8 for one connection: the state after each message.
//!
//! ```text
//! Idle -> Connect/Active --TCP is up--> OpenSent --OPEN--> OpenConfirm --KEEPALIVE--> Established
//!   ^_________________________any error, NOTIFICATION, TCP closed_______________________|
//! ```
//!
//! Timers, collisions and leaving Idle are handled by [`super::peer`].

use super::wire::{ErrorCode, MessageType};

/// State of a session (RFC 4271 section 8.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FsmState {
    /// Shut down, or waiting after an error.
    Idle,
    /// A TCP connection is being opened.
    Connect,
    /// Waiting for the peer to connect, or for the next attempt.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// Both OPENs are received and accepted; our first KEEPALIVE is sent.
    OpenConfirm,
    /// Routes may be exchanged.
    Established,
}

/// The state after a message of this type was received.
///
/// # Errors
/// 5/1, 5/2 or 5/3: the message is unexpected in OpenSent, OpenConfirm or Established
/// (RFC 6608 section 4). The data of the NOTIFICATION is the message type.
pub(super) const fn after_message(
    state: FsmState,
    message: MessageType,
) -> Result<FsmState, ErrorCode> {
    use MessageType as M;
    match (state, message) {
        (_, M::Notification) => Ok(FsmState::Idle),
        (FsmState::OpenSent, M::Open) => Ok(FsmState::OpenConfirm),
        (FsmState::OpenConfirm, M::Keepalive) => Ok(FsmState::Established),
        (FsmState::Established, M::Keepalive | M::Update | M::RouteRefresh) => {
            Ok(FsmState::Established)
        }
        (FsmState::OpenSent, _) => Err(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_SENT),
        (FsmState::OpenConfirm, _) => Err(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM),
        (FsmState::Established, _) => Err(ErrorCode::UNEXPECTED_MESSAGE_IN_ESTABLISHED),
        // No message can arrive without a connection.
        (FsmState::Idle | FsmState::Connect | FsmState::Active, _) => {
            Err(ErrorCode::FSM_UNSPECIFIED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_accepts_only_its_messages() {
        use MessageType as M;
        let all = [
            M::Open,
            M::Update,
            M::Notification,
            M::Keepalive,
            M::RouteRefresh,
        ];
        let expected = [
            (
                FsmState::OpenSent,
                [
                    Ok(FsmState::OpenConfirm),
                    Err(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_SENT),
                    Ok(FsmState::Idle),
                    Err(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_SENT),
                    Err(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_SENT),
                ],
            ),
            (
                FsmState::OpenConfirm,
                [
                    Err(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM),
                    Err(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM),
                    Ok(FsmState::Idle),
                    Ok(FsmState::Established),
                    Err(ErrorCode::UNEXPECTED_MESSAGE_IN_OPEN_CONFIRM),
                ],
            ),
            (
                FsmState::Established,
                [
                    Err(ErrorCode::UNEXPECTED_MESSAGE_IN_ESTABLISHED),
                    Ok(FsmState::Established),
                    Ok(FsmState::Idle),
                    Ok(FsmState::Established),
                    Ok(FsmState::Established),
                ],
            ),
        ];
        for (state, row) in expected {
            assert_eq!(
                all.map(|message| after_message(state, message)),
                row,
                "{state:?}"
            );
        }
    }
}
