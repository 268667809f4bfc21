//! Superframes: what reaches each receiver, and what is counted, is the same as if their segments had
//! been received one by one.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::fixture::{Fixture, mac, outer, tagged};
use crate::addr::DeviceId;
use crate::drop::DropReason;
use crate::frame::offload::{ChecksumState, Offload, SegmentKind, Segmentation};
use crate::pipeline::flood::COPIES_PER_ITERATION;
use crate::pipeline::segment::Segmenter;
use crate::port::memory::memory_pools;
use crate::stats::Totals;
use crate::table::port::StormLimit;
use crate::wire::checksum::Sum;
use crate::wire::put16;
use crate::wire::sctp::Crc32c;

const ALL: [u8; 6] = [0xff; 6];
const KINDS: [(SegmentKind, bool); 4] = [
    (SegmentKind::TcpV4, false),
    (SegmentKind::TcpV6, true),
    (SegmentKind::Udp, false),
    (SegmentKind::Udp, true),
];

/// A packet with a complete checksum, from host `from`.
fn packet((kind, v6): (SegmentKind, bool), from: u8, to: [u8; 6], len: usize) -> Vec<u8> {
    let payload: Vec<_> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
    let ethernet = PacketBuilder::ethernet2(mac(from), to);
    let ip = if v6 {
        ethernet.ipv6([0x20; 16], [0x21; 16], 64)
    } else {
        ethernet.ipv4([10, 0, 0, from], [10, 0, 0, to[5]], 64)
    };
    let mut bytes = Vec::new();
    match kind {
        SegmentKind::Udp => ip.udp(1000, 2000).write(&mut bytes, &payload),
        SegmentKind::TcpV4 | SegmentKind::TcpV6 => ip
            .tcp(1000, 2000, u32::MAX - 50, 500)
            .ack(77)
            .psh()
            .cwr()
            .write(&mut bytes, &payload),
    }
    .unwrap();
    bytes
}

/// Offset of the transport header of an untagged packet.
const fn transport(v6: bool) -> usize {
    if v6 { 54 } else { 34 }
}

/// Offset of the checksum in the transport header.
const fn checksum(kind: SegmentKind) -> usize {
    match kind {
        SegmentKind::Udp => 6,
        SegmentKind::TcpV4 | SegmentKind::TcpV6 => 16,
    }
}

/// Bytes of all headers of an untagged packet.
const fn headers((kind, v6): (SegmentKind, bool)) -> usize {
    transport(v6)
        + match kind {
            SegmentKind::Udp => 8,
            SegmentKind::TcpV4 | SegmentKind::TcpV6 => 20,
        }
}

/// Leaves the checksum of an untagged packet to hardware.
fn make_partial(bytes: &mut [u8], (kind, v6): (SegmentKind, bool)) -> ChecksumState {
    let at = transport(v6);
    let addresses = if v6 { 22..54 } else { 26..34 };
    let protocol = if kind == SegmentKind::Udp { 17 } else { 6 };
    let sum = Sum::new().pseudo_header(&bytes[addresses], protocol, bytes.len() - at);
    put16(bytes, at + checksum(kind), sum.fold());
    ChecksumState::Partial {
        start: at as u16,
        offset: checksum(kind) as u16,
    }
}

const fn segmentation(kind: SegmentKind, size: u16) -> Option<Segmentation> {
    Some(Segmentation {
        kind,
        size,
        ecn: false,
    })
}

/// A superframe of `len` bytes of payload with a partial checksum.
fn superframe(
    what: (SegmentKind, bool),
    from: u8,
    to: [u8; 6],
    (len, size): (usize, u16),
) -> (Vec<u8>, Offload) {
    let mut bytes = packet(what, from, to, len);
    let offload = Offload {
        segmentation: segmentation(what.0, size),
        checksum: make_partial(&mut bytes, what),
        vlan_tci: None,
    };
    (bytes, offload)
}

