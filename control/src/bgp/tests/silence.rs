//! Sessions that bring nothing while others do, on a virtual clock.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::super::wire::*;
use super::super::*;
use super::net::*;

const SUBJECT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2));

/// No session is silent that was not before.
const NONE: [IpAddr; 0] = [];
const SECOND: Duration = Duration::from_secs(1);

/// A's session with B, which has just come up, and another one of A that has brought an UPDATE or not.
struct Sessions {
    net: Net,
    other_brings: bool,
    silent: SilentSessions,
}

impl Sessions {
    fn new(other_brings: bool) -> Self {
        let mut net = Net::new(configs());
        net.start_both();
        while net.state(A) != State::Established {
            net.run(Duration::from_millis(1));
        }
        Self { net, other_brings, silent: SilentSessions::default() }
    }

    /// Runs for a while, looks, and gives the sessions that are silent for the first time.
    fn newly_silent_after(&mut self, time: Duration) -> Vec<IpAddr> {
        self.net.run(time);
        let other = Brought { up_since: self.net.start, update: self.other_brings };
        let subject = self.net.peers[A].brought().map(|brought| (SUBJECT, brought));
        let all: Vec<_> = subject.into_iter().chain([(OTHER, other)]).collect();
        self.silent.look(&all, self.net.now)
    }

    fn b_sends(&mut self, message: &[u8]) {
        self.net.peers[B].send(self.net.now, message).unwrap();
    }
}

#[test]
fn a_session_without_an_update_is_silent_a_minute_after_its_first_keepalive() {
    let mut sessions = Sessions::new(true);
    assert_eq!(sessions.newly_silent_after(FIRST_UPDATE - SECOND), NONE);
    assert_eq!(sessions.newly_silent_after(SECOND), [SUBJECT]);
    assert_eq!(sessions.newly_silent_after(SECOND), NONE, "it is told once");
    assert!(sessions.silent.contains(SUBJECT) && !sessions.silent.contains(OTHER));
    sessions.b_sends(&end_of_rib());
    assert_eq!(sessions.newly_silent_after(SECOND), NONE);
    assert!(!sessions.silent.contains(SUBJECT), "an UPDATE ends it");
}

#[test]
fn end_of_rib_alone_and_a_single_route_are_no_silence() {
    let mut messages = vec![end_of_rib().to_vec()];
    withdraw([route(1)], MESSAGE_LIMIT, |message| messages.push(message.to_vec()));
    for message in messages {
        let mut sessions = Sessions::new(true);
        sessions.b_sends(&message);
        assert_eq!(sessions.newly_silent_after(2 * FIRST_UPDATE), NONE);
    }
}

#[test]
fn where_no_session_brings_anything_none_is_silent() {
    let mut sessions = Sessions::new(false);
    assert_eq!(sessions.newly_silent_after(2 * FIRST_UPDATE), NONE);
    sessions.other_brings = true;
    assert_eq!(sessions.newly_silent_after(SECOND), [SUBJECT]);
}

#[test]
fn each_session_has_its_own_minute() {
    let mut sessions = Sessions::new(true);
    sessions.b_sends(&end_of_rib());
    assert_eq!(sessions.newly_silent_after(2 * FIRST_UPDATE), NONE);
    // What the last session brought does not count for the next.
    sessions.net.peers[A].clear_hard(sessions.net.now, None);
    assert_eq!(sessions.newly_silent_after(2 * SECOND), NONE);
    assert_eq!(sessions.net.state(A), State::Established);
    assert_eq!(sessions.newly_silent_after(FIRST_UPDATE), [SUBJECT]);
    // A session that is down is not silent, and may become so again.
    sessions.net.deaf = [true; 2];
    sessions.net.cut();
    assert_eq!(sessions.newly_silent_after(SECOND), NONE);
    assert!(!sessions.silent.contains(SUBJECT));
}
