//! Input from underlay devices.

use super::fixture::{Fixture, mac, outer, tagged, udp4, udp6};
use crate::addr::PortId;
use crate::drop::DropReason;
use crate::table::mac::Destination;
use crate::wire::{checksum::Sum, put16};

/// Offsets of the IPv4, UDP and VXLAN headers and of the inner frame.
const IP: usize = 14;
const UDP: usize = 34;
const VXLAN: usize = 42;
const INNER: usize = 50;

/// The packet with some bytes changed, with a correct IPv4 header checksum and UDP checksum 0.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut packet = outer(0, 100, 0, &udp4(10, mac(1), 20));
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    put16(&mut packet, UDP + 6, 0);
    put16(&mut packet, IP + 10, 0);
    let checksum = Sum::new().bytes(&packet[IP..IP + 20]).checksum();
    put16(&mut packet, IP + 10, checksum);
    packet
}

/// The packet with a UDP length of `udp` bytes, and an IPv4 length that agrees with it.
fn with_lengths(udp: u16) -> Vec<u8> {
    let mut packet = changed(UDP + 4, &udp.to_be_bytes());
    put16(&mut packet, IP + 2, 20 + udp);
    put16(&mut packet, IP + 10, 0);
    let checksum = Sum::new().bytes(&packet[IP..IP + 20]).checksum();
    put16(&mut packet, IP + 10, checksum);
    packet
}

#[test]
fn a_known_mac_behind_a_port_gets_the_inner_frame() {
    let mut fixture = Fixture::new();
    let inner = udp4(10, mac(1), 60);
    for vtep in 0..4 {
        let packet = outer(vtep, 100, 0, &inner);
        assert_eq!(fixture.run(0, [&packet]), [(1, inner.clone())]);
        let padded = [packet.clone(), vec![0; 9]].concat();
        assert_eq!(fixture.run(0, &[padded]), [(1, inner.clone())]);
        let behind_tags = tagged(&tagged(&packet, 0x8100, 7), 0x88a8, 8);
        assert_eq!(fixture.run(0, &[behind_tags]), [(1, inner.clone())]);
    }
    let inner = udp4(10, mac(3), 60);
    assert_eq!(
        fixture.run(0, &[outer(0, 100, 0, &inner)]),
        [(3, tagged(&inner, 0x8100, 10))]
    );
    assert_eq!(
        (
            fixture.domain(0).rx_frames,
            fixture.vtep(0).rx_frames,
            fixture.vtep(3).rx_bytes
        ),
        (13, 4, 3 * 102)
    );
    assert_eq!(
        (
            fixture.port(0).tx_frames,
            fixture.device(1).tx_frames,
            fixture.device(0).rx_frames
        ),
        (12, 12, 13)
    );
}

#[test]
fn a_flooded_frame_reaches_local_ports_only() {
    let mut fixture = Fixture::new();
    for to in [[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], mac(99)] {
        let inner = udp6(10, to, 60);
        let wanted = [
            (1, inner.clone()),
            (2, inner.clone()),
            (3, tagged(&inner, 0x8100, 10)),
        ];
        assert_eq!(fixture.run(0, &[outer(1, 100, 0, &inner)]), wanted);
    }
    fixture.assert_dropped(
        0,
        &outer(0, 100, 0, &udp4(10, mac(11), 60)),
        DropReason::SplitHorizon,
    );
    let mut fixture = Fixture::new();
    fixture.snapshot.vnis =
        std::sync::Arc::new(crate::table::vni::VniTable::new([super::fixture::domain(
            0,
            100,
            &[0, 1],
            &[],
            &[0],
        )
        .into()]));
    fixture.assert_dropped(
        0,
        &outer(0, 100, 0, &udp4(10, mac(99), 60)),
        DropReason::NoFloodTarget,
    );
}

