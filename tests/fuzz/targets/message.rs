//! Lines of the control socket: requests with their parameters, batches, and what is neither.
#![no_main]

use vtep_control::api::message::RpcMessage;

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    if let Err(error) = RpcMessage::read(line) {
        assert!(!error.message.is_empty());
    }
});