/// The segments of an untagged superframe, or the frame with its checksum.
fn segments((bytes, offload): &(Vec<u8>, Offload)) -> Vec<Vec<u8>> {
    let start = match offload.checksum {
        ChecksumState::Partial { start, .. } => Some(usize::from(start)),
        _ => None,
    };
    let cut = Segmenter::new(bytes, bytes.len(), offload.segmentation.unwrap(), start).unwrap();
    let segment = |index| {
        let payload = &bytes[cut.payload(index)];
        let mut segment = vec![0; cut.header_len()];
        cut.write(index, &mut segment, Sum::new().bytes(payload));
        segment.extend(payload);
        segment
    };
    (0..cut.count()).map(segment).collect()
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.pool = memory_pools(1, 4096, 2048).remove(0);
    fixture
}

/// What is counted for everything.
fn counted(fixture: &Fixture) -> Vec<Totals> {
    let devices = (0..4).map(|id| fixture.device(id));
    let ports = (0..4).map(|id| fixture.port(id));
    let domains = (0..2).map(|id| fixture.domain(id));
    let vteps = (0..5).map(|id| fixture.vtep(id));
    devices.chain(ports).chain(domains).chain(vteps).collect()
}

/// Superframes that arrive on `device` for `to`, and their segments that arrive one by one: the same
/// is sent, with nothing left to do, and the same is counted.
fn same_outcome(
    (whole, superframes): (&mut Fixture, &[(Vec<u8>, Offload)]),
    (single, segments): (&mut Fixture, &[Vec<u8>]),
    device: u16,
    to: [u8; 6],
) -> Result<(), TestCaseError> {
    let sent = whole.run_offloads(device, superframes);
    let complete = |(_, (_, offload)): &(_, (_, Offload))| *offload == Offload::default();
    prop_assert!(sent.iter().all(complete));
    let bytes_of = |(device, (bytes, _))| (device, bytes);
    let mut sent: Vec<_> = sent.into_iter().map(bytes_of).collect();
    let mut expected = single.run(device, segments);
    if to == ALL || to == mac(99) {
        // The order of receivers differs.
        sent.sort();
        expected.sort();
    }
    prop_assert_eq!(sent, expected);
    prop_assert_eq!(counted(whole), counted(single));
    Ok(())
}

/// A superframe in VXLAN: the offload stays that of the inner packet.
fn in_vxlan(
    (inner, mut offload): (&[u8], Offload),
    outer: impl FnOnce(&[u8]) -> Vec<u8>,
) -> (Vec<u8>, Offload) {
    let packet = outer(inner);
    if let ChecksumState::Partial { start, .. } = &mut offload.checksum {
        *start += (packet.len() - inner.len()) as u16;
    }
    (packet, offload)
}

/// How a superframe comes in: the device, the VLAN of a trunk, and whether the tag is beside it.
type Way = (u16, Option<u16>, bool);

/// The frame as it comes in that way.
fn arriving((mut bytes, mut offload): (Vec<u8>, Offload), way: Way) -> (Vec<u8>, Offload) {
    match way {
        (_, None, _) => {}
        (_, Some(vlan), true) => offload.vlan_tci = Some(vlan),
        (_, Some(vlan), false) => {
            bytes = tagged(&bytes, 0x8100, vlan);
            if let ChecksumState::Partial { start, .. } = &mut offload.checksum {
                *start += 4;
            }
        }
    }
    (bytes, offload)
}

