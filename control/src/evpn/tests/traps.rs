//! The traps of the peers, and the errors of their routes, one a test.

use std::net::{IpAddr, Ipv4Addr};

use super::lab::*;
use crate::bgp::wire::{
    AsPath, AsPathSegment, EvpnRoute, ExtendedCommunity, MacIp, Pmsi, PmsiTunnel,
};
use crate::evpn::{
    Config, Event, LocalKind, LocalMac, LocalRefused, Note, Origin, Reason, VniConfig,
};

fn reasons(lab: &Lab) -> Vec<Option<Reason>> {
    lab.views().iter().map(|view| view.reason).collect()
}

fn only_reason(lab: &Lab) -> Reason {
    let all = reasons(lab);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].expect("a route of a neighbour")
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
    let mut lab = Lab::new();
    let mut attributes = flood_attributes(2);
    attributes.pmsi = Some(Pmsi {
        flags: 0,
        label: 100,
        tunnel: PmsiTunnel::IngressReplication(Some(ip(9))),
    });
    lab.announce(ONE, &attributes, &[flood(2)]);
    assert_eq!(lab.tables.flood, [(vni(100), vtep(9))].into());
    assert_eq!(
        lab.events,
        [Event::EndpointMismatch {
            vni: vni(100),
            endpoint: ip(9),
            originator: ip(2)
        }]
    );
    assert_eq!(lab.views()[0].note, Some(Note::EndpointMismatch));
    attributes.pmsi = Some(Pmsi {
        flags: 0,
        label: 100,
        tunnel: PmsiTunnel::IngressReplication(None),
    });
    lab.announce(ONE, &attributes, &[flood(2)]);
    assert_eq!(
        lab.tables.flood,
        [(vni(100), vtep(2))].into(),
        "else to the originator"
    );
}

#[test]
fn no_vtep_stays_behind_a_type_3_that_churns() {
    let mut lab = Lab::new();
    for round in 2..50 {
        let mut attributes = flood_attributes(round);
        attributes.next_hop = ip(round);
        lab.announce(
            if round % 2 == 0 { ONE } else { TWO },
            &attributes,
            &[flood(2)],
        );
        assert_eq!(lab.tables.flood.len(), 1);
    }
    lab.withdraw(ONE, &[flood(2)]);
    lab.withdraw(TWO, &[flood(2)]);
    assert!(lab.tables.flood.is_empty());
    assert_eq!(lab.instance.totals().0, 0);
}

#[test]
fn tags_zero_and_vni_are_one_mac_and_label_zero_means_the_tag() {
    let mut lab = Lab::new();
    lab.host(ONE, &attributes(2), host(2, mac(1)));
    lab.host(
        ONE,
        &moved(3, 1),
        MacIp {
            tag: 100,
            label: 0,
            ..host(3, mac(1))
        },
    );
    assert_eq!(lab.at(mac(1)), Some(vtep(3)));
    lab.host(
        ONE,
        &attributes(3),
        MacIp {
            tag: 0,
            label: 0,
            ..host(3, mac(2))
        },
    );
    assert_eq!(lab.at(mac(2)), None, "VNI 0 is never installed");
    assert!(reasons(&lab).contains(&Some(Reason::NoVni)));
}

#[test]
fn juniper_targets_and_frr_targets_are_both_imported() {
    let mut lab = Lab::new();
    for (number, target) in [(1, 268_435_556), (2, 100), (3, 101)] {
        let mut attributes = attributes(2);
        attributes.extended[0] = ExtendedCommunity::route_target(65000, target);
        lab.host(ONE, &attributes, host(2, mac(number)));
    }
    assert_eq!(
        [1, 2, 3].map(|n| lab.at(mac(n)).is_some()),
        [true, true, false]
    );
    assert!(reasons(&lab).contains(&Some(Reason::NoTarget)));
}

