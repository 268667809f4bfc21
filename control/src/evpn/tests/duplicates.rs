//! Which changes of next hop are moves, and what becomes of a MAC that moves too often.

use super::fixture::*;
use crate::bgp::wire::{EvpnRoute, ExtendedCommunity, MacIp};
use crate::evpn::{EvpnEvent, LocalMac, LocalMacError, RouteStatus};

const ANYCAST: LocalMac = LocalMac {
    anycast: true,
    ..ATTACHED
};

impl Fixture {
    fn learn(&mut self) -> Result<(), LocalMacError> {
        let added = self
            .speaker
            .local_mac_add(self.now, vni(100), mac(1), LEARNED);
        self.settle();
        added
    }

    fn frozen(&self) -> bool {
        self.speaker.frozen().next().is_some()
    }

    /// The MAC moves between this VTEP and VTEP 2 until it is frozen; it stays behind VTEP 2.
    fn freeze(&mut self) {
        for round in 0..10_u32 {
            if self.learn().is_err() {
                break;
            }
            let sequence = self.own_sequence(mac(1)).expect("announced") + 1;
            assert_eq!(sequence, 2 * round + 1);
            self.host(ONE, &moved(2, sequence), host(2, mac(1)));
            self.later(SECOND);
        }
        assert!(self.frozen());
        assert_eq!(self.at(mac(1)), Some(vtep(2)));
    }
}

/// (finding C3)
#[test]
fn moves_that_begin_here_freeze_a_mac_and_no_other() {
    let mut fixture = Fixture::new();
    fixture.freeze();
    let frozen = EvpnEvent::Frozen {
        vni: vni(100),
        mac: mac(1),
    };
    assert_eq!(fixture.events.iter().filter(|e| **e == frozen).count(), 1);
    fixture.host(ONE, &moved(3, 90), host(3, mac(1)));
    assert_eq!(fixture.at(mac(1)), Some(vtep(2)), "it stays where it is");
    assert!(reasons(&fixture).contains(&Some(RouteStatus::Frozen)));
    fixture.host(ONE, &attributes(2), host(2, mac(2)));
    fixture.host(ONE, &moved(3, 1), host(3, mac(2)));
    assert_eq!(fixture.at(mac(2)), Some(vtep(3)), "others move");
    fixture.later(181 * SECOND);
    assert_eq!(fixture.at(mac(1)), Some(vtep(3)), "recovery by time");
    assert!(fixture.events.contains(&EvpnEvent::Unfrozen {
        vni: vni(100),
        mac: mac(1)
    }));
}

/// (finding C3)
#[test]
fn moves_between_others_never_freeze() {
    let mut fixture = Fixture::new();
    for sequence in 0..40_u8 {
        let last = 2 + sequence % 2;
        fixture.host(ONE, &moved(last, u32::from(sequence)), host(last, mac(1)));
        assert_eq!(fixture.at(mac(1)), Some(vtep(last)));
    }
    assert!(!fixture.frozen());
}

/// (finding C3)
#[test]
fn a_first_table_in_any_order_never_freezes() {
    for order in [true, false] {
        for local in [None, Some(LEARNED), Some(ATTACHED)] {
            let mut fixture = Fixture::new();
            if let Some(local) = local {
                fixture
                    .speaker
                    .local_mac_add(fixture.now, vni(100), mac(1), local)
                    .expect("local");
            }
            for id in [ONE, TWO] {
                let up = negotiated_with(65000, 65000, 201);
                fixture.speaker.peer_up(fixture.now, id, &up);
                for number in 0..12_u8 {
                    let last = if order { 2 + number } else { 13 - number };
                    fixture.host(id, &moved(last, last.into()), host(last, mac(1)));
                    fixture.host(id, &attributes(last), host(last, mac(2)));
                }
            }
            fixture.later(SECOND);
            assert!(!fixture.frozen(), "{order} {local:?}");
            if local != Some(ATTACHED) {
                assert_eq!(fixture.at(mac(1)), Some(vtep(13)));
            }
            assert_eq!(fixture.at(mac(2)), Some(vtep(2)));
        }
    }
}

/// (finding C3)
#[test]
fn a_changed_next_hop_and_a_shared_segment_are_no_moves() {
    let mut fixture = Fixture::new();
    for round in 0..20_u8 {
        fixture.host(ONE, &attributes(2 + round % 3), host(2, mac(1)));
        let mut shared = host(5 + round % 2, mac(2));
        shared.esi.0[9] = 7;
        fixture.host(ONE, &moved(5 + round % 2, round.into()), shared);
    }
    assert!(!fixture.frozen());
    assert!(fixture.at(mac(1)).is_some() && fixture.at(mac(2)).is_some());
}

