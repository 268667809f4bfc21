//! ICMP errors to tenants whose packets are too long for the underlay.

use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4};

use super::fixture::{Fixture, mac, tagged, udp4, udp6};
use crate::drop::DropReason;
use crate::wire::put16;

#[test]
fn ipv4_gets_fragmentation_needed() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.run(1, &[udp4(1, mac(10), 1450 - 42)]).len(), 1);
    let long = udp4(1, mac(10), 1451 - 42);
    let sent = fixture.run(1, [&long]);
    let [(1, report)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(report[..12], [mac(1), mac(10)].concat());
    assert_eq!(report.len(), 14 + 576);
    assert_eq!(report[14 + 28..], long[14..14 + 548]);
    let sliced = SlicedPacket::from_ethernet(report).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!()
    };
    assert_eq!(
        (ip.header().source(), ip.header().destination()),
        ([10, 0, 0, 10], [10, 0, 0, 1])
    );
    assert_eq!(
        ip.header().to_header().calc_header_checksum(),
        ip.header().header_checksum()
    );
    let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else {
        panic!()
    };
    let wanted = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1436 };
    assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(wanted));
    assert!(
        crate::wire::checksum::Sum::new()
            .bytes(&report[34..])
            .is_valid()
    );
    assert_eq!(
        (
            fixture.dropped(DropReason::TooBig),
            fixture.vtep(0).dropped(),
            fixture.port(0).dropped()
        ),
        (1, 1, 1)
    );
}

#[test]
fn ipv6_gets_packet_too_big_also_on_a_trunk() {
    let mut fixture = Fixture::new();
    let long = udp6(3, mac(11), 1440);
    let sent = fixture.run(3, &[tagged(&long, 0x8100, 10)]);
    let [(3, report)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(report[12..16], [0x81, 0, 0, 10]);
    assert_eq!(report.len(), 18 + 1280);
    assert_eq!(report[18 + 48..], long[14..14 + 1232]);
    let sliced = SlicedPacket::from_ethernet(report).unwrap();
    let Some(NetSlice::Ipv6(ip)) = &sliced.net else {
        panic!()
    };
    assert_eq!(
        (ip.header().source(), ip.header().destination()),
        ([0x21; 16], [0x20; 16])
    );
    let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else {
        panic!()
    };
    assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: 1436 });
    assert!(icmp.is_checksum_valid([0x21; 16], [0x20; 16]));
}

#[test]
fn no_error_is_sent_for_errors_groups_and_later_fragments() {
    let mut fixture = Fixture::new();
    let long = udp4(1, mac(10), 1440);
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = long.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let mut icmp_error = with(23, &[1]);
    icmp_error[34] = 3;
    let mut echo = icmp_error.clone();
    echo[34] = 8;
    assert_eq!(fixture.run(1, &[echo]).len(), 1);
    let mut icmp6_error = udp6(1, mac(10), 1440);
    (icmp6_error[20], icmp6_error[54]) = (58, 1);
    let mut other = long.clone();
    put16(&mut other, 12, 0x88b5);
    for silent in [
        icmp_error,
        icmp6_error,
        other,
        with(20, &[0, 9]),
        with(30, &[224, 0, 0, 1]),
        with(30, &[255; 4]),
        with(26, &[0; 4]),
    ] {
        fixture.assert_dropped(1, &silent, DropReason::TooBig);
    }
    assert_eq!(
        fixture.run(1, &[with(20, &[0x20, 0])]).len(),
        1,
        "the first fragment"
    );
}

#[test]
fn errors_are_limited_for_each_port() {
    let mut fixture = Fixture::new();
    fixture.now_ns = 1 << 40;
    assert_eq!(fixture.run(1, vec![udp4(1, mac(10), 1440); 200]).len(), 50);
    assert_eq!(fixture.run(2, vec![udp4(2, mac(10), 1440); 200]).len(), 50);
    assert_eq!(fixture.dropped(DropReason::TooBig), 400);
}

#[test]
fn an_unknown_destination_gets_one_error_and_a_group_none() {
    let mut fixture = Fixture::new();
    let icmp_errors =
        |sent: Vec<(u16, Vec<u8>)>| sent.iter().filter(|(device, _)| *device == 1).count();
    assert_eq!(icmp_errors(fixture.run(1, &[udp4(1, mac(99), 1440)])), 1);
    assert_eq!(icmp_errors(fixture.run(1, &[udp4(1, [0xff; 6], 1440)])), 0);
    assert_eq!(fixture.dropped(DropReason::TooBig), 4);
}
