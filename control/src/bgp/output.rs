//! What a [`super::Peer`] asks for and tells.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fsm::FsmState;
use super::negotiate::Negotiated;
use super::wire::{Notification, UpdateMessage};

/// One TCP connection of a peer. Numbers are not used again: an event of a connection that is gone is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// TCP ended, or could not be opened.
    Closed,
    /// The peer came back with a new connection while the old one stood (RFC 4724 section 5).
    Replaced,
    /// The peer sent this.
    Received(Notification),
    /// We sent this.
    Sent(Notification),
    /// The peer read nothing for too long (RFC 9687).
    SendHold,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the TCP connection ended"),
            Self::Replaced => write!(f, "the peer restarted and connected again"),
            Self::Received(notification) => write!(f, "the peer sent NOTIFICATION {notification}"),
            Self::Sent(notification) => write!(f, "NOTIFICATION {notification} was sent"),
            Self::SendHold => write!(f, "the peer read nothing for the send hold time"),
        }
    }
}

/// What is to be done, or has happened.
#[derive(Debug, Clone)]
pub enum PeerOutput<'a> {
    /// Open a TCP connection; then call `handle_connected` or `handle_closed` with it.
    Connect(ConnectionId),
    /// Write `last_message` if the socket takes it, without waiting, and close the connection.
    Close {
        /// The connection; it may be one that is still being opened.
        conn: ConnectionId,
        /// Last octets; often a NOTIFICATION, or nothing.
        last_message: Vec<u8>,
    },
    /// The session is established: send all routes, then End-of-RIB.
    SessionUp(Arc<Negotiated>),
    /// The session has ended. The peer's routes are gone, or, with `keep_stale_for`, are kept as stale until
    /// [`PeerOutput::SweepStale`] comes, which it does at the latest after that time.
    SessionDown {
        /// Why.
        reason: DownReason,
        /// How long routes are kept at the longest. None: they are gone now.
        keep_stale_for: Option<Duration>,
    },
    /// Routes of the peer changed.
    Update(UpdateMessage<'a>),
    /// The peer has sent all its EVPN routes.
    EndOfRib,
    /// The peer wants all routes again. With enhanced refresh, put them between Begin and End.
    RefreshRequested,
    /// The peer begins to send all its routes again: mark those it has (RFC 7313).
    RefreshBegun,
    /// It has sent all: drop those that are still marked.
    RefreshEnded,
    /// The restart time is over, the long-lived one begins: stale routes become the least preferred (RFC 9494).
    StaleLongLived,
    /// Drop what is still stale.
    SweepStale,
}

/// The send queue is full, or there is no session: try again when something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the send queue of the peer is full or its session is down; send again after it was drained"
)]
pub struct QueueFull;

/// What `show` tells about a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The state of the connection that is farthest.
    pub state: FsmState,
    /// False after an administrative shutdown.
    pub enabled: bool,
    /// What is negotiated, while the session is established.
    pub negotiated: Option<Arc<Negotiated>>,
    /// Since when it is established.
    pub up_since: Option<Instant>,
    /// How often it was established.
    pub established: u64,
    /// Why the last connection ended.
    pub last_down: Option<DownReason>,
    /// When Idle ends by itself.
    pub idle_until: Option<Instant>,
    /// Messages read on all connections.
    pub received: u64,
    /// Messages sent on all connections.
    pub sent: u64,
    /// UPDATEs whose routes were treated as withdrawn, whole or in part (RFC 7606).
    pub treated_as_withdrawn: u64,
    /// UPDATEs of which attributes were discarded.
    pub attributes_discarded: u64,
    /// Routes of unknown types that were skipped.
    pub routes_skipped: u64,
    /// Octets that wait to be sent.
    pub queued: usize,
}
