//! Frames that are too long, ports that are closed, frames for other stations: each drop is counted
//! for its true reason.

use super::fixture::{Fixture, mac, outer, tagged, udp4};
use crate::addr::{DeviceId, MacAddr};
use crate::drop::DropReason;
use crate::table::mac::Destination;

const ALL: [u8; 6] = [0xff; 6];
/// The MAC of the underlay device.
const OWN: [u8; 6] = [2, 1, 1, 1, 1, 1];

/// A tagged frame of `len` bytes from host 1, or another one.
fn long(from: u8, to: [u8; 6], tags: usize, len: usize) -> Vec<u8> {
    let plain = udp4(from, to, len - 42 - 4 * tags);
    (0..tags).fold(plain, |frame, _| tagged(&frame, 0x8100, 5))
}

/// A VNI that passes tags has room for the tag of a full-size frame (finding D11).
#[test]
fn a_tagged_frame_of_full_size_is_delivered_where_tags_pass() {
    let mut fixture = Fixture::new();
    let from_overlay = |frame: &[u8]| outer(0, 100, 0, frame);
    // Not where they do not pass.
    fixture.assert_dropped(1, &long(1, mac(2), 1, 1518), DropReason::Tagged);
    fixture.set_domain(|domain| {
        domain.pass_tags = true;
        domain.flood.vteps = Box::new([]);
    });
    for tags in [1, 2] {
        let frame = long(1, mac(2), tags, 1518);
        assert_eq!(fixture.run(1, [&frame]), [(2, frame.clone())], "{tags}");
        let inner = long(10, mac(2), tags, 1518);
        assert_eq!(
            fixture.run(0, [from_overlay(&inner)]),
            [(2, inner)],
            "{tags}"
        );
    }
    for frame in [
        long(1, mac(2), 1, 1519),
        long(1, mac(2), 2, 1522),
        long(1, mac(2), 0, 1515),
    ] {
        fixture.assert_dropped(1, &frame, DropReason::PortMtu);
        let mut inner = frame.clone();
        inner[6..12].copy_from_slice(&mac(10));
        fixture.assert_dropped(0, &from_overlay(&inner), DropReason::PortMtu);
    }
    // The trunk's port adds its own tag, so that no other one fits.
    fixture.assert_dropped(1, &long(1, mac(3), 1, 1518), DropReason::PortMtu);
    assert_eq!(fixture.run(1, [long(1, mac(3), 1, 1514)]).len(), 1);
    let flood = long(1, ALL, 1, 1518);
    assert_eq!(
        fixture.run(1, [&flood]),
        [(2, flood.clone())],
        "to the port without a tag"
    );
    let flood = long(10, ALL, 1, 1518);
    assert_eq!(fixture.run(0, [from_overlay(&flood)]).len(), 2);
}

/// A port without its interface is down, whatever the length of the frame, and a port that another
/// domain has now is not blamed (finding D18).
#[test]
fn frames_for_a_closed_port_are_counted_as_port_down() {
    let mut fixture = Fixture::new();
    fixture.set_port(1, |port| port.max_frame = 0);
    fixture.set_domain(|domain| {
        domain.pass_tags = true;
        domain.flood.vteps = Box::new([]);
        domain.flood.ports = [0, 1].map(crate::addr::PortId).into();
    });
    for frame in [
        udp4(1, mac(2), 20),
        udp4(1, mac(2), 9000),
        long(1, mac(2), 1, 1518),
        udp4(1, ALL, 20),
    ] {
        fixture.assert_dropped(1, &frame, DropReason::PortDown);
    }
    fixture.assert_dropped(
        0,
        &outer(0, 100, 0, &udp4(10, mac(2), 20)),
        DropReason::PortDown,
    );
    assert_eq!(fixture.port(1).drops[DropReason::PortDown as usize], 5);
    let flood = outer(0, 100, 0, &udp4(10, ALL, 20));
    assert_eq!(fixture.run(0, [flood]).len(), 1, "to the other port");
    assert_eq!(fixture.port(1).drops[DropReason::PortDown as usize], 6);
    // Port 3 belongs to another domain.
    fixture.learn(0, 7, Destination::Port(crate::addr::PortId(3)));
    fixture.assert_dropped(1, &udp4(1, mac(7), 20), DropReason::PortDown);
    assert_eq!(fixture.port(3).drops[DropReason::PortDown as usize], 0);
}

