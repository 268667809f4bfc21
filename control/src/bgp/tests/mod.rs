//! Tests across modules: recorded and corrupted messages, RFC 7606, sessions on a virtual clock.

mod attribute_decode;
mod chaos;
mod damage;
mod failures;
mod graceful_restart;
mod messages;
mod net;
mod nlri_decode;
mod reconfigure;
mod render;
mod session_errors;
mod sessions;
mod silence;
mod timers;
mod vectors;
