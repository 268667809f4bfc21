//! Claims of addresses by local hosts, and why one is refused.

use std::net::IpAddr;

use vtep_dataplane::addr::HostMac;
use vtep_dataplane::wire::nd::NdFlags;

/// Why a host can't have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum AddressError {
    /// The MAC is not local.
    #[error("the MAC is not local")]
    UnknownMac,
    /// It is a configured address of another local host.
    #[error("it is in ips of the port of {0}")]
    Attached(HostMac),
    /// A static neighbor entry has it.
    #[error("a static neighbor entry maps it to {0}")]
    Static(HostMac),
    /// Its VTEP announces that it never moves, or that it is the default gateway.
    #[error("its VTEP announces that it stays with {0}")]
    Sticky(HostMac),
    /// No host can have it: multicast, loopback, unspecified, broadcast, IPv4-mapped.
    #[error("no host can have this address")]
    Invalid,
    /// It moved too often.
    #[error("it moved too often, and stays with {0} for now")]
    Frozen(HostMac),
}

/// An address that a host announces with its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressClaim {
    /// The host, which is local.
    pub mac: HostMac,
    /// The address.
    pub ip: IpAddr,
    /// The host is configured as a router.
    pub router: bool,
    /// The flags of the message, if it has any.
    pub nd: Option<NdFlags>,
}
