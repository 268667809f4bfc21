//! Interfaces that the host uses itself, and policies of the host that vtepd bypasses: refused or
//! said, at `--check`, at start, over the socket and at run time.
//!
//! ```text
//! t11 ── h1: vtepd, bridges, addresses, IPsec policies, tc ── eth0 ── fabric ── eth0 ── h9: raw frames
//! ```

use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::link::{self, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::tools::programs;
use vtep_tests::topology::RawPair;
use vtep_tests::vtepd::{Config, Vtepd, binary, check};

/// A veth pair in one namespace, up, without IPv6.
fn veth(ns: &Netns, name: &str) {
    ns.ip(&format!("link add {name} type veth peer name {name}-x"));
    for end in [name.to_owned(), format!("{name}-x")] {
        ns.ip(&format!("link set {end} addrgenmode none up"));
    }
}

/// Interfaces that can't be tenant ports: their names, and what the refusal says.
const USED: [(&str, &str); 16] = [
    ("lo", "loopback"),
    ("br7", "it is a bridge"),
    ("member", "member of bridge br7"),
    ("default0", "the default route uses default0"),
    ("address0", "the host has address 198.18.1.1 on address0"),
    ("lower0", "the host has address 198.18.2.1 on upper0"),
    ("six0", "the host has address 2001:db8:6::1 on six0"),
    ("nested0", "the host has address 198.18.3.1 on nested2"),
    (
        "carrier0",
        "carrier1, which receives on it, is a member of bridge br8",
    ),
    (
        "guest0",
        "guest1, which receives on it, is the macvtap of a guest",
    ),
    ("balanced0", "the default route uses balanced0"),
    (
        "metadata0",
        "the host has address 169.254.169.254 on metadata0",
    ),
    (
        "routed0",
        "remove it with `ip route del 198.18.4.1/32 dev routed0`",
    ),
    (
        "routed6",
        "remove it with `ip -6 route del 2001:db8:7::1/128 dev routed6`",
    ),
    (
        "table0",
        "remove it with `ip route del default dev table0 table 1000`",
    ),
    ("over0", "the host's route 198.18.5.0/24 uses over1"),
];

fn use_interfaces(ns: &Netns) {
    link::bridge(ns, "br7");
    for (name, _) in &USED[2..] {
        veth(ns, name);
    }
    ns.ip("link set member master br7");
    ns.ip("route add default dev default0");
    ns.ip("addr add 198.18.1.1/24 dev address0");
    ns.ip("link add link lower0 name upper0 type macvlan");
    ns.ip("link set upper0 addrgenmode none up");
    ns.ip("addr add 198.18.2.1/24 dev upper0");
    ns.ip("addr add 2001:db8:6::1/64 dev six0 nodad");
    for (upper, lower, kind) in [
        ("nested1", "nested0", "macvlan"),
        ("nested2", "nested1", "macvlan"),
        ("carrier1", "carrier0", "macvlan"),
        ("guest1", "guest0", "macvtap"),
    ] {
        ns.ip(&format!("link add link {lower} name {upper} type {kind}"));
        ns.ip(&format!("link set {upper} addrgenmode none up"));
    }
    ns.ip("addr add 198.18.3.1/24 dev nested2");
    link::bridge(ns, "br8");
    ns.ip("link set carrier1 master br8");
    ns.ip("route add 128.0.0.0/1 dev balanced0");
    ns.ip("addr add 169.254.169.254/32 dev metadata0");
    ns.ip("route add 198.18.4.1/32 dev routed0");
    ns.ip("-6 route add 2001:db8:7::1/128 dev routed6");
    ns.ip("route add default dev table0 proto static table 1000");
    ns.ip("link add link over0 name over1 type macvlan");
    ns.ip("link set over1 addrgenmode none up");
    ns.ip("route add 198.18.5.0/24 dev over1 proto 196");
}

fn degraded(vtepd: &Vtepd) -> String {
    vtepd.show("status")["degraded"].to_string()
}

fn expect_degraded(vtepd: &Vtepd, part: &str) {
    wait_for(&format!("degraded: {part}"), 20, || {
        degraded(vtepd).contains(part).then_some(())
    });
}

fn expect_not_degraded(vtepd: &Vtepd, part: &str) {
    wait_for(&format!("no longer degraded: {part}"), 20, || {
        (!degraded(vtepd).contains(part)).then_some(())
    });
}

/// `port add` refuses them with the reason, and takes nothing from the host (finding O3).
#[test]
fn port_add_refuses_what_the_host_uses() {
    let pair = RawPair::new();
    let (ns, vtepd) = (&pair.hypervisors[0], &pair.vtepd);
    use_interfaces(ns);
    for (name, part) in USED {
        let output = vtepd.ctl(&format!("port add {name} --vni 100 --mac {}", mac(20)));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(
            error.contains("can't be a tenant port") && error.contains(part),
            "{error}"
        );
        assert!(programs(ns, name).is_empty(), "{name}");
    }
    // Nothing of the host any more: it can be a port.
    ns.ip("link set member nomaster");
    vtepd.done(&format!("port add member --vni 100 --mac {}", mac(20)));
}

/// `--check` names the line of each; what a guest's router advertisements may have caused is a
/// warning, so that it keeps no other port from being opened (finding O3).
#[test]
fn check_names_the_ports_that_the_host_uses() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    use_interfaces(&ns);
    for (name, part) in USED {
        let config = Config::new(vtep4(1)).vni(100, &[]).port(name, &[mac(20)]);
        let output = check(&ns, config.text());
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains("vni.port.interface") && text.contains(part),
            "{name}: {text}"
        );
        assert_eq!(output.status.success(), name == "six0", "{name}: {text}");
    }
    // A start leaves them to the host, and opens the others.
    let config = Config::new(vtep4(1))
        .vni(100, &[])
        .port("six0", &[mac(20)])
        .port("address0", &[mac(21)])
        .port("address0-x", &[mac(22)]);
    let vtepd = Vtepd::start(&ns, &config);
    expect_degraded(&vtepd, "198.18.1.1 on address0");
    assert!(programs(&ns, "address0").is_empty());
    assert!(!programs(&ns, "address0-x").is_empty());
    expect_degraded(&vtepd, "2001:db8:6::1 on six0");
    ns.ip("addr del 2001:db8:6::1/64 dev six0");
    wait_for("the port is up", 20, || {
        let rows = vtepd.show("ports")["rows"].clone();
        let rows = rows.as_array().expect("an array");
        let row = rows.iter().find(|row| row["interface"] == "six0");
        (row.expect("a row")["state"] == "up").then_some(())
    });
}

