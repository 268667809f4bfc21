//! Sessions between two peers on a virtual clock: establishment, collisions, routes, shutdown.

use std::time::Duration;

use super::super::wire::*;
use super::super::*;
use super::net::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn ibgp_and_ebgp_sessions_are_established() {
    let net = VirtualNet::established(configs());
    assert_eq!(net.events_of(A), [PeerEvent::Up]);
    let negotiated = net.peers[A].status().negotiated.unwrap();
    assert_eq!(
        (
            negotiated.peer_as,
            negotiated.router_id,
            negotiated.internal
        ),
        (65000, id(2), true)
    );
    assert_eq!(
        (negotiated.hold, negotiated.send_limit),
        (secs(90), MAX_EXTENDED_MESSAGE_LEN)
    );

    let wide = 4_200_000_002;
    let pair = [
        PeerConfig::new(65000, id(1), wide),
        PeerConfig::new(wide, id(1), 65000),
    ];
    let net = VirtualNet::established(pair);
    let negotiated = net.peers[A].status().negotiated.unwrap();
    assert_eq!(
        (
            negotiated.peer_as,
            negotiated.internal,
            negotiated.four_octet
        ),
        (wide, false, true)
    );
}

#[test]
fn reads_of_one_octet_are_enough() {
    let mut net = VirtualNet::new(configs());
    net.chunk = 1;
    net.delay = Duration::from_millis(1);
    net.start_both();
    net.run(secs(30));
    assert_eq!(net.state(A), FsmState::Established);
}

#[test]
fn a_passive_peer_only_waits() {
    let [mut a, b] = configs();
    a.passive = true;
    let net = VirtualNet::established([a.clone(), b]);
    assert!(net.links.iter().all(|link| link.opener == B));
    let mut net = VirtualNet::new([
        a.clone(),
        PeerConfig {
            router_id: id(2),
            ..a
        },
    ]);
    net.start_both();
    net.run(secs(600));
    assert!(net.links.is_empty());
    assert_eq!(net.state(A), FsmState::Active);
}

#[test]
fn the_connection_of_the_higher_identifier_survives_a_collision() {
    for swap in [false, true] {
        let mut pair = configs();
        if swap {
            pair.swap(0, 1);
        }
        let higher = usize::from(!swap);
        // Both connect at the same time, and the connections cross.
        let net = VirtualNet::established(pair);
        assert_eq!(net.links.len(), 2);
        let alive: Vec<_> = net
            .links
            .iter()
            .filter(|l| l.ends.iter().all(Option::is_some))
            .collect();
        assert_eq!(alive.len(), 1);
        assert_eq!(alive[0].opener, higher, "swap {swap}");
        for side in [A, B] {
            assert_eq!(net.events_of(side), [PeerEvent::Up]);
            assert_eq!(
                net.peers[side].status().failures.session,
                None,
                "the session was never down"
            );
        }
    }
}

#[test]
fn the_higher_as_decides_a_collision_of_equal_identifiers() {
    let net = VirtualNet::established([
        PeerConfig::new(65001, id(1), 65002),
        PeerConfig::new(65002, id(1), 65001),
    ]);
    let alive = net
        .links
        .iter()
        .find(|l| l.ends.iter().all(Option::is_some))
        .unwrap();
    assert_eq!(alive.opener, B);
}

#[test]
fn routes_and_end_of_rib_arrive_in_any_chunks() {
    for chunk in [1, 7, 1000, 70_000] {
        let mut net = VirtualNet::established(configs());
        net.chunk = chunk;
        net.delay = Duration::from_micros(10);
        let routes: Vec<_> = (0..3000).map(route).collect();
        let negotiated = net.peers[A].status().negotiated.unwrap();
        let attributes = Attributes::local(id(1).into());
        let mut messages = Vec::new();
        announce(
            &attributes,
            routes.iter().copied(),
            negotiated.encoding(),
            |m| messages.push(m.to_vec()),
        );
        assert!(
            messages.iter().any(|m| m.len() > 65_000),
            "extended messages are used"
        );
        messages.push(end_of_rib().to_vec());
        for message in &messages {
            // The send queue may be full until the virtual network has transferred octets.
            while net.peers[A].send(net.now, message).is_err() {
                net.run(secs(1));
            }
        }
        for _ in 0..400 {
            net.run(Duration::from_millis(500));
        }
        let got: Vec<_> = net
            .events_of(B)
            .into_iter()
            .filter_map(|event| {
                if let PeerEvent::Changes(changes) = event {
                    Some(changes)
                } else {
                    None
                }
            })
            .flatten()
            .collect();
        assert_eq!(got.len(), routes.len());
        assert!(
            got.into_iter()
                .eq(routes.into_iter().map(RouteChange::Announce))
        );
        assert_eq!(net.events_of(B).last(), Some(&PeerEvent::EndOfRib));
    }
}

