//! Hosts behind Ethernet segments of other VTEPs: aliasing, mass withdrawal, single-active.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: Linux VTEP ── t12
//!                             │  └───── eth0 ── h3: Linux VTEP ── t12, the same host
//!                             └──────── eth0 ── h9: bgp_peer.py, the routes of both
//! ```

use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frame::{mac as octets, plain, udp4};
use vtep_tests::gobgp::Gobgp;
use vtep_tests::link::{Host, mac};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::script::{Script, VXLAN, announce, imet, route, withdraw};
use vtep_tests::site;
use vtep_tests::vtepd::Vtepd;
use vtep_tests::wire::{Kind, Raw};

const TARGET: [u8; 8] = [0, 2, 0xfd, 0xe8, 0, 0, 0, 100];
const ESI: [u8; 10] = [3, 0x44, 0x38, 0x39, 0xff, 0xff, 1, 0, 0, 1];
const ESI_TEXT: &str = "03:44:38:39:ff:ff:01:00:00:01";
const MAX_ET: u32 = u32::MAX;
const FLOWS: u16 = 48;

/// Type 1: 203.0.113.N:1.
fn rd(pe: u8) -> [u8; 8] {
    [0, 1, 203, 0, 113, pe, 0, 1]
}

fn ethernet_ad(pe: u8, tag: u32, label: u32) -> Vec<u8> {
    let label = label.to_be_bytes();
    route(
        1,
        &[&rd(pe)[..], &ESI, &tag.to_be_bytes(), &label[1..]].concat(),
    )
}

fn shared_mac(pe: u8, mac: [u8; 6]) -> Vec<u8> {
    mac_route(pe, ESI, mac)
}

fn mac_route(pe: u8, esi: [u8; 10], mac: [u8; 6]) -> Vec<u8> {
    let value = [&rd(pe)[..], &esi, &[0; 4], &[48], &mac, &[0], &[0, 0, 100]];
    route(2, &value.concat())
}

/// MAC mobility with sequence number 1 (RFC 7432 section 7.7).
const MOVED: [u8; 8] = [6, 0, 0, 0, 0, 0, 0, 1];

/// The ESI label community (RFC 7432 section 7.5).
fn esi_label(single_active: bool) -> [u8; 8] {
    [6, 1, single_active.into(), 0, 0, 0, 0, 0]
}

/// vtepd at 1, a pair of Linux VTEPs at 2 and 3 with host 12 behind both, their routes scripted.
struct Pair {
    vtepd: Vtepd,
    script: Script,
    sender: Raw,
    receivers: [Raw; 2],
    local: Raw,
    _all: (Vec<Netns>, Vec<Host>, Fabric),
}

impl Pair {
    fn new() -> Self {
        let fabric = Fabric::new(1600);
        let ns = fabric.hypervisor(1);
        let tenant = Host::new(&ns, 11);
        let config = site::bgp(1, 65000, &[(9, 65000)], "passive = true")
            .vni(100, &[])
            .port("t11", &[mac(11)]);
        let vtepd = Vtepd::start(&ns, &config);
        let pes = [2, 3].map(|number| fabric.hypervisor(number));
        let hosts = [0, 1].map(|place: usize| {
            let host = Host::new(&pes[place], 12);
            let number = place as u8 + 2;
            let _ = LinuxVtep::new(&pes[place], 100, vtep4(number))
                .port(&host.port)
                .fdb(&mac(11), vtep4(1));
            host
        });
        let peer = fabric.hypervisor(9);
        let script = Script::connect(&peer, vtep4(1), 65000, vtep4(9));
        let sender = Raw::open(&tenant.ns, "eth0", Kind::Packet);
        let local = Raw::open(&tenant.ns, "eth0", Kind::Packet);
        let receivers = [0, 1].map(|i: usize| Raw::open(&hosts[i].ns, "eth0", Kind::Packet));
        let [one, two] = hosts;
        let [left, right] = pes;
        Self {
            vtepd,
            script,
            sender,
            receivers,
            local,
            _all: (vec![ns, left, right, peer], vec![tenant, one, two], fabric),
        }
    }

    fn announce(&mut self, pe: u8, nlri: &[u8], more: &[[u8; 8]]) {
        let communities = [&[TARGET, VXLAN][..], more].concat();
        let message = announce(nlri, [203, 0, 113, pe], &communities, None);
        self.script.send(&message);
    }

