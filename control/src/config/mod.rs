//! Configuration: text in, typed and consistent [`Config`] out; and the changes from one to the
//! next.
//!
//! ```text
//! TOML -> node (values with lines) -> table, key, value (typed) -> Change -> Config::apply -> Config
//! requests of the control socket -----^                                                        |
//! TOML <- write, key <- save ------------------------------------------------------------------+
//! ```
//!
//! Each table of the file is a module that holds its type and declares its keys (`vtep`, `control`,
//! `bgp`, `bgp_neighbor`, `vni`, `port`); `change` has a module for each kind of entry of a VNI.
//! The file and the control socket share readers and checks, so what one rejects the other rejects
//! too, in the same words. A diagnostic names the file, the line, the key, the invalid value and
//! what would be valid.

#[macro_use]
mod key;

mod bgp;
mod bgp_neighbor;
mod change;
mod control;
mod describe;
mod diagnostic;
mod diff;
mod group;
mod host;
mod interface;
mod load;
mod model;
mod node;
mod password;
mod port;
mod references;
mod regular_file;
mod replace_file;
mod request;
mod save;
mod session_effect;
mod subject;
mod table;
mod target;
mod value;
mod vni;
mod vtep;
mod write;

pub use self::bgp::{BgpSettings, DuplicateDetection};
pub use self::bgp_neighbor::{BGP_PORT, BgpNeighbor};
pub use self::change::{
    BatchError, Change, ChangeError, MAX_INTERFACES, MAX_PORTS, MAX_VNIS, vni_content,
};
pub use self::control::{Control, DEFAULT_SOCKET};
pub use self::describe::{Description, describe};
pub use self::diagnostic::{Diagnostic, Diagnostics, Severity};
pub use self::diff::{Diff, diff};
pub use self::group::GroupAddr;
pub use self::host::{
    Finding, HostFacts, InterfaceFacts, Missing, overhead, tenant_mtu_too_large,
    underlay_mtu_too_small, with_tags,
};
pub use self::interface::{InterfaceName, PortKey};
pub use self::load::{Loaded, load, load_on, parse, parse_request_on};
pub use self::model::{Config, FdbEntry, NeighborEntry, VniConfig};
pub use self::password::Password;
pub use self::port::{Io, Learn, Port};
pub use self::regular_file::read_regular;
pub use self::replace_file::replace_file;
pub use self::save::save;
pub use self::session_effect::{SessionEffect, session_effects};
pub use self::subject::Subject;
pub use self::target::{EthernetTagMode, RouteTargets, rd_of, target_of, target_text};
pub use self::vni::{EvpnSettings, InnerVlan, VniSettings};
pub use self::vtep::{Addresses, AfXdp, Dscp, Tristate, Tunnel, VXLAN_PORT, Vtep, XdpMode};

#[cfg(test)]
mod tests;