proptest! {
    #[test]
    fn segments_reach_their_receivers_as_if_received_one_by_one(
        what in prop::sample::select(KINDS.to_vec()),
        to in prop::sample::select(vec![mac(1), mac(2), mac(3), mac(10), mac(11), mac(12), mac(13),
            mac(14), mac(99), ALL]),
        way in prop::sample::select(vec![(1, None, false), (3, Some(10), false), (3, Some(10), true),
            (3, Some(20), true), (3, Some(5), true)]),
        sizes in prop::collection::vec((1usize..12_000, 100u16..1350), 1..4),
        partial: bool,
        chunk_fill in 200usize..2048,
    ) {
        let mut whole = fixture();
        let mut single = fixture();
        whole.segment_len = chunk_fill;
        let from = if way.0 == 1 { 1 } else { 3 };
        let frames: Vec<_> = sizes
            .into_iter()
            .map(|(len, size)| {
                let mut frame = superframe(what, from, to, (len, size));
                if !partial {
                    frame.0 = packet(what, from, to, len);
                    frame.1.checksum = ChecksumState::Unknown;
                }
                frame
            })
            .collect();
        let expected: Vec<_> = frames
            .iter()
            .flat_map(segments)
            .map(|segment| arriving((segment, Offload::default()), (way.0, way.1, false)).0)
            .collect();
        let frames: Vec<_> = frames.into_iter().map(|frame| arriving(frame, way)).collect();
        same_outcome((&mut whole, &frames), (&mut single, &expected), way.0, to)?;
    }

    /// As a packet socket receives them where they were cut before.
    #[test]
    fn segments_in_chunks_of_their_own_are_cut_in_place(
        what in prop::sample::select(KINDS.to_vec()),
        to in prop::sample::select(vec![mac(2), mac(3), mac(10), mac(11), mac(12), mac(99), ALL]),
        way in prop::sample::select(vec![(1, None, false), (3, Some(10), false), (3, Some(10), true)]),
        lens in prop::collection::vec(1usize..12_000, 1..4),
        size in 200u16..1350,
        off_by in prop::sample::select(vec![0, 0, 0, 1, 7]),
    ) {
        let mut whole = fixture();
        let mut single = fixture();
        let from = if way.0 == 1 { 1 } else { 3 };
        let frames: Vec<_> = lens.into_iter().map(|len| superframe(what, from, to, (len, size))).collect();
        let expected: Vec<_> = frames
            .iter()
            .flat_map(segments)
            .map(|segment| arriving((segment, Offload::default()), (way.0, way.1, false)).0)
            .collect();
        let frames: Vec<_> = frames.into_iter().map(|frame| arriving(frame, way)).collect();
        let headers = headers(what) + if way.1.is_some() && !way.2 { 4 } else { 0 };
        whole.segment_len = size.into();
        whole.first_len = Some(headers + usize::from(size) - off_by);
        same_outcome((&mut whole, &frames), (&mut single, &expected), way.0, to)?;
    }

    /// Linux' vxlan device sends superframes of its tenants whole where the underlay takes them.
    #[test]
    fn superframes_in_vxlan_reach_their_receivers_as_if_their_segments_had(
        what in prop::sample::select(KINDS.to_vec()),
        vtep in 0usize..2,
        to in prop::sample::select(vec![mac(1), mac(2), mac(3), mac(99), ALL]),
        sizes in prop::collection::vec((1usize..12_000, 100u16..1350), 1..4),
        tos in 0u8..4,
        chunk_fill in 200usize..2048,
    ) {
        let mut whole = fixture();
        let mut single = fixture();
        whole.segment_len = chunk_fill;
        let frames: Vec<_> = sizes.into_iter().map(|size| superframe(what, 10, to, size)).collect();
        let expected: Vec<_> = frames
            .iter()
            .flat_map(segments)
            .map(|segment| outer(vtep, 100, tos, &segment))
            .collect();
        let frames: Vec<_> = frames
            .into_iter()
            .map(|(inner, offload)| in_vxlan((&inner, offload), |inner| outer(vtep, 100, tos, inner)))
            .collect();
        same_outcome((&mut whole, &frames), (&mut single, &expected), 0, to)?;
    }

    #[test]
    fn what_is_left_of_other_frames_is_done_at_once(
        what in prop::sample::select(KINDS.to_vec()),
        to in prop::sample::select(vec![mac(2), mac(10), mac(11), mac(99), ALL]),
        way in prop::sample::select(vec![(1, None, false), (3, Some(10), false), (3, Some(10), true)]),
        len in 0usize..1300,
        padding in 0usize..2,
        chunk_fill in 100usize..2048,
        superframes: bool,
    ) {
        let [mut left, mut done] = [fixture(), fixture()];
        left.segment_len = chunk_fill;
        left.set_devices(|device| device.superframes = superframes);
        let from = if way.0 == 1 { 1 } else { 3 };
        let whole = [packet(what, from, to, len), vec![0; padding]].concat();
        let mut partial = packet(what, from, to, len);
        let checksum = make_partial(&mut partial, what);
        partial.resize(partial.len() + padding, 0);
        let offload = Offload { checksum, ..Offload::default() };
        let sent = left.run_offloads(way.0, &[arriving((partial, offload), way)]);
        let sent: Vec<_> = sent.into_iter().map(|(device, (bytes, offload))| {
            assert_eq!(offload, Offload::default());
            (device, bytes)
        }).collect();
        let way = (way.0, way.1, false);
        let expected = done.run(way.0, [arriving((whole, Offload::default()), way).0]);
        prop_assert_eq!(sent, expected);
        prop_assert_eq!(counted(&left), counted(&done));
    }

    #[test]
    fn no_offload_makes_it_panic_or_leak(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        v6 in prop::option::of(any::<bool>()),
        to in prop::sample::select(vec![mac(2), mac(3), mac(10), mac(11), ALL]),
        kind in prop::option::of(prop::sample::select(KINDS.to_vec())),
        size: u16,
        (start, offset) in (0u16..3000, 0u16..100),
        state in 0..3,
        vlan_tci: Option<u16>,
        device in 0u16..4,
        superframes: bool,
    ) {
        let mut bytes = bytes;
        if let (Some(v6), true) = (v6, bytes.len() > 80) {
            let whole = packet((SegmentKind::Udp, v6), 1, to, bytes.len() - 62);
            bytes[..whole.len().min(40)].copy_from_slice(&whole[..whole.len().min(40)]);
        }
        let mut fixture = fixture();
        fixture.set_devices(|device| device.superframes = superframes);
        let offload = Offload {
            segmentation: kind.map(|(kind, ecn)| Segmentation { kind, size, ecn }),
            checksum: match state {
                0 => ChecksumState::Unknown,
                1 => ChecksumState::Valid,
                _ => ChecksumState::Partial { start, offset },
            },
            vlan_tci,
        };
        fixture.run_offloads(device, &[(bytes, offload)]);
    }
}

