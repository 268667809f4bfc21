//! Addresses of hosts: learned from ARP and ND, limited, aged; they move to another MAC when that
//! is legitimate, and stay when it is not.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: FRR ── t12
//! t31, t32 ──┘                                         (VNI 100)
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frame::{self, checksum};
use vtep_tests::link::{Host, ip4, ip6, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::on_each_release;
use vtep_tests::site::{Site, config, expect_full, internal};
use vtep_tests::tools::arping;
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

/// A gratuitous ARP message (RFC 5227) of tenant `number` for `ip`.
fn announce_v4(number: u8, ip: [u8; 4]) -> Vec<u8> {
    let us = frame::mac(&mac(number));
    let head = [&[0xff; 6][..], &us, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    [&head[..], &us, &ip, &[0; 6], &ip, &[0; 18]].concat()
}

/// An unsolicited advertisement of tenant `number` for `ip` with these flags.
fn announce_v6(number: u8, ip: IpAddr, flags: u8) -> Vec<u8> {
    let IpAddr::V6(ip) = ip else {
        panic!("{ip} is not an IPv6 address")
    };
    let us = frame::mac(&mac(number));
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut message = [
        &[136, 0, 0, 0, flags, 0, 0, 0][..],
        &ip.octets(),
        &[2, 1],
        &us,
    ]
    .concat();
    let pseudo = [&ip.octets()[..], &all_nodes, &[0, 0, 0, 32, 0, 0, 0, 58]].concat();
    let part = u32::from(!checksum(0, &pseudo));
    let sum = checksum(part, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let head = [&[0x33, 0x33, 0, 0, 0, 1][..], &us, &[0x86, 0xdd]].concat();
    let ipv6 = [
        &[0x60, 0, 0, 0, 0, 32, 58, 255][..],
        &ip.octets(),
        &all_nodes,
    ]
    .concat();
    [head, ipv6, message].concat()
}

/// The MAC that vtepd answers for `ip` with.
fn entry(vtepd: &Vtepd, ip: IpAddr) -> Option<String> {
    let rows = vtepd.show("neighbors")["rows"].clone();
    let rows = rows.as_array().expect("rows").clone();
    let row = rows.into_iter().find(|row| row["ip"] == ip.to_string())?;
    row["mac"].as_str().map(str::to_owned)
}

fn expect_entry(vtepd: &Vtepd, ip: IpAddr, host: u8) {
    let wanted = mac(host);
    wait_for(&format!("{ip} is at {wanted}"), 10, || {
        (entry(vtepd, ip).as_ref() == Some(&wanted)).then_some(())
    });
}

/// Sends frames until vtepd answers for `ip` with the MAC of `host`: the first ones may come before
/// the port is open.
fn send_until(sender: &mut Raw, frames: &[Vec<u8>], vtepd: &Vtepd, ip: IpAddr, host: u8) {
    let wanted = mac(host);
    wait_for(&format!("{ip} is at {wanted}"), 10, || {
        frames.iter().for_each(|frame| sender.send(frame));
        std::thread::sleep(Duration::from_millis(200));
        (entry(vtepd, ip).as_ref() == Some(&wanted)).then_some(())
    });
}

/// The row of a port.
fn port(vtepd: &Vtepd, name: &str) -> serde_json::Value {
    let rows = vtepd.show("ports")["rows"].clone();
    let rows = rows.as_array().expect("rows").clone();
    rows.into_iter()
        .find(|row| row["interface"] == name)
        .expect("the port is shown")
}

/// A tenant that only sends what the test sends.
fn silent(ns: &Netns, number: u8) -> (Host, Raw) {
    let host = Host::new(ns, number);
    host.ns.sysctl("net.ipv6.conf.eth0.disable_ipv6=1");
    host.ns.ip("link set eth0 arp off");
    let raw = Raw::open(&host.ns, "eth0", Kind::Packet);
    (host, raw)
}

/// The limits of t32, each on its own: addresses of a MAC, addresses of the port, MACs.
fn each_limit_of_a_port_refuses(vtepd: &Vtepd, other: &mut Raw) {
    for host in 1..=9 {
        other.send(&announce_v4(32, [10, 2, 0, host]));
    }
    for host in 1..=3 {
        other.send(&announce_v4(33, [10, 3, 0, host]));
    }
    other.send(&announce_v4(34, [10, 4, 0, 1]));
    wait_for("the limits of t32", 10, || {
        let row = port(vtepd, "t32")["learning"].clone();
        let refused = &row["refused"];
        (row["addresses"] == 5
            && refused["learn-addresses"].as_u64() >= Some(5)
            && refused["port-max-addresses"].as_u64() >= Some(1)
            && refused["learn-limit"].as_u64() >= Some(1))
        .then_some(())
    });
    let metrics = vtepd.show("mac")["rows"].clone();
    let of = |number: u8| {
        let rows = metrics.as_array().expect("rows");
        let row = rows.iter().find(|row| row["mac"] == mac(number));
        row.map(|row| row["addresses"].clone())
    };
    assert_eq!(of(31), Some(16.into()));
}

/// One tenant announces thousands of addresses with one MAC: as many as the limits allow are
/// learned and announced, the session stays, other ports learn, and what was refused is shown. The
/// limits change without a reset of the session, and addresses age (finding C1).
#[test]
fn what_one_tenant_makes_grow_is_bounded_shown_and_aged() {
    let fabric = Fabric::new(1600);
    let sites = [
        Site::vtepd_with(&fabric, 1, |_| config(1, 65000, &internal(&[2]), "")),
        Site::frr(&fabric, 2, &[1]),
    ];
    expect_full(&sites);
    let vtepd = sites[0].ctl();
    let (_greedy, mut sender) = silent(&sites[0].ns, 31);
    let (_modest, mut other) = silent(&sites[0].ns, 32);
    vtepd.done("port add t31 --vni 100 --learn-limit 1 --learn-age 10");
    vtepd.done("port add t32 --vni 100 --learn-limit 2 --learn-addresses 4 --max-addresses 5");
    let mut monitor = vtepd.monitor(&sites[0].ns, "mac");
    let established = || vtepd.show("bgp summary")["neighbors"][0]["established"].clone();
    let before = established();
    let started = Instant::now();
    let mut number = 0_u16;
    while started.elapsed() < Duration::from_secs(5) {
        for _ in 0..50 {
            let [high, low] = number.to_be_bytes();
            sender.send(&announce_v4(31, [10, 1, high, low]));
            number = number.wrapping_add(1);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let row = port(vtepd, "t31")["learning"].clone();
    assert_eq!(
        (&row["macs"], &row["addresses"]),
        (&1.into(), &16.into()),
        "{row}"
    );
    assert!(
        row["refused"]["learn-addresses"].as_u64() > Some(100),
        "{row}"
    );
    monitor.wait_for_output(&format!("mac refused {} vni 100 ip 10.1.", mac(31)), 5);
    let events = monitor.log().matches("mac refused").count();
    assert!((1..=10).contains(&events), "{events} events");
    let vni = vtepd.show("vni 100")["rows"][0].clone();
    assert_eq!(vni["addresses"], 16, "{vni}");
    each_limit_of_a_port_refuses(vtepd, &mut other);
    // Learning limits change without a reset.
    vtepd.done("port del t32 --vni 100");
    vtepd.done("port add t32 --vni 100 --learn-limit 9 --learn-addresses 16");
    wait_for("more addresses of t32", 10, || {
        for host in 1..=9 {
            other.send(&announce_v4(32, [10, 2, 0, host]));
        }
        (port(vtepd, "t32")["learning"]["addresses"] == 9).then_some(())
    });
    assert_eq!(established(), before, "the session stays");
    // The MAC sends on, its addresses are not announced any more.
    wait_for("the addresses age", 20, || {
        sender.send(&frame::plain(&mac(11), &mac(31), "still-here"));
        let row = port(vtepd, "t31")["learning"].clone();
        (row["addresses"] == 0 && row["macs"] == 1).then_some(())
    });
    wait_for("their routes are withdrawn", 10, || {
        let routes = vtepd.show("bgp routes --type 2 --vni 100").to_string();
        (!routes.contains("10.1.")).then_some(())
    });
}

on_each_release! {
/// A virtual IP fails over from a host here to one behind FRR, and back: requests are answered with
/// the new MAC (finding C2).
fn a_virtual_ip_fails_over_between_vtepd_and_frr() {
    let fabric = Fabric::new(1600);
    let sites = [Site::vtepd(&fabric, 1, &[2]), Site::frr(&fabric, 2, &[1])];
    expect_full(&sites);
    let vtepd = sites[0].ctl();
    let (_here, mut here) = silent(&sites[0].ns, 31);
    vtepd.done("port add t31 --vni 100 --learn-limit 4");
    let addresses = [
        (ip4(99), "24", announce_v4(31, [192, 0, 2, 99])),
        (ip6(99), "64 nodad", announce_v6(31, ip6(99), 0x20)),
    ];
    let asks = &sites[0].hosts[0];
    for (round, (vip, prefix, announcement)) in addresses.iter().cycle().take(4).enumerate() {
        let vip = *vip;
        send_until(&mut here, std::slice::from_ref(announcement), vtepd, vip, 31);
        let asked = || vip.is_ipv4().then(|| arping(&asks.ns, vip)).flatten();
        assert_eq!(asked(), vip.is_ipv4().then(|| mac(31)), "round {round}");
        // FRR follows, so that it announces the failover with a higher sequence.
        wait_for("FRR has the address at the MAC here", 10, || {
            let shown = sites[1].neighbor_mac(100, vip);
            (shown.as_deref() == Some(&*mac(31))).then_some(())
        });
        // The host behind FRR takes it over.
        let there = &sites[1].hosts[0].ns;
        there.ip(&format!("addr add {vip}/{prefix} dev eth0"));
        sites[1].ns.ip(&format!(
            "neigh replace {vip} lladdr {} dev br100 nud reachable",
            mac(12)
        ));
        expect_entry(vtepd, vip, 12);
        assert_eq!(asked(), vip.is_ipv4().then(|| mac(12)), "round {round}");
        let length = prefix.split(' ').next().expect("a length");
        there.ip(&format!("addr del {vip}/{length} dev eth0"));
        std::thread::sleep(Duration::from_millis(1100));
    }
}
}

/// Two vtepd, the second of which learns on its port.
fn pair(first: &str) -> (Fabric, [Netns; 2], [Vtepd; 2]) {
    let fabric = Fabric::new(1600);
    let hypervisors = [1, 2].map(|n| fabric.hypervisor(n));
    let daemons = [1_u8, 2].map(|n| {
        let vtepd = vtep_tests::site::bgp(n, 65000, &internal(&[3 - n]), "")
            .vni(100, &[])
            .raw("suppress = true")
            .raw(if n == 1 {
                first
            } else {
                "advertise-nd-flags = true"
            });
        Vtepd::start(&hypervisors[usize::from(n) - 1], &vtepd)
    });
    for (vtepd, other) in daemons.iter().zip([2, 1]) {
        wait_for("the other VTEP is in the flood list", 20, || {
            (vtepd.flood(100) == [vtep4(other).to_string()]).then_some(())
        });
    }
    (fabric, hypervisors, daemons)
}

/// Configured addresses and static entries stay when a host here or elsewhere claims them, of both
/// families; each refusal is an event (finding C2).
#[test]
fn configured_addresses_are_not_taken() {
    let (_fabric, ns, daemons) = pair(&format!(
        "[[vni.neighbor]]\nip = \"{}\"\nmac = \"{}\"",
        ip4(50),
        mac(50)
    ));
    let (_gateway, _raw) = silent(&ns[0], 31);
    let (_intruder, mut intruder) = silent(&ns[0], 32);
    let (_remote, mut remote) = silent(&ns[1], 33);
    let (victim4, victim6) = (ip4(31), ip6(31));
    daemons[0].done(&format!(
        "port add t31 --vni 100 --mac {} --ip {victim4} --ip {victim6} --lock",
        mac(31)
    ));
    daemons[0].done("port add t32 --vni 100 --learn-limit 4");
    daemons[1].done("port add t33 --vni 100 --learn-limit 4");
    let monitor = daemons[0].monitor(&ns[0], "mac");
    for vtepd in &daemons {
        expect_entry(vtepd, victim4, 31);
        expect_entry(vtepd, victim6, 31);
    }
    for (number, sender) in [(32, &mut intruder), (33, &mut remote)] {
        for (ip, frame) in [
            (victim4, announce_v4(number, [192, 0, 2, 31])),
            (victim6, announce_v6(number, victim6, 0x20)),
            (ip4(50), announce_v4(number, [192, 0, 2, 50])),
        ] {
            let text = format!("mac refused {} vni 100 ip {ip}", mac(number));
            wait_for(&text, 10, || {
                sender.send(&frame);
                std::thread::sleep(Duration::from_millis(200));
                monitor.log().contains(&text).then_some(())
            });
        }
    }
    expect_entry(&daemons[0], victim4, 31);
    expect_entry(&daemons[0], victim6, 31);
    expect_entry(&daemons[0], ip4(50), 50);
    let own = daemons[0].show("bgp routes --type 2 --vni 100")["rows"].clone();
    let announced = own.as_array().expect("rows").iter().any(|row| {
        row["neighbor"].is_null() && row["mac"] == mac(32) && row["ip"] == victim4.to_string()
    });
    assert!(!announced, "{own}");
    // The host at the other VTEP is gone: its claim there ends with it.
    daemons[1].done("port del t33 --vni 100");
    expect_entry(&daemons[1], victim4, 31);
    expect_entry(&daemons[1], victim6, 31);
}

/// A virtual IP moves between local ports, learned and locked ones, and to and from another vtepd
/// (finding C2).
#[test]
fn a_virtual_ip_moves_between_ports_and_vteps() {
    let (_fabric, ns, daemons) = pair("");
    let hosts = [(0, 31), (0, 32), (1, 33)].map(|(site, number): (usize, u8)| {
        let (host, sender) = silent(&ns[site], number);
        (number, host, sender)
    });
    let mut senders = hosts.map(|(number, host, sender)| (number, (host, sender)));
    daemons[0].done("port add t31 --vni 100 --learn-limit 4");
    daemons[0].done(&format!("port add t32 --vni 100 --mac {} --lock", mac(32)));
    daemons[1].done("port add t33 --vni 100 --learn-limit 4");
    let (vip4, vip6) = (ip4(99), ip6(99));
    // Five moves in three minutes: one fewer than freezes.
    for index in [0_usize, 1, 2, 1] {
        let (number, (_, raw)) = &mut senders[index];
        let number = *number;
        let frames = [
            announce_v4(number, [192, 0, 2, 99]),
            announce_v6(number, vip6, 0x20),
        ];
        let here = &daemons[usize::from(number == 33)];
        send_until(raw, &frames, here, vip4, number);
        for vtepd in &daemons {
            expect_entry(vtepd, vip4, number);
            expect_entry(vtepd, vip6, number);
        }
        std::thread::sleep(Duration::from_millis(1100));
    }
}

/// A router keeps its flag: in answers to solicitations and after `mac move`; an address with
/// unknown flags is not answered for (finding C7).
#[test]
fn a_router_stays_a_router() {
    let (_fabric, ns, daemons) = pair("");
    let asks = Host::new(&ns[0], 11);
    let (_router, mut router) = silent(&ns[1], 33);
    daemons[0].done(&format!("port add t11 --vni 100 --mac {}", mac(11)));
    daemons[1].done("port add t33 --vni 100 --learn-limit 4");
    let address = ip6(33);
    let announcement = [announce_v6(33, address, 0xa0)];
    send_until(&mut router, &announcement, &daemons[1], address, 33);
    expect_entry(&daemons[0], address, 33);
    let received = Raw::open(&asks.ns, "eth0", Kind::Packet);
    let _ = asks.ns.try_run(&format!("ping -6 -c 1 -W 1 {address}"));
    let is_answer =
        |frame: &Vec<u8>| frame.len() >= 62 && frame[12..14] == [0x86, 0xdd] && frame[54] == 136;
    let answer = wait_for("an advertisement", 10, || {
        received.frames().into_iter().find(is_answer)
    });
    assert_eq!(answer[58] & 0xe0, 0xe0, "router, solicited, override");
    let known = asks.ns.ip("-6 neigh show dev eth0");
    assert!(known.contains("router"), "{known}");
}

/// `mac move` that is refused changes nothing (finding C20): a host that was learned stays.
#[test]
fn a_refused_mac_move_changes_nothing() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let (_host, mut sender) = silent(&ns, 31);
    let (_other, _raw) = silent(&ns, 32);
    let vtepd = Vtepd::start(
        &ns,
        &Config::new(vtep4(1))
            .vni(100, &[])
            .port("t31", &[])
            .raw("learn-limit = 4"),
    );
    let announcement = [announce_v4(31, [192, 0, 2, 31])];
    send_until(&mut sender, &announcement, &vtepd, ip4(31), 31);
    let before = vtepd.mac(100, &mac(31));
    let refused = vtepd.ctl(&format!("mac move {} --vni 100 --interface t32", mac(31)));
    assert!(!refused.status.success());
    for ip in ["127.0.0.1", "ff02::1", "::ffff:192.0.2.31"] {
        let line = format!("mac move {} --vni 100 --interface t31 --ip {ip}", mac(31));
        let refused = vtepd.ctl(&line);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(
            error.contains(&format!("invalid host address {ip}")),
            "{error}"
        );
    }
    let row = vtepd.mac(100, &mac(31)).expect("it is still known");
    assert_eq!(row["port"], before.expect("learned")["port"]);
    assert_eq!(row["flags"][0], "learned", "{row}");
    expect_entry(&vtepd, ip4(31), 31);
}
