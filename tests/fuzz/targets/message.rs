//! Requests of the control socket, and the parameters of each change.
#![no_main]

use vtep_control::api::message::Message;

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    let requests = match Message::read(line) {
        Ok(Message::Single(request)) => vec![request],
        Ok(Message::Batch(requests)) => requests,
        Err(error) => return assert!(!error.message.is_empty()),
    };
    for request in requests {
        for method in vtep_control::config::CHANGE_METHODS {
            let _ = vtep_control::config::Change::from_request(method, &request.params);
        }
    }
});
