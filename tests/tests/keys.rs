//! Keys of the configuration that no other scenario sets, each by its effect (finding O14).
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h9: raw frames, or h2: vtepd ── t12
//! ```

use std::time::{Duration, Instant};

use vtep_tests::craft::{Checksum, Packet, vxlan};
use vtep_tests::echo::assert_no_loss;
use vtep_tests::fabric::{Fabric, vtep4, vtep6};
use vtep_tests::frame::plain;
use vtep_tests::link::{Host, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::topology::RawPair;
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

#[test]
fn strict_reserved_drops_what_rfc_7348_says_to_ignore_also_at_run_time() {
    let mut pair = RawPair::new();
    let (ours, theirs) = pair.macs();
    let mut number = 0;
    let mut send = |pair: &mut RawPair, strict: bool| {
        // A bit beside the I flag, and the reserved octet after the VNI.
        for (flags, last) in [(0x09, 0), (0x08, 1)] {
            number += 1;
            let marker = format!("reserved-{number}.");
            let mut packet = Packet::v4(&ours, &theirs, plain(&mac(11), &mac(12), &marker));
            packet.vxlan = vxlan(flags, 100);
            packet.vxlan[7] = last;
            let before = pair.vtepd.drops("vxlan-reserved");
            pair.peer.send(&packet.bytes());
            if strict {
                pair.vtepd.expect_drops("vxlan-reserved", before, 1);
                assert!(pair.tenant.with_marker(&marker).is_empty());
            } else {
                assert_eq!(pair.tenant.expect(&marker, 1).len(), 1);
                assert_eq!(pair.vtepd.drops("vxlan-reserved"), before);
            }
        }
    };
    send(&mut pair, false);
    let file = std::fs::read_to_string(pair.vtepd.config()).expect("the fixture wrote it");
    let strict = file.replace("cores = [0]", "cores = [0]\nstrict-reserved = true");
    std::fs::write(pair.vtepd.config(), strict).expect("the directory can be written");
    pair.vtepd.done("config apply");
    send(&mut pair, true);
    std::fs::write(pair.vtepd.config(), file).expect("the directory can be written");
    pair.vtepd.done("config apply");
    send(&mut pair, false);
}

/// vtepd over IPv6 with `keys`, its tenant, and raw frames of both ends.
fn over_ipv6(keys: &str) -> (Fabric, [Netns; 2], Vtepd, Host, [Raw; 2]) {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 9].map(|n| fabric.hypervisor(n));
    let host = Host::new(&hypervisors[0], 11);
    let config = Config::new(vtep6(1))
        .raw(keys)
        .vni(100, &[vtep6(9)])
        .port("t11", &[mac(11)])
        .fdb(&mac(12), vtep6(9));
    let vtepd = Vtepd::start(&hypervisors[0], &config);
    vtepd.expect_up(&[vtep6(9)]);
    let raw = [
        Raw::open(&host.ns, "eth0", Kind::Packet),
        Raw::open(&hypervisors[1], "eth0", Kind::Packet),
    ];
    (fabric, hypervisors, vtepd, host, raw)
}

#[test]
fn udp6_zero_checksums_are_accepted_and_sent_only_where_configured() {
    for (keys, accepted, sent) in [
        ("", false, false),
        ("udp6-zero-checksum-rx = true", true, false),
        ("udp6-zero-checksum-tx = true", false, true),
    ] {
        let (_fabric, hypervisors, vtepd, _host, [mut tenant, mut peer]) = over_ipv6(keys);
        let (ours, theirs) = (hypervisors[0].mac("eth0"), hypervisors[1].mac("eth0"));
        let packet = Packet {
            udp_checksum: Checksum::Zero,
            ..Packet::v6(&ours, &theirs, plain(&mac(11), &mac(12), "zero-in"))
        };
        let before = vtepd.drops("outer-udp-checksum");
        peer.send(&packet.bytes());
        if accepted {
            assert_eq!(tenant.expect("zero-in", 1).len(), 1, "{keys}");
        } else {
            vtepd.expect_drops("outer-udp-checksum", before, 1);
        }
        tenant.send(&plain(&mac(12), &mac(11), "zero-out"));
        let frames = peer.expect("zero-out", 1);
        // Ethernet 14, IPv6 40, then ports and length.
        let checksum = &frames[0][60..62];
        assert_eq!(checksum == [0, 0], sent, "{keys}: {checksum:?}");
    }
}

