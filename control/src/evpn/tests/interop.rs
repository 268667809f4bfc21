//! Peculiarities of other implementations and errors in their routes, one per test.

use std::net::{IpAddr, Ipv4Addr};

use super::fixture::*;
use crate::bgp::wire::{
    AsPath, AsPathSegment, EvpnRoute, ExtendedCommunity, MacIp, Pmsi, PmsiTunnel,
};
use crate::evpn::{
    EntryOrigin, EvpnConfig, EvpnEvent, LocalKind, LocalMac, LocalMacError, MacVrfConfig,
    RouteNote, RouteStatus,
};
use crate::rib::Ineligible;

fn reasons(fixture: &Fixture) -> Vec<Option<RouteStatus>> {
    fixture.views().iter().map(|view| view.status).collect()
}

fn only_reason(fixture: &Fixture) -> RouteStatus {
    let all = reasons(fixture);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].expect("a route of a neighbor")
}

const ATTACHED: LocalMac = LocalMac {
    kind: LocalKind::Attached,
    sticky: false,
};
const LEARNED: LocalMac = LocalMac {
    kind: LocalKind::Learned,
    sticky: false,
};

#[test]
fn floods_go_to_the_endpoint_and_a_mismatch_is_shown() {
    let mut fixture = Fixture::new();
    let mut attributes = flood_attributes(2);
    attributes.pmsi = Some(Pmsi {
        flags: 0,
        label: 100,
        tunnel: PmsiTunnel::IngressReplication(Some(ip(9))),
    });
    fixture.announce(ONE, &attributes, &[flood(2)]);
    assert_eq!(fixture.tables.flood, [(vni(100), vtep(9))].into());
    assert_eq!(
        fixture.events,
        [EvpnEvent::EndpointMismatch {
            vni: vni(100),
            endpoint: ip(9),
            originator: ip(2)
        }]
    );
    assert_eq!(fixture.views()[0].note, Some(RouteNote::EndpointMismatch));
    attributes.pmsi = Some(Pmsi {
        flags: 0,
        label: 100,
        tunnel: PmsiTunnel::IngressReplication(None),
    });
    fixture.announce(ONE, &attributes, &[flood(2)]);
    assert_eq!(
        fixture.tables.flood,
        [(vni(100), vtep(2))].into(),
        "else to the originator"
    );
}

#[test]
fn no_flood_entry_remains_after_a_type_3_that_churns() {
    let mut fixture = Fixture::new();
    for round in 2..50 {
        let mut attributes = flood_attributes(round);
        attributes.next_hop = ip(round);
        fixture.announce(
            if round % 2 == 0 { ONE } else { TWO },
            &attributes,
            &[flood(2)],
        );
        assert_eq!(fixture.tables.flood.len(), 1);
    }
    fixture.withdraw(ONE, &[flood(2)]);
    fixture.withdraw(TWO, &[flood(2)]);
    assert!(fixture.tables.flood.is_empty());
    assert_eq!(fixture.speaker.totals().0, 0);
}

#[test]
fn tags_zero_and_vni_are_one_mac_and_label_zero_means_the_tag() {
    let mut fixture = Fixture::new();
    fixture.host(ONE, &attributes(2), host(2, mac(1)));
    fixture.host(
        ONE,
        &moved(3, 1),
        MacIp {
            tag: 100,
            label: 0,
            ..host(3, mac(1))
        },
    );
    assert_eq!(fixture.at(mac(1)), Some(vtep(3)));
    fixture.host(
        ONE,
        &attributes(3),
        MacIp {
            tag: 0,
            label: 0,
            ..host(3, mac(2))
        },
    );
    assert_eq!(fixture.at(mac(2)), None, "VNI 0 is never installed");
    assert!(reasons(&fixture).contains(&Some(RouteStatus::NoVni)));
}

#[test]
fn juniper_targets_and_frr_targets_are_both_imported() {
    let mut fixture = Fixture::new();
    for (number, target) in [(1, 268_435_556), (2, 100), (3, 101)] {
        let mut attributes = attributes(2);
        attributes.extended[0] = ExtendedCommunity::route_target(65000, target);
        fixture.host(ONE, &attributes, host(2, mac(number)));
    }
    assert_eq!(
        [1, 2, 3].map(|n| fixture.at(mac(n)).is_some()),
        [true, true, false]
    );
    assert!(reasons(&fixture).contains(&Some(RouteStatus::NoTarget)));
}

