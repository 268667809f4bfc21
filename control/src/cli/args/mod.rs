//! The words of the command line.

pub mod bgp;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use vtep_dataplane::addr::{HostMac, MacAddr, Vni, VtepAddr};

use self::bgp::{BgpCommand, MacCommand, Monitor, ShowBgp};

/// Shows and changes a running vtepd.
///
/// Exit status: 0 done, 1 refused (stderr says why), 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "vtepctl", version)]
pub struct Cli {
    /// The daemon's control socket.
    #[arg(long, global = true, value_name = "PATH", default_value = crate::config::DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Print the API's result as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say what was done.
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
    /// Add or delete a static neighbour.
    #[command(subcommand)]
    Neigh(NeighCommand),
    /// Move a host to a port here, or free a frozen MAC.
    #[command(subcommand)]
    Mac(MacCommand),
    /// Clear, shut down or enable a BGP session.
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Tell what happens, one event a line, until interrupted.
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
    /// Since when it is up, version, degradation, AF_XDP modes, sizes of tables.
    Status,
    /// VNIs with their ports, remote VTEPs, and numbers of MACs and neighbours.
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
    /// Who gets broadcast, unknown unicast and multicast.
    Flood(OfVni),
    /// BGP sessions and EVPN routes.
    #[command(subcommand)]
    Bgp(ShowBgp),
    /// Interfaces with their state, modes and counters.
    Ports,
    /// Worker threads.
    Workers,
    /// Ways to remote VTEPs.
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
#[allow(missing_docs, reason = "the names say it")]
pub enum By {
    Reason,
    Port,
    Vni,
    Vtep,
}

/// The VNI that something belongs to.
#[derive(Debug, Args)]
pub struct InVni {
    /// The VNI.
    #[arg(long, value_name = "ID")]
    pub vni: Vni,
}

/// How a VNI takes part in EVPN, and what bounds it.
#[derive(Debug, Args)]
pub struct EvpnOptions {
    /// Route distinguisher, AS:n or IP:n; default automatic.
    #[arg(long)]
    rd: Option<String>,
    /// A route target to take in, AS:n, IP:n or auto; may be repeated; default auto.
    #[arg(long, value_name = "RT")]
    import_rt: Vec<String>,
    /// A route target to give; may be repeated; default auto.
    #[arg(long, value_name = "RT")]
    export_rt: Vec<String>,
    /// Ethernet tag of routes: zero or vni.
    #[arg(long, value_parser = ["zero", "vni"])]
    ethernet_tag: Option<String>,
    /// Most MACs that routes and learning may bring.
    #[arg(long, value_name = "N")]
    max_macs: Option<u32>,
    /// Tell `monitor miss` of unknown destinations and addresses.
    #[arg(long)]
    miss_events: bool,
}

/// `vni add|del`.
#[derive(Debug, Subcommand)]
pub enum VniCommand {
    /// Add an empty VNI.
    Add {
        /// The VNI.
        #[arg(value_name = "ID")]
        vni: Vni,
        /// Inner 802.1Q tags: drop or pass.
        #[arg(long, value_parser = ["drop", "pass"])]
        inner_vlan: Option<String>,
        /// Answer ARP and ND for known hosts.
        #[arg(long)]
        suppress: bool,
        #[command(flatten)]
        evpn: EvpnOptions,
    },
    /// Delete a VNI with all that belongs to it.
    Del {
        /// The VNI.
        #[arg(value_name = "ID")]
        vni: Vni,
    },
}

/// `port add|del`.
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Add a tenant port.
    Add {
        /// The Linux interface.
        #[arg(value_name = "IF")]
        interface: String,
        #[command(flatten)]
        vni: InVni,
        /// Take one VLAN of a trunk, 1 to 4094.
        #[arg(long)]
        vlan: Option<u16>,
        /// A host behind the port; may be repeated.
        #[arg(long)]
        mac: Vec<HostMac>,
        /// Only those MACs may send.
        #[arg(long)]
        lock: bool,
        /// Those MACs never move to another VTEP.
        #[arg(long)]
        sticky: bool,
        /// Learn at most so many MACs from frames.
        #[arg(long, value_name = "N", conflicts_with = "lock")]
        learn_limit: Option<u32>,
        /// Forget a learned MAC after so many seconds without a frame.
        #[arg(long, value_name = "SECONDS", requires = "learn_limit")]
        learn_age: Option<u32>,
        /// An IP address of a host behind the port; may be repeated.
        #[arg(long)]
        ip: Vec<IpAddr>,
        /// Limit of flooded frames a second; takes --storm-burst too.
        #[arg(long, requires = "storm_burst")]
        storm_rate: Option<u32>,
        /// Flooded frames at once.
        #[arg(long, requires = "storm_rate")]
        storm_burst: Option<u32>,
        /// Checksums left to hardware: auto, complete or trust.
        #[arg(long, value_parser = ["auto", "complete", "trust"])]
        checksum: Option<String>,
    },
    /// Delete a tenant port.
    Del {
        /// The Linux interface.
        #[arg(value_name = "IF")]
        interface: String,
        #[command(flatten)]
        vni: InVni,
        /// Its VLAN, if it is one of a trunk.
        #[arg(long)]
        vlan: Option<u16>,
    },
}