/// Huge pages of 2 MiB that are free.
fn free_huge_pages() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").expect("procfs");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"));
    line.map_or(0, |number| number.trim().parse().expect("a number"))
}

/// Huge pages that are reserved in addition, until this is dropped.
struct Reserved(u64);

impl Reserved {
    const SETTING: &str = "/proc/sys/vm/nr_hugepages";

    fn more(pages: u64) -> Self {
        let before = std::fs::read_to_string(Self::SETTING).expect("procfs");
        let before = before.trim().parse().expect("a number");
        let reserved = Self(before);
        std::fs::write(Self::SETTING, (before + pages).to_string()).expect("tests run as root");
        wait_for("huge pages", 10, || (free_huge_pages() >= 2).then_some(()));
        reserved
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::SETTING, self.0.to_string());
    }
}

/// Whether a mapping of the process has pages of 2 MiB.
fn uses_huge_pages(vtepd: &Vtepd) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps", vtepd.program.pid()));
    let maps = maps.expect("it runs");
    let sizes = maps
        .lines()
        .filter_map(|line| line.strip_prefix("KernelPageSize:"));
    sizes.into_iter().any(|size| size.trim() == "2048 kB")
}

#[test]
fn huge_pages_are_used_refused_or_left_alone_as_configured() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let config = |value: &str, frames: u32| {
        Config::new(vtep4(1))
            .raw(&format!(
                "[vtep.afxdp]\nframes = {frames}\nhuge-pages = {value}"
            ))
            .vni(100, &[])
            .port("t11", &[mac(11)])
    };
    // 8 GiB: more than a test machine reserves.
    let refused = Vtepd::try_start(&ns, &config("true", 4_194_304));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(
        error.contains("vtep.afxdp.huge-pages: ") && error.contains("vm.nr_hugepages"),
        "{error}"
    );
    let off = Vtepd::start(&ns, &config("false", 2048));
    assert!(!uses_huge_pages(&off));
    off.stop();
    let available = free_huge_pages() >= 2;
    let auto = Vtepd::start(&ns, &config("\"auto\"", 2048));
    assert_eq!(uses_huge_pages(&auto), available);
    auto.stop();
    // 2048 frames of 2048 bytes: two pages.
    let _reserved = Reserved::more(4);
    for value in ["true", "\"auto\""] {
        let on = Vtepd::start(&ns, &config(value, 2048));
        assert!(uses_huge_pages(&on), "{value}");
        on.stop();
    }
}

