//! The underlay changes while vtepd runs: routes, neighbors, links.
//!
//! ```text
//! routed   t11 ── h1: vtepd ── eth0 ── fabric ──┬─ h7: router ──┬─ 198.51.100.2
//!                                               └─ h8: router ──┘
//! ECMP     t11 ── h1: vtepd ──┬─ up1 ── gw1 ──┬─ 198.51.100.2
//!                             └─ up2 ── gw2 ──┘
//! pair     t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: Linux ── t12
//! ```

use vtep_tests::config::each_underlay;
use vtep_tests::craft::Packet;
use vtep_tests::echo::{answers, assert_no_loss};
use vtep_tests::fabric::{Fabric, Underlay, vtep4};
use vtep_tests::frame::plain;
use vtep_tests::link::{Host, mac, veth};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::topology::{Pair, Peer};
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

/// vtepd at hypervisor 1; the VTEP 198.51.100.2 is behind the routers 203.0.113.7 and 203.0.113.8.
struct Routed {
    _fabric: Fabric,
    ns: Netns,
    vtepd: Vtepd,
    tenant: Raw,
    routers: [Raw; 2],
    _others: (Host, [Netns; 2]),
}

impl Routed {
    fn new(route: &str) -> Self {
        let fabric = Fabric::new(1600);
        let ns = fabric.hypervisor(1);
        let others = [7, 8].map(|n| fabric.hypervisor(n));
        ns.ip(&format!("route add 198.51.100.2 {route}"));
        let host = Host::new(&ns, 11);
        let remote = "198.51.100.2".parse().expect("an address");
        let config = Config::new(vtep4(1))
            .vni(100, &[remote])
            .port("t11", &[mac(11)])
            .fdb(&mac(12), remote);
        let vtepd = Vtepd::start(&ns, &config);
        let routers = others
            .each_ref()
            .map(|o| Raw::open(o, "eth0", Kind::Packet));
        let tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
        Self {
            _fabric: fabric,
            ns,
            vtepd,
            tenant,
            routers,
            _others: (host, others),
        }
    }

    /// Sends until a frame arrives at router `index`.
    fn arrives_at(&mut self, index: usize, marker: &str) {
        let Self {
            tenant, routers, ..
        } = self;
        wait_for(&format!("{marker} at router {index}"), 5, || {
            tenant.send(&plain(&mac(12), &mac(11), marker));
            (!routers[index].with_marker(marker).is_empty()).then_some(())
        });
    }
}

#[test]
fn a_changed_gateway_is_followed() {
    each_underlay(|| {
        let mut routed = Routed::new("via 203.0.113.7");
        routed.arrives_at(0, "by-the-first");
        routed.ns.ip("route replace 198.51.100.2 via 203.0.113.8");
        routed.arrives_at(1, "by-the-second");
        let _ = routed.routers[0].take();
        routed
            .tenant
            .send(&plain(&mac(12), &mac(11), "only-the-second"));
        assert_eq!(routed.routers[1].expect("only-the-second", 1).len(), 1);
        assert!(routed.routers[0].with_marker("only-the-second").is_empty());
    });
}

#[test]
fn a_removed_and_restored_route_is_followed() {
    each_underlay(|| {
        let mut routed = Routed::new("via 203.0.113.7");
        routed.arrives_at(0, "before");
        routed.ns.ip("route del 198.51.100.2");
        let before = routed.vtepd.drops("no-adjacency");
        wait_for("drops without a route", 5, || {
            routed.tenant.send(&plain(&mac(12), &mac(11), "no-route"));
            (routed.vtepd.drops("no-adjacency") > before).then_some(())
        });
        routed.ns.ip("route add 198.51.100.2 via 203.0.113.7");
        routed.arrives_at(0, "after");
    });
}

#[test]
fn a_changed_neighbor_mac_is_followed() {
    each_underlay(|| {
        let pair = Pair::new(Underlay::V4, Peer::Linux);
        let [a, b] = &pair.hosts;
        assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
        let peer = &pair.hypervisors[1];
        peer.ip("link set eth0 address 02:00:00:00:12:34");
        let _ = peer.try_run("arping -U -I eth0 -c 2 203.0.113.2");
        wait_for("traffic to the new MAC", 10, || {
            answers(&a.ns, b.ip4()).then_some(())
        });
    });
}