#[test]
fn a_withdrawal_with_other_labels_and_segments_matches() {
    let mut fixture = Fixture::new();
    let mut route = host(2, mac(1));
    route.esi.0[9] = 1;
    fixture.host(ONE, &attributes(2), route);
    assert_eq!(fixture.at(mac(1)), Some(vtep(2)));
    fixture.withdraw(
        ONE,
        &[EvpnRoute::MacIp(MacIp {
            label: 0,
            ..host(2, mac(1))
        })],
    );
    assert_eq!((fixture.at(mac(1)), fixture.speaker.totals().0), (None, 0));
}

#[test]
fn unknown_withdrawals_and_repeated_announcements_change_nothing() {
    let mut fixture = Fixture::new();
    fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(2, mac(1))), flood(2)]);
    fixture.host(ONE, &attributes(2), host(2, mac(1)));
    let before = fixture.tables.clone();
    for _ in 0..3 {
        let parts = attributes(2);
        let mut message = Vec::new();
        let routes = [EvpnRoute::MacIp(host(2, mac(1)))];
        assert!(crate::bgp::wire::announce(&parts, routes, ENCODING, |m| {
            message = m.to_vec();
        }));
        fixture.octets(ONE, &message);
    }
    fixture.withdraw(TWO, &[EvpnRoute::MacIp(host(2, mac(1)))]);
    assert_eq!(
        (fixture.tables.clone(), fixture.speaker.prefix_count(ONE)),
        (before, 1)
    );
    assert!(fixture.events.is_empty());
}

#[test]
fn next_hops_that_are_not_valid_vteps_are_kept_and_shown() {
    for (next_hop, reason) in [
        (ip(1), RouteStatus::Ineligible(Ineligible::OwnNextHop)),
        (
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            RouteStatus::Ineligible(Ineligible::Martian),
        ),
        (
            IpAddr::V4(Ipv4Addr::new(0, 0, 0, 1)),
            RouteStatus::Ineligible(Ineligible::Martian),
        ),
        (
            IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)),
            RouteStatus::Ineligible(Ineligible::Martian),
        ),
        (
            "fe80::1".parse().expect("an address"),
            RouteStatus::Ineligible(Ineligible::Martian),
        ),
    ] {
        let mut fixture = Fixture::new();
        let mut attributes = attributes(2);
        attributes.next_hop = next_hop;
        let mut message = Vec::new();
        let routes = [EvpnRoute::MacIp(host(2, mac(1)))];
        assert!(crate::bgp::wire::announce(
            &attributes,
            routes,
            ENCODING,
            |m| message = m.to_vec()
        ));
        fixture.octets(ONE, &message);
        assert_eq!(fixture.at(mac(1)), None, "{next_hop}");
        if !fixture.views().is_empty() {
            assert_eq!(only_reason(&fixture), reason, "{next_hop}");
        }
    }
}

#[test]
fn a_rewritten_next_hop_is_shown_and_the_true_one_preferred() {
    let mut fixture = Fixture::new();
    fixture.announce(ONE, &flood_attributes(2), &[flood(2)]);
    let mut rewritten = attributes(77);
    rewritten.local_pref = Some(50);
    fixture.host(ONE, &rewritten, host(2, mac(1)));
    assert_eq!(
        fixture
            .views()
            .iter()
            .filter(|v| v.note == Some(RouteNote::UnknownVtep))
            .count(),
        1
    );
    fixture.host(TWO, &attributes(2), host(2, mac(1)));
    assert_eq!(fixture.at(mac(1)), Some(vtep(2)));
}

#[test]
fn vnis_that_are_not_configured_have_no_entries_until_they_are() {
    let mut fixture = Fixture::new();
    let mut attributes = attributes(2);
    attributes.extended[0] = ExtendedCommunity::route_target(65000, 200);
    fixture.host(
        ONE,
        &attributes,
        MacIp {
            label: 200,
            ..host(2, mac(1))
        },
    );
    assert_eq!(
        (fixture.tables.macs.len(), only_reason(&fixture)),
        (0, RouteStatus::UnknownVni)
    );
    fixture
        .speaker
        .vni_add(fixture.now, MacVrfConfig::new(vni(200)))
        .expect("added");
    fixture.settle();
    assert_eq!(fixture.tables.macs.get(&(vni(200), mac(1))), Some(&vtep(2)));
    fixture.speaker.vni_del(vni(200));
    fixture
        .speaker
        .vni_add(fixture.now, MacVrfConfig::new(vni(200)))
        .expect("added");
    fixture.speaker.vni_del(vni(200));
    fixture.settle();
    assert!(fixture.tables.macs.is_empty());
}

