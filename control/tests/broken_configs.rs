//! Invalid configurations: each is rejected with its line, its key, the invalid value and the
//! remedy.

use std::net::IpAddr;

use vtep_control::config::{HostFacts, InterfaceFacts, Missing, parse};

/// Lines 1 to 5 of every configuration below.
const HEAD: &str = "[vtep]\naddress = \"203.0.113.2\"\nunderlay = [\"eth0\"]\n[[vni]]\nid = 100\n";

/// (what, text after HEAD or a whole text that begins with `!`, the message).
const BROKEN: &[(&str, &str, &str)] = &[
    (
        "unknown key",
        "supress = true",
        r#"f:6: vni.supress: unknown key; did you mean "suppress"?"#,
    ),
    ("no TOML", "id 100", "f:6: invalid TOML: "),
    (
        "wrong type",
        "suppress = \"yes\"",
        r#"f:6: vni.suppress: invalid value "yes": must be true or false"#,
    ),
    (
        "VNI too high",
        "[[vni]]\nid = 16777216",
        "f:7: vni.id: invalid VNI 16777216: must be 1 to 16777215 (24 bits, RFC 7348 section 5)",
    ),
    (
        "VNI zero",
        "[[vni]]\nid = 0",
        "f:7: vni.id: invalid VNI 0: must be 1 to 16777215",
    ),
    (
        "VNI twice",
        "[[vni]]\nid = 100",
        "f:7: vni.id: VNI 100 exists already; each VNI has one entry",
    ),
    (
        "route distinguisher twice",
        "rd = \"65000:7\"\n[[vni]]\nid = 200\nrd = \"65000:7\"",
        "f:9: vni.rd: 65000:7 is already the route distinguisher of VNI 100; give each VNI its \
         own, or write \"auto\"",
    ),
    (
        "the automatic route distinguisher of another VNI",
        "rd = \"203.0.113.1:200\"\n[[vni]]\nid = 200\n[bgp]\nasn = 65000\nrouter-id = \"203.0.113.1\"",
        "f:7: vni.rd: 203.0.113.1:200 of VNI 100 is the automatic route distinguisher of VNI 200",
    ),
    (
        "VNI without id",
        "[[vni]]\nsuppress = true",
        "f:6: vni.id: missing; write id = 100",
    ),
    (
        "bad MAC",
        "[[vni.port]]\ninterface = \"a\"\nmacs = [\n\"50:54:33:00:00:0a\",\n\"50:54\"]",
        r#"f:10: vni.port.macs: invalid MAC address "50:54": must be six hexadecimal octets"#,
    ),
    (
        "multicast MAC",
        "[[vni.fdb]]\nmac = \"01:00:5e:00:00:01\"\nvtep = \"203.0.113.3\"",
        "f:7: vni.fdb.mac: invalid host MAC address 01:00:5e:00:00:01: must be unicast, not \
         multicast",
    ),
    (
        "MAC twice",
        "[[vni.port]]\ninterface = \"a\"\nmacs = [\"02:00:00:00:00:01\"]\n[[vni.port]]\ninterface \
         = \"b\"\nmacs = [\"02:00:00:00:00:01\"]",
        "f:11: vni.port.macs: 02:00:00:00:00:01 is already behind port a of VNI 100; a MAC \
         belongs to one port of a VNI",
    ),
    (
        "fdb twice",
        "[[vni.fdb]]\nmac = \"02:00:00:00:00:01\"\nvtep = \"203.0.113.3\"\n[[vni.fdb]]\nmac = \
         \"02:00:00:00:00:01\"\nvtep = \"203.0.113.4\"",
        "f:10: vni.fdb.mac: 02:00:00:00:00:01 is already in the fdb of VNI 100 behind VTEP \
         203.0.113.3; delete that entry first",
    ),
    (
        "fdb local",
        "[[vni.fdb]]\nmac = \"02:00:00:00:00:01\"\nvtep = \
         \"203.0.113.3\"\n[[vni.port]]\ninterface = \"a\"\nmacs = [\"02:00:00:00:00:01\"]",
        "f:7: vni.fdb.mac: 02:00:00:00:00:01 is a local MAC behind port a of VNI 100; it can't be \
         remote too",
    ),
    (
        "own address",
        "[[vni.fdb]]\nmac = \"02:00:00:00:00:01\"\nvtep = \"203.0.113.2\"",
        "f:8: vni.fdb.vtep: 203.0.113.2 is a local VTEP address; name the remote VTEP",
    ),
    (
        "family",
        "flood = [\"2001:db8::9\"]",
        "f:6: vni.flood: 2001:db8::9 is IPv6, and no local VTEP address is of that family; add \
         one to vtep.address",
    ),
    (
        "group that is not routed",
        "flood = \"224.0.0.5\"",
        "f:6: vni.flood: invalid multicast group 224.0.0.5: must be routed, such as 239.1.1.1 or \
         ff05::100",
    ),
    (
        "group and list",
        "flood = [\"203.0.113.9\",\n\"239.1.1.1\"]",
        "f:7: vni.flood: VNI 100 floods to the group 239.1.1.1; flood to one multicast group or \
         to a list of VTEPs, not to both",
    ),
    (
        "group of another family",
        "flood = [\"ff05::100\"]",
        "f:6: vni.flood: ff05::100 is an IPv6 group, and no local VTEP address is of that family; \
         add one to vtep.address",
    ),
    (
        "flood twice",
        "flood = [\"203.0.113.9\",\n\"203.0.113.9\"]",
        "f:7: vni.flood: 203.0.113.9 is already in the flood list of VNI 100",
    ),
    (
        "interface twice",
        "[[vni.port]]\ninterface = \"a\"\n[[vni]]\nid = 200\n[[vni.port]]\ninterface = \"a\"",
        "f:11: vni.port.interface: interface used twice: a conflicts with a in VNI 100; use \
         another interface, or give each port a vlan of its own",
    ),
    (
        "trunk and whole",
        "[[vni.port]]\ninterface = \"a\"\nvlan = 10\n[[vni.port]]\ninterface = \"a\"",
        "f:10: vni.port.interface: interface used twice: a conflicts with a vlan 10 in VNI 100",
    ),
    (
        "underlay as tenant",
        "[[vni.port]]\ninterface = \"eth0\"",
        "f:7: vni.port.interface: eth0 is an underlay interface and can't be a tenant port too; \
         use another interface",
    ),
    (
        "interface name",
        "[[vni.port]]\ninterface = \"a-name-that-is-too-long\"",
        "f:7: vni.port.interface: invalid interface name \"a-name-that-is-too-long\"",
    ),
    (
        "vlan",
        "[[vni.port]]\ninterface = \"a\"\nvlan = 4095",
        "f:8: vni.port.vlan: invalid value 4095: must be an integer from 1 to 4094",
    ),
    (
        "lock without macs",
        "[[vni.port]]\ninterface = \"a\"\nlock = true",
        "f:8: vni.port.lock: a locked port without macs accepts no frames; list the hosts in \
         macs, or write lock = false",
    ),
    (
        "storm",
        "[[vni.port]]\ninterface = \"a\"\nstorm = { rate = 0, burst = 1 }",
        "f:8: vni.port.storm.rate: invalid value 0: must be an integer from 1 to 4294967295",
    ),
    (
        "io",
        "[[vni.port]]\ninterface = \"a\"\nio = \"af-xdp\"",
        r#"f:8: vni.port.io: invalid value "af-xdp": must be one of "auto", "xdp", "packet""#,
    ),
    (
        "underlay-io",
        "!underlay-io = \"af-packet\"",
        r#"f:4: vtep.underlay-io: invalid value "af-packet": must be one of "auto", "xdp", "packet""#,
    ),
    (
        "packet sockets for the underlay, and zero-copy required of it",
        "!underlay-io = \"packet\"\n[vtep.afxdp]\nmode = \"zero-copy\"",
        "f:4: vtep.underlay-io: invalid value \"packet\": [vtep.afxdp] mode = \"zero-copy\" requires AF_XDP of the \
         underlay; write underlay-io = \"xdp\", or another mode",
    ),
    (
        "two ports of an interface with different io",
        "[[vni.port]]\ninterface = \"a\"\nvlan = 5\nio = \"packet\"\n[[vni.port]]\ninterface = \
         \"a\"\nvlan = 6",
        r#"f:10: vni.port.io: a vlan 6 has io = "auto", and a vlan 5 of the same interface "packet"; write one io"#,
    ),
    (
        "checksum",
        "[[vni.port]]\ninterface = \"a\"\nchecksum = \"off\"",
        r#"f:8: vni.port.checksum: invalid value "off": must be one of "auto", "complete", "trust""#,
    ),
    (
        "neighbor",
        "[[vni.neighbor]]\nip = \"224.0.0.1\"\nmac = \"02:00:00:00:00:01\"",
        "f:7: vni.neighbor.ip: invalid host address 224.0.0.1: must be a unicast address, not a multicast address",
    ),
    (
        "learning on a locked port",
        "[[vni.port]]\ninterface = \"a\"\nmacs = [\"02:00:00:00:00:01\"]\nlock = \
         true\nlearn-limit = 5",
        "f:10: vni.port.learn-limit: a locked port learns nothing; write lock = false, or remove \
         the key",
    ),
    (
        "age without limit",
        "[[vni.port]]\ninterface = \"a\"\nlearn-age = 50",
        "f:8: vni.port.learn-age: nothing is learned without a limit; write learn-limit = 100 \
         too, or remove the key",
    ),
    (
        "lifetime in a file",
        "[[vni.fdb]]\nmac = \"02:00:00:00:00:01\"\nvtep = \"203.0.113.3\"\nlifetime = 60",
        "f:9: vni.fdb.lifetime: unknown key; known in [vni.fdb] are: mac, vtep",
    ),
    (
        "bgp without asn",
        "[bgp]",
        "f:6: bgp.asn: missing; write asn = 65000",
    ),
    (
        "reserved AS",
        "[bgp]\nasn = 23456",
        "f:7: bgp.asn: AS 23456 is reserved; write your own AS number",
    ),
    (
        "AS zero",
        "[bgp]\nasn = 0",
        "f:7: bgp.asn: invalid value 0: must be an integer from 1 to 4294967294",
    ),
    (
        "router-id",
        "[bgp]\nasn = 65000\nrouter-id = \"2001:db8::1\"",
        "f:8: bgp.router-id: invalid router identifier 2001:db8::1: must be an IPv4 address",
    ),
    (
        "hold time",
        "[bgp]\nasn = 65000\nhold-time = 2",
        "f:8: bgp.hold-time: invalid value 2: must be 0, or seconds from 3 to 65535 (RFC 4271 \
         section 4.2)",
    ),
    (
        "freeze",
        "[bgp]\nasn = 65000\nduplicate-freeze = \"never\"",
        r#"f:8: bgp.duplicate-freeze: invalid value "never": must be seconds or "permanent""#,
    ),
    (
        "neighbor without AS",
        "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"203.0.113.254\"",
        "f:8: bgp.neighbor.remote-asn: missing; write remote-asn = 65000",
    ),
    (
        "neighbor twice",
        "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"203.0.113.254\"\nremote-asn = \
         65000\n[[bgp.neighbor]]\naddress = \"203.0.113.254\"\nremote-asn = 65001",
        "f:12: bgp.neighbor.address: 203.0.113.254 is already a BGP neighbor; each has one entry",
    ),
    (
        "we as neighbor",
        "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"203.0.113.2\"\nremote-asn = 65000",
        "f:9: bgp.neighbor.address: 203.0.113.2 is a local VTEP address; write the neighbor's",
    ),
    (
        "IPv4-mapped neighbor (finding C5)",
        "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"::ffff:203.0.113.254\"\nremote-asn = 65000",
        "f:9: bgp.neighbor.address: invalid router address ::ffff:203.0.113.254: must be a unicast \
         address that is routed, not IPv4-mapped",
    ),
    (
        "local address of another family",
        "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"203.0.113.254\"\nremote-asn = \
         65000\nlocal-address = \"2001:db8::2\"",
        "f:11: bgp.neighbor.local-address: 2001:db8::2 is of another address family than the \
         neighbor's 203.0.113.254",
    ),
    (
        "password file",
        "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"203.0.113.254\"\nremote-asn = \
         65000\npassword-file = \"/etc/vtepd/no-such.key\"",
        "f:11: bgp.neighbor.password-file: /etc/vtepd/no-such.key: can't be read: ",
    ),
    (
        "hops",
        "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"203.0.113.254\"\nremote-asn = \
         65000\nttl-security = 255",
        "f:11: bgp.neighbor.ttl-security: invalid value 255: must be an integer from 1 to 254",
    ),
    (
        "max-prefixes",
        "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"203.0.113.254\"\nremote-asn = \
         65000\nmax-prefixes = { retry = 30 }",
        "f:11: bgp.neighbor.max-prefixes.limit: missing; write limit = 100000",
    ),
    (
        "graceful restart",
        "[bgp]\nasn = 65000\n[[bgp.neighbor]]\naddress = \"203.0.113.254\"\nremote-asn = \
         65000\ngraceful-restart = 120",
        "f:11: bgp.neighbor.graceful-restart: invalid value 120: must be true or false, or { \
         restart-time = S, stale-time = S }",
    ),
    (
        "route target",
        "import-rt = [\"auto\",\n\"65536:65536\"]",
        "f:7: vni.import-rt: invalid route target \"65536:65536\": must be \"AS:n\" or \"IP:n\", \
         such as \"65000:100\"",
    ),
    (
        "route target twice",
        "export-rt = [\"1:1\", \"1:1\"]",
        "f:6: vni.export-rt: 1:1 is listed twice",
    ),
    (
        "no route target",
        "export-rt = []",
        "f:6: vni.export-rt: empty; list route targets, \"auto\" among them or not",
    ),
    (
        "route distinguisher",
        "rd = \"100\"",
        "f:6: vni.rd: invalid route distinguisher \"100\": must be \"AS:n\"",
    ),
    (
        "ethernet tag",
        "ethernet-tag = \"100\"",
        r#"f:6: vni.ethernet-tag: invalid value "100": must be one of "zero", "vni""#,
    ),
    (
        "max-macs",
        "max-macs = 0",
        "f:6: vni.max-macs: invalid value 0: must be an integer from 1 to 4294967295",
    ),
    (
        "ttl",
        "!ttl = 0",
        "f:4: vtep.ttl: invalid value 0: must be an integer from 1 to 255",
    ),
    (
        "dscp",
        "!dscp = 64",
        "f:4: vtep.dscp: invalid value 64: must be \"inherit\" or an integer from 0 to 63",
    ),
    (
        "udp port",
        "!udp-port = 0",
        "f:4: vtep.udp-port: invalid value 0: must be an integer from 1 to 65535",
    ),
    (
        "cores",
        "!cores = [1, 1]",
        "f:4: vtep.cores: 1 is listed twice",
    ),
    (
        "frames",
        "!afxdp = { frames = 10000 }",
        "f:4: vtep.afxdp.frames: invalid value 10000: must be a power of two, such as 8192 or \
         16384",
    ),
    (
        "few frames",
        "!afxdp = { frames = 64 }",
        "f:4: vtep.afxdp.frames: invalid value 64: must be an integer from 2048 to 1048576, a \
         power of two",
    ),
    (
        "frame size",
        "![vtep.afxdp]\nframe-size = 1500",
        "f:5: vtep.afxdp.frame-size: invalid value 1500: must be 2048 or 4096",
    ),
    (
        "mode",
        "!afxdp.mode = \"fast\"",
        r#"f:4: vtep.afxdp.mode: invalid value "fast": must be one of "auto", "zero-copy", "copy", "generic""#,
    ),
    (
        "metrics",
        "![control]\nmetrics = \"9464\"",
        r#"f:5: control.metrics: invalid address "9464": must be address and port, such as "127.0.0.1:9464""#,
    ),
    (
        "socket",
        "![control]\nsocket = \"vtepd.sock\"",
        r#"f:5: control.socket: invalid socket path "vtepd.sock": must be absolute"#,
    ),
];