#[test]
fn invalid_outer_headers_are_dropped_each_with_its_reason() {
    let mut fixture = Fixture::new();
    let good = changed(0, &[]);
    assert_eq!(fixture.run(0, [&good]).len(), 1);
    fixture.assert_dropped(0, &good[..13], DropReason::OuterTruncated);
    fixture.assert_dropped(0, &good[..33], DropReason::OuterTruncated);
    fixture.assert_dropped(0, &changed(12, &[8, 6]), DropReason::WrongDestination);
    fixture.assert_dropped(0, &changed(IP, &[0x55]), DropReason::OuterIp);
    fixture.assert_dropped(0, &changed(IP, &[0x46]), DropReason::OuterIp);
    fixture.assert_dropped(0, &changed(IP + 2, &[1, 0]), DropReason::OuterIp);
    fixture.assert_dropped(0, &changed(IP + 2, &[0, 19]), DropReason::OuterIp);
    let mut wrong_sum = good.clone();
    wrong_sum[IP + 10] ^= 1;
    fixture.assert_dropped(0, &wrong_sum, DropReason::OuterIp);
    fixture.assert_dropped(0, &changed(IP + 6, &[0x20, 0]), DropReason::OuterFragment);
    fixture.assert_dropped(0, &changed(IP + 6, &[0, 1]), DropReason::OuterFragment);
    fixture.assert_dropped(0, &changed(IP + 9, &[6]), DropReason::WrongDestination);
    fixture.assert_dropped(0, &changed(IP + 19, &[9]), DropReason::WrongDestination);
    fixture.assert_dropped(0, &changed(UDP + 3, &[0xb6]), DropReason::WrongDestination);
    fixture.assert_dropped(0, &changed(UDP + 4, &[1, 0]), DropReason::OuterUdp);
    fixture.assert_dropped(0, &changed(UDP + 4, &[0, 7]), DropReason::OuterUdp);
    fixture.assert_dropped(0, &changed(UDP + 4, &[0, 15]), DropReason::OuterUdp);
    fixture.assert_dropped(0, &with_lengths(15), DropReason::OuterTruncated);
    fixture.assert_dropped(0, &changed(IP + 2, &[0, 27]), DropReason::OuterTruncated);
    fixture.assert_dropped(0, &with_lengths(29), DropReason::InnerRunt);
    fixture.assert_dropped(0, &changed(VXLAN, &[0xf7]), DropReason::VxlanFlags);
    fixture.assert_dropped(0, &changed(VXLAN + 4, &[0, 0, 0]), DropReason::UnknownVni);
    fixture.assert_dropped(0, &changed(VXLAN + 4, &[0, 0, 101]), DropReason::UnknownVni);
}

#[test]
fn outer_checksums_are_verified() {
    let mut fixture = Fixture::new();
    for vtep in [0, 1] {
        let mut packet = outer(vtep, 100, 0, &udp4(10, mac(1), 20));
        *packet.last_mut().unwrap() ^= 1;
        fixture.assert_dropped(0, &packet, DropReason::OuterUdpChecksum);
    }
    let mut packet = outer(1, 100, 0, &udp4(10, mac(1), 20));
    put16(&mut packet, 14 + 40 + 6, 0);
    fixture.assert_dropped(0, &packet, DropReason::OuterUdpChecksum);
    fixture.snapshot.settings.udp6_zero_rx = true;
    assert_eq!(fixture.run(0, [&packet]).len(), 1);
    packet[14 + 6] = 44;
    fixture.assert_dropped(0, &packet, DropReason::OuterFragment);
    packet[14 + 6] = 0;
    fixture.assert_dropped(0, &packet, DropReason::OuterIp);
    packet[14 + 6] = 6;
    fixture.assert_dropped(0, &packet, DropReason::WrongDestination);
}

#[test]
fn reserved_bits_are_ignored_unless_strict_reserved_is_on() {
    let mut fixture = Fixture::new();
    for (at, bits) in [(VXLAN, 0x88), (VXLAN + 1, 1), (VXLAN + 7, 0x80)] {
        let packet = changed(at, &[bits]);
        fixture.snapshot.settings.strict_reserved = false;
        assert_eq!(fixture.run(0, [&packet]).len(), 1);
        fixture.snapshot.settings.strict_reserved = true;
        fixture.assert_dropped(0, &packet, DropReason::VxlanReserved);
    }
}

#[test]
fn only_vteps_of_the_vni_may_send() {
    let mut fixture = Fixture::new();
    fixture.assert_dropped(0, &changed(IP + 15, &[77]), DropReason::UnknownVtep);
    fixture.assert_dropped(
        0,
        &changed(IP + 12, &[127, 0, 0, 1]),
        DropReason::UnknownVtep,
    );
    fixture.assert_dropped(
        0,
        &outer(4, 100, 0, &udp4(10, mac(1), 20)),
        DropReason::UnknownVtep,
    );
    fixture.assert_dropped(
        0,
        &outer(1, 200, 0, &udp4(10, mac(4), 20)),
        DropReason::UnknownVtep,
    );
    assert_eq!(
        fixture
            .run(0, &[outer(0, 200, 0, &udp4(10, mac(4), 20))])
            .len(),
        1
    );
    assert_eq!(fixture.domain(0).dropped(), 3);
}