#[test]
fn a_device_that_takes_superframes_gets_them_whole() {
    for what in KINDS {
        let mut fixture = fixture();
        fixture.set_devices(|device| device.superframes = true);
        let frame = superframe(what, 1, mac(2), (9000, 1400));
        let sent = fixture.run_offloads(1, std::slice::from_ref(&frame));
        assert_eq!(sent, [(2, frame.clone())]);
        let cut = segments(&frame);
        let bytes = cut.iter().map(|segment| segment.len() as u64).sum();
        for totals in [fixture.port(1), fixture.device(2)] {
            assert_eq!((totals.tx_frames, totals.tx_bytes), (7, bytes));
        }
        for totals in [fixture.port(0), fixture.device(1)] {
            assert_eq!((totals.rx_frames, totals.rx_bytes), (7, bytes));
        }
        // Through a trunk, in a VLAN; a tag that is kept beside the frame is that of the port.
        let to_trunk = superframe(what, 1, mac(3), (9000, 1400));
        let sent = fixture.run_offloads(1, std::slice::from_ref(&to_trunk));
        assert_eq!(
            sent,
            [(3, arriving(to_trunk.clone(), (3, Some(10), false)))]
        );
        let totals = fixture.device(3);
        assert_eq!((totals.tx_frames, totals.tx_bytes), (7, bytes + 7 * 4));
        assert_eq!(fixture.port(2).tx_bytes, bytes);
        let from_trunk = superframe(what, 3, mac(2), (9000, 1400));
        let sent = fixture.run_offloads(3, &[arriving(from_trunk.clone(), (3, Some(10), true))]);
        assert_eq!(sent, [(2, from_trunk)]);
        let totals = fixture.device(3);
        assert_eq!((totals.rx_frames, totals.rx_bytes), (7, bytes + 7 * 4));
        assert_eq!(fixture.port(2).rx_bytes, bytes);
        // A VTEP gets segments all the same.
        let to_vtep = superframe(what, 1, mac(10), (9000, 1400 - 42));
        assert_eq!(fixture.run_offloads(1, &[to_vtep]).len(), 7);
    }
}

