//! vtepd, the daemon.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use vtep_control::handler::NetlinkHost;
use vtep_control::underlay::{Underlay, UnderlayConfig};
use vtep_control::{config, daemon};

/// A VXLAN tunnel endpoint in user space.
#[derive(Debug, Parser)]
#[command(name = "vtepd", version, about)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/vtepd/vtepd.toml")]
    config: PathBuf,
    /// Check the configuration against this host, report errors, and exit: 0 = valid, 1 = invalid.
    #[arg(long)]
    check: bool,
    /// With --check: don't check interfaces, addresses and CPUs of this host.
    #[arg(long, requires = "check")]
    offline: bool,
    /// What to log: error, warn, info, debug, trace, or directives such as
    /// `vtep_control::underlay=debug`.
    #[arg(long, value_name = "FILTER", env = "VTEPD_LOG", default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = match EnvFilter::try_new(&arguments.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("vtepd: --log {:?}: {error}", arguments.log);
            return ExitCode::from(2);
        }
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false);
    log.with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let Some(config) = load(&arguments) else {
        return ExitCode::FAILURE;
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    daemon::lift_memlock();
    vtep_dataplane::mem::mmap_large_blocks();
    match daemon::run(&config, &arguments.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtepd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Loads the configuration, checks it against this host unless offline, and reports errors.
fn load(arguments: &Arguments) -> Option<config::Config> {
    let loaded = config::load(&arguments.config)
        .inspect_err(|diagnostics| eprintln!("{diagnostics}"))
        .ok()?;
    if arguments.offline {
        return Some(loaded.config);
    }
    let host = Underlay::new(UnderlayConfig::default());
    let host = host
        .inspect_err(|error| eprintln!("vtepd: can't query this host (netlink): {error}"))
        .ok()?;
    let diagnostics = loaded.check_host(&NetlinkHost(&host));
    if !diagnostics.is_empty() {
        eprintln!("{diagnostics}");
    }
    (!diagnostics.has_errors()).then_some(loaded.config)
}
