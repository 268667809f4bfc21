//! Graceful restart between two peers on a virtual clock (RFC 4724, RFC 8538, RFC 9494).

use std::time::Duration;

use super::super::wire::*;
use super::super::*;
use super::net::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn routes_are_kept_over_a_lost_connection_until_end_of_rib() {
    let mut net = VirtualNet::established(configs());
    net.cut();
    let kept = Some(secs(120));
    assert_eq!(
        net.events_of(A)[1],
        PeerEvent::Down(DownReason::Closed, kept)
    );
    net.run(secs(30));
    assert_eq!(net.events_of(A)[2..], [PeerEvent::Up]);
    net.peers[B].send(net.now, &end_of_rib()).unwrap();
    net.run(secs(1));
    assert_eq!(
        net.events_of(A)[3..],
        [PeerEvent::EndOfRib, PeerEvent::Sweep]
    );
    net.run(secs(1000));
    assert_eq!(net.events_of(A).len(), 5, "swept only once");
}

#[test]
fn stale_routes_of_a_peer_without_end_of_rib_are_swept_after_the_stale_limit() {
    let mut net = VirtualNet::established(configs());
    net.cut();
    net.run(secs(1000));
    assert_eq!(net.events_of(A)[2..], [PeerEvent::Up, PeerEvent::Sweep]);
    let up = net.events[A][2].0;
    assert_eq!(net.events[A][3].0 - up, secs(360));
}

#[test]
fn routes_of_a_peer_that_stays_down_are_swept_after_its_restart_time() {
    let mut net = VirtualNet::established(configs());
    net.unreachable = [true; 2];
    let before = net.now - net.start;
    net.cut();
    net.run(secs(1000));
    assert_eq!(
        net.time_of(A, |t| *t == PeerEvent::Sweep) - before,
        secs(120)
    );
}

#[test]
fn long_lived_time_follows_the_restart_time() {
    let mut pair = configs();
    for config in &mut pair {
        config.restart = Some(RestartConfig {
            long_lived: Some(3600),
            ..RestartConfig::default()
        });
    }
    let mut net = VirtualNet::established(pair);
    net.unreachable = [true; 2];
    let before = net.now - net.start;
    net.cut();
    assert_eq!(
        net.events_of(A)[1],
        PeerEvent::Down(DownReason::Closed, Some(secs(3720)))
    );
    net.run(secs(5000));
    assert_eq!(
        net.time_of(A, |t| *t == PeerEvent::LongLived) - before,
        secs(120)
    );
    assert_eq!(
        net.time_of(A, |t| *t == PeerEvent::Sweep) - before,
        secs(3720)
    );
}

#[test]
fn a_second_restart_sweeps_routes_still_stale_from_the_first() {
    let mut net = VirtualNet::established(configs());
    net.cut();
    net.run(secs(30));
    net.cut();
    let events = net.events_of(A);
    assert_eq!(events[2..4], [PeerEvent::Up, PeerEvent::Sweep]);
    assert!(
        matches!(events[4], PeerEvent::Down(DownReason::Closed, Some(_))),
        "{events:?}"
    );
}

#[test]
fn without_preserved_forwarding_state_stale_routes_are_swept_at_once() {
    let mut net = VirtualNet::established(configs());
    net.unreachable[A] = true;
    // B has restarted without preserving its forwarding state.
    let mut open = net.peers[B].config().open(true, false);
    open.hold_time = 90;
    net.cut();
    net.raw_peer(&[open.emit().unwrap(), KEEPALIVE.to_vec()].concat());
    net.unreachable[B] = true;
    net.settle();
    let events = net.events_of(A);
    assert_eq!(events[2..], [PeerEvent::Up, PeerEvent::Sweep], "{events:?}");
}

#[test]
fn a_restarted_peer_replaces_its_old_connection() {
    let mut net = VirtualNet::established(configs());
    net.run(secs(60));
    let open = net.peers[B].config().open(true, true);
    net.raw_peer(&[open.emit().unwrap(), KEEPALIVE.to_vec()].concat());
    net.settle();
    let events = net.events_of(A);
    assert_eq!(
        events[1..3],
        [
            PeerEvent::Down(DownReason::Replaced, Some(secs(120))),
            PeerEvent::Up
        ],
        "{events:?}"
    );
}

#[test]
fn a_restarting_speaker_sets_the_r_and_f_bits() {
    let mut net = VirtualNet::new(configs());
    net.peers[B].set_restarting(true);
    net.start_both();
    net.run(secs(30));
    let restart = net.peers[A].status().negotiated.unwrap().restart.unwrap();
    assert!(restart.restarting && restart.preserved && restart.notification);
    let other = net.peers[B].status().negotiated.unwrap().restart.unwrap();
    assert!(!other.restarting && !other.preserved);
}

/// Sends ROUTE-REFRESH messages from B to A, and returns the events at A.
fn refreshed(net: &mut VirtualNet, kinds: &[RefreshKind]) -> Vec<PeerEvent> {
    net.events[A].clear();
    for kind in kinds {
        net.peers[B].send_refresh(net.now, *kind).unwrap();
    }
    net.run(secs(1));
    net.events_of(A)
}

