//! Superframes of UDP from the underlay, with any vnet header, taken apart into datagrams.
#![no_main]

use vtep_dataplane::frame::FrameMemory;
use vtep_dataplane::packet::split::{Datagrams, NotSplit, Splitter};
use vtep_dataplane::packet::vnet::VnetHeader;
use vtep_dataplane::port::memory::memory_pools;

const CHUNKS: usize = 256;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((header, bytes)) = data.split_first_chunk() else {
        return;
    };
    let header = VnetHeader::from_bytes(*header);
    // Only its front is known before it is received.
    let _ = Datagrams::of(header, bytes, bytes.len() + 60_000);
    let Some(datagrams) = Datagrams::of(header, bytes, bytes.len()) else {
        return;
    };
    let mut pool = memory_pools(1, CHUNKS, 2048).remove(0);
    if !Splitter::takes(&datagrams, &pool, 0) {
        return;
    }
    let mut splitter = Splitter::new();
    match splitter.copy(&datagrams, bytes, &mut pool, 0) {
        Ok(()) => {}
        Err(NotSplit::Failed(None)) => return assert!(bytes.len() > 1792, "longer than a chunk"),
        Err(error) => panic!("the pool has the chunks: {error:?}"),
    }
    let mut payload: Vec<u8> = Vec::new();
    while let Some(frame) = splitter.pop() {
        let mut datagram = vec![0; frame.len()];
        pool.memory().read(&frame, &mut datagram);
        let headers = datagrams.header_len();
        payload.extend(&datagram[headers..]);
        pool.free(frame);
    }
    assert_eq!(payload, bytes[datagrams.header_len()..], "each byte once");
    assert_eq!(pool.available(), CHUNKS, "every chunk was freed");
});
