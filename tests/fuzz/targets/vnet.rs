//! Vnet headers of a packet socket, which a guest writes to its tap, with any frame after them.
#![no_main]

use vtep_dataplane::packet::vnet::VnetHeader;

/// Where a frame begins in its chunk.
const START: u16 = 256;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((header, frame)) = data.split_first_chunk() else {
        return;
    };
    // More bytes follow in other chunks.
    for rest in [0, 60_000] {
        let len = frame.len() + rest;
        let Ok(Some(offload)) = VnetHeader::from_bytes(*header).offload(frame, START, len) else {
            continue;
        };
        let sent = VnetHeader::new(offload, frame, START).expect("it can be sent on");
        assert_eq!(sent.offload(frame, START, len), Ok(Some(offload)));
    }
});
