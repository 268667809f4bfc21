//! Interfaces whose queues, names and indexes change while vtepd runs.
//!
//! ```text
//! tap     tap11 (guest: raw frames on each queue) ── h1: vtepd ── eth0 ── fabric ── eth0 ── h9: raw frames
//! veth    t11, 4 queues ── h1: vtepd ── eth0, 4 queues ── ...
//! ```

use std::process::Output;

use serde_json::Value;
use vtep_tests::config::{each_underlay, over_underlay};
use vtep_tests::craft::Packet;
use vtep_tests::echo::{answers, assert_no_loss};
use vtep_tests::fabric::{Fabric, Underlay, send_datagrams, vtep4};
use vtep_tests::frame::{checksum, plain, udp4};
use vtep_tests::link::{self, Host, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::topology::{IO_KINDS, Pair, Peer, RawPair};
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

/// vtepd at hypervisor 1, with port `tap11` in VNI 100; hypervisor 9 is the only other VTEP.
struct TapPort {
    vtepd: Vtepd,
    peer: Raw,
    far: Netns,
    ns: Netns,
    _fabric: Fabric,
}

impl TapPort {
    fn new(io: &str) -> Self {
        let fabric = Fabric::new(1600);
        let [ns, far] = [1, 9].map(|number| fabric.hypervisor(number));
        send_datagrams(&ns);
        link::multi_queue_tap(&ns, "tap11");
        let config = Config::new(vtep4(1))
            .io(io)
            .vni(100, &[vtep4(9)])
            .port("tap11", &[mac(11)])
            .fdb(&mac(12), vtep4(9));
        let vtepd = Vtepd::start(&ns, &config);
        vtepd.expect_up(&[vtep4(9)]);
        Self {
            vtepd,
            peer: Raw::open(&far, "eth0", Kind::Packet),
            far,
            ns,
            _fabric: fabric,
        }
    }

    fn guest(&self, queues: usize) -> Vec<Raw> {
        let open = |_| Raw::open(&self.ns, "tap11", Kind::TapQueue);
        (0..queues).map(open).collect()
    }

    /// Waits until exactly `count` queues have sockets.
    fn served(&self, count: usize) {
        wait_for(&format!("{count} queues with sockets"), 5, || {
            (served(&self.vtepd, "tap11") == count).then_some(())
        });
    }

    /// What each queue of the guest sends arrives.
    fn sends(&mut self, guest: &mut [Raw], marker: &str) {
        for (number, queue) in guest.iter_mut().enumerate() {
            // A socket receives once its worker has given it chunks.
            let first = format!("{marker}-{number}-first");
            wait_for(&first, 5, || {
                queue.send(&plain(&mac(12), &mac(11), &first));
                (!self.peer.with_marker(&first).is_empty()).then_some(())
            });
            for _ in 0..50 {
                queue.send(&plain(
                    &mac(12),
                    &mac(11),
                    &format!("{marker}-{number}-end"),
                ));
            }
        }
        for number in 0..guest.len() {
            let marker = format!("{marker}-{number}-end");
            assert_eq!(self.peer.expect(&marker, 50).len(), 50, "{marker}");
        }
    }

    /// What is sent to the guest arrives at one of its queues.
    fn receives(&mut self, guest: &[Raw], marker: &str) {
        let inner = plain(&mac(11), &mac(12), marker);
        let packet = Packet::v4(&self.ns.mac("eth0"), &self.far.mac("eth0"), inner);
        for _ in 0..100 {
            self.peer.send(&packet.bytes());
        }
        let count = || guest.iter().map(|queue| queue.with_marker(marker).len());
        wait_for(&format!("100 frames with {marker}"), 5, || {
            (count().sum::<usize>() >= 100).then_some(())
        });
    }
}

impl TapPort {
    /// Its guest has ended: its tap is removed and made again.
    fn is_made_again(&self) {
        self.ns.ip("link del tap11");
        wait_for("the port is absent", 5, || {
            (port(&self.vtepd, "tap11")["state"] == "absent").then_some(())
        });
        link::multi_queue_tap(&self.ns, "tap11");
    }
}

/// The number of queues of `interface` that have sockets.
fn served(vtepd: &Vtepd, interface: &str) -> usize {
    let queues = port(vtepd, interface)["queues"].clone();
    let queues = queues.as_array().expect("an array");
    queues
        .iter()
        .filter(|queue| !queue["worker"].is_null())
        .count()
}

fn port(vtepd: &Vtepd, interface: &str) -> Value {
    let rows = vtepd.show("ports")["rows"].clone();
    let rows = rows.as_array().expect("an array");
    let row = rows.iter().find(|row| row["interface"] == interface);
    row.unwrap_or_else(|| panic!("no row for {interface}"))
        .clone()
}

/// A guest whose queues are attached after vtepd was started, then fewer, then none, then a tap that
/// is made again (findings D5, N4).
#[test]
fn the_queues_of_a_guest_are_followed_through_its_life() {
    let mut port = TapPort::new("xdp");
    for life in 0..2 {
        let mut guest = port.guest(4);
        port.served(4);
        port.sends(&mut guest, &format!("four-{life}"));
        port.receives(&guest, &format!("to-four-{life}"));
        // The kernel gives the number of a queue that goes away to the last one.
        drop(guest.remove(0));
        port.served(3);
        port.sends(&mut guest, &format!("three-{life}"));
        port.receives(&guest, &format!("to-three-{life}"));
        guest.truncate(1);
        port.served(1);
        port.receives(&guest, &format!("to-one-{life}"));
        guest.extend(port.guest(1));
        port.served(2);
        port.sends(&mut guest, &format!("two-{life}"));
        drop(guest);
        port.is_made_again();
    }
}

/// The same on packet sockets, which take the frames of all queues.
#[test]
fn the_queues_of_a_guest_need_no_sockets_of_their_own() {
    let mut port = TapPort::new("packet");
    for life in 0..2 {
        let mut guest = port.guest(4);
        port.sends(&mut guest, &format!("four-{life}"));
        port.receives(&guest, &format!("to-four-{life}"));
        guest.truncate(1);
        port.sends(&mut guest, &format!("one-{life}"));
        port.receives(&guest, &format!("to-one-{life}"));
        drop(guest);
        port.is_made_again();
    }
}

/// A guest can make a superframe that no vnet header describes (here UFO, of an older guest). Linux 6.18
/// puts nothing into a packet socket from then on; the port is opened again.
#[test]
fn a_superframe_that_no_vnet_header_describes_costs_a_port_seconds() {
    let port = TapPort::new("packet");
    let mut guest = Raw::open(&port.ns, "tap11", Kind::TapVnetQueue);
    let arrives = |guest: &mut Raw, marker: &str| {
        let plain = plain(&mac(12), &mac(11), marker);
        wait_for(marker, 20, || {
            guest.send(&[&[0; 10][..], &plain].concat());
            (!port.peer.with_marker(marker).is_empty()).then_some(())
        });
    };
    arrives(&mut guest, "before");
    // `struct virtio_net_hdr`: VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP.
    let ufo = [1, 3, 42, 0, 0x78, 5, 34, 0, 6, 0];
    let datagram = udp4(&mac(12), &mac(11), 0, &"u".repeat(5000));
    guest.send(&[&ufo[..], &datagram].concat());
    arrives(&mut guest, "after");
    let log = port.vtepd.program.log();
    assert!(log.contains("has stopped filling a packet socket"), "{log}");
}

/// A guest chooses every field of the vnet headers of its frames, as far as its tap accepts them. What
/// can't be done is dropped for a reason that says so: none is a fault of vtepd or of the kernel, at
/// whatever port or VTEP the frames leave.
#[test]
fn forged_vnet_headers_are_dropped_as_the_guests_fault() {
    for io in IO_KINDS {
        for out in IO_KINDS {
            forged_vnet_headers(io, out);
        }
    }
}

fn forged_vnet_headers(io: &str, out: &str) {
    const FRAMES: u32 = 4000;
    let fabric = Fabric::new(1600);
    let [ns, far] = [1, 9].map(|number| fabric.hypervisor(number));
    link::multi_queue_tap(&ns, "tap11");
    let host = Host::new(&ns, 13);
    let config = Config::new(vtep4(1))
        .vni(100, &[vtep4(9)])
        .port("tap11", &[mac(11)])
        .raw(&format!("io = \"{io}\""))
        .port(&host.port, &[mac(13)])
        .raw(&format!("io = \"{out}\""))
        .fdb(&mac(12), vtep4(9));
    let vtepd = Vtepd::start(&ns, &config);
    vtepd.expect_up(&[vtep4(9)]);
    let peer = Raw::open(&far, "eth0", Kind::Packet);
    let mut guest = Raw::open(&ns, "tap11", Kind::TapVnetQueue);
    let arrives = |guest: &mut Raw, marker: &str| {
        let plain = plain(&mac(12), &mac(11), marker);
        wait_for(marker, 20, || {
            guest.send(&[&[0; 10][..], &plain].concat());
            (!peer.with_marker(marker).is_empty()).then_some(())
        });
    };
    arrives(&mut guest, "before");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..FRAMES {
        let destination = random.of(&[mac(12), mac(13), "ff:ff:ff:ff:ff:ff".to_owned()]);
        guest.send(&forged(&mut random, &destination));
    }
    arrives(&mut guest, "after");
    let drops = vtepd.show("drops --by port");
    assert_eq!(vtepd.drops("bad-descriptor"), 0, "{io}, {out}: {drops:#}");
    eprintln!("{io} {out} {}", vtepd.done("show drops --by port"));
    for reason in ["checksum-offset", "unsegmentable"] {
        let expected = io == "packet";
        assert!(
            !expected || vtepd.drops(reason) > 0,
            "{io}, {out}: {drops:#}"
        );
    }
}

/// xorshift64 (Marsaglia 2003): the same sequence in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn of<T: Clone>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())].clone()
    }
}

