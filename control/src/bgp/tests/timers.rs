//! Each timer of a session, on a virtual clock.

use std::time::Duration;

use super::super::wire::*;
use super::super::*;
use super::net::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn is_down(event: &PeerEvent) -> bool {
    matches!(event, PeerEvent::Down(..))
}

#[test]
fn keepalives_hold_an_idle_session_for_a_day() {
    let mut net = VirtualNet::established(configs());
    net.run(secs(86_400));
    assert_eq!(net.events_of(A), [PeerEvent::Up]);
    // A third of 90 s, minus up to a quarter of jitter.
    let sent = net.peers[A].status().sent;
    assert!(
        (86_400 / 30..86_400 / 22).contains(&sent),
        "{sent} messages"
    );
}

#[test]
fn the_lower_hold_time_counts_and_fires_when_nothing_comes() {
    let [mut a, b] = configs();
    a.hold_time = 9;
    let mut net = VirtualNet::established([a, b]);
    net.stuck[B] = true;
    let before = net.now - net.start;
    net.unreachable = [true; 2];
    net.run(secs(60));
    let PeerEvent::Down(reason, kept) = net.events_of(A)[1].clone() else {
        panic!("{:?}", net.events[A])
    };
    assert_eq!(
        reason,
        DownReason::Sent(Notification::new(ErrorCode::HOLD_TIMER_EXPIRED, &[]))
    );
    assert_eq!(
        kept,
        Some(secs(120)),
        "RFC 8538: the hold timer keeps routes too"
    );
    let after = net.time_of(A, is_down) - before;
    assert!(after > secs(5) && after <= secs(9), "{after:?}");
}

#[test]
fn a_hold_time_of_zero_needs_no_keepalive() {
    let [mut a, b] = configs();
    a.hold_time = 0;
    let mut net = VirtualNet::established([a, b]);
    let sent = net.peers[A].status().sent;
    net.stuck = [true; 2];
    net.run(secs(100_000));
    assert_eq!(net.events_of(A), [PeerEvent::Up]);
    assert_eq!(net.peers[A].status().sent, sent);
}

#[test]
fn the_send_hold_timer_ends_a_session_whose_peer_reads_nothing() {
    let [mut a, b] = configs();
    a.send_hold = secs(40);
    // Without hold timers, so that none expires first.
    a.hold_time = 0;
    let mut net = VirtualNet::established([a, b]);
    net.stuck[A] = true;
    net.unreachable = [true; 2];
    let before = net.now - net.start;
    net.peers[A].send(net.now, &end_of_rib()).unwrap();
    net.run(secs(60));
    assert!(
        matches!(
            net.events_of(A)[1],
            PeerEvent::Down(DownReason::SendHold, Some(_))
        ),
        "{:?}",
        net.events[A]
    );
    assert_eq!(net.time_of(A, is_down) - before, secs(40));
}

/// Also above 8 minutes the send hold time is twice the hold time (finding C20).
#[test]
fn the_send_hold_time_is_at_least_twice_the_hold_time() {
    for (hold_time, expected) in [
        (90, 480),
        (240, 480),
        (241, 482),
        (600, 1200),
        (65_535, 131_070),
    ] {
        let [mut a, mut b] = configs();
        a.passive = true;
        (a.hold_time, b.hold_time) = (hold_time, hold_time);
        let mut net = VirtualNet::new([a, b.clone()]);
        net.peers[A].start(net.now);
        // No host reads what A sends, while KEEPALIVEs arrive.
        let open = b.open(false, false).emit().unwrap();
        let conn = net.raw_peer(&[open, KEEPALIVE.to_vec()].concat());
        net.settle();
        for _ in 1..expected / 10 {
            net.run(secs(10));
            net.peers[A].handle_bytes(conn, &KEEPALIVE);
        }
        assert_eq!(net.events_of(A), [PeerEvent::Up], "{hold_time}");
        net.run(secs(20));
        assert!(
            matches!(
                net.events_of(A)[1],
                PeerEvent::Down(DownReason::SendHold, _)
            ),
            "{hold_time}"
        );
    }
}

