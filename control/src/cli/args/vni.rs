//! Arguments of `vni`, `port`, `fdb`, `flood` and `neigh`: entries of a VNI.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::{InVni, flag, object, texts};

/// EVPN settings and limits of a VNI.
#[derive(Debug, Args)]
pub struct EvpnOptions {
    /// Route distinguisher, AS:n or IP:n; default automatic.
    #[arg(long)]
    rd: Option<String>,
    /// Route target to import, AS:n, IP:n or auto; may be repeated; default auto.
    #[arg(long, value_name = "RT")]
    import_rt: Vec<String>,
    /// Route target to export; may be repeated; default auto.
    #[arg(long, value_name = "RT")]
    export_rt: Vec<String>,
    /// Ethernet tag of routes: zero or vni.
    #[arg(long, value_parser = ["zero", "vni"])]
    ethernet_tag: Option<String>,
    /// Limit on MACs from routes and learning.
    #[arg(long, value_name = "N")]
    max_macs: Option<u32>,
    /// Limit on addresses learned from frames.
    #[arg(long, value_name = "N")]
    max_addresses: Option<u32>,
    /// Report unknown destinations and addresses to `monitor miss`.
    #[arg(long)]
    miss_events: bool,
    /// Announce the Router and Override flags of IPv6 addresses (RFC 9047).
    #[arg(long)]
    advertise_nd_flags: bool,
    /// Limit on frames per second that the overlay floods to the ports; requires --storm-burst.
    #[arg(long, requires = "storm_burst", value_name = "R")]
    storm_rate: Option<u32>,
    /// How many frames may exceed the limit at once.
    #[arg(long, requires = "storm_rate", value_name = "B")]
    storm_burst: Option<u32>,
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
    /// Delete a VNI with all its entries.
    Del {
        /// The VNI.
        #[arg(value_name = "ID")]
        vni: Vni,
    },
}

/// Addresses of the hosts behind a port.
#[derive(Debug, Args)]
pub struct AddressOptions {
    /// Limit on addresses learned for one MAC; default 16.
    #[arg(long, value_name = "N")]
    learn_addresses: Option<u16>,
    /// Limit on addresses learned on the port; default 1024.
    #[arg(long, value_name = "N")]
    max_addresses: Option<u32>,
    /// The hosts behind the port are IPv6 routers.
    #[arg(long)]
    router: bool,
}

/// What a port does with frames and their checksums.
#[derive(Debug, Args)]
pub struct FrameOptions {
    /// Checksums left to hardware: auto, complete or trust.
    #[arg(long, value_parser = ["auto", "complete", "trust"])]
    checksum: Option<String>,
    /// How frames enter and leave: auto, xdp or packet.
    #[arg(long, value_parser = ["auto", "xdp", "packet"])]
    io: Option<String>,
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
        /// Other VTEPs have those MACs too, as they have an anycast gateway.
        #[arg(long)]
        anycast: bool,
        /// Limit on MACs learned from frames.
        #[arg(long, value_name = "N", conflicts_with = "lock")]
        learn_limit: Option<u32>,
        /// Remove a learned MAC after this time without a frame.
        #[arg(long, value_name = "SECONDS", requires = "learn_limit")]
        learn_age: Option<u32>,
        #[command(flatten)]
        addresses: AddressOptions,
        /// An IP address of a host behind the port; may be repeated.
        #[arg(long)]
        ip: Vec<IpAddr>,
        /// Limit on flooded frames per second; requires --storm-burst.
        #[arg(long, requires = "storm_burst")]
        storm_rate: Option<u32>,
        /// Limit on flooded frames in a burst.
        #[arg(long, requires = "storm_rate")]
        storm_burst: Option<u32>,
        #[command(flatten)]
        frames: FrameOptions,
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

/// Lifetime of an entry.
#[derive(Debug, Args)]
pub struct Lifetime {
    /// Seconds that the entry stays; adding it again renews it, and it is not saved. Default:
    /// forever.
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
    /// Add a static neighbor.
    Add {
        /// Its IP address.
        ip: IpAddr,
        #[command(flatten)]
        vni: InVni,
        /// Its MAC.
        #[arg(long)]
        mac: HostMac,
        /// It is an IPv6 router.
        #[arg(long)]
        router: bool,
        #[command(flatten)]
        lifetime: Lifetime,
    },
    /// Delete a static neighbor.
    Del {
        /// Its IP address.
        ip: IpAddr,
        #[command(flatten)]
        vni: InVni,
    },
}

fn storm(rate: Option<u32>, burst: Option<u32>) -> Option<Value> {
    let (rate, burst) = rate.zip(burst)?;
    Some(json!({"rate": rate, "burst": burst}))
}

impl VniCommand {
    /// The method and parameters of the request.
    pub(super) fn request(&self) -> (&'static str, Value) {
        match self {
            Self::Add {
                vni,
                inner_vlan,
                suppress,
                evpn,
            } => (
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
                    ("max-addresses", evpn.max_addresses.map(Value::from)),
                    ("miss-events", flag(evpn.miss_events)),
                    ("advertise-nd-flags", flag(evpn.advertise_nd_flags)),
                    ("storm", storm(evpn.storm_rate, evpn.storm_burst)),
                ]),
            ),
            Self::Del { vni } => ("vni.del", json!({"vni": vni.get()})),
        }
    }
}

