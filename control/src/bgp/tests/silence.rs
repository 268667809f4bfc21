//! Sessions without UPDATEs, on a virtual clock.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::super::wire::*;
use super::super::*;
use super::net::*;

const SUBJECT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2));

/// No session became silent.
const NONE: [IpAddr; 0] = [];
const SECOND: Duration = Duration::from_secs(1);

/// A's session with B, just established, and another one of A, with or without an UPDATE.
struct Sessions {
    net: VirtualNet,
    other_has_update: bool,
    silent: SilentSessions,
}

impl Sessions {
    fn new(other_has_update: bool) -> Self {
        let mut net = VirtualNet::new(configs());
        net.start_both();
        while net.state(A) != FsmState::Established {
            net.run(Duration::from_millis(1));
        }
        Self {
            net,
            other_has_update,
            silent: SilentSessions::default(),
        }
    }

    /// Runs for `time` and returns the sessions that became silent.
    fn newly_silent_after(&mut self, time: Duration) -> Vec<IpAddr> {
        self.net.run(time);
        let other = SessionUpdates {
            up_since: self.net.start,
            update_received: self.other_has_update,
        };
        let subject = self.net.peers[A]
            .session_updates()
            .map(|updates| (SUBJECT, updates));
        let all: Vec<_> = subject.into_iter().chain([(OTHER, other)]).collect();
        self.silent.check(&all, self.net.now)
    }

    fn b_sends(&mut self, message: &[u8]) {
        self.net.peers[B].send(self.net.now, message).unwrap();
    }
}

/// (finding C21)
#[test]
fn a_session_without_an_update_is_silent_a_minute_after_its_first_keepalive() {
    let mut sessions = Sessions::new(true);
    assert_eq!(
        sessions.newly_silent_after(FIRST_UPDATE_TIMEOUT - SECOND),
        NONE
    );
    assert_eq!(sessions.newly_silent_after(SECOND), [SUBJECT]);
    assert_eq!(
        sessions.newly_silent_after(SECOND),
        NONE,
        "it is reported once"
    );
    assert!(sessions.silent.contains(SUBJECT) && !sessions.silent.contains(OTHER));
    sessions.b_sends(&end_of_rib());
    assert_eq!(sessions.newly_silent_after(SECOND), NONE);
    assert!(!sessions.silent.contains(SUBJECT), "an UPDATE ends it");
}

#[test]
fn an_end_of_rib_or_a_single_route_is_an_update() {
    let mut messages = vec![end_of_rib().to_vec()];
    withdraw([route(1)], MAX_MESSAGE_LEN, |message| {
        messages.push(message.to_vec());
    });
    for message in messages {
        let mut sessions = Sessions::new(true);
        sessions.b_sends(&message);
        assert_eq!(sessions.newly_silent_after(2 * FIRST_UPDATE_TIMEOUT), NONE);
    }
}

/// A single silent reflector is reported too (finding O1).
#[test]
fn a_session_is_silent_whatever_others_are() {
    let mut sessions = Sessions::new(false);
    let silent = sessions.newly_silent_after(2 * FIRST_UPDATE_TIMEOUT);
    assert_eq!(silent, [SUBJECT, OTHER]);
    sessions.other_has_update = true;
    assert_eq!(sessions.newly_silent_after(SECOND), NONE);
    assert!(sessions.silent.contains(SUBJECT) && !sessions.silent.contains(OTHER));
}

#[test]
fn each_session_has_its_own_minute() {
    let mut sessions = Sessions::new(true);
    sessions.b_sends(&end_of_rib());
    assert_eq!(sessions.newly_silent_after(2 * FIRST_UPDATE_TIMEOUT), NONE);
    // UPDATEs of the last session do not count for the next.
    sessions.net.peers[A].clear_hard(sessions.net.now, None);
    assert_eq!(sessions.newly_silent_after(2 * SECOND), NONE);
    assert_eq!(sessions.net.state(A), FsmState::Established);
    assert_eq!(sessions.newly_silent_after(FIRST_UPDATE_TIMEOUT), [SUBJECT]);
    // A session that is down is not silent, and may become silent again.
    sessions.net.unreachable = [true; 2];
    sessions.net.cut();
    assert_eq!(sessions.newly_silent_after(SECOND), NONE);
    assert!(!sessions.silent.contains(SUBJECT));
}