/// An interface that appears as a bridge is not opened; one that the host begins to use while it is
/// a port is said (finding O3).
#[test]
fn what_the_host_begins_to_use_at_run_time_is_said() {
    let pair = RawPair::new();
    let (ns, vtepd) = (&pair.hypervisors[0], &pair.vtepd);
    veth(ns, "late0");
    vtepd.done(&format!("port add late0 --vni 100 --mac {}", mac(20)));
    ns.ip("link del late0");
    link::bridge(ns, "late0");
    expect_degraded(
        vtepd,
        "interface late0 can't be a tenant port: it is a bridge",
    );
    assert!(programs(ns, "late0").is_empty());
    ns.ip("link del late0");
    veth(ns, "late0");
    expect_not_degraded(vtepd, "late0");
    ns.ip("addr add 198.18.3.1/24 dev late0");
    expect_degraded(vtepd, "198.18.3.1 on late0");
    ns.ip("addr del 198.18.3.1/24 dev late0");
    ns.ip("route add default dev late0");
    expect_degraded(vtepd, "the default route uses late0");
    ns.ip("route del default dev late0");
    // No event says that the kernel removes routes with the link.
    ns.ip("route add 198.18.4.1/32 dev late0");
    expect_degraded(vtepd, "the host's route 198.18.4.1/32 uses late0");
    ns.ip("link set late0 down");
    ns.ip("link set late0 up");
    expect_not_degraded(vtepd, "late0");
    link::bridge(ns, "br8");
    ns.ip("link set late0 master br8");
    expect_degraded(
        vtepd,
        "late0 can't be a tenant port: it is a member of bridge br8",
    );
    ns.ip("link set late0 nomaster");
    expect_not_degraded(vtepd, "late0");
}

