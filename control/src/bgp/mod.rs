//! BGP messages and sessions, sans I/O: octets and time come in as arguments, actions go out as
//! values. The module has no sockets and no clock, and does not interpret EVPN routes.
//!
//! ```text
//! TCP octets -> Peer::handle_bytes -> RecvBuffer -> wire -> session -> Peer::poll_output -> RIB
//! RIB        -> Peer::send         -> SendBuffer ->                    Peer::transmit    -> TCP
//! ```
//!
//! [`Peer`] is one neighbor with up to two connections; [`wire`] decodes and encodes the messages.

mod buffer;
mod fsm;
mod graceful_restart;
mod negotiate;
mod not_up;
mod output;
mod peer;
mod session;
mod silence;
mod timer;
pub mod wire;

pub use self::fsm::FsmState;
pub use self::negotiate::{
    MaxPrefixes, Negotiated, PeerConfig, PeerRestart, RestartConfig, negotiate,
};
pub use self::not_up::NotUp;
pub use self::output::{
    ConnectionId, DownReason, Ended, Failures, PeerOutput, PeerStatus, QueueFull,
};
pub use self::peer::{Peer, RECONNECT_DELAY};
pub use self::silence::{FIRST_UPDATE_TIMEOUT, SessionUpdates, SilentSessions};
pub use self::timer::Timer;

#[cfg(test)]
mod tests;
