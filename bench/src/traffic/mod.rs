//! Generated traffic: frames that identify themselves, so that the other end can count, check and
//! time them.
//!
//! ```text
//! | Ethernet 14 | IPv4 20 | UDP 8 | magic 4 | sequence 4 | sent at 8 | padding |          plain
//! | Ethernet 14 | IPv4 20 | UDP 8 | VXLAN 8 | a plain frame |                             VXLAN
//! ```

pub mod check;
pub mod generate;
pub mod histogram;
pub mod sink;
pub mod template;
