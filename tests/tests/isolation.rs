//! Nothing passes between a tenant and the host's stack, whatever carries the frames of its port.
//!
//! ```text
//! t11: its stack, raw frames ── t11 of h1: vtepd, the host's stack ── eth0 ── fabric ── h9
//! ```

use vtep_tests::fabric::{Fabric, vtep4, vtep6};
use vtep_tests::link::{Host, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::program::Program;
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

/// The link-local address of the host on the port's interface.
const LINK_LOCAL: &str = "fe80::99";

/// A hypervisor whose stack is ready to talk to the tenant.
struct Site {
    vtepd: Vtepd,
    tenant: Host,
    host: Netns,
    _fabric: Fabric,
}

fn config(io: &str) -> Config {
    Config::new(vtep4(1))
        .io(io)
        .vni(100, &[vtep4(9)])
        .port("t11", &[mac(11)])
}

impl Site {
    fn new(io: &str) -> Self {
        let fabric = Fabric::new(1600);
        let host = fabric.hypervisor(1);
        let tenant = Host::new(&host, 11);
        let vtepd = Vtepd::start(&host, &config(io));
        host.sysctl("net.ipv4.conf.all.rp_filter=0");
        host.sysctl("net.ipv4.conf.t11.rp_filter=0");
        host.sysctl("net.ipv4.icmp_echo_ignore_broadcasts=0");
        host.sysctl("net.ipv6.conf.t11.disable_ipv6=0");
        host.ip(&format!("addr add {LINK_LOCAL}/64 dev t11 nodad"));
        let to_host = host.mac("t11");
        let ns = &tenant.ns;
        ns.ip("route add 203.0.113.0/24 dev eth0");
        ns.ip("route add 2001:db8:1::/64 dev eth0");
        ns.ip(&format!(
            "neigh replace {} lladdr {to_host} dev eth0",
            vtep4(1)
        ));
        ns.ip(&format!(
            "neigh replace {} lladdr {to_host} dev eth0",
            vtep6(1)
        ));
        Self {
            vtepd,
            tenant,
            host,
            _fabric: fabric,
        }
    }

    /// Everything that the tenant's stack can say to the host.
    fn tenant_talks(&self) {
        let ns = &self.tenant.ns;
        for to in [
            vtep4(1).to_string(),
            vtep6(1).to_string(),
            // Asks for its MAC.
            "203.0.113.77".to_owned(),
            "-b 255.255.255.255".to_owned(),
            "224.0.0.1".to_owned(),
            format!("{LINK_LOCAL}%eth0"),
            "ff02::1%eth0".to_owned(),
            "ff02::2%eth0".to_owned(),
        ] {
            let _ = ns.try_run(&format!("ping -I eth0 -c 2 -i 0.01 -W 0.2 {to}"));
        }
        let _ = ns.try_run(&format!("arping -I eth0 -c 1 -w 1 {}", vtep4(1)));
    }

    /// Everything that the host's stack can say to the tenant.
    fn host_talks(&self) {
        let host = &self.host;
        for to in ["192.0.2.11", "ff02::1%t11", "fe80::11%t11", "224.0.0.1"] {
            let _ = host.try_run(&format!("ping -I t11 -c 2 -i 0.01 -W 0.2 {to}"));
        }
        let _ = host.try_run("arping -I t11 -c 1 -w 1 192.0.2.11");
        // Joins groups and looks for routers.
        host.ip("link set t11 multicast off");
        host.ip("link set t11 multicast on");
    }

    /// What the host's stack has received on the port's interface and answered, of IPv6; the
    /// neighbors that it has there.
    fn host_has_seen(&self) -> (u64, u64, u64, String) {
        let counters = self.host.run("cat /proc/net/dev_snmp6/t11");
        let counter = |name: &str| {
            let mut lines = counters.lines().map(|line| line.split_whitespace());
            let value = lines.find_map(|mut line| (line.next() == Some(name)).then(|| line.next()));
            let value = value.flatten().and_then(|text| text.parse::<u64>().ok());
            value.unwrap_or_else(|| panic!("{name}: {counters}"))
        };
        let octets = self.host.run("nstat -azj IpInReceives IpExtInOctets");
        let octets: serde_json::Value = serde_json::from_str(&octets).expect("JSON");
        let octets = &octets["kernel"];
        let v4 = ["IpInReceives", "IpExtInOctets"].map(|name| octets[name].as_u64());
        let v4: u64 = v4.into_iter().map(|value| value.expect("a number")).sum();
        let neighbors = self.host.ip("neigh show dev t11");
        (
            counter("Ip6InReceives"),
            counter("Ip6InOctets"),
            v4,
            neighbors,
        )
    }
}

/// The frames from a MAC.
fn from(frames: &[Vec<u8>], mac: &str) -> usize {
    let mac: Vec<u8> = mac
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).expect("hexadecimal"))
        .collect();
    frames.iter().filter(|frame| frame[6..12] == mac).count()
}