#[test]
fn loops_are_counted_and_never_used() {
    let mut fixture = Fixture::new();
    let us = Ipv4Addr::new(192, 0, 2, 1);
    let mut ours = attributes(2);
    ours.originator_id = Some(us);
    let mut cluster = attributes(2);
    cluster.cluster_list = vec![us];
    let mut path = attributes(2);
    path.as_path = AsPath(vec![AsPathSegment::Sequence(vec![65001, 65000])]);
    for (number, attributes) in [ours, cluster, path].iter().enumerate() {
        fixture.host(ONE, attributes, host(2, mac(number as u8 + 1)));
    }
    assert!(fixture.tables.macs.is_empty());
    assert_eq!(fixture.speaker.neighbor(ONE).looped, 3);
    assert_eq!(
        reasons(&fixture),
        [Some(RouteStatus::Ineligible(Ineligible::Looped)); 3]
    );
    assert_eq!(fixture.events.len(), 3);
}

#[test]
fn mobility_sticky_sequence_address_wrap() {
    let mut fixture = Fixture::new();
    fixture.host(ONE, &attributes(3), host(3, mac(1)));
    fixture.host(ONE, &attributes(2), host(2, mac(1)));
    assert_eq!(
        fixture.at(mac(1)),
        Some(vtep(2)),
        "the lower address at a tie"
    );
    fixture.host(TWO, &moved(3, 1), host(3, mac(1)));
    assert_eq!(fixture.at(mac(1)), Some(vtep(3)), "the higher sequence");
    fixture.host(TWO, &sticky(4), host(4, mac(1)));
    assert_eq!(fixture.at(mac(1)), Some(vtep(4)));
    fixture.host(ONE, &moved(2, 9), host(2, mac(1)));
    assert_eq!(fixture.at(mac(1)), Some(vtep(4)), "sticky never moves");
    fixture.host(ONE, &moved(2, u32::MAX), host(2, mac(2)));
    fixture.host(ONE, &moved(3, 1), host(3, mac(2)));
    assert_eq!(fixture.at(mac(2)), Some(vtep(3)), "the sequence wraps");
}

#[test]
fn a_mac_that_moves_five_times_is_frozen_and_others_are_not() {
    let mut fixture = Fixture::new();
    let mut at = None;
    for sequence in 0..6_u8 {
        at = fixture.at(mac(1)).or(at);
        let last = 2 + sequence % 2;
        fixture.host(ONE, &moved(last, u32::from(sequence)), host(last, mac(1)));
        fixture.later(SECOND);
    }
    let frozen = EvpnEvent::Frozen {
        vni: vni(100),
        mac: mac(1),
    };
    assert_eq!(fixture.events.iter().filter(|e| **e == frozen).count(), 1);
    assert_eq!(fixture.at(mac(1)), at, "as it was before the fifth move");
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

#[test]
fn a_frozen_mac_is_unfrozen_by_command_and_removed_with_its_vtep() {
    let mut fixture = Fixture::new();
    for sequence in 0..6_u8 {
        let last = 2 + sequence % 2;
        fixture.host(ONE, &moved(last, u32::from(sequence)), host(last, mac(1)));
    }
    let standing = fixture.at(mac(1)).expect("installed");
    let last = if standing == vtep(2) { 2 } else { 3 };
    fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(last, mac(1)))]);
    assert_eq!(fixture.at(mac(1)), None);
    assert_eq!(
        fixture.speaker.frozen().collect::<Vec<_>>(),
        [(vni(100), mac(1))]
    );
    assert!(fixture.speaker.unfreeze(fixture.now, vni(100), mac(1)));
    fixture.settle();
    assert_eq!(fixture.at(mac(1)), Some(vtep(5 - last)));
    assert!(!fixture.speaker.unfreeze(fixture.now, vni(100), mac(1)));
}

