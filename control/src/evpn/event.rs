//! Events of the speaker that are of interest to an operator.

use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::address::AddressError;
use crate::rib::NeighborId;

/// An event that is of interest to an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvpnEvent {
    /// The MAC moved from one VTEP to another; `None` is this VTEP.
    Moved {
        /// The VNI.
        vni: Vni,
        /// The MAC.
        mac: HostMac,
        /// The VTEP before.
        from: Option<VtepAddr>,
        /// The VTEP now.
        to: Option<VtepAddr>,
        /// The mobility sequence of the better route.
        sequence: u32,
    },
    /// Another VTEP announces a MAC that is attached here, with a better route, or one that is better
    /// for VTEPs that compare sequences as plain numbers. The local entry stays.
    Contested {
        /// The VNI.
        vni: Vni,
        /// The MAC.
        mac: HostMac,
        /// The other VTEP.
        vtep: VtepAddr,
        /// Its mobility sequence.
        sequence: u32,
        /// No sequence that this VTEP may answer with is higher as a plain number.
        is_highest: bool,
    },
    /// A MAC that was learned from frames is behind another VTEP now: the owner of the local entry
    /// must remove it.
    LearnedGone {
        /// The VNI.
        vni: Vni,
        /// The MAC.
        mac: HostMac,
        /// The VTEP now.
        vtep: VtepAddr,
    },
    /// An address moved to another MAC: a virtual IP, a lease, or a duplicate.
    AddressMoved {
        /// The VNI.
        vni: Vni,
        /// The address.
        ip: IpAddr,
        /// The MAC that had it.
        from: HostMac,
        /// The MAC that has it now.
        to: HostMac,
        /// The VTEP of the MAC now; `None`: it is local.
        vtep: Option<VtepAddr>,
        /// The mobility sequence of the route, or of the local MAC.
        sequence: u32,
    },
    /// Another VTEP announces an address that stays where it is.
    AddressRefused {
        /// The VNI.
        vni: Vni,
        /// The address.
        ip: IpAddr,
        /// The MAC that does not get it.
        mac: HostMac,
        /// Its VTEP.
        vtep: Option<VtepAddr>,
        /// Why.
        error: AddressError,
    },
    /// Duplicate detection has frozen the MAC: its entry stays as it is.
    Frozen {
        /// The VNI.
        vni: Vni,
        /// The MAC.
        mac: HostMac,
    },
    /// The MAC is no longer frozen.
    Unfrozen {
        /// The VNI.
        vni: Vni,
        /// The MAC.
        mac: HostMac,
    },
    /// A VNI has as many remote MACs as it may have; sent once, until MACs can enter again.
    LimitReached {
        /// The VNI.
        vni: Vni,
        /// The limit.
        limit: u32,
    },
    /// A type 3 route whose tunnel endpoint is not its originator; frames go to the endpoint.
    EndpointMismatch {
        /// The VNI.
        vni: Vni,
        /// The tunnel endpoint.
        endpoint: IpAddr,
        /// The originator of the route.
        originator: IpAddr,
    },
    /// Routes of this speaker came back, or were in a loop: ignored.
    Looped {
        /// The peer that sent them.
        neighbor: NeighborId,
        /// The number of routes in this message.
        routes: u32,
    },
}
