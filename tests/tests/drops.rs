//! Frames that a tenant may not send, counted by reason.
//!
//! ```text
//! t11: raw frames ── h1: vtepd ── eth0 ── fabric ── eth0 ── h9: raw frames
//! ```

use std::time::Instant;

use serde_json::Value;
use vtep_tests::config::each_underlay;
use vtep_tests::craft::Packet;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frame::{plain, tagged};
use vtep_tests::link::{Host, mac};
use vtep_tests::netns::wait_for;
use vtep_tests::topology::{IO_KINDS, RawPair};
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

/// Sends `frame` (which contains "dropped") and then a valid one; only the valid one may arrive,
/// and `reason` counts one.
fn dropped(pair: &mut RawPair, frame: &[u8], reason: &str) {
    let before = pair.vtepd.drops(reason);
    let marker = format!("after-{reason}-{before}");
    pair.tenant.send(frame);
    pair.tenant.send(&plain(&mac(12), &mac(11), &marker));
    assert_eq!(pair.peer.expect(&marker, 1).len(), 1);
    assert!(
        pair.peer.with_marker("dropped").is_empty(),
        "{reason}: it was forwarded"
    );
    pair.vtepd.expect_drops(reason, before, 1);
}

#[test]
fn invalid_tenant_frames_are_dropped_and_counted() {
    IO_KINDS.into_iter().for_each(invalid_frames_are_dropped);
}

fn invalid_frames_are_dropped(io: &str) {
    let mut pair = RawPair::with("", &format!("io = \"{io}\""));
    dropped(
        &mut pair,
        &plain(&mac(12), "01:54:33:00:00:0b", "dropped"),
        "source-mac",
    );
    dropped(
        &mut pair,
        &plain(&mac(12), "00:00:00:00:00:00", "dropped"),
        "source-mac",
    );
    dropped(
        &mut pair,
        &plain("01:80:c2:00:00:00", &mac(11), "dropped"),
        "link-local-group",
    );
    dropped(
        &mut pair,
        &plain("01:80:c2:00:00:0e", &mac(11), "dropped"),
        "link-local-group",
    );
    dropped(
        &mut pair,
        &tagged(&plain(&mac(12), &mac(11), "dropped"), 7),
        "tagged",
    );
    dropped(&mut pair, &plain(&mac(11), &mac(11), "dropped"), "hairpin");
}

#[test]
fn a_locked_port_accepts_only_its_own_macs() {
    for io in IO_KINDS {
        let mut pair = RawPair::with("", &format!("lock = true\nio = \"{io}\""));
        dropped(&mut pair, &plain(&mac(12), &mac(99), "dropped"), "locked");
    }
}

/// What comes while a worker is late, and its socket has no place for, is counted by the true reason for
/// the interface, its port and its VNI, of tenants and of the underlay. It stays counted when the
/// interface is opened again: with AF_XDP it was in no drop counter, and `rx_ring_full` began again at 0.
#[test]
fn frames_that_sockets_have_no_place_for_are_counted() {
    for (io, reason) in [("xdp", "no-chunk"), ("packet", "socket-full")] {
        let keys = format!("underlay-io = \"{io}\"");
        let mut pair = RawPair::with(&keys, &format!("io = \"{io}\""));
        let port = pair.host.port.clone();
        frames_are_lost_at("eth0", false, &mut pair, reason);
        frames_are_lost_at(&port, true, &mut pair, reason);
    }
}

/// Those counters of an interface that the test looks at.
#[derive(Debug, Clone, Copy)]
struct Lost {
    /// Received by a worker.
    received: u64,
    /// Dropped for any reason, and as the sockets count it.
    drops: u64,
    at_sockets: u64,
    /// Dropped for the reason of this test: of all, of the port, and of the VNI.
    of_all: u64,
    of_port: u64,
    of_vni: u64,
}

fn lost_at(interface: &str, vtepd: &Vtepd, reason: &str) -> Lost {
    let row_of = |page: &Value, wanted: &dyn Fn(&Value) -> bool| {
        let rows = page["rows"].as_array().expect("rows");
        rows.iter().find(|row| wanted(row)).cloned()
    };
    let ports = vtepd.show("ports");
    let row = row_of(&ports, &|row| row["interface"] == interface).expect("the interface is shown");
    let of = |by: &str, what: &str| {
        let page = vtepd.show(&format!("drops --by {by}"));
        let found = row_of(&page, &|row| row["reason"] == reason && row["by"] == what);
        found.map_or(0, |row| row["count"].as_u64().expect("a number"))
    };
    let number = |value: &Value| value.as_u64().expect("a number");
    Lost {
        received: number(&row["rx_frames"]),
        drops: number(&row["drops"]),
        at_sockets: number(&row["xdp"]["rx_ring_full"]) + number(&row["xdp"]["rx_dropped"]),
        of_all: vtepd.drops(reason),
        of_port: of("port", interface),
        of_vni: of("vni", "100"),
    }
}