/// A frame with a vnet header of which each field is right, almost right or anything, but for the
/// segmentation that stops a packet socket (UFO).
fn forged(random: &mut Random, destination: &str) -> Vec<u8> {
    let len = random.of(&[0, 1, 40, 1400, 1700, 1800, 3000, 9000, 40_000]);
    let mut frame = udp4(destination, &mac(11), 0, &"u".repeat(len));
    if random.below(2) == 0 {
        frame[23] = 6;
        if let Some(offset) = frame.get_mut(46) {
            *offset = random.of(&[0x50, 0x50, 0x80, 0xf0, 0]);
        }
        frame[24..26].fill(0);
        let sum = checksum(0, &frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let any = |random: &mut Random| random.below(1 << 16) as u16;
    let near = random.below(frame.len()) as u16;
    let flags = random.of(&[0, 1, 1, 1, 2, 3, 7]);
    let kind = random.of(&[0, 0, 1, 4, 5, 0x80, 0x81, 0x84, 0x85, 2, 6, 0xff]);
    let anything = any(random);
    let hdr_len = random.of(&[0, 42, 54, near, anything]);
    let size = random.of(&[0, 1, 8, 536, 1400, near, anything]);
    let start = random.of(&[34, 34, 34, 0, 6, 13, 14, 33, 35, 54, 1700, near, anything]);
    let offset = random.of(&[6, 16, 6, 16, 0, 1, 200, 1024, near, anything]);
    let mut bytes = vec![flags, kind];
    for field in [hdr_len, size, start, offset] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(frame);
    bytes
}

/// What a guest sends before its port has a socket is dropped, never given to the host, and counted.
#[test]
fn frames_before_a_packet_port_has_a_socket_are_counted() {
    let mut port = TapPort::new("packet");
    let mut guest = Vec::new();
    port.vtepd.while_stopped(|| {
        guest = port.guest(1);
        for _ in 0..20 {
            guest[0].send(&plain(&mac(12), &mac(11), "too-early"));
        }
        wait_for("the tap has taken the frames", 5, || {
            let text = port
                .ns
                .run("cat /sys/class/net/tap11/statistics/rx_packets");
            (text.trim() == "20").then_some(())
        });
    });
    port.served(1);
    let shown = self::port(&port.vtepd, "tap11");
    assert_eq!(shown["queues"][0]["no_socket"], 20, "{shown}");
    assert_eq!(port.vtepd.drops("no-socket"), 20);
    let status = port.vtepd.show("status")["interfaces"].to_string();
    assert!(
        status.contains("20 frames were dropped while it had no socket"),
        "{status}"
    );
    port.sends(&mut guest, "afterwards");
    assert!(port.peer.with_marker("too-early").is_empty());
}

/// What arrives on a queue before it has a socket is dropped, never given to the host, and shown by
/// queue, port and reason (finding D5).
#[test]
fn frames_on_a_queue_without_a_socket_are_counted() {
    let mut port = TapPort::new("xdp");
    let mut guest = port.guest(1);
    port.served(1);
    port.vtepd.while_stopped(|| {
        guest.extend(port.guest(1));
        for _ in 0..20 {
            guest[1].send(&plain(&mac(12), &mac(11), "too-early"));
        }
        let mut host = Raw::open(&port.ns, "tap11", Kind::Direct);
        wait_for("the tap has taken the frames", 5, || {
            host.send(&plain(&mac(99), &mac(98), "outgoing"));
            (!guest
                .iter()
                .all(|queue| queue.with_marker("outgoing").is_empty()))
            .then_some(())
        });
        assert!(
            host.with_marker("too-early").is_empty(),
            "the host has seen them"
        );
    });
    port.served(2);
    let queues = self::port(&port.vtepd, "tap11")["queues"].clone();
    assert_eq!(queues[1]["no_socket"], 20, "{queues}");
    assert_eq!(port.vtepd.drops("no-socket"), 20);
    let status = port.vtepd.show("status")["interfaces"].to_string();
    assert!(
        status.contains("20 frames were dropped on queues that had no socket"),
        "{status}"
    );
    let by_port = port.vtepd.show("drops --by port");
    let rows = by_port["rows"].as_array().expect("an array");
    let row = rows.iter().find(|row| row["reason"] == "no-socket");
    assert_eq!(
        row.map(|row| (&row["by"], &row["count"])),
        Some((&"tap11".into(), &20.into()))
    );
    port.sends(&mut guest, "afterwards");
}

fn channels(ns: &Netns, interface: &str, count: u32) -> Output {
    ns.try_run(&format!("ethtool -L {interface} rx {count} tx {count}"))
}

/// `count` frames on each queue of veth `name` in `ns` by the hash of their addresses; returns how
/// many were sent.
fn flows(raw: &mut Raw, marker: &str) -> usize {
    for flow in 0..40_u8 {
        let mut frame = plain(&mac(12), &mac(11), marker);
        // UDP over IPv4, so that the kernel hashes the flow.
        let source = 49_152 + u16::from(flow);
        frame.splice(12..14, ipv4_udp(source, marker.len() as u16));
        raw.send(&frame);
    }
    40
}

/// The EtherType, IPv4 header and UDP header before a payload of `length` bytes.
fn ipv4_udp(source: u16, length: u16) -> Vec<u8> {
    let mut header = vec![0x08, 0x00, 0x45, 0];
    header.extend((28 + length).to_be_bytes());
    header.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 11, 192, 0, 2, 12]);
    header.extend(source.to_be_bytes());
    header.extend(7_u16.to_be_bytes());
    header.extend((8 + length).to_be_bytes());
    header.extend([0, 0]);
    header
}

