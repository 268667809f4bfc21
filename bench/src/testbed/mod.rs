//! Namespaces and links for the rows that need real interfaces; removed when the
//! [`topology::Topology`] is dropped.
//!
//! ```text
//! generator namespace      forwarder namespace      sink namespace
//! gen0 ------- veth ------ tenant0    underlay0 ---- veth ---- sink0
//! ```
//!
//! For TCP, [`tenants`] are two namespaces behind one or two hosts.

pub mod forwarder;
pub mod link;
pub mod net;
pub mod program;
pub mod streams;
pub mod tenants;
pub mod topology;
pub mod trial;
