//! BGP speakers that differ: Junos as its routes are documented, and FRR's own view of the same
//! network.
//!
//! ```text
//! scripted  h1: vtepd ── eth0 ── fabric ── eth0 ── h9: bgp_peer.py
//! example   h1: FRR ── eth0 ── fabric ── eth0 ── h2: vtepd       full mesh, iBGP in AS 65000
//!                                └────── eth0 ── h3: FRR
//! ```

use std::collections::BTreeMap;

use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frr::{self, Frr};
use vtep_tests::link::{Host, ip4, mac};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::on_each_release;
use vtep_tests::script::{
    Script, VXLAN, announce, imet, mac_ip, mac_with, with_attribute, withdraw,
};
use vtep_tests::site;
use vtep_tests::vtepd::Vtepd;

/// vtepd at 1, passive, with a scripted peer at 9.
fn listener(fabric: &Fabric, keys: &str) -> (Vtepd, Netns, Netns) {
    let ns = fabric.hypervisor(1);
    let config = site::bgp(1, 65000, &[(9, 65000)], &format!("passive = true\n{keys}"))
        .vni(100, &[])
        .raw("suppress = true");
    let vtepd = Vtepd::start(&ns, &config);
    (vtepd, ns, fabric.hypervisor(9))
}

const NINE: [u8; 4] = [203, 0, 113, 9];
/// Type 1: 203.0.113.9:1.
const RD: [u8; 8] = [0, 1, 203, 0, 113, 9, 0, 1];
const HOST: [u8; 6] = [0x50, 0x54, 0x33, 0, 0, 12];

/// Junos: the Ethernet tag is the VNI, the label of a type 2 route may be 0, and the automatic
/// route target is that of RFC 8365 section 5.1.2.1: 65000:268435556 for VNI 100.
#[test]
fn routes_of_junos_are_imported_by_their_ethernet_tag() {
    let fabric = Fabric::new(1600);
    let (vtepd, _ns, peer) = listener(&fabric, "");
    let mut juniper = Script::connect(&peer, vtep4(1), 65000, vtep4(9));
    let target = [0, 2, 0xfd, 0xe8, 0x10, 0, 0, 100];
    let host = mac_ip(RD, 100, HOST, [192, 0, 2, 12], 0);
    juniper.send(&announce(
        &imet(RD, 100, NINE),
        NINE,
        &[target, VXLAN],
        Some(100),
    ));
    juniper.send(&announce(&host, NINE, &[target, VXLAN], None));
    wait_for("the routes are in the tables", 10, || {
        (vtepd.flood(100) == [vtep4(9).to_string()] && vtepd.remote_mac(100, &mac(12)).is_some())
            .then_some(())
    });
    assert_eq!(vtepd.remote_mac(100, &mac(12)), Some(vtep4(9).to_string()));
    assert!(
        vtepd
            .show("neighbors")
            .to_string()
            .contains(&ip4(12).to_string())
    );
    // The label is not part of the key of a withdrawal.
    juniper.send(&withdraw(&mac_ip(RD, 100, HOST, [192, 0, 2, 12], 100)));
    wait_for("the MAC is gone", 10, || {
        vtepd.mac(100, &mac(12)).is_none().then_some(())
    });
    assert!(
        !vtepd
            .show("neighbors")
            .to_string()
            .contains(&ip4(12).to_string())
    );
    drop(juniper);
    wait_for("the flood entry is removed with the session", 10, || {
        vtepd.flood(100).is_empty().then_some(())
    });
}

