//! The tables that workers look up. The control thread is the only writer.
//!
//! The MAC table ([`mac`]) and the neighbor table ([`neighbor`]) are updated in place. Everything
//! else is small and published as a [`Snapshot`]: the writer builds a new one, and workers switch
//! to it at their next iteration ([`publish`]), so that a change is seen whole or not at all.

pub mod encapsulation;
pub mod flood;
pub mod mac;
pub mod neighbor;
pub mod port;
pub mod publish;
pub mod version;
pub mod vni;
pub mod vtep;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The DSCP of outer IP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dscp {
    /// The DSCP of the inner IP header, 0 for frames other than IP (uniform model, RFC 2983).
    Inherit,
    /// A fixed value, 0..=63 (pipe model, RFC 2983).
    Fixed(u8),
}

/// Settings that apply to every frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Local VTEP address, IPv4.
    pub local_v4: Option<Ipv4Addr>,
    /// Local VTEP address, IPv6.
    pub local_v6: Option<Ipv6Addr>,
    /// UDP port that VXLAN packets are received on and sent to (4789, RFC 7348 section 8).
    pub udp_port: u16,
    /// The outer DSCP of encapsulated frames.
    pub dscp: Dscp,
    /// Drop packets with reserved VXLAN bits set, as Linux does; RFC 7348 section 5 says to ignore
    /// them.
    pub strict_reserved: bool,
    /// Accept a zero UDP checksum over IPv6 (RFC 6935).
    pub udp6_zero_rx: bool,
    /// Send a zero UDP checksum over IPv6 (RFC 6935).
    pub udp6_zero_tx: bool,
}

/// One consistent state of all tables except those that are updated in place.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Settings that apply to every frame.
    pub settings: Settings,
    /// VNIs and their bridge domains.
    pub vnis: Arc<vni::VniTable>,
    /// Remote VTEPs and the prepared outer headers to reach them.
    pub vteps: Arc<vtep::VtepTable>,
    /// Devices and tenant ports.
    pub ports: Arc<port::PortTable>,
    /// Its number; each later snapshot has a higher one.
    pub version: u64,
    /// Since which version each identifier has its present meaning.
    pub since: Arc<version::RowVersions>,
}