    fn segment(&mut self, pe: u8, single_active: bool) {
        self.announce(pe, &ethernet_ad(pe, MAX_ET, 0), &[esi_label(single_active)]);
        self.announce(pe, &ethernet_ad(pe, 0, 100), &[]);
    }

    /// The VTEPs that host 12 is reachable through, as `show mac` shows.
    fn members(&self) -> Vec<String> {
        let row = self.vtepd.mac(100, &mac(12)).unwrap_or_default();
        let members = row["vteps"].as_array().cloned().unwrap_or_default();
        members
            .iter()
            .filter_map(|vtep| vtep.as_str().map(str::to_owned))
            .collect()
    }

    fn expect_members(&self, pes: &[u8]) {
        let wanted: Vec<_> = pes.iter().map(|pe| vtep4(*pe).to_string()).collect();
        wait_for(&format!("host 12 through {wanted:?}"), 10, || {
            let known = self.vtepd.mac(100, &mac(12)).is_some();
            (known && self.members() == wanted).then_some(())
        });
        // The first frame finds the paths resolved.
        wait_for("the paths are resolved", 10, || {
            let row = self.vtepd.mac(100, &mac(12)).unwrap_or_default();
            (!row["flags"].to_string().contains("unresolved")).then_some(())
        });
    }

    /// Sends flows to host 12; returns how many arrived at each VTEP's side.
    fn flows(&mut self, text: &str) -> [usize; 2] {
        for flow in 0..FLOWS {
            let mut frame = udp4(&mac(12), &mac(11), 0, text);
            frame[34..36].copy_from_slice(&(20_000 + flow * 13).to_be_bytes());
            self.sender.send(&frame);
        }
        let count =
            |receivers: &[Raw; 2]| [0, 1].map(|i: usize| receivers[i].with_marker(text).len());
        wait_for("all flows arrive", 10, || {
            (count(&self.receivers).iter().sum::<usize>() >= usize::from(FLOWS)).then_some(())
        });
        std::thread::sleep(std::time::Duration::from_millis(200));
        count(&self.receivers)
    }
}

/// (finding C17)
#[test]
fn flows_to_a_shared_host_use_both_vteps_until_one_withdraws_its_segment() {
    let mut pair = Pair::new();
    let all = usize::from(FLOWS);
    pair.segment(2, false);
    pair.announce(2, &shared_mac(2, octets(&mac(12))), &[]);
    pair.expect_members(&[2]);
    // The other one has only the route per ES, then only that per EVI, then both.
    pair.announce(3, &ethernet_ad(3, MAX_ET, 0), &[esi_label(false)]);
    assert_eq!(pair.flows("per-es-only"), [all, 0]);
    pair.script.send(&withdraw(&ethernet_ad(3, MAX_ET, 0)));
    pair.announce(3, &ethernet_ad(3, 0, 100), &[]);
    assert_eq!(pair.flows("per-evi-only"), [all, 0]);
    pair.segment(3, false);
    pair.expect_members(&[2, 3]);
    let [left, right] = pair.flows("both");
    assert_eq!(left + right, all, "each frame once");
    assert!(left >= 8 && right >= 8, "{left} and {right}");
    let rows = pair.vtepd.show("bgp segments")["rows"].clone();
    assert_eq!(rows[0]["esi"], ESI_TEXT, "{rows}");
    assert_eq!(rows[0]["vteps"][0]["macs"], 1, "{rows}");
    assert_eq!(rows[0]["vteps"][1]["used"], true, "{rows}");
    let text = pair.vtepd.done("show bgp segments");
    assert!(
        text.contains("all-active") && text.contains("203.0.113.3"),
        "{text}"
    );
    // A VTEP that announces no MAC and no type 3 may send too.
    let before = pair.vtepd.drops("unknown-vtep");
    for receiver in &mut pair.receivers {
        receiver.send(&plain(&mac(11), &mac(12), "from-the-segment"));
    }
    assert_eq!(pair.local.expect("from-the-segment", 2).len(), 2);
    assert_eq!(pair.vtepd.drops("unknown-vtep"), before);
    // Mass withdrawal: the MAC route stays, and the flows leave its VTEP.
    pair.script.send(&withdraw(&ethernet_ad(2, MAX_ET, 0)));
    pair.expect_members(&[3]);
    assert_eq!(pair.flows("moved"), [0, all]);
    // The last one withdraws: the host is unknown, and its frames are flooded.
    pair.announce(2, &imet(rd(2), 100, [203, 0, 113, 2]), &[]);
    wait_for("VTEP 2 is in the flood list", 10, || {
        (pair.vtepd.flood(100) == [vtep4(2).to_string()]).then_some(())
    });
    pair.script.send(&withdraw(&ethernet_ad(3, MAX_ET, 0)));
    wait_for("the host is flushed", 10, || {
        let row = pair.vtepd.mac(100, &mac(12)).unwrap_or_default();
        row["flags"].to_string().contains("flushed").then_some(())
    });
    assert_eq!(pair.flows("flooded"), [all, 0]);
    pair.segment(3, false);
    pair.expect_members(&[3]);
    assert_eq!(pair.flows("back"), [0, all]);
}

