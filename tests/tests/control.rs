//! vtepctl on the running daemon: changes, and the output of `show`.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd or Linux ── t12
//!         └─ control.sock ── vtepctl
//! ```

use vtep_tests::config::over_underlay;
use vtep_tests::echo::{assert_no_loss, assert_silence, lost};
use vtep_tests::fabric::{Fabric, Underlay, vtep4};
use vtep_tests::link::{Host, ip4, mac};
use vtep_tests::tools::programs;
use vtep_tests::topology::{Pair, Peer};
use vtep_tests::vtepd::{Config, Vtepd};

#[test]
fn a_vni_can_be_added_and_removed_at_run_time() {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2].map(|n| fabric.hypervisor(n));
    let hosts = [
        Host::new(&hypervisors[0], 11),
        Host::new(&hypervisors[1], 12),
    ];
    let daemons =
        [1, 2].map(|n: u8| Vtepd::start(&hypervisors[usize::from(n) - 1], &Config::new(vtep4(n))));
    for (i, vtepd) in daemons.iter().enumerate() {
        let (me, other, peer) = if i == 0 {
            (11, 12, vtep4(2))
        } else {
            (12, 11, vtep4(1))
        };
        assert_eq!(vtepd.done("vni add 100"), "", "no output on success");
        vtepd.done(&format!("port add t{me} --vni 100 --mac {}", mac(me)));
        vtepd.done(&format!("flood add {peer} --vni 100"));
        vtepd.done(&format!("fdb add {} --vni 100 --vtep {peer}", mac(other)));
    }
    let [a, b] = &hosts;
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    daemons[0].done(&format!("fdb del {} --vni 100", mac(12)));
    daemons[0].done(&format!("flood del {} --vni 100", vtep4(2)));
    assert_silence(&a.ns, b.ip4());
    daemons[0].done("port del t11 --vni 100");
    daemons[0].done("vni del 100");
    assert!(
        programs(&hypervisors[0], "t11").is_empty(),
        "the port was given back to the kernel"
    );
    daemons.into_iter().for_each(Vtepd::stop);
}

#[test]
fn invalid_commands_exit_with_status_1_and_change_nothing() {
    let pair = Pair::new(Underlay::V4, Peer::Linux);
    let vtepd = pair.vtepd();
    // Without counters: the kernels of the tenants send frames of their own.
    let state = || {
        [
            vtepd.done("config save -"),
            vtepd.done("show mac"),
            vtepd.done("show flood"),
        ]
    };
    let before = state();
    let too_long = format!("bgp shutdown all --message {}", "é".repeat(128));
    for (line, named) in [
        ("vni add 100", "100"),
        ("vni del 555", "555"),
        ("port add lo --vni 100", "loopback"),
        ("port del nosuch0 --vni 100", "nosuch0"),
        ("port add t11 --vni 100", "t11"),
        (
            "fdb add 50:54:33:00:00:0c --vni 555 --vtep 203.0.113.2",
            "555",
        ),
        ("fdb del 50:54:33:00:00:77 --vni 100", "50:54:33:00:00:77"),
        ("flood add 203.0.113.1 --vni 100", "203.0.113.1"),
        (too_long.as_str(), "256 bytes are too many"),
    ] {
        let refused = vtepd.ctl(line);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{line}: {error}");
        assert!(error.contains(named), "{line}: {error}");
    }
    for line in [
        "vni add 16777216",
        "fdb add zz --vni 100 --vtep 203.0.113.2",
        "shwo mac",
    ] {
        assert_eq!(
            vtepd.ctl(line).status.code(),
            Some(2),
            "{line} is a usage error"
        );
    }
    assert_eq!(state(), before);
}

#[test]
fn show_reports_live_state() {
    over_underlay("xdp", || {
        let pair = Pair::new(Underlay::V4, Peer::Linux);
        let [a, b] = &pair.hosts;
        assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
        let vtepd = pair.vtepd();
        for (what, facts) in [
            ("status", &["native", "copy"][..]),
            ("vni", &["100"]),
            (
                "mac",
                &[
                    "50:54:33:00:00:0b",
                    "50:54:33:00:00:0c",
                    "t11",
                    "203.0.113.2",
                ],
            ),
            ("flood", &["100", "203.0.113.2"]),
            ("ports", &["t11", "copy"]),
            ("workers", &["0"]),
            (
                "underlay",
                &["203.0.113.2", "eth0", &pair.hypervisors[1].mac("eth0")],
            ),
            ("drops", &[]),
        ] {
            let (text, json) = (
                vtepd.done(&format!("show {what}")),
                vtepd.show(what).to_string(),
            );
            for fact in facts {
                assert!(text.contains(fact), "show {what} lacks {fact}:\n{text}");
                assert!(
                    json.contains(fact),
                    "show {what} --json lacks {fact}:\n{json}"
                );
            }
        }
    });
}

#[test]
fn counters_match_the_frames_sent() {
    let pair = Pair::new(Underlay::V4, Peer::Linux);
    let [a, b] = &pair.hosts;
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    let count = || {
        let ports = pair.vtepd().show("ports");
        let rows = ports["rows"].as_array().expect("rows");
        let port = rows
            .iter()
            .find(|row| row["interface"] == "t11")
            .expect("t11 is shown");
        ["rx_frames", "tx_frames"]
            .map(|c| port[c].as_u64().unwrap_or_else(|| panic!("{c}: {port}")))
    };
    let before = count();
    assert_eq!(lost(&a.ns, ip4(12), 200), 0);
    // Frames that the tenants' kernels send by themselves (MLD, neighbor probes) are counted too.
    for (before, after) in before.into_iter().zip(count()) {
        assert!(
            (200..300).contains(&(after - before)),
            "{before}, then {after}"
        );
    }
}
