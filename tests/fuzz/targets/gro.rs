//! TCP segments in one burst, joined and cut again: nothing may be lost or changed, but an IPv4
//! identification that has no meaning.
//!
//! ```text
//! kind 1 | segments: length 1 | number of changes 1 | (offset 1, value 1) for each
//! ```
//!
//! Changes are made to the headers before the checksums are computed, or with offsets from 128 on
//! after that.
#![no_main]

use vtep_dataplane::addr::PortId;
use vtep_dataplane::frame::offload::{ChecksumState, Offload};
use vtep_dataplane::frame::{BURST, FrameMemory};
use vtep_dataplane::pipeline::gro::Gro;
use vtep_dataplane::pipeline::segment::Segmenter;
use vtep_dataplane::port::Port;
use vtep_dataplane::port::memory::{MemoryPort, memory_pools};
use vtep_dataplane::wire::checksum::Sum;

/// Length of a TCP header with 12 bytes of options.
const TCP: usize = 32;

/// A TCP segment with `len` bytes of payload, without checksums.
fn segment(v6: bool, number: u16, sequence: u32, len: u8) -> Vec<u8> {
    let total = TCP as u16 + u16::from(len);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([6, 64]);
        frame.extend([0x20; 32]);
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + total).to_be_bytes());
        frame.extend(number.to_be_bytes());
        frame.extend([0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    }
    frame.extend([0x14, 0x51, 0, 80]);
    frame.extend(sequence.to_be_bytes());
    frame.extend([0, 0, 0, 7, 0x80, 0x10, 1, 0xf5, 0, 0, 0, 0]);
    frame.extend([1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7]);
    frame.resize(frame.len() + usize::from(len), number as u8);
    frame
}

/// Completes the checksums.
fn complete(frame: &mut [u8], v6: bool) {
    let (addresses, tcp) = if v6 { (22, 54) } else { (26, 34) };
    if !v6 {
        let checksum = Sum::new().bytes(&frame[14..34]).checksum();
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
    let sum = Sum::new().bytes(&frame[tcp..]);
    let sum = sum.pseudo_header(&frame[addresses..tcp], 6, frame.len() - tcp);
    frame[tcp + 16..tcp + 18].copy_from_slice(&sum.checksum().to_be_bytes());
}

/// The frames of a burst, as `data` describes them.
fn frames(v6: bool, mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut sequence = 0xffff_ff00u32;
    while let [len, changes, rest @ ..] = data
        && frames.len() < BURST
    {
        let mut frame = segment(v6, frames.len() as u16, sequence, *len);
        sequence = sequence.wrapping_add((*len).into());
        let (changes, rest) = rest.split_at(rest.len().min(usize::from(changes % 4) * 2));
        let (pairs, _) = changes.as_chunks::<2>();
        let change = |frame: &mut Vec<u8>, late: bool| {
            for [at, value] in pairs {
                let at_or_after = usize::from(at % 128);
                if (*at >= 128) == late
                    && let Some(byte) = frame.get_mut(at_or_after)
                {
                    *byte ^= value;
                }
            }
        };
        change(&mut frame, false);
        complete(&mut frame, v6);
        change(&mut frame, true);
        frames.push(frame);
        data = rest;
    }
    frames
}

/// The segments of a frame with an offload from its start.
fn cut(bytes: Vec<u8>, offload: Offload) -> Vec<Vec<u8>> {
    let (Some(segmentation), ChecksumState::Partial { start, .. }) =
        (offload.segmentation, offload.checksum)
    else {
        return vec![bytes];
    };
    let segmenter = Segmenter::new(&bytes, bytes.len(), segmentation, Some(start.into()))
        .expect("what was joined can be cut");
    let cut = |index| {
        let mut segment = vec![0; segmenter.header_len()];
        let payload = &bytes[segmenter.payload(index)];
        segmenter.write(index, &mut segment, Sum::new().bytes(payload));
        [&segment, payload].concat()
    };
    (0..segmenter.count()).map(cut).collect()
}

/// Sorted, without the identifications that have no meaning.
fn comparable(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for frame in &mut frames {
        if frame[12..14] == [8, 0] && frame[20] & 0x40 != 0 {
            frame[18..20].fill(0);
            frame[24..26].fill(0);
        }
    }
    frames.sort_unstable();
    frames
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let frames = frames(kind & 1 != 0, data);
    let mut pool = memory_pools(1, 4096, 2048).remove(0);
    let free = pool.available();
    let mut port = MemoryPort::new();
    port.set_chunk_fill(vtep_fuzz::chunk_fill(*kind));
    let (mut gro, mut burst, mut left) = (Gro::new(), Vec::new(), Vec::new());
    for at in 0..=frames.len() {
        if let Some(frame) = frames.get(at) {
            port.inject(frame);
            port.receive(&mut pool, &mut burst);
            gro.offer(&mut pool, PortId(0), burst.pop().expect("there are chunks"));
        } else {
            gro.finish(&mut pool);
        }
        while let Some((_, frame)) = gro.next_ready() {
            let mut bytes = vec![0; frame.len()];
            pool.memory().read(&frame, &mut bytes);
            let mut offload = pool.memory().buffers().offload(&frame);
            if let ChecksumState::Partial { start, .. } = &mut offload.checksum {
                *start -= frame.start();
            }
            left.extend(cut(bytes, offload));
            pool.free(frame);
        }
    }
    assert_eq!(pool.available(), free, "every chunk was freed");
    assert_eq!(
        comparable(left),
        comparable(frames),
        "nothing is lost or changed"
    );
});