#[test]
fn flows_use_both_nics_of_an_ecmp_route_and_survive_the_loss_of_one() {
    each_underlay(|| {
        let fabric = Fabric::new(1600);
        let ns = fabric.hypervisor(1);
        let gateways = [1, 2].map(|n: u8| {
            let gateway = Netns::new(&format!("gw{n}"));
            veth(&ns, &format!("up{n}"), &gateway, "eth0");
            ns.ip(&format!("link set up{n} mtu 1600"));
            gateway.ip("link set eth0 mtu 1600");
            ns.ip(&format!("addr add 10.0.{n}.1/24 dev up{n}"));
            gateway.ip(&format!("addr add 10.0.{n}.2/24 dev eth0"));
            gateway
        });
        ns.ip("route add 198.51.100.2 nexthop via 10.0.1.2 nexthop via 10.0.2.2");
        let host = Host::new(&ns, 11);
        let remote = "198.51.100.2".parse().expect("an address");
        let config = Config::with_underlay(vtep4(1), "up1 up2")
            .vni(100, &[remote])
            .port("t11", &[mac(11)]);
        let _vtepd = Vtepd::start(&ns, &config);
        let receivers = gateways
            .each_ref()
            .map(|g| Raw::open(g, "eth0", Kind::Packet));
        let mut tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
        let mut burst = |marker: &str| {
            for flow in 0..64_u8 {
                tenant.send(&plain(
                    &format!("50:54:33:00:66:{flow:02x}"),
                    &mac(11),
                    marker,
                ));
            }
        };
        wait_for("both NICs to carry flows", 5, || {
            burst("spread");
            receivers
                .iter()
                .all(|e| e.with_marker("spread").len() >= 16)
                .then_some(())
        });
        gateways[0].ip("link set eth0 down");
        let mut round = 0;
        wait_for("all flows on the second NIC", 5, || {
            round += 1;
            let marker = format!("one-left-{round}.");
            burst(&marker);
            std::thread::sleep(std::time::Duration::from_millis(200 * round));
            (receivers[1].with_marker(&marker).len() == 64).then_some(())
        });
    });
}

#[test]
fn a_deleted_and_recreated_tenant_interface_works_again() {
    let pair = Pair::new(Underlay::V4, Peer::Linux);
    let [a, b] = &pair.hosts;
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    let hypervisor = &pair.hypervisors[0];
    hypervisor.ip("link del t11");
    wait_for("the port to be shown as absent", 5, || {
        pair.vtepd()
            .show("ports")
            .to_string()
            .contains("\"absent\"")
            .then_some(())
    });
    veth(hypervisor, "t11", &a.ns, "eth0");
    a.ns.ip(&format!("link set eth0 address {}", a.mac()));
    a.ns.ip(&format!("addr add {}/24 dev eth0", a.ip4()));
    wait_for("traffic through the new interface", 10, || {
        answers(&a.ns, b.ip4()).then_some(())
    });
}

#[test]
fn an_underlay_link_recovers_from_flapping() {
    each_underlay(|| {
        let pair = Pair::new(Underlay::V4, Peer::Linux);
        let [a, b] = &pair.hosts;
        assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
        for _ in 0..3 {
            pair.hypervisors[0].ip("link set eth0 down");
            pair.hypervisors[0].ip("link set eth0 up");
        }
        wait_for("traffic after the flaps", 10, || {
            answers(&a.ns, b.ip4()).then_some(())
        });
    });
}

#[test]
fn packets_are_accepted_from_any_source_port() {
    each_underlay(|| {
        let pair = Pair::new(Underlay::V4, Peer::Linux);
        let (to, from) = (
            pair.hypervisors[0].mac("eth0"),
            pair.hypervisors[1].mac("eth0"),
        );
        let tenant = Raw::open(&pair.hosts[0].ns, "eth0", Kind::Packet);
        let mut peer = Raw::open(&pair.hypervisors[1], "eth0", Kind::Packet);
        let packet = Packet {
            from: vtep4(2),
            ..Packet::v4(&to, &from, plain(&mac(11), &mac(12), "any-port"))
        };
        for port in [1, 1023, 49152, 65535] {
            peer.send(
                &Packet {
                    ports: (port, 4789),
                    ..packet.clone()
                }
                .bytes(),
            );
        }
        assert_eq!(tenant.expect("any-port", 4).len(), 4);
    });
}