#[test]
fn a_withdraw_with_other_labels_and_segments_hits() {
    let mut lab = Lab::new();
    let mut route = host(2, mac(1));
    route.esi.0[9] = 1;
    lab.host(ONE, &attributes(2), route);
    assert_eq!(lab.at(mac(1)), Some(vtep(2)));
    lab.withdraw(
        ONE,
        &[EvpnRoute::MacIp(MacIp {
            label: 0,
            ..host(2, mac(1))
        })],
    );
    assert_eq!((lab.at(mac(1)), lab.instance.totals().0), (None, 0));
}

#[test]
fn unknown_withdraws_and_repeated_announcements_change_nothing() {
    let mut lab = Lab::new();
    lab.withdraw(ONE, &[EvpnRoute::MacIp(host(2, mac(1))), flood(2)]);
    lab.host(ONE, &attributes(2), host(2, mac(1)));
    let before = lab.tables.clone();
    for _ in 0..3 {
        let parts = attributes(2);
        let mut message = Vec::new();
        let routes = [EvpnRoute::MacIp(host(2, mac(1)))];
        assert!(crate::bgp::wire::announce(&parts, routes, ENCODING, |m| {
            message = m.to_vec()
        }));
        lab.octets(ONE, &message);
    }
    lab.withdraw(TWO, &[EvpnRoute::MacIp(host(2, mac(1)))]);
    assert_eq!(
        (lab.tables.clone(), lab.instance.prefix_count(ONE)),
        (before, 1)
    );
    assert!(lab.events.is_empty());
}

#[test]
fn next_hops_that_can_be_no_vtep_are_kept_and_shown() {
    for (next_hop, reason) in [
        (ip(1), Reason::OwnNextHop),
        (IpAddr::V4(Ipv4Addr::LOCALHOST), Reason::Martian),
        (IpAddr::V4(Ipv4Addr::new(0, 0, 0, 1)), Reason::Martian),
        (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)), Reason::Martian),
        ("fe80::1".parse().expect("an address"), Reason::Martian),
    ] {
        let mut lab = Lab::new();
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
        lab.octets(ONE, &message);
        assert_eq!(lab.at(mac(1)), None, "{next_hop}");
        if !lab.views().is_empty() {
            assert_eq!(only_reason(&lab), reason, "{next_hop}");
        }
    }
}

#[test]
fn a_rewritten_next_hop_is_shown_and_the_true_one_preferred() {
    let mut lab = Lab::new();
    lab.announce(ONE, &flood_attributes(2), &[flood(2)]);
    let mut rewritten = attributes(77);
    rewritten.local_pref = Some(50);
    lab.host(ONE, &rewritten, host(2, mac(1)));
    assert_eq!(
        lab.views()
            .iter()
            .filter(|v| v.note == Some(Note::UnknownVtep))
            .count(),
        1
    );
    lab.host(TWO, &attributes(2), host(2, mac(1)));
    assert_eq!(lab.at(mac(1)), Some(vtep(2)));
}

#[test]
fn vnis_that_are_not_configured_have_no_entries_until_they_are() {
    let mut lab = Lab::new();
    let mut attributes = attributes(2);
    attributes.extended[0] = ExtendedCommunity::route_target(65000, 200);
    lab.host(
        ONE,
        &attributes,
        MacIp {
            label: 200,
            ..host(2, mac(1))
        },
    );
    assert_eq!(
        (lab.tables.macs.len(), only_reason(&lab)),
        (0, Reason::UnknownVni)
    );
    lab.instance
        .vni_add(lab.now, VniConfig::new(vni(200)))
        .expect("added");
    lab.settle();
    assert_eq!(lab.tables.macs.get(&(vni(200), mac(1))), Some(&vtep(2)));
    lab.instance.vni_del(vni(200));
    lab.instance
        .vni_add(lab.now, VniConfig::new(vni(200)))
        .expect("added");
    lab.instance.vni_del(vni(200));
    lab.settle();
    assert!(lab.tables.macs.is_empty());
}