/// A NEXT_HOP attribute beside MP_REACH_NLRI is ignored, whatever it holds (finding C12).
#[test]
fn a_next_hop_attribute_beside_mp_reach_costs_no_route() {
    let fabric = Fabric::new(1600);
    let (vtepd, _ns, far) = listener(&fabric, "");
    let mut peer = Script::connect(&far, vtep4(1), 65000, vtep4(9));
    let target = [0, 2, 0xfd, 0xe8, 0, 0, 0, 100];
    let flood = announce(&imet(RD, 0, NINE), NINE, &[target, VXLAN], Some(100));
    peer.send(&with_attribute(&flood, 0x40, 3, &[0; 4]));
    for (last, value) in [
        (1, &[0; 4][..]),
        (2, &[127, 0, 0, 1]),
        (3, &[]),
        (4, &[0; 16]),
    ] {
        let host = [0x50, 0x54, 0x33, 0, 0, last];
        let route = mac_ip(RD, 0, host, [192, 0, 2, last], 100);
        let update = announce(&route, NINE, &[target, VXLAN], None);
        peer.send(&with_attribute(&update, 0x40, 3, value));
    }
    for last in 1..=4 {
        wait_for(&format!("the route of host {last}"), 10, || {
            vtepd.remote_mac(100, &mac(last))
        });
    }
    assert_eq!(vtepd.flood(100), [vtep4(9).to_string()]);
    let shown = vtepd.show("bgp neighbor 203.0.113.9");
    assert_eq!(shown["treated_as_withdrawn"], 0, "{shown}");
    assert_eq!(shown["state"], "Established");
}

/// The row of a type 2 route with this MAC.
fn route_of(vtepd: &Vtepd, mac: &str) -> serde_json::Value {
    let shown = vtepd.show("bgp routes");
    let rows = shown["rows"].as_array().cloned().unwrap_or_default();
    let found = rows.into_iter().find(|row| row["mac"] == mac);
    found.unwrap_or_else(|| panic!("no route of {mac}: {shown}"))
}

/// Addresses that no host can have.
const INVALID: [&str; 10] = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "224.0.0.5",
    "255.255.255.255",
    "::",
    "::1",
    "ff02::1",
    "::ffff:192.0.2.1",
    "::ffff:127.0.0.1",
];

fn octets(ip: &str) -> Vec<u8> {
    match ip.parse().expect("an address") {
        std::net::IpAddr::V4(v4) => v4.octets().into(),
        std::net::IpAddr::V6(v6) => v6.octets().into(),
    }
}

/// MACs and next hops of routes that can't be used, and why.
const UNUSABLE: [([u8; 6], [u8; 4], &str); 8] = [
    ([0x01, 0, 0x5e, 0, 0, 1], NINE, "invalid-mac"),
    ([0xff; 6], NINE, "invalid-mac"),
    ([0; 6], NINE, "invalid-mac"),
    (
        [0x50, 0x54, 0x33, 0, 1, 1],
        [127, 0, 0, 1],
        "invalid-next-hop",
    ),
    (
        [0x50, 0x54, 0x33, 0, 1, 2],
        [224, 0, 0, 5],
        "invalid-next-hop",
    ),
    ([0x50, 0x54, 0x33, 0, 1, 3], [0; 4], "invalid-next-hop"),
    ([0x50, 0x54, 0x33, 0, 1, 4], [255; 4], "invalid-next-hop"),
    (
        [0x50, 0x54, 0x33, 0, 1, 5],
        [203, 0, 113, 1],
        "own-next-hop",
    ),
];

