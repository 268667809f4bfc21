//! Tables without BGP: an external program answers misses, and a multicast group replaces the flood
//! list.
//!
//! ```text
//! misses     t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h9
//!                    └─ vtepctl monitor miss
//!
//! multicast  t11 ── h1: vtepd ── eth0 ──┐
//!            t12 ── h2: vtepd ── eth0 ── fabric, 239.1.1.1
//!            t13 ── h3: Linux ── eth0 ──┘
//! ```

use vtep_tests::echo::assert_no_loss;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frame::plain;
use vtep_tests::link::{Host, ip4, mac};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::program::Program;
use vtep_tests::tools::arping;
use vtep_tests::vtepd::{Config, Vtepd, binary};
use vtep_tests::wire::{Kind, Raw};

#[test]
fn a_miss_event_is_answered_with_entries_that_expire() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let host = Host::new(&ns, 11);
    let config = Config::new(vtep4(1))
        .vni(100, &[])
        .raw("suppress = true\nmiss-events = true")
        .port(&host.port, &[mac(11)]);
    let vtepd = Vtepd::start(&ns, &config);
    let (ctl, socket) = (binary("vtepctl"), vtepd.socket());
    let path = |p: &std::path::Path| p.to_str().expect("ASCII").to_owned();
    let words = [
        path(&ctl),
        "--socket".into(),
        path(&socket),
        "monitor".into(),
        "miss".into(),
    ];
    let mut monitor = Program::start(
        &ns,
        vtepd.dir(),
        &words.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let mut tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
    // The first frames may arrive before the monitor has subscribed.
    monitor.wait_until("the miss of an address", 10, |monitor| {
        let _ = host.ns.try_run("arping -I eth0 -c 1 -w 1 192.0.2.12");
        monitor.log().contains("miss 192.0.2.12 vni 100")
    });
    let (receiver, _peer) = (
        Raw::open(&fabric.ns, "h1", Kind::Packet),
        fabric.hypervisor(9),
    );
    let miss = format!("miss {} vni 100", mac(12));
    wait_for("the miss of a MAC", 10, || {
        tenant.send(&plain(&mac(12), &mac(11), "unknown"));
        monitor.log().contains(&miss).then_some(())
    });
    vtepd.done(&format!(
        "neigh add 192.0.2.12 --vni 100 --mac {} --lifetime 5",
        mac(12)
    ));
    assert_eq!(arping(&host.ns, ip4(12)), Some(mac(12)));
    vtepd.done(&format!(
        "fdb add {} --vni 100 --vtep {} --lifetime 5",
        mac(12),
        vtep4(9)
    ));
    wait_for("the frame is sent to the VTEP", 5, || {
        tenant.send(&plain(&mac(12), &mac(11), "answered"));
        (!receiver.with_marker("answered").is_empty()).then_some(())
    });
    wait_for("the entries expire", 10, || {
        let gone = vtepd.mac(100, &mac(12)).is_none()
            && !vtepd
                .show("neighbors")
                .to_string()
                .contains("\"192.0.2.12\"");
        gone.then_some(())
    });
}

/// vtepd at `number` with tenant 10+`number`, which floods to 239.1.1.1 and has static entries for
/// `hosts` (tenant, VTEP).
fn member(ns: &Netns, number: u8, hosts: &[(u8, u8)]) -> Vtepd {
    let mut config = Config::new(vtep4(number))
        .vni(100, &["239.1.1.1".parse().expect("a group")])
        .port(&format!("t{}", number + 10), &[mac(number + 10)]);
    for (host, at) in hosts {
        config = config.fdb(&mac(*host), vtep4(*at));
    }
    Vtepd::start(ns, &config)
}

#[test]
fn a_multicast_group_floods_among_vtepd_and_linux() {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2, 3].map(|n| fabric.hypervisor(n));
    // The kernel's routes select the interface of a group; there is no default route here.
    hypervisors[..2]
        .iter()
        .for_each(|ns| drop(ns.ip("route add 239.0.0.0/8 dev eth0")));
    let hosts = [0, 1, 2].map(|i: u8| Host::new(&hypervisors[usize::from(i)], 11 + i));
    let _linux = LinuxVtep::with(&hypervisors[2], 100, vtep4(3), "group 239.1.1.1 dev eth0")
        .port(&hosts[2].port);
    let daemons = [
        member(&hypervisors[0], 1, &[(12, 2), (13, 3)]),
        member(&hypervisors[1], 2, &[(11, 1), (13, 3)]),
    ];
    for ns in &hypervisors[..2] {
        let joined = ns.ip("maddr show dev eth0");
        assert!(joined.contains("239.1.1.1"), "{joined}");
    }
    let receivers = [1, 2].map(|i: usize| Raw::open(&hosts[i].ns, "eth0", Kind::Packet));
    let mut tenant = Raw::open(&hosts[0].ns, "eth0", Kind::Packet);
    // The first frames may arrive before all VTEPs are members.
    wait_for("all members receive the group", 10, || {
        tenant.send(&plain("ff:ff:ff:ff:ff:ff", &mac(11), "first"));
        receivers
            .iter()
            .all(|receiver| !receiver.with_marker("first").is_empty())
            .then_some(())
    });
    for _ in 0..10 {
        tenant.send(&plain("ff:ff:ff:ff:ff:ff", &mac(11), "to-the-group"));
    }
    for receiver in &receivers {
        assert_eq!(receiver.expect("to-the-group", 10).len(), 10);
    }
    // The two other VTEPs; the group is not counted.
    assert_eq!(daemons[0].show("vni 100")["rows"][0]["remote_vteps"], 2);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let [a, b] = [a, b].map(|i: usize| &hosts[i]);
        assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    }
}

#[test]
fn static_entries_coexist_with_bgp_and_survive_its_reconfiguration() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let host = Host::new(&ns, 11);
    let with_bgp = |asn: u32| {
        Config::new(vtep4(1))
            .raw(&format!(
                "[bgp]\nasn = {asn}\n[[bgp.neighbor]]\naddress = \"{}\"\nremote-asn = {asn}",
                vtep4(2)
            ))
            .vni(100, &[vtep4(9)])
            .raw("suppress = true")
            .port(&host.port, &[mac(11)])
            .raw(&format!("ips = [\"{}\"]", ip4(11)))
            .fdb(&mac(12), vtep4(8))
            .raw(&format!(
                "[[vni.neighbor]]\nip = \"{}\"\nmac = \"{}\"",
                ip4(12),
                mac(12)
            ))
    };
    let vtepd = Vtepd::start(&ns, &with_bgp(65000));
    let all_there = || {
        let flood = vtepd.show("flood").to_string();
        assert!(flood.contains(&vtep4(9).to_string()), "{flood}");
        assert!(
            vtepd
                .mac(100, &mac(12))
                .is_some_and(|row| row["kind"] == "static")
        );
        assert!(
            vtepd
                .mac(100, &mac(11))
                .is_some_and(|row| row["kind"] == "local")
        );
        let neighbors = vtepd.show("neighbors").to_string();
        assert!(neighbors.contains(&ip4(11).to_string()), "{neighbors}");
        assert!(neighbors.contains(&ip4(12).to_string()), "{neighbors}");
    };
    all_there();
    vtepd.rewrite(&with_bgp(65001));
    vtepd.done("config apply");
    all_there();
    assert_eq!(vtepd.show("bgp summary")["asn"], 65001);
}
