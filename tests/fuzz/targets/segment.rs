//! Superframes from a tenant: refused, or cut into segments that have all of the payload.
#![no_main]

use vtep_dataplane::frame::offload::{SegmentKind, Segmentation};
use vtep_dataplane::pipeline::segment::{MAX_HEADERS, Segmenter};
use vtep_dataplane::wire::checksum::Sum;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[kind, size @ .., start, more], front)) = data.split_first_chunk::<5>() else {
        return;
    };
    let segmentation = Segmentation {
        kind: match kind & 3 {
            0 => SegmentKind::TcpV4,
            1 => SegmentKind::TcpV6,
            _ => SegmentKind::Udp,
        },
        size: u16::from_be_bytes(size),
        ecn: kind & 4 != 0,
    };
    let start = (kind & 8 == 0).then_some(usize::from(start));
    // The payload of a long frame is not in its front.
    let len = front.len() + usize::from(more) * 280;
    let Ok(segmenter) = Segmenter::new(front, len, segmentation, start) else {
        return;
    };
    let headers = segmenter.header_len();
    let mut out = [0; MAX_HEADERS];
    let mut end = headers;
    for index in 0..segmenter.count() {
        let payload = segmenter.write(index, &mut out, Sum::new());
        assert_eq!(payload, segmenter.payload(index));
        assert_eq!(payload.start, end, "in order, without a gap");
        assert!(headers + payload.len() <= segmenter.longest());
        assert_eq!(out[..12], front[..12], "the MACs");
        end = payload.end;
    }
    assert_eq!(end, len, "all of the payload");
});
