//! Tenants of vtepd reach tenants of vtepd and of Linux, through every kind of port.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd or Linux ── t12
//!         ├─ t12, t13   more tenants of h1 where the test is about local switching
//!         ├─ tap13      a guest behind a tap, untagged or on VLAN 10
//!         ├─ mv13       a macvlan on t13
//!         └─ tap13.10   an 802.1Q sub-interface
//! ```

use serde_json::Value;
use vtep_dataplane::wire::sctp::Crc32c;
use vtep_tests::echo::{assert_no_loss, assert_silence, lost};
use vtep_tests::fabric::{Fabric, Underlay, vtep4};
use vtep_tests::frame::{checksum, plain, udp4};
use vtep_tests::link::{self, Host, ip4, mac};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::Netns;
use vtep_tests::tap::TapHost;
use vtep_tests::tools::{arping, iperf3};
use vtep_tests::topology::{IO_KINDS, Pair, Peer};
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
    IO_KINDS.into_iter().for_each(a_trunk_port_with);
}

fn a_trunk_port_with(io: &str) {
    let config = Config::new(vtep4(1))
        .io(io)
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
fn a_macvlan_is_a_tenant_port() {
    for (io, attach) in IO_KINDS.into_iter().zip(["generic".into(), Value::Null]) {
        a_macvlan_with(io, &attach);
    }
}

/// macvlan has no native XDP.
fn a_macvlan_with(io: &str, attach: &Value) {
    let config = Config::new(vtep4(1))
        .io(io)
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
    assert_eq!(row["attach"], *attach, "{row}");
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
/// reference measured just before, for the time in which its workers had a CPU.
const SHARE: f64 = 0.25;

/// Other load may spoil one measurement or its reference, not all.
const TRIES: usize = 3;

/// What `measure` returns, and the part of the time in which the workers could run that they had a
/// CPU meanwhile, 0 to 1, of the daemon where that was least. The VXLAN of Linux has no threads that
/// wait for a CPU behind all others of a loaded machine.
fn with_cpu_share<T>(pair: &Pair, measure: impl FnOnce() -> T) -> (T, f64) {
    let daemons = pair.daemons.iter();
    let times = || {
        daemons
            .clone()
            .map(|one| one.program.run_and_wait("worker-"))
    };
    let before: Vec<_> = times().collect();
    let result = measure();
    let shares = before.iter().zip(times()).map(|(before, after)| {
        let [run, wait] = [0, 1].map(|i| (after[i] - before[i]).as_secs_f64());
        assert!(run > 0.0, "workers that move frames run");
        run / (run + wait)
    });
    (result, shares.fold(1.0, f64::min))
}

#[test]
fn tcp_throughput_reaches_its_share_of_linux_without_segmentation_offload() {
    // One element for each peer and direction.
    let mut best = [0.0_f64; 4];
    for _ in 0..TRIES {
        let reference = linux_reference();
        for (place, peer) in [Peer::Vtepd, Peer::Linux].into_iter().enumerate() {
            let pair = Pair::with_io(Underlay::V4, peer, "xdp");
            let [a, b] = &pair.hosts;
            for (reverse, best) in [false, true].into_iter().zip(&mut best[2 * place..]) {
                let dir = pair.vtepd().dir();
                let run = || iperf3(&a.ns, &b.ns, b.ip4(), dir, 2, reverse).mbps;
                let (got, cpu) = with_cpu_share(&pair, run);
                println!(
                    "{peer:?}, reverse {reverse}: {got:.0} Mbit/s with a CPU for {cpu:.2} of the time, \
                     Linux {reference:.0}"
                );
                *best = best.max(got / (reference * cpu));
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

/// Guests with VXLAN of their own, as container networks have: the inner checksum is left to
/// hardware too, and nothing but TCP inside the tunnel shows it (finding D13).
#[test]
fn tcp_runs_inside_a_tunnel_of_the_tenants() {
    IO_KINDS.into_iter().for_each(tcp_runs_inside_a_tunnel_with);
}

fn tcp_runs_inside_a_tunnel_with(io: &str) {
    let pair = Pair::with_io(Underlay::V4, Peer::Linux, io);
    let [a, b] = &pair.hosts;
    for (number, keys) in [
        (1, "dstport 8472"),
        (2, "dstport 4789 udpcsum"),
        (3, "dstport 8472 udp6zerocsumtx udp6zerocsumrx"),
        (4, "dstport 4789"),
    ] {
        for (host, other, place) in [(a, b, 1), (b, a, 2)] {
            let remote = if number > 2 { other.ip6() } else { other.ip4() };
            let link = format!("vx{number}");
            host.ns.ip(&format!(
                "link add {link} type vxlan id {number} remote {remote} {keys} dev eth0"
            ));
            host.ns.ip(&format!("link set {link} mtu 1400 up"));
            host.ns
                .ip(&format!("addr add 198.51.{number}.{place}/24 dev {link}"));
        }
        let inner = [198, 51, number, 2].into();
        assert_eq!(lost(&a.ns, inner, 5), 0);
        for reverse in [false, true] {
            // A wrong checksum loses each segment, each time. On a busy host two losses at the wrong
            // moment make a second slow.
            let works = (0..3).any(|_| {
                let result = iperf3(&a.ns, &b.ns, inner, pair.vtepd().dir(), 1, reverse);
                println!("{io}, {keys}, reverse {reverse}: {result:?}");
                result.mbps > WORKS
            });
            assert!(works, "{io} {keys} {reverse}");
        }
    }
}

/// SCTP of a container leaves its CRC32c to the veth, which computes none (finding D13).
#[test]
fn sctp_arrives_with_its_checksum() {
    for io in IO_KINDS {
        let pair = Pair::with_io(Underlay::V4, Peer::Linux, io);
        let [a, b] = &pair.hosts;
        let marker = format!("sctp-{io}");
        let mut packet = [&[0, 7, 0, 9, 1, 2, 3, 4, 0, 0, 0, 0][..], marker.as_bytes()].concat();
        packet.resize(600, 0x5a);
        // A datagram, whose UDP header is that of SCTP instead.
        let mut frame = udp4(&b.mac(), &a.mac(), 0, &"x".repeat(packet.len() - 8));
        frame[23] = 132;
        let rest = checksum(0, &[&frame[14..24], &[0, 0], &frame[26..34]].concat());
        frame[24..26].copy_from_slice(&rest.to_be_bytes());
        frame.splice(34.., packet.iter().copied());
        // NEEDS_CSUM, which begins at 34 and is stored 8 bytes later (struct virtio_net_hdr).
        let vnet = [1, 0, 0, 0, 0, 0, 34, 0, 8, 0];
        let arrived = Raw::open(&b.ns, "eth0", Kind::Packet);
        let mut sender = Raw::open(&a.ns, "eth0", Kind::Vnet);
        sender.send(&[&vnet[..], &frame].concat());
        let crc = Crc32c::default().bytes(&packet).finish();
        let frames = arrived.expect(&marker, 1);
        assert_eq!(frames[0][42..46], crc, "{io}");
    }
}
