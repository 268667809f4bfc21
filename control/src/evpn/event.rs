//! Events of the speaker that an operator may want to know of.

use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use crate::rib::NeighborId;

/// What happened that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvpnEvent {
    /// The MAC went from one VTEP to another; None is this one.
    Moved {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
        /// Where it was.
        from: Option<VtepAddr>,
        /// Where it is.
        to: Option<VtepAddr>,
        /// The mobility sequence that won.
        sequence: u32,
    },
    /// Another VTEP claims a MAC that is attached here. The local entry stays.
    Contested {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
        /// Who claims it.
        vtep: VtepAddr,
        /// Its mobility sequence.
        sequence: u32,
    },
    /// A MAC that was learned from frames is elsewhere now: its owner here must forget it.
    LearnedGone {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
        /// Where it is.
        vtep: VtepAddr,
    },
    /// The MAC moved too often: its entry stays as it is.
    Frozen {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
    },
    /// The MAC may move again.
    Unfrozen {
        /// The VNI.
        vni: Vni,
        /// The host.
        mac: HostMac,
    },
    /// A VNI has as many MACs of EVPN as it may have; told once, until there is room again.
    LimitReached {
        /// The VNI.
        vni: Vni,
        /// The limit.
        limit: u32,
    },
    /// A type 3 route whose tunnel endpoint is not its originator; broadcast goes to the endpoint.
    EndpointMismatch {
        /// The VNI.
        vni: Vni,
        /// Where broadcast goes.
        endpoint: IpAddr,
        /// Who sent the route.
        originator: IpAddr,
    },
    /// Routes came back to us, or went round: ignored.
    Looped {
        /// Who sent them.
        neighbor: NeighborId,
        /// How many in this message.
        routes: u32,
    },
}
