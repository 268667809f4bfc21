//! Why a session is not established, for operators: the cause that matters, and what has happened
//! since.

use std::fmt;
use std::time::{Duration, Instant};

use super::fsm::FsmState;
use super::output::{Ended, PeerStatus};

/// Without a failure, a session that is not established is reported after this time.
const GRACE: Duration = Duration::from_secs(30);

/// What keeps a session from being established; the words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotUp {
    /// An operator has shut it down.
    Shutdown,
    /// The peer has sent more routes than `max-prefixes`.
    MaxPrefixes,
    /// The session ended, and is not established again yet.
    SessionEnded,
    /// Connections are opened, but the OPENs are not accepted.
    OpenFailed,
    /// No connection can be opened, or it is closed without a NOTIFICATION.
    ConnectFailed,
    /// No failure yet: a connection is being opened, or the peer must open one.
    Waiting,
}

impl NotUp {
    /// All causes.
    pub const ALL: [Self; 6] = [
        Self::Shutdown,
        Self::MaxPrefixes,
        Self::SessionEnded,
        Self::OpenFailed,
        Self::ConnectFailed,
        Self::Waiting,
    ];

    /// A stable kebab-case word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::MaxPrefixes => "max-prefixes",
            Self::SessionEnded => "session-ended",
            Self::OpenFailed => "open-failed",
            Self::ConnectFailed => "connect-failed",
            Self::Waiting => "waiting",
        }
    }
}

impl PeerStatus {
    /// Why the session is not established; `None` if it is.
    #[must_use]
    pub fn not_up(&self) -> Option<NotUp> {
        let at = |ended: &Option<Ended>| ended.as_ref().map(|ended| ended.at);
        let failures = &self.failures;
        Some(match (at(&failures.session), at(&failures.open)) {
            _ if self.up_since.is_some() => return None,
            _ if !self.enabled => NotUp::Shutdown,
            _ if self.prefix_limit_hit => NotUp::MaxPrefixes,
            (session, Some(open)) if session.is_none_or(|session| session <= open) => {
                NotUp::OpenFailed
            }
            (Some(_), _) => NotUp::SessionEnded,
            _ if failures.connect.is_some() => NotUp::ConnectFailed,
            _ => NotUp::Waiting,
        })
    }

    /// The cause as a text, with what has happened since: `received NOTIFICATION 2/2 (...) 40 s
    /// ago; connecting failed 3 s ago: Connection refused`. `None` if the session is established.
    #[must_use]
    pub fn not_up_text(&self, now: Instant) -> Option<String> {
        let failures = &self.failures;
        let ended = |ended: &Option<Ended>| ended.as_ref().map(|ended| Ago(ended, now).to_string());
        let (cause, since) = match self.not_up()? {
            NotUp::Shutdown => ("shut down by an operator".to_owned(), None),
            NotUp::MaxPrefixes => {
                let until = match self.idle_until {
                    Some(at) => format!("for another {} s", seconds(at, now)),
                    None => "until an operator clears it or the limit changes".to_owned(),
                };
                (
                    format!("the neighbor sent more routes than max-prefixes; idle {until}"),
                    None,
                )
            }
            NotUp::SessionEnded => (
                format!(
                    "the session ended: {}",
                    ended(&failures.session).unwrap_or_default()
                ),
                failures.session.as_ref(),
            ),
            NotUp::OpenFailed => (
                ended(&failures.open).unwrap_or_default(),
                failures.open.as_ref(),
            ),
            NotUp::ConnectFailed => {
                let connect = failures.connect.as_ref();
                let text = connect.map(|connect| connection(connect, now));
                (text.unwrap_or_default(), None)
            }
            NotUp::Waiting if self.state >= FsmState::OpenSent => (
                "connected; the neighbor has not answered our OPEN yet".to_owned(),
                None,
            ),
            NotUp::Waiting if self.passive => (
                "passive: the neighbor has not connected yet".to_owned(),
                None,
            ),
            NotUp::Waiting => ("connecting".to_owned(), None),
        };
        let later = failures
            .connect
            .as_ref()
            .filter(|connect| since.is_some_and(|cause| cause.at < connect.at));
        let mut text = cause;
        if let Some(connect) = later {
            text += &format!("; {}", connection(connect, now));
        }
        if let (Some(NotUp::OpenFailed), Some(session)) = (self.not_up(), &failures.session) {
            text += &format!("; the last session ended: {}", Ago(session, now));
        }
        Some(text)
    }

    /// True if an operator has to know that the session is not established: it has failed, or has
    /// been tried for some time.
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        match self.not_up() {
            None => false,
            Some(NotUp::Waiting) => self
                .down_since
                .is_some_and(|since| now.saturating_duration_since(since) >= GRACE),
            Some(_) => true,
        }
    }
}

fn seconds(at: Instant, now: Instant) -> u64 {
    at.saturating_duration_since(now).as_secs()
}

/// What ended of a connection, why and when.
fn connection(ended: &Ended, now: Instant) -> String {
    format!("{}: {}", ended.kind, Ago(ended, now))
}

/// A reason with its age.
struct Ago<'a>(&'a Ended, Instant);

impl fmt::Display for Ago<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Ended { at, reason, .. }, now) = self;
        write!(f, "{reason} ({} s ago)", seconds(*now, *at))
    }
}
