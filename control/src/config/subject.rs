//! What a change, a line of `config diff` or a diagnostic is about.

use std::fmt;
use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni};

use super::interface::PortKey;

/// A table of the file that exists once, or an entry of an array of tables with what identifies it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// `[vtep]`.
    Vtep,
    /// `[vtep.afxdp]`.
    AfXdp,
    /// `[control]`.
    Control,
    /// `[bgp]`.
    Bgp,
    /// A `[[bgp.neighbor]]`.
    BgpNeighbor(IpAddr),
    /// A `[[vni]]` without its entries.
    Vni(Vni),
    /// A `[[vni.port]]`.
    Port(Vni, PortKey),
    /// An address in `flood` of a VNI.
    Flood(Vni, IpAddr),
    /// A `[[vni.fdb]]`.
    Fdb(Vni, HostMac),
    /// A `[[vni.neighbor]]`.
    Neighbor(Vni, IpAddr),
}

impl Subject {
    /// Its path in the file, as diagnostics name it.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        match self {
            Self::Vtep => "vtep",
            Self::AfXdp => "vtep.afxdp",
            Self::Control => "control",
            Self::Bgp => "bgp",
            Self::BgpNeighbor(_) => "bgp.neighbor",
            Self::Vni(_) => "vni",
            Self::Port(..) => "vni.port",
            Self::Flood(..) => "vni.flood",
            Self::Fdb(..) => "vni.fdb",
            Self::Neighbor(..) => "vni.neighbor",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vtep | Self::AfXdp | Self::Control | Self::Bgp => f.write_str(self.path()),
            Self::BgpNeighbor(address) => write!(f, "bgp neighbor {address}"),
            Self::Vni(vni) => write!(f, "vni {vni}"),
            Self::Port(vni, port) => write!(f, "vni {vni} port {port}"),
            Self::Flood(vni, target) => write!(f, "vni {vni} flood {target}"),
            Self::Fdb(vni, mac) => write!(f, "vni {vni} fdb {mac}"),
            Self::Neighbor(vni, ip) => write!(f, "vni {vni} neighbor {ip}"),
        }
    }
}