/// Of a route with an address that no host can have, the MAC is used and the address is not; a MAC or
/// a next hop that can't be one makes a route unusable. Each is shown with the reason.
#[test]
fn addresses_that_no_host_can_have_are_not_used() {
    let fabric = Fabric::new(1600);
    let (vtepd, _ns, far) = listener(&fabric, "");
    let mut peer = Script::connect(&far, vtep4(1), 65000, vtep4(9));
    let target = [0, 2, 0xfd, 0xe8, 0, 0, 0, 100];
    let mut send = |route: Vec<u8>, next_hop: [u8; 4]| {
        peer.send(&announce(&route, next_hop, &[target, VXLAN], None));
    };
    let invalid: Vec<Vec<u8>> = INVALID.iter().map(|ip| octets(ip)).collect();
    for (last, ip) in (1..).zip(&invalid) {
        let host = [0x50, 0x54, 0x33, 0, 0, last];
        send(mac_with(RD, 0, host, ip, 100), NINE);
    }
    for (host, next_hop, _) in UNUSABLE {
        send(mac_with(RD, 0, host, &[], 100), next_hop);
    }
    // The last one is valid.
    send(mac_ip(RD, 0, HOST, [192, 0, 2, 12], 100), NINE);
    wait_for("the last route", 10, || vtepd.remote_mac(100, &mac(12)));
    for (last, ip) in (1..).zip(&invalid) {
        let row = route_of(&vtepd, &mac(last));
        assert_eq!(row["installed"], true, "{ip:?}: {row}");
        assert_eq!(row["note"], "invalid-address", "{ip:?}: {row}");
        assert!(vtepd.remote_mac(100, &mac(last)).is_some(), "{ip:?}");
    }
    for (host, _, reason) in UNUSABLE {
        let host = host.map(|octet| format!("{octet:02x}")).join(":");
        let row = route_of(&vtepd, &host);
        assert_eq!(row["installed"], false, "{row}");
        assert_eq!(row["unused_reason"], reason, "{row}");
        assert_eq!(vtepd.remote_mac(100, &host), None);
    }
    // Workers answer for what is in this table, and for nothing else.
    let neighbors = vtepd.show("neighbors");
    let rows = neighbors["rows"].as_array().cloned().unwrap_or_default();
    assert_eq!(rows.len(), 1, "{neighbors}");
    assert_eq!(rows[0]["ip"], ip4(12).to_string());
    let shown = vtepd.show("bgp neighbor 203.0.113.9");
    assert_eq!(shown["invalid_addresses"], invalid.len(), "{shown}");
    assert!(
        vtepd
            .program
            .log()
            .contains("no host can have this address"),
        "{}",
        vtepd.program.log()
    );
}

#[test]
fn a_malformed_attribute_withdraws_its_routes_and_an_unknown_route_type_is_skipped() {
    let fabric = Fabric::new(1600);
    let (vtepd, _ns, peer) = listener(&fabric, "");
    let mut script = Script::connect(&peer, vtep4(1), 65000, vtep4(9));
    let target = [0, 2, 0xfd, 0xe8, 0, 0, 0, 100];
    let host = mac_ip(RD, 0, HOST, [192, 0, 2, 12], 100);
    script.send(&announce(&host, NINE, &[target, VXLAN], None));
    wait_for("the route is there", 10, || vtepd.mac(100, &mac(12)));
    // ORIGIN 9 is invalid: treat-as-withdraw (RFC 7606 section 7.1).
    let mut wrong = announce(&host, NINE, &[target, VXLAN], None);
    wrong[26] = 9;
    script.send(&wrong);
    wait_for("the route is treated as withdrawn", 10, || {
        vtepd.mac(100, &mac(12)).is_none().then_some(())
    });
    // An unassigned route type, followed by the route of the host.
    let unknown = [vtep_tests::script::route(99, &[1, 2, 3]), host].concat();
    script.send(&announce(&unknown, NINE, &[target, VXLAN], None));
    wait_for("the route after it is accepted", 10, || {
        vtepd.mac(100, &mac(12))
    });
    assert!(!script.printed("message 3"), "a NOTIFICATION");
}

