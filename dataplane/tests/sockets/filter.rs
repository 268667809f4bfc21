//! Which frames the XDP programs redirect, and which they pass to the host.
//!
//! ```text
//! wire ── veth ── us: XDP program ──┬─ AF_XDP socket
//!                                   └─ network stack
//! ```

use std::net::IpAddr;
use std::process::Command;

use etherparse::PacketBuilder;
use vtep_dataplane::afxdp::{Mode, Program, VlanTags};
use vtep_dataplane::frame::FrameMemory;
use vtep_dataplane::port::Port;

use crate::fixture::{End, Netns, run, until};

const V4: &str = "203.0.113.2";
const V6: &str = "2001:db8::2";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A UDP packet to `to`, with the given VLAN tags (outer tag first).
fn udp(to: &str, port: u16, tags: &[u16]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut bytes = Vec::new();
    let payload = [0x5a; 40];
    match address(to) {
        IpAddr::V4(v4) => ethernet
            .ipv4([203, 0, 113, 9], v4.octets(), 64)
            .udp(50_000, port)
            .write(&mut bytes, &payload),
        IpAddr::V6(v6) => {
            let from = "2001:db8::9"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets();
            ethernet
                .ipv6(from, v6.octets(), 64)
                .udp(50_000, port)
                .write(&mut bytes, &payload)
        }
    }
    .unwrap();
    for tag in tags.iter().rev() {
        bytes.splice(
            12..12,
            [&0x8100_u16.to_be_bytes()[..], &tag.to_be_bytes()].concat(),
        );
    }
    bytes
}

/// Whether `frame`, sent by `wire`, arrives at the socket `to`. It is followed by `taken`, a frame
/// that is always redirected.
fn is_taken(wire: &mut End, to: &mut End, frame: &[u8], taken: &[u8]) -> bool {
    wire.send(frame);
    wire.send(taken);
    let mut burst = Vec::new();
    let mut got = Vec::new();
    until("the frame that is always redirected", || {
        wire.port.wake(&mut wire.pool).unwrap();
        to.port.receive(&mut to.pool, &mut burst);
        for frame in burst.drain(..) {
            got.push(to.pool.memory().bytes(&frame).to_vec());
            to.pool.free(frame);
        }
        got.last().is_some_and(|last| last == taken)
    });
    assert!(got.len() == 1 || got.len() == 2 && got[0] == frame);
    got.len() == 2
}

fn underlay_accepts_only_local_vxlan(mode: Mode) {
    let netns = Netns::new();
    netns.veth("underlay", "wire");
    let locals = vec![address(V4), address(V6)];
    let mut ours = End::open(
        "underlay",
        &Program::Underlay {
            locals,
            udp_port: 4789,
        },
        mode,
    );
    let mut wire = End::open("wire", &Program::Tenant, Mode::Generic);
    let taken = udp(V4, 4789, &[]);
    let mut expect = |what: &str, frame: &[u8], expected: bool| {
        assert_eq!(
            is_taken(&mut wire, &mut ours, frame, &taken),
            expected,
            "{mode:?}: {what}"
        );
    };
    expect("IPv6", &udp(V6, 4789, &[]), true);
    expect("one tag", &udp(V4, 4789, &[10]), true);
    expect("two tags", &udp(V6, 4789, &[10, 20]), true);
    expect("three tags", &udp(V4, 4789, &[10, 20, 30]), false);
    expect("another port", &udp(V4, 4790, &[]), false);
    expect(
        "another IPv4 address",
        &udp("203.0.113.3", 4789, &[]),
        false,
    );
    expect(
        "another IPv6 address",
        &udp("2001:db8::3", 4789, &[]),
        false,
    );
    let change = |at: usize, byte: u8| {
        let mut frame = udp(V4, 4789, &[]);
        frame[at] = byte;
        frame
    };
    expect("a first fragment", &change(20, 0x20), true);
    expect("a later fragment", &change(21, 0x01), false);
    expect("don't fragment", &change(20, 0x40), true);
    expect("TCP", &change(23, 6), false);
    expect("ARP", &change(13, 0x06), false);
    expect(
        "cut off in the UDP header",
        &udp(V4, 4789, &[])[..40],
        false,
    );

    ours.device.set_endpoints(&[address(V6)], 8472).unwrap();
    let taken = udp(V6, 8472, &[]);
    assert!(
        !is_taken(&mut wire, &mut ours, &udp(V4, 4789, &[]), &taken),
        "an address that was removed"
    );
    assert!(
        !is_taken(&mut wire, &mut ours, &udp(V6, 4789, &[]), &taken),
        "the old port"
    );
    ours.close();
    wire.close();
}

