//! Frames of several segments: the results equal those of the same frames in one segment.

use proptest::prelude::*;

use super::fixture::{Fixture, mac, outer, tagged, udp4, udp6};
use crate::drop::DropReason;
use crate::frame::MAX_CHUNK_SIZE;

/// A chunk that any frame of [`valid`] fits into: the largest possible.
const WHOLE: usize = MAX_CHUNK_SIZE;

/// A valid frame, or a truncated one: from a tenant, from a trunk, or from a VTEP.
fn valid() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let len = prop_oneof![0usize..400, 1500usize..2200, 7500usize..7800];
    (
        0u8..9,
        0u8..15,
        len,
        prop::option::weighted(0.1, 150usize..9000),
    )
        .prop_map(|(kind, to, len, cut)| {
            let to = if to == 0 { [0xff; 6] } else { mac(to) };
            let inner = if kind % 2 == 0 {
                udp4(1, to, len)
            } else {
                udp6(1, to, len)
            };
            let (device, mut frame) = match kind {
                0 | 1 => (1, inner),
                2 | 3 => (3, tagged(&inner, 0x8100, if kind == 2 { 10 } else { 20 })),
                n => (
                    0,
                    outer(
                        usize::from(n) % 4,
                        if n == 8 { 200 } else { 100 },
                        n,
                        &inner,
                    ),
                ),
            };
            frame.truncate(cut.unwrap_or(frame.len()));
            (device, frame)
        })
}

/// Leaves the checksum of a tenant's packet to hardware: the field holds the sum of the
/// pseudo-header.
fn partial(frame: &[u8], v6: bool) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (addresses, udp) = if v6 { (22..54, 54) } else { (26..34, 34) };
    let len = frame.len() - udp;
    let sum = crate::wire::checksum::Sum::new()
        .pseudo_header(&frame[addresses], 17, len)
        .fold();
    crate::wire::put16(&mut frame, udp + 6, sum);
    frame
}

proptest! {
    #[test]
    fn segments_make_no_difference((device, frame) in valid(), segment_len in 1200usize..1793) {
        let mut whole = Fixture::jumbo(WHOLE);
        let mut segmented = Fixture::jumbo(2048);
        segmented.segment_len = segment_len;
        prop_assert_eq!(whole.run(device, [&frame]), segmented.run(device, [&frame]));
        prop_assert_eq!(whole.drops(), segmented.drops());
        prop_assert_eq!(whole.device(device), segmented.device(device));
    }

    #[test]
    fn checksums_left_to_hardware_are_completed_over_all_segments(
        v6: bool, to in 2u8..14, len in 1200usize..8900, segment_len in 1200usize..1793,
    ) {
        prop_assume!(to == 2 || to >= 10);
        let frame = if v6 { udp6(1, mac(to), len) } else { udp4(1, mac(to), len) };
        let mut fixture = Fixture::jumbo(2048);
        fixture.segment_len = segment_len;
        prop_assert_eq!(fixture.run(1, [partial(&frame, v6)]), fixture.run(1, [&frame]));
    }
}

#[test]
fn a_jumbo_frame_is_encapsulated_and_decapsulated_again() {
    let mut fixture = Fixture::jumbo(2048);
    for v6 in [false, true] {
        let (frame, back) = if v6 {
            (udp6(1, mac(11), 8900), udp6(11, mac(1), 8900))
        } else {
            (udp4(1, mac(10), 8900), udp4(10, mac(1), 8900))
        };
        let sent = fixture.run(1, [&frame]);
        let headers = if v6 { 70 } else { 50 };
        assert_eq!(
            (sent.len(), sent[0].0, &sent[0].1[headers..]),
            (1, 0, &frame[..])
        );
        assert_eq!(
            fixture.run(0, [outer(usize::from(v6), 100, 0, &back)]),
            [(1, back)]
        );
    }
    assert_eq!(fixture.drops().iter().sum::<u64>(), 0);
}

#[test]
fn padding_after_the_outer_packet_is_removed_in_any_segment() {
    let mut fixture = Fixture::jumbo(2048);
    fixture.segment_len = 1000;
    for len in [60, 900, 960, 1900, 2000, 4000] {
        let inner = udp4(10, mac(1), len);
        let packet = outer(0, 100, 0, &inner);
        for padding in [1, 60, 999, 1000, 2500] {
            let padded = [&packet[..], &vec![0xee; padding]].concat();
            assert_eq!(
                fixture.run(0, [padded]),
                [(1, inner.clone())],
                "{len} bytes, {padding} of padding"
            );
        }
    }
}

#[test]
fn headers_beyond_the_first_segment_are_dropped_or_left_unchanged() {
    let mut fixture = Fixture::jumbo(2048);
    let packet = outer(0, 100, 0, &udp4(10, mac(1), 100));
    for segment_len in 27..60 {
        fixture.segment_len = segment_len;
        // Nothing panics, no chunk is lost (the fixture checks), and the frame sent is correct.
        let sent = fixture.run(0, [&packet]);
        assert!(
            sent.is_empty() || sent == [(1, udp4(10, mac(1), 100))],
            "{segment_len}"
        );
        assert_eq!(sent.is_empty(), segment_len < 64, "{segment_len}");
    }
    assert!(fixture.dropped(DropReason::OuterTruncated) > 0);
    for segment_len in 18..60 {
        fixture.segment_len = segment_len;
        let frame = udp4(1, mac(10), 60);
        let sent = fixture.run(1, [&frame]);
        assert_eq!(sent[0].1[50..], frame, "{segment_len}");
    }
}

#[test]
fn each_copy_of_a_jumbo_frame_has_all_its_bytes() {
    let mut fixture = Fixture::jumbo(2048);
    for frame in [udp4(1, [0xff; 6], 8900), udp6(1, [0xff; 6], 5000)] {
        let sent = fixture.run(1, [&frame]);
        let expected = [(0, 50), (0, 70), (2, 0)];
        assert_eq!(sent.len(), 4);
        for ((device, bytes), (to, headers)) in sent.iter().zip(expected) {
            assert_eq!((*device, &bytes[headers..]), (to, &frame[..]));
        }
        assert_eq!(sent[3], (3, tagged(&frame, 0x8100, 10)));
    }
}
