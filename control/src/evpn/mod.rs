//! EVPN.
mod change;
mod config;

pub use crate::rib::NeighborId;
pub use change::{Event, Origin, Reason, TableChange};
pub use config::{Config, Derivation, DuplicateConfig, EthernetTag, LocalKind, LocalMac, VniConfig};