fn frames_are_lost_at(interface: &str, is_tenant: bool, pair: &mut RawPair, reason: &str) {
    const SENT: u64 = 12_000;
    // Frames of the hosts' own stacks.
    const OTHERS: u64 = 100;
    let (destination, source) = pair.macs();
    let from_peer = plain(&mac(11), &mac(12), "from-peer");
    let from_peer = Packet::v4(&destination, &source, from_peer).bytes();
    let from_tenant = plain(&mac(12), &mac(11), "from-tenant");
    let before = lost_at(interface, &pair.vtepd, reason);
    let (tenant, peer) = (&mut pair.tenant, &mut pair.peer);
    pair.vtepd.while_stopped(|| {
        for _ in 0..SENT {
            if is_tenant {
                tenant.send(&from_tenant);
            } else {
                peer.send(&from_peer);
            }
        }
    });
    let now = wait_for("every frame is received or counted", 20, || {
        let now = lost_at(interface, &pair.vtepd, reason);
        let all = now.received - before.received + now.of_all - before.of_all;
        (all >= SENT).then_some(now)
    });
    let lost = now.of_all - before.of_all;
    let all = now.received - before.received + lost;
    assert!(lost > 0 && all < SENT + OTHERS, "{before:?}, {now:?}");
    assert!(now.of_port - before.of_port == lost, "{before:?}, {now:?}");
    assert!(
        now.at_sockets - before.at_sockets == lost,
        "{before:?}, {now:?}"
    );
    assert!(now.drops - before.drops >= lost, "{before:?}, {now:?}");
    let of_vni = if is_tenant { lost } else { 0 };
    assert!(now.of_vni - before.of_vni == of_vni, "{before:?}, {now:?}");
    for (step, state) in [("down", "down"), ("up", "up")] {
        pair.hypervisors[0].ip(&format!("link set {interface} {step}"));
        wait_for("the link is followed", 20, || {
            let page = pair.vtepd.show("ports");
            let rows = page["rows"].as_array().expect("rows").clone();
            let row = rows.into_iter().find(|row| row["interface"] == interface)?;
            (row["state"] == state).then_some(())
        });
        let kept = lost_at(interface, &pair.vtepd, reason);
        assert!(
            kept.of_all >= now.of_all && kept.of_port >= now.of_port,
            "{step}: {now:?}, {kept:?}"
        );
        assert!(
            kept.at_sockets >= now.at_sockets,
            "{step}: {now:?}, {kept:?}"
        );
    }
}

#[test]
fn storm_control_limits_a_flood_before_replication() {
    each_underlay(|| {
        let mut pair = RawPair::with("", "storm = { rate = 10, burst = 20 }");
        let start = Instant::now();
        for _ in 0..200 {
            pair.tenant
                .send(&plain("ff:ff:ff:ff:ff:ff", &mac(11), "storm-frame"));
        }
        pair.tenant
            .send(&plain(&mac(12), &mac(11), "unicast-passes"));
        assert_eq!(pair.peer.expect("unicast-passes", 1).len(), 1);
        // The burst, plus the rate for the time that it took. The tenant's kernel sends multicast too
        // (MLD): a few such frames consume tokens, or are among the dropped.
        let most = 20 + 10 * (start.elapsed().as_secs() + 1);
        let passed = pair.peer.with_marker("storm-frame").len() as u64;
        assert!(
            (10..=most).contains(&passed),
            "{passed} of 200 passed, at most {most} may"
        );
        let (dropped, ours) = (pair.vtepd.drops("storm"), 200 - passed);
        assert!(
            (ours..ours + 20).contains(&dropped),
            "{dropped} dropped, {ours} of them sent by the test"
        );
    });
}

