//! Sessions between two peers on a virtual clock: coming up, collisions, ends, routes, restarts.

use std::time::Duration;

use super::super::wire::*;
use super::super::*;
use super::net::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_session_comes_up_inside_and_between_ases() {
    let net = Net::established(configs());
    assert_eq!(net.what(A), [Told::Up]);
    let agreed = net.peers[A].status().negotiated.unwrap();
    assert_eq!((agreed.peer_as, agreed.router_id, agreed.internal), (65000, id(2), true));
    assert_eq!((agreed.hold, agreed.send_limit), (secs(90), EXTENDED_LIMIT));

    let wide = 4_200_000_002;
    let pair = [PeerConfig::new(65000, id(1), wide), PeerConfig::new(wide, id(1), 65000)];
    let net = Net::established(pair);
    let agreed = net.peers[A].status().negotiated.unwrap();
    assert_eq!((agreed.peer_as, agreed.internal, agreed.four_octet), (wide, false, true));
}

#[test]
fn one_octet_a_read_is_enough() {
    let mut net = Net::new(configs());
    net.chunk = 1;
    net.delay = Duration::from_millis(1);
    net.start_both();
    net.run(secs(30));
    assert_eq!(net.state(A), State::Established);
}

#[test]
fn a_passive_peer_waits_and_two_passive_ones_wait_forever() {
    let [mut a, b] = configs();
    a.passive = true;
    let net = Net::established([a.clone(), b]);
    assert!(net.links.iter().all(|link| link.opener == B));
    let mut net = Net::new([a.clone(), PeerConfig { router_id: id(2), ..a }]);
    net.start_both();
    net.run(secs(600));
    assert!(net.links.is_empty());
    assert_eq!(net.state(A), State::Active);
}

#[test]
fn of_two_connections_that_of_the_higher_identifier_survives() {
    for swap in [false, true] {
        let mut pair = configs();
        if swap {
            pair.swap(0, 1);
        }
        let higher = usize::from(!swap);
        // Both connect in the same instant, and the connections cross.
        let net = Net::established(pair);
        assert_eq!(net.links.len(), 2);
        let alive: Vec<_> = net.links.iter().filter(|l| l.ends.iter().all(Option::is_some)).collect();
        assert_eq!(alive.len(), 1);
        assert_eq!(alive[0].opener, higher, "swap {swap}");
        for side in [A, B] {
            assert_eq!(net.what(side), [Told::Up]);
            assert_eq!(net.peers[side].status().last_down, None, "the session was never down");
        }
    }
}

#[test]
fn with_equal_identifiers_the_higher_as_decides_a_collision() {
    let net = Net::established([PeerConfig::new(65001, id(1), 65002), PeerConfig::new(65002, id(1), 65001)]);
    let alive = net.links.iter().find(|l| l.ends.iter().all(Option::is_some)).unwrap();
    assert_eq!(alive.opener, B);
}

#[test]
fn routes_and_end_of_rib_arrive_whatever_the_chunks() {
    for chunk in [1, 7, 1000, 70_000] {
        let mut net = Net::established(configs());
        net.chunk = chunk;
        net.delay = Duration::from_micros(10);
        let routes: Vec<_> = (0..3000).map(route).collect();
        let agreed = net.peers[A].status().negotiated.unwrap();
        let attributes = Attributes::local(id(1).into());
        let mut messages = Vec::new();
        announce(&attributes, routes.iter().copied(), agreed.encoding(), |m| messages.push(m.to_vec()));
        assert!(messages.iter().any(|m| m.len() > 65_000), "extended messages are used");
        messages.push(end_of_rib().to_vec());
        for message in &messages {
            // A virtual network has its pauses too: the queue takes what it can.
            while net.peers[A].send(net.now, message).is_err() {
                net.run(secs(1));
            }
        }
        for _ in 0..400 {
            net.run(Duration::from_millis(500));
        }
        let got: Vec<_> = net
            .what(B)
            .into_iter()
            .filter_map(|told| if let Told::Changes(changes) = told { Some(changes) } else { None })
            .flatten()
            .collect();
        assert_eq!(got.len(), routes.len());
        assert!(got.into_iter().eq(routes.into_iter().map(Change::Announce)));
        assert_eq!(net.what(B).last(), Some(&Told::EndOfRib));
    }
}