/// No device takes a superframe of a tunnel whole: the kernel would cut it as if there were no
/// tunnel.
#[test]
fn cutting_in_place_takes_no_chunk() {
    for (what, to) in KINDS.into_iter().flat_map(|what| [(what, 2), (what, 10)]) {
        for room in [usize::MAX, 3] {
            let mut fixture = Fixture::new();
            fixture.pool = memory_pools(1, 7, 2048).remove(0);
            fixture.segment_len = 1300;
            fixture.first_len = Some(headers(what) + 1300);
            let device = if to == 2 { 2 } else { 0 };
            fixture.set_room(device, room);
            let frame = superframe(what, 1, mac(to), (9000, 1300));
            let sent = fixture.run_offloads(1, &[frame]);
            assert_eq!(sent.len(), room.min(7), "{what:?}");
            let dropped = fixture.device(device).drops[DropReason::TxFull as usize];
            assert_eq!(dropped, 7 - sent.len() as u64);
        }
    }
}

#[test]
fn a_superframe_in_a_tunnel_is_cut_for_every_device() {
    let (inner, mut offload) = superframe(KINDS[0], 7, mac(8), (9000, 1350));
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(mac(1), mac(2))
        .ipv4([10, 1, 0, 1], [10, 1, 0, 2], 64)
        .udp(50_000, 8472)
        .write(
            &mut bytes,
            &[&[8, 0, 0, 0, 0, 0, 7, 0], &inner[..]].concat(),
        )
        .unwrap();
    put16(&mut bytes, 34 + 6, 0);
    offload.checksum = ChecksumState::Partial {
        start: 50 + 34,
        offset: 16,
    };
    let frame = (bytes, offload);
    let mut fixture = fixture();
    fixture.set_devices(|device| device.superframes = true);
    let sent = fixture.run_offloads(1, std::slice::from_ref(&frame));
    let expected = segments(&frame).into_iter();
    let expected: Vec<_> = expected
        .map(|segment| (2, (segment, Offload::default())))
        .collect();
    assert_eq!(sent, expected);
    assert_eq!(fixture.port(1).tx_frames, 7);
    let sent = fixture.run_offloads(1, &[to(frame, ALL)]);
    assert_eq!(sent.iter().filter(|(device, _)| *device == 2).count(), 7);
}

fn to((mut bytes, offload): (Vec<u8>, Offload), to: [u8; 6]) -> (Vec<u8>, Offload) {
    bytes[..6].copy_from_slice(&to);
    (bytes, offload)
}

/// Each receiver of a flood gets what it takes, and segments are bounded like other copies.
#[test]
fn a_flood_of_superframes_is_cut_for_each_receiver() {
    let mut fixture = fixture();
    fixture.set_devices(|device| device.superframes = device.id == DeviceId(2));
    let frame = superframe(KINDS[0], 1, ALL, (9000, 1350));
    let sent = fixture.run_offloads(1, std::slice::from_ref(&frame));
    let of = |id| sent.iter().filter(move |(device, _)| *device == id);
    assert_eq!(of(2).map(|(_, frame)| frame).collect::<Vec<_>>(), [&frame]);
    assert_eq!((of(3).count(), of(0).count()), (7, 14));
    // Two ports and eight VTEPs, seven segments each: no iteration makes many more copies than of
    // other frames.
    fixture.set_vteps(8);
    let frames = vec![frame; 3];
    let mut before = fixture.device(0).tx_frames + fixture.device(3).tx_frames;
    let mut sent = Vec::new();
    fixture.process(1, &frames);
    let mut iterations = 0;
    while fixture.replicate(&mut sent) > 0 {
        let now = fixture.device(0).tx_frames + fixture.device(3).tx_frames;
        assert!(
            now - before <= COPIES_PER_ITERATION as u64 + 7,
            "{}",
            now - before
        );
        before = now;
        iterations += 1;
    }
    assert!(iterations > 4, "{iterations}");
    assert_eq!(fixture.vtep(7).tx_frames, 21);
}

