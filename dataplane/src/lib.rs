//! The packet path of vtepd: AF_XDP ports in, VXLAN (RFC 7348) out, and back.
//!
//! ```text
//! packets   port.rx -> classify -> lookup -> rewrite -> port.tx     (never leaves its core)
//! back      workers -> events (bounded queue) -> control
//! ```
//!
//! Rooms and their direction: `worker -> core -> {wire, table} -> addr`, `afxdp -> port -> core::frame`.
//! `core` and `wire` are pure: no I/O, no clock, no allocation. Nothing here knows the control thread.

pub mod addr;
pub mod afxdp;
pub mod drop;
pub mod event;
pub mod frame;
pub mod mem;
pub mod pipeline;
pub mod port;
pub mod stats;
pub mod table;
pub mod wire;
pub mod worker;