#[test]
fn a_full_send_queue_refuses_messages_until_it_drains() {
    let [mut a, b] = configs();
    a.send_queue = 100;
    let mut net = VirtualNet::established([a, b]);
    net.stuck[A] = true;
    let mut count = 0;
    while net.peers[A].send(net.now, &end_of_rib()).is_ok() {
        count += 1;
    }
    assert_eq!(
        count, 4,
        "the message that goes beyond 100 octets is the last"
    );
    net.stuck[A] = false;
    net.run(secs(1));
    assert_eq!(
        net.events_of(B)
            .iter()
            .filter(|t| **t == PeerEvent::EndOfRib)
            .count(),
        4
    );
    assert_eq!(net.peers[A].send(net.now, &end_of_rib()), Ok(()));
}

#[test]
fn route_refresh_works_in_both_directions() {
    let mut net = VirtualNet::established(configs());
    assert!(net.peers[A].clear_soft_in(net.now));
    net.run(secs(1));
    assert_eq!(net.events_of(B)[1..], [PeerEvent::Refresh]);
    net.peers[B].send(net.now, &end_of_rib()).unwrap();
    for kind in [RefreshKind::Begin, RefreshKind::End] {
        net.peers[B].send_refresh(net.now, kind).unwrap();
    }
    net.run(secs(1));
    assert_eq!(
        net.events_of(A)[2..],
        [PeerEvent::RefreshBegun, PeerEvent::RefreshEnded]
    );
    assert!(net.peers[A].clear_soft_out());
    net.settle();
    assert_eq!(net.events_of(A).last(), Some(&PeerEvent::Refresh));
    let mut idle = VirtualNet::new(configs());
    assert!(!idle.peers[A].clear_soft_in(idle.now) && !idle.peers[A].clear_soft_out());
    assert_eq!(idle.peers[A].send(idle.now, &KEEPALIVE), Err(QueueFull));
    idle.settle();
}

#[test]
fn a_shutdown_sends_its_text_and_lasts_until_the_start() {
    let mut net = VirtualNet::established(configs());
    net.peers[A].shutdown(net.now, Some("maintenance"));
    net.run(secs(300));
    let Some(PeerEvent::Down(DownReason::Received(notification), None)) =
        net.events_of(B).last().cloned()
    else {
        panic!("{:?}", net.events[B])
    };
    assert!(
        notification.is_hard_reset(),
        "the peer must not keep our routes"
    );
    assert_eq!(notification.shutdown_text().as_deref(), Some("maintenance"));
    assert_eq!(net.state(A), FsmState::Idle);
    assert_ne!(net.state(B), FsmState::Established);
    net.peers[A].start(net.now);
    net.run(secs(30));
    assert_eq!(net.state(A), FsmState::Established);
}

#[test]
fn without_graceful_restart_a_shutdown_is_not_a_hard_reset() {
    let [mut a, b] = configs();
    a.restart = None;
    let mut net = VirtualNet::established([a, b]);
    net.peers[A].shutdown(net.now, None);
    net.run(secs(1));
    let Some(PeerEvent::Down(DownReason::Received(notification), None)) =
        net.events_of(B).last().cloned()
    else {
        panic!("{:?}", net.events[B])
    };
    assert_eq!(notification.error, ErrorCode::ADMINISTRATIVE_SHUTDOWN);
}

#[test]
fn the_session_is_established_again_after_a_hard_clear() {
    let mut net = VirtualNet::established(configs());
    net.peers[A].clear_hard(net.now, None);
    net.run(secs(60));
    assert_eq!(net.state(A), FsmState::Established);
    let events = net.events_of(A);
    assert!(
        matches!(events[1], PeerEvent::Down(DownReason::Sent(_), None)),
        "{events:?}"
    );
    assert_eq!(events[2..], [PeerEvent::Up]);
}

#[test]
fn each_session_needs_one_connection() {
    let [a, mut b] = configs();
    b.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.start_both();
    net.run(secs(600));
    assert_eq!(
        (net.state(A), net.links.len()),
        (FsmState::Established, 1),
        "started"
    );
    net.peers[A].clear_hard(net.now, None);
    net.run(secs(600));
    assert_eq!(
        (net.state(A), net.links.len()),
        (FsmState::Established, 2),
        "cleared"
    );
    // This removes the earlier links.
    net.cut();
    net.run(secs(600));
    assert_eq!(
        (net.state(A), net.links.len()),
        (FsmState::Established, 1),
        "cut"
    );
    net.peers[B].shutdown(net.now, None);
    net.peers[B].start(net.now);
    net.run(secs(600));
    assert_eq!(
        (net.state(A), net.links.len()),
        (FsmState::Established, 2),
        "closed by the other side"
    );
}

