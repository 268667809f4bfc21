//! BGP: messages and sessions as pure machines. Octets and time come in as arguments, actions go out as values;
//! nothing here knows a socket, a clock, or what an EVPN route means.
//!
//! ```text
//! TCP octets -> Peer::handle_bytes -> queue -> wire -> session -> Peer::poll_output -> RIB, sockets
//! RIB        -> Peer::send         -> queue ->                    Peer::transmit    -> TCP octets
//! ```
//!
//! [`Peer`] is one neighbour with up to two connections; [`wire`] reads and writes the messages.

mod buffer;
mod fsm;
mod graceful_restart;
mod negotiate;
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
pub use self::output::{ConnectionId, DownReason, PeerOutput, PeerStatus, QueueFull};
pub use self::peer::{Peer, RECONNECT_PAUSE};
pub use self::silence::{Brought, FIRST_UPDATE, SilentSessions};
pub use self::timer::Timer;

#[cfg(test)]
mod tests;