/// `ethtool -L` on a tenant port: queues that are added are served; the kernel refuses to remove
/// queues in use, and says so (finding D5).
#[test]
fn ethtool_channels_of_a_tenant_port_are_followed() {
    let fabric = Fabric::new(1600);
    let [ns, far] = [1, 9].map(|number| fabric.hypervisor(number));
    let host = Host::with_queues(&ns, 11, 4);
    for (at, interface) in [(&host.ns, "eth0"), (&ns, "t11")] {
        assert!(channels(at, interface, 1).status.success());
    }
    let config = Config::new(vtep4(1))
        .io("xdp")
        .vni(100, &[vtep4(9)])
        .port("t11", &[mac(11)])
        .fdb(&mac(12), vtep4(9));
    let vtepd = Vtepd::start(&ns, &config);
    vtepd.expect_up(&[vtep4(9)]);
    assert_eq!(served(&vtepd, "t11"), 1);
    let peer = Raw::open(&far, "eth0", Kind::Packet);
    let mut tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
    let mut sent = 0;
    vtepd.while_stopped(|| {
        for (at, interface) in [(&ns, "t11"), (&host.ns, "eth0")] {
            assert!(channels(at, interface, 4).status.success());
        }
        let packets = || {
            let text = host.ns.run("cat /sys/class/net/eth0/statistics/tx_packets");
            text.trim().parse::<u64>().expect("a number")
        };
        let before = packets();
        // veth leaves the new queues without the program.
        sent = flows(&mut tenant, "between");
        wait_for("the frames have left the tenant", 5, || {
            (packets() >= before + sent as u64).then_some(())
        });
    });
    wait_for("each frame arrives or is counted", 5, || {
        let arrived = peer.with_marker("between").len() as u64;
        let counted = vtepd.drops("no-socket");
        (counted > 0 && arrived + counted >= sent as u64).then_some(())
    });
    wait_for("4 queues with sockets", 5, || {
        (served(&vtepd, "t11") == 4).then_some(())
    });
    let sent = flows(&mut tenant, "four-queues");
    assert_eq!(peer.expect("four-queues", sent).len(), sent);
    let refused = channels(&ns, "t11", 1);
    if refused.status.success() {
        wait_for("1 queue with a socket", 5, || {
            (served(&vtepd, "t11") == 1).then_some(())
        });
    }
    let sent = flows(&mut tenant, "fewer-queues");
    assert_eq!(peer.expect("fewer-queues", sent).len(), sent);
}

