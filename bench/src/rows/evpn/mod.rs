//! EVPN: octets of a neighbour to entries of the MAC table, as the daemon does it.
//!
//! ```text
//! Hosts -> octets -> bgp::Peer (in memory), or BgpSpeaker (TCP) -> evpn::EvpnSpeaker -> Fib -> MacReader
//! ```

pub mod failover;
pub mod hosts;
pub mod ingest;
pub mod interference;
pub mod memory;
pub mod sink;
pub mod tcp;