/// (finding C3)
#[test]
fn a_gateway_that_every_vtep_has_is_never_claimed_nor_frozen() {
    for (local, gateway) in [(ANYCAST, false), (ATTACHED, true), (ANYCAST, true)] {
        for first in [true, false] {
            let mut fixture = Fixture::new();
            let attach = |fixture: &mut Fixture| {
                let now = fixture.now;
                let added = fixture.speaker.local_mac_add(now, vni(100), mac(1), local);
                added.expect("local");
            };
            if first {
                attach(&mut fixture);
            }
            for round in 0..20_u32 {
                for last in [2, 3, 4] {
                    let mut attributes = moved(last, round);
                    if gateway {
                        let community = ExtendedCommunity::DEFAULT_GATEWAY;
                        attributes.extended.push(community);
                    }
                    fixture.host(ONE, &attributes, host(last, mac(1)));
                }
                fixture.later(6 * SECOND);
                attach(&mut fixture);
            }
            assert_eq!(fixture.own_sequence(mac(1)), Some(0), "never claimed");
            assert!(!fixture.frozen());
            let claimed = |event: &EvpnEvent| matches!(event, EvpnEvent::Contested { .. });
            assert!(!fixture.events.iter().any(claimed), "{:?}", fixture.events);
        }
    }
}

/// (finding C3)
#[test]
fn a_frozen_mac_follows_the_best_claim_that_remains() {
    let mut fixture = Fixture::new();
    fixture.freeze();
    for (last, sequence) in [(3, 1), (4, 20), (5, 20)] {
        fixture.host(ONE, &moved(last, sequence), host(last, mac(1)));
    }
    assert_eq!(fixture.at(mac(1)), Some(vtep(2)));
    let second = MacIp {
        ip: Some(ip(101)),
        ..host(2, mac(1))
    };
    fixture.host(TWO, &moved(2, 1), second);
    fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(2, mac(1)))]);
    assert_eq!(
        fixture.at(mac(1)),
        Some(vtep(2)),
        "another route of its VTEP"
    );
    fixture.withdraw(TWO, &[EvpnRoute::MacIp(second)]);
    assert_eq!(fixture.at(mac(1)), Some(vtep(4)), "the best that remains");
    assert!(fixture.frozen());
    fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(4, mac(1)))]);
    assert_eq!(fixture.at(mac(1)), Some(vtep(5)));
    for last in [3, 5] {
        fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(last, mac(1)))]);
    }
    assert_eq!(fixture.at(mac(1)), None);
    fixture.host(ONE, &attributes(6), host(6, mac(1)));
    assert_eq!(
        fixture.at(mac(1)),
        Some(vtep(6)),
        "a sound route comes later"
    );
    assert!(fixture.speaker.unfreeze(fixture.now, vni(100), mac(1)));
    assert!(!fixture.speaker.unfreeze(fixture.now, vni(100), mac(1)));
}

/// (finding C3)
#[test]
fn a_mac_that_froze_here_goes_to_the_best_claim_when_it_leaves() {
    let mut fixture = Fixture::contested();
    assert!(fixture.frozen());
    fixture.speaker.local_mac_del(fixture.now, vni(100), mac(1));
    fixture.settle();
    assert_eq!(fixture.at(mac(1)), Some(vtep(2)));
}

/// (finding C3)
#[test]
fn a_mac_that_is_unfrozen_here_is_claimed_back_if_it_is_still_claimed() {
    let mut fixture = Fixture::contested();
    let before = fixture.own_sequence(mac(1));
    assert!(fixture.speaker.unfreeze(fixture.now, vni(100), mac(1)));
    fixture.later(6 * SECOND);
    assert_eq!(fixture.own_sequence(mac(1)), before.map(|old| old + 2));
}

/// (finding C3)
#[test]
fn a_frozen_mac_that_only_this_vtep_has_is_learned() {
    let mut fixture = Fixture::new();
    fixture.freeze();
    fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(2, mac(1)))]);
    assert_eq!(fixture.at(mac(1)), None);
    fixture.learn().expect("no other VTEP announces it");
    assert_eq!(fixture.own_sequence(mac(1)), Some(6), "above all seen");
    // It is frozen where it is now.
    fixture.host(ONE, &moved(2, 99), host(2, mac(1)));
    assert!(fixture.own_sequence(mac(1)).is_some(), "it stays");
    fixture.speaker.local_mac_del(fixture.now, vni(100), mac(1));
    fixture.settle();
    assert_eq!(fixture.at(mac(1)), Some(vtep(2)));
    assert!(matches!(fixture.learn(), Err(LocalMacError::Frozen(..))));
}

/// A MAC that several VTEPs have by design does not move when another of them announces it first
/// (finding C3).
#[test]
fn a_shared_mac_is_not_reported_as_moved() {
    for gateway in [false, true] {
        let mut fixture = Fixture::new();
        for last in [4, 3, 2] {
            let mut attributes = attributes(last);
            let mut route = host(last, mac(1));
            if gateway {
                attributes.extended.push(ExtendedCommunity::DEFAULT_GATEWAY);
            } else {
                route.esi.0[9] = 7;
            }
            fixture.host(ONE, &attributes, route);
            assert_eq!(fixture.at(mac(1)), Some(vtep(last)));
        }
        let is_move = |event: &EvpnEvent| matches!(event, EvpnEvent::Moved { .. });
        assert!(!fixture.events.iter().any(is_move), "{:?}", fixture.events);
        fixture.host(ONE, &moved(9, 1), host(9, mac(1)));
        assert!(fixture.events.iter().any(is_move), "to a host of its own");
    }
}