/// On packet sockets no frame is lost meanwhile.
#[test]
fn ethtool_channels_of_a_packet_port_cost_no_frame() {
    let fabric = Fabric::new(1600);
    let [ns, far] = [1, 9].map(|number| fabric.hypervisor(number));
    let host = Host::with_queues(&ns, 11, 4);
    let config = Config::new(vtep4(1))
        .io("packet")
        .vni(100, &[vtep4(9)])
        .port("t11", &[mac(11)])
        .fdb(&mac(12), vtep4(9));
    let vtepd = Vtepd::start(&ns, &config);
    vtepd.expect_up(&[vtep4(9)]);
    // What the tenant's stack sends by itself while the port is opened may find no socket yet.
    let before = vtepd.drops("no-socket");
    let peer = Raw::open(&far, "eth0", Kind::Packet);
    let mut tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
    for count in [4, 1, 2, 4] {
        for (at, interface) in [(&ns, "t11"), (&host.ns, "eth0")] {
            assert!(channels(at, interface, count).status.success());
        }
        let marker = format!("queues-{count}");
        let earlier = peer.with_marker(&marker).len();
        let sent = earlier + flows(&mut tenant, &marker);
        assert_eq!(peer.expect(&marker, sent).len(), sent);
    }
    assert_eq!(vtepd.drops("no-socket"), before);
}