#[test]
fn a_local_mac_has_priority_and_is_claimed_back_after_a_while() {
    let mut fixture = Fixture::new();
    fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    assert_eq!(fixture.own_sequence(mac(1)), Some(0));
    fixture.host(ONE, &moved(2, 5), host(2, mac(1)));
    assert_eq!(fixture.at(mac(1)), None, "the local entry stays");
    assert_eq!(only_reason(&fixture), RouteStatus::LocalMac);
    let contested = EvpnEvent::Contested {
        vni: vni(100),
        mac: mac(1),
        vtep: vtep(2),
        sequence: 5,
    };
    assert_eq!(fixture.events, [contested]);
    assert_eq!(
        fixture.own_sequence(mac(1)),
        Some(0),
        "the host may just be moving away"
    );
    fixture.later(5 * SECOND);
    assert_eq!(fixture.own_sequence(mac(1)), Some(6));
    fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(2, mac(1)))]);
    assert_eq!(fixture.at(mac(1)), None);
    assert!(
        fixture.tables.macs.is_empty(),
        "no change was ever sent for it"
    );
}

#[test]
fn a_host_that_moves_away_is_not_claimed_back() {
    let mut fixture = Fixture::new();
    fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    fixture.host(ONE, &moved(2, 1), host(2, mac(1)));
    fixture.later(SECOND);
    fixture.speaker.local_mac_del(vni(100), mac(1));
    fixture.later(10 * SECOND);
    assert_eq!(
        (fixture.at(mac(1)), fixture.own_sequence(mac(1))),
        (Some(vtep(2)), None)
    );
}

#[test]
fn two_vteps_that_keep_claiming_a_mac_end_as_duplicates() {
    let mut fixture = Fixture::new();
    fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    for _ in 0..10 {
        let theirs = fixture.own_sequence(mac(1)).expect("announced") + 1;
        fixture.host(ONE, &moved(2, theirs), host(2, mac(1)));
        fixture.later(6 * SECOND);
    }
    assert_eq!(
        fixture.own_sequence(mac(1)),
        Some(8),
        "four times, then frozen"
    );
    assert!(fixture.events.contains(&EvpnEvent::Frozen {
        vni: vni(100),
        mac: mac(1)
    }));
    assert_eq!(fixture.at(mac(1)), None);
}

#[test]
fn a_move_to_this_vtep_raises_the_sequence_also_after_a_restart() {
    let mut fixture = Fixture::new();
    fixture.host(ONE, &moved(2, 4), host(2, mac(1)));
    fixture.host(ONE, &attributes(2), host(2, mac(2)));
    fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(2), LEARNED)
        .expect("local");
    assert_eq!(
        (fixture.own_sequence(mac(1)), fixture.own_sequence(mac(2))),
        (Some(5), Some(1))
    );
    fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(3), ATTACHED)
        .expect("local");
    fixture
        .speaker
        .peer_up(fixture.now, ONE, &agreed(65000, 65000, 201));
    fixture.host(ONE, &moved(3, 7), host(3, mac(3)));
    assert_eq!(
        fixture.own_sequence(mac(3)),
        Some(8),
        "a route from before our restart is answered at once"
    );
    fixture.host(ONE, &moved(1, 9), host(1, mac(3)));
    assert_eq!(
        fixture.own_sequence(mac(3)),
        Some(10),
        "our own route from before the restart"
    );
}

#[test]
fn a_learned_host_follows_a_better_route() {
    let mut fixture = Fixture::new();
    fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(1), LEARNED)
        .expect("local");
    fixture
        .speaker
        .local_address_add(vni(100), mac(1), ip(101))
        .expect("local");
    fixture.settle();
    assert_eq!(
        fixture.tables.neighbors[&(vni(100), ip(101))],
        (mac(1), false, EntryOrigin::Local)
    );
    fixture.host(ONE, &moved(2, 1), host(2, mac(1)));
    assert_eq!(
        (fixture.at(mac(1)), fixture.own_sequence(mac(1))),
        (Some(vtep(2)), None)
    );
    assert!(fixture.events.contains(&EvpnEvent::LearnedGone {
        vni: vni(100),
        mac: mac(1),
        vtep: vtep(2)
    }));
    assert!(fixture.tables.neighbors.is_empty());
    fixture.host(ONE, &sticky(2), host(2, mac(1)));
    let refused = fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(1), LEARNED);
    assert_eq!(refused, Err(LocalMacError::Sticky(vni(100), mac(1))));
}

