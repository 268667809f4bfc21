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