/// A frame that its own interface can't carry was left to be segmented: no MTU elsewhere is the
/// reason (finding D18).
#[test]
fn a_frame_that_was_not_segmented_is_counted_as_such() {
    let mut fixture = Fixture::new();
    for (to, wide, narrow) in [
        (mac(10), DropReason::Unsegmented, DropReason::TooBig),
        (mac(2), DropReason::Unsegmented, DropReason::PortMtu),
        (mac(3), DropReason::Unsegmented, DropReason::PortMtu),
    ] {
        fixture.set_port(0, |_| {});
        let frame = udp4(1, to, 4000);
        let before = fixture.dropped(wide);
        fixture.burst(1, &[&frame]);
        assert_eq!(fixture.dropped(wide), before + 1);
        // From an interface that carries such frames, the destination is the reason.
        fixture.set_port(0, |port| port.max_frame = 9014);
        let before = fixture.dropped(narrow);
        fixture.burst(1, &[&frame]);
        assert_eq!(fixture.dropped(narrow), before + 1);
    }
    fixture.set_port(0, |_| {});
    fixture.burst(1, &[udp4(1, mac(2), 4000)]);
    assert_eq!(
        fixture.port(0).drops[DropReason::Unsegmented as usize],
        1,
        "the sender's port"
    );
    // Two tags are no reason: 1522 bytes are what the interface carries.
    fixture.set_domain(|domain| domain.pass_tags = true);
    fixture.assert_dropped(1, &long(1, mac(2), 2, 1522), DropReason::PortMtu);
}

/// A VXLAN packet is for the station that its MAC names (finding D14).
#[test]
fn packets_for_another_station_are_not_taken() {
    let mut fixture = Fixture::new();
    let inner = udp4(10, mac(1), 50);
    for vtep in [0, 1] {
        let good = outer(vtep, 100, 0, &inner);
        let to = |to: [u8; 6]| {
            let mut packet = good.clone();
            packet[..6].copy_from_slice(&to);
            packet
        };
        for other in [mac(9), [2, 1, 1, 1, 1, 2], [0; 6]] {
            fixture.assert_dropped(0, &to(other), DropReason::OtherStation);
            let in_vlan = tagged(&to(other), 0x8100, 7);
            fixture.assert_dropped(0, &in_vlan, DropReason::OtherStation);
        }
        for own in [OWN, ALL, [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
            assert_eq!(fixture.run(0, [to(own)]).len(), 1, "{own:x?}");
        }
        // The MAC of a bridge or VLAN interface over it.
        fixture.set_devices(|device| {
            if device.id == DeviceId(0) {
                device.macs = Box::new([MacAddr(OWN), MacAddr(mac(9))]);
            }
        });
        assert_eq!(fixture.run(0, [to(mac(9))]).len(), 1);
        // Unknown: frames to any are taken.
        fixture.set_devices(|device| device.macs = Box::new([]));
        assert_eq!(fixture.run(0, [to(mac(8))]).len(), 1);
        fixture.set_devices(|_| {});
    }
}

/// The outer flow label is the same for all packets of a flow and differs between flows (finding
/// D17, RFC 6438).
#[test]
fn the_outer_flow_label_follows_the_flow() {
    let mut fixture = Fixture::new();
    let label = |packet: &[u8]| {
        let header = etherparse::Ipv6Header::from_slice(&packet[14..]).unwrap().0;
        header.flow_label.value()
    };
    let mut labels = std::collections::HashSet::new();
    for port in 0..200_u16 {
        let mut frame = udp4(1, mac(11), 50);
        frame[34..36].copy_from_slice(&(2000 + port).to_be_bytes());
        frame[40..42].fill(0);
        let sent = fixture.run(1, [&frame, &frame]);
        assert_eq!(label(&sent[0].1), label(&sent[1].1));
        labels.insert(label(&sent[0].1));
    }
    assert!(labels.len() > 190, "{}", labels.len());
    // Floods too.
    let mut frame = udp4(1, ALL, 50);
    frame[40..42].fill(0);
    let sent = fixture.run(1, [&frame]);
    let v6 = sent
        .iter()
        .find(|(_, packet)| packet[12..14] == [0x86, 0xdd])
        .unwrap();
    assert_ne!(label(&v6.1), 0);
}
