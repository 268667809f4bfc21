//! Tests over several parts: recorded messages, damage, RFC 7606, sessions on a virtual clock.

mod chaos;
mod damage;
mod messages;
mod net;
mod revised;
mod sessions;
mod silence;
mod timers;
mod vectors;
