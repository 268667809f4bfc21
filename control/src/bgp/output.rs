//! What a [`super::Peer`] requests from its owner and reports to it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fsm::FsmState;
use super::negotiate::Negotiated;
use super::wire::{Notification, UpdateMessage};

/// One TCP connection of a peer. IDs are not reused: events of a closed connection are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// The peer closed the TCP connection.
    Closed,
    /// TCP failed, or could not connect: the error of the system.
    Failed(String),
    /// The peer has not answered for this time: no TCP connection.
    NoAnswer(Duration),
    /// The peer connected again while its old session was up (RFC 4724 section 5).
    Replaced,
    /// The peer sent this NOTIFICATION.
    Received(Notification),
    /// This speaker sent this NOTIFICATION.
    Sent(Notification),
    /// The peer read nothing for the send hold time (RFC 9687).
    SendHold,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "TCP connection closed by the neighbor"),
            Self::Failed(error) => f.write_str(error),
            // A segment without the right signature is dropped in silence (RFC 2385 section 2.0),
            // as is one with a too low TTL (RFC 5082).
            Self::NoAnswer(time) => write!(
                f,
                "no answer to TCP SYN for {} s: the neighbor is unreachable, a filter drops the \
                 packets, or TCP-MD5 passwords or ttl-security do not match",
                time.as_secs()
            ),
            Self::Replaced => write!(f, "peer restarted and opened a new connection"),
            Self::Received(notification) => write!(f, "received NOTIFICATION {notification}"),
            Self::Sent(notification) => write!(f, "sent NOTIFICATION {notification}"),
            Self::SendHold => write!(f, "send hold timer expired: the peer does not read"),
        }
    }
}

/// What a connection was when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// This side was opening it.
    Connecting,
    /// This side had opened it.
    Outbound,
    /// The peer had opened it.
    Inbound,
}

impl fmt::Display for ConnectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting failed",
            Self::Outbound => "a connection to the neighbor ended",
            Self::Inbound => "a connection from the neighbor ended",
        })
    }
}

/// The end of a session or of an attempt to establish one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Instant,
    /// What its connection was.
    pub kind: ConnectionKind,
    /// Why.
    pub reason: DownReason,
}

/// The failures of a peer. A failure of one kind does not replace one of another: the NOTIFICATION
/// that says what is wrong is often followed by connections that are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    /// The last established session.
    pub session: Option<Ended>,
    /// The last connection that ended with a NOTIFICATION before the session was established.
    pub open: Option<Ended>,
    /// The last connection that could not be opened, or was closed without a NOTIFICATION before
    /// the session was established.
    pub connect: Option<Ended>,
    /// How many attempts failed.
    pub count: u64,
}

/// An action for the owner of the sockets, or an event for the owner of the routes.
#[derive(Debug, Clone)]
pub enum PeerOutput<'a> {
    /// Open a TCP connection; then call `handle_connected` or `handle_closed` with its ID.
    Connect(ConnectionId),
    /// Write `last_message` as far as the socket takes it without blocking, then close.
    Close {
        /// The connection; it may still be connecting.
        conn: ConnectionId,
        /// The last octets: often a NOTIFICATION, or empty.
        last_message: Vec<u8>,
    },
    /// The session is established: send all routes, then End-of-RIB.
    SessionUp(Arc<Negotiated>),
    /// The session has ended. The peer's routes must be removed now or, with `keep_stale_for`,
    /// are kept as stale until [`PeerOutput::SweepStale`], at most for that long.
    SessionDown {
        /// Why.
        reason: DownReason,
        /// Longest time that stale routes are kept; `None`: remove them now.
        keep_stale_for: Option<Duration>,
    },
    /// An attempt to establish a session failed.
    AttemptFailed(DownReason),
    /// Routes of the peer changed.
    Update(UpdateMessage<'a>),
    /// End-of-RIB: the peer has sent all its EVPN routes (RFC 4724 section 2).
    EndOfRib,
    /// The peer requests all routes again (RFC 2918). With enhanced route refresh, send them
    /// between BoRR and EoRR.
    RefreshRequested,
    /// BoRR: the peer starts to send all its routes again; mark those it has (RFC 7313).
    RefreshBegun,
    /// EoRR: the peer has sent all its routes; remove those still marked (RFC 7313).
    RefreshEnded,
    /// The restart time is over and the long-lived stale time starts: stale routes become the
    /// least preferred (RFC 9494 section 4.3).
    StaleLongLived,
    /// Remove the routes that are still stale.
    SweepStale,
}

/// The send queue is full, or no session is established: send again once octets were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the send queue of the peer is full or its session is down; send again once it drains")]
pub struct QueueFull;

/// State and counters of a peer, for `show` and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// State of the most advanced connection.
    pub state: FsmState,
    /// False after an administrative shutdown.
    pub enabled: bool,
    /// What was negotiated, while the session is established.
    pub negotiated: Option<Arc<Negotiated>>,
    /// When the session was established, while it is.
    pub up_since: Option<Instant>,
    /// How many times a session was established.
    pub established: u64,
    /// Since when it is not established, or has been tried first; meaningless while it is.
    pub down_since: Option<Instant>,
    /// Why sessions and attempts ended.
    pub failures: Failures,
    /// Idle because the prefix limit was exceeded.
    pub prefix_limit_hit: bool,
    /// Only waits for the peer to connect.
    pub passive: bool,
    /// When the peer leaves Idle by itself.
    pub idle_until: Option<Instant>,
    /// Messages received on all connections.
    pub received: u64,
    /// Messages sent on all connections.
    pub sent: u64,
    /// UPDATEs with routes treated as withdrawn, all or some (RFC 7606 section 2).
    pub treated_as_withdrawn: u64,
    /// UPDATEs with discarded attributes (RFC 7606 section 2).
    pub attributes_discarded: u64,
    /// Routes skipped because their type is unknown (RFC 7606 section 5.4).
    pub routes_skipped: u64,
    /// Octets in the send queue.
    pub queued: usize,
}
