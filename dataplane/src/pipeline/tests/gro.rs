//! Joining of TCP segments.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::gro_cases::{self, Case, PSH, Tcp, train};
use crate::addr::PortId;
use crate::frame::offload::{ChecksumState, Offload, SegmentKind, Segmentation};
use crate::frame::{FrameMemory, Pool};
use crate::pipeline::gro::{Gro, MAX_TRAINS};
use crate::pipeline::segment::Segmenter;
use crate::port::Port;
use crate::port::memory::{HeapMemory, MemoryPort, memory_pools};
use crate::wire::be16;
use crate::wire::checksum::Sum;

/// A frame that left: its bytes, and the offload with offsets from the start of the frame.
type Left = (Vec<u8>, Offload);

/// What leaves when `frames` are one burst, of segments of at most `chunk_fill` bytes.
fn burst_in(frames: &[Vec<u8>], chunk_fill: usize) -> Vec<(PortId, Left)> {
    let mut pool = memory_pools(1, 1024, 2048).remove(0);
    let free = pool.available();
    let mut port = MemoryPort::new();
    port.set_chunk_fill(chunk_fill);
    let mut gro = Gro::new();
    let (mut received, mut left) = (Vec::new(), Vec::new());
    for frame in frames {
        port.inject(frame);
        port.receive(&mut pool, &mut received);
        for frame in received.drain(..) {
            gro.offer(&mut pool, PortId(0), frame);
            take(&mut gro, &mut pool, &mut left);
        }
    }
    gro.finish(&mut pool);
    take(&mut gro, &mut pool, &mut left);
    assert!(gro.is_empty());
    assert_eq!(pool.available(), free, "every chunk was freed once");
    left
}

fn take(gro: &mut Gro, pool: &mut Pool<HeapMemory>, left: &mut Vec<(PortId, Left)>) {
    while let Some((port, frame)) = gro.next_ready() {
        let mut bytes = vec![0; frame.len()];
        pool.memory().read(&frame, &mut bytes);
        let mut offload = pool.memory().buffers().offload(&frame);
        if let ChecksumState::Partial { start, .. } = &mut offload.checksum {
            *start -= frame.start();
        }
        left.push((port, (bytes, offload)));
        pool.free(frame);
    }
}

fn burst(frames: &[Vec<u8>]) -> Vec<Left> {
    burst_in(frames, usize::MAX)
        .into_iter()
        .map(|(_, left)| left)
        .collect()
}

fn frames(segments: &[Tcp]) -> Vec<Vec<u8>> {
    segments.iter().map(Tcp::frame).collect()
}

/// The number of segments in a frame.
fn count((bytes, offload): &Left) -> usize {
    offload.segmentation.map_or(1, |to| {
        let tcp = if to.kind == SegmentKind::TcpV6 {
            54
        } else {
            34
        };
        let headers = tcp + usize::from(bytes[tcp + 12] >> 4) * 4;
        (bytes.len() - headers).div_ceil(to.size.into())
    })
}

#[test]
fn segments_are_joined_by_the_rules_of_linux() {
    for case in gro_cases::all() {
        let counts: Vec<_> = burst(&case.frames).iter().map(count).collect();
        let Case { name, as_linux, .. } = &case;
        assert_eq!(counts, case.joined, "{name} (as Linux: {as_linux})");
    }
}

