//! Another configuration while the session is established (finding C10).

use std::time::Duration;

use super::super::*;
use super::net::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Applies a change to side A of an established session, and runs for ten seconds.
fn changed(change: impl FnOnce(&mut PeerConfig)) -> (VirtualNet, bool) {
    let mut net = VirtualNet::established(configs());
    net.events = [Vec::new(), Vec::new()];
    let mut config = net.peers[A].config().clone();
    change(&mut config);
    let now = net.now;
    let reset = net.peers[A].reconfigure(now, config, false);
    net.run(secs(10));
    (net, reset)
}

#[test]
fn settings_that_are_not_in_the_open_change_without_a_reset() {
    let changes: [fn(&mut PeerConfig); 8] = [
        |c| c.passive = true,
        |c| c.connect_retry = secs(3),
        |c| c.idle_hold = (secs(2), secs(3)),
        |c| c.send_hold = secs(900),
        |c| {
            c.restart = c.restart.map(|r| RestartConfig {
                stale_limit: secs(9),
                ..r
            });
        },
        |c| {
            c.max_prefixes = Some(MaxPrefixes {
                limit: 9,
                retry: None,
            });
        },
        |c| c.hostname = Some("other".to_owned()),
        |c| c.send_queue = 1 << 16,
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let (net, reset) = changed(change);
        assert!(!reset, "change {place}");
        assert_eq!(net.events, [vec![], vec![]], "change {place}");
        assert_eq!(net.state(A), FsmState::Established, "change {place}");
    }
}

#[test]
fn settings_in_the_open_reset_the_session_once() {
    let changes: [fn(&mut PeerConfig); 4] = [
        |c| c.hold_time = 30,
        |c| c.router_id = id(3),
        |c| c.extended_messages = false,
        |c| c.restart = None,
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let (net, reset) = changed(change);
        assert!(reset, "change {place}");
        let PeerEvent::Down(DownReason::Received(cease), None) = &net.events[B][0].1 else {
            panic!("{:?}", net.events[B]);
        };
        // Wrapped in a hard reset, so that the peer does not keep the routes.
        assert!(cease.is_hard_reset(), "{cease}");
        assert!(cease.to_string().contains("6/6"), "{cease}");
        assert_eq!(net.events_of(B)[1..], [PeerEvent::Up], "change {place}");
        assert_eq!(net.state(A), FsmState::Established, "change {place}");
    }
}

#[test]
fn a_peer_that_was_shut_down_stays_so() {
    for hold_time in [90, 30] {
        let mut net = VirtualNet::established(configs());
        let now = net.now;
        net.peers[A].shutdown(now, None);
        net.run(secs(5));
        let config = PeerConfig {
            hold_time,
            connect_retry: secs(1),
            ..net.peers[A].config().clone()
        };
        let now = net.now;
        net.peers[A].reconfigure(now, config, hold_time == 30);
        net.run(secs(60));
        assert_eq!(net.state(A), FsmState::Idle);
        assert!(!net.peers[A].status().enabled);
    }
}

#[test]
fn a_shorter_retry_time_and_the_end_of_passive_take_effect_at_once() {
    let mut net = VirtualNet::new(configs());
    net.unreachable = [true, true];
    net.peers[A].start(net.now);
    net.settle();
    net.run(secs(1));
    net.unreachable = [false, false];
    let passive = PeerConfig {
        passive: true,
        connect_retry: secs(3600),
        ..net.peers[A].config().clone()
    };
    let now = net.now;
    net.peers[A].reconfigure(now, passive.clone(), false);
    net.peers[B].start(net.now);
    net.peers[B].shutdown(net.now, None);
    net.run(secs(3600));
    assert_eq!(net.state(A), FsmState::Active, "neither side connects");
    net.peers[B].reconfigure(
        net.now,
        PeerConfig {
            passive: true,
            ..configs()[B].clone()
        },
        false,
    );
    net.peers[B].start(net.now);
    let active = PeerConfig {
        passive: false,
        ..passive
    };
    let now = net.now;
    net.peers[A].reconfigure(now, active, false);
    net.run(secs(2));
    assert_eq!(net.state(A), FsmState::Established);
}

#[test]
fn a_changed_prefix_limit_counts_at_once() {
    let limit = |limit| Some(MaxPrefixes { limit, retry: None });
    let mut net = VirtualNet::established(configs());
    let base = net.peers[A].config().clone();
    let set = |net: &mut VirtualNet, max_prefixes| {
        let config = PeerConfig {
            max_prefixes,
            ..base.clone()
        };
        let now = net.now;
        assert!(!net.peers[A].reconfigure(now, config, false));
        net.peers[A].handle_prefix_count(now, 5);
    };
    set(&mut net, limit(5));
    net.run(secs(1));
    assert_eq!(net.state(A), FsmState::Established);
    set(&mut net, limit(4));
    net.run(secs(600));
    assert_eq!(net.state(A), FsmState::Idle);
    // Other changes do not end the wait for an operator, a greater limit does.
    let config = PeerConfig {
        connect_retry: secs(1),
        max_prefixes: limit(4),
        ..base.clone()
    };
    let now = net.now;
    net.peers[A].reconfigure(now, config, false);
    net.run(secs(600));
    assert_eq!(net.state(A), FsmState::Idle);
    set(&mut net, None);
    net.run(secs(120));
    assert_eq!(net.state(A), FsmState::Established);
}
