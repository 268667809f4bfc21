//! The network stack of the host: reachable on the underlay, unreachable for tenants.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd ── t12
//!             └─ network stack: 203.0.113.1, 2001:db8:1::1
//! ```

use vtep_tests::echo::{assert_no_loss, assert_silence};
use vtep_tests::fabric::{Underlay, vtep4, vtep6};
use vtep_tests::frame::plain;
use vtep_tests::link::mac;
use vtep_tests::netns::Netns;
use vtep_tests::tools::{arping, iperf3};
use vtep_tests::topology::{Pair, Peer, RawPair};

#[test]
fn the_underlay_nic_still_serves_the_host() {
    let pair = Pair::new(Underlay::V4, Peer::Vtepd);
    let [a, b]: [&Netns; 2] = pair.hypervisors.each_ref();
    assert_no_loss((a, vtep4(1)), (b, vtep4(2)));
    assert_no_loss((a, vtep6(1)), (b, vtep6(2)));
    let measured = iperf3(b, a, vtep4(1), pair.vtepd().dir(), 1, false);
    assert!(
        measured.mbps > 20.0,
        "TCP to the underlay address: {measured:?}"
    );
    assert_no_loss(
        (&pair.hosts[0].ns, pair.hosts[0].ip4()),
        (&pair.hosts[1].ns, pair.hosts[1].ip4()),
    );
}

#[test]
fn a_tenant_cannot_reach_the_hypervisor() {
    let pair = RawPair::new();
    let (hypervisor, tenant) = (&pair.hypervisors[0], &pair.host.ns);
    // Even an address that was left configured on the port itself must not answer.
    hypervisor.ip("addr add 192.0.2.254/24 dev t11");
    let gateway = "192.0.2.254".parse().expect("an address");
    assert_eq!(arping(tenant, gateway), None);
    tenant.ip(&format!(
        "neigh replace 192.0.2.254 lladdr {} dev eth0",
        hypervisor.mac("t11")
    ));
    tenant.ip("route add 203.0.113.0/24 via 192.0.2.254");
    assert_silence(tenant, gateway);
    assert_silence(tenant, vtep4(1));
}

/// Of a port with packet sockets the host's packet sockets see each frame, before the programs that keep it from the
/// stack: isolation.rs counts what the stack receives.
#[test]
fn frames_of_a_tenant_never_reach_the_hosts_stack() {
    let mut pair = RawPair::with_vni("", "io = \"xdp\"");
    let receiver =
        vtep_tests::wire::Raw::open(&pair.hypervisors[0], "t11", vtep_tests::wire::Kind::Packet);
    for to in [
        mac(12),
        "ff:ff:ff:ff:ff:ff".into(),
        pair.hypervisors[0].mac("t11"),
    ] {
        pair.tenant.send(&plain(&to, &mac(11), "for-the-overlay"));
    }
    pair.tenant.send(&plain(&mac(12), &mac(11), "the-last-one"));
    assert_eq!(pair.peer.expect("the-last-one", 1).len(), 1);
    assert!(
        receiver.with_marker("for-the-overlay").is_empty(),
        "a packet socket sees every frame that the stack receives"
    );
}