/// IPsec policies for VXLAN, and tc on a tenant's port, do not apply to vtepd's frames: said while
/// they exist (finding D20).
#[test]
fn bypassed_policies_are_said_while_they_exist() {
    let pair = RawPair::new();
    let (ns, vtepd) = (&pair.hypervisors[0], &pair.vtepd);
    assert!(
        !degraded(vtepd).contains("does not apply"),
        "{}",
        degraded(vtepd)
    );
    let (us, them) = (vtep4(1), vtep4(9));
    let selector = format!("src {us}/32 dst {them}/32 proto udp dport 4789 dir out");
    let template = format!("tmpl src {us} dst {them} proto esp mode transport");
    ns.ip(&format!("xfrm policy add {selector} {template}"));
    expect_degraded(vtepd, "requires IPsec for VXLAN");
    // One that comes first excludes VXLAN from it, as its remedy says.
    ns.ip(&format!(
        "xfrm policy update {selector} priority 9 {template}"
    ));
    let exception = format!("src {us}/32 dst {them}/24 proto udp dport 4789 dir out");
    ns.ip(&format!(
        "xfrm policy add {exception} action allow priority 1"
    ));
    expect_not_degraded(vtepd, "IPsec");
    ns.ip(&format!("xfrm policy del {exception}"));
    expect_degraded(vtepd, "requires IPsec for VXLAN");
    ns.ip(&format!("xfrm policy del {selector}"));
    expect_not_degraded(vtepd, "IPsec");
    // What matches no policy is blocked: also said.
    ns.ip("xfrm policy setdefault out block");
    expect_degraded(vtepd, "blocks VXLAN");
    ns.ip("xfrm policy setdefault out accept");
    expect_not_degraded(vtepd, "IPsec");
    let selector = "src 0.0.0.0/0 dst 203.0.113.0/24 dir in";
    ns.ip(&format!("xfrm policy add {selector} action block"));
    expect_degraded(vtepd, "blocks VXLAN");
    ns.ip(&format!("xfrm policy del {selector}"));
    // Policies for other traffic do not concern it.
    ns.ip("xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 proto tcp dir out action block");
    ns.ip("xfrm policy add src 198.18.0.0/16 dst 198.18.0.0/16 dir out action block");
    ns.run("tc qdisc add dev t11 root tbf rate 20mbit burst 32kbit latency 50ms");
    expect_degraded(vtepd, "interface t11 has tc tbf");
    assert!(!degraded(vtepd).contains("IPsec"), "{}", degraded(vtepd));
    ns.run("tc qdisc add dev t11 clsact");
    expect_degraded(vtepd, "clsact");
    ns.run("tc qdisc del dev t11 root");
    ns.run("tc qdisc del dev t11 clsact");
    expect_not_degraded(vtepd, "t11");
}

