//! Superframes with any vnet header, received in a chunk for each segment, and those of UDP taken apart into
//! parts.
#![no_main]

use vtep_dataplane::frame::FrameMemory;
use vtep_dataplane::packet::split::{NotSplit, Parts, Splitter};
use vtep_dataplane::packet::vnet::VnetHeader;
use vtep_dataplane::port::memory::memory_pools;

const CHUNKS: usize = 256;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((header, bytes)) = data.split_first_chunk() else {
        return;
    };
    let header = VnetHeader::from_bytes(*header);
    // Only its front is known before it is received.
    let _ = Parts::of(header, bytes, bytes.len() + 60_000);
    let Some(parts) = Parts::of(header, bytes, bytes.len()) else {
        return;
    };
    let mut pool = memory_pools(1, CHUNKS, 2048).remove(0);
    if !Splitter::takes(&parts, &pool, 0) {
        return;
    }
    let mut splitter = Splitter::new();
    match splitter.copy(&parts, bytes, &mut pool, 0) {
        Ok(()) => {}
        Err(NotSplit::Failed(None)) => return assert!(bytes.len() > 1792, "longer than a chunk"),
        Err(error) => panic!("the pool has the chunks: {error:?}"),
    }
    if Parts::of_datagrams(header, bytes, bytes.len()).is_none() {
        let fits = Splitter::lays_out(&parts, &pool, 0);
        let frame = splitter.join(&parts, &mut pool);
        assert!(frame.is_some() || !fits, "it fits into one frame");
        if let Some(frame) = frame {
            let mut whole = vec![0; frame.len()];
            pool.memory().read(&frame, &mut whole);
            assert_eq!(whole, bytes);
            pool.free(frame);
        }
        return assert_eq!(pool.available(), CHUNKS, "every chunk was freed");
    }
    splitter.write_headers(&parts, &mut pool);
    let mut payload: Vec<u8> = Vec::new();
    while let Some(frame) = splitter.pop() {
        let mut datagram = vec![0; frame.len()];
        pool.memory().read(&frame, &mut datagram);
        let headers = parts.header_len();
        payload.extend(&datagram[headers..]);
        pool.free(frame);
    }
    assert_eq!(payload, bytes[parts.header_len()..], "each byte once");
    assert_eq!(pool.available(), CHUNKS, "every chunk was freed");
});
