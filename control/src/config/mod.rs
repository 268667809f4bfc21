//! Configuration: text in, typed and valid [`Config`] out; and the way from one to the next.
//!
//! ```text
//! TOML -> node (values with lines) -> table, section, entry (typed) -> Change -> Config::apply -> Config -> save
//! requests of the control socket ------^
//! ```
//!
//! The file and the control socket share readers and checks, so what one refuses the other refuses too, in the same
//! words. A problem names the file, the line, the key, the wrong value and what would be right.

mod bgp;
mod bgp_neighbor;
mod change;
mod diagnostic;
mod diff;
mod group;
mod host;
mod load;
mod model;
mod node;
mod port;
mod request;
mod save;
mod table;
mod target;
mod vtep;
mod words;

pub use self::bgp_neighbor::{
    BGP_PORT, BgpNeighbor, BgpSettings, Duplicates, EvpnSettings, Password,
};
pub use self::change::{BatchError, Change, ChangeError, MAX_PORTS, MAX_VNIS};
pub use self::diagnostic::{Diagnostic, Diagnostics, Severity};
pub use self::diff::{Diff, diff, vni_content};
pub use self::group::GroupAddr;
pub use self::host::{HostFacts, InterfaceFacts, overhead};
pub use self::load::{Loaded, check, load, parse, parse_request};
pub use self::model::{
    Addresses, AfXdp, Config, Control, DEFAULT_SOCKET, Dscp, FdbEntry, InnerVlan, InterfaceName,
    Learn, NeighborEntry, Port, PortKey, Tristate, Tunnel, VXLAN_PORT, VniConfig, VniSettings,
    Vtep, XdpMode,
};
pub use self::request::CHANGE_METHODS;
pub use self::save::save;
pub use self::target::{EthernetTagMode, RouteTargets, rd_of, target_of, target_text};

#[cfg(test)]
mod tests;
