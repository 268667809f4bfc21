//! The BGP speaker: sockets, sessions and EVPN joined. `bgp`, `rib` and `evpn` are pure; here is their I/O.
//!
//! ```text
//! TCP -> transport -> bgp::Peer -> Routes (EVPN) -> tables
//! TCP <- transport <- bgp::Peer <- Routes (EVPN) <- local MACs, VNIs
//! ```

pub mod socket;
pub mod transport;