#[test]
fn loops_are_counted_and_never_used() {
    let mut lab = Lab::new();
    let us = Ipv4Addr::new(192, 0, 2, 1);
    let mut ours = attributes(2);
    ours.originator_id = Some(us);
    let mut cluster = attributes(2);
    cluster.cluster_list = vec![us];
    let mut path = attributes(2);
    path.as_path = AsPath(vec![AsPathSegment::Sequence(vec![65001, 65000])]);
    for (number, attributes) in [ours, cluster, path].iter().enumerate() {
        lab.host(ONE, attributes, host(2, mac(number as u8 + 1)));
    }
    assert!(lab.tables.macs.is_empty());
    assert_eq!(lab.instance.neighbor(ONE).looped, 3);
    assert_eq!(reasons(&lab), [Some(Reason::Looped); 3]);
    assert_eq!(lab.events.len(), 3);
}

#[test]
fn mobility_sticky_sequence_address_wrap() {
    let mut lab = Lab::new();
    lab.host(ONE, &attributes(3), host(3, mac(1)));
    lab.host(ONE, &attributes(2), host(2, mac(1)));
    assert_eq!(lab.at(mac(1)), Some(vtep(2)), "the lower address at a tie");
    lab.host(TWO, &moved(3, 1), host(3, mac(1)));
    assert_eq!(lab.at(mac(1)), Some(vtep(3)), "the higher sequence");
    lab.host(TWO, &sticky(4), host(4, mac(1)));
    assert_eq!(lab.at(mac(1)), Some(vtep(4)));
    lab.host(ONE, &moved(2, 9), host(2, mac(1)));
    assert_eq!(lab.at(mac(1)), Some(vtep(4)), "sticky never moves");
    lab.host(ONE, &moved(2, u32::MAX), host(2, mac(2)));
    lab.host(ONE, &moved(3, 1), host(3, mac(2)));
    assert_eq!(lab.at(mac(2)), Some(vtep(3)), "the sequence wraps");
}

#[test]
fn a_mac_that_moves_five_times_is_frozen_and_others_are_not() {
    let mut lab = Lab::new();
    let mut at = None;
    for sequence in 0..6_u8 {
        at = lab.at(mac(1)).or(at);
        let last = 2 + sequence % 2;
        lab.host(ONE, &moved(last, u32::from(sequence)), host(last, mac(1)));
        lab.later(SECOND);
    }
    let frozen = Event::Frozen {
        vni: vni(100),
        mac: mac(1),
    };
    assert_eq!(lab.events.iter().filter(|e| **e == frozen).count(), 1);
    assert_eq!(lab.at(mac(1)), at, "as it was before the fifth move");
    assert!(reasons(&lab).contains(&Some(Reason::Frozen)));
    lab.host(ONE, &attributes(2), host(2, mac(2)));
    lab.host(ONE, &moved(3, 1), host(3, mac(2)));
    assert_eq!(lab.at(mac(2)), Some(vtep(3)), "others move");
    lab.later(181 * SECOND);
    assert_eq!(lab.at(mac(1)), Some(vtep(3)), "recovery by time");
    assert!(lab.events.contains(&Event::Thawed {
        vni: vni(100),
        mac: mac(1)
    }));
}

#[test]
fn a_frozen_mac_is_freed_by_command_and_goes_when_its_vtep_goes() {
    let mut lab = Lab::new();
    for sequence in 0..6_u8 {
        let last = 2 + sequence % 2;
        lab.host(ONE, &moved(last, u32::from(sequence)), host(last, mac(1)));
    }
    let standing = lab.at(mac(1)).expect("installed");
    let last = if standing == vtep(2) { 2 } else { 3 };
    lab.withdraw(ONE, &[EvpnRoute::MacIp(host(last, mac(1)))]);
    assert_eq!(lab.at(mac(1)), None);
    assert_eq!(
        lab.instance.frozen().collect::<Vec<_>>(),
        [(vni(100), mac(1))]
    );
    assert!(lab.instance.thaw(lab.now, vni(100), mac(1)));
    lab.settle();
    assert_eq!(lab.at(mac(1)), Some(vtep(5 - last)));
    assert!(!lab.instance.thaw(lab.now, vni(100), mac(1)));
}

