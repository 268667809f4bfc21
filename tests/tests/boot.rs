//! vtepd on a host that is not complete yet: what is missing at the start is waited for, as at run
//! time.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 (later) ── fabric ── eth0 ── h2: vtepd ── t12
//! ```

use rustix::process::Signal;
use vtep_tests::echo::assert_no_loss;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::link::{Host, mac};
use vtep_tests::netns::{Netns, command, wait_for};
use vtep_tests::vtepd::{Config, Vtepd, binary};

fn config(me: u8, other: u8) -> Config {
    let tenant = |n: u8| n + 10;
    Config::new(vtep4(me))
        .vni(100, &[vtep4(other)])
        .port(&format!("t{}", tenant(me)), &[mac(tenant(me))])
        .fdb(&mac(tenant(other)), vtep4(other))
}

/// Starts vtepd on h1 as `prepare` leaves it, then makes the host complete, and expects traffic.
fn waits_for_what(
    prepare: impl FnOnce(&Fabric) -> Netns,
    missing: &str,
    complete: impl FnOnce(&Fabric, &Netns),
) {
    let fabric = Fabric::new(1600);
    let h1 = prepare(&fabric);
    let h2 = fabric.hypervisor(2);
    let hosts = [Host::new(&h1, 11), Host::new(&h2, 12)];
    let vtepd = Vtepd::start(&h1, &config(1, 2));
    let degraded = || vtepd.show("status")["degraded"].to_string();
    assert!(degraded().contains(missing), "{}", degraded());
    // What is missing does not keep a changed file from being applied either.
    vtepd.rewrite(&config(1, 2).raw("[[vni]]\nid = 200"));
    vtepd.done("config apply");
    vtepd.rewrite(&config(1, 2));
    vtepd.program.signal(Signal::HUP);
    wait_for("SIGHUP to take effect", 10, || {
        let rows = vtepd.show("vni")["rows"].as_array().map_or(0, Vec::len);
        (rows == 1).then_some(())
    });
    let other = Vtepd::start(&h2, &config(2, 1));
    complete(&fabric, &h1);
    vtepd.expect_up(&[vtep4(2)]);
    other.expect_up(&[vtep4(1)]);
    assert_no_loss(
        (&hosts[0].ns, hosts[0].ip4()),
        (&hosts[1].ns, hosts[1].ip4()),
    );
    wait_for("no reason to be degraded", 10, || {
        (degraded() == "[]").then_some(())
    });
}

/// Finding O2.
#[test]
fn a_missing_underlay_interface_is_waited_for_at_the_start() {
    waits_for_what(
        |_| Netns::new("h1"),
        "eth0",
        |fabric, h1| {
            fabric.attach(h1, "eth0", 1);
            h1.ip(&format!("addr add {}/24 dev eth0", vtep4(1)));
        },
    );
}

/// Finding O2.
#[test]
fn a_missing_vtep_address_is_waited_for_at_the_start() {
    waits_for_what(
        |fabric| {
            let h1 = fabric.hypervisor(1);
            h1.ip(&format!("addr del {}/24 dev eth0", vtep4(1)));
            h1
        },
        "203.0.113.1",
        |_, h1| {
            h1.ip(&format!("addr add {}/24 dev eth0", vtep4(1)));
        },
    );
}

/// Findings O2 and O12: a small MTU is not fatal, and is reported while it lasts.
#[test]
fn an_mtu_that_is_too_small_at_the_start_is_waited_for() {
    waits_for_what(
        |fabric| {
            let h1 = fabric.hypervisor(1);
            h1.ip("link set eth0 mtu 600");
            h1
        },
        "the MTU of eth0, 600, is too small",
        |_, h1| {
            h1.ip("link set eth0 mtu 1600");
        },
    );
}

/// An MTU that is lowered, or raised, while vtepd runs is in `show status` (finding O12).
#[test]
fn an_mtu_that_costs_frames_is_reported_at_run_time() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let vtepd = Vtepd::start(&ns, &config(1, 2));
    let expect = |text: &str| {
        wait_for(text, 10, || {
            let degraded = vtepd.show("status")["degraded"].to_string();
            degraded.contains(text).then_some(())
        });
    };
    ns.ip("link set eth0 mtu 1500");
    expect("t11 has MTU 1500, but the underlay carries at most 1450");
    ns.ip("link set eth0 mtu 600");
    expect("the MTU of eth0, 600, is too small");
    ns.ip("link set eth0 mtu 1600");
    wait_for("no MTU to be a problem", 10, || {
        let degraded = vtepd.show("status")["degraded"].to_string();
        (!degraded.contains("MTU")).then_some(())
    });
    ns.ip("link set t11 mtu 2000");
    expect("t11 has MTU 2000, but the underlay carries at most 1550");
}

/// The value of a setting of the unit file.
fn setting(name: &str) -> String {
    let unit = include_str!("../../scripts/vtepd.service");
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    let mut all = lines.filter(|(key, _)| *key == name);
    all.next()
        .unwrap_or_else(|| panic!("no {name}"))
        .1
        .to_owned()
}

/// `systemctl reload` runs ExecReload and fails if that fails: it must report a refused file
/// (finding O2).
#[test]
fn the_units_reload_fails_with_the_reason_when_the_file_is_refused() {
    let reload = setting("ExecReload");
    let words: Vec<_> = reload.split_whitespace().collect();
    assert_eq!(words[0], "/usr/local/bin/vtepctl");
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let vtepd = Vtepd::start(&ns, &config(1, 2));
    let environment = format!("VTEPCTL_SOCKET={}", vtepd.socket().display());
    let program = binary("vtepctl").display().to_string();
    let run = || {
        let all = ["env", &environment, &program];
        command(30, &[&all, &words[1..]].concat())
    };
    assert!(run().status.success());
    vtepd.rewrite(&config(1, 2).raw("[[vni]]\nid = 100"));
    let refused = run();
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        error.contains("vtepd.toml:") && error.contains("vni.id"),
        "{error}"
    );
    assert!(setting("Environment").starts_with("VTEPCTL_SOCKET="));
}

/// What else the unit promises (finding O2): it does not give up, and `config save` can write.
#[test]
fn the_unit_retries_for_ever_and_leaves_the_configuration_writable() {
    assert_eq!(setting("StartLimitIntervalSec"), "0");
    assert_eq!(setting("Restart"), "on-failure");
    let file = setting("ExecStart");
    let file = file.split_whitespace().last().expect("--config FILE");
    let directory = std::path::Path::new(file).parent().expect("absolute");
    let writable = setting("ReadWritePaths");
    assert_eq!(writable, format!("-{}", directory.display()));
}
