//! The command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use vtep_dataplane::addr::{HostMac, MacAddr, Vni};

use crate::traffic::template::MIN_FRAME;

/// Measures vtepd's packet path; generates and counts packets.
#[derive(Debug, Parser)]
#[command(name = "vtep-bench", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure rows and compare each with its bar. Exit status 1 if a bar is missed or a row fails
    Run(Run),
    /// List the rows with what they measure and their bars
    Rows,
    /// Send generated packets over AF_XDP
    Generate(Box<Generate>),
    /// Receive over AF_XDP and count, with the latency of packets from `generate` on the same host
    Sink(Sink),
    /// Load type 2 routes into RIB and MAC table and print the memory that they use, in bytes: the
    /// row evpn-memory runs this in a separate process
    #[command(hide = true)]
    Held {
        /// Number of routes
        hosts: usize,
    },
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The rows to measure; none = all
    pub rows: Vec<String>,
    /// Write the figures and the properties of the machine to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Only check that the rows work: short runs, few repetitions
    #[arg(long)]
    pub quick: bool,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// The interface to send on
    pub interface: String,
    /// Queue of the interface
    #[arg(long, default_value_t = 0)]
    pub queue: u32,
    /// Packets per second; default: as fast as the interface accepts them
    #[arg(long)]
    pub rate: Option<u64>,
    /// Stop after this many packets
    #[arg(long)]
    pub count: Option<u64>,
    /// Stop after this many seconds
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    pub duration: Option<Duration>,
    /// Frame length without FCS and without outer headers, bytes
    #[arg(long, default_value_t = MIN_FRAME)]
    pub size: usize,
    /// UDP flows
    #[arg(long, default_value_t = 1)]
    pub flows: u16,
    /// Source MAC
    #[arg(long, default_value = "02:00:00:00:00:01")]
    pub from: HostMac,
    /// First destination MAC
    #[arg(long, default_value = "02:00:00:00:00:02")]
    pub to: MacAddr,
    /// Number of consecutive destination MACs
    #[arg(long, default_value_t = 1)]
    pub macs: u32,
    /// Encapsulate in VXLAN with this VNI
    #[arg(long, requires_all = ["outer_from", "outer_to", "source", "destination"])]
    pub vni: Option<Vni>,
    /// Outer source MAC
    #[arg(long, requires = "vni")]
    pub outer_from: Option<MacAddr>,
    /// Outer destination MAC
    #[arg(long, requires = "vni")]
    pub outer_to: Option<MacAddr>,
    /// Outer source address: the VTEP to send as
    #[arg(long, requires = "vni")]
    pub source: Option<Ipv4Addr>,
    /// Outer destination address: the VTEP to send to
    #[arg(long, requires = "vni")]
    pub destination: Option<Ipv4Addr>,
    /// UDP port of VXLAN
    #[arg(long, default_value_t = 4789)]
    pub udp_port: u16,
}

/// Arguments of `sink`.
#[derive(Debug, Args)]
pub struct Sink {
    /// The interface to receive on; meanwhile its traffic does not reach the host
    pub interface: String,
    /// Queue of the interface
    #[arg(long, default_value_t = 0)]
    pub queue: u32,
    /// Stop after this many generated packets
    #[arg(long)]
    pub count: Option<u64>,
    /// Stop after this many seconds
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    pub duration: Option<Duration>,
    /// Print the figures as one JSON object at the end, and nothing else
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("invalid number of seconds {text:?}: write 10 or 0.5"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn vxlan_needs_its_outer_addresses() {
        assert!(Cli::try_parse_from(["vtep-bench", "generate", "eth0", "--vni", "100"]).is_err());
        assert!(
            Cli::try_parse_from(["vtep-bench", "generate", "eth0", "--duration", "-1"]).is_err()
        );
        assert!(
            Cli::try_parse_from(["vtep-bench", "generate", "eth0", "--duration", "0.5"]).is_ok()
        );
    }
}
