//! Arguments of `show bgp`, `bgp`, `mac` and `monitor`.

use std::net::IpAddr;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use vtep_dataplane::addr::HostMac;

use super::{InVni, OfVni};
use crate::api::action::{
    BgpClear, BgpEnable, BgpShutdown, Clear, MacMove, MacUnfreeze, Neighbors,
};
use crate::api::event::Topic;
use crate::bgp::wire::EvpnRoute;
use crate::config::InterfaceName;

/// `show bgp`.
#[derive(Debug, Subcommand)]
pub enum ShowBgp {
    /// Neighbors with state, messages and numbers of routes.
    Summary,
    /// One neighbor: capabilities, timers, counters.
    Neighbor {
        /// Its address.
        #[arg(value_name = "ADDR")]
        address: IpAddr,
    },
    /// Ethernet segments of other VTEPs, and which of them get frames.
    Segments {
        #[command(flatten)]
        vni: OfVni,
    },
    /// EVPN routes, and why one is not used.
    Routes {
        #[command(flatten)]
        vni: OfVni,
        #[arg(
            long = "type",
            value_name = "N",
            help = route_types(),
            value_parser = clap::value_parser!(u8).range(1..=EvpnRoute::TYPES.len() as i64)
        )]
        kind: Option<u8>,
        /// Only routes of this neighbor.
        #[arg(long, value_name = "ADDR")]
        neighbor: Option<IpAddr>,
    },
}

/// The help of `--type`: the route types.
fn route_types() -> String {
    let types = (1..).zip(EvpnRoute::TYPES);
    let types: Vec<String> = types
        .map(|(number, name)| format!("{number} {name}"))
        .collect();
    format!("Only routes of this type: {}", types.join(", "))
}

/// `mac move|unfreeze`.
#[derive(Debug, Subcommand)]
pub enum MacCommand {
    /// Attach a host that moved here, as by live migration, with a higher sequence, and announce
    /// it.
    Move {
        /// The host.
        mac: HostMac,
        #[command(flatten)]
        vni: InVni,
        /// The interface that the host is behind now.
        #[arg(long, value_name = "IF")]
        interface: InterfaceName,
        /// The VLAN of a trunk, 1 to 4094.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4094))]
        vlan: Option<u16>,
        /// An IP address of the host; may be repeated.
        #[arg(long)]
        ip: Vec<IpAddr>,
    },
    /// Unfreeze a MAC that was frozen as a duplicate.
    Unfreeze {
        /// The MAC.
        mac: HostMac,
        #[command(flatten)]
        vni: InVni,
    },
}

/// Direction of a soft clear.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs, reason = "the names are the words of the command line")]
pub enum Soft {
    In,
    Out,
    Both,
}

/// `bgp clear|shutdown|enable`.
#[derive(Debug, Subcommand)]
pub enum BgpCommand {
    /// Restart a session; with --soft keep it and exchange the routes again.
    Clear {
        /// The neighbor, or "all".
        #[arg(value_name = "ADDR")]
        neighbor: Neighbors,
        /// Keep the session and exchange routes again: in, out or both (the default).
        #[arg(long, num_args = 0..=1, default_missing_value = "both")]
        soft: Option<Soft>,
    },
    /// End a session until it is enabled again.
    Shutdown {
        /// The neighbor, or "all".
        #[arg(value_name = "ADDR")]
        neighbor: Neighbors,
        /// Shutdown communication sent to the neighbor.
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
    },
    /// Start a session that was shut down.
    Enable {
        /// The neighbor, or "all".
        #[arg(value_name = "ADDR")]
        neighbor: Neighbors,
    },
}

/// `monitor`.
#[derive(Debug, Args)]
pub struct Monitor {
    /// Topics to report.
    #[arg(default_value = "all")]
    pub topics: Vec<About>,
}

/// A topic of `monitor`.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs, reason = "the names are the words of the command line")]
pub enum About {
    Mac,
    Bgp,
    Miss,
    Port,
    All,
}

impl From<About> for Topic {
    fn from(about: About) -> Self {
        match about {
            About::Mac => Self::Mac,
            About::Bgp => Self::Bgp,
            About::Miss => Self::Miss,
            About::Port => Self::Port,
            About::All => Self::All,
        }
    }
}

/// The parameters of a request.
fn params(of: impl Serialize) -> Value {
    json!(of)
}

impl MacCommand {
    pub(super) fn request(&self) -> (&'static str, Value) {
        match self {
            Self::Move {
                mac,
                vni,
                interface,
                vlan,
                ip,
            } => {
                let interface = interface.clone();
                let asked = MacMove {
                    vni: vni.vni,
                    mac: *mac,
                    interface,
                    vlan: *vlan,
                    ips: ip.clone(),
                };
                ("mac.move", params(asked))
            }
            Self::Unfreeze { mac, vni } => (
                "mac.unfreeze",
                params(MacUnfreeze {
                    vni: vni.vni,
                    mac: *mac,
                }),
            ),
        }
    }
}

impl BgpCommand {
    pub(super) fn request(&self) -> (&'static str, Value) {
        match self {
            Self::Clear { neighbor, soft } => {
                let soft = match soft {
                    None => Clear::Hard,
                    Some(Soft::In) => Clear::In,
                    Some(Soft::Out) => Clear::Out,
                    Some(Soft::Both) => Clear::Both,
                };
                (
                    "bgp.clear",
                    params(BgpClear {
                        neighbor: *neighbor,
                        soft,
                    }),
                )
            }
            Self::Shutdown { neighbor, message } => (
                "bgp.shutdown",
                params(BgpShutdown {
                    neighbor: *neighbor,
                    message: message.clone(),
                }),
            ),
            Self::Enable { neighbor } => (
                "bgp.enable",
                params(BgpEnable {
                    neighbor: *neighbor,
                }),
            ),
        }
    }
}