/// The same on the underlay: VXLAN that arrives on a queue added later is decapsulated, and the
/// host's stack does not get it (findings D5, N4).
#[test]
fn ethtool_channels_of_the_underlay_are_followed() {
    over_underlay("xdp", || channels_of_the_underlay(4));
    // One socket for the one worker, whatever the queues.
    over_underlay("packet", || channels_of_the_underlay(1));
}

fn channels_of_the_underlay(sockets: usize) {
    let [ns, far] = ["h1", "h9"].map(Netns::new);
    link::veth_queues(&ns, "eth0", &far, "eth0", 4);
    for (at, address) in [(&ns, 1), (&far, 9)] {
        at.ip("link set eth0 mtu 1600");
        at.ip(&format!("addr add {}/24 dev eth0", vtep4(address)));
    }
    for at in [&far, &ns] {
        assert!(channels(at, "eth0", 1).status.success());
    }
    let host = Host::new(&ns, 11);
    let config = Config::new(vtep4(1))
        .vni(100, &[vtep4(9)])
        .port("t11", &[mac(11)]);
    let vtepd = Vtepd::start(&ns, &config);
    vtepd.expect_up(&[vtep4(9)]);
    for at in [&ns, &far] {
        assert!(channels(at, "eth0", 4).status.success());
    }
    wait_for("sockets of all queues", 5, || {
        (served(&vtepd, "eth0") == sockets).then_some(())
    });
    let tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
    let mut peer = Raw::open(&far, "eth0", Kind::Packet);
    let before = ns.run("nstat -az UdpNoPorts IcmpOutDestUnreachs");
    for flow in 0..40_u16 {
        let inner = plain(&mac(11), &mac(12), "on-any-queue");
        let mut packet = Packet::v4(&ns.mac("eth0"), &far.mac("eth0"), inner);
        packet.ports.0 = 49_152 + flow;
        peer.send(&packet.bytes());
    }
    assert_eq!(tenant.expect("on-any-queue", 40).len(), 40);
    let after = ns.run("nstat -az UdpNoPorts IcmpOutDestUnreachs");
    assert_eq!(
        numbers(&before),
        numbers(&after),
        "the host's stack got VXLAN"
    );
}

