//! Ethernet segments of other VTEPs: aliasing, mass withdrawal, single-active; and VTEPs without a
//! path.

use super::fixture::*;
use crate::bgp::wire::{Attributes, Esi, EthernetAd, EvpnRoute, ExtendedCommunity, MacIp};
use crate::evpn::{MacVrfConfig, RouteStatus};

const ESI: Esi = Esi([3, 0x44, 0x38, 0x39, 0xff, 0xff, 1, 0, 0, 1]);

fn per_es(last: u8) -> EvpnRoute {
    EvpnRoute::EthernetAd(EthernetAd {
        rd: rd(last),
        esi: ESI,
        tag: u32::MAX,
        label: 0,
    })
}

fn per_evi(last: u8, tag: u32, label: u32) -> EvpnRoute {
    EvpnRoute::EthernetAd(EthernetAd {
        rd: rd(last),
        esi: ESI,
        tag,
        label,
    })
}

fn shared_host(last: u8, number: u8) -> MacIp {
    MacIp {
        esi: ESI,
        ..host(last, mac(number))
    }
}

/// Attributes of a route per ES of VTEP `last`.
fn es_attributes(last: u8, single_active: bool) -> Attributes {
    let mut attributes = attributes(last);
    let label = ExtendedCommunity([6, 1, single_active.into(), 0, 0, 0, 0, 0]);
    attributes.extended.push(label);
    attributes
}

impl Fixture {
    fn segment(&mut self, last: u8, single_active: bool) {
        self.announce(ONE, &es_attributes(last, single_active), &[per_es(last)]);
        self.announce(ONE, &attributes(last), &[per_evi(last, 0, 100)]);
    }
}

/// (finding C17)
#[test]
fn a_mac_is_reachable_through_all_vteps_with_both_routes() {
    let mut fixture = Fixture::new();
    fixture.host(ONE, &attributes(2), shared_host(2, 1));
    assert_eq!(
        fixture.reach(mac(1)),
        [2],
        "no VTEP announces the segment yet"
    );
    fixture.announce(ONE, &es_attributes(2, false), &[per_es(2)]);
    assert_eq!(
        fixture.reach(mac(1)),
        [2],
        "its own VTEP needs no route per EVI"
    );
    fixture.announce(ONE, &es_attributes(3, false), &[per_es(3)]);
    assert_eq!(fixture.reach(mac(1)), [2], "per ES only");
    fixture.announce(ONE, &attributes(4), &[per_evi(4, 0, 100)]);
    assert_eq!(fixture.reach(mac(1)), [2], "per EVI only");
    fixture.announce(ONE, &attributes(3), &[per_evi(3, 0, 200)]);
    assert_eq!(fixture.reach(mac(1)), [2], "of another VNI");
    fixture.announce(ONE, &attributes(3), &[per_evi(3, 0, 100)]);
    assert_eq!(fixture.reach(mac(1)), [2, 3]);
    fixture.announce(ONE, &es_attributes(4, false), &[per_es(4)]);
    assert_eq!(fixture.reach(mac(1)), [2, 3, 4]);
    assert_eq!(fixture.at(mac(1)), Some(vtep(2)));
    let others = [RouteStatus::Installed, RouteStatus::UnknownVni];
    assert!(
        reasons(&fixture)
            .iter()
            .all(|reason| others.contains(&reason.expect("remote")))
    );
    fixture.withdraw(ONE, &[per_evi(3, 0, 100)]);
    assert_eq!(fixture.reach(mac(1)), [2, 4]);
    let tagged = per_evi(3, 100, 0);
    fixture.announce(ONE, &attributes(3), &[tagged]);
    assert_eq!(
        fixture.reach(mac(1)),
        [2, 3, 4],
        "the tag names the VNI; not per ES"
    );
    fixture.host(ONE, &attributes(2), host(2, mac(1)));
    assert_eq!(fixture.reach(mac(1)), [2], "no longer behind the segment");
    assert!(fixture.tables.segments.is_empty());
}

/// (finding C17)
#[test]
fn a_withdrawn_route_per_es_moves_all_macs_in_one_change() {
    let mut fixture = Fixture::new();
    for last in [2, 3] {
        fixture.segment(last, false);
    }
    for number in 1..=100 {
        fixture.host(ONE, &attributes(2), shared_host(2, number));
    }
    assert_eq!(fixture.reach(mac(7)), [2, 3]);
    let mut messages = Vec::new();
    crate::bgp::wire::withdraw([per_es(2)], 4096, |m| messages.push(m.to_vec()));
    let before = fixture.speaker.take_changes(fixture.now);
    assert!(before.is_empty());
    fixture.octets_unsettled(ONE, &messages[0]);
    let changes = fixture.speaker.take_changes(fixture.now);
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes
        .into_iter()
        .for_each(|change| fixture.tables.apply(change));
    assert_eq!(fixture.reach(mac(7)), [3]);
    fixture.withdraw(ONE, &[per_es(3)]);
    assert_eq!(fixture.reach(mac(7)), [0_u8; 0], "flushed");
    fixture.announce(ONE, &es_attributes(3, false), &[per_es(3)]);
    assert_eq!(fixture.reach(mac(7)), [3]);
    fixture.speaker.peer_down(ONE, false);
    fixture.settle();
    assert_eq!(fixture.tables, Default::default());
}

