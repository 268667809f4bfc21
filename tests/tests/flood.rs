//! Broadcast, unknown unicast and multicast: one copy to every VTEP, and none back.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ──┬─ eth0 ── h2: Linux ── t12
//!                                      ├─ eth0 ── h3: Linux ── t13
//!                                      └─ ... up to h6, or h9: raw frames
//! ```

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vtep_tests::craft::Packet;
use vtep_tests::echo::assert_no_loss;
use vtep_tests::fabric::{Fabric, Underlay, vtep4, vtep6};
use vtep_tests::frame::plain;
use vtep_tests::link::{Host, mac};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::wait_for;
use vtep_tests::topology::RawPair;
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Capture, Kind, Raw};

#[test]
fn a_bum_frame_reaches_each_of_five_vteps_once_and_is_never_reflected() {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2, 3, 4, 5, 6].map(|n| fabric.hypervisor(n));
    let hosts: Vec<Host> = (0..6_u8)
        .map(|i| Host::new(&hypervisors[usize::from(i)], 11 + i))
        .collect();
    for n in 2..=6_u8 {
        let others = (1..=6).filter(|o| *o != n);
        let vtep = LinuxVtep::new(&hypervisors[usize::from(n) - 1], 100, vtep4(n))
            .port(&format!("t{}", n + 10));
        let _ = others.fold(vtep, |vtep, other| vtep.flood(vtep4(other)));
    }
    let remote: Vec<_> = (2..=6).map(vtep4).collect();
    let vtepd = Vtepd::start(
        &hypervisors[0],
        &Config::new(vtep4(1))
            .vni(100, &remote)
            .port("t11", &[mac(11)]),
    );
    vtepd.expect_up(&remote);
    let mut receivers: Vec<Raw> = hosts
        .iter()
        .map(|h| Raw::open(&h.ns, "eth0", Kind::Packet))
        .collect();
    let mut wire = Capture::start(&fabric.ns, vtepd.dir(), "h1", "udp port 4789");
    for (kind, to) in [
        ("all", "ff:ff:ff:ff:ff:ff"),
        ("group", "01:00:5e:01:02:03"),
        ("unknown", "50:54:33:00:66:66"),
    ] {
        let marker = format!("bum-{kind}");
        receivers[0].send(&plain(to, &mac(11), &marker));
        for receiver in &receivers[1..] {
            assert_eq!(receiver.expect(&marker, 1), [plain(to, &mac(11), &marker)]);
        }
        assert!(
            receivers[0].with_marker(&marker).is_empty(),
            "{marker} was sent back to its sender"
        );
    }
    let mine = "vxlan && eth.src == 50:54:33:00:00:0b && data";
    assert_eq!(
        wire.count(&format!("{mine} && ip.src == 203.0.113.1")),
        15,
        "three frames, five copies each"
    );
    assert_eq!(
        wire.count(&format!("{mine} && ip.dst == 203.0.113.1")),
        0,
        "none is sent back"
    );
    vtepd.stop();
}

#[test]
fn bum_from_the_overlay_reaches_local_ports_and_never_the_overlay() {
    let mut pair = RawPair::new();
    let (to, from) = pair.macs();
    for (kind, destination) in [
        ("all", "ff:ff:ff:ff:ff:ff"),
        ("unknown", "50:54:33:00:66:66"),
    ] {
        let inner = plain(destination, &mac(12), &format!("over-{kind}"));
        pair.peer
            .send(&Packet::v4(&to, &from, inner.clone()).bytes());
        assert_eq!(pair.tenant.expect(&format!("over-{kind}"), 1), [inner]);
        assert!(
            pair.peer.with_marker(&format!("over-{kind}")).is_empty(),
            "sent back to the overlay"
        );
    }
}

#[test]
fn unknown_unicast_is_flooded_and_known_unicast_is_not() {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2, 3].map(|n| fabric.hypervisor(n));
    let host = Host::new(&hypervisors[0], 11);
    let config = Config::new(vtep4(1))
        .vni(100, &[vtep4(2), vtep4(3)])
        .port(&host.port, &[mac(11)])
        .fdb(&mac(12), vtep4(2));
    let vtepd = Vtepd::start(&hypervisors[0], &config);
    vtepd.expect_up(&[vtep4(2), vtep4(3)]);
    let receivers = [1, 2].map(|i: usize| Raw::open(&hypervisors[i], "eth0", Kind::Packet));
    let mut tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
    tenant.send(&plain("50:54:33:00:66:66", &mac(11), "no-such-host"));
    tenant.send(&plain(&mac(12), &mac(11), "known-mac"));
    assert_eq!(
        receivers
            .each_ref()
            .map(|e| e.expect("no-such-host", 1).len()),
        [1, 1]
    );
    assert_eq!(
        receivers
            .each_ref()
            .map(|e| e.with_marker("known-mac").len()),
        [1, 0]
    );
}