#[test]
fn local_truth_wins_and_claims_back_after_a_while() {
    let mut lab = Lab::new();
    lab.instance
        .local_mac_add(lab.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    assert_eq!(lab.own_sequence(mac(1)), Some(0));
    lab.host(ONE, &moved(2, 5), host(2, mac(1)));
    assert_eq!(lab.at(mac(1)), None, "the local entry stays");
    assert_eq!(only_reason(&lab), Reason::LocalWins);
    let contested = Event::Contested {
        vni: vni(100),
        mac: mac(1),
        vtep: vtep(2),
        sequence: 5,
    };
    assert_eq!(lab.events, [contested]);
    assert_eq!(
        lab.own_sequence(mac(1)),
        Some(0),
        "the host may just be moving away"
    );
    lab.later(5 * SECOND);
    assert_eq!(lab.own_sequence(mac(1)), Some(6));
    lab.withdraw(ONE, &[EvpnRoute::MacIp(host(2, mac(1)))]);
    assert_eq!(lab.at(mac(1)), None);
    assert!(lab.tables.macs.is_empty(), "nothing was ever told of it");
}

#[test]
fn a_host_that_moves_away_is_not_claimed_back() {
    let mut lab = Lab::new();
    lab.instance
        .local_mac_add(lab.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    lab.host(ONE, &moved(2, 1), host(2, mac(1)));
    lab.later(SECOND);
    lab.instance.local_mac_del(vni(100), mac(1));
    lab.later(10 * SECOND);
    assert_eq!(
        (lab.at(mac(1)), lab.own_sequence(mac(1))),
        (Some(vtep(2)), None)
    );
}

#[test]
fn two_that_insist_end_as_duplicates() {
    let mut lab = Lab::new();
    lab.instance
        .local_mac_add(lab.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    for _ in 0..10 {
        let theirs = lab.own_sequence(mac(1)).expect("announced") + 1;
        lab.host(ONE, &moved(2, theirs), host(2, mac(1)));
        lab.later(6 * SECOND);
    }
    assert_eq!(lab.own_sequence(mac(1)), Some(8), "four times, then frozen");
    assert!(lab.events.contains(&Event::Frozen {
        vni: vni(100),
        mac: mac(1)
    }));
    assert_eq!(lab.at(mac(1)), None);
}

#[test]
fn a_move_to_us_raises_the_sequence_also_after_a_restart() {
    let mut lab = Lab::new();
    lab.host(ONE, &moved(2, 4), host(2, mac(1)));
    lab.host(ONE, &attributes(2), host(2, mac(2)));
    lab.instance
        .local_mac_add(lab.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    lab.instance
        .local_mac_add(lab.now, vni(100), mac(2), LEARNED)
        .expect("local");
    assert_eq!(
        (lab.own_sequence(mac(1)), lab.own_sequence(mac(2))),
        (Some(5), Some(1))
    );
    lab.instance
        .local_mac_add(lab.now, vni(100), mac(3), ATTACHED)
        .expect("local");
    lab.instance
        .peer_up(lab.now, ONE, &agreed(65000, 65000, 201));
    lab.host(ONE, &moved(3, 7), host(3, mac(3)));
    assert_eq!(
        lab.own_sequence(mac(3)),
        Some(8),
        "a claim from before our restart is answered at once"
    );
    lab.host(ONE, &moved(1, 9), host(1, mac(3)));
    assert_eq!(
        lab.own_sequence(mac(3)),
        Some(10),
        "our own route from before the restart"
    );
}

#[test]
fn a_learned_host_goes_where_a_better_claim_says() {
    let mut lab = Lab::new();
    lab.instance
        .local_mac_add(lab.now, vni(100), mac(1), LEARNED)
        .expect("local");
    lab.instance
        .local_address_add(vni(100), mac(1), ip(101))
        .expect("local");
    lab.settle();
    assert_eq!(
        lab.tables.neighbors[&(vni(100), ip(101))],
        (mac(1), false, Origin::Local)
    );
    lab.host(ONE, &moved(2, 1), host(2, mac(1)));
    assert_eq!(
        (lab.at(mac(1)), lab.own_sequence(mac(1))),
        (Some(vtep(2)), None)
    );
    assert!(lab.events.contains(&Event::LearnedGone {
        vni: vni(100),
        mac: mac(1),
        vtep: vtep(2)
    }));
    assert!(lab.tables.neighbors.is_empty());
    lab.host(ONE, &sticky(2), host(2, mac(1)));
    let refused = lab
        .instance
        .local_mac_add(lab.now, vni(100), mac(1), LEARNED);
    assert_eq!(refused, Err(LocalRefused::Sticky(vni(100), mac(1))));
}

#[test]
fn local_then_static_then_evpn() {
    let mut lab = Lab::new();
    lab.host(
        ONE,
        &attributes(2),
        MacIp {
            ip: Some(ip(101)),
            ..host(2, mac(1))
        },
    );
    assert_eq!(
        lab.tables.neighbors[&(vni(100), ip(101))],
        (mac(1), false, Origin::Evpn)
    );
    lab.instance.static_mac_add(vni(100), mac(1), vtep(9));
    lab.instance
        .static_address_add(vni(100), ip(101), mac(9), false);
    lab.settle();
    assert_eq!(lab.at(mac(1)), Some(vtep(9)));
    lab.host(ONE, &moved(3, 1), host(3, mac(1)));
    assert_eq!(lab.at(mac(1)), Some(vtep(9)));
    assert!(
        reasons(&lab)
            .iter()
            .all(|reason| *reason == Some(Reason::StaticWins))
    );
    lab.instance
        .local_mac_add(lab.now, vni(100), mac(1), ATTACHED)
        .expect("local");
    lab.instance.static_mac_del(vni(100), mac(1));
    lab.instance.static_address_del(vni(100), ip(101));
    lab.settle();
    assert_eq!(
        lab.at(mac(1)),
        Some(vtep(9)),
        "what stands there is the local entry"
    );
    lab.instance.local_mac_del(vni(100), mac(1));
    lab.settle();
    assert_eq!(lab.at(mac(1)), Some(vtep(3)));
    assert_eq!(
        lab.tables.neighbors[&(vni(100), ip(101))],
        (mac(1), false, Origin::Evpn)
    );
}

#[test]
fn flood_members_stay_while_one_source_stands() {
    let mut lab = Lab::new();
    lab.instance.static_flood_add(vni(100), vtep(2));
    lab.announce(ONE, &flood_attributes(2), &[flood(2)]);
    lab.instance.static_flood_del(vni(100), vtep(2));
    lab.settle();
    assert_eq!(lab.tables.flood, [(vni(100), vtep(2))].into());
    lab.withdraw(ONE, &[flood(2)]);
    assert!(lab.tables.flood.is_empty());
}

#[test]
fn a_full_vni_takes_no_more_until_there_is_room() {
    let config = VniConfig {
        max_macs: 2,
        ..VniConfig::new(vni(100))
    };
    let mut lab = Lab::with(
        Config::new(65000, Ipv4Addr::new(192, 0, 2, 1), vtep(1)),
        config,
    );
    for number in 1..=4 {
        lab.host(
            ONE,
            &attributes(2),
            MacIp {
                ip: Some(ip(100 + number)),
                ..host(2, mac(number))
            },
        );
    }
    assert_eq!((lab.tables.macs.len(), lab.tables.neighbors.len()), (2, 2));
    assert_eq!(
        lab.events,
        [Event::LimitReached {
            vni: vni(100),
            limit: 2
        }]
    );
    assert_eq!(
        reasons(&lab)
            .iter()
            .filter(|r| **r == Some(Reason::Limit))
            .count(),
        2
    );
    lab.withdraw(
        ONE,
        &[EvpnRoute::MacIp(MacIp {
            ip: Some(ip(101)),
            ..host(2, mac(1))
        })],
    );
    assert_eq!((lab.at(mac(3)), lab.tables.macs.len()), (Some(vtep(2)), 2));
    assert!(lab.tables.neighbors.contains_key(&(vni(100), ip(103))));
    lab.instance.peer_down(lab.now, ONE, false);
    lab.settle();
    assert_eq!((lab.tables.macs.len(), lab.tables.neighbors.len()), (0, 0));
}

#[test]
fn stale_routes_stay_until_swept_and_long_stale_ones_lose() {
    let mut lab = Lab::new();
    lab.host(ONE, &moved(2, 5), host(2, mac(1)));
    lab.host(ONE, &attributes(2), host(2, mac(2)));
    lab.host(TWO, &attributes(3), host(3, mac(1)));
    lab.instance.peer_down(lab.now, ONE, true);
    lab.settle();
    assert_eq!(
        (lab.at(mac(1)), lab.at(mac(2))),
        (Some(vtep(2)), Some(vtep(2))),
        "no frame is lost"
    );
    assert_eq!(lab.views().iter().filter(|view| view.stale).count(), 2);
    lab.instance.stale_long_lived(lab.now, ONE);
    lab.settle();
    assert_eq!(
        (lab.at(mac(1)), lab.at(mac(2))),
        (Some(vtep(3)), Some(vtep(2)))
    );
    lab.instance
        .peer_up(lab.now, ONE, &agreed(65000, 65000, 201));
    lab.host(ONE, &moved(2, 5), host(2, mac(1)));
    assert_eq!(lab.at(mac(1)), Some(vtep(2)), "fresh again");
    lab.instance.sweep_stale(lab.now, ONE);
    lab.settle();
    assert_eq!((lab.at(mac(1)), lab.at(mac(2))), (Some(vtep(2)), None));
}

#[test]
fn an_enhanced_refresh_sweeps_what_was_not_sent_again() {
    let mut lab = Lab::new();
    lab.host(ONE, &attributes(2), host(2, mac(1)));
    lab.host(ONE, &attributes(2), host(2, mac(2)));
    lab.instance.refresh_begun(ONE);
    lab.host(ONE, &attributes(2), host(2, mac(1)));
    lab.instance.refresh_ended(lab.now, ONE);
    lab.settle();
    assert_eq!((lab.at(mac(1)), lab.at(mac(2))), (Some(vtep(2)), None));
}

#[test]
fn one_of_two_reflectors_dies_and_nothing_changes() {
    let mut lab = Lab::new();
    for from in [ONE, TWO] {
        lab.announce(from, &flood_attributes(2), &[flood(2)]);
        lab.host(
            from,
            &attributes(2),
            MacIp {
                ip: Some(ip(101)),
                ..host(2, mac(1))
            },
        );
    }
    let before = lab.tables.clone();
    lab.instance.peer_down(lab.now, ONE, false);
    assert!(lab.instance.take_changes(lab.now).is_empty());
    assert_eq!(lab.tables, before);
    lab.instance.peer_down(lab.now, TWO, false);
    lab.settle();
    assert_eq!(
        (lab.tables.clone(), lab.instance.totals().0),
        (Default::default(), 0)
    );
}

#[test]
fn group_macs_and_other_encapsulations_are_refused() {
    let mut lab = Lab::new();
    let mut route = host(2, mac(1));
    route.mac.0[0] = 1;
    lab.host(ONE, &attributes(2), route);
    assert_eq!(only_reason(&lab), Reason::NotUnicast);
    let mut lab = Lab::new();
    let mut attributes = attributes(2);
    attributes.extended[1] = ExtendedCommunity([3, 0x0c, 0, 0, 0, 0, 0, 10]);
    lab.host(ONE, &attributes, host(2, mac(1)));
    assert_eq!(
        (lab.at(mac(1)), only_reason(&lab)),
        (None, Reason::Encapsulation)
    );
}
