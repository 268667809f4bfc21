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
mod context;
mod decap;
mod ecn;
mod encap;
pub mod flood;
mod flow;
pub mod frame;
pub mod learn_event;
mod neigh_suppress;
mod parse;
pub mod pipeline;
mod pmtu;
mod port_output;
mod rate_limit;
mod stages;
mod tenant_input;
#[cfg(test)]
mod tests;
pub mod tx_queues;
mod validate;
pub mod verdict;
mod vxlan_input;
