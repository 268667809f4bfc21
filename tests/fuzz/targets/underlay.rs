//! Packets from the underlay, as given or with the fuzzer's bytes as the inner frame.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let mut fixture = vtep_fuzz::Fixture::new(kind & 4 != 0);
    let packet = match kind & 3 {
        0 => bytes.to_vec(),
        1 => vtep_fuzz::packet(bytes),
        _ => vtep_fuzz::with_headers(bytes),
    };
    fixture.run(vtep_fuzz::UNDERLAY, &packet, vtep_fuzz::chunk_fill(*kind));
});