#[test]
fn a_full_queue_refuses_and_takes_again_later() {
    let [mut a, b] = configs();
    a.send_queue = 100;
    let mut net = Net::established([a, b]);
    net.stuck[A] = true;
    let mut count = 0;
    while net.peers[A].send(net.now, &end_of_rib()).is_ok() {
        count += 1;
    }
    assert_eq!(count, 4, "the message that goes beyond 100 octets is the last");
    net.stuck[A] = false;
    net.run(secs(1));
    assert_eq!(net.what(B).iter().filter(|t| **t == Told::EndOfRib).count(), 4);
    assert_eq!(net.peers[A].send(net.now, &end_of_rib()), Ok(()));
}

#[test]
fn refreshes_go_both_ways() {
    let mut net = Net::established(configs());
    assert!(net.peers[A].clear_soft_in(net.now));
    net.run(secs(1));
    assert_eq!(net.what(B)[1..], [Told::Refresh]);
    for kind in [RefreshKind::Begin, RefreshKind::End] {
        net.peers[B].send_refresh(net.now, kind).unwrap();
    }
    net.run(secs(1));
    assert_eq!(net.what(A)[1..], [Told::RefreshBegun, Told::RefreshEnded]);
    assert!(net.peers[A].clear_soft_out());
    net.settle();
    assert_eq!(net.what(A).last(), Some(&Told::Refresh));
    let mut idle = Net::new(configs());
    assert!(!idle.peers[A].clear_soft_in(idle.now) && !idle.peers[A].clear_soft_out());
    assert_eq!(idle.peers[A].send(idle.now, &KEEPALIVE), Err(QueueFull));
    idle.settle();
}

#[test]
fn a_shutdown_tells_why_and_lasts_until_the_start() {
    let mut net = Net::established(configs());
    net.peers[A].shutdown(net.now, Some("maintenance"));
    net.run(secs(300));
    let Some(Told::Down(DownReason::Received(notification), None)) = net.what(B).last().cloned() else {
        panic!("{:?}", net.told[B])
    };
    assert!(notification.is_hard_reset(), "or the peer would keep our routes");
    assert_eq!(notification.shutdown_text().as_deref(), Some("maintenance"));
    assert_eq!(net.state(A), State::Idle);
    assert_ne!(net.state(B), State::Established);
    net.peers[A].start(net.now);
    net.run(secs(30));
    assert_eq!(net.state(A), State::Established);
}

#[test]
fn without_graceful_restart_a_shutdown_is_plain_and_nothing_is_kept() {
    let [mut a, b] = configs();
    a.restart = None;
    let mut net = Net::established([a, b]);
    net.peers[A].shutdown(net.now, None);
    net.run(secs(1));
    let Some(Told::Down(DownReason::Received(notification), None)) = net.what(B).last().cloned() else {
        panic!("{:?}", net.told[B])
    };
    assert_eq!((notification.code, notification.subcode), (6, 2));
}

#[test]
fn a_hard_clear_comes_back_by_itself() {
    let mut net = Net::established(configs());
    net.peers[A].clear_hard(net.now, None);
    net.run(secs(60));
    assert_eq!(net.state(A), State::Established);
    let told = net.what(A);
    assert!(matches!(told[1], Told::Down(DownReason::Sent(_), None)), "{told:?}");
    assert_eq!(told[2..], [Told::Up]);
}

#[test]
fn each_session_costs_one_connection() {
    let [a, mut b] = configs();
    b.passive = true;
    let mut net = Net::new([a, b]);
    net.start_both();
    net.run(secs(600));
    assert_eq!((net.state(A), net.links.len()), (State::Established, 1), "started");
    net.peers[A].clear_hard(net.now, None);
    net.run(secs(600));
    assert_eq!((net.state(A), net.links.len()), (State::Established, 2), "cleared");
    // This forgets what was there.
    net.cut();
    net.run(secs(600));
    assert_eq!((net.state(A), net.links.len()), (State::Established, 1), "cut off");
    net.peers[B].shutdown(net.now, None);
    net.peers[B].start(net.now);
    net.run(secs(600));
    assert_eq!((net.state(A), net.links.len()), (State::Established, 2), "ended by the other side");
}

#[test]
fn after_an_end_of_ours_the_next_connection_waits() {
    const MOMENT: Duration = Duration::from_millis(1);
    let [a, mut b] = configs();
    b.passive = true;
    let mut net = Net::established([a.clone(), b]);
    let ends: [fn(&mut Net); 2] = [
        |net| net.peers[A].clear_hard(net.now, None),
        |net| {
            net.peers[A].shutdown(net.now, None);
            net.peers[A].start(net.now);
        },
    ];
    for (count, end) in ends.into_iter().enumerate() {
        end(&mut net);
        net.run(RECONNECT_PAUSE - MOMENT);
        assert_eq!(net.links.len(), count + 1);
        net.run(MOMENT);
        assert_eq!(net.links.len(), count + 2);
        net.run(secs(60));
        assert_eq!(net.state(A), State::Established);
    }
    // A new machine knows when the old one ended.
    let mut peer = Peer::new(a, 1);
    peer.set_last_ended(Some(net.now));
    peer.start(net.now + MOMENT);
    assert!(peer.poll_output(net.now + MOMENT).is_none());
    assert_eq!(peer.poll_timeout(), Some(net.now + RECONNECT_PAUSE));
}