#[test]
fn the_native_underlay_program_accepts_only_local_vxlan() {
    underlay_accepts_only_local_vxlan(Mode::Auto);
}

#[test]
fn the_generic_underlay_program_accepts_only_local_vxlan() {
    underlay_accepts_only_local_vxlan(Mode::Generic);
}

/// Adds VLAN 10 to each frame that leaves an interface, in the skb metadata as a VLAN sub-interface
/// does. 18 is `bpf_skb_vlan_push`, 0x0081 the EtherType 0x8100 in network order.
const TAGGER: &str = r#"
static long (*vlan_push)(void *, unsigned short, unsigned short) = (void *)18;
__attribute__((section("classifier"), used)) int tag(void *skb) { vlan_push(skb, 0x0081, 10); return 0; }
char LICENSE[] __attribute__((section("license"), used)) = "GPL";
"#;

/// Whether ARP requests that leave `guest` with the tag of VLAN 10 arrive at the trunk's socket
/// with it.
fn sees_tag(mode: Mode) -> bool {
    let netns = Netns::new();
    netns.veth("trunk", "guest");
    netns.ip("addr add 192.0.2.1/24 dev guest");
    let object =
        std::env::temp_dir().join(format!("vtep-tagger-{}-{mode:?}.o", std::process::id()));
    let source = object.with_extension("c");
    std::fs::write(&source, TAGGER).unwrap();
    let path = object.to_str().unwrap();
    let commands = [
        format!("clang -target bpf -O2 -c {} -o {path}", source.display()),
        "tc qdisc add dev guest clsact".to_owned(),
        format!("tc filter add dev guest egress bpf da obj {path} sec classifier"),
    ];
    commands.iter().for_each(|command| run(command));
    [&source, &object]
        .into_iter()
        .for_each(|file| std::fs::remove_file(file).unwrap());
    let mut trunk = End::open("trunk", &Program::Tenant, mode);
    // No host answers; only the ARP request matters.
    let ping = Command::new("ping")
        .args(["-c1", "-W1", "192.0.2.2"])
        .output()
        .unwrap();
    assert!(!ping.status.success());
    let (mut burst, mut request) = (Vec::new(), None);
    let tag = [0x81, 0, 0, 10, 8, 6];
    until("an ARP request", || {
        trunk.port.receive(&mut trunk.pool, &mut burst);
        for frame in burst.drain(..) {
            let bytes = trunk.pool.memory().bytes(&frame).to_vec();
            trunk.pool.free(frame);
            if bytes[12..14] == [8, 6] || bytes[12..18] == tag {
                request.get_or_insert(bytes);
            }
        }
        request.is_some()
    });
    let bytes = request.unwrap_or_default();
    let tagged = bytes[12..18] == tag;
    assert_eq!(&bytes[..6], &[0xff; 6]);
    let restored = trunk.device.vlan_tags() == VlanTags::Restored;
    assert_eq!(tagged, restored);
    trunk.close();
    tagged
}

/// A tenant's program sees the tag; where it can't, that is known (finding D4).
#[test]
fn a_tenant_port_receives_tags_that_veth_keeps_beside_the_frame() {
    assert!(sees_tag(Mode::Auto));
    assert!(!sees_tag(Mode::Generic));
}