#[test]
fn exceeding_the_prefix_limit_closes_the_session() {
    let fabric = Fabric::new(1600);
    let (vtepd, _ns, peer) = listener(&fabric, "max-prefixes = 3");
    let mut script = Script::connect(&peer, vtep4(1), 65000, vtep4(9));
    let target = [0, 2, 0xfd, 0xe8, 0, 0, 0, 100];
    for host in 1..=3 {
        let mac = [0x50, 0x54, 0x33, 0, 1, host];
        script.send(&announce(
            &mac_ip(RD, 0, mac, [192, 0, 2, host], 100),
            NINE,
            &[target, VXLAN],
            None,
        ));
    }
    wait_for("three are accepted", 10, || {
        vtepd.mac(100, "50:54:33:00:01:03")
    });
    script.send(&announce(
        &mac_ip(RD, 0, HOST, [192, 0, 2, 12], 100),
        NINE,
        &[target, VXLAN],
        None,
    ));
    wait_for("a NOTIFICATION", 10, || {
        script.printed("message 3").then_some(())
    });
    wait_for("all its routes are removed", 10, || {
        vtepd.mac(100, "50:54:33:00:01:03").is_none().then_some(())
    });
    let row = vtepd.show("bgp summary")["neighbors"][0].clone();
    assert_eq!(row["state"], "Idle", "{row}");
    assert!(
        row["last_down"]
            .as_str()
            .is_some_and(|why| why.contains("6/1")),
        "{row}"
    );
}

/// The hosts of FRR's example: MAC's last octet, VNI, VTEP.
const HOSTS: [(u8, u32, u8); 7] = [
    (9, 100, 1),
    (10, 100, 2),
    (11, 100, 2),
    (12, 100, 3),
    (13, 200, 1),
    (14, 200, 2),
    (15, 200, 3),
];

/// An interface without traffic.
fn unused_port(ns: &Netns, name: &str) {
    ns.ip(&format!("link add {name} type veth peer name {name}-far"));
    for end in [name, &format!("{name}-far")] {
        ns.ip(&format!("link set {end} addrgenmode none up"));
    }
}

/// A Linux VTEP with FRR whose hosts are static entries of the bridge, on a port without traffic.
fn example_vtep(fabric: &Fabric, number: u8, peers: &[u8]) -> (Netns, Frr) {
    let ns = fabric.hypervisor(number);
    for vni in site::VNIS {
        unused_port(&ns, &format!("eth1.{vni}"));
        let _ = LinuxVtep::new(&ns, vni, vtep4(number)).port(&format!("eth1.{vni}"));
        for (host, ..) in HOSTS
            .iter()
            .filter(|(_, of, at)| (*of, *at) == (vni, number))
        {
            ns.run(&format!(
                "bridge fdb replace {} dev eth1.{vni} master static",
                mac(*host)
            ));
        }
    }
    let frr = Frr::start(&ns, &frr::vtep(number, 65000, &site::internal(peers), &[]));
    (ns, frr)
}

/// The MACs of a VNI as FRR sees them: MAC to VTEP, `None` where it is local.
fn view_of_frr(frr: &Frr, vni: u32) -> BTreeMap<String, Option<String>> {
    let all = frr.json(&format!("show evpn mac vni {vni}"));
    let macs = all["macs"].as_object().cloned().unwrap_or_default();
    macs.into_iter()
        .map(|(mac, entry)| (mac, entry["remoteVtep"].as_str().map(str::to_owned)))
        .collect()
}