#[test]
fn each_broken_configuration_is_refused_with_line_and_remedy() {
    for (what, text, wanted) in BROKEN {
        let vtep = HEAD.lines().take(3).collect::<Vec<_>>().join("\n");
        let whole = text
            .strip_prefix('!')
            .map_or(format!("{HEAD}{text}"), |own| format!("{vtep}\n{own}"));
        let problems = parse("f", &whole).expect_err(what).to_string();
        assert!(
            problems.starts_with(wanted),
            "{what}: wanted\n{wanted}\ngot\n{problems}"
        );
        assert_eq!(
            problems.lines().count(),
            1,
            "{what}: one problem, not\n{problems}"
        );
    }
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_lines() {
    let text = "[vtep]\naddress = [\"203.0.113.2\", \"203.0.113.3\"]\nttl = \"x\"\n[[vni]]\nid = \
        \"a\"\nflod = []\n";
    let problems = parse("f", text).unwrap_err().to_string();
    let wanted = [
        "f:1: vtep.underlay: missing or empty",
        "f:2: vtep.address: 203.0.113.2 and 203.0.113.3 are both IPv4; write at most one of each \
         family",
        "f:3: vtep.ttl: invalid value \"x\": must be an integer from 1 to 255",
        "f:5: vni.id: invalid VNI \"a\": must be 1 to 16777215",
        "f:6: vni.flod: unknown key; did you mean \"flood\"?",
    ];
    let lines: Vec<_> = problems.lines().collect();
    assert_eq!(lines.len(), wanted.len(), "{problems}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(wanted), "wanted {wanted}\ngot {line}");
    }
}

/// A host with two cores, 203.0.113.2, and interfaces by MTU.
struct Host(&'static [(&'static str, u32)]);

