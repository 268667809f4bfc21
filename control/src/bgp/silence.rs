//! Detection of established sessions without routes: a neighbor may keep a session open that its
//! own routing process no longer uses, and no BGP timer ends that.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Time from establishment within which the first UPDATE is expected: a neighbor without routes
/// sends End-of-RIB, which is an UPDATE.
pub const FIRST_UPDATE_TIMEOUT: Duration = Duration::from_secs(60);

/// UPDATEs of an established session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionUpdates {
    /// When the session was established.
    pub up_since: Instant,
    /// An UPDATE has been received since.
    pub update_received: bool,
}

/// Silent sessions: established for [`FIRST_UPDATE_TIMEOUT`] without an UPDATE. A neighbor that has
/// no routes sends End-of-RIB, if it has the graceful restart capability; one without it may be
/// silent because it has no routes yet.
#[derive(Debug, Default)]
pub struct SilentSessions(BTreeSet<IpAddr>);

impl SilentSessions {
    /// No silent sessions.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Checks all established sessions and returns those that became silent since the last check.
    pub fn check(&mut self, sessions: &[(IpAddr, SessionUpdates)], now: Instant) -> Vec<IpAddr> {
        let overdue = |session: &SessionUpdates| {
            !session.update_received
                && now.saturating_duration_since(session.up_since) >= FIRST_UPDATE_TIMEOUT
        };
        let silent = sessions.iter().filter(|(_, session)| overdue(session));
        let silent: BTreeSet<_> = silent.map(|(neighbor, _)| *neighbor).collect();
        let new = silent.difference(&self.0).copied().collect();
        self.0 = silent;
        new
    }

    /// True if the session with this neighbor was silent at the last check.
    #[must_use]
    pub fn contains(&self, neighbor: IpAddr) -> bool {
        self.0.contains(&neighbor)
    }

    /// The neighbors whose sessions were silent at the last check.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().copied()
    }
}
