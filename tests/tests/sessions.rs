//! The sessions of vtepd as its peers see them: how many TCP connections each opens, and how a
//! session without routes is reported.
//!
//! ```text
//! h1: vtepd, BGP ── eth0 ── fabric ──┬─ eth0 ── h8: bgp_peer.py, sends no routes
//!                                    └─ eth0 ── h9: bgp_peer.py
//! ```

use std::time::Duration;

use rustix::process::Signal;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::netns::wait_for;
use vtep_tests::script::Script;
use vtep_tests::site;
use vtep_tests::vtepd::{Config, Vtepd};

/// vtepd at 1 with the neighbors `peers` and a VNI.
fn config(peers: &[u8], keys: &str) -> Config {
    site::bgp(1, 65000, &site::internal(peers), keys).vni(100, &[])
}

/// TCP connections that the peer has accepted, OPENs received, sessions established.
fn counted(peer: &Script) -> [usize; 3] {
    let events = peer.events();
    ["connected", "message 1", "established"]
        .map(|event| events.iter().filter(|e| *e == event).count())
}

/// Waits until `sessions` sessions were established in total, and for events that may follow: each
/// session has one connection and one OPEN.
fn expect_sessions(peer: &Script, sessions: usize, why: &str) {
    wait_for(&format!("session {sessions}: {why}"), 20, || {
        (counted(peer)[2] >= sessions).then_some(())
    });
    // vtepd attempts to connect every second.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        counted(peer),
        [sessions; 3],
        "connections, OPENs, sessions: {why}\n{:?}",
        peer.events()
    );
}

#[test]
fn a_session_opens_one_tcp_connection() {
    let fabric = Fabric::new(1600);
    let (ns, far) = (fabric.hypervisor(1), fabric.hypervisor(9));
    let mut peer = Script::listen(&far, 65000, vtep4(9));
    let mut vtepd = Vtepd::start(&ns, &config(&[9], ""));
    expect_sessions(&peer, 1, "vtepd starts");
    vtepd.done("bgp clear 203.0.113.9");
    expect_sessions(&peer, 2, "cleared");
    let reload = |vtepd: &Vtepd, applied: usize| {
        vtepd.program.signal(Signal::HUP);
        wait_for("SIGHUP to take effect", 10, || {
            (vtepd.program.log().matches("configuration applied").count() == applied).then_some(())
        });
    };
    reload(&vtepd, 1);
    expect_sessions(&peer, 2, "a reload changes nothing");
    peer.close();
    expect_sessions(&peer, 3, "the peer has closed");
    // Two changes of one batch that concern the neighbor: the global settings, and its own.
    let text = std::fs::read_to_string(vtepd.config()).expect("the configuration is readable");
    let text = text
        .replace("hold-time = 9", "hold-time = 12")
        .replace("connect-retry = 1", "connect-retry = 2");
    std::fs::write(vtepd.config(), text).expect("the scratch directory can be written");
    reload(&vtepd, 2);
    expect_sessions(&peer, 4, "a reload changes [bgp] and the neighbor");
    vtepd.kill();
    let _vtepd = vtepd.restart(&ns);
    expect_sessions(&peer, 5, "vtepd starts again");
}

#[test]
fn a_passive_session_opens_no_connection() {
    let fabric = Fabric::new(1600);
    let (ns, far) = (fabric.hypervisor(1), fabric.hypervisor(9));
    let waiting = Script::listen(&far, 65000, vtep4(9));
    let vtepd = Vtepd::start(&ns, &config(&[9], "passive = true"));
    let active = Script::connect(&far, vtep4(1), 65000, vtep4(9));
    expect_sessions(&waiting, 0, "vtepd is passive");
    assert_eq!(active.events()[..2], ["message 1", "established"]);
    assert_eq!(
        vtepd.show("bgp summary")["neighbors"][0]["state"],
        "Established"
    );
}

#[test]
fn a_session_without_routes_is_reported_when_another_has_some() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let far = [8, 9].map(|number| fabric.hypervisor(number));
    let _silent = Script::listen(&far[0], 65000, vtep4(8));
    let mut other = Script::listen(&far[1], 65000, vtep4(9));
    let vtepd = Vtepd::start(&ns, &config(&[8, 9], ""));
    expect_sessions(&other, 1, "vtepd starts");
    // End-of-RIB of L2VPN EVPN.
    other.send(&vtep_tests::script::withdraw(&[]));
    let degraded = || vtepd.show("status")["degraded"].clone();
    assert_eq!(degraded(), serde_json::json!([]));
    wait_for("a minute has passed", 70, || {
        (degraded() != serde_json::json!([])).then_some(())
    });
    let reasons = degraded().to_string();
    assert!(
        reasons.contains("BGP session with 203.0.113.8 is established without routes"),
        "{reasons}"
    );
    assert!(!reasons.contains("203.0.113.9"), "{reasons}");
    let detail = |neighbor: &str| vtepd.done(&format!("show bgp neighbor {neighbor}"));
    assert!(detail("203.0.113.8").contains("State: Established, silent: no routes"));
    assert!(detail("203.0.113.9").contains("State: Established\n"));
    let logged = vtepd.program.log();
    assert_eq!(
        logged.matches("is established without routes").count(),
        1,
        "{logged}"
    );
}
