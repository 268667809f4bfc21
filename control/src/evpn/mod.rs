//! EVPN (RFC 7432, RFC 8365): what routes mean for the tables, and what our hosts mean as routes. Pure: octets and
//! time come in as arguments, changes go out as values.
//!
//! ```text
//! bgp::Peer outputs -> Instance::handle -> RIB -> import -> take_changes -> tables
//! ports, configuration -> local_*, static_*, vni_* -> export -> AdjOut -> pump -> bgp::Peer::send
//! time -> tick            what an operator may want to know -> take_events
//! ```
//!
//! Local truth is stronger than static configuration, and that is stronger than EVPN: all three are told to the
//! [`Instance`], and the [`TableChange`]s that come out of it are the result.

mod address;
mod change;
mod config;
mod duplicate;
mod export;
mod flood;
mod hosts;
mod import;
mod instance;
mod local;
mod mobility;
mod show;
pub mod targets;
mod vni;

pub use self::change::{Event, Origin, Reason, TableChange};
pub use self::config::{
    Config, Derivation, DuplicateConfig, EthernetTag, LocalKind, LocalMac, VniConfig,
};
pub use self::instance::Instance;
pub use self::local::LocalRefused;
pub use self::show::{MacView, NeighborView, Note, RouteView, VniView};
pub use self::vni::VniError;
pub use crate::rib::{Mobility, NeighborId};

#[cfg(test)]
mod tests;