#[test]
fn busy_poll_keeps_workers_from_parking_and_traffic_passes() {
    for (value, parks) in [("false", true), ("\"auto\"", true), ("true", false)] {
        let fabric = Fabric::new(1600);
        let ns = fabric.hypervisor(1);
        let hosts = [11, 12].map(|n| Host::new(&ns, n));
        let config = Config::new(vtep4(1))
            .raw(&format!("[vtep.afxdp]\nbusy-poll = {value}"))
            .vni(100, &[])
            .port("t11", &[mac(11)])
            .port("t12", &[mac(12)]);
        let vtepd = Vtepd::start(&ns, &config);
        assert_no_loss(
            (&hosts[0].ns, hosts[0].ip4()),
            (&hosts[1].ns, hosts[1].ip4()),
        );
        let iterations = || {
            let shown = vtepd.show("workers");
            shown["rows"][0]["iterations"].as_u64().expect("a number")
        };
        // A parked worker looks a few times a second, one that polls as often as it can.
        let (before, start) = (iterations(), Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        let rate = (iterations() - before) as f64 / start.elapsed().as_secs_f64();
        assert_eq!(
            rate < 2000.0,
            parks,
            "busy-poll = {value}: {rate} iterations/s"
        );
        vtepd.stop();
    }
}

/// vtepd of site `number` with a session to the other one.
fn site(number: u8, bgp: &str, neighbor: &str) -> Config {
    let other = vtep4(3 - number);
    let tenant = number + 10;
    Config::new(vtep4(number))
        .raw(&format!("[bgp]\nasn = 65000\nhold-time = 9\n{bgp}"))
        .raw(&format!(
            "[[bgp.neighbor]]\naddress = \"{other}\"\nremote-asn = 65000\nconnect-retry = 1\n{neighbor}"
        ))
        .vni(100, &[])
        .port(&format!("t{tenant}"), &[mac(tenant)])
}

fn two_sites(bgp: &str, neighbor: &str) -> (Fabric, [Netns; 2], Vec<Host>, [Vtepd; 2]) {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2].map(|n| fabric.hypervisor(n));
    let hosts = vec![
        Host::new(&hypervisors[0], 11),
        Host::new(&hypervisors[1], 12),
    ];
    let daemons = [
        Vtepd::start(&hypervisors[0], &site(1, bgp, neighbor)),
        Vtepd::start(&hypervisors[1], &site(2, bgp, "")),
    ];
    for (vtepd, remote) in daemons.iter().zip([12, 11]) {
        wait_for("the other site's host", 20, || {
            vtepd.remote_mac(100, &mac(remote)).map(drop)
        });
    }
    (fabric, hypervisors, hosts, daemons)
}

#[test]
fn extended_messages_are_negotiated_unless_switched_off() {
    for (key, negotiated) in [("", true), ("extended-messages = false", false)] {
        let (_fabric, _ns, _hosts, [a, b]) = two_sites("", key);
        for (vtepd, other) in [(&a, vtep4(2)), (&b, vtep4(1))] {
            let shown = vtepd.show(&format!("bgp neighbor {other}"));
            let capabilities = shown["capabilities"].to_string();
            assert_eq!(
                capabilities.contains("extended messages"),
                negotiated,
                "{shown}"
            );
        }
    }
}

/// Moves tenant 30 to and fro with `pause` between, `count` times; returns whether a site has
/// frozen it.
fn moves(daemons: &[Vtepd; 2], count: usize, pause: Duration) -> bool {
    let host = mac(30);
    let frozen = |vtepd: &Vtepd| {
        let row = vtepd.mac(100, &host);
        row.is_some_and(|row| row["flags"].to_string().contains("frozen"))
    };
    for at in (0..count).map(|n| n % 2) {
        if daemons.iter().any(frozen) {
            return true;
        }
        let line = format!("mac move {host} --vni 100 --interface t{}", at + 11);
        let moved = daemons[at].ctl(&line);
        if !moved.status.success() {
            return daemons.iter().any(frozen);
        }
        let other = &daemons[1 - at];
        let sender = vtep4(at as u8 + 1).to_string();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) && !daemons.iter().any(frozen) {
            if other.remote_mac(100, &host).as_deref() == Some(&sender) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(pause);
    }
    daemons.iter().any(frozen)
}

#[test]
fn a_duplicate_mac_is_frozen_for_the_configured_time() {
    let keys = "duplicate-moves = 3\nduplicate-window = 60\nduplicate-freeze = 3";
    let (_fabric, _ns, _hosts, daemons) = two_sites(keys, "");
    let start = Instant::now();
    assert!(
        moves(&daemons, 12, Duration::ZERO),
        "12 moves in 60 s freeze it"
    );
    wait_for("it is unfrozen by time", 20, || {
        let frozen = daemons.iter().any(|vtepd| {
            let row = vtepd.mac(100, &mac(30));
            row.is_some_and(|row| row["flags"].to_string().contains("frozen"))
        });
        (!frozen).then_some(())
    });
    assert!(
        start.elapsed() >= Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn moves_outside_the_duplicate_window_are_not_counted() {
    let keys = "duplicate-moves = 3\nduplicate-window = 1\nduplicate-freeze = 60";
    let (_fabric, _ns, _hosts, daemons) = two_sites(keys, "");
    assert!(!moves(&daemons, 8, Duration::from_millis(1100)), "frozen");
}
