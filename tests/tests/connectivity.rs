//! Tenants of vtepd reach tenants of vtepd and of Linux, through every kind of port.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd or Linux ── t12
//!         ├─ t12, t13   more tenants of h1 where the test is about local switching
//!         ├─ tap13      a guest behind a tap, untagged or on VLAN 10
//!         ├─ mv13       a macvlan on t13
//!         └─ tap13.10   an 802.1Q sub-interface
//! ```

use vtep_tests::echo::{assert_no_loss, assert_silence, lost};
use vtep_tests::fabric::{Fabric, Underlay, vtep4};
use vtep_tests::frame::plain;
use vtep_tests::link::{self, Host, ip4, mac};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::Netns;
use vtep_tests::tap::TapHost;
use vtep_tests::tools::{arping, iperf3};
use vtep_tests::topology::{Pair, Peer};
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Capture, Kind, Raw};

fn tenants_reach_each_other(underlay: Underlay, peer: Peer) {
    let mut pair = Pair::new(underlay, peer);
    let [a, b] = &pair.hosts;
    assert_eq!(arping(&a.ns, b.ip4()), Some(b.mac()));
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    assert_no_loss((&a.ns, a.ip6()), (&b.ns, b.ip6()));
    pair.daemons.drain(..).for_each(Vtepd::stop);
}

#[test]
fn two_vtepd_over_ipv4() {
    tenants_reach_each_other(Underlay::V4, Peer::Vtepd);
}

#[test]
fn two_vtepd_over_ipv6() {
    tenants_reach_each_other(Underlay::V6, Peer::Vtepd);
}

#[test]
fn vtepd_and_linux_over_ipv4() {
    tenants_reach_each_other(Underlay::V4, Peer::Linux);
}

#[test]
fn vtepd_and_linux_over_ipv6() {
    tenants_reach_each_other(Underlay::V6, Peer::Linux);
}

/// Mbit/s below which TCP does not work at all: with missing checksums, or a timeout for every
/// loss, throughput is close to zero. The comparison with Linux below measures speed; an absolute
/// figure would only reflect the load of the machine.
const WORKS: f64 = 20.0;

/// TCP through default veth pairs, in both directions; every inner TCP checksum is correct on the
/// wire.
fn tcp_runs(peer: Peer) {
    let pair = Pair::new(Underlay::V4, peer);
    let [a, b] = &pair.hosts;
    let dir = pair.vtepd().dir();
    for reverse in [false, true] {
        let measured = iperf3(&a.ns, &b.ns, b.ip4(), dir, 2, reverse);
        assert!(measured.mbps > WORKS, "reverse = {reverse}: {measured:?}");
    }
    let mut wire = Capture::start(&pair.fabric.ns, dir, "h1", "udp port 4789");
    let _ = iperf3(&a.ns, &b.ns, b.ip4(), dir, 1, false);
    let from_vtepd = "vxlan && tcp && ip.src == 203.0.113.1";
    let wrong = format!("{from_vtepd} && tcp.checksum.status != 1");
    assert!(wire.count(from_vtepd) > 100);
    assert_eq!(wire.count(&wrong), 0, "TCP checksums");
}

#[test]
fn tcp_between_two_vtepd_runs_with_default_offloads() {
    tcp_runs(Peer::Vtepd);
}

#[test]
fn tcp_between_vtepd_and_linux_runs_with_default_offloads() {
    tcp_runs(Peer::Linux);
}

/// One hypervisor with vtepd and `config`, whose ports `prepare` creates.
fn one_vtepd(
    config: &Config,
    prepare: impl FnOnce(&Netns) -> Vec<Host>,
) -> (Fabric, Netns, Vec<Host>, Vtepd) {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let hosts = prepare(&ns);
    let vtepd = Vtepd::start(&ns, config);
    (fabric, ns, hosts, vtepd)
}

#[test]
fn ports_of_a_vni_are_switched_locally() {
    let config = Config::new(vtep4(1))
        .vni(100, &[])
        .port("t11", &[mac(11)])
        .port("t12", &[mac(12)]);
    let (_fabric, _ns, hosts, vtepd) =
        one_vtepd(&config, |ns| vec![Host::new(ns, 11), Host::new(ns, 12)]);
    assert_no_loss((&hosts[0].ns, ip4(11)), (&hosts[1].ns, ip4(12)));
    let measured = iperf3(&hosts[0].ns, &hosts[1].ns, ip4(12), vtepd.dir(), 1, false);
    assert!(measured.mbps > WORKS, "{measured:?}");
}