#[test]
fn progress_of_one_octet_keeps_the_send_hold_timer_off() {
    let [mut a, b] = configs();
    a.send_hold = secs(40);
    // Without hold timers, so that none expires first.
    a.hold_time = 0;
    let mut net = VirtualNet::established([a, b]);
    let conn = net
        .links
        .iter()
        .find_map(|l| l.ends.iter().all(Option::is_some).then_some(l.ends[A]))
        .flatten()
        .unwrap();
    net.stuck[A] = true;
    for _ in 0..20 {
        net.peers[A].send(net.now, &end_of_rib()).unwrap();
    }
    for _ in 0..8 {
        net.run(secs(10));
        net.peers[A].handle_written(net.now, conn, 1);
    }
    assert_eq!(net.events_of(A), [PeerEvent::Up]);
    net.run(secs(50));
    assert!(matches!(
        net.events_of(A)[1],
        PeerEvent::Down(DownReason::SendHold, _)
    ));
}

#[test]
fn one_octet_per_second_does_not_count_as_a_message() {
    let [mut a, b] = configs();
    a.passive = true;
    a.hold_time = 30;
    let mut net = VirtualNet::new([a, b.clone()]);
    net.peers[A].start(net.now);
    let conn = net.raw_peer(&[b.open(false, false).emit().unwrap(), KEEPALIVE.to_vec()].concat());
    net.settle();
    let mut update = Vec::new();
    withdraw((0..60).map(route), MAX_MESSAGE_LEN, |m| update = m.to_vec());
    for octet in update.iter().take(31) {
        net.run(secs(1));
        net.peers[A].handle_bytes(conn, &[*octet]);
    }
    net.run(Duration::ZERO);
    assert_eq!(net.time_of(A, is_down), secs(30));
}

#[test]
fn a_peer_without_an_open_is_closed_after_four_minutes() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.peers[A].start(net.now);
    net.raw_peer(&[]);
    net.run(secs(239));
    assert_eq!(net.state(A), FsmState::OpenSent);
    net.run(secs(1));
    assert_eq!(
        net.peers[A].status().failures.open.map(|open| open.reason),
        Some(DownReason::Sent(Notification::new(
            ErrorCode::HOLD_TIMER_EXPIRED,
            &[]
        )))
    );
}

#[test]
fn connecting_is_retried_with_jitter() {
    let mut net = VirtualNet::new(configs());
    net.unreachable = [true; 2];
    net.peers[A].start(net.now);
    net.settle();
    assert_eq!(net.state(A), FsmState::Connect);
    net.run(secs(1000));
    // Every 7.5 to 10 s.
    let tries = net.links.len();
    assert!((100..=134).contains(&tries), "{tries}");
    assert!(
        net.links.iter().filter(|l| l.ends[A].is_some()).count() <= 1,
        "slow attempts are closed"
    );
    net.unreachable = [false; 2];
    net.peers[B].start(net.now);
    net.run(secs(11));
    assert_eq!(net.state(A), FsmState::Established);
}

#[test]
fn a_refused_connection_is_retried() {
    let mut net = VirtualNet::new(configs());
    net.peers[A].start(net.now);
    // B is not started: it closes what it accepts.
    net.run(secs(100));
    assert!((10..=14).contains(&net.links.len()), "{}", net.links.len());
    assert_ne!(net.state(A), FsmState::Idle);
}

#[test]
fn a_long_session_resets_the_idle_time() {
    let mut net = VirtualNet::established(configs());
    for _ in 0..8 {
        net.cut();
        net.run(secs(61));
        assert_eq!(net.state(A), FsmState::Established);
    }
    net.run(secs(3600));
    let before = net.now - net.start;
    net.cut();
    net.run(secs(10));
    let up = net.events[A]
        .iter()
        .rfind(|(_, t)| *t == PeerEvent::Up)
        .unwrap()
        .0;
    assert!(up - before < secs(2), "{:?}", up - before);
}