/// How long an entry stays.
#[derive(Debug, Args)]
pub struct Lifetime {
    /// Seconds that the entry stays; adding it again renews it, and it is not saved. Default: for ever.
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u32>,
}

/// `fdb add|del`.
#[derive(Debug, Subcommand)]
pub enum FdbCommand {
    /// Add a static remote MAC.
    Add {
        /// The remote host.
        mac: HostMac,
        #[command(flatten)]
        vni: InVni,
        /// The VTEP that it is behind.
        #[arg(long, value_name = "ADDR")]
        vtep: VtepAddr,
        #[command(flatten)]
        lifetime: Lifetime,
    },
    /// Delete a static remote MAC.
    Del {
        /// The remote host.
        mac: HostMac,
        #[command(flatten)]
        vni: InVni,
    },
}

/// `flood add|del`.
#[derive(Debug, Subcommand)]
pub enum FloodCommand {
    /// Add a VTEP, or set the multicast group.
    Add {
        /// The VTEP or group.
        #[arg(value_name = "ADDR")]
        vtep: IpAddr,
        #[command(flatten)]
        vni: InVni,
    },
    /// Delete a VTEP or the multicast group.
    Del {
        /// The VTEP or group.
        #[arg(value_name = "ADDR")]
        vtep: IpAddr,
        #[command(flatten)]
        vni: InVni,
    },
}

/// `neigh add|del`.
#[derive(Debug, Subcommand)]
pub enum NeighCommand {
    /// Add a static neighbour.
    Add {
        /// Its IP address.
        ip: IpAddr,
        #[command(flatten)]
        vni: InVni,
        /// Its MAC.
        #[arg(long)]
        mac: HostMac,
        #[command(flatten)]
        lifetime: Lifetime,
    },
    /// Delete a static neighbour.
    Del {
        /// Its IP address.
        ip: IpAddr,
        #[command(flatten)]
        vni: InVni,
    },
}

/// `config`. FILE is read and written here, with the rights of who calls, never by the daemon.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check FILE, or the daemon's own file, against the daemon's host.
    Check {
        /// The file; default is the daemon's own.
        file: Option<PathBuf>,
    },
    /// Say what applying FILE, or the daemon's own file, would change.
    Diff {
        /// The file; default is the daemon's own.
        file: Option<PathBuf>,
    },
    /// Apply FILE, or the daemon's own file, whole or not at all.
    Apply {
        /// The file; default is the daemon's own.
        file: Option<PathBuf>,
    },
    /// Write the running configuration to FILE, or to the daemon's own file; `config save -` prints it.
    Save {
        /// The file, - to print; default is the daemon's own.
        file: Option<PathBuf>,
    },
}

