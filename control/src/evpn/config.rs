//! Configuration of an [`super::EvpnSpeaker`], its VNIs and its local MACs.

use std::net::Ipv4Addr;
use std::time::Duration;

use vtep_dataplane::addr::{Vni, VtepAddr};

use crate::bgp::wire::{ExtendedCommunity, Rd};

/// Duplicate MAC detection (RFC 7432 section 15.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateConfig {
    /// The number of moves within `window` that freezes a MAC. Zero disables the detection.
    pub moves: u16,
    /// The time within which moves count.
    pub window: Duration,
    /// The time after which a frozen MAC is unfrozen. `None`: only by command.
    pub recovery: Option<Duration>,
}

impl Default for DuplicateConfig {
    /// Five moves in 180 s (RFC 7432 section 15.1); unfrozen after 180 s.
    fn default() -> Self {
        let window = Duration::from_secs(180);
        Self {
            moves: 5,
            window,
            recovery: Some(window),
        }
    }
}

/// The speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvpnConfig {
    /// Our AS.
    pub local_as: u32,
    /// Our BGP identifier, which is also in automatic route distinguishers.
    pub router_id: Ipv4Addr,
    /// The local VTEP address: next hop, originator and tunnel endpoint of originated routes.
    pub vtep: VtepAddr,
    /// Further local VTEP addresses: a route with one of them as next hop is never installed.
    pub own: Vec<VtepAddr>,
    /// Duplicate detection.
    pub duplicate: DuplicateConfig,
    /// How long another VTEP may announce a MAC that is attached here before this VTEP claims it
    /// back with a higher sequence. A host that moves away is attached to both VTEPs for a moment:
    /// claiming it back at once would pull its traffic to the old VTEP. To routes that a peer sends
    /// right after the session came up, this VTEP responds at once.
    pub claim_back: Duration,
}

impl EvpnConfig {
    /// A speaker with the defaults.
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

/// The Ethernet tag of originated routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EthernetTag {
    /// Zero (RFC 8365 section 5.1.3, one VNI per EVI).
    #[default]
    Zero,
    /// The VNI, as Juniper sends.
    Vni,
}

/// How automatic export targets are derived. Import matches both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Derivation {
    /// `(AS & 0xffff):VNI`, as FRR does.
    #[default]
    Plain,
    /// `(AS & 0xffff):(0x10000000 | VNI)` (RFC 8365 section 5.1.2.1), as Juniper does.
    Rfc8365,
}

/// Route targets of one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetList {
    /// Those derived from AS and VNI belong to them.
    pub automatic: bool,
    /// Explicit ones.
    pub list: Vec<ExtendedCommunity>,
}

impl TargetList {
    /// The automatic targets only.
    #[must_use]
    pub const fn automatic() -> Self {
        Self {
            automatic: true,
            list: Vec::new(),
        }
    }
}

/// One VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacVrfConfig {
    /// The VNI.
    pub vni: Vni,
    /// Route distinguisher. `None`: `router-id:n`, with an n that the VNI keeps while it is
    /// configured.
    pub rd: Option<Rd>,
    /// Import targets; the automatic ones are for any AS.
    pub import: TargetList,
    /// Export targets.
    pub export: TargetList,
    /// How the automatic export target is derived.
    pub derivation: Derivation,
    /// The Ethernet tag of originated routes.
    pub tag: EthernetTag,
    /// Maximum number of remote MACs.
    pub max_macs: u32,
    /// Announce the Router and Override flags of IPv6 addresses (RFC 9047). GoBGP 3.10 treats
    /// UPDATEs with that community as withdrawn.
    pub nd_flags: bool,
}

impl MacVrfConfig {
    /// A VNI with everything automatic, and no limit below that of the table.
    #[must_use]
    pub const fn new(vni: Vni) -> Self {
        Self {
            vni,
            rd: None,
            import: TargetList::automatic(),
            export: TargetList::automatic(),
            derivation: Derivation::Plain,
            tag: EthernetTag::Zero,
            max_macs: u32::MAX,
            nd_flags: false,
        }
    }
}

/// How a MAC became local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalKind {
    /// By configuration or the control socket: no remote route moves or removes it.
    #[default]
    Attached,
    /// Learned from frames: a better remote route moves it.
    Learned,
}

/// A local MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalMac {
    /// How it became local.
    pub kind: LocalKind,
    /// Announce that it never moves (RFC 7432 section 15.2).
    pub sticky: bool,
    /// Other VTEPs have it too, as they have an anycast gateway: it is never claimed from them.
    /// Only for attached MACs.
    pub anycast: bool,
}
