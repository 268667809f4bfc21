//! Peculiarities of other implementations and errors in their routes, one per test.

use std::net::{IpAddr, Ipv4Addr};

use vtep_dataplane::addr::VtepAddr;

use super::fixture::*;
use crate::bgp::wire::{
    AsPath, AsPathSegment, EvpnRoute, ExtendedCommunity, InclusiveMulticast, MacIp, PmsiTunnel, Rd,
};
use crate::evpn::{
    EntryOrigin, EvpnConfig, EvpnEvent, LocalMac, LocalMacError, MacVrfConfig, RouteNote,
    RouteStatus, RouteView,
};
use crate::rib::{DecisionStep, Ineligible};

fn only_reason(fixture: &Fixture) -> RouteStatus {
    let all = reasons(fixture);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].expect("a route of a neighbor")
}

#[test]
fn floods_go_to_the_endpoint_and_a_mismatch_is_shown() {
    let mut fixture = Fixture::new();
    let attributes = flood_attributes_to(2, PmsiTunnel::IngressReplication(Some(ip(9))));
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
    let attributes = flood_attributes_to(2, PmsiTunnel::IngressReplication(None));
    fixture.announce(ONE, &attributes, &[flood(2)]);
    assert_eq!(
        fixture.tables.flood,
        [(vni(100), vtep(2))].into(),
        "else to the next hop"
    );
}

/// (finding C15)
#[test]
fn an_unspecified_tunnel_endpoint_falls_back_to_the_next_hop() {
    let unspecified =
        ["0.0.0.0", "::", "::ffff:0.0.0.0"].map(|text| Some(text.parse().expect("valid")));
    let tunnels = unspecified.into_iter().chain([None]);
    for address in tunnels.map(PmsiTunnel::IngressReplication) {
        for originator in [
            ip(2),
            ip(0),
            "0.0.0.0".parse().expect("valid"),
            "::".parse().expect("valid"),
        ] {
            let mut fixture = Fixture::new();
            let attributes = flood_attributes_to(3, address.clone());
            let EvpnRoute::InclusiveMulticast(mut route) = flood(2) else {
                unreachable!("a type 3");
            };
            route.originator = originator;
            fixture.announce(ONE, &attributes, &[EvpnRoute::InclusiveMulticast(route)]);
            let listed: Vec<_> = fixture
                .tables
                .flood
                .iter()
                .map(|(_, vtep)| vtep.get())
                .collect();
            assert_eq!(listed, [ip(3)], "{address:?} {originator}");
            assert!(fixture.events.is_empty(), "not a mismatch");
        }
    }
    let mut fixture = Fixture::new();
    let mut without = attributes(2);
    without.pmsi = None;
    fixture.announce(ONE, &without, &[with_tag(flood(2), 100)]);
    assert_eq!(
        fixture.tables.flood,
        [(vni(100), vtep(2))].into(),
        "no PMSI at all"
    );
}

