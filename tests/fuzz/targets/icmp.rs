//! ICMP errors of routers on the underlay.
#![no_main]

use vtep_control::underlay::path_mtu::TooBig;

libfuzzer_sys::fuzz_target!(|message: &[u8]| {
    for error in [TooBig::decode_v4(message), TooBig::decode_v6(message)] {
        assert!(error.is_none_or(|error| error.source.is_ipv4() == error.destination.is_ipv4()));
    }
});
