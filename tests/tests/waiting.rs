//! What does not exist yet is waited for, however it is configured: at a start, at SIGHUP, by
//! `config apply`, `port add`, or a batch over the control socket.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric
//! t13 ──┘ later
//! ```

use rustix::process::Signal;
use serde_json::{Value, json};
use vtep_tests::echo::answers;
use vtep_tests::fabric::vtep4;
use vtep_tests::link::{Host, ip4, mac, tap};
use vtep_tests::netns::wait_for;
use vtep_tests::topology::one_vtepd;
use vtep_tests::vtepd::{Config, Vtepd};

/// Tenant 11 in VNI 100, followed by `more`.
fn config(more: &str) -> Config {
    Config::new(vtep4(1))
        .vni(100, &[vtep4(2)])
        .port("t11", &[mac(11)])
        .raw(more)
}

fn port_13(vlan: &str) -> String {
    let mac = mac(13);
    format!("[[vni.port]]\ninterface = \"t13\"\n{vlan}\nmacs = [\"{mac}\"]")
}

/// The state of a port in `show ports`.
fn state(vtepd: &Vtepd, interface: &str) -> Value {
    let shown = vtepd.show("ports");
    let mut rows = shown["rows"].as_array().into_iter().flatten();
    rows.find(|row| row["interface"] == interface)
        .map_or(Value::Null, |row| row["state"].clone())
}

fn expect_state(vtepd: &Vtepd, interface: &str, wanted: &str) {
    wait_for(&format!("{interface} to be {wanted}"), 10, || {
        (state(vtepd, interface) == wanted).then_some(())
    });
}

/// Applies the file by SIGHUP, which must succeed.
fn hang_up(vtepd: &Vtepd) {
    let applied = || vtepd.program.log().matches("configuration applied").count();
    let before = applied();
    vtepd.program.signal(Signal::HUP);
    wait_for("SIGHUP to be applied", 10, || {
        (applied() > before).then_some(())
    });
}