#[test]
fn two_vnis_are_isolated_from_each_other() {
    let config = Config::new(vtep4(1))
        .vni(100, &[])
        .port("t11", &[mac(11)])
        .vni(200, &[])
        .port("t12", &[mac(12)])
        .port("t13", &[mac(13)]);
    let (_fabric, _ns, hosts, _vtepd) = one_vtepd(&config, |ns| {
        vec![Host::new(ns, 11), Host::new(ns, 12), Host::new(ns, 13)]
    });
    assert_silence(&hosts[0].ns, ip4(12));
    assert_eq!(lost(&hosts[2].ns, ip4(12), 5), 0);
    // ARP requests do not cross from one VNI to another.
    assert_eq!(arping(&hosts[0].ns, ip4(13)), None);
}

#[test]
fn a_guest_behind_a_tap_is_a_tenant() {
    let mut pair = Pair::new(Underlay::V4, Peer::Linux);
    let guest = TapHost::new(&pair.hypervisors[0], 13, None);
    pair.vtepd()
        .done(&format!("port add tap13 --vni 100 --mac {}", mac(13)));
    assert_eq!(lost(&pair.hosts[0].ns, ip4(13), 10), 0);
    assert_eq!(lost(&pair.hosts[1].ns, ip4(13), 10), 0);
    drop(guest);
    pair.daemons.drain(..).for_each(Vtepd::stop);
}

#[test]
fn a_burst_from_a_tap_arrives_completely() {
    let pair = Pair::new(Underlay::V4, Peer::Linux);
    link::tap(&pair.hypervisors[0], "tap13");
    let mut guest = Raw::open(&pair.hypervisors[0], "tap13", Kind::Tap);
    pair.vtepd()
        .done(&format!("port add tap13 --vni 100 --mac {}", mac(13)));
    let receiver = Raw::open(&pair.hosts[1].ns, "eth0", Kind::Packet);
    let text = format!("bulk-frame{}", "x".repeat(1400));
    // A burst fits the rings: the worker may not be scheduled for as long as the guest sends.
    for burst in 1..=6 {
        (0..500).for_each(|_| guest.send(&plain(&mac(12), &mac(13), &text)));
        assert_eq!(
            receiver.expect("bulk-frame", 500 * burst).len(),
            500 * burst
        );
    }
    // The reverse direction: the guest receives frames to its MAC.
    let mut other = Raw::open(&pair.hosts[1].ns, "eth0", Kind::Packet);
    let _ = LinuxVtep::of(&pair.hypervisors[1], 100).fdb(&mac(13), vtep4(1));
    for burst in 1..=3 {
        (0..300).for_each(|_| other.send(&plain(&mac(13), &mac(12), "bulk-back")));
        assert_eq!(guest.expect("bulk-back", 300 * burst).len(), 300 * burst);
    }
}

#[test]
fn a_trunk_port_accepts_one_vlan_and_tags_what_it_sends() {
    let config = Config::new(vtep4(1))
        .vni(100, &[])
        .port("t11", &[mac(11)])
        .port("tap13", &[mac(13)])
        .raw("vlan = 10")
        .vni(200, &[])
        .port("t12", &[mac(12)]);
    let mut guests = Vec::new();
    let (_fabric, _ns, hosts, _vtepd) = one_vtepd(&config, |ns| {
        guests.push(TapHost::new(ns, 13, Some(10)));
        vec![Host::new(ns, 11), Host::new(ns, 12)]
    });
    assert_eq!(lost(&hosts[0].ns, ip4(13), 10), 0);
    assert_silence(&hosts[1].ns, ip4(13));
}

