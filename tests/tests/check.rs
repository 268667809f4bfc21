//! `vtepd --check` rejects configurations that cannot work, and reports the line and the remedy.
//!
//! ```text
//! t11 ── h1: vtepd --check, not running ── eth0 ── fabric
//! ```

use vtep_tests::fabric::Fabric;
use vtep_tests::link::Host;
use vtep_tests::vtepd::check;

const GOOD: &str = r#"[vtep]
address = "203.0.113.1"
underlay = ["eth0"]
[[vni]]
id = 100
flood = ["203.0.113.2"]
[[vni.port]]
interface = "t11"
macs = ["50:54:33:00:00:0b"]
[[vni.fdb]]
mac = "50:54:33:00:00:0c"
vtep = "203.0.113.2"
"#;

/// (old text, new text, line of the error, words that the error must contain)
const BROKEN: &[(&str, &str, u32, &[&str])] = &[
    (
        "address = \"203.0.113.1\"",
        "address = \"203.0.113\"",
        2,
        &["address", "203.0.113"],
    ),
    (
        "address = \"203.0.113.1\"",
        "adress = \"203.0.113.1\"",
        2,
        &["adress", "address"],
    ),
    (
        "address = \"203.0.113.1\"",
        "address = \"203.0.113.77\"",
        2,
        &["203.0.113.77", "this host"],
    ),
    (
        "address = \"203.0.113.1\"",
        "address = \"224.0.0.1\"",
        2,
        &["224.0.0.1", "unicast"],
    ),
    (
        "underlay = [\"eth0\"]",
        "underlay = [\"eth9\"]",
        3,
        &["eth9"],
    ),
    ("underlay = [\"eth0\"]", "underlay = []", 3, &["underlay"]),
    (
        "underlay = [\"eth0\"]",
        "underlay = [\"eth0\"]\nttl = 256",
        4,
        &["ttl", "255"],
    ),
    (
        "underlay = [\"eth0\"]",
        "underlay = [\"eth0\"]\ndscp = 64",
        4,
        &["dscp", "63"],
    ),
    (
        "underlay = [\"eth0\"]",
        "underlay = [\"eth0\"]\nudp-port = 0",
        4,
        &["udp-port"],
    ),
    ("id = 100", "id = 16777216", 5, &["16777216", "16777215"]),
    ("id = 100", "id = 0", 5, &["id", "1"]),
    (
        "flood = [\"203.0.113.2\"]",
        "flood = [\"203.0.113.1\"]",
        6,
        &["203.0.113.1", "local VTEP address"],
    ),
    (
        "flood = [\"203.0.113.2\"]",
        "flood = [\"2001:db8:1::2\"]",
        6,
        &["2001:db8:1::2", "IPv6", "vtep.address"],
    ),
    (
        "interface = \"t11\"",
        "interface = \"eth0\"",
        8,
        &["eth0", "underlay"],
    ),
    (
        "interface = \"t11\"",
        "interface = \"t11\"\nvlan = 4095",
        9,
        &["vlan", "4094"],
    ),
    (
        "macs = [\"50:54:33:00:00:0b\"]",
        "macs = [\"51:54:33:00:00:0b\"]",
        9,
        &["51:54:33:00:00:0b", "multicast"],
    ),
    (
        "mac = \"50:54:33:00:00:0c\"",
        "mac = \"50:54:33:00:0c\"",
        11,
        &["50:54:33:00:0c"],
    ),
    (
        "mac = \"50:54:33:00:00:0c\"",
        "mac = \"50:54:33:00:00:0b\"",
        11,
        &["50:54:33:00:00:0b"],
    ),
    (
        "vtep = \"203.0.113.2\"",
        "vtep = \"203.0.113.1\"",
        12,
        &["203.0.113.1", "local VTEP address"],
    ),
    (
        "vtep = \"203.0.113.2\"\n",
        "vtep = \"203.0.113.2\"\n[[vni]]\nid = 100\n",
        14,
        &["VNI 100", "already"],
    ),
    (
        "[[vni.fdb]]",
        "[[vni.port]]\ninterface = \"t11\"\n[[vni.fdb]]",
        11,
        &["t11", "VNI 100", "vlan"],
    ),
    ("[[vni]]", "[[vni]", 4, &["]"]),
];

#[test]
fn a_good_configuration_is_accepted_and_nothing_is_changed() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let out = check(&ns, GOOD);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(ns.link("eth0")["xdp"].is_null());
}

#[test]
fn a_missing_port_interface_is_only_a_warning() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let out = check(&ns, GOOD);
    let output = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{output}");
    assert!(
        output.contains("vtepd.toml:8: warning") && output.contains("t11"),
        "{output}"
    );
}

#[test]
fn each_broken_configuration_is_refused_with_its_line_and_remedy() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let mut wrong = Vec::new();
    for (old, new, line, words) in BROKEN {
        let out = check(&ns, &GOOD.replacen(old, new, 1));
        let error = String::from_utf8_lossy(&out.stderr);
        let place = [format!("vtepd.toml:{line}"), format!("line {line}")];
        let named =
            place.iter().any(|p| error.contains(p)) && words.iter().all(|w| error.contains(w));
        if out.status.code() != Some(1) || !named {
            wrong.push(format!(
                "{new:?}: expected line {line} and {words:?}, got {}: {error}",
                out.status
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_underlay_mtu_below_the_minimum_is_refused() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    ns.ip("link set eth0 mtu 600");
    let out = check(&ns, GOOD);
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{error}");
    assert!(error.contains("MTU") && error.contains("600"), "{error}");
}
