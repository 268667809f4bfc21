//! What happens to a frame, as pure functions: no I/O, no clock, no allocation, no `unsafe`.
//!
//! ```text
//! TenantFrame  -> guard -> classify -> lookup -> encapsulate | deliver | flood   (may go to the overlay)
//! OverlayFrame -> decap -> guard    -> lookup -> deliver | flood to local ports  (has no way back to the overlay)
//! ```
//!
//! [`pipeline`] is the way in: it runs these stages over a burst. [`verdict`] names why frames are dropped.

mod cache;
pub mod chain;
mod checksum;
mod parse;
mod context;
mod decap;
mod ecn;
mod encap;
mod flow;
pub mod frame;
mod validate;
mod rate_limit;
mod port_output;
pub mod learn_event;
pub mod tx_queues;
mod vxlan_input;
pub mod pipeline;
pub mod flood;
mod stages;
mod neigh_suppress;
mod tenant_input;
#[cfg(test)]
mod tests;
mod pmtu;
pub mod verdict;