#[test]
fn a_macvlan_is_a_tenant_port_in_generic_mode() {
    let config = Config::new(vtep4(1))
        .vni(100, &[])
        .port("t11", &[mac(11)])
        .port("mv13", &[mac(13)]);
    let (_fabric, _ns, hosts, vtepd) = one_vtepd(&config, |ns| {
        let hosts = vec![Host::new(ns, 11), Host::new(ns, 13)];
        ns.ip("link add link t13 name mv13 type macvlan mode passthru");
        ns.ip("link set mv13 addrgenmode none up");
        hosts
    });
    assert_no_loss((&hosts[0].ns, ip4(11)), (&hosts[1].ns, ip4(13)));
    let measured = iperf3(&hosts[0].ns, &hosts[1].ns, ip4(13), vtepd.dir(), 1, false);
    assert!(measured.mbps > WORKS, "{measured:?}");
    let ports = vtepd.show("ports");
    let row = ports["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .find(|r| r["interface"] == "mv13")
        .expect("mv13");
    assert_eq!(row["attach"], "generic", "macvlan has no native XDP: {row}");
}

/// Linux 6.18 on the project's test machine has no CONFIG_VLAN_8021Q: there the test only verifies
/// that the kernel rejects the interface (see docs/linux-differences.md), and the macvlan test
/// covers stacked interfaces.
#[test]
fn a_vlan_sub_interface_is_a_tenant_port() {
    let probe = Netns::new("probe");
    if let Some(refusal) = link::vlan_refusal(&probe) {
        let kernel = ["Unknown device type", "Operation not supported"];
        assert!(
            kernel.iter().any(|words| refusal.contains(words)),
            "not the kernel's error: {refusal}"
        );
        return;
    }
    let config = Config::new(vtep4(1))
        .vni(100, &[])
        .port("t11", &[mac(11)])
        .port("tap13.10", &[mac(13)]);
    let mut guests = Vec::new();
    let (_fabric, _ns, hosts, _vtepd) = one_vtepd(&config, |ns| {
        guests.push(TapHost::new(ns, 13, Some(10)));
        link::vlan(ns, "tap13", "tap13.10", 10);
        vec![Host::new(ns, 11)]
    });
    assert_eq!(lost(&hosts[0].ns, ip4(13), 10), 0);
}

/// TCP throughput of the VXLAN of Linux between the same two tenants, without segmentation offload:
/// AF_XDP carries no frames larger than the MTU, so offload would compare something else.
fn linux_reference() -> f64 {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2].map(|n| fabric.hypervisor(n));
    let hosts = [
        Host::new(&hypervisors[0], 11),
        Host::new(&hypervisors[1], 12),
    ];
    for (i, ns) in hypervisors.iter().enumerate() {
        let (me, other) = if i == 0 { (1, 2) } else { (2, 1) };
        let _ = LinuxVtep::new(ns, 100, vtep4(me))
            .port(&hosts[i].port)
            .fdb(&hosts[1 - i].mac(), vtep4(other))
            .flood(vtep4(other));
        hosts[i].ns.run("ethtool -K eth0 tso off gso off gro off");
        ns.run("ethtool -K eth0 tso off gso off gro off");
    }
    let scratch = vtep_tests::program::Scratch::new(&hosts[0].ns);
    iperf3(
        &hosts[0].ns,
        &hosts[1].ns,
        ip4(12),
        scratch.path(),
        2,
        false,
    )
    .mbps
}

/// The share of Linux's throughput without segmentation offload that vtepd must reach, in both
/// directions. On two cores shared with compilers, as in CI, debug builds reached 0.27 to 0.73
/// (docs/linux-differences.md explains the bound); the best of [`TRIES`] counts, each against a
/// reference measured just before.
const SHARE: f64 = 0.25;

/// Other load may spoil one measurement or its reference, not all.
const TRIES: usize = 3;

#[test]
fn tcp_throughput_reaches_its_share_of_linux_without_segmentation_offload() {
    // One element for each peer and direction.
    let mut best = [0.0_f64; 4];
    for _ in 0..TRIES {
        let reference = linux_reference();
        for (place, peer) in [Peer::Vtepd, Peer::Linux].into_iter().enumerate() {
            let pair = Pair::new(Underlay::V4, peer);
            let [a, b] = &pair.hosts;
            for (reverse, best) in [false, true].into_iter().zip(&mut best[2 * place..]) {
                let got = iperf3(&a.ns, &b.ns, b.ip4(), pair.vtepd().dir(), 2, reverse).mbps;
                println!("{peer:?}, reverse {reverse}: {got:.0} Mbit/s, Linux {reference:.0}");
                *best = best.max(got / reference);
            }
        }
        if best.iter().all(|share| *share > SHARE) {
            return;
        }
    }
    panic!(
        "shares of Linux's throughput, to and from vtepd, to and from Linux: {best:.2?}, less than \
         {SHARE}"
    );
}