#[test]
fn too_many_routes_end_the_session_for_the_configured_time() {
    let [mut a, b] = configs();
    a.max_prefixes = Some(MaxPrefixes { limit: 10, retry: Some(secs(600)) });
    let mut net = Net::established([a.clone(), b.clone()]);
    net.peers[A].handle_prefix_count(net.now, 10);
    net.settle();
    assert_eq!(net.state(A), State::Established);
    let before = net.now;
    net.peers[A].handle_prefix_count(net.now, 11);
    net.run(secs(599));
    let Some(Told::Down(DownReason::Received(n), None)) = net.what(B).last().cloned() else {
        panic!("B is up")
    };
    assert_eq!((n.is_hard_reset(), &n.data[..]), (true, &[6, 1, 0, 25, 70, 0, 0, 0, 10][..]));
    assert_eq!(net.state(A), State::Idle);
    assert_eq!(net.peers[A].status().idle_until, Some(before + secs(600)));
    net.run(secs(60));
    assert_eq!(net.state(A), State::Established);

    a.max_prefixes = Some(MaxPrefixes { limit: 10, retry: None });
    let mut net = Net::established([a, b]);
    net.peers[A].handle_prefix_count(net.now, 11);
    net.run(secs(100_000));
    assert_eq!(net.state(A), State::Idle);
    net.peers[A].clear_hard(net.now, None);
    net.run(secs(60));
    assert_eq!(net.state(A), State::Established);
}

#[test]
fn routes_are_kept_over_a_lost_connection_until_end_of_rib() {
    let mut net = Net::established(configs());
    net.cut();
    let kept = Some(secs(120));
    assert_eq!(net.what(A)[1], Told::Down(DownReason::Closed, kept));
    net.run(secs(30));
    assert_eq!(net.what(A)[2..], [Told::Up]);
    net.peers[B].send(net.now, &end_of_rib()).unwrap();
    net.run(secs(1));
    assert_eq!(net.what(A)[3..], [Told::EndOfRib, Told::Sweep]);
    net.run(secs(1000));
    assert_eq!(net.what(A).len(), 5, "swept once");
}

#[test]
fn a_peer_that_is_back_but_silent_loses_its_stale_routes_in_time() {
    let mut net = Net::established(configs());
    net.cut();
    net.run(secs(1000));
    assert_eq!(net.what(A)[2..], [Told::Up, Told::Sweep]);
    let up = net.told[A][2].0;
    assert_eq!(net.told[A][3].0 - up, secs(360));
}

#[test]
fn a_peer_that_stays_away_loses_its_routes_after_its_restart_time() {
    let mut net = Net::established(configs());
    net.deaf = [true; 2];
    let before = net.now - net.start;
    net.cut();
    net.run(secs(1000));
    assert_eq!(net.when(A, |t| *t == Told::Sweep) - before, secs(120));
}

#[test]
fn long_lived_time_follows_the_restart_time() {
    let mut pair = configs();
    for config in &mut pair {
        config.restart = Some(RestartConfig { long_lived: Some(3600), ..RestartConfig::default() });
    }
    let mut net = Net::established(pair);
    net.deaf = [true; 2];
    let before = net.now - net.start;
    net.cut();
    assert_eq!(net.what(A)[1], Told::Down(DownReason::Closed, Some(secs(3720))));
    net.run(secs(5000));
    assert_eq!(net.when(A, |t| *t == Told::LongLived) - before, secs(120));
    assert_eq!(net.when(A, |t| *t == Told::Sweep) - before, secs(3720));
}

#[test]
fn a_second_absence_sweeps_what_the_first_left_stale() {
    let mut net = Net::established(configs());
    net.cut();
    net.run(secs(30));
    net.cut();
    let told = net.what(A);
    assert_eq!(told[2..4], [Told::Up, Told::Sweep]);
    assert!(matches!(told[4], Told::Down(DownReason::Closed, Some(_))), "{told:?}");
}