impl HostFacts for Host {
    fn interface(&self, name: &str) -> Option<InterfaceFacts> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, mtu)| InterfaceFacts { mtu: *mtu })
    }

    fn has_address(&self, address: IpAddr) -> bool {
        address == IpAddr::from([203, 0, 113, 2])
    }

    fn tenant_obstacle(&self, name: &str) -> Option<(String, bool)> {
        let reason = "interface lo can't be a tenant port".to_owned();
        (name == "lo").then_some((reason, false))
    }

    fn underlay_obstacle(&self, name: &str) -> Option<String> {
        (name == "bond0").then(|| "interface bond0 can't be an underlay interface".to_owned())
    }

    fn cores(&self) -> usize {
        2
    }
}

#[test]
fn the_host_must_have_what_the_configuration_names() {
    let text = format!("{HEAD}[[vni.port]]\ninterface = \"a\"\n");
    let check = |text: &str, host: Host| {
        let problems = parse("f", text)
            .unwrap()
            .check_host(&host, Missing::Refused);
        (problems.has_errors(), problems.to_string())
    };
    let good = check(&text, Host(&[("eth0", 1550), ("a", 1500)]));
    assert_eq!(good, (false, String::new()));
    let (refused, obstacle) = check(
        &text.replace("\"a\"", "\"lo\""),
        Host(&[("eth0", 1550), ("lo", 65536)]),
    );
    assert!(
        refused && obstacle.contains("f:7: vni.port.interface: interface lo can't be"),
        "{obstacle}"
    );
    // Findings C19 and N5.
    let (refused, bond) = check(
        &text.replace("\"eth0\"", "\"bond0\""),
        Host(&[("bond0", 1550)]),
    );
    assert!(
        refused && bond.contains("f:3: vtep.underlay: interface bond0 can't be an underlay"),
        "{bond}"
    );
    let absent = check(&text, Host(&[("eth0", 1550)]));
    assert_eq!(
        (absent.0, &absent.1[..30]),
        (false, "f:7: warning: vni.port.interfa")
    );
    let (refused, warning) = check(&text, Host(&[("eth0", 1500), ("a", 1500)]));
    assert!(
        !refused && warning.contains("set the MTU of a to 1450 or that of the underlay to 1550"),
        "{warning}"
    );
    let (refused, small) = check(&text, Host(&[("eth0", 600), ("a", 1500)]));
    assert!(
        refused && small.contains("f:3: vtep.underlay: the MTU of eth0, 600, is too small"),
        "{small}"
    );
    let other = text
        .replace("113.2\"", "113.7\"")
        .replace("[[vni]]", "cores = [1, 2]\n[[vni]]");
    let (refused, missing) = check(&other, Host(&[("a", 1500)]));
    let starts = [
        "f:2: vtep.address: 203.0.113.7 is on no interface",
        "f:3: vtep.underlay: no interface eth0",
        "f:4: vtep.cores: this host has no core 2; its cores are 0 to 1",
    ];
    assert!(refused);
    for (line, start) in missing.lines().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(missing.lines().count(), 3);
}
