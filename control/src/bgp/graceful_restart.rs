//! Keeping the routes of a peer that is away: graceful restart as the receiving speaker (RFC 4724 section 4.2),
//! with NOTIFICATIONs (RFC 8538) and the long-lived time after it (RFC 9494).
//!
//! ```text
//! Fresh --down--> Away --restart time--> LongLived --its time--> swept
//!   ^              |________ up, forwarding kept __|
//!   |___________ Back: until End-of-RIB or the limit, then swept
//! ```

use std::time::Duration;

use super::negotiate::{Negotiated, PeerRestart};
use super::output::DownReason;
use super::wire::ErrorCode;

/// What is known about the routes of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum GrState {
    /// None is stale.
    #[default]
    Fresh,
    /// The peer is away; its routes are stale. `long_lived` follows.
    Restarting {
        /// Time that follows the restart time.
        long_lived: Duration,
    },
    /// The peer is away for long.
    LongLived,
    /// The peer is back, and is sending its routes.
    Syncing,
}

/// The restart terms under which routes are kept after `reason`; None if they are gone.
pub(super) fn keeps(negotiated: &Negotiated, reason: &DownReason) -> Option<PeerRestart> {
    let restart = negotiated.restart?;
    let kept = match reason {
        DownReason::Closed | DownReason::Replaced => true,
        // The peer may be wedged: as with the hold timer, only who negotiated to RFC 8538 is waited for.
        DownReason::SendHold => restart.notification,
        DownReason::Received(n) => restart.notification && !n.is_hard_reset(),
        // What an operator or a limit ended is meant to end.
        DownReason::Sent(n) => {
            restart.notification
                && (!n.error.is_cease() || n.error == ErrorCode::CONNECTION_COLLISION_RESOLUTION)
        }
    };
    (kept && !(restart.time + restart.long_lived).is_zero()).then_some(restart)
}
