//! BGP: messages and sessions as pure machines. Octets and time come in as arguments, actions go out as values;
//! nothing here knows a socket, a clock, or what an EVPN route means.
//!
//! ```text
//! TCP octets -> Peer::handle_bytes -> queue -> wire -> session -> Peer::poll_output -> RIB, sockets
//! RIB        -> Peer::send         -> queue ->                    Peer::transmit    -> TCP octets
//! ```
//!
//! [`Peer`] is one neighbour with up to two connections; [`wire`] reads and writes the messages.

mod fsm;
mod negotiate;
mod output;
mod peer;
mod queue;
mod restart;
mod session;
mod silence;
mod timer;
pub mod wire;

pub use fsm::State;
pub use negotiate::{MaxPrefixes, Negotiated, PeerConfig, PeerRestart, RestartConfig, negotiate};
pub use output::{Conn, DownReason, Output, QueueFull, Status};
pub use peer::{Peer, RECONNECT_PAUSE};
pub use silence::{Brought, FIRST_UPDATE, SilentSessions};
pub use timer::Timer;

#[cfg(test)]
mod tests;
