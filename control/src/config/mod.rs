//! Configuration: text in, typed and valid [`Config`] out; and the way from one to the next.
//!
//! ```text
//! TOML -> node (values with lines) -> table, section, entry (typed) -> Change -> Config::apply -> Config -> save
//! requests of the control socket ------^
//! ```
//!
//! The file and the control socket share readers and checks, so what one refuses the other refuses too, in the same
//! words. A problem names the file, the line, the key, the wrong value and what would be right.

mod change;
mod describe;
mod diff;
mod entry;
mod host;
mod load;
mod model;
mod node;
mod problem;
mod request;
mod save;
mod section;
mod table;

pub use change::{BatchError, Change, ChangeError, MAX_PORTS, MAX_VNIS};
pub use diff::{Diff, diff};
pub use host::{HostFacts, InterfaceFacts, overhead};
pub use load::{Loaded, check, load, parse};
pub use model::{
    Addresses, AfXdp, Config, Control, DEFAULT_SOCKET, Dscp, InnerVlan, InterfaceName, Port, PortKey, Switch,
    Tunnel, VXLAN_PORT, VniConfig, VniSettings, Vtep, XdpMode,
};
pub use problem::{Problem, Problems, Severity};
pub use request::CHANGE_METHODS;
pub use save::save;

#[cfg(test)]
mod tests;
