//! What an [`super::EvpnSpeaker`] is told: itself, its VNIs, its hosts.

use std::net::Ipv4Addr;
use std::time::Duration;

use vtep_dataplane::addr::{Vni, VtepAddr};

use crate::bgp::wire::{ExtendedCommunity, Rd};

/// When a MAC that moves too often is left where it is (RFC 7432 section 15.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateConfig {
    /// So many moves ... Zero switches the detection off.
    pub moves: u8,
    /// ... within this time are too many.
    pub window: Duration,
    /// A frozen MAC is free again after this time. None: by command only.
    pub recovery: Option<Duration>,
}

impl Default for DuplicateConfig {
    /// Five moves in 180 s, as RFC 7432 section 15.1 says; free again after 180 s.
    fn default() -> Self {
        let window = Duration::from_secs(180);
        Self {
            moves: 5,
            window,
            recovery: Some(window),
        }
    }
}

/// The whole instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvpnConfig {
    /// Our AS.
    pub local_as: u32,
    /// Our BGP identifier, which is also in automatic route distinguishers.
    pub router_id: Ipv4Addr,
    /// The address that others send VXLAN to: next hop, originator and tunnel endpoint of our routes.
    pub vtep: VtepAddr,
    /// Further addresses of ours: a route to one of them is never installed.
    pub own: Vec<VtepAddr>,
    /// Duplicate detection.
    pub duplicate: DuplicateConfig,
    /// How long another VTEP may claim a MAC that is attached here before we claim it back with a higher sequence. A
    /// host that moves away is attached in both places for a moment: claiming back at once would pull its traffic to
    /// the old place. Claims that stand already when a session comes up are answered at once.
    pub claim_back: Duration,
}

impl EvpnConfig {
    /// An instance with the defaults.
    #[must_use]
    pub fn new(local_as: u32, router_id: Ipv4Addr, vtep: VtepAddr) -> Self {
        Self {
            local_as,
            router_id,
            vtep,
            own: Vec::new(),
            duplicate: DuplicateConfig::default(),
            claim_back: Duration::from_secs(5),
        }
    }
}

/// The Ethernet tag of our routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EthernetTag {
    /// Zero, as RFC 8365 section 5.1.3 says for a VNI with an EVI of its own.
    #[default]
    Zero,
    /// The VNI, as Juniper sends.
    Vni,
}

/// How automatic export targets are made. Import matches both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Derivation {
    /// `(AS & 0xffff):VNI`, as FRR does.
    #[default]
    Plain,
    /// `(AS & 0xffff):(0x10000000 | VNI)` (RFC 8365 section 5.1.2.1), as Juniper does.
    Rfc8365,
}

/// One VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VniConfig {
    /// The VNI.
    pub vni: Vni,
    /// Route distinguisher. None: `router-id:n`, with an n that the VNI keeps while it is configured.
    pub rd: Option<Rd>,
    /// A route with one of these targets is imported. Empty: automatic, whatever the AS in it is.
    pub import: Vec<ExtendedCommunity>,
    /// As `import`, but besides the automatic ones.
    pub import_also: Vec<ExtendedCommunity>,
    /// The targets of our routes. Empty: automatic.
    pub export: Vec<ExtendedCommunity>,
    /// The automatic export target.
    pub derivation: Derivation,
    /// The Ethernet tag of our routes.
    pub tag: EthernetTag,
    /// Most MACs installed by EVPN.
    pub max_macs: u32,
}

impl VniConfig {
    /// A VNI with all automatic, and no limit below that of the table.
    #[must_use]
    pub const fn new(vni: Vni) -> Self {
        Self {
            vni,
            rd: None,
            import: Vec::new(),
            import_also: Vec::new(),
            export: Vec::new(),
            derivation: Derivation::Plain,
            tag: EthernetTag::Zero,
            max_macs: u32::MAX,
        }
    }
}

/// How a MAC came to be local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalKind {
    /// By configuration or the control socket: no remote route ever moves or deletes it.
    #[default]
    Attached,
    /// From frames: it goes where a better remote claim says.
    Learned,
}

/// A host on one of our ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalMac {
    /// How it came here.
    pub kind: LocalKind,
    /// Tell others that it never moves (RFC 7432 section 15.2).
    pub sticky: bool,
}
