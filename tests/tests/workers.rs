//! Two workers: a frame is handed from the worker that receives it to the one that sends it.
//!
//! ```text
//! t11 ──┬─ h1: vtepd, workers 0 and 1 ── eth0 ── fabric ── eth0 ── h2: vtepd ── t13
//! t12 ──┘
//! ```

use serde_json::Value;
use vtep_tests::echo::assert_no_loss;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::link::{Host, mac};
use vtep_tests::tools::iperf3;
use vtep_tests::vtepd::{Config, Vtepd};

/// The workers that serve the queues of an interface, in the order of the queues.
fn workers_of(ports: &Value, interface: &str) -> Vec<u64> {
    let row = ports["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .find(|r| r["interface"] == interface);
    let queues = row
        .and_then(|row| row["queues"].as_array())
        .unwrap_or_else(|| panic!("{interface}: {ports}"));
    queues
        .iter()
        .map(|q| q["worker"].as_u64().expect("a number"))
        .collect()
}

/// TCP between tenants 11 and 12 of one vtepd, and from both to tenant 13 behind another; each port
/// has `queues` queues, and `io`.
fn traffic_between_workers(io: &str, queues: u32) {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2].map(|n| fabric.hypervisor(n));
    let hosts = [11, 12].map(|n| Host::with_queues(&hypervisors[0], n, queues));
    let far = Host::new(&hypervisors[1], 13);
    let near = Config::new(vtep4(1))
        .io(io)
        .workers(2)
        .vni(100, &[vtep4(2)])
        .port("t11", &[mac(11)])
        .port("t12", &[mac(12)])
        .fdb(&mac(13), vtep4(2));
    let other = Config::new(vtep4(2))
        .io(io)
        .vni(100, &[vtep4(1)])
        .port("t13", &[mac(13)])
        .fdb(&mac(11), vtep4(1))
        .fdb(&mac(12), vtep4(1));
    let vtepd = Vtepd::start(&hypervisors[0], &near);
    let peer = Vtepd::start(&hypervisors[1], &other);
    let ports = vtepd.show("ports");
    let served = ["t11", "t12"].map(|name| workers_of(&ports, name));
    if queues == 1 && io == "xdp" {
        assert_ne!(served[0], served[1], "two ports, two workers: {ports}");
    } else {
        assert!(
            served.iter().all(|s| s.contains(&0) && s.contains(&1)),
            "{ports}"
        );
    }
    let [a, b] = &hosts;
    for (from, to) in [(a, b), (a, &far), (b, &far)] {
        assert_no_loss((&from.ns, from.ip4()), (&to.ns, to.ip4()));
        for reverse in [false, true] {
            let measured = iperf3(&from.ns, &to.ns, to.ip4(), vtepd.dir(), 1, reverse);
            assert!(
                measured.mbps > 20.0,
                "{} to {}, {reverse}: {measured:?}",
                from.port,
                to.port
            );
        }
    }
    let mut workers = vtepd.show("workers");
    // The kernel divides flows among the sockets of a port by a hash with a random key: six
    // connections may all be one worker's.
    for _ in 0..20 {
        if io == "xdp" || both_forward(&workers) {
            break;
        }
        let measured = iperf3(&a.ns, &b.ns, b.ip4(), vtepd.dir(), 1, false);
        assert!(measured.mbps > 20.0, "{measured:?}");
        workers = vtepd.show("workers");
    }
    assert!(both_forward(&workers), "both forward frames: {workers}");
    let rows = workers["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{workers}");
    for row in rows {
        assert!(
            row["frames_free"].as_u64().expect("a number") > 100,
            "frames return to their owner: {workers}"
        );
    }
    vtepd.stop();
    peer.stop();
}

fn both_forward(workers: &serde_json::Value) -> bool {
    let rows = workers["rows"].as_array().expect("rows");
    rows.iter()
        .all(|row| row["frames"].as_u64().expect("a number") > 1000)
}

#[test]
fn ports_of_two_workers_exchange_frames() {
    traffic_between_workers("xdp", 1);
}

#[test]
fn ports_whose_queues_belong_to_two_workers_exchange_frames() {
    traffic_between_workers("xdp", 2);
}

#[test]
fn ports_with_a_packet_socket_of_each_worker_exchange_frames() {
    traffic_between_workers("packet", 1);
}