#[test]
fn a_flood_reaches_vteps_of_both_families_once() {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2, 3].map(|n| fabric.hypervisor(n));
    let hosts = [
        Host::new(&hypervisors[0], 11),
        Host::new(&hypervisors[1], 12),
        Host::new(&hypervisors[2], 13),
    ];
    for (n, underlay) in [(2, Underlay::V4), (3, Underlay::V6)] {
        let _ = LinuxVtep::new(&hypervisors[n - 1], 100, underlay.vtep(n as u8))
            .port(&hosts[n - 1].port)
            .fdb(&mac(11), underlay.vtep(1))
            .flood(underlay.vtep(1));
    }
    let config = Config::new(vtep4(1))
        .vni(100, &[vtep4(2), vtep6(3)])
        .port("t11", &[mac(11)]);
    let vtepd = Vtepd::start(&hypervisors[0], &config.both_families(vtep6(1)));
    vtepd.expect_up(&[vtep4(2), vtep6(3)]);
    let mut receivers = hosts
        .each_ref()
        .map(|h| Raw::open(&h.ns, "eth0", Kind::Packet));
    for (kind, to) in [
        ("all", "ff:ff:ff:ff:ff:ff"),
        ("unknown", "50:54:33:00:66:66"),
    ] {
        let marker = format!("both-{kind}");
        receivers[0].send(&plain(to, &mac(11), &marker));
        assert_eq!(receivers[1].expect(&marker, 1).len(), 1, "over IPv4");
        assert_eq!(receivers[2].expect(&marker, 1).len(), 1, "over IPv6");
        assert!(
            receivers[0].with_marker(&marker).is_empty(),
            "{marker} came back"
        );
    }
    // The reverse direction, from each VTEP over its own family.
    for host in &hosts[1..] {
        assert_no_loss((&hosts[0].ns, hosts[0].ip4()), (&host.ns, host.ip4()));
    }
    vtepd.stop();
}

/// Frames that wait to be flooded never leave in the VNI that takes the place of theirs, whichever
/// port has the numbers of theirs (finding D2). Tenants 12 and 13 keep the queue of floods full,
/// while 11 and 14 take turns: the VNI of one is deleted and that of the other added in the next
/// call.
#[test]
fn a_waiting_flood_does_not_leave_in_the_vni_that_follows() {
    let fabric = Fabric::new(1600);
    let [hypervisor, receiver] = [1, 9].map(|n| fabric.hypervisor(n));
    let hosts = [11, 12, 13, 14].map(|n| Host::new(&hypervisor, n));
    let vteps: Vec<_> = (100..180).map(vtep4).collect();
    for vtep in &vteps {
        hypervisor.ip(&format!(
            "neigh replace {vtep} lladdr {} dev eth0 nud permanent",
            receiver.mac("eth0")
        ));
    }
    let config = Config::new(vtep4(1))
        .workers(1)
        .vni(100, &vteps)
        .port("t11", &[mac(11)])
        .vni(200, &vteps)
        .port("t12", &[mac(12)])
        .vni(300, &vteps)
        .port("t13", &[mac(13)]);
    let vtepd = Vtepd::start(&hypervisor, &config);
    vtepd.expect_up(&vteps);
    // The inner source MAC of the two tenants that take turns.
    let filter = "udp port 4789 and ether[56:4] = 0x50543300 and ether[60] = 0 and \
                  (ether[61] = 11 or ether[61] = 14)";
    let mut wire = Capture::start(&receiver, vtepd.dir(), "eth0", filter);
    let mut tenants = hosts
        .each_ref()
        .map(|host| Raw::open(&host.ns, "eth0", Kind::Packet));
    let [first, busy @ .., last] = &mut tenants;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (raw, number) in busy.iter_mut().zip([12, 13]) {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    (0..32).for_each(|_| raw.send(&broadcast(number)));
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
        }
        for round in 0..8 {
            let mut pair = [(100, 11, &mut *first), (999, 14, &mut *last)];
            pair.rotate_left(round % 2);
            let [(old, owner, sender), (new, next, other)] = pair;
            (0..64).for_each(|_| sender.send(&broadcast(owner)));
            replace_vni(&vtepd, old, (new, next), &vteps);
            wait_for("the new VNI floods", 20, || {
                other.send(&broadcast(next));
                std::thread::sleep(Duration::from_millis(50));
                let shown = vtepd.show("vni");
                let is_new = |row: &&serde_json::Value| row["vni"] == new;
                let row = shown["rows"].as_array()?.iter().find(is_new)?;
                (row["tx_frames"].as_u64()? > 0).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    let seen = wire.fields("vxlan", &["vxlan.vni", "eth.src"]);
    let foreign = |fields: &&Vec<String>| {
        let owner = if fields[0] == "100" { mac(11) } else { mac(14) };
        !fields[1].ends_with(&owner)
    };
    assert!(seen.len() > 80, "{}", seen.len());
    assert_eq!(
        seen.iter().filter(foreign).count(),
        0,
        "of {} packets",
        seen.len()
    );
}

fn broadcast(from: u8) -> Vec<u8> {
    plain("ff:ff:ff:ff:ff:ff", &mac(from), "flood")
}

/// Deletes a VNI, and adds another one with this tenant's port and flood list in the next call.
fn replace_vni(vtepd: &Vtepd, old: u32, (new, tenant): (u32, u8), vteps: &[IpAddr]) {
    let request = |method: &str, params: serde_json::Value| serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut add = vec![
        request("vni.add", serde_json::json!({"vni": new})),
        request(
            "port.add",
            serde_json::json!({"vni": new, "interface": format!("t{tenant}"), "macs": [mac(tenant)]}),
        ),
    ];
    for vtep in vteps {
        let params = serde_json::json!({"vni": new, "vtep": vtep});
        add.push(request("flood.add", params));
    }
    let del = request("vni.del", serde_json::json!({"vni": old}));
    for line in [del, add.into()] {
        let answer = vtepd.request(&line.to_string()).to_string();
        assert!(!answer.contains("error"), "{answer}");
    }
}
