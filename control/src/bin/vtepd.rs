//! vtepd, the daemon.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use vtep_control::config::Missing;
use vtep_control::handler::{NetlinkHost, StartHost, underlay_kinds};
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
            report(format_args!("vtepd: --log {:?}: {error}", arguments.log));
            return ExitCode::from(2);
        }
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        // It would report a line that can't be written to stderr there, and panic.
        .log_internal_errors(false);
    log.with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let Some(loaded) = load(&arguments) else {
        return ExitCode::FAILURE;
    };
    if arguments.check {
        let mut lines = vec![loaded.summary()];
        if !arguments.offline {
            lines.extend(underlay_kinds(&loaded.config));
        }
        let written = writeln!(io::stdout(), "{}", lines.join("\n"));
        return if written.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let config = loaded.config;
    daemon::lift_limits();
    vtep_dataplane::mem::mmap_large_blocks();
    match daemon::run(&config, &arguments.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(format_args!("vtepd: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Loads the configuration, checks it against this host unless offline, and reports errors. `None`:
/// it is invalid, or was to be checked and the result can't be reported.
fn load(arguments: &Arguments) -> Option<config::Loaded> {
    if arguments.offline {
        return config::load(&arguments.config).map_err(report).ok();
    }
    let host = Underlay::new(UnderlayConfig::default());
    let host = host
        .map_err(|error| {
            report(format_args!(
                "vtepd: can't query this host (netlink): {error}"
            ))
        })
        .ok()?;
    let (host, missing) = if arguments.check {
        (StartHost::to_check(NetlinkHost(&host)), Missing::Refused)
    } else {
        (StartHost::to_start(NetlinkHost(&host)), Missing::Awaited)
    };
    let (loaded, diagnostics) = config::load_on(&arguments.config, &host, missing);
    if !diagnostics.is_empty() && !report(&diagnostics) && arguments.check {
        return None;
    }
    loaded
}

/// Writes to stderr. False if it can't be written to, as when its disk is full, which keeps no
/// daemon from running.
fn report(text: impl Display) -> bool {
    writeln!(io::stderr(), "{text}").is_ok()
}
