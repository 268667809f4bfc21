//! EVPN (RFC 7432, RFC 8365): routes to table changes, and local MACs to routes. Sans-IO: messages
//! and time come in as arguments, changes go out as values.
//!
//! ```text
//! bgp::Peer outputs -> EvpnSpeaker::handle -> rib -+-> mac_table -----------+
//!                                                  +-> neighbors -----------+-> changes -> fib
//!                                                  +-> inclusive_multicast -+
//!                                                  +-> ethernet_segment ----+
//! ports, configuration -> local_*, static_*, vni_* -> the same parts
//!                                                  -> originate -> pump -> bgp::Peer::send
//! time -> tick                                     take_events -> monitor, log
//! ```
//!
//! Local entries have priority over static configuration, and that over EVPN: all three come to the
//! [`EvpnSpeaker`], and the [`TableChange`]s that come out are the result.

mod address;
mod chain;
mod change;
mod config;
mod ethernet_segment;
mod event;
mod import;
mod inclusive_multicast;
mod mac_table;
mod mac_vrf;
mod neighbors;
mod originate;
mod reachability;
mod segment;
mod shared;
mod speaker;
mod status;
pub mod targets;
mod vni_map;
mod vtep_paths;

pub use self::address::{AddressClaim, AddressError};
pub use self::change::{EntryOrigin, SegmentKey, TableChange};
pub use self::config::{
    Derivation, DuplicateConfig, EthernetTag, EvpnConfig, LocalKind, LocalMac, MacVrfConfig,
    TargetList,
};
pub use self::event::EvpnEvent;
pub use self::mac_table::{LocalMacError, MacView};
pub use self::mac_vrf::VniError;
pub use self::segment::{SegmentMember, SegmentView};
pub use self::speaker::{EvpnSpeaker, NeighborView, RouteNote, RouteView, VniView};
pub use self::status::RouteStatus;
pub(crate) use self::vni_map::VniMap;
pub use crate::rib::{Mobility, NeighborId};

#[cfg(test)]
mod tests;
