//! Segments from the overlay, joined for tenants' devices that take superframes.

use super::fixture::{Fixture, mac, outer, tagged, udp4};
use super::gro_cases::{Tcp, train};
use crate::addr::DeviceId;
use crate::drop::DropReason;
use crate::frame::offload::{ChecksumState, Offload, Segmentation};

fn fixture(superframes: bool) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.set_devices(|device| device.superframes = superframes && device.id != DeviceId(0));
    fixture
}

/// The packets of VTEP 0 with these frames.
fn packets(frames: &[Vec<u8>]) -> Vec<(Vec<u8>, Offload)> {
    let packet = |frame: &Vec<u8>| (outer(0, 100, 0, frame), Offload::default());
    frames.iter().map(packet).collect()
}

fn frames(segments: &[Tcp]) -> Vec<Vec<u8>> {
    segments.iter().map(Tcp::frame).collect()
}

fn bytes(frames: &[Vec<u8>]) -> u64 {
    frames.iter().map(|frame| frame.len() as u64).sum()
}

/// To host 3, which is behind a trunk.
fn to_trunk(frames: &mut [Vec<u8>]) {
    frames.iter_mut().for_each(|frame| frame[5] = 3);
}

#[test]
fn segments_of_a_burst_are_one_superframe_and_count_as_on_the_wire() {
    for v6 in [false, true] {
        let segments = frames(&train(v6, &[1380; 10]));
        let mut fixture = fixture(true);
        let sent = fixture.run_offloads(0, &packets(&segments));
        let [(1, (frame, offload))] = &sent[..] else {
            panic!("{} frames", sent.len());
        };
        let headers = if v6 { 86 } else { 66 };
        assert_eq!(frame.len(), headers + 13_800);
        assert!(matches!(
            offload,
            Offload {
                segmentation: Some(Segmentation {
                    size: 1380,
                    ecn: false,
                    ..
                }),
                checksum: ChecksumState::Partial { offset: 16, .. },
                vlan_tci: None
            }
        ));
        for totals in [fixture.port(0), fixture.device(1)] {
            assert_eq!(
                (totals.tx_frames, totals.tx_bytes),
                (10, bytes(&segments)),
                "as on the wire"
            );
        }
        assert_eq!(fixture.domain(0).rx_frames, 10);
    }
}

#[test]
fn a_port_of_a_trunk_gets_superframes_with_its_tag() {
    let mut segments = frames(&train(false, &[1380; 5]));
    to_trunk(&mut segments);
    let whole = fixture(true).run_offloads(0, &packets(&segments));
    let [(3, (frame, offload))] = &whole[..] else {
        panic!("{} frames", whole.len());
    };
    assert_eq!(frame[12..18], [0x81, 0, 0, 10, 8, 0]);
    let partial = ChecksumState::Partial {
        start: 38,
        offset: 16,
    };
    assert_eq!(offload.checksum, partial);
}

#[test]
fn other_devices_get_segments_as_they_came() {
    let segments = frames(&train(false, &[1380; 10]));
    let plain = |device| {
        let to = segments.iter().cloned();
        to.map(|frame| (device, (frame, Offload::default())))
            .collect::<Vec<_>>()
    };
    assert!(fixture(false).run_offloads(0, &packets(&segments)) == plain(1));
    let local: Vec<_> = segments
        .iter()
        .map(|frame| (frame.clone(), Offload::default()))
        .collect();
    // Nor are those of a tenant on this host joined.
    assert!(fixture(true).run_offloads(2, &local) == plain(1));
}

#[test]
fn nothing_is_held_beyond_a_burst_and_other_frames_of_a_burst_pass() {
    let segments = frames(&train(false, &[1000; 4]));
    let udp = udp4(10, mac(1), 60);
    let mut fixture = fixture(true);
    for pair in segments.chunks(2) {
        let burst = [pair[0].clone(), udp.clone(), pair[1].clone()];
        let sent: Vec<_> = fixture
            .run_offloads(0, &packets(&burst))
            .into_iter()
            .map(|(_, (frame, _))| frame.len())
            .collect();
        assert_eq!(sent, [udp.len(), 2066]);
    }
}

#[test]
fn a_mark_of_the_underlay_keeps_a_segment_apart() {
    let mut segments = train(false, &[1000; 4]);
    segments.iter_mut().for_each(|tcp| tcp.tos = 2);
    let mut packets = packets(&frames(&segments));
    // Congestion experienced, in the outer header only.
    packets[1].0 = outer(0, 100, 3, &segments[1].frame());
    let sent = fixture(true).run_offloads(0, &packets);
    let lens: Vec<_> = sent.iter().map(|(_, (frame, _))| frame.len()).collect();
    assert_eq!(lens, [1066, 1066, 2066]);
    assert_eq!(sent[1].1.0[15] & 3, 3);
}

#[test]
fn a_superframe_that_a_device_does_not_accept_is_dropped_as_its_segments() {
    let segments = frames(&train(false, &[1380; 10]));
    let mut fixture = fixture(true);
    fixture.set_room(1, 9);
    assert!(fixture.run_offloads(0, &packets(&segments)).is_empty());
    assert_eq!(fixture.dropped(DropReason::TxFull), 10);
    assert_eq!(fixture.port(0).tx_frames, 0);
    fixture.set_room(1, 10);
    assert_eq!(fixture.run_offloads(0, &packets(&segments)).len(), 1);
}

#[test]
fn segments_longer_than_the_port_carries_are_dropped_before_they_are_joined() {
    let segments = frames(&train(false, &[1380; 3]));
    let mut fixture = fixture(true);
    fixture.set_port(0, |port| port.max_frame = 1400);
    assert!(fixture.run_offloads(0, &packets(&segments)).is_empty());
    assert_eq!(fixture.dropped(DropReason::PortMtu), 3);
}

#[test]
fn tagged_segments_pass_as_they_came() {
    let mut fixture = fixture(true);
    let mut segments = frames(&train(false, &[1000; 3]));
    to_trunk(&mut segments);
    // VNI 200 passes tags; host 4 is behind its only port.
    let segments: Vec<_> = segments
        .iter_mut()
        .map(|frame| {
            frame[5] = 4;
            tagged(frame, 0x8100, 30)
        })
        .collect();
    let packets: Vec<_> = segments
        .iter()
        .map(|frame| (outer(0, 200, 0, frame), Offload::default()))
        .collect();
    let sent = fixture.run_offloads(0, &packets);
    let wanted: Vec<_> = segments
        .iter()
        .map(|frame| (3, (tagged(frame, 0x8100, 20), Offload::default())))
        .collect();
    assert!(sent == wanted);
}