#[test]
fn local_then_static_then_evpn() {
    let mut fixture = Fixture::new();
    fixture.host(
        ONE,
        &attributes(2),
        MacIp {
            ip: Some(ip(101)),
            ..host(2, mac(1))
        },
    );
    assert_eq!(
        fixture.tables.neighbors[&(vni(100), ip(101))],
        (mac(1), false, EntryOrigin::Evpn)
    );
    fixture.speaker.static_mac_add(vni(100), mac(1), vtep(9));
    fixture
        .speaker
        .static_address_add(vni(100), ip(101), mac(9), false);
    fixture.settle();
    assert_eq!(fixture.at(mac(1)), Some(vtep(9)));
    fixture.host(ONE, &moved(3, 1), host(3, mac(1)));
    assert_eq!(fixture.at(mac(1)), Some(vtep(9)));
    assert!(
        reasons(&fixture)
            .iter()
            .all(|reason| *reason == Some(RouteStatus::StaticMac))
    );
    fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    fixture.speaker.static_mac_del(vni(100), mac(1));
    fixture.speaker.static_address_del(vni(100), ip(101));
    fixture.settle();
    assert_eq!(
        fixture.at(mac(1)),
        Some(vtep(9)),
        "the installed entry is the local one"
    );
    fixture.speaker.local_mac_del(vni(100), mac(1));
    fixture.settle();
    assert_eq!(fixture.at(mac(1)), Some(vtep(3)));
    assert_eq!(
        fixture.tables.neighbors[&(vni(100), ip(101))],
        (mac(1), false, EntryOrigin::Evpn)
    );
}

#[test]
fn flood_members_stay_while_one_source_remains() {
    let mut fixture = Fixture::new();
    fixture.speaker.static_flood_add(vni(100), vtep(2));
    fixture.announce(ONE, &flood_attributes(2), &[flood(2)]);
    fixture.speaker.static_flood_del(vni(100), vtep(2));
    fixture.settle();
    assert_eq!(fixture.tables.flood, [(vni(100), vtep(2))].into());
    fixture.withdraw(ONE, &[flood(2)]);
    assert!(fixture.tables.flood.is_empty());
}

#[test]
fn a_full_vni_accepts_no_more_macs_until_one_is_removed() {
    let config = MacVrfConfig {
        max_macs: 2,
        ..MacVrfConfig::new(vni(100))
    };
    let mut fixture = Fixture::with(
        EvpnConfig::new(65000, Ipv4Addr::new(192, 0, 2, 1), vtep(1)),
        config,
    );
    for number in 1..=4 {
        fixture.host(
            ONE,
            &attributes(2),
            MacIp {
                ip: Some(ip(100 + number)),
                ..host(2, mac(number))
            },
        );
    }
    assert_eq!(
        (fixture.tables.macs.len(), fixture.tables.neighbors.len()),
        (2, 2)
    );
    assert_eq!(
        fixture.events,
        [EvpnEvent::LimitReached {
            vni: vni(100),
            limit: 2
        }]
    );
    assert_eq!(
        reasons(&fixture)
            .iter()
            .filter(|r| **r == Some(RouteStatus::Limit))
            .count(),
        2
    );
    fixture.withdraw(
        ONE,
        &[EvpnRoute::MacIp(MacIp {
            ip: Some(ip(101)),
            ..host(2, mac(1))
        })],
    );
    assert_eq!(
        (fixture.at(mac(3)), fixture.tables.macs.len()),
        (Some(vtep(2)), 2)
    );
    assert!(fixture.tables.neighbors.contains_key(&(vni(100), ip(103))));
    fixture.speaker.peer_down(fixture.now, ONE, false);
    fixture.settle();
    assert_eq!(
        (fixture.tables.macs.len(), fixture.tables.neighbors.len()),
        (0, 0)
    );
}

