//! Sessions that are up but bring no routes while others do: a neighbour may hold a session that its own side has
//! forgotten, and nothing in BGP ends that.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The time from the first KEEPALIVE in which a session is expected to bring its first UPDATE: a neighbour without
/// routes sends End-of-RIB, which is one.
pub const FIRST_UPDATE: Duration = Duration::from_secs(60);

/// What an established session has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brought {
    /// When the first KEEPALIVE came.
    pub up_since: Instant,
    /// An UPDATE has come since.
    pub update: bool,
}

/// The silent sessions: established for [`FIRST_UPDATE`] without an UPDATE, while another session has brought one.
#[derive(Debug, Default)]
pub struct SilentSessions(BTreeSet<IpAddr>);

impl SilentSessions {
    /// None is silent.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Looks at all established sessions, and gives those that were not silent when it looked last.
    pub fn look(&mut self, sessions: &[(IpAddr, Brought)], now: Instant) -> Vec<IpAddr> {
        let others_bring = sessions.iter().any(|(_, brought)| brought.update);
        let overdue = |brought: &Brought| {
            !brought.update && now.saturating_duration_since(brought.up_since) >= FIRST_UPDATE
        };
        let silent = sessions.iter().filter(|(_, brought)| others_bring && overdue(brought));
        let silent: BTreeSet<_> = silent.map(|(neighbor, _)| *neighbor).collect();
        let new = silent.difference(&self.0).copied().collect();
        self.0 = silent;
        new
    }

    /// Whether the session with this neighbour was silent when it looked last.
    #[must_use]
    pub fn contains(&self, neighbor: IpAddr) -> bool {
        self.0.contains(&neighbor)
    }

    /// The neighbours whose sessions were silent when it looked last.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().copied()
    }
}
