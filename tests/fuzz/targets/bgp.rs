//! Octets from a BGP neighbor: messages, attributes and EVPN routes, as a session reads them. The
//! first octet selects the negotiated capabilities.
#![no_main]

use vtep_control::bgp::wire::{DecodeContext, walk};

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let Some((choice, stream)) = octets.split_first() else {
        return;
    };
    let context = DecodeContext {
        four_octet: choice & 1 == 0,
        internal: choice & 2 == 0,
        add_path: choice & 4 != 0,
    };
    if let Err(notification) = walk(stream, context) {
        assert!(
            (1..=8).contains(&notification.error.code),
            "no such error code: {}",
            notification.error.code
        );
    }
});