#[test]
fn learn_events_of_a_port_are_limited_and_its_frames_still_pass() {
    let mut pair = RawPair::with("", "learn-limit = 4");
    let held = |pair: &RawPair| {
        let ports = pair.vtepd.show("ports");
        let row = ports["rows"]
            .as_array()
            .expect("rows")
            .iter()
            .find(|row| row["interface"] == "t11");
        row.and_then(|row| row["events_suppressed"].as_u64())
            .unwrap_or_else(|| panic!("t11: {ports}"))
    };
    assert_eq!(held(&pair), 0);
    let mut round = 0;
    wait_for("learn events are suppressed", 10, || {
        round += 1;
        for host in 0..2000 {
            let source = format!("52:00:00:{round:02x}:{:02x}:{:02x}", host >> 8, host & 0xff);
            pair.tenant.send(&plain(&mac(12), &source, "invented"));
        }
        (held(&pair) > 0).then_some(())
    });
    assert!(pair.vtepd.done("show ports").contains("Suppressed"));
    pair.tenant
        .send(&plain(&mac(12), "52:00:00:ff:ff:ff", "still-passes"));
    assert_eq!(
        pair.peer.expect("still-passes", 1).len(),
        1,
        "the frames themselves are forwarded"
    );
    let rows = pair.vtepd.show("mac --vni 100")["rows"]
        .as_array()
        .map_or(0, Vec::len);
    assert_eq!(
        rows,
        2 + 4,
        "the configured host of the port, a static one, and the learn limit"
    );
}

#[test]
fn a_frame_without_an_adjacency_is_dropped_and_counted() {
    each_underlay(|| {
        let mut pair = RawPair::new();
        pair.vtepd
            .done("fdb add 50:54:33:00:00:55 --vni 100 --vtep 198.51.100.7");
        let before = pair.vtepd.drops("no-adjacency");
        pair.tenant
            .send(&plain("50:54:33:00:00:55", &mac(11), "dropped"));
        pair.vtepd.expect_drops("no-adjacency", before, 1);
    });
}

/// A VXLAN packet for the MAC of another station is not taken, as on Linux, and the MAC may change
/// (finding D14).
#[test]
fn packets_for_another_station_are_dropped_and_the_own_mac_may_change() {
    each_underlay(|| {
        let mut pair = RawPair::new();
        let (own, peer) = pair.macs();
        let receiver = Raw::open(&pair.host.ns, "eth0", Kind::Packet);
        let mut number = 0;
        let mut send = |pair: &mut RawPair, to: &str, taken: bool| {
            number += 1;
            let marker = format!("station-{number}");
            let before = pair.vtepd.drops("other-station");
            let inner = plain(&mac(11), &mac(12), &marker);
            pair.peer.send(&Packet::v4(to, &peer, inner).bytes());
            if taken {
                assert_eq!(receiver.expect(&marker, 1).len(), 1, "{to}");
            } else {
                pair.vtepd.expect_drops("other-station", before, 1);
                assert!(receiver.with_marker(&marker).is_empty(), "{to}");
            }
        };
        let other = "02:00:00:00:00:99";
        send(&mut pair, &own, true);
        send(&mut pair, other, false);
        send(&mut pair, "ff:ff:ff:ff:ff:ff", true);
        pair.hypervisors[0].ip(&format!("link set eth0 address {other}"));
        wait_for("the new MAC is known", 10, || {
            let before = pair.vtepd.drops("other-station");
            let inner = plain(&mac(11), &mac(12), "probe");
            pair.peer.send(&Packet::v4(&own, &peer, inner).bytes());
            std::thread::sleep(std::time::Duration::from_millis(50));
            (pair.vtepd.drops("other-station") > before).then_some(())
        });
        send(&mut pair, other, true);
        // The MAC of a bridge over it, which may have its own.
        pair.hypervisors[0].ip(&format!("link add br0 address {own} type bridge"));
        pair.hypervisors[0].ip("link set eth0 master br0");
        wait_for("the MAC of the bridge is known", 10, || {
            let before = pair.vtepd.drops("other-station");
            let inner = plain(&mac(11), &mac(12), "probe");
            pair.peer.send(&Packet::v4(&own, &peer, inner).bytes());
            std::thread::sleep(std::time::Duration::from_millis(50));
            (pair.vtepd.drops("other-station") == before).then_some(())
        });
        send(&mut pair, &own, true);
    });
}

/// Frames for a port whose interface is missing are not counted as too long (finding D18).
#[test]
fn frames_for_an_absent_port_are_counted_as_port_down() {
    let fabric = Fabric::new(1600);
    let hypervisor = fabric.hypervisor(1);
    let host = Host::new(&hypervisor, 11);
    let config = Config::new(vtep4(1))
        .vni(100, &[])
        .port("t11", &[mac(11)])
        .port("absent", &[mac(12)]);
    let vtepd = Vtepd::start(&hypervisor, &config);
    let mut tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
    for to in [&*mac(12), "ff:ff:ff:ff:ff:ff"] {
        let before = vtepd.drops("port-down");
        tenant.send(&plain(to, &mac(11), "to an absent port"));
        // The tenant's own multicast is flooded to it as well.
        let counted = || (vtepd.drops("port-down") > before).then_some(());
        wait_for("the drop is counted", 10, counted);
    }
    assert_eq!(vtepd.drops("port-mtu"), 0);
}
