//! An underlay with packet sockets: VXLAN to this VTEP is vtepd's, everything else the host's.
//!
//! ```text
//! t11 -- h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd -- t12
//!        the host's own programs ─┘        └─ the same
//! ```

use std::net::IpAddr;

use serde_json::json;
use vtep_tests::fabric::{Fabric, Underlay, vtep4, vtep6};
use vtep_tests::link::{Host, mac};
use vtep_tests::netns::Netns;
use vtep_tests::stream::{assert_udp, transfer};
use vtep_tests::vtepd::{Config, Vtepd};

const VXLAN_PORT: u16 = 4789;

/// Two hypervisors with a tenant each.
struct Net {
    daemons: [Vtepd; 2],
    tenants: [Host; 2],
    hypervisors: [Netns; 2],
    _fabric: Fabric,
}

impl Net {
    fn new(workers: usize) -> Self {
        let fabric = Fabric::new(1600);
        let hypervisors = [1, 2].map(|number| fabric.hypervisor(number));
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
            _fabric: fabric,
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

#[test]
fn a_vxlan_device_of_the_host_does_not_keep_vtepd_from_its_port() {
    let fabric = Fabric::new(1600);
    let h1 = fabric.hypervisor(1);
    h1.ip(
        "link add vx9 type vxlan id 9 local 203.0.113.1 remote 203.0.113.2 dstport 4789 dev eth0",
    );
    h1.ip("link set vx9 up");
    let config = Config::new(Underlay::V4.vtep(1))
        .underlay_io("packet")
        .vni(100, &[]);
    let vtepd = Vtepd::start(&h1, &config);
    let status = vtepd.show("status").to_string();
    assert!(
        status.contains("another socket of the host has the VXLAN port"),
        "{status}"
    );
    vtepd.stop();
}