/// The same as vtepd shows it.
fn view_of_vtepd(vtepd: &Vtepd, vni: u32) -> BTreeMap<String, Option<String>> {
    let rows = vtepd.show(&format!("mac --vni {vni}"))["rows"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    rows.iter()
        .map(|row| (text(&row["mac"]).expect("a MAC"), text(&row["vtep"])))
        .collect()
}

/// The expected view of VTEP `number`.
fn expected(vni: u32, number: u8) -> BTreeMap<String, Option<String>> {
    let of = HOSTS.iter().filter(|(_, other, _)| *other == vni);
    of.map(|(host, _, at)| (mac(*host), (*at != number).then(|| vtep4(*at).to_string())))
        .collect()
}

on_each_release! {
fn tables_of_three_vteps_match_those_of_frr() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(2);
    let mut config = site::bgp(2, 65000, &site::internal(&[1, 3]), "");
    for vni in site::VNIS {
        unused_port(&ns, &format!("port{vni}"));
        let hosts = HOSTS
            .iter()
            .filter(|(_, of, at)| (*of, *at) == (vni, 2))
            .map(|(host, ..)| mac(*host));
        config = config
            .vni(vni, &[])
            .port(&format!("port{vni}"), &hosts.collect::<Vec<_>>());
    }
    let vtepd = Vtepd::start(&ns, &config);
    let one = example_vtep(&fabric, 1, &[2, 3]);
    let three = example_vtep(&fabric, 3, &[1, 2]);
    for vni in site::VNIS {
        let (mut others, mut view) = (BTreeMap::new(), BTreeMap::new());
        for (number, frr) in [(1, &one.1), (3, &three.1)] {
            wait_for(&format!("FRR at {number} knows VNI {vni}"), 20, || {
                let seen = view_of_frr(frr, vni);
                // Without the MACs of the ports themselves.
                others = seen
                    .into_iter()
                    .filter(|(mac, _)| mac.starts_with("50:54:33"))
                    .collect();
                (others == expected(vni, number)).then_some(())
            });
        }
        wait_for(&format!("vtepd knows VNI {vni}"), 20, || {
            view = view_of_vtepd(&vtepd, vni);
            view.retain(|mac, _| mac.starts_with("50:54:33"));
            (view == expected(vni, 2)).then_some(())
        });
        assert_eq!(
            vtepd.flood(vni),
            [vtep4(1).to_string(), vtep4(3).to_string()]
        );
        let row = vtepd.show(&format!("vni {vni}"))["rows"][0].clone();
        let local = HOSTS
            .iter()
            .filter(|(_, of, at)| (*of, *at) == (vni, 2))
            .count();
        assert_eq!(row["macs_local"], local, "{row}");
        assert_eq!(row["remote_vteps"], 2, "{row}");
    }
    println!("{}", vtepd.done("show mac --vni 100"));
    println!("{}", one.1.show("show evpn mac vni 100"));
}
}

/// An anycast gateway that every VTEP has, and two export targets. (findings C3, C4)
#[test]
fn an_anycast_host_is_never_claimed_and_auto_is_exported_with_others() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let config = site::bgp(1, 65000, &[(9, 65000)], "passive = true")
        .vni(100, &[])
        .raw("export-rt = [\"65000:7\", \"auto\"]")
        .port("t11", &[mac(11)])
        .raw("anycast = true");
    let vtepd = Vtepd::start(&ns, &config);
    let peer = fabric.hypervisor(9);
    let mut script = Script::connect(&peer, vtep4(1), 65000, vtep4(9));
    let target = [0, 2, 0xfd, 0xe8, 0, 0, 0, 100];
    let gateway = mac_ip(RD, 0, [0x50, 0x54, 0x33, 0, 0, 11], [192, 0, 2, 11], 100);
    for sequence in 1..=20 {
        let mobility = [6, 0, 0, 0, 0, 0, 0, sequence];
        script.send(&announce(&gateway, NINE, &[target, VXLAN, mobility], None));
    }
    let routes = || {
        vtepd.show("bgp routes")["rows"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    wait_for("the last route", 10, || {
        routes()
            .iter()
            .any(|row| row["sequence"] == 20)
            .then_some(())
    });
    // Longer than another VTEP may announce an attached MAC before it is claimed back.
    std::thread::sleep(std::time::Duration::from_secs(7));
    let rows = routes();
    let own = rows
        .iter()
        .find(|row| row["neighbor"].is_null() && row["type"] == 2);
    let own = own.expect("announced");
    assert_eq!(own["sequence"], 0, "{own}");
    let targets = own["route_targets"].to_string();
    assert!(
        targets.contains("65000:100") && targets.contains("65000:7\""),
        "{targets}"
    );
    let row = vtepd.mac(100, &mac(11)).expect("attached");
    assert!(
        row["port"] == "t11" && !row["flags"].to_string().contains("frozen"),
        "{row}"
    );
}
