//! What is recorded and said of sessions that are not established (finding O1).

use std::time::Duration;

use super::super::*;
use super::net::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A's status, and why its session is not established.
fn why(net: &VirtualNet) -> (Option<NotUp>, String) {
    let status = net.peers[A].status();
    let text = status.not_up_text(net.now).unwrap_or_default();
    (status.not_up(), text)
}

/// The reason of a peer that rejects our OPEN, or whose OPEN we reject, stays visible although later
/// connections fail otherwise.
#[test]
fn a_rejected_open_is_not_hidden_by_the_next_failed_connect() {
    let [a, mut b] = configs();
    b.peer_as = 65009;
    b.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.start_both();
    net.run(secs(5));
    let (cause, text) = why(&net);
    assert_eq!(cause, Some(NotUp::OpenFailed));
    assert!(text.contains("received NOTIFICATION 2/2"), "{text}");
    assert!(!net.failed[A].is_empty());
    net.unreachable[B] = true;
    net.run(secs(60));
    let (cause, text) = why(&net);
    assert_eq!(cause, Some(NotUp::OpenFailed));
    assert!(text.contains("received NOTIFICATION 2/2"), "{text}");
    assert!(text.contains("; connecting failed: no answer"), "{text}");
    let sent = why(&{
        let [mut a, b] = configs();
        a.peer_as = 65009;
        let mut net = VirtualNet::new([a, b]);
        net.start_both();
        net.run(secs(5));
        net
    });
    assert_eq!(sent.0, Some(NotUp::OpenFailed));
    assert!(sent.1.contains("sent NOTIFICATION 2/2"), "{sent:?}");
}

/// Wrong or missing TCP-MD5 passwords, a filter and an absent host all look the same.
#[test]
fn a_neighbor_that_does_not_answer_is_reported() {
    let mut net = VirtualNet::new(configs());
    net.unreachable = [true, true];
    net.start_both();
    net.run(secs(1));
    assert_eq!(why(&net), (Some(NotUp::Waiting), "connecting".to_owned()));
    assert!(!net.peers[A].status().is_overdue(net.now));
    net.run(secs(30));
    let (cause, text) = why(&net);
    assert_eq!(cause, Some(NotUp::ConnectFailed));
    assert!(text.contains("no answer to TCP SYN for 10 s"), "{text}");
    assert!(text.contains("TCP-MD5"), "{text}");
    assert!(net.peers[A].status().is_overdue(net.now));
    assert!(net.peers[A].status().failures.count >= 2);
}

#[test]
fn the_end_of_a_session_is_not_hidden_by_failed_connects() {
    let mut net = VirtualNet::established(configs());
    assert_eq!(why(&net), (None, String::new()));
    net.unreachable = [true; 2];
    net.stuck = [true; 2];
    net.run(secs(300));
    let (cause, text) = why(&net);
    assert_eq!(cause, Some(NotUp::SessionEnded));
    assert!(
        text.contains("sent NOTIFICATION 4/0 (Hold Timer Expired)"),
        "{text}"
    );
    assert!(text.contains("; connecting failed: no answer"), "{text}");
    // Established again, all of it is history.
    (net.unreachable, net.stuck) = ([false; 2], [false; 2]);
    net.run(secs(120));
    assert_eq!(why(&net), (None, String::new()));
    let failures = net.peers[A].status().failures;
    assert!(failures.session.is_some() && failures.connect.is_some());
}

#[test]
fn shutdown_and_the_prefix_limit_are_reasons() {
    let mut net = VirtualNet::established(configs());
    let config = PeerConfig {
        max_prefixes: Some(MaxPrefixes {
            limit: 1,
            retry: None,
        }),
        ..net.peers[A].config().clone()
    };
    let now = net.now;
    net.peers[A].reconfigure(now, config, false);
    net.peers[A].handle_prefix_count(now, 2);
    net.run(secs(60));
    let (cause, text) = why(&net);
    assert_eq!(cause, Some(NotUp::MaxPrefixes));
    assert!(text.contains("until an operator clears it"), "{text}");
    let now = net.now;
    net.peers[A].shutdown(now, None);
    net.run(secs(1));
    assert_eq!(why(&net).0, Some(NotUp::Shutdown));
    assert!(net.peers[A].status().is_overdue(net.now));
}

/// A collision, or a change by the operator, is no failure.
#[test]
fn what_is_meant_to_happen_is_no_failure() {
    let mut net = VirtualNet::established(configs());
    assert_eq!(net.failed, [vec![], vec![]], "both connected at once");
    net.peers[A].clear_hard(net.now, None);
    net.run(secs(60));
    assert_eq!(net.state(A), FsmState::Established);
    assert_eq!(net.failed, [vec![], vec![]], "cleared");
}

#[test]
fn a_passive_peer_without_connections_is_reported_after_a_while() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.peers[A].start(net.now);
    net.run(secs(29));
    assert!(!net.peers[A].status().is_overdue(net.now));
    net.run(secs(1));
    assert!(net.peers[A].status().is_overdue(net.now));
    assert!(why(&net).1.contains("has not connected yet"));
    // A connection without an OPEN is a failure of its own.
    net.raw_peer(&[]);
    net.run(secs(1));
    assert!(why(&net).1.contains("has not answered our OPEN"));
    net.run(secs(300));
    let (cause, text) = why(&net);
    assert_eq!(cause, Some(NotUp::OpenFailed));
    assert!(text.contains("4/0"), "{text}");
}

/// Errors of TCP are those of the system.
#[test]
fn an_error_of_the_system_is_the_reason() {
    let mut net = VirtualNet::new(configs());
    net.unreachable = [true, true];
    net.peers[A].start(net.now);
    net.settle();
    let conn = net.links[0].ends[A].unwrap();
    net.peers[A].handle_failed(net.now, conn, "Connection refused".to_owned());
    net.settle();
    assert_eq!(
        net.failed[A],
        [DownReason::Failed("Connection refused".to_owned())]
    );
    assert!(
        why(&net)
            .1
            .starts_with("connecting failed: Connection refused")
    );
}

/// The direction of a connection that ended is said: a neighbor that closes what it has opened itself
/// is reachable.
#[test]
fn the_direction_of_a_failed_connection_is_said() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.peers[A].start(net.now);
    let conn = net.raw_peer(&[]);
    net.peers[A].handle_closed(net.now, conn);
    let (cause, text) = why(&net);
    assert_eq!(cause, Some(NotUp::ConnectFailed));
    assert!(
        text.starts_with("a connection from the neighbor ended: TCP connection closed by"),
        "{text}"
    );
    let mut net = VirtualNet::new(configs());
    net.unreachable = [true, true];
    net.peers[A].start(net.now);
    net.settle();
    let conn = net.links[0].ends[A].unwrap();
    net.peers[A].handle_connected(net.now, conn);
    net.peers[A].handle_closed(net.now, conn);
    let text = why(&net).1;
    assert!(
        text.starts_with("a connection to the neighbor ended: TCP connection closed by"),
        "{text}"
    );
}

/// The text of a NOTIFICATION is the peer's.
#[test]
fn a_shutdown_communication_is_part_of_the_reason() {
    let mut net = VirtualNet::established(configs());
    net.peers[B].shutdown(net.now, Some("maintenance\u{1b}[2J"));
    net.run(secs(1));
    let (cause, text) = why(&net);
    assert_eq!(cause, Some(NotUp::SessionEnded));
    assert!(
        text.contains("6/2") && text.contains(r"maintenance\u{1b}[2J"),
        "{text}"
    );
}