/// What `--check` says about the configuration of a running daemon.
fn check_again(ns: &Netns, vtepd: &Vtepd) -> String {
    let (program, file) = (binary("vtepd"), vtepd.config());
    let words = [
        program.to_str().expect("ASCII"),
        "--config",
        file.to_str().expect("ASCII"),
        "--check",
    ];
    let output = ns.try_run_for(30, &words);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// The notes on the underlay's interface.
fn underlay_notes(vtepd: &Vtepd) -> String {
    let status = vtepd.show("status");
    let rows = status["interfaces"].as_array().cloned().unwrap_or_default();
    let row = rows.into_iter().find(|row| row["interface"] == "eth0");
    row.expect("eth0")["notes"].to_string()
}

/// tc and nftables of the underlay's interface apply to the host's other traffic alone, and those of
/// a port to nothing: said while they exist, and by `--check` (finding D20).
#[test]
fn bypassed_tc_and_nftables_of_the_underlay_are_said() {
    let pair = RawPair::new();
    let (ns, vtepd) = (&pair.hypervisors[0], &pair.vtepd);
    let nft = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/nft_hook.py");
    let expect_note = |part: &str, expected: bool| {
        wait_for(&format!("a note: {part}: {expected}"), 20, || {
            (underlay_notes(vtepd).contains(part) == expected).then_some(())
        });
    };
    expect_note("does not apply", false);
    ns.run("tc qdisc add dev eth0 root tbf rate 200mbit burst 32kbit latency 50ms");
    expect_note("interface eth0 has tc tbf", true);
    ns.run("tc qdisc add dev eth0 clsact");
    expect_note("clsact", true);
    ns.run(&format!("/usr/bin/python3 {nft} add eth0"));
    expect_note("interface eth0 has chains of nftables", true);
    assert!(
        !degraded(vtepd).contains("does not apply"),
        "{}",
        degraded(vtepd)
    );
    let text = check_again(ns, vtepd);
    for part in ["eth0 has tc tbf", "eth0 has chains of nftables"] {
        assert!(
            text.contains("warning") && text.contains(part),
            "{part}: {text}"
        );
    }
    ns.run(&format!("/usr/bin/python3 {nft} del eth0"));
    expect_note("nftables", false);
    ns.run("tc qdisc del dev eth0 root");
    ns.run("tc qdisc del dev eth0 clsact");
    expect_note("does not apply", false);
    ns.run(&format!("/usr/bin/python3 {nft} add t11"));
    expect_degraded(vtepd, "interface t11 has chains of nftables");
    ns.run(&format!("/usr/bin/python3 {nft} del t11"));
    expect_not_degraded(vtepd, "nftables");
}

/// A bridge over the underlay's NIC, and a Linux VXLAN device on our address and port: `--check`
/// warns, and `show status` says what does not work, and the remedy (finding D21).
#[test]
fn a_bridge_over_the_underlay_and_a_linux_vxlan_device_are_said() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let config = Config::new(vtep4(1)).vni(100, &[vtep4(9)]);
    let vtepd = Vtepd::start(&ns, &config);
    assert!(
        !degraded(&vtepd).contains("underlay interface"),
        "{}",
        degraded(&vtepd)
    );
    link::bridge(&ns, "vmbr0");
    ns.ip("link set vmbr0 mtu 1600");
    ns.ip(&format!("addr add {}/24 dev vmbr0", vtep4(1)));
    ns.ip("link set eth0 master vmbr0");
    ns.ip(&format!("addr del {}/24 dev eth0", vtep4(1)));
    expect_degraded(
        &vtepd,
        "underlay interface eth0 is a member of bridge vmbr0",
    );
    ns.ip(&format!(
        "link add vx7 type vxlan id 7 local {} dstport 4789",
        vtep4(1)
    ));
    expect_degraded(
        &vtepd,
        "the Linux VXLAN interface vx7 uses UDP port 4789 too",
    );
    ns.ip("link add vx8 type vxlan id 8 dstport 4790");
    ns.run("tc qdisc add dev vmbr0 root tbf rate 20mbit burst 32kbit latency 50ms");
    let selector = format!("src {}/32 dst 0.0.0.0/0 dir out", vtep4(1));
    ns.ip(&format!("xfrm policy add {selector} action block"));
    let text = check_again(&ns, &vtepd);
    for part in ["member of bridge vmbr0", "vx7", "blocks VXLAN"] {
        assert!(
            text.contains("warning") && text.contains(part),
            "{part}: {text}"
        );
    }
    assert!(!text.contains("vx8"), "{text}");
    ns.ip(&format!("xfrm policy del {selector}"));
    ns.ip("link del vx7");
    ns.ip(&format!("addr add {}/24 dev eth0", vtep4(1)));
    ns.ip("link set eth0 nomaster");
    ns.ip("link del vmbr0");
    expect_not_degraded(&vtepd, "underlay interface");
    expect_not_degraded(&vtepd, "vx7");
}
