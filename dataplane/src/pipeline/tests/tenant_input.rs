//! Input from tenant devices.

use std::sync::Arc;

use etherparse::{NetSlice, SlicedPacket, TransportSlice, UdpSlice};

use super::fixture::{Fixture, LOCAL_V4, LOCAL_V6, mac, outer, tagged, udp4, udp6, vtep};
use crate::addr::{DeviceId, MacAddr, VtepId};
use crate::drop::DropReason;
use crate::table::Dscp;
use crate::table::encapsulation::{HeaderFields, OuterHeader};
use crate::table::port::{ChecksumMode, StormLimit};
use crate::table::vtep::VtepGroup;
use crate::wire::{be16, put16};

const BROADCAST: [u8; 6] = [0xff; 6];

/// Checks the outer IP header and the UDP checksum of an encapsulated packet.
fn check_outer_ip(net: NetSlice<'_>, udp: &UdpSlice<'_>, v6: bool) {
    match net {
        NetSlice::Ipv4(ip) if !v6 => {
            let header = ip.header();
            assert_eq!(
                (header.source(), header.ttl(), header.dont_fragment()),
                (LOCAL_V4, 64, true)
            );
            assert_eq!(
                header.to_header().calc_header_checksum(),
                header.header_checksum()
            );
            assert_eq!(udp.checksum(), 0);
        }
        NetSlice::Ipv6(ip) if v6 => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            assert_eq!(source, LOCAL_V6);
            let right = udp
                .to_header()
                .calc_checksum_ipv6_raw(source, destination, udp.payload())
                .unwrap();
            assert_eq!(udp.checksum(), right);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_known_mac_behind_a_vtep_is_encapsulated() {
    let mut fixture = Fixture::new();
    for (host, header, v6, vlan) in [
        (10, 50, false, false),
        (11, 70, true, false),
        (12, 54, false, true),
        (13, 74, true, true),
    ] {
        let inner = udp4(1, mac(host), 100);
        let sent = fixture.run(1, [&inner]);
        let [(0, packet)] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(packet[header..], inner);
        assert_eq!(packet[..12], [2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
        assert_eq!(packet[header - 8..header], [8, 0, 0, 0, 0, 0, 100, 0]);
        let sliced = SlicedPacket::from_ethernet(packet).unwrap();
        assert_eq!(
            sliced.vlan_ids().first().map(|id| id.value()),
            vlan.then_some(7)
        );
        let Some(TransportSlice::Udp(udp)) = &sliced.transport else {
            panic!()
        };
        assert_eq!(
            (udp.destination_port(), usize::from(udp.length())),
            (4789, 16 + inner.len())
        );
        assert!(udp.source_port() >= 49152);
        check_outer_ip(sliced.net.unwrap(), udp, v6);
    }
    assert_eq!(
        (fixture.vtep(2).tx_frames, fixture.vtep(2).tx_bytes),
        (1, 142)
    );
    assert_eq!(
        (
            fixture.domain(0).tx_frames,
            fixture.port(0).rx_frames,
            fixture.device(0).tx_frames
        ),
        (4, 4, 4)
    );
    assert_eq!(
        (fixture.device(0).tx_bytes, fixture.device(1).rx_bytes),
        (4 * 142 + 50 + 70 + 54 + 74, 4 * 142)
    );
    assert_eq!(fixture.drops(), [0; DropReason::COUNT]);
}

#[test]
fn dscp_and_ecn_are_copied_to_the_outer_header() {
    let mut fixture = Fixture::new();
    for (host, ip) in [(10, 14), (11, 14)] {
        let mut inner = udp4(1, mac(host), 10);
        crate::wire::ipv4::set_tos(&mut inner[14..], 0xb9);
        for (dscp, tos) in [(Dscp::Inherit, 0xb9), (Dscp::Fixed(10), 0x29)] {
            fixture.snapshot.settings.dscp = dscp;
            let packet = fixture.run(1, [&inner]).remove(0).1;
            let found = if host == 10 {
                packet[ip + 1]
            } else {
                packet[ip] << 4 | packet[ip + 1] >> 4
            };
            assert_eq!(found, tos);
            if host == 10 {
                assert!(
                    crate::wire::ipv4::Ipv4::parse(&packet[ip..])
                        .unwrap()
                        .checksum_is_valid()
                );
            }
        }
    }
    fixture.snapshot.settings.udp6_zero_tx = true;
    let packet = fixture.run(1, &[udp4(1, mac(11), 10)]).remove(0).1;
    assert_eq!(be16(&packet, 14 + 40 + 6), 0);
}

#[test]
fn packets_that_may_be_fragmented_have_unique_identifications() {
    let mut fixture = Fixture::new();
    let mut next = vtep("192.0.2.2", None, true);
    let fields = HeaderFields {
        source_mac: MacAddr(mac(8)),
        next_hop_mac: MacAddr(mac(9)),
        vlan: None,
        source: "192.0.2.1".parse().unwrap(),
        destination: next.vtep,
        ttl: 9,
        df: false,
        udp_port: 4789,
    };
    next.paths[0].rewrite = OuterHeader::new(&fields).unwrap();
    Arc::make_mut(&mut fixture.snapshot.vteps).set(VtepId(0), Some(Arc::new(next)));
    let sent = fixture.run(1, vec![udp4(1, mac(10), 10); 3]);
    let mut numbers: Vec<_> = sent.iter().map(|(_, packet)| be16(packet, 18)).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 3);
    assert!(sent.iter().all(|(_, p)| {
        crate::wire::ipv4::Ipv4::parse(&p[14..])
            .unwrap()
            .checksum_is_valid()
    }));
}

#[test]
fn frames_are_switched_between_local_ports() {
    let mut fixture = Fixture::new();
    let frame = udp4(1, mac(2), 50);
    assert_eq!(fixture.run(1, [&frame]), [(2, frame)]);
    let frame = udp4(1, mac(3), 50);
    assert_eq!(fixture.run(1, [&frame]), [(3, tagged(&frame, 0x8100, 10))]);
    let frame = udp4(3, mac(1), 50);
    assert_eq!(
        fixture.run(3, &[tagged(&frame, 0x8100, 0xe00a)]),
        [(1, frame)]
    );
    assert_eq!(
        (
            fixture.port(2).tx_frames,
            fixture.port(2).rx_frames,
            fixture.port(2).tx_bytes
        ),
        (1, 1, 92)
    );
    fixture.assert_dropped(1, &udp4(2, mac(1), 50), DropReason::Hairpin);
    fixture.set_port(1, |port| port.max_frame = 91);
    fixture.assert_dropped(1, &udp4(1, mac(2), 50), DropReason::PortMtu);
    assert_eq!(
        (fixture.port(1).dropped(), fixture.device(2).dropped()),
        (1, 1)
    );
}

#[test]
fn a_flooded_frame_reaches_each_receiver_once_and_not_its_port() {
    let mut fixture = Fixture::new();
    for to in [BROADCAST, [1, 0, 0x5e, 0, 0, 1], mac(99)] {
        let frame = udp4(1, to, 60);
        let sent = fixture.run(1, [&frame]);
        assert_eq!(
            sent.iter().map(|(device, _)| *device).collect::<Vec<_>>(),
            [0, 0, 2, 3]
        );
        assert_eq!(
            (&sent[0].1[50..], &sent[1].1[70..]),
            (&frame[..], &frame[..])
        );
        assert_eq!(
            (&sent[2].1, &sent[3].1),
            (&frame, &tagged(&frame, 0x8100, 10))
        );
    }
    assert_eq!(
        (
            fixture.domain(0).tx_frames,
            fixture.vtep(0).tx_frames,
            fixture.vtep(1).tx_frames
        ),
        (6, 3, 3)
    );
    fixture.assert_dropped(
        3,
        &tagged(&udp4(4, BROADCAST, 10), 0x8100, 20),
        DropReason::NoFloodTarget,
    );
}

#[test]
fn copies_without_a_chunk_are_counted_and_the_last_receiver_still_gets_the_frame() {
    let mut fixture = Fixture::new();
    let held: Vec<_> = (1..fixture.pool.capacity())
        .map_while(|_| fixture.pool.alloc())
        .collect();
    let frame = udp4(1, BROADCAST, 60);
    let sent = fixture.run(1, [&frame]);
    assert_eq!(
        (sent.len(), sent[0].0, &sent[0].1[70..]),
        (1, 0, &frame[..]),
        "the VTEP over IPv6"
    );
    assert_eq!(fixture.dropped(DropReason::NoFrame), 3);
    assert_eq!(
        fixture.pool.available() + held.len(),
        fixture.pool.capacity()
    );
}

#[test]
fn floods_stop_at_the_storm_limit_and_unicast_does_not() {
    let mut fixture = Fixture::new();
    fixture.set_port(0, |port| {
        port.storm = Some(StormLimit { rate: 10, burst: 5 });
    });
    fixture.now_ns = 1_000_000_000_000;
    let frames: Vec<_> = (0..20)
        .flat_map(|_| [udp4(1, BROADCAST, 10), udp4(1, mac(2), 10)])
        .collect();
    let sent = fixture.run(1, &frames);
    assert_eq!(sent.iter().filter(|(device, _)| *device == 3).count(), 5);
    assert_eq!(sent.iter().filter(|(device, _)| *device == 2).count(), 25);
    assert_eq!(
        (
            fixture.dropped(DropReason::Storm),
            fixture.port(0).dropped()
        ),
        (15, 15)
    );
}

#[test]
fn invalid_frames_are_dropped_each_with_its_reason() {
    let mut fixture = Fixture::new();
    let good = udp4(1, mac(10), 20);
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    fixture.assert_dropped(1, &good[..13], DropReason::Runt);
    fixture.assert_dropped(3, &good[..13], DropReason::Runt);
    fixture.assert_dropped(3, &tagged(&good, 0x8100, 10)[..17], DropReason::Runt);
    fixture.assert_dropped(1, &tagged(&good, 0x8100, 5), DropReason::Tagged);
    fixture.assert_dropped(1, &tagged(&good, 0x88a8, 5), DropReason::Tagged);
    fixture.assert_dropped(1, &with(6, &[0; 6]), DropReason::SourceMac);
    fixture.assert_dropped(1, &with(6, &[3]), DropReason::SourceMac);
    fixture.assert_dropped(
        1,
        &with(0, &[1, 0x80, 0xc2, 0, 0, 0x0e]),
        DropReason::LinkLocalGroup,
    );
    fixture.assert_dropped(3, &good, DropReason::UnknownVlan);
    fixture.assert_dropped(3, &tagged(&good, 0x8100, 11), DropReason::UnknownVlan);
    fixture.assert_dropped(3, &tagged(&good, 0x88a8, 10), DropReason::UnknownVlan);
    fixture.assert_dropped(1, &udp4(1, mac(14), 20), DropReason::NoAdjacency);
    assert_eq!(fixture.vtep(4).dropped(), 1);
    fixture.set_port(0, |port| {
        port.lock = Some(Box::new([MacAddr(mac(1)), MacAddr(mac(7))]));
    });
    fixture.assert_dropped(1, &with(6, &mac(6)), DropReason::Locked);
    assert_eq!(fixture.run(1, &[with(6, &mac(7))]).len(), 1);
}

#[test]
fn a_vni_that_passes_tags_keeps_them() {
    let mut fixture = Fixture::new();
    fixture.learn(1, 20, crate::table::mac::Destination::Vtep(VtepId(0)));
    let inner = tagged(&udp4(4, mac(20), 30), 0x8100, 77);
    let sent = fixture.run(3, &[tagged(&inner, 0x8100, 20)]);
    assert_eq!(sent[0].1[50..], inner);
    assert_eq!(sent[0].1[46..49], [0, 0, 200]);
    let inner = tagged(&udp4(20, mac(4), 30), 0x8100, 77);
    assert_eq!(
        fixture.run(0, &[outer(0, 200, 0, &inner)]),
        [(3, tagged(&inner, 0x8100, 20))]
    );
}

#[test]
fn checksums_left_to_hardware_are_completed_for_every_destination() {
    let right = udp6(1, BROADCAST, 99);
    let mut partial = right.clone();
    let sum = crate::wire::checksum::Sum::new()
        .pseudo_header(&right[22..54], 17, 107)
        .fold();
    put16(&mut partial, 60, sum);
    let mut fixture = Fixture::new();
    for (device, sent) in fixture.run(1, [&partial]) {
        assert!(sent.ends_with(&right[14..]), "{device}");
    }
    fixture.set_port(0, |port| port.checksum = ChecksumMode::Trust);
    assert!(
        fixture
            .run(1, [&partial])
            .iter()
            .all(|(_, sent)| sent.ends_with(&partial[14..]))
    );
}

#[test]
fn frames_of_one_flow_keep_their_order() {
    let mut fixture = Fixture::new();
    let frames: Vec<_> = (0..200).map(|n| udp4(1, mac(10), n)).collect();
    let sent: Vec<_> = fixture
        .run(1, &frames)
        .into_iter()
        .map(|(_, packet)| packet[50..].to_vec())
        .collect();
    assert_eq!(sent, frames);
}

#[test]
fn frames_of_a_removed_device_are_freed() {
    let mut fixture = Fixture::new();
    Arc::make_mut(&mut fixture.snapshot.ports).devices[1] = None;
    assert_eq!(fixture.run(1, &[udp4(1, mac(10), 10)]), []);
    assert_eq!(fixture.removed(), 1);
    let mut fixture = Fixture::new();
    fixture.snapshot.vteps = Arc::default();
    fixture.assert_dropped(1, &udp4(1, mac(10), 10), DropReason::NoAdjacency);
    Arc::make_mut(&mut fixture.snapshot.ports).ports[1] = None;
    fixture.assert_dropped(1, &udp4(1, mac(2), 10), DropReason::PortDown);
    assert!(fixture.snapshot.ports.device(DeviceId(2)).is_some());
}

/// (finding C17)
#[test]
fn flows_to_a_segment_spread_over_its_vteps_until_it_is_flushed() {
    const GROUP: VtepId = VtepId(9);
    let set = |fixture: &mut Fixture, members: &[u32]| {
        let members = members.iter().copied().map(VtepId).collect();
        let group = Some(Arc::new(VtepGroup { members }));
        Arc::make_mut(&mut fixture.snapshot.vteps).set_group(GROUP, group);
    };
    let flows: Vec<_> = (0..32)
        .map(|flow| {
            let mut frame = udp4(1, mac(20), 10);
            frame[34..36].copy_from_slice(&(1000 + flow * 7_u16).to_be_bytes());
            frame
        })
        .collect();
    let mut fixture = Fixture::new();
    fixture.learn(0, 20, crate::table::mac::Destination::Vtep(GROUP));
    set(&mut fixture, &[0, 1]);
    let destinations = |fixture: &mut Fixture, flows: &[Vec<u8>]| -> Vec<Vec<u8>> {
        let sent = fixture.run(1, flows);
        // The family of the outer header: VTEP 0 has IPv4, VTEP 1 IPv6.
        sent.iter()
            .map(|(_, packet)| packet[12..14].to_vec())
            .collect()
    };
    let first = destinations(&mut fixture, &flows);
    let ones = first.iter().filter(|to| **to == first[0]).count();
    assert!((4..=28).contains(&ones), "both are used: {ones}");
    assert_eq!(
        destinations(&mut fixture, &flows),
        first,
        "a flow keeps its path"
    );
    let counted = [0, 1].map(|id| fixture.vtep(id).tx_frames);
    assert_eq!(
        counted.iter().sum::<u64>(),
        64,
        "for the VTEPs: {counted:?}"
    );
    assert!(counted.iter().all(|frames| *frames > 0), "{counted:?}");
    set(&mut fixture, &[1]);
    let moved = destinations(&mut fixture, &flows);
    assert!(
        moved.iter().all(|to| *to == moved[0]),
        "all go to the other"
    );
    set(&mut fixture, &[]);
    let flooded = fixture.run(1, &flows[..1]);
    let known = fixture.run(1, &[udp4(1, mac(99), 10)]);
    assert_eq!(flooded.len(), known.len(), "as a MAC that is unknown");
    set(&mut fixture, &[4]);
    fixture.assert_dropped(1, &flows[0], DropReason::NoAdjacency);
}
