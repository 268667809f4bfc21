//! Changes under traffic: what is not changed loses no frame.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd ── t12      (h2 only in the last test)
//! t12 ──┤
//! t13 ──┘ not a port at first
//! ```

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use vtep_tests::echo::{Stream, assert_no_loss, lost};
use vtep_tests::fabric::{Fabric, Underlay, vtep4};
use vtep_tests::link::{Host, ip4, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::program::Program;
use vtep_tests::tools::programs;
use vtep_tests::topology::{Pair, Peer};
use vtep_tests::vtepd::{Config, Vtepd};

/// Tenants 11 and 12 in VNI 100, followed by `more`.
fn config(more: &str) -> Config {
    Config::new(vtep4(1))
        .vni(100, &[vtep4(2)])
        .port("t11", &[mac(11)])
        .port("t12", &[mac(12)])
        .raw(more)
}

/// One vtepd with tenants 11 and 12, and tenant 13, whose interface is not a port yet.
fn one_vtepd() -> (Fabric, Netns, Vec<Host>, Vtepd) {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let hosts = [11, 12, 13].map(|n| Host::new(&ns, n)).into();
    let vtepd = Vtepd::start(&ns, &config(""));
    (fabric, ns, hosts, vtepd)
}

/// Sends five hundred requests per second from tenant 11 to tenant 12 while `change` runs; none may
/// be lost.
fn without_loss(hosts: &[Host], change: impl FnOnce()) {
    assert_no_loss((&hosts[0].ns, ip4(11)), (&hosts[1].ns, ip4(12)));
    let stream = Stream::start(&hosts[0].ns, ip4(12), Duration::from_millis(2));
    change();
    stream.expect_more(20);
    let (sent, lost) = stream.stop();
    assert_eq!(lost, 0, "of {sent}");
}

const VNI_200: &str =
    "[[vni]]\nid = 200\nflood = [\"203.0.113.9\"]\n[[vni.port]]\ninterface = \"t13\"\n";

#[test]
fn config_apply_and_sighup_lose_no_frame_of_an_unchanged_vni() {
    let (_fabric, _ns, hosts, vtepd) = one_vtepd();
    let vnis = || vtepd.show("vni")["rows"].as_array().map_or(0, Vec::len);
    without_loss(&hosts, || {
        for _ in 0..3 {
            vtepd.rewrite(&config(VNI_200));
            vtepd.done("config apply");
            assert_eq!(vnis(), 2);
            vtepd.rewrite(&config(""));
            vtepd.program.signal(Signal::HUP);
            wait_for("SIGHUP to take effect", 5, || (vnis() == 1).then_some(()));
        }
    });
}

#[test]
fn an_invalid_file_is_rejected_as_a_whole_and_traffic_continues() {
    let (_fabric, _ns, hosts, vtepd) = one_vtepd();
    vtepd.rewrite(&config(&format!("{VNI_200}[[vni]]\nid = 200\n")));
    let refused = vtepd.ctl("config apply");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("200"));
    vtepd.program.signal(Signal::HUP);
    assert_eq!(lost(&hosts[0].ns, ip4(12), 20), 0);
    assert_eq!(vtepd.show("vni")["rows"].as_array().map_or(0, Vec::len), 1);
}

#[test]
fn a_batch_is_applied_completely_or_not_at_all() {
    let (_fabric, ns, hosts, vtepd) = one_vtepd();
    let request = |id: u32, method: &str, params: serde_json::Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let vni = request(1, "vni.add", json!({"vni": 200}));
    let port = request(2, "port.add", json!({"vni": 200, "interface": "t13"}));
    let wrong = request(
        3,
        "fdb.add",
        json!({"vni": 200, "mac": mac(14), "vtep": "203.0.113.1"}),
    );
    let before =
        ["vni", "ports", "mac"].map(|w| vtepd.show(w)["rows"].as_array().map_or(0, Vec::len));
    let answers = vtepd.request(&json!([vni, port, wrong]).to_string());
    let answers = answers.as_array().expect("an answer each");
    assert!(
        answers.len() == 3 && answers.iter().all(|a| a["error"]["data"]["index"] == 2),
        "{answers:?}"
    );
    let after =
        ["vni", "ports", "mac"].map(|w| vtepd.show(w)["rows"].as_array().map_or(0, Vec::len));
    assert_eq!(before, after);
    assert!(programs(&ns, "t13").is_empty(), "no program is attached");
    without_loss(&hosts, || {
        let answers = vtepd.request(&json!([vni, port]).to_string());
        assert!(
            answers
                .as_array()
                .is_some_and(|a| a.iter().all(|a| a["error"].is_null())),
            "{answers}"
        );
    });
    assert!(!programs(&ns, "t13").is_empty());
}

/// Bytes that a tenant has received.
fn received(tenant: &Netns) -> u64 {
    let shown: serde_json::Value =
        serde_json::from_str(&tenant.ip("-s -j link show dev eth0")).expect("ip -j prints JSON");
    shown[0]["stats64"]["rx"]["bytes"]
        .as_u64()
        .expect("ip -s counts bytes")
}

/// The host's services on the underlay interface survive the daemon (finding D19).
#[test]
fn kill_nine_under_load_leaves_the_hosts_stack_reachable() {
    let mut pair = Pair::new(Underlay::V4, Peer::Vtepd);
    let [a, b] = &pair.hosts;
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    let dir = pair.vtepd().dir().to_owned();
    let mut server = Program::start(&b.ns, &dir, &["iperf3", "-s", "-1", "--forceflush"]);
    server.wait_for_output("Server listening", 10);
    let before = received(&b.ns);
    let mut load = Program::start(
        &a.ns,
        &dir,
        &["iperf3", "-c", "192.0.2.12", "-t", "120", "--forceflush"],
    );
    // Received bytes show that TCP runs: the iperf3 client prints nothing as long as it can send.
    load.wait_until("to send 10 MB", 20, |_| {
        received(&b.ns) > before + 10_000_000
    });
    let [near, far] = &pair.hypervisors;
    let stream = Stream::start(far, vtep4(1), Duration::from_millis(10));
    pair.daemons[0].kill();
    stream.expect_more(100);
    let (sent, lost) = stream.stop();
    assert_eq!(lost, 0, "of {sent}");
    // The load would fill the queues again, and echo requests would only measure that.
    load.kill();
    let vtepd = pair.daemons.remove(0).restart(near);
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    vtepd.stop();
}
