//! VLAN tags that the kernel keeps beside the frame, on access ports.
//!
//! ```text
//! t11: tc puts a tag beside each frame ── h1: vtepd ── eth0 ── fabric ── eth0 ── h9: raw frames
//! ```

use vtep_tests::craft::Packet;
use vtep_tests::frame::plain;
use vtep_tests::link::{mac, tag_beside_frame};
use vtep_tests::netns::wait_for;
use vtep_tests::topology::{IO_KINDS, RawPair};

/// Tags as EtherType and TCI: 802.1Q, 802.1ad, a priority, a priority with VLAN 0.
const TAGS: [(u16, u16); 4] = [(0x8100, 5), (0x88a8, 5), (0x8100, 0x6005), (0x8100, 0x6000)];

/// By default none enters the untagged VNI, and its sender is not learned (finding D4).
#[test]
fn a_frame_with_a_tag_beside_it_is_dropped_as_tagged_and_teaches_nothing() {
    IO_KINDS.into_iter().for_each(a_tag_beside_a_frame_drops_it);
}

fn a_tag_beside_a_frame_drops_it(io: &str) {
    let mut pair = RawPair::with(
        "",
        &format!("learn-limit = 10\nlock = false\nio = \"{io}\""),
    );
    for (number, (protocol, tci)) in TAGS.into_iter().enumerate() {
        tag_beside_frame(&pair.host.ns, "eth0", protocol, tci);
        let before = pair.vtepd.drops("tagged");
        let source = format!("02:00:00:00:05:{number:02x}");
        for _ in 0..50 {
            pair.tenant.send(&plain(&mac(12), &source, "tagged-beside"));
        }
        wait_for("50 drops", 5, || {
            (pair.vtepd.drops("tagged") >= before + 50).then_some(())
        });
        assert_eq!(pair.vtepd.mac(100, &source), None, "{protocol:#x} {tci:#x}");
    }
    assert!(pair.peer.with_marker("tagged-beside").is_empty());
    pair.host.ns.run("tc qdisc del dev eth0 clsact");
    let source = "02:00:00:00:05:ff";
    pair.tenant.send(&plain(&mac(12), source, "untagged-after"));
    assert_eq!(pair.peer.expect("untagged-after", 1).len(), 1);
    wait_for("the sender is learned", 5, || pair.vtepd.mac(100, source));
}

/// A VNI that passes tags gets the frame with its tag (finding D4).
#[test]
fn a_vni_that_passes_tags_gets_the_tag_that_was_beside_the_frame() {
    IO_KINDS.into_iter().for_each(a_tag_beside_a_frame_passes);
}

fn a_tag_beside_a_frame_passes(io: &str) {
    let mut pair = RawPair::with_vni("inner-vlan = \"pass\"", &format!("io = \"{io}\""));
    for (number, (protocol, tci)) in TAGS.into_iter().enumerate() {
        tag_beside_frame(&pair.host.ns, "eth0", protocol, tci);
        let marker = format!("passed-{number}-end");
        pair.tenant.send(&plain(&mac(12), &mac(11), &marker));
        let [got] = &pair.peer.expect(&marker, 1)[..] else {
            panic!("one frame");
        };
        let inner = &got[50..];
        let tag = [protocol.to_be_bytes(), tci.to_be_bytes()].concat();
        assert_eq!(inner[12..16], tag, "{protocol:#x} {tci:#x}: {inner:02x?}");
    }
}

/// Linux sends a frame that is longer than the MTU by its tag only with an 802.1Q tag on a packet socket:
/// with an 802.1ad tag it is counted as `port-mtu`, as long as the MTU has no room for the tag.
#[test]
fn a_full_length_frame_with_a_service_tag_needs_room_in_the_mtu_of_a_packet_port() {
    for io in IO_KINDS {
        let mut pair = RawPair::with_vni("inner-vlan = \"pass\"", &format!("io = \"{io}\""));
        let (to, from) = pair.macs();
        let mut send = |tpid: u16, marker: &str| {
            let mut inner = plain(&mac(11), &mac(12), marker);
            inner.resize(1514, 0);
            let tag = [tpid.to_be_bytes(), 5_u16.to_be_bytes()].concat();
            inner.splice(12..12, tag);
            pair.peer.send(&Packet::v4(&to, &from, inner).bytes());
        };
        send(0x8100, "customer-tag");
        assert_eq!(pair.tenant.expect("customer-tag", 1).len(), 1, "{io}");
        send(0x88a8, "service-tag");
        if io == "packet" {
            wait_for("a drop", 5, || {
                (pair.vtepd.drops("port-mtu") == 1).then_some(())
            });
            assert!(pair.tenant.with_marker("service-tag").is_empty());
        } else {
            assert_eq!(pair.tenant.expect("service-tag", 1).len(), 1, "{io}");
        }
        pair.hypervisors[0].ip("link set t11 mtu 1504");
        wait_for("the tagged frame", 10, || {
            send(0x88a8, "room-for-a-tag");
            (!pair.tenant.with_marker("room-for-a-tag").is_empty()).then_some(())
        });
    }
}

/// Where neither the program nor the socket can see the tag, `show status` says so (finding D4).
#[test]
fn a_port_whose_tags_are_invisible_is_noted() {
    let pair = RawPair::with("[vtep.afxdp]\nmode = \"generic\"", "io = \"xdp\"");
    let status = pair.vtepd.show("status");
    let interfaces = status["interfaces"].as_array().expect("an array");
    let notes = |name: &str| {
        let row = interfaces.iter().find(|row| row["interface"] == name);
        row.expect("a row")["notes"].to_string()
    };
    assert!(notes("t11").contains("VLAN tag"), "{}", notes("t11"));
    assert!(!notes("eth0").contains("VLAN tag"), "{}", notes("eth0"));
}