/// (finding C17)
#[test]
fn a_flushed_mac_goes_to_another_route_for_it_and_back() {
    let mut fixture = Fixture::new();
    fixture.segment(2, false);
    fixture.host(ONE, &moved(2, 5), shared_host(2, 1));
    fixture.host(ONE, &moved(9, 1), host(9, mac(1)));
    assert_eq!(fixture.reach(mac(1)), [2]);
    fixture.withdraw(ONE, &[per_es(2)]);
    fixture.settle();
    assert_eq!(fixture.reach(mac(1)), [9]);
    assert!(
        reasons(&fixture)
            .iter()
            .flatten()
            .any(|reason| reason.word() == "vtep-unreachable")
    );
    fixture.announce(ONE, &es_attributes(2, false), &[per_es(2)]);
    fixture.settle();
    assert_eq!(fixture.reach(mac(1)), [2]);
    assert!(
        fixture
            .events
            .iter()
            .all(|event| !matches!(event, crate::evpn::EvpnEvent::Frozen { .. }))
    );
}

/// (finding C17)
#[test]
fn single_active_segments_are_reachable_through_one_vtep() {
    let mut fixture = Fixture::new();
    for last in [2, 3] {
        fixture.segment(last, true);
    }
    fixture.host(ONE, &attributes(3), shared_host(3, 1));
    assert_eq!(fixture.reach(mac(1)), [3]);
    fixture.withdraw(ONE, &[per_es(3)]);
    assert_eq!(fixture.reach(mac(1)), [2], "the only backup");
    fixture.segment(4, true);
    assert_eq!(
        fixture.reach(mac(1)),
        [0_u8; 0],
        "two backups: which is unknown"
    );
    fixture.host(ONE, &attributes(4), shared_host(4, 1));
    fixture.settle();
    assert_eq!(fixture.reach(mac(1)), [4], "until one announces the MAC");
}

/// (finding C17)
#[test]
fn reserved_segments_and_other_targets_change_nothing() {
    for esi in [Esi::ZERO, Esi::MAX] {
        let mut fixture = Fixture::new();
        let route = EvpnRoute::EthernetAd(EthernetAd {
            rd: rd(3),
            esi,
            tag: u32::MAX,
            label: 0,
        });
        fixture.announce(ONE, &es_attributes(3, false), &[route]);
        let mut mac_route = shared_host(2, 1);
        mac_route.esi = esi;
        fixture.host(ONE, &attributes(2), mac_route);
        assert_eq!(fixture.reach(mac(1)), [2]);
        assert!(fixture.tables.segments.is_empty());
        assert!(reasons(&fixture).contains(&Some(RouteStatus::NoSegment)));
    }
    let mut fixture = Fixture::new();
    fixture.segment(2, false);
    fixture.host(ONE, &attributes(2), shared_host(2, 1));
    let mut foreign = es_attributes(3, false);
    foreign.extended[0] = ExtendedCommunity::route_target(65000, 999);
    fixture.announce(ONE, &foreign, &[per_es(3)]);
    fixture.announce(ONE, &attributes(3), &[per_evi(3, 0, 100)]);
    assert_eq!(fixture.reach(mac(1)), [2], "not a target of the VNI");
    fixture.speaker.vni_del(fixture.now, vni(100));
    fixture.settle();
    assert_eq!(fixture.tables, Default::default());
    let again = MacVrfConfig::new(vni(100));
    fixture.speaker.vni_add(fixture.now, again).expect("added");
    fixture.settle();
    assert_eq!(fixture.reach(mac(1)), [2]);
}

/// (finding C18)
#[test]
fn a_vtep_without_a_path_loses_to_one_with_a_path() {
    let mut fixture = Fixture::new();
    let resolve = |fixture: &mut Fixture, last, resolved| {
        fixture
            .speaker
            .vtep_resolved(fixture.now, vtep(last), resolved);
        fixture.settle();
    };
    fixture.host(ONE, &attributes(3), host(3, mac(1)));
    fixture.host(ONE, &moved(2, 4), host(2, mac(1)));
    fixture.host(ONE, &attributes(2), host(2, mac(2)));
    resolve(&mut fixture, 3, Some(true));
    resolve(&mut fixture, 2, Some(false));
    assert_eq!(
        fixture.reach(mac(1)),
        [2],
        "its first path may be on its way"
    );
    fixture.later(4 * SECOND);
    assert_eq!(fixture.reach(mac(1)), [3]);
    assert_eq!(fixture.reach(mac(2)), [2], "it has no other route");
    assert_eq!(fixture.tables.watched, [vtep(2)].into());
    resolve(&mut fixture, 2, Some(true));
    assert_eq!(fixture.reach(mac(1)), [2]);
    assert!(fixture.tables.watched.is_empty());
    resolve(&mut fixture, 2, Some(false));
    assert_eq!(fixture.reach(mac(1)), [3], "at once when a path is lost");
    fixture.withdraw(ONE, &[EvpnRoute::MacIp(host(2, mac(1)))]);
    fixture.later(61 * SECOND);
    assert!(fixture.tables.watched.is_empty(), "no host depends on it");
    resolve(&mut fixture, 3, Some(false));
    assert_eq!(fixture.reach(mac(1)), [3], "the only one stays");
}