#[test]
fn segments_that_do_not_fit_the_path_are_reported_once_and_counted_each() {
    let mut fixture = fixture();
    fixture.set_port(0, |port| port.max_frame = 9014);
    for (what, ip) in [(KINDS[0], 34), (KINDS[1], 54)] {
        // The path takes 1450 bytes, the local port 1514.
        let frame = superframe(what, 1, mac(10), (9000, 1440));
        let before = fixture.dropped(DropReason::TooBig);
        let sent = fixture.run_offloads(1, &[frame]);
        assert_eq!(fixture.dropped(DropReason::TooBig), before + 7);
        let [(1, (error, _))] = &sent[..] else {
            panic!("one ICMP error: {sent:?}")
        };
        let mtu = if what.1 {
            u32::from_be_bytes(*error[ip + 4..].first_chunk().unwrap())
        } else {
            u16::from_be_bytes(*error[ip + 6..].first_chunk().unwrap()).into()
        };
        assert_eq!(mtu, 1450 - 14);
        let fits = superframe(what, 1, mac(2), (9000, 1440));
        assert_eq!(fixture.run_offloads(1, &[fits]).len(), 7);
        let long = superframe(what, 1, mac(2), (9000, 1500));
        let before = fixture.dropped(DropReason::PortMtu);
        assert_eq!(fixture.run_offloads(1, &[long]), []);
        assert_eq!(fixture.dropped(DropReason::PortMtu), before + 6);
    }
}

#[test]
fn a_superframe_spends_the_storm_limit_of_all_its_segments() {
    let mut fixture = fixture();
    fixture.set_port(0, |port| {
        port.storm = Some(StormLimit { rate: 1, burst: 10 });
    });
    let frame = superframe(KINDS[0], 1, ALL, (9000, 1350));
    let frames = vec![frame; 3];
    assert_eq!(fixture.run_offloads(1, &frames).len(), 2 * 4 * 7);
    assert_eq!(fixture.dropped(DropReason::Storm), 7, "the third one");
}

/// A vnet header does not tell SCTP's CRC32c from an Internet checksum (finding D13).
#[test]
fn a_partial_checksum_of_sctp_is_completed_as_crc32c() {
    let mut frame = Vec::new();
    let packet = [&[0, 7, 0, 9, 1, 2, 3, 4, 0, 0, 0, 0][..], &[0x5a; 900]].concat();
    PacketBuilder::ethernet2(mac(1), mac(2))
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .write(&mut frame, 132.into(), &packet)
        .unwrap();
    let mut expected = frame.clone();
    let crc = Crc32c::default().bytes(&packet).finish();
    expected[42..46].copy_from_slice(&crc);
    let offload = Offload {
        checksum: ChecksumState::Partial {
            start: 34,
            offset: 8,
        },
        ..Offload::default()
    };
    let sent = fixture().run_offloads(1, &[(frame, offload)]);
    assert_eq!(sent, [(2, (expected, Offload::default()))]);
}

#[test]
fn a_superframe_that_can_not_be_cut_has_its_own_reason() {
    let mut fixture = fixture();
    let (good, offload) = superframe(KINDS[0], 1, mac(2), (9000, 1400));
    let mut fragment = good.clone();
    fragment[20] = 0x20;
    let other_start = Offload {
        checksum: ChecksumState::Partial {
            start: 84,
            offset: 16,
        },
        ..offload
    };
    let no_size = Offload {
        segmentation: segmentation(SegmentKind::TcpV4, 0),
        ..offload
    };
    for (at, (frame, offload)) in (1..).zip([
        (fragment, offload),
        (good.clone(), other_start),
        (good, no_size),
    ]) {
        assert_eq!(fixture.run_offloads(1, &[(frame, offload)]), []);
        assert_eq!(fixture.dropped(DropReason::Unsegmentable), at);
        assert_eq!(
            fixture.port(0).drops[DropReason::Unsegmentable as usize],
            at
        );
    }
}

