//! Tests over several parts: recorded messages, damage, RFC 7606, sessions on a virtual clock.

mod attribute_decode;
mod chaos;
mod damage;
mod messages;
mod net;
mod sessions;
mod silence;
mod timers;
mod vectors;