/// The route for a MAC comes after the segment was announced, but before the routes of its own VTEP:
/// as soon as these come, it is used. (finding C17)
#[test]
fn the_routes_of_a_segment_come_in_any_order() {
    let mut pair = Pair::new();
    let all = usize::from(FLOWS);
    // The host was behind VTEP 3 alone.
    let host = octets(&mac(12));
    pair.announce(3, &mac_route(3, [0; 10], host), &[]);
    wait_for("the host behind VTEP 3", 10, || {
        (pair.vtepd.remote_mac(100, &mac(12))? == vtep4(3).to_string()).then_some(())
    });
    pair.announce(3, &ethernet_ad(3, MAX_ET, 0), &[esi_label(false)]);
    pair.announce(2, &shared_mac(2, host), &[MOVED]);
    assert_eq!(pair.flows("before"), [0, all]);
    pair.segment(2, false);
    pair.expect_members(&[2]);
    assert_eq!(pair.flows("after"), [all, 0]);
    pair.announce(3, &ethernet_ad(3, 0, 100), &[]);
    pair.expect_members(&[2, 3]);
}

/// (finding C17)
#[test]
fn a_single_active_segment_is_reachable_through_one_vtep_and_then_its_backup() {
    let mut pair = Pair::new();
    let all = usize::from(FLOWS);
    for pe in [2, 3] {
        pair.segment(pe, true);
    }
    pair.announce(3, &shared_mac(3, octets(&mac(12))), &[]);
    pair.expect_members(&[3]);
    assert_eq!(pair.flows("primary"), [0, all]);
    pair.script.send(&withdraw(&ethernet_ad(3, MAX_ET, 0)));
    pair.expect_members(&[2]);
    assert_eq!(pair.flows("backup"), [all, 0]);
}

/// Type 1, 2 and 4 of GoBGP, added by its command, reflected to vtepd. (finding C17)
#[test]
fn segments_that_gobgp_announces_are_used() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let config = site::bgp(1, 65000, &[(9, 65000)], "").vni(100, &[]);
    let vtepd = Vtepd::start(&ns, &config);
    let peer = fabric.hypervisor(9);
    let _reflector = Gobgp::reflector(&peer, 9, &[1]);
    let segment = "ARBITRARY 44:38:39:ff:ff:01:00:00:01";
    for pe in [2, 3] {
        let next = vtep4(pe);
        let common = format!("rd {next}:1 rt 65000:100 encap vxlan nexthop {next}");
        for line in [
            format!("a-d esi {segment} etag 4294967295 label 0 {common} esi-label 0"),
            format!("a-d esi {segment} etag 0 label 100 {common}"),
            format!("esi {next} esi {segment} rd {next}:1 rt 65000:100 nexthop {next}"),
        ] {
            peer.run(&format!("gobgp global rib -a evpn add {line}"));
        }
    }
    let next = vtep4(2);
    peer.run(&format!(
        "gobgp global rib -a evpn add macadv {} 192.0.2.12 esi {segment} etag 0 label 100 rd {next}:1 rt 65000:100 encap vxlan nexthop {next}",
        mac(12)
    ));
    wait_for("host 12 is reachable through both", 20, || {
        let row = vtepd.mac(100, &mac(12))?;
        (row["vteps"].as_array()?.len() == 2).then_some(())
    });
}