/// A way to add the port of tenant 13, which does not exist.
type Way = (&'static str, fn(&Vtepd, &str));

const WAYS: [Way; 4] = [
    ("SIGHUP", |vtepd, vlan| {
        vtepd.rewrite(&config(&port_13(vlan)));
        hang_up(vtepd);
    }),
    ("config apply", |vtepd, vlan| {
        vtepd.rewrite(&config(&port_13(vlan)));
        vtepd.done("config apply");
    }),
    ("port add", |vtepd, vlan| {
        let vlan = vlan.replace("vlan =", "--vlan");
        vtepd.done(&format!("port add t13 --vni 100 {vlan} --mac {}", mac(13)));
    }),
    ("a batch", |vtepd, vlan| {
        let mut port = json!({"vni": 100, "interface": "t13", "macs": [mac(13)]});
        if let Some(id) = vlan.strip_prefix("vlan = ") {
            port["vlan"] = json!(id.parse::<u16>().expect("a number"));
        }
        let request = |id: u32, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let answers = vtepd.request(
            &json!([
                request(1, "vni.add", json!({"vni": 300})),
                request(2, "port.add", port),
                request(3, "vni.del", json!({"vni": 300})),
            ])
            .to_string(),
        );
        let answers = answers.as_array().expect("an answer each");
        assert!(
            answers.iter().all(|answer| answer["error"].is_null()),
            "{answers:?}"
        );
    }),
];

/// Access ports and trunks, however they are added (finding C9).
#[test]
fn a_port_waits_for_its_interface_however_it_is_added() {
    let (_fabric, ns, host, vtepd) = one_vtepd(&config(""));
    for (way, add) in WAYS {
        for vlan in ["", "vlan = 7"] {
            add(&vtepd, vlan);
            assert_eq!(state(&vtepd, "t13"), "absent", "{way} {vlan}");
            let status = vtepd.done("show status");
            assert!(status.contains("t13"), "{way} {vlan}: {status}");
            // A virtual machine that is off does not prevent other changes.
            vtepd.done("vni add 200");
            vtepd.done("vni del 200");
            let tenant = Host::new(&ns, 13);
            expect_state(&vtepd, "t13", "up");
            if vlan.is_empty() {
                wait_for(&format!("traffic to the new port, {way}"), 10, || {
                    answers(&host.ns, ip4(13)).then_some(())
                });
            }
            ns.ip("link del t13");
            drop(tenant);
            expect_state(&vtepd, "t13", "absent");
            // Nor one that was switched off.
            vtepd.rewrite(&config(&format!("{}\n[[vni]]\nid = 201", port_13(vlan))));
            hang_up(&vtepd);
            vtepd.rewrite(&config(""));
            hang_up(&vtepd);
            assert_eq!(state(&vtepd, "t13"), Value::Null, "{way} {vlan}");
        }
    }
}

/// As libvirt's hook does: `prepare` adds the port, the virtual machine's tap is made, used, and
/// removed, and `release` deletes the port (finding C9).
#[test]
fn a_prepare_hook_adds_the_port_before_its_tap_exists() {
    let (_fabric, ns, _host, vtepd) = one_vtepd(&config(""));
    for _ in 0..2 {
        vtepd.done(&format!("port add vnet0 --vni 100 --mac {}", mac(14)));
        assert_eq!(state(&vtepd, "vnet0"), "absent");
        tap(&ns, "vnet0");
        // No program holds the tap, so it has no carrier.
        expect_state(&vtepd, "vnet0", "down");
        ns.ip("link del vnet0");
        expect_state(&vtepd, "vnet0", "absent");
        vtepd.done("port del vnet0 --vni 100");
        assert_eq!(state(&vtepd, "vnet0"), Value::Null);
    }
}

/// An interface that exists but is down can be added too, and works once it is up (finding C9).
#[test]
fn a_port_waits_for_its_link() {
    let (_fabric, ns, host, vtepd) = one_vtepd(&config(""));
    let _tenant = Host::new(&ns, 13);
    ns.ip("link set t13 down");
    vtepd.done(&format!("port add t13 --vni 100 --mac {}", mac(13)));
    expect_state(&vtepd, "t13", "down");
    ns.ip("link set t13 up");
    wait_for("traffic through the port", 15, || {
        answers(&host.ns, ip4(13)).then_some(())
    });
}

/// The host's own interface and address may be missing for a while: a reload is not refused for
/// that (finding C9).
#[test]
fn a_reload_waits_for_the_underlay_as_the_running_daemon_does() {
    let (_fabric, ns, _host, vtepd) = one_vtepd(&config(""));
    ns.ip(&format!("addr del {}/24 dev eth0", vtep4(1)));
    wait_for("the missing address to be shown", 10, || {
        vtepd
            .done("show status")
            .contains("is not on any interface")
            .then_some(())
    });
    vtepd.rewrite(&config("[[vni]]\nid = 200"));
    hang_up(&vtepd);
    assert_eq!(vtepd.show("vni")["rows"].as_array().map_or(0, Vec::len), 2);
    ns.ip("link set eth0 name away0");
    expect_state(&vtepd, "eth0", "absent");
    vtepd.rewrite(&config(""));
    vtepd.done("config apply");
    assert_eq!(vtepd.show("vni")["rows"].as_array().map_or(0, Vec::len), 1);
    // As the check before a start, which reports what is missing.
    let checked = vtepd.ctl("config check");
    let problems = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{problems}");
    assert!(problems.contains("no interface eth0"), "{problems}");
}

/// Only what was accepted is waited for.
#[test]
fn a_refused_port_is_not_reported_as_waited_for() {
    let (_fabric, _ns, _host, vtepd) = one_vtepd(&config(""));
    let is_reported = || vtepd.program.log().contains("waiting for it");
    let refused = vtepd.ctl("port add t13 --vni 999");
    assert_eq!(refused.status.code(), Some(1));
    assert!(!is_reported(), "{}", vtepd.program.log());
    vtepd.done("port add t13 --vni 100");
    wait_for("the port to be reported", 10, || {
        is_reported().then_some(())
    });
}