#[test]
fn stale_routes_stay_until_swept_and_long_lived_stale_ones_lose() {
    let mut fixture = Fixture::new();
    fixture.host(ONE, &moved(2, 5), host(2, mac(1)));
    fixture.host(ONE, &attributes(2), host(2, mac(2)));
    fixture.host(TWO, &attributes(3), host(3, mac(1)));
    fixture.speaker.peer_down(fixture.now, ONE, true);
    fixture.settle();
    assert_eq!(
        (fixture.at(mac(1)), fixture.at(mac(2))),
        (Some(vtep(2)), Some(vtep(2))),
        "no frame is lost"
    );
    assert_eq!(fixture.views().iter().filter(|view| view.stale).count(), 2);
    fixture.speaker.stale_long_lived(fixture.now, ONE);
    fixture.settle();
    assert_eq!(
        (fixture.at(mac(1)), fixture.at(mac(2))),
        (Some(vtep(3)), Some(vtep(2)))
    );
    fixture
        .speaker
        .peer_up(fixture.now, ONE, &agreed(65000, 65000, 201));
    fixture.host(ONE, &moved(2, 5), host(2, mac(1)));
    assert_eq!(fixture.at(mac(1)), Some(vtep(2)), "fresh again");
    fixture.speaker.sweep_stale(fixture.now, ONE);
    fixture.settle();
    assert_eq!(
        (fixture.at(mac(1)), fixture.at(mac(2))),
        (Some(vtep(2)), None)
    );
}

#[test]
fn an_enhanced_refresh_sweeps_what_was_not_sent_again() {
    let mut fixture = Fixture::new();
    fixture.host(ONE, &attributes(2), host(2, mac(1)));
    fixture.host(ONE, &attributes(2), host(2, mac(2)));
    fixture.speaker.refresh_begun(ONE);
    fixture.host(ONE, &attributes(2), host(2, mac(1)));
    fixture.speaker.refresh_ended(fixture.now, ONE);
    fixture.settle();
    assert_eq!(
        (fixture.at(mac(1)), fixture.at(mac(2))),
        (Some(vtep(2)), None)
    );
}

#[test]
fn one_of_two_reflectors_fails_and_nothing_changes() {
    let mut fixture = Fixture::new();
    for from in [ONE, TWO] {
        fixture.announce(from, &flood_attributes(2), &[flood(2)]);
        fixture.host(
            from,
            &attributes(2),
            MacIp {
                ip: Some(ip(101)),
                ..host(2, mac(1))
            },
        );
    }
    let before = fixture.tables.clone();
    fixture.speaker.peer_down(fixture.now, ONE, false);
    assert!(fixture.speaker.take_changes(fixture.now).is_empty());
    assert_eq!(fixture.tables, before);
    fixture.speaker.peer_down(fixture.now, TWO, false);
    fixture.settle();
    assert_eq!(
        (fixture.tables.clone(), fixture.speaker.totals().0),
        (Default::default(), 0)
    );
}

#[test]
fn group_macs_and_other_encapsulations_are_rejected() {
    let mut fixture = Fixture::new();
    let mut route = host(2, mac(1));
    route.mac.0[0] = 1;
    fixture.host(ONE, &attributes(2), route);
    assert_eq!(only_reason(&fixture), RouteStatus::NotUnicast);
    let mut fixture = Fixture::new();
    let mut attributes = attributes(2);
    attributes.extended[1] = ExtendedCommunity([3, 0x0c, 0, 0, 0, 0, 0, 10]);
    fixture.host(ONE, &attributes, host(2, mac(1)));
    assert_eq!(
        (fixture.at(mac(1)), only_reason(&fixture)),
        (None, RouteStatus::Ineligible(Ineligible::Encapsulation))
    );
}

#[test]
fn a_path_that_loses_names_the_step() {
    let mut fixture = Fixture::new();
    let mut worse = attributes(2);
    worse.local_pref = Some(50);
    fixture.host(ONE, &worse, host(2, mac(1)));
    fixture.host(TWO, &attributes(2), host(2, mac(1)));
    fixture.host(ONE, &moved(3, 1), host(3, mac(1)));
    let mut words: Vec<_> = fixture
        .views()
        .iter()
        .map(|view| {
            (
                view.best,
                view.status.expect("a route of a neighbor").word(),
            )
        })
        .collect();
    words.sort_unstable();
    assert_eq!(
        words,
        [
            (false, "lower-local-pref"),
            (true, "installed"),
            (true, "lower-mobility-sequence"),
        ]
    );
}