fn nothing_passes(io: &str) {
    let site = Site::new(io);
    let wire = Raw::open(&site.tenant.ns, "eth0", Kind::Packet);
    let before = site.host_has_seen();
    site.tenant_talks();
    let hosts = site.host.mac("t11");
    assert_eq!(
        before,
        site.host_has_seen(),
        "the host's stack has seen the tenant"
    );
    assert_eq!(from(&wire.take(), &hosts), 0, "the host has answered");
    site.host_talks();
    assert_eq!(from(&wire.take(), &hosts), 0, "the host has been heard");
    let rows = site.vtepd.show("ports")["rows"].clone();
    let row = rows.as_array().expect("an array");
    let row = row.iter().find(|row| row["interface"] == "t11");
    let row = row.expect("a row");
    assert_eq!(row["io"], io, "{row}");
    assert!(row["host_frames"].as_u64() > Some(3), "{row}");
    // Without the port, each side hears the other: what was tried here can be seen.
    site.vtepd.done("port del t11 --vni 100");
    site.tenant_talks();
    let after = site.host_has_seen();
    assert!(
        after.0 > before.0 && after.1 > before.1 && after.2 > before.2,
        "{before:?} {after:?}"
    );
    site.host_talks();
    wait_for("frames of the host", 5, || {
        (from(&wire.frames(), &hosts) > 3).then_some(())
    });
}

#[test]
fn nothing_passes_between_the_host_and_a_tenant_with_packet_sockets() {
    nothing_passes("packet");
}

#[test]
fn nothing_passes_between_the_host_and_a_tenant_with_af_xdp_sockets() {
    nothing_passes("xdp");
}

/// The interface is closed and opened again.
#[test]
fn nothing_passes_while_the_kind_of_sockets_is_changed() {
    let site = Site::new("packet");
    let (ns, host) = (&site.tenant.ns, &site.host);
    host.ip(&format!(
        "neigh replace fe80::11 lladdr {} dev t11",
        mac(11)
    ));
    let wire = Raw::open(ns, "eth0", Kind::Packet);
    let before = site.host_has_seen();
    let ping = |from: &Netns, words: &str| {
        let line = format!("ping -q -i 0.001 -W 1 {words}");
        let words: Vec<_> = line.split(' ').collect();
        Program::start(from, site.vtepd.dir(), &words)
    };
    let pings = [
        ping(ns, &format!("-I eth0 {}", vtep4(1))),
        ping(ns, "-I eth0 ff02::1%eth0"),
        ping(host, "-I t11 fe80::11%t11"),
    ];
    for io in ["xdp", "packet", "xdp", "packet"] {
        site.vtepd.rewrite(&config(io));
        site.vtepd.done("config apply");
    }
    drop(pings);
    let after = site.host_has_seen();
    let counters = |seen: &(u64, u64, u64, String)| (seen.0, seen.1, seen.2);
    assert_eq!(
        counters(&before),
        counters(&after),
        "the host's stack has seen the tenant"
    );
    assert_eq!(
        from(&wire.take(), &host.mac("t11")),
        0,
        "the host has been heard"
    );
    assert!(
        site.vtepd.drops("no-socket") > 0,
        "frames that came meanwhile are counted"
    );
}
