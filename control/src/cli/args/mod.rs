//! Arguments of the command line.

pub mod bgp;
pub mod vni;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use vtep_dataplane::addr::{MacAddr, Vni};

use self::bgp::{BgpCommand, MacCommand, Monitor, ShowBgp};
use self::vni::{FdbCommand, FloodCommand, NeighCommand, PortCommand, VniCommand};

/// Shows and changes a running vtepd.
///
/// Exit status: 0 done, 1 rejected (stderr has the reason), 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "vtepctl", version)]
pub struct Cli {
    /// The daemon's control socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "VTEPCTL_SOCKET",
        default_value = crate::config::DEFAULT_SOCKET
    )]
    pub socket: PathBuf,
    /// Print the API's result as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Report what was done.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the daemon's state and tables.
    #[command(subcommand)]
    Show(Show),
    /// Add or delete a VNI.
    #[command(subcommand)]
    Vni(VniCommand),
    /// Add or delete a tenant port.
    #[command(subcommand)]
    Port(PortCommand),
    /// Add or delete a static remote MAC.
    #[command(subcommand)]
    Fdb(FdbCommand),
    /// Add a VTEP to the static flood list of a VNI, or delete it from there.
    #[command(subcommand)]
    Flood(FloodCommand),
    /// Add or delete a static neighbor.
    #[command(subcommand)]
    Neigh(NeighCommand),
    /// Move a host to a local port, or unfreeze a MAC.
    #[command(subcommand)]
    Mac(MacCommand),
    /// Clear, shut down or enable a BGP session.
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Print events, one per line, until interrupted.
    Monitor(Monitor),
    /// Check, compare, apply or save a configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Only one VNI.
#[derive(Debug, Args)]
pub struct OfVni {
    /// Only this VNI.
    #[arg(long, value_name = "ID")]
    pub vni: Option<Vni>,
}

/// What to show.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Version, uptime, degradation, AF_XDP modes, table sizes.
    Status,
    /// VNIs with their ports, remote VTEPs, and numbers of MACs and neighbors.
    Vni {
        /// Only this VNI.
        #[arg(value_name = "ID")]
        vni: Option<Vni>,
    },
    /// MACs, local and remote.
    Mac {
        /// Only this VNI.
        #[arg(long, value_name = "ID")]
        vni: Option<Vni>,
        /// Only this MAC.
        mac: Option<MacAddr>,
    },
    /// ARP and ND entries.
    Neighbors(OfVni),
    /// Destinations of broadcast, unknown unicast and multicast.
    Flood(OfVni),
    /// BGP sessions and EVPN routes.
    #[command(subcommand)]
    Bgp(ShowBgp),
    /// Interfaces with their state, modes and counters.
    Ports,
    /// Worker threads.
    Workers,
    /// Paths to remote VTEPs.
    Underlay,
    /// Dropped frames by reason.
    Drops {
        /// Group by.
        #[arg(long, default_value = "reason")]
        by: By,
    },
}

/// How to group drops.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs, reason = "the names are the words of the command line")]
pub enum By {
    Reason,
    Port,
    Vni,
    Vtep,
}

/// The VNI of an entry.
#[derive(Debug, Args)]
pub struct InVni {
    /// The VNI.
    #[arg(long, value_name = "ID")]
    pub vni: Vni,
}

/// `config`. FILE is read and written by vtepctl, with the permissions of its user, never by the
/// daemon.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check FILE, or the daemon's own file, against the daemon's host.
    Check {
        /// The file; default is the daemon's own.
        file: Option<PathBuf>,
    },
    /// Show what applying FILE, or the daemon's own file, would change.
    Diff {
        /// The file; default is the daemon's own.
        file: Option<PathBuf>,
    },
    /// Apply FILE, or the daemon's own file, all or nothing.
    Apply {
        /// The file; default is the daemon's own.
        file: Option<PathBuf>,
    },
    /// Write the running configuration to FILE, or to the daemon's own file; `config save -` prints
    /// it.
    Save {
        /// The file, - to print; default is the daemon's own.
        file: Option<PathBuf>,
    },
}

/// An object of the arguments that were given; the daemon has defaults for the others.
fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    let given = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

fn texts<T: ToString>(items: &[T]) -> Option<Value> {
    (!items.is_empty()).then(|| items.iter().map(ToString::to_string).collect())
}

fn flag(set: bool) -> Option<Value> {
    set.then_some(Value::Bool(true))
}

impl Command {
    /// The method and parameters of a command that changes something; `None` for the others.
    #[must_use]
    pub fn request(&self) -> Option<(&'static str, Value)> {
        Some(match self {
            Self::Show(_) | Self::Config(_) | Self::Monitor(_) => return None,
            Self::Mac(mac) => mac.request(),
            Self::Bgp(bgp) => bgp.request(),
            Self::Vni(vni) => vni.request(),
            Self::Port(port) => port.request(),
            Self::Fdb(fdb) => fdb.request(),
            Self::Flood(flood) => flood.request(),
            Self::Neigh(neigh) => neigh.request(),
        })
    }
}
