//! Connections that break, stall and crawl at random, and octets that are damaged: the peers always find together
//! again, and what they tell is always in order.

use std::time::Duration;

use proptest::prelude::*;

use super::super::wire::*;
use super::super::*;
use super::net::*;
use super::vectors::vectors;

#[derive(Debug, Clone)]
enum Trouble {
    Cut,
    Stuck(usize, bool),
    Deaf(usize, bool),
    Chunk(usize),
    Delay(u64),
    Clear(usize),
    Routes(usize),
    Run(u64),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        Just(Trouble::Cut),
        (0..2_usize, any::<bool>()).prop_map(|(side, on)| Trouble::Stuck(side, on)),
        (0..2_usize, any::<bool>()).prop_map(|(side, on)| Trouble::Deaf(side, on)),
        (1..2000_usize).prop_map(Trouble::Chunk),
        (1..3000_u64).prop_map(Trouble::Delay),
        (0..2_usize).prop_map(Trouble::Clear),
        (0..2_usize).prop_map(Trouble::Routes),
        (1..200_000_u64).prop_map(Trouble::Run),
    ]
}

/// Up and down take turns; nothing but them and sweeps is told while the session is down.
fn check_order(told: &[Told]) {
    let mut up = false;
    let mut stale = false;
    for event in told {
        match event {
            Told::Up => {
                assert!(!up, "{told:?}");
                up = true;
            }
            Told::Down(_, kept) => {
                assert!(up && !stale, "{told:?}");
                (up, stale) = (false, kept.is_some());
            }
            Told::Sweep => {
                assert!(stale, "{told:?}");
                stale = false;
            }
            Told::LongLived => assert!(stale && !up, "{told:?}"),
            _ => assert!(up, "{told:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn peers_find_together_after_any_trouble(troubles in proptest::collection::vec(trouble(), 0..25)) {
        let mut net = Net::new(configs());
        net.start_both();
        for trouble in troubles {
            match trouble {
                Trouble::Cut => net.cut(),
                Trouble::Stuck(side, on) => net.stuck[side] = on,
                Trouble::Deaf(side, on) => net.deaf[side] = on,
                Trouble::Chunk(octets) => net.chunk = octets,
                Trouble::Delay(millis) => net.delay = Duration::from_millis(millis),
                Trouble::Clear(side) => net.peers[side].clear_hard(net.now, None),
                Trouble::Routes(side) => {
                    let (mut messages, now) = (Vec::new(), net.now);
                    withdraw((0..50).map(route), MAX_MESSAGE_LEN, |m| messages.push(m.to_vec()));
                    messages.iter().for_each(|m| net.peers[side].send(now, m).unwrap_or_default());
                }
                Trouble::Run(millis) => net.run(Duration::from_millis(millis)),
            }
        }
        (net.stuck, net.deaf, net.chunk) = ([false; 2], [false; 2], 1000);
        net.delay = Duration::from_millis(10);
        net.run(Duration::from_secs(900));
        for side in [A, B] {
            prop_assert_eq!(net.state(side), FsmState::Established);
            check_order(&net.what(side));
        }
        let alive = net.links.iter().filter(|l| l.ends.iter().any(Option::is_some));
        prop_assert_eq!(alive.count(), 1);
    }

    #[test]
    fn damaged_octets_never_break_the_order(damage in proptest::collection::vec((any::<usize>(), 0..8_u8), 0..4), chunk in 1..500_usize) {
        let [mut a, b] = configs();
        a.passive = true;
        let mut peer = Net::new([a, b.clone()]);
        peer.peers[A].start(peer.now);
        let mut stream = [b.open(false, false).emit().unwrap(), KEEPALIVE.to_vec()].concat();
        stream.extend(vectors().into_iter().filter(|(n, m)| m.len() < 200 && m[18] == 2 && !n.contains("addpath")).flat_map(|(_, m)| m));
        for (at, bit) in damage {
            let at = at % stream.len();
            stream[at] ^= 1 << bit;
        }
        let conn = peer.stranger(&[]);
        for part in stream.chunks(chunk) {
            peer.peers[A].handle_bytes(conn, part);
            peer.settle();
        }
        check_order(&peer.what(A));
    }
}
