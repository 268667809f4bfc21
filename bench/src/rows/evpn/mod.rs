//! EVPN: from the octets of a neighbor to entries of the MAC table, with the daemon's own code.
//!
//! ```text
//! Hosts -> octets -> bgp::Peer (in memory), or BgpSpeaker (TCP)
//!       -> evpn::EvpnSpeaker -> Fib -> MacReader
//! ```

pub mod failover;
pub mod hosts;
pub mod ingest;
pub mod interference;
pub mod memory;
pub mod sink;
pub mod tcp;
