//! What workers look up. The control thread is the only writer.
//!
//! The MAC table ([`mac`]) and the neighbour table ([`neighbor`]) are updated in place. All else is small and published as a [`Snapshot`]: the writer makes a
//! new one, workers take it up at their next turn ([`publish`]), so that one change is seen whole or not at all.

pub mod encapsulation;
pub mod flood;
pub mod mac;
pub mod neighbor;
pub mod port;
pub mod publish;
pub mod vni;
pub mod vtep;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What to put into the outer DSCP field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dscp {
    /// That of the inner IP header, 0 for other frames (uniform model, RFC 2983).
    Inherit,
    /// Always this value, 0..=63 (pipe model).
    Fixed(u8),
}

/// What holds for every frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Our VTEP address in IPv4.
    pub local_v4: Option<Ipv4Addr>,
    /// Our VTEP address in IPv6.
    pub local_v6: Option<Ipv6Addr>,
    /// UDP port that VXLAN is received on and sent to (4789, RFC 7348 section 8).
    pub udp_port: u16,
    /// The outer DSCP of what we send.
    pub dscp: Dscp,
    /// Drop packets with reserved VXLAN bits set, as Linux does; RFC 7348 section 5 says to ignore them.
    pub strict_reserved: bool,
    /// Accept a zero UDP checksum over IPv6 (RFC 6935).
    pub udp6_zero_rx: bool,
    /// Send a zero UDP checksum over IPv6 (RFC 6935).
    pub udp6_zero_tx: bool,
}

/// One consistent state of all tables but those that are updated in place.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What holds for every frame.
    pub settings: Settings,
    /// VNIs and their bridge domains.
    pub vnis: Arc<vni::VniTable>,
    /// Remote VTEPs and the ready outer headers to reach them.
    pub vteps: Arc<vtep::VtepTable>,
    /// Devices and tenant ports.
    pub ports: Arc<port::PortTable>,
}