#[test]
fn a_peer_that_lost_its_forwarding_state_loses_its_stale_routes_at_once() {
    let mut net = Net::established(configs());
    net.deaf[A] = true;
    // B starts anew, knows of its restart, and has kept nothing.
    let mut open = net.peers[B].config().open(true, false);
    open.hold_time = 90;
    net.cut();
    net.stranger(&[open.emit().unwrap(), KEEPALIVE.to_vec()].concat());
    net.deaf[B] = true;
    net.settle();
    let told = net.what(A);
    assert_eq!(told[2..], [Told::Up, Told::Sweep], "{told:?}");
}

#[test]
fn a_restarted_peer_replaces_its_old_connection() {
    let mut net = Net::established(configs());
    net.run(secs(60));
    let open = net.peers[B].config().open(true, true);
    net.stranger(&[open.emit().unwrap(), KEEPALIVE.to_vec()].concat());
    net.settle();
    let told = net.what(A);
    assert_eq!(told[1..3], [Told::Down(DownReason::Replaced, Some(secs(120))), Told::Up], "{told:?}");
}

#[test]
fn what_is_left_of_a_collision_does_not_replace_a_young_session() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = Net::new([a, b]);
    net.peers[A].start(net.now);
    net.stranger(&[opening(|_| {}), KEEPALIVE.to_vec()].concat());
    net.settle();
    net.stranger(&opening(|_| {}));
    assert_eq!(net.verdict(), Some(Notification::cease(cease::COLLISION, None)));
    assert_eq!(net.state(A), State::Established);
    assert_eq!(net.peers[A].status().last_down, None);
}

#[test]
fn a_silent_connection_does_not_keep_ours_from_being_tried() {
    let mut net = Net::new(configs());
    net.deaf[B] = true;
    net.peers[A].start(net.now);
    net.settle();
    net.stranger(&[]);
    net.deaf[B] = false;
    net.peers[B].start(net.now);
    net.peers[B].shutdown(net.now, None);
    net.run(secs(5));
    net.peers[B].start(net.now);
    net.run(secs(20));
    assert_eq!(net.state(A), State::Established);
}

#[test]
fn without_graceful_restart_a_second_connection_is_refused() {
    let [mut a, b] = configs();
    a.restart = None;
    let mut net = Net::established([a, b]);
    net.run(secs(60));
    assert_eq!(net.peers[A].handle_accepted(net.now), None);
    net.settle();
    assert_eq!(net.state(A), State::Established);
}

#[test]
fn a_restarting_speaker_says_so() {
    let mut net = Net::new(configs());
    net.peers[B].set_restarting(true);
    net.start_both();
    net.run(secs(30));
    let restart = net.peers[A].status().negotiated.unwrap().restart.unwrap();
    assert!(restart.restarting && restart.preserved && restart.notification);
    let other = net.peers[B].status().negotiated.unwrap().restart.unwrap();
    assert!(!other.restarting && !other.preserved);
}

/// What A answers to octets of a stranger on a fresh connection.
fn answer(octets: &[u8]) -> Option<Notification> {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = Net::new([a, b]);
    net.peers[A].start(net.now);
    net.stranger(octets);
    net.verdict()
}

fn opening(change: impl FnOnce(&mut Open)) -> Vec<u8> {
    let mut open = configs()[1].open(false, false);
    change(&mut open);
    open.emit().unwrap()
}

#[test]
fn each_wrong_open_has_its_subcode() {
    let code = |octets: &[u8]| answer(octets).map(|n| (n.code, n.subcode));
    assert_eq!(code(&opening(|_| {})), None);
    let other_as = opening(|o| o.capabilities.retain(|c| !matches!(c, Capability::FourOctetAs(_))));
    assert_eq!(code(&other_as), None, "AS 65000 needs no 4 octets");
    let other_as = opening(|o| {
        o.my_as = 65001;
        o.capabilities.retain(|c| !matches!(c, Capability::FourOctetAs(_)));
    });
    assert_eq!(code(&other_as), Some((2, 2)));
    assert_eq!(code(&opening(|o| o.capabilities.insert(0, Capability::FourOctetAs(0)))), Some((2, 2)));
    assert_eq!(code(&opening(|o| o.router_id = [0; 4].into())), Some((2, 3)));
    assert_eq!(code(&opening(|o| o.router_id = id(1))), Some((2, 3)), "our own identifier");
    for hold in [1, 2] {
        assert_eq!(code(&opening(|o| o.hold_time = hold)), Some((2, 6)));
    }
    for hold in [0, 3, 65535] {
        assert_eq!(code(&opening(|o| o.hold_time = hold)), None);
    }
    let without = opening(|o| o.capabilities.retain(|c| !matches!(c, Capability::Multiprotocol(_))));
    assert_eq!(answer(&without), Some(Notification::new(2, 7, &[1, 4, 0, 25, 0, 70])));
    let mut version = opening(|_| {});
    version[HEADER_LEN] = 3;
    assert_eq!(answer(&version), Some(Notification::new(2, 1, &[0, 4])));
}