/// The second column of nstat's lines.
fn numbers(text: &str) -> Vec<String> {
    let second = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    text.lines().filter_map(second).collect()
}

/// A port that is configured by an alternative name follows its interface like any other (finding
/// D5).
#[test]
fn a_port_by_alternative_name_survives_re_creation_and_goes_down_with_its_link() {
    IO_KINDS.into_iter().for_each(a_port_by_alternative_name);
}

fn a_port_by_alternative_name(io: &str) {
    let pair = Pair::with_io(Underlay::V4, Peer::Linux, io);
    let [a, b] = &pair.hosts;
    let (ns, vtepd) = (&pair.hypervisors[0], &pair.daemons[0]);
    vtepd.done("port del t11 --vni 100");
    ns.ip("link property add dev t11 altname guest-a");
    vtepd.done(&format!(
        "port add guest-a --vni 100 --mac {} --io {io}",
        mac(11)
    ));
    assert_eq!(port(vtepd, "guest-a")["io"], io);
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    ns.ip("link set t11 down");
    let state = |wanted: &str| {
        wait_for(wanted, 5, || {
            (port(vtepd, "guest-a")["state"] == wanted).then_some(())
        });
    };
    state("down");
    ns.ip("link set t11 up");
    state("up");
    // Another main name: the alternative one still leads to it.
    for (from, to) in [("t11", "t11x"), ("t11x", "t11")] {
        ns.ip(&format!("link set {from} name {to}"));
        assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    }
    ns.ip("link del t11");
    state("absent");
    link::veth(ns, "t11", &a.ns, "eth0");
    a.ns.ip(&format!("link set eth0 address {}", mac(11)));
    a.ns.ip(&format!("addr add {}/24 dev eth0", a.ip4()));
    ns.ip("link property add dev t11 altname guest-a");
    state("up");
    wait_for("traffic again", 10, || {
        answers(&a.ns, b.ip4()).then_some(())
    });
    ns.ip("link property del dev t11 altname guest-a");
    state("absent");
}

/// The underlay by an alternative name.
#[test]
fn the_underlay_may_be_an_alternative_name() {
    each_underlay(|| {
        let fabric = Fabric::new(1600);
        let [ns, far] = [1, 9].map(|number| fabric.hypervisor(number));
        ns.ip("link property add dev eth0 altname uplink");
        let host = Host::new(&ns, 11);
        let config = Config::with_underlay(vtep4(1), "uplink")
            .vni(100, &[vtep4(9)])
            .port("t11", &[mac(11)])
            .fdb(&mac(12), vtep4(9));
        let vtepd = Vtepd::start(&ns, &config);
        vtepd.expect_up(&[vtep4(9)]);
        let peer = Raw::open(&far, "eth0", Kind::Packet);
        let mut tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
        tenant.send(&plain(&mac(12), &mac(11), "over-uplink"));
        assert_eq!(peer.expect("over-uplink", 1).len(), 1);
    });
}

/// Interfaces that are removed and created again with the same name and index, or that exchange
/// their names, while vtepd does not look (finding D5).
#[test]
fn a_reused_index_and_exchanged_names_are_noticed() {
    IO_KINDS.into_iter().for_each(a_reused_index_with);
}