#[test]
fn reconnecting_waits_after_a_local_close() {
    const MILLISECOND: Duration = Duration::from_millis(1);
    let [a, mut b] = configs();
    b.passive = true;
    let mut net = VirtualNet::established([a.clone(), b]);
    let ends: [fn(&mut VirtualNet); 2] = [
        |net| net.peers[A].clear_hard(net.now, None),
        |net| {
            net.peers[A].shutdown(net.now, None);
            net.peers[A].start(net.now);
        },
    ];
    for (count, end) in ends.into_iter().enumerate() {
        end(&mut net);
        net.run(RECONNECT_DELAY - MILLISECOND);
        assert_eq!(net.links.len(), count + 1);
        net.run(MILLISECOND);
        assert_eq!(net.links.len(), count + 2);
        net.run(secs(60));
        assert_eq!(net.state(A), FsmState::Established);
    }
    // A new peer is given the time of the last close.
    let mut peer = Peer::new(a, 1);
    peer.set_last_closed(Some(net.now));
    peer.start(net.now + MILLISECOND);
    assert!(peer.poll_output(net.now + MILLISECOND).is_none());
    assert_eq!(peer.poll_timeout(), Some(net.now + RECONNECT_DELAY));
}

#[test]
fn exceeding_the_prefix_limit_ends_the_session_for_the_retry_time() {
    let [mut a, b] = configs();
    a.max_prefixes = Some(MaxPrefixes {
        limit: 10,
        retry: Some(secs(600)),
    });
    let mut net = VirtualNet::established([a.clone(), b.clone()]);
    net.peers[A].handle_prefix_count(net.now, 10);
    net.settle();
    assert_eq!(net.state(A), FsmState::Established);
    let before = net.now;
    net.peers[A].handle_prefix_count(net.now, 11);
    net.run(secs(599));
    let Some(PeerEvent::Down(DownReason::Received(n), None)) = net.events_of(B).last().cloned()
    else {
        panic!("B is up")
    };
    assert_eq!(
        (n.is_hard_reset(), &n.data[..]),
        (true, &[6, 1, 0, 25, 70, 0, 0, 0, 10][..])
    );
    assert_eq!(net.state(A), FsmState::Idle);
    assert_eq!(net.peers[A].status().idle_until, Some(before + secs(600)));
    net.run(secs(60));
    assert_eq!(net.state(A), FsmState::Established);

    a.max_prefixes = Some(MaxPrefixes {
        limit: 10,
        retry: None,
    });
    let mut net = VirtualNet::established([a, b]);
    net.peers[A].handle_prefix_count(net.now, 11);
    net.run(secs(100_000));
    assert_eq!(net.state(A), FsmState::Idle);
    net.peers[A].clear_hard(net.now, None);
    net.run(secs(60));
    assert_eq!(net.state(A), FsmState::Established);
}

#[test]
fn a_late_collision_does_not_replace_a_new_session() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = VirtualNet::new([a, b]);
    net.peers[A].start(net.now);
    net.raw_peer(&[open_message(|_| {}), KEEPALIVE.to_vec()].concat());
    net.settle();
    net.raw_peer(&open_message(|_| {}));
    assert_eq!(
        net.sent_notification(),
        Some(Notification::new(
            ErrorCode::CONNECTION_COLLISION_RESOLUTION,
            &[]
        ))
    );
    assert_eq!(net.state(A), FsmState::Established);
    assert_eq!(net.peers[A].status().failures.session, None);
}

#[test]
fn a_connection_without_an_open_does_not_prevent_our_own() {
    let mut net = VirtualNet::new(configs());
    net.unreachable[B] = true;
    net.peers[A].start(net.now);
    net.settle();
    net.raw_peer(&[]);
    net.unreachable[B] = false;
    net.peers[B].start(net.now);
    net.peers[B].shutdown(net.now, None);
    net.run(secs(5));
    net.peers[B].start(net.now);
    net.run(secs(20));
    assert_eq!(net.state(A), FsmState::Established);
}

#[test]
fn without_graceful_restart_a_second_connection_is_refused() {
    let [mut a, b] = configs();
    a.restart = None;
    let mut net = VirtualNet::established([a, b]);
    net.run(secs(60));
    assert_eq!(net.peers[A].handle_accepted(net.now), None);
    net.settle();
    assert_eq!(net.state(A), FsmState::Established);
}