#[test]
fn wrong_headers_and_misplaced_messages_have_their_subcodes() {
    let open = opening(|_| {});
    let after_open = |octets: &[u8]| answer(&[&open, octets].concat()).map(|n| (n.code, n.subcode));
    let up = [&open[..], &KEEPALIVE].concat();
    let after_up = |octets: &[u8]| answer(&[&up, octets].concat()).map(|n| (n.code, n.subcode));
    assert_eq!(answer(&[0; 19]), Some(Notification::new(1, 1, &[])));
    assert_eq!(answer(&KEEPALIVE).map(|n| (n.code, n.subcode)), Some((5, 1)));
    assert_eq!(after_open(&open), Some((5, 2)));
    assert_eq!(after_open(&end_of_rib()), Some((5, 2)));
    assert_eq!(after_up(&open), Some((5, 3)));
    assert_eq!(after_up(&end_of_rib()), None);
    let mut long = KEEPALIVE;
    long[17] = 20;
    assert_eq!(after_up(&long), Some((1, 2)));
    long[18] = 77;
    assert_eq!(after_up(&long), Some((1, 3)));
    let refresh = |safi| RouteRefresh { family: Family { afi: 25, safi }, kind: RefreshKind::Request }.emit();
    assert_eq!(after_up(&refresh(1)), None, "a family that was not offered is ignored");
}

#[test]
fn a_malformed_update_ends_the_session_and_idles_longer_each_time() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = Net::new([a, b]);
    net.peers[A].start(net.now);
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&[0, 23, 2, 0, 9, 0, 0]);
    let mut last = Duration::ZERO;
    for round in 0..4 {
        net.stranger(&[opening(|_| {}), KEEPALIVE.to_vec(), message.clone()].concat());
        assert_eq!(net.verdict(), Some(Notification::new(3, 1, &[])), "round {round}");
        assert_eq!(net.state(A), State::Idle);
        assert_eq!(net.peers[A].handle_accepted(net.now), None, "Idle takes no connection");
        let until = net.peers[A].status().idle_until.unwrap();
        let pause = until - net.now;
        assert!(pause > last * 3 / 2 || round == 0, "{pause:?} after {last:?}");
        assert!(pause >= Duration::from_millis(750 << round) && pause <= secs(1 << round));
        last = pause;
        net.now = until;
        net.peers[A].handle_timeout(net.now);
        assert_eq!(net.state(A), State::Active);
    }
}

#[test]
fn a_treated_update_is_counted_and_the_session_stays() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = Net::new([a, b]);
    net.peers[A].start(net.now);
    let mut good = Vec::new();
    announce(&Attributes::local(id(2).into()), [route(1)], Encoding { four_octet: true, limit: 4096 }, |m| {
        good = m.to_vec();
    });
    let mut bad = good.clone();
    // ORIGIN is the first attribute after MP_REACH_NLRI: its value becomes 9.
    let origin = bad.windows(4).position(|w| w == [0x40, 1, 1, 0]).unwrap();
    bad[origin + 3] = 9;
    net.stranger(&[opening(|_| {}), KEEPALIVE.to_vec(), bad, good].concat());
    net.settle();
    let announced = Told::Changes(vec![Change::Announce(route(1))]);
    assert_eq!(net.what(A), [Told::Up, Told::Changes(vec![Change::Withdraw(route(1))]), announced]);
    assert_eq!(net.state(A), State::Established);
    assert_eq!(net.peers[A].status().treated_as_withdrawn, 1);
}

#[test]
fn half_open_connections_are_bounded() {
    let [mut a, b] = configs();
    a.passive = true;
    let mut net = Net::new([a, b]);
    net.peers[A].start(net.now);
    let mut alive = Vec::new();
    for _ in 0..100_000 {
        alive.push(net.peers[A].handle_accepted(net.now).unwrap());
        while let Some(output) = net.peers[A].poll_output(net.now) {
            if let Output::Close { conn, .. } = output {
                alive.retain(|c| *c != conn);
            }
        }
        assert!(alive.len() <= 2);
    }
    assert_eq!(net.peers[A].read_room(alive[0]), 2 * EXTENDED_LIMIT);
    assert_eq!(net.peers[A].read_room(Conn(1 << 40)), 0);
}