fn a_reused_index_with(io: &str) {
    let pair = RawPair::with("", &format!("io = \"{io}\""));
    let (ns, vtepd, guest) = (&pair.hypervisors[0], &pair.vtepd, &pair.host.ns);
    let index = ns.link("t11")["ifindex"].clone();
    let arrives = |from: &Netns, marker: &str| {
        wait_for(marker, 10, || {
            Raw::open(from, "eth0", Kind::Packet).send(&plain(&mac(12), &mac(11), marker));
            (!pair.peer.with_marker(marker).is_empty()).then_some(())
        });
    };
    vtepd.while_stopped(|| {
        ns.ip("link del t11");
        ns.ip(&format!(
            "link add t11 index {index} type veth peer name eth0 netns {}",
            guest.name()
        ));
        ns.ip("link set t11 up");
        guest.ip("link set eth0 up");
    });
    arrives(guest, "same-index");
    // Another interface takes its name.
    let other = Netns::new("other");
    link::veth(ns, "t77", &other, "eth0");
    vtepd.while_stopped(|| {
        ns.ip("link set t11 name t11x");
        ns.ip("link set t77 name t11");
    });
    arrives(&other, "exchanged");
    let mut tenant = Raw::open(guest, "eth0", Kind::Packet);
    tenant.send(&plain(&mac(12), &mac(11), "not-ours"));
    arrives(&other, "exchanged-again");
    assert!(pair.peer.with_marker("not-ours").is_empty());
}

/// The BPF map of a daemon with this name and 16,384 entries, by its number.
fn bpf_map(vtepd: &Vtepd, name: &str) -> u32 {
    let descriptors = format!("/proc/{}/fdinfo", vtepd.program.pid());
    let files = std::fs::read_dir(descriptors).expect("vtepd runs");
    let ids = files.filter_map(|file| {
        let text = std::fs::read_to_string(file.ok()?.path()).ok()?;
        let id = text.lines().find_map(|line| line.strip_prefix("map_id:"));
        id?.trim().parse::<u32>().ok()
    });
    let found = ids.into_iter().find(|id| {
        let map = bpftool(&format!("map show id {id} -j"));
        let map: serde_json::Value = serde_json::from_str(&map).expect("JSON");
        map["name"] == name && map["max_entries"] == 16_384
    });
    found.unwrap_or_else(|| panic!("no map {name}"))
}

fn bpftool(words: &str) -> String {
    let output = std::process::Command::new("/usr/sbin/bpftool")
        .args(words.split(' '))
        .output()
        .expect("bpftool: run scripts/setup");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bpftool {words}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the programs of an interface can't be told, as their map can't be written, is said until it
/// succeeds, which is tried again.
#[test]
fn addresses_that_a_bpf_map_does_not_take_are_said_and_tried_again() {
    let pair = RawPair::new();
    let (ns, vtepd) = (&pair.hypervisors[0], &pair.vtepd);
    ns.ip("route add 239.0.0.0/8 dev eth0");
    let map = bpf_map(vtepd, "endpoints");
    let entry = |verb: &str, number: u32, value: &str| {
        let [.., a, b] = number.to_be_bytes();
        format!(
            "map {verb} id {map} key hex ff {a:x} {b:x}{}{value}",
            " 0".repeat(17)
        )
    };
    let fill: String = (1..16_384)
        .map(|number| entry("update", number, " value hex 1") + "\n")
        .collect();
    let file = vtepd.dir().join("fill");
    std::fs::write(&file, fill).expect("the scratch directory can be written");
    bpftool(&format!("batch file {}", file.display()));
    vtepd.done("vni add 300");
    vtepd.done("flood add 239.1.1.1 --vni 300");
    let degraded = || vtepd.show("status")["degraded"].to_string();
    let part = "VXLAN to new ones is not received";
    wait_for("it is said", 10, || degraded().contains(part).then_some(()));
    // Tried again, and still full.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(degraded().contains(part), "{}", degraded());
    bpftool(&entry("delete", 77, ""));
    wait_for("it is told", 10, || {
        (!degraded().contains(part)).then_some(())
    });
    let log = vtepd.program.log();
    assert_eq!(
        log.matches("a BPF map can't be written").count(),
        1,
        "{log}"
    );
}