impl PortCommand {
    /// The method and parameters of the request.
    pub(super) fn request(&self) -> (&'static str, Value) {
        match self {
            Self::Add {
                interface,
                vni,
                vlan,
                mac,
                lock,
                sticky,
                anycast,
                learn_limit,
                learn_age,
                addresses,
                ip,
                storm_rate,
                storm_burst,
                frames,
            } => {
                let params = object(vec![
                    ("vni", Some(vni.vni.get().into())),
                    ("interface", Some(interface.clone().into())),
                    ("vlan", vlan.map(Value::from)),
                    ("macs", texts(mac)),
                    ("lock", flag(*lock)),
                    ("sticky", flag(*sticky)),
                    ("anycast", flag(*anycast)),
                    ("learn-limit", learn_limit.map(Value::from)),
                    ("learn-age", learn_age.map(Value::from)),
                    (
                        "learn-addresses",
                        addresses.learn_addresses.map(Value::from),
                    ),
                    ("max-addresses", addresses.max_addresses.map(Value::from)),
                    ("router", flag(addresses.router)),
                    ("ips", texts(ip)),
                    ("storm", storm(*storm_rate, *storm_burst)),
                    ("checksum", frames.checksum.clone().map(Value::from)),
                    ("io", frames.io.clone().map(Value::from)),
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

impl FdbCommand {
    /// The method and parameters of the request.
    pub(super) fn request(&self) -> (&'static str, Value) {
        match self {
            Self::Add {
                mac,
                vni,
                vtep,
                lifetime,
            } => (
                "fdb.add",
                object(vec![
                    ("vni", Some(vni.vni.get().into())),
                    ("mac", Some(mac.to_string().into())),
                    ("vtep", Some(vtep.to_string().into())),
                    ("lifetime", lifetime.lifetime.map(Value::from)),
                ]),
            ),
            Self::Del { mac, vni } => (
                "fdb.del",
                json!({"vni": vni.vni.get(), "mac": mac.to_string()}),
            ),
        }
    }
}

impl FloodCommand {
    /// The method and parameters of the request.
    pub(super) fn request(&self) -> (&'static str, Value) {
        match self {
            Self::Add { vtep, vni } => (
                "flood.add",
                json!({"vni": vni.vni.get(), "vtep": vtep.to_string()}),
            ),
            Self::Del { vtep, vni } => (
                "flood.del",
                json!({"vni": vni.vni.get(), "vtep": vtep.to_string()}),
            ),
        }
    }
}

impl NeighCommand {
    /// The method and parameters of the request.
    pub(super) fn request(&self) -> (&'static str, Value) {
        match self {
            Self::Add {
                ip,
                vni,
                mac,
                router,
                lifetime,
            } => (
                "neigh.add",
                object(vec![
                    ("vni", Some(vni.vni.get().into())),
                    ("ip", Some(ip.to_string().into())),
                    ("mac", Some(mac.to_string().into())),
                    ("router", flag(*router)),
                    ("lifetime", lifetime.lifetime.map(Value::from)),
                ]),
            ),
            Self::Del { ip, vni } => ("neigh.del", json!({"vni": vni.vni.get(), "ip": ip})),
        }
    }
}