/// An object of what was given; what was not is left to the daemon's default.
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
    pub fn change(&self) -> Option<(&'static str, Value)> {
        Some(match self {
            Self::Show(_) | Self::Config(_) | Self::Monitor(_) => return None,
            Self::Mac(mac) => mac.change(),
            Self::Bgp(bgp) => bgp.change(),
            Self::Vni(VniCommand::Add {
                vni,
                inner_vlan,
                suppress,
                evpn,
            }) => (
                "vni.add",
                object(vec![
                    ("vni", Some(vni.get().into())),
                    ("inner-vlan", inner_vlan.clone().map(Value::from)),
                    ("suppress", flag(*suppress)),
                    ("rd", evpn.rd.clone().map(Value::from)),
                    ("import-rt", texts(&evpn.import_rt)),
                    ("export-rt", texts(&evpn.export_rt)),
                    ("ethernet-tag", evpn.ethernet_tag.clone().map(Value::from)),
                    ("max-macs", evpn.max_macs.map(Value::from)),
                    ("miss-events", flag(evpn.miss_events)),
                ]),
            ),
            Self::Vni(VniCommand::Del { vni }) => ("vni.del", json!({"vni": vni.get()})),
            Self::Port(port) => port.change(),
            Self::Fdb(FdbCommand::Add {
                mac,
                vni,
                vtep,
                lifetime,
            }) => (
                "fdb.add",
                object(vec![
                    ("vni", Some(vni.vni.get().into())),
                    ("mac", Some(mac.to_string().into())),
                    ("vtep", Some(vtep.to_string().into())),
                    ("lifetime", lifetime.lifetime.map(Value::from)),
                ]),
            ),
            Self::Fdb(FdbCommand::Del { mac, vni }) => (
                "fdb.del",
                json!({"vni": vni.vni.get(), "mac": mac.to_string()}),
            ),
            Self::Flood(FloodCommand::Add { vtep, vni }) => (
                "flood.add",
                json!({"vni": vni.vni.get(), "vtep": vtep.to_string()}),
            ),
            Self::Flood(FloodCommand::Del { vtep, vni }) => (
                "flood.del",
                json!({"vni": vni.vni.get(), "vtep": vtep.to_string()}),
            ),
            Self::Neigh(NeighCommand::Add {
                ip,
                vni,
                mac,
                lifetime,
            }) => (
                "neigh.add",
                object(vec![
                    ("vni", Some(vni.vni.get().into())),
                    ("ip", Some(ip.to_string().into())),
                    ("mac", Some(mac.to_string().into())),
                    ("lifetime", lifetime.lifetime.map(Value::from)),
                ]),
            ),
            Self::Neigh(NeighCommand::Del { ip, vni }) => {
                ("neigh.del", json!({"vni": vni.vni.get(), "ip": ip}))
            }
        })
    }
}

impl PortCommand {
    fn change(&self) -> (&'static str, Value) {
        match self {
            Self::Add {
                interface,
                vni,
                vlan,
                mac,
                lock,
                sticky,
                learn_limit,
                learn_age,
                ip,
                storm_rate,
                storm_burst,
                checksum,
            } => {
                let storm = storm_rate.zip(*storm_burst);
                let params = object(vec![
                    ("vni", Some(vni.vni.get().into())),
                    ("interface", Some(interface.clone().into())),
                    ("vlan", vlan.map(Value::from)),
                    ("macs", texts(mac)),
                    ("lock", flag(*lock)),
                    ("sticky", flag(*sticky)),
                    ("learn-limit", learn_limit.map(Value::from)),
                    ("learn-age", learn_age.map(Value::from)),
                    ("ips", texts(ip)),
                    (
                        "storm",
                        storm.map(|(rate, burst)| json!({"rate": rate, "burst": burst})),
                    ),
                    ("checksum", checksum.clone().map(Value::from)),
                ]);
                ("port.add", params)
            }
            Self::Del {
                interface,
                vni,
                vlan,
            } => {
                let vlan = ("vlan", vlan.map(Value::from));
                let key = vec![
                    ("vni", Some(vni.vni.get().into())),
                    ("interface", Some(interface.clone().into())),
                    vlan,
                ];
                ("port.del", object(key))
            }
        }
    }
}
