//! Namespaces and links for the rows that need real interfaces; removed when the
//! [`topology::Topology`] is dropped.
//!
//! ```text
//! generator namespace      forwarder namespace      sink namespace
//! gen0 ------- veth ------ tenant0    underlay0 ---- veth ---- sink0
//! ```

pub mod forwarder;
pub mod link;
pub mod net;
pub mod topology;
pub mod trial;
