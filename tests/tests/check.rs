//! `vtepd --check` rejects configurations that cannot work, and reports the line and the remedy.
//!
//! ```text
//! t11 ── h1: vtepd --check, not running ── eth0 ── fabric
//! ```

use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::link::Host;
use vtep_tests::vtepd::{Config, Vtepd, check};

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
    (
        "underlay = [\"eth0\"]",
        "underlay = [\"eth0\"]\ncores = []",
        4,
        &["vtep.cores", "empty"],
    ),
    (
        "underlay = [\"eth0\"]",
        "underlay = [\"eth0\"]\ncores = [\"a\"]",
        4,
        &["vtep.cores", "0 to 65535"],
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

/// `--check` reports what a start would meet, of every kind and in one round, each with its line
/// (finding O6).
#[test]
fn everything_that_a_start_would_refuse_is_reported_in_one_round() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let taken = ns.inside(|| std::net::TcpListener::bind("127.0.0.1:9464"));
    let _taken = taken.expect("a free port in a new namespace");
    let file = std::env::temp_dir().join(format!("not-a-socket-{}", std::process::id()));
    std::fs::write(&file, "").expect("the temporary directory can be written");
    let text = format!(
        "[vtep]\naddress = \"203.0.113.77\"\nunderlay = [\"eth9\", \"eth0\"]\n[vtep.afxdp]\nmode = \
         \"zero-copy\"\nframes = 1048576\nhuge-pages = true\n[control]\nsocket = {file:?}\ngroup = \
         \"nosuchgroup\"\nmetrics = \"127.0.0.1:9464\"\n[[vni]]\nid = 100\nsupress = \
         true\n[[vni.port]]\ninterface = \"t11\"\n"
    );
    let out = check(&ns, &text);
    std::fs::remove_file(&file).expect("it is ours");
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{error}");
    for wanted in [
        "vtepd.toml:2: vtep.address: 203.0.113.77 is on no interface",
        "vtepd.toml:3: vtep.underlay: no interface eth9",
        "vtepd.toml:5: vtep.afxdp.mode: interface eth0: ",
        "vtepd.toml:7: vtep.afxdp.huge-pages: ",
        "vtepd.toml:9: control.socket: ",
        "vtepd.toml:10: control.group: no group \"nosuchgroup\"",
        "vtepd.toml:11: control.metrics: can't listen on 127.0.0.1:9464",
        "vtepd.toml:14: vni.supress: unknown key",
    ] {
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

/// A path with a typing error does not become a tree of directories (finding O12), and addresses
/// of other hosts are no place to listen (finding O6).
#[test]
fn directories_and_addresses_that_are_not_there_are_refused() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    for (control, wanted) in [
        (
            "socket = \"/rnu/vtepd/control.sock\"",
            "vtepd.toml:14: control.socket: the directory /rnu does not exist",
        ),
        (
            "metrics = \"198.51.100.1:9464\"",
            "vtepd.toml:14: control.metrics: can't listen on 198.51.100.1:9464",
        ),
    ] {
        let out = check(&ns, &format!("{GOOD}[control]\n{control}\n"));
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{error}");
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    assert!(!std::path::Path::new("/rnu").exists());
}

/// Frames are counted against the queues of all interfaces that exist (finding O6).
#[test]
fn frames_that_do_not_suffice_for_all_queues_are_reported_with_the_number_that_does() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let mut text = format!("{GOOD}[vtep.afxdp]\nframes = 2048\n[[vni]]\nid = 200\n");
    for n in 0..40 {
        ns.ip(&format!("link add v{n} type veth peer name w{n}"));
        text.push_str(&format!(
            "[[vni.port]]\ninterface = \"v{n}\"\nio = \"xdp\"\n"
        ));
    }
    let out = check(&ns, &text);
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{error}");
    let wanted = "vtepd.toml:14: vtep.afxdp.frames: 2048 frames are too few for the 40 queues";
    assert!(
        error.contains(wanted) && error.contains("write frames = "),
        "{error}"
    );
    // Packet sockets hold none.
    let out = check(&ns, &text.replace("io = \"xdp\"", "io = \"packet\""));
    assert!(out.status.success(), "{out:?}");
    let frames = error.split("write frames = ").nth(1).expect("found above");
    let frames = frames.lines().next().expect("one line");
    let out = check(
        &ns,
        &text.replace("frames = 2048", &format!("frames = {frames}")),
    );
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// "auto" is packet sockets on veth, unless the file sets what only AF_XDP has.
#[test]
fn the_sockets_of_the_underlay_are_named_with_the_reason() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    for (keys, kind) in [
        ("", "packet: an interface without hardware"),
        ("underlay-io = \"xdp\"", "xdp: as configured"),
        ("underlay-io = \"packet\"", "packet: as configured"),
        ("afxdp.mode = \"copy\"", "xdp: [vtep.afxdp] sets mode"),
        ("afxdp.busy-poll = true", "xdp: [vtep.afxdp] sets mode"),
        ("afxdp.busy-poll = false", "packet: an interface without"),
    ] {
        let keys = format!("underlay = [\"eth0\"]\n{keys}");
        let out = check(&ns, &GOOD.replace("underlay = [\"eth0\"]", &keys));
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{out:?}");
        let wanted = format!("\nunderlay eth0: I/O {kind}");
        assert!(text.contains(&wanted), "{keys}: {text}");
    }
}

/// Interfaces that exist and can't be what the file says, whatever their `io`.
#[test]
fn interfaces_that_exist_and_are_impossible_are_reported() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    ns.ip("tuntap add tun0 mode tun");
    for io in ["auto", "xdp", "packet"] {
        let port = format!("interface = \"tun0\"\nio = \"{io}\"");
        let out = check(&ns, &GOOD.replace("interface = \"t11\"", &port));
        let error = String::from_utf8_lossy(&out.stderr);
        let wanted = "vtepd.toml:8: vni.port.interface: interface tun0 can't be a tenant port: its frames have no \
                      Ethernet header; use a tap";
        assert_eq!(out.status.code(), Some(1), "{io}: {error}");
        assert!(error.contains(wanted), "{io}: {error}");
    }
    for (name, why) in [("lo", "the loopback interface"), ("tun0", "no Ethernet")] {
        let underlay = format!("underlay = [\"{name}\"]");
        let out = check(&ns, &GOOD.replace("underlay = [\"eth0\"]", &underlay));
        let error = String::from_utf8_lossy(&out.stderr);
        let wanted = format!("vtepd.toml:3: vtep.underlay: interface {name} can't be an underlay");
        assert_eq!(out.status.code(), Some(1), "{error}");
        assert!(error.contains(&wanted) && error.contains(why), "{error}");
    }
    // Its program is that of another process, for one with another control socket.
    let _other = Vtepd::start(&ns, &Config::new(vtep4(1)).underlay_io("xdp"));
    for (io, effect) in [
        ("packet", "which takes VXLAN before vtepd"),
        ("xdp", "so that vtepd can't attach its own"),
    ] {
        let keys = format!("underlay = [\"eth0\"]\nunderlay-io = \"{io}\"");
        let out = check(&ns, &GOOD.replace("underlay = [\"eth0\"]", &keys));
        let warned = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{warned}");
        let wanted = "vtepd.toml:3: warning: vtep.underlay: interface eth0 has XDP program";
        assert!(
            warned.contains(wanted) && warned.contains(effect),
            "{warned}"
        );
    }
}

/// A running daemon and what it holds are no reason to refuse its own file (finding O6).
#[test]
fn the_file_of_a_running_daemon_is_valid() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let _host = Host::new(&ns, 11);
    let config = Config::new(vtep4(1))
        .control("metrics = \"127.0.0.1:9464\"")
        .raw("[bgp]\nasn = 65000");
    let vtepd = Vtepd::start(&ns, &config);
    let text = std::fs::read_to_string(vtepd.config()).expect("the test wrote it");
    let out = check(&ns, &text);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{error}");
    assert!(!error.contains("9464") && !error.contains("179"), "{error}");
}
