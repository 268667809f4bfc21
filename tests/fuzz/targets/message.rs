//! Lines of the control socket: requests with parameters, batches, and invalid input.
#![no_main]

use vtep_control::api::message::RpcMessage;

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    if let Err(error) = RpcMessage::read(line) {
        assert!(!error.message.is_empty());
    }
});
