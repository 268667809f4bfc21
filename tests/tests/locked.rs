//! A tenant behind a locked port tries every encoding of ARP and ND that a Linux host might believe
//! (finding D3); the host is real, and so is its neighbor table.
//!
//! ```text
//! t11 raw frames ── locked port ──┐
//! t12 victim, Linux ──────────────┤ h1: vtepd, VNI 100
//! t13 raw frames ── open port ────┘
//! ```
//!
//! Each encoding is sent from the open port first: what the host believes shows that the encoding
//! matters. Whether it does or not, it must not pass the locked port.

use std::thread::sleep;
use std::time::Duration;

use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frame::{checksum, mac as mac_bytes, plain};
use vtep_tests::link::{Host, ip4, ip6, mac};
use vtep_tests::netns::Netns;
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

/// The host whose addresses the attacker claims.
const OTHER: u8 = 77;
/// The MAC of that host, before the attack.
const OTHER_MAC: &str = "50:54:33:00:00:4d";

fn octets6(number: u8) -> [u8; 16] {
    match ip6(number) {
        std::net::IpAddr::V6(ip) => ip.octets(),
        std::net::IpAddr::V4(_) => unreachable!("an IPv6 address"),
    }
}

fn frame(to: &str, from: &str, types: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = [&mac_bytes(to)[..], &mac_bytes(from), types, payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// ARP that says that 192.0.2.77 is at `from`.
fn arp(hardware: u16, operation: u16, from: u8) -> Vec<u8> {
    let [hardware, operation] = [hardware, operation].map(u16::to_be_bytes);
    [
        &hardware[..],
        &[8, 0, 6, 4],
        &operation,
        &mac_bytes(&mac(from)),
        &[192, 0, 2, OTHER],
        &mac_bytes(&mac(12)),
        &[192, 0, 2, 12],
    ]
    .concat()
}

/// A neighbor advertisement from and for 2001:db8:2::77, solicited and with override, at `from`.
fn advertisement(from: u8) -> Vec<u8> {
    [
        &[136, 0, 0, 0, 0x60, 0, 0, 0][..],
        &octets6(OTHER),
        &[2, 1],
        &mac_bytes(&mac(from)),
    ]
    .concat()
}

/// A solicitation of the victim by 2001:db8:2::77 at `from`.
fn solicitation(from: u8) -> Vec<u8> {
    [
        &[135, 0, 0, 0, 0, 0, 0, 0][..],
        &octets6(12),
        &[1, 1],
        &mac_bytes(&mac(from)),
    ]
    .concat()
}

/// An IPv6 packet to the victim: `headers` are the extension headers, the first of type `next`.
fn ipv6(next: u8, headers: &[u8], message: &[u8]) -> Vec<u8> {
    ipv6_with((next, 255), headers, message, None)
}

fn ipv6_with(
    (next, hop_limit): (u8, u8),
    headers: &[u8],
    message: &[u8],
    payload_len: Option<u16>,
) -> Vec<u8> {
    let addresses = [octets6(OTHER), octets6(12)].concat();
    let mut message = message.to_vec();
    let pseudo = addresses
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum::<u32>()
        + 58
        + message.len() as u32;
    let sum = checksum(pseudo, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let len = payload_len.unwrap_or((headers.len() + message.len()) as u16);
    [
        &[0x60, 0, 0, 0][..],
        &len.to_be_bytes(),
        &[next, hop_limit],
        &addresses,
        headers,
        &message,
    ]
    .concat()
}

/// `count` destination options headers, each of 8 bytes with padding, before ICMPv6.
fn options(count: usize) -> Vec<u8> {
    let mut headers = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
    if let Some(last) = headers.len().checked_sub(8) {
        headers[last] = 58;
    }
    headers
}

/// One way to tell the victim that another host's address is at `from`.
struct Encoding {
    name: String,
    frames: Vec<Vec<u8>>,
}

/// Every encoding with `from` as the sender, in order.
fn encodings(from: u8) -> Vec<Encoding> {
    let (to, sender) = (mac(12), mac(from));
    let mut all = Vec::new();
    let mut add = |name: String, frames: Vec<Vec<u8>>| all.push(Encoding { name, frames });
    let tags = |n: usize, tpid: u16| [&tpid.to_be_bytes()[..], &[0, 0]].concat().repeat(n);
    for hardware in [1, 6, 7, 15, 24] {
        for operation in 1..=10 {
            let name = format!("arp hardware {hardware} operation {operation}");
            add(
                name,
                vec![frame(
                    &to,
                    &sender,
                    &[8, 6],
                    &arp(hardware, operation, from),
                )],
            );
        }
    }
    let request = arp(1, 1, from);
    let trailing = [&request[..], &[0x55; 200]].concat();
    add(
        "arp trailing bytes".into(),
        vec![frame(&to, &sender, &[8, 6], &trailing)],
    );
    for (at, value) in [(4, 8), (4, 0), (5, 16), (5, 0), (2, 0x86), (3, 6)] {
        let mut odd = request.clone();
        odd[at] = value;
        add(
            format!("arp byte {at} is {value}"),
            vec![frame(&to, &sender, &[8, 6], &odd)],
        );
    }
    for operation in [1, 2, 3, 4] {
        let message = arp(1, operation, from);
        add(
            format!("rarp {operation}"),
            vec![frame(&to, &sender, &[0x80, 0x35], &message)],
        );
    }
    for (name, kind, payload) in [
        ("arp", [8, 6], request.clone()),
        ("nd", [0x86, 0xdd], ipv6(58, &[], &advertisement(from))),
    ] {
        for oui in [[0, 0, 0], [0, 0, 0xf8]] {
            let snap = [&[0xaa, 0xaa, 3][..], &oui, &kind, &payload].concat();
            let len = (snap.len() as u16).to_be_bytes();
            add(
                format!("{name} in LLC/SNAP {oui:?}"),
                vec![frame(&to, &sender, &len, &snap)],
            );
        }
        for tpid in [0x8100, 0x88a8, 0x9100, 0x9200] {
            for count in 1..6 {
                let types = [&tags(count, tpid)[..], &kind].concat();
                add(
                    format!("{name} behind {count} tags {tpid:04x}"),
                    vec![frame(&to, &sender, &types, &payload)],
                );
            }
        }
    }
    discovery(&mut add, &to, &sender, from);
    all
}

fn discovery(add: &mut impl FnMut(String, Vec<Vec<u8>>), to: &str, sender: &str, from: u8) {
    let of = |packet: Vec<u8>| vec![frame(to, sender, &[0x86, 0xdd], &packet)];
    for (name, message) in [("na", advertisement(from)), ("ns", solicitation(from))] {
        for count in [0, 1, 2, 7, 8, 9, 12, 20, 60, 150] {
            let next = if count == 0 { 58 } else { 60 };
            let packet = ipv6(next, &options(count), &message);
            add(format!("{name} behind {count} options headers"), of(packet));
        }
        let hop = [58, 0, 1, 4, 0, 0, 0, 0];
        add(
            format!("{name} behind hop-by-hop"),
            of(ipv6(0, &hop, &message)),
        );
        // Without a length, and without the jumbo option that this would need.
        let packet = ipv6_with((0, 255), &hop, &message, Some(0));
        add(format!("{name} behind hop-by-hop, length 0"), of(packet));
        let packet = ipv6_with((58, 255), &[], &message, Some(0));
        add(format!("{name}, length 0"), of(packet));
        let packet = ipv6_with((58, 255), &[], &message, Some(200));
        add(format!("{name}, longer than the frame"), of(packet));
        let packet = ipv6_with((58, 64), &[], &message, None);
        add(format!("{name} with hop limit 64"), of(packet));
        let routing = [58, 0, 4, 0, 0, 0, 0, 0];
        add(
            format!("{name} behind routing"),
            of(ipv6(43, &routing, &message)),
        );
        let authentication = [58, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        add(
            format!("{name} behind authentication"),
            of(ipv6(51, &authentication, &message)),
        );
        add(
            format!("{name} atomic fragment"),
            of(ipv6(44, &[58, 0, 0, 0, 0, 0, 0, 1], &message)),
        );
        let repeated = [&message[..], &message[24..]].concat();
        add(
            format!("{name} with two equal options"),
            of(ipv6(58, &[], &repeated)),
        );
        let other = [&message[..], &message[24..26], &[2; 6]].concat();
        add(
            format!("{name} with two options that differ"),
            of(ipv6(58, &[], &other)),
        );
        let nonce = [&message[..24], &[14, 1, 0, 0, 0, 0, 0, 0], &message[24..]].concat();
        add(
            format!("{name} with a nonce first"),
            of(ipv6(58, &[], &nonce)),
        );
        add(format!("{name} in fragments"), fragments(&of, &message, 8));
        add(format!("{name} in fragments, message in the second"), {
            let whole = ipv6(60, &options(1), &message);
            split(&of, 60, &whole[40..], 8)
        });
    }
}

/// The message in fragments of `size` bytes.
fn fragments(of: &impl Fn(Vec<u8>) -> Vec<Vec<u8>>, message: &[u8], size: usize) -> Vec<Vec<u8>> {
    let whole = ipv6(58, &[], message);
    split(of, 58, &whole[40..], size)
}

fn split(
    of: &impl Fn(Vec<u8>) -> Vec<Vec<u8>>,
    next: u8,
    payload: &[u8],
    size: usize,
) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size);
    let mut frames = Vec::new();
    for (number, part) in payload.chunks(size).enumerate() {
        let more = u16::from(number + 1 < count);
        let offset = ((number * size) as u16 | more).to_be_bytes();
        let header = [&[next, 0][..], &offset, &[0, 0, 0, 9]].concat();
        let mut packet = ipv6(44, &header, &[0; 4]);
        packet.truncate(48);
        packet[4..6].copy_from_slice(&((8 + part.len()) as u16).to_be_bytes());
        packet.extend_from_slice(part);
        frames.extend(of(packet));
    }
    frames
}

/// The MAC that the victim has for each of the other host's addresses.
fn entries(victim: &Netns) -> [String; 2] {
    let shown = victim.ip("neigh show dev eth0");
    [ip4(OTHER), ip6(OTHER)].map(|ip| {
        let start = format!("{ip} ");
        let line = shown.lines().find(|line| line.starts_with(&start));
        let mut words = line.unwrap_or_default().split_whitespace();
        words.find(|word| *word == "lladdr");
        words.next().unwrap_or_default().to_owned()
    })
}

fn reset(victim: &Netns) {
    for ip in [ip4(OTHER), ip6(OTHER)] {
        victim.ip(&format!(
            "neigh replace {ip} lladdr {OTHER_MAC} dev eth0 nud stale"
        ));
    }
}

#[test]
fn no_encoding_of_arp_or_nd_that_a_linux_host_believes_passes_a_locked_port() {
    none_passes("xdp");
}

#[test]
fn no_encoding_of_arp_or_nd_that_a_linux_host_believes_passes_a_locked_packet_port() {
    none_passes("packet");
}

fn none_passes(io: &str) {
    let fabric = Fabric::new(1600);
    let hypervisor = fabric.hypervisor(1);
    let hosts = [11, 12, 13].map(|number| Host::new(&hypervisor, number));
    let [_, victim, _] = &hosts;
    // Replace entries at once, and accept tags of VLAN 0 at any depth.
    victim.ns.sysctl("net.ipv4.neigh.eth0.locktime=0");
    victim.ns.sysctl("net.ipv6.neigh.eth0.locktime=0");
    let config = Config::new(vtep4(1))
        .io(io)
        .vni(100, &[])
        .raw("inner-vlan = \"pass\"")
        .port("t11", &[mac(11)])
        .raw(&format!(
            "lock = true\nips = [\"{}\", \"{}\"]",
            ip4(11),
            ip6(11)
        ))
        .port("t12", &[mac(12)])
        .port("t13", &[mac(13)]);
    let vtepd = Vtepd::start(&hypervisor, &config);
    let mut open = Raw::open(&hosts[2].ns, "eth0", Kind::Packet);
    let mut locked = Raw::open(&hosts[0].ns, "eth0", Kind::Packet);
    let arrived = Raw::open(&victim.ns, "eth0", Kind::Packet);
    let send = |raw: &mut Raw, from: u8, number: usize, encoding: &Encoding| {
        encoding.frames.iter().for_each(|frame| raw.send(frame));
        let marker = format!("marker-{from}-{number}");
        raw.send(&plain(&mac(12), &mac(from), &marker));
        assert_eq!(arrived.expect(&marker, 1).len(), 1);
        // The victim's stack takes the frame after its packet sockets.
        sleep(Duration::from_millis(2));
        let after = entries(&victim.ns);
        if after != [OTHER_MAC, OTHER_MAC] {
            reset(&victim.ns);
        }
        after
    };
    reset(&victim.ns);
    let mut believed = Vec::new();
    let mut passed = Vec::new();
    for (number, (from_open, from_locked)) in encodings(13).iter().zip(&encodings(11)).enumerate() {
        let after = send(&mut open, 13, number, from_open);
        if after.contains(&mac(13)) {
            believed.push(from_open.name.clone());
        }
        let after = send(&mut locked, 11, number, from_locked);
        if after != [OTHER_MAC, OTHER_MAC] {
            passed.push(from_locked.name.clone());
        }
    }
    eprintln!("believed by Linux:\n{}", believed.join("\n"));
    for known in [
        "arp hardware 1 operation 1",
        "arp hardware 6 operation 2",
        "arp behind 1 tags 8100",
        "na behind 0 options headers",
        "na behind 20 options headers",
        "ns behind 9 options headers",
    ] {
        assert!(
            believed.iter().any(|name| name == known),
            "{known}: {believed:?}"
        );
    }
    assert!(passed.is_empty(), "passed the locked port: {passed:?}");
    assert!(vtepd.drops("arp-nd-malformed") > 0 && vtepd.drops("arp-nd-spoofed") > 0);
}