/// What does not fit the transmit queue, and what there are no chunks for, is counted.
#[test]
fn segments_without_room_are_counted() {
    let mut fixture = fixture();
    for (to, device) in [(mac(10), 0), (mac(2), 2)] {
        let frame = superframe(KINDS[0], 1, to, (9000, 1350));
        fixture.set_room(device, 5);
        let sent = fixture.run_offloads(1, &[frame]);
        assert_eq!(sent.len(), 5);
        assert_eq!(fixture.device(device).drops[DropReason::TxFull as usize], 2);
        assert_eq!(fixture.device(device).tx_frames, 5);
    }
    assert_eq!(fixture.domain(0).drops[DropReason::TxFull as usize], 4);
    fixture.set_room(0, usize::MAX);
    // A frame of 9054 bytes takes six of ten chunks.
    fixture.pool = memory_pools(1, 10, 2048).remove(0);
    let frame = superframe(KINDS[0], 1, mac(10), (9000, 1350));
    assert_eq!(fixture.run_offloads(1, &[frame]).len(), 4);
    assert_eq!(fixture.dropped(DropReason::NoFrame), 3);
}

/// A TCP packet longer than the MTU of its port was left to be segmented without saying so: a
/// generic XDP program sees it before.
#[test]
fn a_tcp_packet_longer_than_its_ports_mtu_is_cut() {
    for what in [KINDS[0], KINDS[1]] {
        for (to, device) in [(mac(10), 0), (mac(2), 2), (ALL, 2)] {
            let mut fixture = fixture();
            fixture.set_port(0, |port| port.max_frame = 1414);
            let whole = packet(what, 1, to, 9000);
            let headers = transport(what.1) + 20;
            let size = 1414 - headers as u16;
            let offload = Offload {
                segmentation: segmentation(what.0, size),
                ..Offload::default()
            };
            let expected = segments(&(whole.clone(), offload));
            let mut partial = whole.clone();
            make_partial(&mut partial, what);
            for frame in [whole, partial] {
                let sent = fixture.run(1, [frame]);
                let got: Vec<_> = sent
                    .iter()
                    .filter(|(to, _)| *to == device)
                    .map(|(_, bytes)| &bytes[if device == 0 { 50 } else { 0 }..])
                    .collect();
                assert_eq!(got, expected);
            }
            let bytes: usize = expected.iter().map(Vec::len).sum();
            assert_eq!(fixture.port(0).rx_frames, 2 * expected.len() as u64);
            assert_eq!(fixture.device(1).rx_bytes, 2 * bytes as u64);
        }
    }
    // A datagram, a fragment, and a packet with a wrong checksum.
    let mut fixture = fixture();
    let mut fragment = packet(KINDS[0], 1, mac(2), 9000);
    fragment[20] = 0x20;
    let mut wrong = packet(KINDS[0], 1, mac(2), 9000);
    wrong[8000] ^= 1;
    for frame in [packet(KINDS[2], 1, mac(2), 9000), fragment, wrong] {
        fixture.assert_dropped(1, &frame, DropReason::Unsegmented);
    }
}

/// Where paths carry jumbo frames, too: the receiver's port may not.
#[test]
fn a_packet_longer_than_its_ports_mtu_is_cut_for_a_wide_path() {
    let mut fixture = Fixture::jumbo(2048);
    fixture.set_port(0, |port| port.max_frame = 1514);
    let frame = packet(KINDS[0], 1, mac(10), 5000);
    assert_eq!(fixture.run(1, [frame]).len(), 4);
}

