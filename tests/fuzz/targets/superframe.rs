//! Frames whose sender, a tenant, left segmentation, checksum or VLAN tag to hardware.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[kind, offload @ ..], bytes)) = data.split_first_chunk::<11>() else {
        return;
    };
    let device = if kind & 1 == 0 {
        vtep_fuzz::TENANT
    } else {
        vtep_fuzz::TRUNK
    };
    let offload = vtep_fuzz::offload(offload);
    let fill = vtep_fuzz::chunk_fill(kind);
    vtep_fuzz::Fixture::new(false).run_offload(device, bytes, offload, fill);
});