/// RFC 7313 section 4: until End-of-RIB, BoRR of a peer with graceful restart is ignored, in the
/// first session and in later ones. Without graceful restart no End-of-RIB is to be expected
/// (finding C14).
#[test]
fn borr_before_end_of_rib_is_ignored() {
    use RefreshKind::{Begin, End};
    let both = [PeerEvent::RefreshBegun, PeerEvent::RefreshEnded];
    let mut net = VirtualNet::established(configs());
    for _ in 0..2 {
        assert_eq!(refreshed(&mut net, &[Begin, End]), []);
        net.peers[B].send(net.now, &end_of_rib()).unwrap();
        net.run(secs(1));
        assert_eq!(refreshed(&mut net, &[Begin, End]), both);
        // EoRR ends a refresh that has begun.
        assert_eq!(refreshed(&mut net, &[End]), []);
        net.cut();
        net.run(secs(60));
        assert_eq!(net.state(A), FsmState::Established);
    }
    let [a, mut b] = configs();
    b.restart = None;
    let mut net = VirtualNet::established([a, b]);
    assert_eq!(refreshed(&mut net, &[Begin, End]), both);
}

/// A peer that never sends EoRR does not keep its old routes marked for ever (finding C20).
#[test]
fn a_refresh_without_eorr_ends_after_the_stale_limit() {
    let mut net = VirtualNet::established(configs());
    net.peers[B].send(net.now, &end_of_rib()).unwrap();
    net.run(secs(1));
    let begun = refreshed(&mut net, &[RefreshKind::Begin]);
    assert_eq!(begun, [PeerEvent::RefreshBegun]);
    let before = net.now - net.start;
    net.run(secs(1000));
    let ended = net.time_of(A, |event| *event == PeerEvent::RefreshEnded);
    assert!((secs(358)..=secs(360)).contains(&(ended - before)));
    // The session ends first: its routes are marked stale, and no refresh is left.
    refreshed(&mut net, &[RefreshKind::Begin]);
    net.events[A].clear();
    net.cut();
    net.run(secs(300));
    assert!(!net.events_of(A).contains(&PeerEvent::RefreshEnded));
}

/// A peer that lists no address family preserves nothing itself, but keeps our routes while we
/// restart (RFC 4724 section 3): FRR and GoBGP by default (finding C11).
#[test]
fn a_peer_that_preserves_nothing_may_be_a_helper() {
    let [ours, theirs] = configs();
    let negotiated = |families: Vec<RestartFamily>, ours: &PeerConfig| {
        let mut open = theirs.open(false, false);
        for capability in &mut open.capabilities {
            if let Capability::GracefulRestart { families: all, .. } = capability {
                all.clone_from(&families);
            }
        }
        negotiate(ours, &open).unwrap()
    };
    let helper = negotiated(Vec::new(), &ours);
    assert!(helper.helper && helper.restart.is_none());
    let other = RestartFamily {
        family: AddressFamily::IPV4_UNICAST,
        preserved: true,
    };
    let helper = negotiated(vec![other], &ours);
    assert!(helper.helper && helper.restart.is_none());
    let evpn = RestartFamily {
        family: AddressFamily::EVPN,
        preserved: true,
    };
    let both = negotiated(vec![evpn], &ours);
    assert!(both.helper && both.restart.is_some());
    let off = PeerConfig {
        restart: None,
        ..ours.clone()
    };
    assert!(!negotiated(vec![evpn], &off).helper);
    let without = PeerConfig {
        restart: None,
        ..theirs.clone()
    };
    assert!(
        !negotiate(&ours, &without.open(false, false))
            .unwrap()
            .helper
    );
}

/// Names that a peer chooses are printable (finding O10).
#[test]
fn names_of_a_peer_are_printable() {
    let [ours, theirs] = configs();
    let mut open = theirs.open(false, false);
    open.capabilities.push(Capability::Fqdn {
        host: "spine\u{1b}]0;owned\u{7}".to_owned(),
        domain: String::new(),
    });
    open.capabilities
        .push(Capability::SoftwareVersion("9\u{9b}2J\u{202e}".to_owned()));
    let names = negotiate(&ours, &open).unwrap();
    assert_eq!(names.hostname.as_deref(), Some(r"spine\u{1b}]0;owned\u{7}"));
    assert_eq!(names.software.as_deref(), Some(r"9\u{9b}2J\u{202e}"));
    let hostile = "\u{1b}[2J\u{9b}\r\n\u{202e}";
    let text = Notification::with_text(ErrorCode::ADMINISTRATIVE_SHUTDOWN, Some(hostile));
    for shown in [text.to_string(), text.hard().to_string()] {
        assert!(
            !shown.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{shown}"
        );
        assert!(shown.contains(r"\u{1b}[2J"), "{shown}");
    }
}

/// A helper that restarts opens a new connection, which replaces the dead session at once; nothing
/// of it is kept (finding C11).
#[test]
fn a_helper_that_comes_back_replaces_its_dead_session() {
    let [mut a, _] = configs();
    a.passive = true;
    let mut net = VirtualNet::new([a, configs()[B].clone()]);
    net.peers[A].start(net.now);
    let open = open_message(|open| {
        for capability in &mut open.capabilities {
            if let Capability::GracefulRestart { families, .. } = capability {
                families.clear();
            }
        }
    });
    let hello = [&open[..], &KEEPALIVE].concat();
    net.raw_peer(&hello);
    net.run(secs(60));
    assert_eq!(net.events_of(A), [PeerEvent::Up]);
    net.raw_peer(&hello);
    net.run(secs(1));
    assert_eq!(
        net.events_of(A)[1..],
        [PeerEvent::Down(DownReason::Replaced, None), PeerEvent::Up]
    );
}