#[test]
fn inner_frames_are_checked() {
    let mut fixture = Fixture::new();
    fixture.assert_dropped(0, &changed(INNER + 6, &[3]), DropReason::InnerSourceMac);
    fixture.assert_dropped(0, &changed(INNER + 6, &[0; 6]), DropReason::InnerSourceMac);
    fixture.assert_dropped(0, &changed(INNER + 12, &[0x81, 0]), DropReason::InnerTagged);
    fixture.assert_dropped(
        0,
        &changed(INNER + 12, &[0x88, 0xa8]),
        DropReason::InnerTagged,
    );
    fixture.assert_dropped(
        0,
        &changed(INNER, &[1, 0x80, 0xc2, 0, 0, 3]),
        DropReason::LinkLocalGroup,
    );
    assert_eq!(
        (
            fixture.vtep(0).dropped(),
            fixture.domain(0).dropped(),
            fixture.vtep(0).rx_frames
        ),
        (5, 5, 5)
    );
    fixture.set_port(0, |port| port.max_frame = 50);
    fixture.assert_dropped(0, &changed(0, &[]), DropReason::PortMtu);
    fixture.learn(0, 1, Destination::Port(PortId(3)));
    fixture.assert_dropped(0, &changed(0, &[]), DropReason::PortDown);
}

#[test]
fn congestion_marks_are_copied_to_the_inner_header() {
    let mut fixture = Fixture::new();
    let ipv4 = |tos| {
        let mut inner = udp4(10, mac(1), 20);
        crate::wire::ipv4::set_tos(&mut inner[14..], tos);
        inner
    };
    let ipv6 = |tos| {
        let mut inner = udp6(10, mac(1), 20);
        crate::wire::ipv6::set_traffic_class(&mut inner[14..], tos);
        inner
    };
    for vtep in [0, 1] {
        for make in [&ipv4 as &dyn Fn(u8) -> Vec<u8>, &ipv6] {
            for (from, to) in [
                (0b11, 0b10),
                (0b11, 0b01),
                (0b01, 0b10),
                (0b00, 0b10),
                (0b10, 0b11),
            ] {
                let wanted = super::super::ecn::inner_tos(from, 0xb8 | to).unwrap();
                assert_eq!(
                    fixture.run(0, &[outer(vtep, 100, from, &make(0xb8 | to))]),
                    [(1, make(wanted))]
                );
            }
            fixture.assert_dropped(
                0,
                &outer(vtep, 100, 3, &make(0xb8)),
                DropReason::EcnCongested,
            );
        }
    }
    let mut arp = udp4(10, mac(1), 20);
    put16(&mut arp, 12, 0x0806);
    assert_eq!(fixture.run(0, &[outer(0, 100, 3, &arp)]), [(1, arp)]);
}

#[test]
fn vxlan_inside_vxlan_is_decapsulated_once() {
    let mut fixture = Fixture::new();
    let mut inner = outer(0, 100, 0, &udp4(10, mac(1), 20));
    inner[..12].copy_from_slice(&[mac(1), mac(10)].concat());
    assert_eq!(fixture.run(0, &[outer(0, 100, 0, &inner)]), [(1, inner)]);
}

/// A packet from `source` to `group`.
fn to_group(vtep: usize, vni: u32, group: [u8; 4], inner: &[u8]) -> Vec<u8> {
    let mut packet = outer(vtep, vni, 0, inner);
    packet[30..34].copy_from_slice(&group);
    packet[24..26].fill(0);
    let sum = crate::wire::checksum::Sum::new()
        .bytes(&packet[14..34])
        .checksum();
    crate::wire::put16(&mut packet, 24, sum);
    packet[40..42].fill(0);
    packet
}

#[test]
fn packets_to_a_group_are_accepted_for_its_own_vni_only() {
    let mut fixture = Fixture::new();
    let group = [239, 1, 1, 1];
    let inner = udp4(10, [0xff; 6], 20);
    fixture.assert_dropped(
        0,
        &to_group(0, 100, group, &inner),
        DropReason::WrongDestination,
    );
    fixture.set_domain(|domain| {
        domain.group = Some(crate::addr::VtepAddr::group(group.into()).unwrap());
        domain.sources = [crate::addr::VtepId(0)].into_iter().collect();
    });
    // VTEP 0 is known. VTEP 4 is not a VTEP of the VNI: it may send to the group, and nowhere else.
    for vtep in [0, 4] {
        let sent = fixture.run(0, [to_group(vtep, 100, group, &inner)]);
        assert_eq!(
            sent.iter().map(|(device, _)| *device).collect::<Vec<_>>(),
            [1, 2, 3],
            "local ports only"
        );
    }
    fixture.assert_dropped(0, &outer(4, 100, 0, &inner), DropReason::UnknownVtep);
    fixture.assert_dropped(
        0,
        &to_group(0, 100, [239, 1, 1, 2], &inner),
        DropReason::WrongDestination,
    );
    fixture.assert_dropped(
        0,
        &to_group(0, 200, group, &inner),
        DropReason::WrongDestination,
    );
    let mut own = to_group(0, 100, group, &inner);
    own[29] = 1;
    own[24..26].fill(0);
    let sum = crate::wire::checksum::Sum::new()
        .bytes(&own[14..34])
        .checksum();
    crate::wire::put16(&mut own, 24, sum);
    fixture.assert_dropped(0, &own, DropReason::WrongDestination);
}
