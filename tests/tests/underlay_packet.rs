//! An underlay with packet sockets: VXLAN to this VTEP is vtepd's, everything else the host's.
//!
//! ```text
//! t11 -- h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd -- t12
//!        the host's own programs ─┘        └─ the same
//! ```

use std::net::IpAddr;

use serde_json::json;
use vtep_tests::craft::Packet;
use vtep_tests::fabric::{Fabric, Underlay, vtep4, vtep6};
use vtep_tests::frame::plain;
use vtep_tests::link::{self, Host, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::stream::{assert_udp, transfer};
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

const VXLAN_PORT: u16 = 4789;

/// Two hypervisors with a tenant each.
struct Net {
    daemons: [Vtepd; 2],
    tenants: [Host; 2],
    hypervisors: [Netns; 2],
    fabric: Fabric,
}

impl Net {
    fn new(workers: usize) -> Self {
        Self::prepared(workers, |_, _| {})
    }

    /// Before vtepd is started, `prepare` changes the hypervisor with a number.
    fn prepared(workers: usize, prepare: impl Fn(&Netns, u8)) -> Self {
        let fabric = Fabric::new(1600);
        let hypervisors = [1, 2].map(|number| fabric.hypervisor(number));
        prepare(&hypervisors[0], 1);
        prepare(&hypervisors[1], 2);
        let tenants = [0, 1].map(|at: usize| Host::new(&hypervisors[at], 11 + at as u8));
        let daemons = [0, 1].map(|at: usize| {
            let (me, other) = (1 + at as u8, 2 - at as u8);
            let config = Config::new(Underlay::V4.vtep(me))
                .underlay_io("packet")
                .workers(workers)
                .vni(100, &[Underlay::V4.vtep(other)])
                .port(&tenants[at].port, &[tenants[at].mac()])
                .fdb(&mac(10 + other), Underlay::V4.vtep(other));
            Vtepd::start(&hypervisors[at], &config)
        });
        for (daemon, other) in daemons.iter().zip([2, 1]) {
            daemon.expect_up(&[Underlay::V4.vtep(other)]);
        }
        Self {
            daemons,
            tenants,
            hypervisors,
            fabric,
        }
    }
}

#[test]
fn the_hosts_own_traffic_on_the_underlay_is_not_touched() {
    let net = Net::new(1);
    let [h1, h2] = &net.hypervisors;
    h2.ip("addr add 203.0.113.102/24 dev eth0");
    for address in [vtep4(2), vtep6(2)] {
        h1.run(&format!("ping -c 2 -W 5 {address}"));
        transfer(h1, h2, address);
        transfer(
            h2,
            h1,
            if address.is_ipv4() {
                vtep4(1)
            } else {
                vtep6(1)
            },
        );
        // Another port of the VTEP address.
        assert_udp(h1, h2, address, 4790, 400);
    }
    // VXLAN's port of other addresses of the host: vtepd has one IPv4 address.
    assert_udp(h1, h2, IpAddr::from([203, 0, 113, 102]), VXLAN_PORT, 400);
    assert_udp(h1, h2, vtep6(2), VXLAN_PORT, 400);
    // Meanwhile VXLAN to the VTEP address is none of the host's.
    let [a, b] = &net.tenants;
    transfer(&a.ns, &b.ns, b.ip4());
    let [first, _] = &net.daemons;
    let ports = first.show("ports")["rows"].clone();
    let mut rows = ports.as_array().into_iter().flatten();
    let underlay = rows.find(|row| row["interface"] == "eth0");
    let underlay = underlay.expect("the underlay is among the ports");
    assert_eq!(underlay["io"], json!("packet"));
    assert_eq!(underlay["io_reason"], json!("as configured"));
    net.daemons.into_iter().for_each(Vtepd::stop);
}

#[test]
fn several_workers_share_the_underlay() {
    let net = Net::new(2);
    let [a, b] = &net.tenants;
    for _ in 0..3 {
        transfer(&a.ns, &b.ns, b.ip4());
        transfer(&b.ns, &a.ns, a.ip6());
    }
    net.daemons.into_iter().for_each(Vtepd::stop);
}

/// A vxlan device of the host at hypervisor `number`, with other addresses and the same UDP port.
fn host_vxlan(ns: &Netns, number: u8) {
    let (me, other) = (100 + number, 103 - number);
    ns.ip(&format!("addr add 203.0.113.{me}/24 dev eth0"));
    ns.ip(&format!(
        "link add vx9 type vxlan id 9 local 203.0.113.{me} remote 203.0.113.{other} dstport {VXLAN_PORT} dev eth0"
    ));
    ns.ip("link set vx9 mtu 1500 up");
    ns.ip(&format!("addr add 192.0.2.{me}/24 dev vx9"));
}

/// Whether the kernel of the second hypervisor joins what it receives from the first, whose tenant
/// sends to that of the second.
fn joins(net: &Net) -> bool {
    let [h1, h2] = &net.hypervisors;
    h1.run("ethtool -K eth0 tx-udp-segmentation off");
    // veth joins only what a peer without segmentation offload sends (drivers/net/veth.c).
    net.fabric.ns.run("ethtool -K h2 tso off");
    h2.run("ethtool -K eth0 gro on");
    let wire = Raw::open(h2, "eth0", Kind::Packet);
    let [a, b] = &net.tenants;
    transfer(&a.ns, &b.ns, b.ip4());
    wire.take().iter().map(Vec::len).max() > Some(1614)
}

#[test]
fn the_kernel_joins_what_arrives() {
    let net = Net::new(1);
    assert!(joins(&net));
    net.daemons.into_iter().for_each(Vtepd::stop);
}

/// The host has a vxlan device with the same port before vtepd is started: then that has the port, and
/// the kernel joins the TCP segments inside.
#[test]
fn a_vxlan_device_of_the_host_may_have_the_same_port() {
    let net = Net::prepared(1, host_vxlan);
    let [h1, h2] = &net.hypervisors;
    let status = net.daemons[1].show("status").to_string();
    assert!(
        status.contains("another socket of the host has the VXLAN port"),
        "{status}"
    );
    let [a, b] = &net.tenants;
    for _ in 0..2 {
        transfer(&a.ns, &b.ns, b.ip4());
        transfer(&b.ns, &a.ns, a.ip6());
        transfer(h1, h2, IpAddr::from([192, 0, 2, 102]));
        assert!(joins(&net));
    }
    for vtepd in &net.daemons {
        let drops = vtepd.show("drops --by reason");
        assert_eq!(vtepd.drops("unsegmentable"), 0, "{drops:#}");
    }
    net.daemons.into_iter().for_each(Vtepd::stop);
}

/// While the sockets are closed and opened again, VXLAN to this VTEP does not reach the host's stack:
/// after a superframe that no vnet header describes (UFO), as a guest at the other end of a tap may
/// send.
#[test]
fn the_host_gets_no_vxlan_while_the_underlay_is_opened_again() {
    let ns = Netns::new("h1");
    link::multi_queue_tap(&ns, "up0");
    ns.ip(&format!("addr add {}/24 dev up0", vtep4(1)));
    let peer = "02:00:00:00:00:09";
    ns.ip(&format!("neigh replace {} lladdr {peer} dev up0", vtep4(9)));
    let mut guest = Raw::open(&ns, "up0", Kind::TapVnetQueue);
    let host = Host::new(&ns, 11);
    let config = Config::with_underlay(vtep4(1), "up0")
        .underlay_io("auto")
        .vni(100, &[vtep4(9)])
        .port(&host.port, &[mac(11)]);
    let vtepd = Vtepd::start(&ns, &config);
    vtepd.expect_up(&[vtep4(9)]);
    let own = ns.mac("up0");
    let tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
    let vxlan = |marker: &str| {
        let inner = plain(&mac(11), &mac(12), marker);
        Packet::v4(&own, peer, inner).bytes()
    };
    let arrives = |guest: &mut Raw, marker: &str| {
        wait_for(marker, 20, || {
            guest.send(&[&[0; 10][..], &vxlan(marker)].concat());
            (!tenant.with_marker(marker).is_empty()).then_some(())
        });
    };
    let counters = || ns.run("nstat -azj UdpNoPorts UdpInDatagrams IcmpOutDestUnreachs");
    arrives(&mut guest, "before");
    let before = counters();
    // `struct virtio_net_hdr`: VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP.
    let ufo = [1, 3, 42, 0, 0x78, 5, 34, 0, 6, 0];
    guest.send(&[&ufo[..], &vxlan(&"u".repeat(5000))].concat());
    arrives(&mut guest, "after");
    let log = vtepd.program.log();
    assert!(log.contains("has stopped filling a packet socket"), "{log}");
    assert!(
        log.contains("superframes of UDP cross it as one packet"),
        "{log}"
    );
    assert_eq!(before, counters(), "the host's stack has seen VXLAN");
    vtepd.stop();
}
