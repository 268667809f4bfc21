//! The data plane of vtepd: AF_XDP and packet ports, and VXLAN (RFC 7348) between them.
//!
//! ```text
//! from a tenant    port -> tenant_input -> lookup -> vxlan_output | port_output | flood -> port
//! from a VTEP      port -> vxlan_input  -> lookup -> port_output -> port
//! to control       worker -> event (bounded queue)
//! ```
//!
//! A frame never leaves the core of the worker that received it, except by hand-off to the worker
//! that owns the sending queue.
//!
//! Modules import downwards only: `worker -> packet -> afxdp -> port`, `worker -> pipeline -> table ->
//! stats`, `pipeline -> {frame, wire}`, `port -> frame`; `addr`, `drop` and `mem` are at the
//! bottom. `pipeline` and `wire` are pure: no I/O, no clock, no allocation per frame. Nothing in
//! this crate depends on the control thread.

pub mod addr;
pub mod afxdp;
pub mod drop;
pub mod event;
pub mod frame;
pub mod mem;
pub mod packet;
pub mod pipeline;
pub mod port;
pub mod stats;
pub mod table;
pub mod wire;
pub mod worker;
