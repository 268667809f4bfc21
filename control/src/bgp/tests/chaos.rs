//! Connections that break, stall and slow down at random, and corrupted octets: the peers always
//! reconnect, and their events are always in order.

use std::time::Duration;

use proptest::prelude::*;

use super::super::wire::*;
use super::super::*;
use super::net::*;
use super::vectors::vectors;

#[derive(Debug, Clone)]
enum Fault {
    Cut,
    Stuck(usize, bool),
    Unreachable(usize, bool),
    Chunk(usize),
    Delay(u64),
    Clear(usize),
    Routes(usize),
    Run(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Cut),
        (0..2_usize, any::<bool>()).prop_map(|(side, on)| Fault::Stuck(side, on)),
        (0..2_usize, any::<bool>()).prop_map(|(side, on)| Fault::Unreachable(side, on)),
        (1..2000_usize).prop_map(Fault::Chunk),
        (1..3000_u64).prop_map(Fault::Delay),
        (0..2_usize).prop_map(Fault::Clear),
        (0..2_usize).prop_map(Fault::Routes),
        (1..200_000_u64).prop_map(Fault::Run),
    ]
}

/// Up and down alternate; while the session is down, sweeps may be reported too.
fn check_order(events: &[PeerEvent]) {
    let mut up = false;
    let mut stale = false;
    for event in events {
        match event {
            PeerEvent::Up => {
                assert!(!up, "{events:?}");
                up = true;
            }
            PeerEvent::Down(_, kept) => {
                assert!(up && !stale, "{events:?}");
                (up, stale) = (false, kept.is_some());
            }
            PeerEvent::Sweep => {
                assert!(stale, "{events:?}");
                stale = false;
            }
            PeerEvent::LongLived => assert!(stale && !up, "{events:?}"),
            _ => assert!(up, "{events:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn peers_reconnect_after_any_faults(faults in proptest::collection::vec(fault(), 0..25)) {
        let mut net = VirtualNet::new(configs());
        net.start_both();
        for fault in faults {
            match fault {
                Fault::Cut => net.cut(),
                Fault::Stuck(side, on) => net.stuck[side] = on,
                Fault::Unreachable(side, on) => net.unreachable[side] = on,
                Fault::Chunk(octets) => net.chunk = octets,
                Fault::Delay(millis) => net.delay = Duration::from_millis(millis),
                Fault::Clear(side) => net.peers[side].clear_hard(net.now, None),
                Fault::Routes(side) => {
                    let (mut messages, now) = (Vec::new(), net.now);
                    withdraw((0..50).map(route), MAX_MESSAGE_LEN, |m| messages.push(m.to_vec()));
                    messages.iter().for_each(|m| net.peers[side].send(now, m).unwrap_or_default());
                }
                Fault::Run(millis) => net.run(Duration::from_millis(millis)),
            }
        }
        (net.stuck, net.unreachable, net.chunk) = ([false; 2], [false; 2], 1000);
        net.delay = Duration::from_millis(10);
        net.run(Duration::from_secs(900));
        for side in [A, B] {
            prop_assert_eq!(net.state(side), FsmState::Established);
            check_order(&net.events_of(side));
        }
        let alive = net.links.iter().filter(|l| l.ends.iter().any(Option::is_some));
        prop_assert_eq!(alive.count(), 1);
    }

    #[test]
    fn corrupted_octets_never_change_the_order_of_events(
        damage in proptest::collection::vec((any::<usize>(), 0..8_u8), 0..4),
        chunk in 1..500_usize,
    ) {
        let [mut a, b] = configs();
        a.passive = true;
        let mut peer = VirtualNet::new([a, b.clone()]);
        peer.peers[A].start(peer.now);
        let mut stream = [b.open(false, false).emit().unwrap(), KEEPALIVE.to_vec()].concat();
        let updates = vectors().into_iter().filter(|(name, message)| {
            message.len() < 200 && message[18] == 2 && !name.contains("addpath")
        });
        stream.extend(updates.flat_map(|(_, message)| message));
        for (at, bit) in damage {
            let at = at % stream.len();
            stream[at] ^= 1 << bit;
        }
        let conn = peer.raw_peer(&[]);
        for part in stream.chunks(chunk) {
            peer.peers[A].handle_bytes(conn, part);
            peer.settle();
        }
        check_order(&peer.events_of(A));
    }
}