fn with_tag(route: EvpnRoute, tag: u32) -> EvpnRoute {
    match route {
        EvpnRoute::InclusiveMulticast(route) => {
            EvpnRoute::InclusiveMulticast(InclusiveMulticast { tag, ..route })
        }
        other => other,
    }
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
    fixture.speaker.vni_del(fixture.now, vni(200));
    fixture
        .speaker
        .vni_add(fixture.now, MacVrfConfig::new(vni(200)))
        .expect("added");
    fixture.speaker.vni_del(fixture.now, vni(200));
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
        is_highest: false,
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

/// A claim that no later sequence answers for VTEPs that compare plain numbers is reported, whatever
/// the sequence of the local MAC.
#[test]
fn a_claim_with_the_highest_sequence_is_reported_each_time() {
    let mut fixture = Fixture::new();
    fixture
        .speaker
        .local_mac_add(fixture.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    let contested = |sequence, is_highest| EvpnEvent::Contested {
        vni: vni(100),
        mac: mac(1),
        vtep: vtep(2),
        sequence,
        is_highest,
    };
    for (theirs, is_highest, ours) in [
        (3, false, 4),
        (u32::MAX, true, 4),
        (u32::MAX - 9, true, 4),
        (u32::MAX, true, 4),
    ] {
        fixture.events.clear();
        fixture.host(ONE, &moved(2, theirs), host(2, mac(1)));
        assert_eq!(fixture.events, [contested(theirs, is_highest)]);
        fixture.later(6 * SECOND);
        assert_eq!(fixture.own_sequence(mac(1)), Some(ours), "{theirs}");
        assert_eq!(fixture.at(mac(1)), None);
    }
    // A MAC without a sequence can answer it for VTEPs that know the wrap.
    for attached_first in [true, false] {
        let mac = mac(2 + u8::from(attached_first));
        fixture.events.clear();
        let attach = |fixture: &mut Fixture| {
            let now = fixture.now;
            let added = fixture.speaker.local_mac_add(now, vni(100), mac, ATTACHED);
            added.expect("local");
        };
        if attached_first {
            attach(&mut fixture);
        }
        fixture.host(ONE, &moved(2, u32::MAX), host(2, mac));
        if !attached_first {
            attach(&mut fixture);
        }
        fixture.later(6 * SECOND);
        let reported = EvpnEvent::Contested {
            vni: vni(100),
            mac,
            vtep: vtep(2),
            sequence: u32::MAX,
            is_highest: true,
        };
        assert!(fixture.events.contains(&reported), "{attached_first}");
        assert_eq!(fixture.own_sequence(mac), Some(1));
    }
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
    fixture.speaker.local_mac_del(fixture.now, vni(100), mac(1));
    fixture.later(10 * SECOND);
    assert_eq!(
        (fixture.at(mac(1)), fixture.own_sequence(mac(1))),
        (Some(vtep(2)), None)
    );
}

#[test]
fn two_vteps_that_keep_claiming_a_mac_end_as_duplicates() {
    let fixture = Fixture::contested();
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
        .peer_up(fixture.now, ONE, &negotiated_with(65000, 65000, 201));
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
        .address_claim(fixture.now, vni(100), claim(mac(1), ip(101)))
        .expect("local");
    fixture.settle();
    assert_eq!(
        fixture.tables.neighbors[&(vni(100), ip(101))],
        (mac(1), None, EntryOrigin::Local)
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
        (mac(1), None, EntryOrigin::Evpn)
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
    fixture.speaker.local_mac_del(fixture.now, vni(100), mac(1));
    fixture.settle();
    assert_eq!(fixture.at(mac(1)), Some(vtep(3)));
    assert_eq!(
        fixture.tables.neighbors[&(vni(100), ip(101))],
        (mac(1), None, EntryOrigin::Evpn)
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
    fixture.speaker.peer_down(ONE, false);
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
    fixture.speaker.peer_down(ONE, true);
    fixture.settle();
    assert_eq!(
        (fixture.at(mac(1)), fixture.at(mac(2))),
        (Some(vtep(2)), Some(vtep(2))),
        "no frame is lost"
    );
    assert_eq!(fixture.views().iter().filter(|view| view.stale).count(), 2);
    fixture.speaker.stale_long_lived(ONE);
    fixture.settle();
    assert_eq!(
        (fixture.at(mac(1)), fixture.at(mac(2))),
        (Some(vtep(3)), Some(vtep(2)))
    );
    fixture
        .speaker
        .peer_up(fixture.now, ONE, &negotiated_with(65000, 65000, 201));
    fixture.host(ONE, &moved(2, 5), host(2, mac(1)));
    assert_eq!(fixture.at(mac(1)), Some(vtep(2)), "fresh again");
    fixture.speaker.sweep_stale(ONE);
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
    fixture.speaker.refresh_ended(ONE);
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
    fixture.speaker.peer_down(ONE, false);
    assert!(fixture.speaker.take_changes(fixture.now).is_empty());
    assert_eq!(fixture.tables, before);
    fixture.speaker.peer_down(TWO, false);
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

/// Another AS, identifier or duplicate detection does not forget local hosts, their addresses and
/// sequences (finding C10).
#[test]
fn local_hosts_and_sequences_survive_other_settings() {
    let mut fixture = Fixture::new();
    let local = LocalMac::default();
    let address = "192.0.2.77".parse().unwrap();
    // Claimed from VTEP 7, so that the sequence is 6.
    fixture.host(ONE, &moved(7, 5), host(7, mac(1)));
    let now = fixture.now;
    let speaker = &mut fixture.speaker;
    speaker.local_mac_add(now, vni(100), mac(1), local).unwrap();
    speaker
        .local_address_add(vni(100), mac(1), address, false)
        .unwrap();
    fixture.settle();
    assert_eq!(fixture.own_sequence(mac(1)), Some(6));
    let before = fixture.speaker.own_routes().count();
    let mut config = fixture.speaker.config().clone();
    config.duplicate.moves = 9;
    fixture.speaker.set_config(fixture.now, config.clone());
    let rd_of = |fixture: &Fixture| {
        let own: Vec<_> = fixture
            .speaker
            .own_routes()
            .map(|view| view.route)
            .collect();
        own.iter()
            .all(|route| format!("{route:?}").contains("9, 9, 9, 9"))
    };
    assert!(!rd_of(&fixture));
    // The sessions end before the identity changes.
    for id in [ONE, TWO] {
        fixture.speaker.peer_down(id, false);
    }
    config.router_id = [9, 9, 9, 9].into();
    config.local_as = 65009;
    fixture.speaker.set_config(fixture.now, config);
    fixture.settle();
    assert_eq!(fixture.own_sequence(mac(1)), Some(6));
    assert_eq!(fixture.speaker.own_routes().count(), before);
    assert!(
        rd_of(&fixture),
        "all routes have the new route distinguisher"
    );
    let targets = |view: &RouteView| view.attributes.extended.clone();
    let wanted = ExtendedCommunity::route_target(65009, 100);
    assert!(
        fixture
            .speaker
            .own_routes()
            .all(|view| targets(&view).contains(&wanted))
    );
    // Routes with this speaker's new AS are loops from now on.
    fixture
        .speaker
        .peer_up(now, ONE, &negotiated_with(65009, 65000, 201));
    let mut looped = attributes(7);
    looped.as_path = AsPath(vec![AsPathSegment::Sequence(vec![65009])]);
    fixture.host(ONE, &looped, host(7, mac(2)));
    assert_eq!(fixture.at(mac(2)), None);
}

/// Of the paths of one route, what a live reflector says is news; the stale path of an absent one
/// is not, whatever its order in the decision process (finding C14).
#[test]
fn a_stale_path_does_not_outrank_the_news_of_a_live_reflector() {
    for (absent, live) in [(ONE, TWO), (TWO, ONE)] {
        // The host moves from VTEP 7 to another one without a higher sequence, in either order of
        // addresses, or its sequence starts over.
        for (old, new) in [
            (attributes(7), attributes(8)),
            (attributes(8), attributes(7)),
            (moved(7, 5), moved(8, 0)),
            (sticky(7), attributes(8)),
        ] {
            let mut fixture = Fixture::new();
            for id in [ONE, TWO] {
                fixture.host(id, &old, host(7, mac(1)));
            }
            let now = fixture.now;
            fixture.speaker.peer_down(absent, true);
            fixture.settle();
            let before = VtepAddr::new(old.next_hop).unwrap();
            assert_eq!(
                fixture.at(mac(1)),
                Some(before),
                "kept while there is no news"
            );
            fixture.host(live, &new, host(7, mac(1)));
            let after = VtepAddr::new(new.next_hop).unwrap();
            assert_eq!(fixture.at(mac(1)), Some(after));
            // The absent one comes back with the same news.
            let negotiated = negotiated_with(65000, 65000, 201);
            fixture.speaker.peer_up(now, absent, &negotiated);
            fixture.host(absent, &new, host(7, mac(1)));
            fixture.speaker.sweep_stale(absent);
            fixture.settle();
            assert_eq!(fixture.at(mac(1)), Some(after));
        }
    }
}

/// A host or an address that two VTEPs announce at one sequence: of routes with different
/// distinguishers too, what the live one says counts, until the other one says it again (findings
/// C14 and C3).
#[test]
fn a_stale_route_does_not_outrank_that_of_a_live_vtep() {
    let with_ip = |last: u8, number: u8| MacIp {
        ip: Some(ip(50)),
        ..host(last, mac(number))
    };
    for (sequence, live) in [(0, 9), (5, 9), (5, 3)] {
        let mut fixture = Fixture::new();
        let old = moved(7, sequence);
        fixture.host(ONE, &old, host(7, mac(1)));
        fixture.host(ONE, &old, with_ip(7, 2));
        let now = fixture.now;
        fixture.speaker.peer_down(ONE, true);
        fixture.settle();
        assert_eq!(fixture.at(mac(1)), Some(vtep(7)), "kept");
        let holder = |fixture: &Fixture| fixture.tables.neighbors[&(vni(100), ip(50))].0;
        fixture.host(
            TWO,
            &moved(live, sequence - sequence.min(1)),
            host(live, mac(1)),
        );
        if sequence > 0 {
            assert_eq!(
                fixture.at(mac(1)),
                Some(vtep(7)),
                "the sequence counts first"
            );
        }
        fixture.host(TWO, &moved(live, sequence), host(live, mac(1)));
        fixture.host(TWO, &moved(live, sequence), with_ip(live, 3));
        assert_eq!(fixture.at(mac(1)), Some(vtep(live)));
        assert_eq!(holder(&fixture), mac(3));
        if live > 7 {
            let stale = RouteStatus::OtherRoute(DecisionStep::Stale);
            assert!(reasons(&fixture).contains(&Some(stale)));
        }
        // The other one comes back and says the same: the lower address decides, as everywhere.
        let negotiated = negotiated_with(65000, 65000, 201);
        fixture.speaker.peer_up(now, ONE, &negotiated);
        fixture.host(ONE, &old, host(7, mac(1)));
        fixture.host(ONE, &old, with_ip(7, 2));
        let lower = live.min(7);
        assert_eq!(fixture.at(mac(1)), Some(vtep(lower)));
        assert_eq!(holder(&fixture), mac(if lower == 7 { 2 } else { 3 }));
        fixture.speaker.sweep_stale(ONE);
        fixture.settle();
        assert_eq!(fixture.at(mac(1)), Some(vtep(lower)));
        let events = |event: &EvpnEvent| matches!(event, EvpnEvent::Frozen { .. });
        assert!(!fixture.events.iter().any(events));
    }
}

/// (finding C18)
#[test]
fn max_macs_limits_routes_and_learning_together() {
    let config = MacVrfConfig {
        max_macs: 3,
        ..MacVrfConfig::new(vni(100))
    };
    let mut fixture = Fixture::with(
        EvpnConfig::new(65000, Ipv4Addr::new(192, 0, 2, 1), vtep(1)),
        config,
    );
    let learn = |fixture: &mut Fixture, number| {
        let now = fixture.now;
        let added = fixture
            .speaker
            .local_mac_add(now, vni(100), mac(number), LEARNED);
        fixture.settle();
        added
    };
    fixture.host(ONE, &attributes(2), host(2, mac(1)));
    assert_eq!(
        (learn(&mut fixture, 2), learn(&mut fixture, 3)),
        (Ok(()), Ok(()))
    );
    let full = Err(LocalMacError::Limit(vni(100), 3));
    assert_eq!(learn(&mut fixture, 4), full);
    fixture.host(ONE, &attributes(2), host(2, mac(5)));
    assert_eq!(fixture.at(mac(5)), None, "learned hosts count");
    assert_eq!(
        learn(&mut fixture, 1),
        Ok(()),
        "it moved: no more room than before"
    );
    assert_eq!(learn(&mut fixture, 4), full);
    // A learned host moves away, which changes nothing either.
    fixture.host(ONE, &moved(3, 9), host(3, mac(2)));
    assert_eq!(fixture.at(mac(2)), Some(vtep(3)));
    assert_eq!(learn(&mut fixture, 4), full);
    // Attached hosts are not limited, and a learned one that is attached makes room.
    for number in [3, 7, 8] {
        let now = fixture.now;
        let attached = fixture
            .speaker
            .local_mac_add(now, vni(100), mac(number), ATTACHED);
        attached.expect("attached");
    }
    assert_eq!(learn(&mut fixture, 4), Ok(()));
    assert_eq!(learn(&mut fixture, 6), full);
    fixture.speaker.local_mac_del(fixture.now, vni(100), mac(4));
    fixture.settle();
    assert_eq!(
        fixture.at(mac(5)),
        Some(vtep(2)),
        "the route that waited enters"
    );
    let reported = |event: &&EvpnEvent| matches!(event, EvpnEvent::LimitReached { .. });
    assert!(fixture.events.iter().filter(reported).count() >= 1);
    fixture.speaker.peer_down(ONE, false);
    fixture.settle();
    assert_eq!(
        (learn(&mut fixture, 4), learn(&mut fixture, 5)),
        (Ok(()), Ok(()))
    );
    assert_eq!(learn(&mut fixture, 6), full);
}

/// (finding C18)
#[test]
fn automatic_distinguishers_avoid_explicit_ones() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    let explicit = MacVrfConfig {
        rd: Some(Rd::ipv4(Ipv4Addr::new(192, 0, 2, 1), 300)),
        ..MacVrfConfig::new(vni(200))
    };
    fixture.speaker.vni_add(now, explicit).expect("added");
    for number in [300, 301] {
        let added = fixture.speaker.vni_add(now, MacVrfConfig::new(vni(number)));
        added.expect("added");
    }
    let mut all: Vec<_> = fixture.speaker.vni_views().map(|view| view.rd).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4, "{all:?}");
}

/// Also of a VNI whose automatic one is not its own number, in either order (finding C18).
#[test]
fn an_automatic_distinguisher_gives_way_to_an_explicit_one() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    let high = vni(70000);
    let added = fixture.speaker.vni_add(now, MacVrfConfig::new(high));
    added.expect("added");
    let of = |fixture: &Fixture, vni| {
        let mut views = fixture.speaker.vni_views();
        views.find(|view| view.vni == vni).expect("configured").rd
    };
    let before = of(&fixture, high);
    for number in [200, 201] {
        let taken = of(&fixture, high);
        let explicit = MacVrfConfig {
            rd: Some(taken),
            ..MacVrfConfig::new(vni(number))
        };
        // First the VNI is added with an automatic one, then changed.
        let automatic = MacVrfConfig::new(vni(number));
        fixture.speaker.vni_add(now, automatic).expect("added");
        fixture.speaker.vni_add(now, explicit).expect("changed");
        fixture.settle();
        assert_eq!(of(&fixture, vni(number)), taken);
        let mut all: Vec<_> = fixture.speaker.vni_views().map(|view| view.rd).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "{all:?}");
    }
    fixture.speaker.vni_del(now, vni(200));
    fixture.speaker.vni_del(now, high);
    fixture
        .speaker
        .vni_add(now, MacVrfConfig::new(high))
        .expect("added");
    assert_eq!(of(&fixture, high), before, "free again");
}
