//! Messages that other implementations sent, passed to a speaker.

use std::path::Path;

use super::fixture::{Fixture, ONE, vni};
use crate::bgp::wire::{Esi, EvpnRoute, HEADER_LEN};
use crate::evpn::ethernet_segment::is_per_es;
use crate::evpn::{MacVrfConfig, RouteStatus};

fn message(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/vectors")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn replay(names: &[&str]) -> Fixture {
    let mut fixture = Fixture::new();
    fixture
        .speaker
        .vni_add(fixture.now, MacVrfConfig::new(vni(16_000_001)))
        .expect("added");
    for name in names {
        let octets = message(name);
        assert_eq!(octets[HEADER_LEN - 1], 2, "{name} is not an UPDATE");
        fixture.octets(ONE, &octets);
    }
    fixture
}

#[test]
fn frr_and_gobgp_fill_the_flood_list() {
    for name in [
        "frr-t3-vni100.bin",
        "frr-t3-rt-rfc8365.bin",
        "frr-t3-as4-ebgp.bin",
        "gobgp-rr-t3.bin",
    ] {
        let fixture = replay(&[name]);
        assert_eq!(
            fixture.tables.flood.len(),
            1,
            "{name}: {:?}",
            fixture.views()
        );
    }
}

#[test]
fn hosts_of_all_kinds_are_installed_in_vni_100() {
    for (name, macs, neighbors) in [
        ("frr-t2-mac.bin", 1, 0),
        ("frr-t2-mac-ip4.bin", 1, 1),
        ("frr-t2-mac-ip6.bin", 1, 1),
        ("frr-t2-svi-ip4-ip6.bin", 1, 2),
        ("frr-t2-defaultgw-ip4.bin", 1, 1),
        ("frr-t2-nd-router.bin", 1, 1),
        ("frr-t2-mobility-seq1.bin", 1, 0),
        ("frr-t2-sticky.bin", 1, 0),
        ("frr-t2-bulk-108.bin", 108, 0),
        ("t2-40-macip4.bin", 40, 40),
    ] {
        let fixture = replay(&[name]);
        let installed = fixture
            .tables
            .macs
            .keys()
            .filter(|(of, _)| *of == vni(100))
            .count();
        assert_eq!(
            (installed, fixture.tables.neighbors.len()),
            (macs, neighbors),
            "{name}: {:?}",
            fixture.views()
        );
        assert!(
            fixture
                .views()
                .iter()
                .all(|view| view.status == Some(RouteStatus::Installed)),
            "{name}"
        );
    }
    let fixture = replay(&["frr-t2-nd-router.bin"]);
    assert!(
        fixture
            .tables
            .neighbors
            .values()
            .all(|(_, nd, _)| nd.is_some_and(|nd| nd.router))
    );
}

#[test]
fn one_message_of_65275_octets_holds_1863_routes() {
    let fixture = replay(&["frr-extmsg-t2-65275.bin"]);
    assert_eq!(fixture.speaker.totals().1, 1863);
}

#[test]
fn withdrawals_of_frr_with_zero_labels_match_the_routes() {
    let fixture = replay(&["frr-t2-bulk-108.bin", "frr-withdraw-bulk-109.bin"]);
    assert_eq!(fixture.tables.macs.len(), fixture.speaker.totals().1);
    assert!(
        fixture.tables.macs.len() < 108,
        "some of them are the same routes"
    );
}

#[test]
fn types_that_change_no_table_are_held_and_marked() {
    for name in [
        "gobgp-t4.bin",
        "frr-t4-es-dfelect.bin",
        "frr-t5-ip4.bin",
        "gobgp-t5-ip4-gw.bin",
    ] {
        let fixture = replay(&[name]);
        let reasons: Vec<_> = fixture.views().iter().map(|view| view.status).collect();
        assert_eq!(reasons, [Some(RouteStatus::RouteType)], "{name}");
    }
}

/// (finding C17)
#[test]
fn the_segments_of_frr_and_gobgp_are_recognized() {
    let fixture = replay(&["frr-t2-esi.bin"]);
    let views: Vec<_> = fixture.speaker.segments(Esi::ZERO).collect();
    assert_eq!(views.len(), 1, "{:?}", fixture.views());
    assert!(views[0].members[0].used, "its VTEP alone: {views:?}");
    for (name, per_es) in [
        ("gobgp-t1-evi.bin", false),
        ("gobgp-t1-es-esilabel.bin", true),
    ] {
        let fixture = replay(&[name]);
        let EvpnRoute::EthernetAd(route) = fixture.views()[0].route else {
            panic!("{name} is a type 1");
        };
        assert_eq!(is_per_es(&route), per_es, "{name}: {route:?}");
        let status = fixture.views()[0].status.expect("of a neighbor");
        let expected = [
            RouteStatus::Installed,
            RouteStatus::NoTarget,
            RouteStatus::UnknownVni,
        ];
        assert!(expected.contains(&status), "{name}: {status}");
    }
    let fixture = replay(&[
        "gobgp-t1-es-esilabel.bin",
        "gobgp-t1-evi.bin",
        "gobgp-withdraw-t1.bin",
    ]);
    let tags = fixture.views();
    assert_eq!(tags.len(), 1, "one of the two was withdrawn: {tags:?}");
}