/// Segments longer than a chunk take several.
#[test]
fn segments_of_jumbo_size_take_several_chunks() {
    for v6 in [mac(10), mac(11)] {
        let mut whole = Fixture::jumbo(2048);
        let mut single = Fixture::jumbo(2048);
        let frame = superframe(KINDS[1], 1, v6, (60_000, 8948));
        let expected = single.run(1, segments(&frame));
        let sent = whole.run_offloads(1, &[frame]).into_iter();
        let sent: Vec<_> = sent.map(|(device, (bytes, _))| (device, bytes)).collect();
        assert_eq!(sent, expected);
        assert_eq!(counted(&whole), counted(&single));
    }
}

/// A tag beside a frame of an access port is part of the frame, as one inside of it is.
#[test]
fn a_tag_beside_a_frame_passes_where_tags_do() {
    let mut fixture = fixture();
    let frame = superframe(KINDS[0], 1, mac(2), (3000, 1350));
    let beside = arriving(frame.clone(), (1, Some(0xa005), true));
    assert_eq!(fixture.run_offloads(1, std::slice::from_ref(&beside)), []);
    assert_eq!(fixture.dropped(DropReason::Tagged), 3);
    fixture.set_domain(|domain| domain.pass_tags = true);
    let sent = fixture.run_offloads(1, &[beside]);
    let expected: Vec<_> = segments(&frame)
        .iter()
        .map(|segment| tagged(segment, 0x8100, 0xa005))
        .collect();
    let sent: Vec<_> = sent.into_iter().map(|(_, (bytes, _))| bytes).collect();
    assert_eq!(sent, expected);
}

#[test]
fn a_checksum_of_the_underlay_that_was_verified_or_left_to_hardware_is_not_looked_at() {
    let inner = packet((SegmentKind::Udp, false), 10, mac(1), 100);
    for vtep in [0, 1] {
        let mut bytes = outer(vtep, 100, 0, &inner);
        let udp = bytes.len() - inner.len() - 16;
        bytes[udp + 6] ^= 0xff;
        let arrived = |checksum| {
            let offload = Offload {
                checksum,
                ..Offload::default()
            };
            let sent = fixture().run_offloads(0, &[(bytes.clone(), offload)]);
            sent == [(1, (inner.clone(), Offload::default()))]
        };
        assert!(!arrived(ChecksumState::Unknown), "VTEP {vtep}");
        assert!(arrived(ChecksumState::Valid), "VTEP {vtep}");
        let (start, offset) = (udp as u16, 6);
        assert!(
            arrived(ChecksumState::Partial { start, offset }),
            "VTEP {vtep}"
        );
    }
}

#[test]
fn a_checksum_that_the_sender_left_in_the_inner_packet_is_completed() {
    let what = (SegmentKind::TcpV4, false);
    let complete = packet(what, 10, mac(1), 500);
    let mut partial = complete.clone();
    let checksum = make_partial(&mut partial, what);
    let offload = Offload {
        checksum,
        ..Offload::default()
    };
    // The checksum of UDP is that of the completed packet.
    let packet = in_vxlan((&partial, offload), |inner| {
        let mut packet = outer(1, 100, 0, &complete);
        let at = packet.len() - inner.len();
        packet[at..].copy_from_slice(inner);
        packet
    });
    let sent = fixture().run_offloads(0, &[packet]);
    assert_eq!(sent, [(1, (complete, Offload::default()))]);
}

#[test]
fn a_superframe_of_the_underlay_itself_is_dropped_here() {
    let inner = packet((SegmentKind::Udp, false), 10, mac(1), 3000);
    let bytes = outer(0, 100, 0, &inner);
    let udp = bytes.len() - inner.len() - 16;
    let partial = ChecksumState::Partial {
        start: udp as u16,
        offset: 6,
    };
    for checksum in [ChecksumState::Unknown, partial] {
        let offload = Offload {
            segmentation: segmentation(SegmentKind::Udp, 1000),
            checksum,
            vlan_tci: None,
        };
        let mut fixture = fixture();
        assert_eq!(fixture.run_offloads(0, &[(bytes.clone(), offload)]), []);
        assert_eq!(fixture.dropped(DropReason::Unsegmentable), 1);
    }
}
