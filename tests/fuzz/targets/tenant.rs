//! Frames from a tenant, on an access port or a trunk.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let device = if kind & 1 == 0 {
        vtep_fuzz::TENANT
    } else {
        vtep_fuzz::TRUNK
    };
    vtep_fuzz::Fixture::new(false).run(device, bytes, vtep_fuzz::chunk_fill(*kind));
});
