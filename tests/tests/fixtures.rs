//! The fixtures themselves, verified against the VXLAN of Linux at both ends.
//!
//! ```text
//! t11 ── h1: Linux ── eth0 ── fabric ── eth0 ── h2: Linux ── t12
//! ```

use vtep_tests::echo::{answers, assert_no_loss, lost};
use vtep_tests::fabric::{Fabric, Underlay};
use vtep_tests::frame::plain;
use vtep_tests::link::{Host, bridge, mac};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::{Netns, command};
use vtep_tests::program::{Program, Scratch};
use vtep_tests::tap::TapHost;
use vtep_tests::tools::{arping, iperf3};
use vtep_tests::wire::{Capture, Kind, Raw};

/// Two hypervisors with a Linux VTEP and a tenant each.
fn two_linux_vteps(underlay: Underlay) -> (Fabric, [Netns; 2], [Host; 2]) {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2].map(|n| fabric.hypervisor(n));
    let hosts = [(0, 11), (1, 12)].map(|(h, n): (usize, u8)| Host::new(&hypervisors[h], n));
    for (i, ns) in hypervisors.iter().enumerate() {
        let (local, other) = if i == 0 { (1, 2) } else { (2, 1) };
        let _ = LinuxVtep::new(ns, 100, underlay.vtep(local))
            .port(&hosts[i].port)
            .fdb(&hosts[1 - i].mac(), underlay.vtep(other))
            .flood(underlay.vtep(other));
    }
    (fabric, hypervisors, hosts)
}

#[test]
fn tenants_of_two_linux_vteps_reach_each_other_over_ipv4_and_ipv6() {
    for underlay in [Underlay::V4, Underlay::V6] {
        let (_fabric, _hypervisors, [a, b]) = two_linux_vteps(underlay);
        assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
        assert_no_loss((&a.ns, a.ip6()), (&b.ns, b.ip6()));
        assert_eq!(arping(&a.ns, b.ip4()), Some(b.mac()));
    }
}

#[test]
fn iperf3_runs_both_ways_and_tshark_sees_right_checksums() {
    let (fabric, _hypervisors, [a, b]) = two_linux_vteps(Underlay::V4);
    let scratch = Scratch::new(&a.ns);
    for reverse in [false, true] {
        let measured = iperf3(&a.ns, &b.ns, b.ip4(), scratch.path(), 1, reverse);
        assert!(measured.mbps > 10.0, "{measured:?}");
    }
    a.ns.run("ethtool -K eth0 tx off tso off gso off");
    let mut capture = Capture::start(&fabric.ns, scratch.path(), "h1", "udp port 4789");
    assert_eq!(lost(&a.ns, b.ip4(), 3), 0);
    let seen = capture.fields(
        "vxlan && icmp.type == 8",
        &["vxlan.vni", "ip.ttl", "icmp.checksum.status"],
    );
    assert_eq!(seen.len(), 3);
    assert!(
        seen.iter().all(|f| f[0] == "100" && f[2] == "1"),
        "{seen:?}"
    );
}

#[test]
fn a_program_behind_a_tap_answers_arp_and_ping() {
    for vlan in [None, Some(7)] {
        let ns = Netns::new("h");
        let a = Host::new(&ns, 11);
        bridge(&ns, "br0");
        ns.ip(&format!("link set {} master br0", a.port));
        let _guest = TapHost::new(&ns, 13, vlan);
        ns.ip("link set tap13 master br0");
        // A bridge without VLAN filtering carries tagged frames, which an untagged tenant does not
        // answer.
        let expected = if vlan.is_none() { Some(mac(13)) } else { None };
        assert_eq!(arping(&a.ns, vtep_tests::link::ip4(13)), expected);
        assert_eq!(answers(&a.ns, vtep_tests::link::ip4(13)), vlan.is_none());
    }
}

#[test]
fn raw_frames_pass_and_keep_their_tag() {
    let (a, b) = (Netns::new("a"), Netns::new("b"));
    vtep_tests::link::veth(&a, "x", &b, "y");
    let receiver = Raw::open(&b, "y", Kind::Packet);
    let mut sender = Raw::open(&a, "x", Kind::Packet);
    let frame = plain(&mac(2), &mac(1), "marker-1");
    let tagged = vtep_tests::frame::tagged(&plain(&mac(2), &mac(1), "marker-2"), 7);
    sender.send(&frame);
    sender.send(&tagged);
    assert_eq!(receiver.expect("marker-1", 1), [frame]);
    assert_eq!(receiver.expect("marker-2", 1), [tagged]);
}

#[test]
fn drop_removes_namespaces_and_processes_even_after_a_panic() {
    let (send, receive) = std::sync::mpsc::channel();
    let failed = std::thread::spawn(move || {
        let ns = Netns::new("gone");
        let scratch = Scratch::new(&ns);
        let program = Program::start(&ns, scratch.path(), &["sleep", "60"]);
        send.send((
            ns.name().to_owned(),
            program.pid(),
            scratch.path().to_path_buf(),
        ))
        .expect("the test listens");
        panic!("on purpose");
    });
    let (name, pid, dir) = receive.recv().expect("the thread sends before it panics");
    assert!(failed.join().is_err());
    assert!(!std::path::Path::new("/run/netns").join(&name).exists());
    assert!(!std::path::Path::new("/proc").join(pid.to_string()).exists());
    std::fs::remove_dir_all(dir).expect("the scratch directory of a failed test is kept");
}

#[test]
fn a_command_that_hangs_is_ended() {
    let started = std::time::Instant::now();
    assert_eq!(command(1, &["sleep", "30"]).status.code(), Some(124));
    assert!(started.elapsed().as_secs() < 25);
}
