//! ARP and ND requests for known hosts are answered locally and do not cross the underlay.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd ── t12
//!                               └─ capture
//! ```

use std::net::IpAddr;

use vtep_tests::echo::lost;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::link::{Host, ip4, ip6, mac};
use vtep_tests::netns::Netns;
use vtep_tests::tools::arping;
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::Capture;

/// Tenants 11 and 12 behind two vtepd with suppression, which know both tenants.
struct Fixture {
    daemons: [Vtepd; 2],
    hosts: [Host; 2],
    _hypervisors: [Netns; 2],
    fabric: Fabric,
}

fn neighbor(ip: IpAddr, number: u8) -> String {
    format!("[[vni.neighbor]]\nip = \"{ip}\"\nmac = \"{}\"", mac(number))
}

/// The local host is known from its port, the remote one from static neighbors.
fn config(index: u8, port_keys: &str) -> Config {
    let (mine, theirs, other) = (11 + index, 12 - index, vtep4(2 - index));
    Config::new(vtep4(1 + index))
        .vni(100, &[other])
        .raw("suppress = true")
        .port(&format!("t{mine}"), &[mac(mine)])
        .raw(&format!("ips = [\"{}\", \"{}\"]", ip4(mine), ip6(mine)))
        .raw(port_keys)
        .fdb(&mac(theirs), other)
        .raw(&neighbor(ip4(theirs), theirs))
        .raw(&neighbor(ip6(theirs), theirs))
}

fn fixture(port_keys: &str) -> Fixture {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2].map(|n| fabric.hypervisor(n));
    let hosts = [
        Host::new(&hypervisors[0], 11),
        Host::new(&hypervisors[1], 12),
    ];
    let daemons =
        [0, 1].map(|i: u8| Vtepd::start(&hypervisors[usize::from(i)], &config(i, port_keys)));
    Fixture {
        daemons,
        hosts,
        _hypervisors: hypervisors,
        fabric,
    }
}

#[test]
fn known_hosts_are_resolved_without_a_request_on_the_underlay() {
    let fixture = fixture("");
    let [a, b] = &fixture.hosts;
    let mut wire = Capture::start(
        &fixture.fabric.ns,
        fixture.daemons[0].dir(),
        "h1",
        "udp port 4789",
    );
    assert_eq!(lost(&a.ns, b.ip4(), 10), 0);
    assert_eq!(lost(&b.ns, a.ip6(), 10), 0);
    assert_eq!(arping(&a.ns, b.ip4()), Some(b.mac()));
    let learned =
        a.ns.ip(&format!("neigh show {} dev eth0", b.ip6())) + &a.ns.ip("neigh show dev eth0");
    assert!(learned.contains(&b.mac()), "{learned}");
    // A request for an unknown host is flooded.
    assert_eq!(arping(&a.ns, ip4(77)), None);
    let broadcast = "vxlan && arp && eth.dst == ff:ff:ff:ff:ff:ff";
    let known = format!(
        "{broadcast} && (arp.dst.proto_ipv4 == {} || arp.dst.proto_ipv4 == {})",
        a.ip4(),
        b.ip4()
    );
    assert_eq!(wire.count(&known), 0, "requests for known hosts");
    assert_eq!(
        wire.count("vxlan && icmpv6.type == 135 && eth.dst[0:2] == 33:33"),
        0,
        "solicitations"
    );
    assert!(wire.count(&format!("{broadcast} && arp.dst.proto_ipv4 == {}", ip4(77))) > 0);
    assert!(wire.count("vxlan && icmp") >= 20);
}

#[test]
fn duplicate_address_detection_finds_a_known_address() {
    let fixture = fixture("");
    let [a, b] = &fixture.hosts;
    // arping -D: exit status 1 when a host answers the probe (iputils).
    let probe = |ip: IpAddr| {
        a.ns.try_run(&format!("arping -D -I eth0 -c 2 -w 3 {ip}"))
            .status
            .code()
    };
    assert_eq!(probe(b.ip4()), Some(1));
    assert_eq!(probe(ip4(77)), Some(0));
    a.ns.sysctl("net.ipv6.conf.eth0.accept_dad=1");
    a.ns.ip(&format!("addr add {}/64 dev eth0", b.ip6()));
    let failed = || {
        a.ns.ip("-6 addr show dev eth0")
            .contains("dadfailed")
            .then_some(())
    };
    vtep_tests::netns::wait_for("the kernel detects the duplicate", 10, failed);
}

#[test]
fn changes_take_effect_at_once_and_are_shown() {
    let fixture = fixture("");
    let [a, _] = &fixture.hosts;
    let vtepd = &fixture.daemons[0];
    assert_eq!(arping(&a.ns, ip4(33)), None);
    vtepd.done(&format!(
        "neigh add {} --vni 100 --mac {}",
        ip4(33),
        mac(33)
    ));
    assert_eq!(arping(&a.ns, ip4(33)), Some(mac(33)));
    let shown = vtepd.show("neighbors").to_string();
    for ip in [ip4(11), ip4(12), ip4(33), ip6(11), ip6(12)] {
        assert!(shown.contains(&format!("\"{ip}\"")), "{ip}: {shown}");
    }
    vtepd.done(&format!("neigh del {} --vni 100", ip4(33)));
    assert_eq!(arping(&a.ns, ip4(33)), None);
}

#[test]
fn a_locked_port_cannot_claim_the_address_of_another_host() {
    let fixture = fixture("lock = true");
    let [a, b] = &fixture.hosts;
    assert_eq!(lost(&a.ns, b.ip4(), 5), 0);
    let before = fixture.daemons[0].drops("arp-nd-spoofed");
    a.ns.ip(&format!("addr add {}/24 dev eth0", ip4(66)));
    let _ =
        a.ns.try_run(&format!("arping -A -I eth0 -s {0} -c 2 -w 3 {0}", ip4(66)));
    vtep_tests::netns::wait_for("the spoofed announcement is counted", 5, || {
        (fixture.daemons[0].drops("arp-nd-spoofed") > before).then_some(())
    });
    let known = b.ns.ip("neigh show dev eth0");
    assert!(!known.contains("192.0.2.66"), "{known}");
    assert_eq!(lost(&a.ns, b.ip4(), 5), 0, "its own address still works");
}
