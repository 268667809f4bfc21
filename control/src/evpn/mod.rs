//! EVPN (RFC 7432, RFC 8365): what routes mean for the tables, and what our hosts mean as routes. Pure: octets and
//! time come in as arguments, changes go out as values.
//!
//! ```text
//! bgp::Peer outputs -> EvpnSpeaker::handle -> RIB -> import -> take_changes -> tables
//! ports, configuration -> local_*, static_*, vni_* -> export -> AdjRibOut -> pump -> bgp::Peer::send
//! time -> tick            what an operator may want to know -> take_events
//! ```
//!
//! Local truth is stronger than static configuration, and that is stronger than EVPN: all three are told to the
//! [`EvpnSpeaker`], and the [`TableChange`]s that come out of it are the result.

mod change;
mod config;
mod duplicate;
mod import;
mod inclusive_multicast;
mod local;
mod mac_table;
mod mac_vrf;
mod mobility;
mod neighbors;
mod originate;
mod show;
mod speaker;
pub mod targets;

pub use self::change::{EntryOrigin, EvpnEvent, RouteStatus, TableChange};
pub use self::config::{
    Derivation, DuplicateConfig, EthernetTag, EvpnConfig, LocalKind, LocalMac, VniConfig,
};
pub use self::local::LocalMacError;
pub use self::mac_vrf::VniError;
pub use self::show::{MacView, NeighborView, RouteNote, RouteView, VniView};
pub use self::speaker::EvpnSpeaker;
pub use crate::rib::{Mobility, NeighborId};

#[cfg(test)]
mod tests;
