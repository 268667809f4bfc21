//! Graceful restart as the receiving speaker (RFC 4724 section 4.2): keeps the routes of a peer
//! that restarts, also after a NOTIFICATION (RFC 8538), and for a long-lived time (RFC 9494).
//!
//! ```text
//! Fresh --down--> Restarting --restart time--> LongLived --stale time--> swept
//!   ^              |________ up, forwarding preserved _|
//!   |___________ Syncing: until End-of-RIB or the stale limit, then swept
//! ```

use std::time::Duration;

use super::negotiate::{Negotiated, PeerRestart};
use super::output::DownReason;
use super::wire::ErrorCode;

/// Which routes of the peer are stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum GrState {
    /// None.
    #[default]
    Fresh,
    /// All: the peer is down, within its restart time.
    Restarting {
        /// Long-lived stale time that follows the restart time; zero for none.
        long_lived: Duration,
    },
    /// All: the peer is down, within its long-lived stale time.
    LongLived,
    /// Those that the peer, which is up again, has not yet announced.
    Syncing,
}

/// The restart parameters under which routes are kept after `reason`; `None` if they are removed.
pub(super) fn retention(negotiated: &Negotiated, reason: &DownReason) -> Option<PeerRestart> {
    let restart = negotiated.restart?;
    let kept = match reason {
        DownReason::Closed
        | DownReason::Failed(_)
        | DownReason::NoAnswer(_)
        | DownReason::Replaced => true,
        // The peer may hang: as with the hold timer, routes are kept only under RFC 8538.
        DownReason::SendHold => restart.notification,
        DownReason::Received(n) => restart.notification && !n.is_hard_reset(),
        // A session ended by an operator or a prefix limit is meant to lose its routes.
        DownReason::Sent(n) => {
            restart.notification
                && (!n.error.is_cease() || n.error == ErrorCode::CONNECTION_COLLISION_RESOLUTION)
        }
    };
    (kept && !(restart.time + restart.long_lived).is_zero()).then_some(restart)
}