#[test]
fn what_is_not_joined_leaves_as_it_came() {
    for case in gro_cases::all() {
        for (bytes, offload) in burst(&case.frames) {
            assert!(
                offload.segmentation.is_some()
                    || offload == Offload::default() && case.frames.contains(&bytes),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn a_joined_frame_has_the_header_of_its_first_segment_and_a_partial_checksum() {
    for v6 in [false, true] {
        let mut segments = train(v6, &[1448, 1448, 100]);
        segments[2].flags |= PSH;
        let (bytes, offload) = burst(&frames(&segments)).remove(0);
        let tcp = if v6 { 54 } else { 34 };
        let kind = if v6 {
            SegmentKind::TcpV6
        } else {
            SegmentKind::TcpV4
        };
        let wanted = Offload {
            segmentation: Some(Segmentation {
                kind,
                size: 1448,
                ecn: false,
            }),
            checksum: ChecksumState::Partial {
                start: tcp as u16,
                offset: 16,
            },
            vlan_tci: None,
        };
        assert_eq!(offload, wanted);
        // What one segment with all the payload would be, but for the checksum.
        let whole = Tcp {
            flags: segments[2].flags,
            payload: 1448 + 1448 + 100,
            ..segments[0].clone()
        };
        let mut wanted = whole.frame();
        let (address, len) = if v6 { (22, 32) } else { (26, 8) };
        let pseudo =
            Sum::new().pseudo_header(&wanted[address..address + len], 6, wanted.len() - tcp);
        wanted[tcp + 16..tcp + 18].copy_from_slice(&pseudo.fold().to_be_bytes());
        assert!(bytes == wanted, "IPv6: {v6}");
    }
}

#[test]
fn frames_of_several_chunks_are_joined() {
    let segments = frames(&train(false, &[8960; 6]));
    let whole = burst(&segments);
    for fill in [1792, 1000, 4000] {
        let left: Vec<_> = burst_in(&segments, fill)
            .into_iter()
            .map(|(_, left)| left)
            .collect();
        assert!(left == whole, "chunks of {fill} bytes");
    }
    assert_eq!(whole.iter().map(count).collect::<Vec<_>>(), [6]);
}

#[test]
fn a_joined_frame_has_no_more_chunks_than_a_frame_may_have() {
    let segments = frames(&train(false, &[400; 20]));
    let left = burst_in(&segments, 100);
    // Each takes five chunks, of 64.
    let counts: Vec<_> = left.iter().map(|(_, left)| count(left)).collect();
    assert_eq!(counts, [12, 8]);
}

#[test]
fn headers_that_end_with_a_chunk_are_not_joined() {
    let segments = frames(&train(false, &[400; 3]));
    for fill in [20, 50, 66] {
        let left = burst_in(&segments, fill);
        assert_eq!(left.len(), 3, "chunks of {fill} bytes");
        assert!(
            left.iter()
                .zip(&segments)
                .all(|(left, sent)| left.1.0 == *sent)
        );
    }
}

#[test]
fn a_shortened_frame_of_several_chunks_is_joined_up_to_its_end() {
    let segments = frames(&train(false, &[3000; 3]));
    let mut pool = memory_pools(1, 64, 2048).remove(0);
    let (mut port, mut gro) = (MemoryPort::new(), Gro::new());
    let (mut received, mut left) = (Vec::new(), Vec::new());
    for frame in &segments {
        port.inject(&[frame, &[9; 40][..]].concat());
    }
    port.receive(&mut pool, &mut received);
    for mut frame in received {
        pool.truncate(&mut frame, segments[0].len());
        gro.offer(&mut pool, PortId(0), frame);
    }
    gro.finish(&mut pool);
    take(&mut gro, &mut pool, &mut left);
    assert!(left[0].1 == burst(&segments)[0]);
    assert_eq!((left.len(), pool.available()), (1, 64));
}

#[test]
fn frames_for_different_ports_are_not_joined_and_other_traffic_is_not_held() {
    let mut segments = frames(&train(false, &[100; 2]));
    let mut pool = memory_pools(1, 64, 2048).remove(0);
    let (mut port, mut gro) = (MemoryPort::new(), Gro::new());
    segments = [0, 0, 1, 1].map(|at| segments[at].clone()).to_vec();
    segments.iter().for_each(|frame| port.inject(frame));
    let udp = super::fixture::udp4(10, super::fixture::mac(1), 60);
    port.inject(&udp);
    let (mut received, mut left) = (Vec::new(), Vec::new());
    port.receive(&mut pool, &mut received);
    let mut received = received.into_iter();
    for id in [0, 1, 0, 1] {
        gro.offer(&mut pool, PortId(id), received.next().unwrap());
        assert!(gro.next_ready().is_none(), "held");
    }
    gro.offer(&mut pool, PortId(0), received.next().unwrap());
    take(&mut gro, &mut pool, &mut left);
    assert_eq!(left, [(PortId(0), (udp, Offload::default()))]);
    gro.finish(&mut pool);
    take(&mut gro, &mut pool, &mut left);
    let joined: Vec<_> = left[1..]
        .iter()
        .map(|(port, left)| (port.0, count(left)))
        .collect();
    assert_eq!(joined, [(0, 2), (1, 2)]);
}

#[test]
fn the_oldest_train_makes_room() {
    let connections = MAX_TRAINS as u16 + 1;
    let segments: Vec<_> = (0..2)
        .flat_map(|round| {
            let segment = train(false, &[100; 2]).swap_remove(round);
            (0..connections).map(move |port| segment.clone().with(|tcp| tcp.port = port))
        })
        .collect();
    let left = burst(&frames(&segments));
    // In each round, each connection takes the place of the one that comes next.
    let ports: Vec<_> = left.iter().map(|(bytes, _)| be16(bytes, 34)).collect();
    let wanted: Vec<_> = (0..connections).chain(0..connections).collect();
    assert_eq!(ports, wanted);
    let some: Vec<_> = segments
        .iter()
        .filter(|tcp| tcp.port > 0)
        .cloned()
        .collect();
    assert!(burst(&frames(&some)).iter().all(|left| count(left) == 2));
}

/// A burst of segments of a few connections, each of which mostly continues the one before.
fn any_burst() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let kinds = (0u8..24, 0u16..3, any::<u8>(), 0usize..60);
    (any::<bool>(), prop::collection::vec(kinds, 1..64)).prop_map(|(v6, kinds)| {
        let mut last: Vec<_> = (0..3)
            .map(|port| Tcp::new(v6, 40).with(|tcp| tcp.port = port))
            .collect();
        kinds
            .into_iter()
            .map(|(kind, port, value, len)| {
                let last = &mut last[usize::from(port)];
                let mut next = last.next(if kind < 18 { 40 } else { len });
                match kind {
                    0 => next.flags ^= value,
                    1 => next.sequence ^= u32::from(value),
                    2 => next.id = value.into(),
                    3 => next.tos = value,
                    4 => next.ttl = value,
                    5 => next.ack ^= u32::from(value),
                    6 => next.window = value.into(),
                    7 => next
                        .options
                        .iter_mut()
                        .skip(7)
                        .take(1)
                        .for_each(|byte| *byte = value),
                    8 => next.options.truncate(usize::from(value % 3) * 4),
                    9 => next.flags |= PSH,
                    10 => next.df ^= true,
                    _ => {}
                }
                *last = next.clone();
                let mut frame = next.frame();
                if kind == 11 {
                    let at = usize::from(value) % frame.len();
                    frame[at] ^= 1;
                }
                frame
            })
            .collect()
    })
}

/// The segments of what left.
fn cut((bytes, offload): &Left) -> Vec<Vec<u8>> {
    let (Some(segmentation), ChecksumState::Partial { start, .. }) =
        (offload.segmentation, offload.checksum)
    else {
        return vec![bytes.clone()];
    };
    let segmenter = Segmenter::new(bytes, bytes.len(), segmentation, Some(start.into())).unwrap();
    (0..segmenter.count())
        .map(|index| {
            let mut segment = vec![0; segmenter.header_len()];
            let payload = &bytes[segmenter.payload(index)];
            segmenter.write(index, &mut segment, Sum::new().bytes(payload));
            [&segment, payload].concat()
        })
        .collect()
}

/// The frames of each connection, without the IPv4 identification where it has no meaning: it
/// increases in the segments of a superframe, whatever it was.
fn connections(frames: impl Iterator<Item = Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut connections = BTreeMap::<_, Vec<_>>::new();
    for mut frame in frames {
        let is_v6 = frame[12..14] == [0x86, 0xdd];
        let (addresses, tcp, protocol) = if is_v6 { (22, 54, 20) } else { (26, 34, 23) };
        if !is_v6 && frame[20] & 0x40 != 0 {
            frame[18..20].fill(0);
            frame[24..26].fill(0);
        }
        let parts = [
            &frame[..14],
            &frame[addresses..tcp + 4],
            &frame[protocol..=protocol],
        ];
        connections.entry(parts.concat()).or_default().push(frame);
    }
    connections
}

#[test]
fn a_joined_frame_is_cut_into_the_same_segments() {
    for case in gro_cases::all() {
        let cut = connections(burst(&case.frames).iter().flat_map(cut));
        assert!(cut == connections(case.frames.into_iter()), "{}", case.name);
    }
}

proptest! {
    #[test]
    fn frames_of_a_connection_stay_in_order_and_are_cut_into_the_same_segments(
        frames in any_burst(),
        fill in 60usize..200,
    ) {
        let left = burst_in(&frames, fill);
        let cut = connections(left.iter().flat_map(|(_, left)| cut(left)));
        prop_assert!(cut == connections(frames.into_iter()));
    }
}
