//! Executes a command.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::args::bgp::ShowBgp;
use super::args::{By, Cli, Command, ConfigCommand, Show};
use super::render;
use crate::api::action::BgpPeer;
use crate::api::client::{Client, ClientError};
use crate::api::event::Topic;
use crate::api::message::{
    ConfigCheck, ConfigDiff, ConfigSave, ConfigSource, MAX_REQUEST, SaveTarget,
};
use crate::api::show::{DropsBy, ShowQuery};
use crate::bgp::wire::printable;
use crate::config::{read_regular, replace_file};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The daemon refused or is not running.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file could not be read or written.
    #[error("{file}: {1}", file = printable(&.0.to_string_lossy()))]
    File(PathBuf, io::Error),
    /// The output could not be written.
    #[error("output: {0}")]
    Output(#[from] io::Error),
}

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// `config diff` found differences.
    Different,
}

/// Executes the command and writes its output to `out`.
///
/// # Errors
/// [`Failure`].
pub fn run(cli: &Cli, out: &mut impl Write) -> Result<Outcome, Failure> {
    let mut client = Client::connect(&cli.socket)?;
    match &cli.command {
        Command::Config(command) => run_config(cli, command, &mut client, out),
        _ => run_other(cli, client, out).map(|()| Outcome::Done),
    }
}

/// Every command but those of `config`.
fn run_other(cli: &Cli, mut client: Client, out: &mut impl Write) -> Result<(), Failure> {
    if let Some((method, params)) = cli.command.request() {
        let result = client.call(method, &params)?;
        return match (cli.json, cli.verbose) {
            (true, _) => Ok(writeln!(out, "{result}")?),
            (false, true) => Ok(writeln!(out, "done: {method} {params}")?),
            (false, false) => Ok(()),
        };
    }
    match &cli.command {
        Command::Show(show) => ShowCommand {
            client,
            json: cli.json,
            out,
        }
        .show(show),
        Command::Monitor(monitor) => {
            let topics = monitor
                .topics
                .iter()
                .map(|about| Topic::from(*about))
                .collect();
            client.subscribe(topics)?;
            if cli.verbose && !cli.json {
                writeln!(out, "subscribed")?;
                out.flush()?;
            }
            client.events(|event| {
                let line = if cli.json {
                    json!(event).to_string()
                } else {
                    render::bgp::event(&event)
                };
                writeln!(out, "{line}")?;
                Ok(out.flush()?)
            })
        }
        _ => Ok(()),
    }
}

struct ShowCommand<'a, W> {
    client: Client,
    json: bool,
    out: &'a mut W,
}

impl<W: Write> ShowCommand<'_, W> {
    fn show(&mut self, show: &Show) -> Result<(), Failure> {
        let of = |vni| ShowQuery {
            vni,
            ..ShowQuery::default()
        };
        match show {
            Show::Status => self.one("show.status", json!({}), render::status),
            Show::Bgp(bgp) => self.show_bgp(bgp),
            Show::Vni { vni } => self.rows("show.vni", of(*vni), render::vni),
            Show::Mac { vni, mac } => self.rows(
                "show.mac",
                ShowQuery {
                    mac: *mac,
                    ..of(*vni)
                },
                render::mac,
            ),
            Show::Neighbors(only) => self.rows("show.neighbors", of(only.vni), render::neighbors),
            Show::Flood(only) => self.rows("show.flood", of(only.vni), render::flood),
            Show::Ports => self.rows("show.ports", of(None), render::ports),
            Show::Workers => self.rows("show.workers", of(None), render::workers),
            Show::Underlay => self.rows("show.underlay", of(None), render::underlay),
            Show::Drops { by } => {
                let by = match by {
                    By::Reason => DropsBy::Reason,
                    By::Port => DropsBy::Port,
                    By::Vni => DropsBy::Vni,
                    By::Vtep => DropsBy::Vtep,
                };
                self.rows("show.drops", ShowQuery { by, ..of(None) }, render::drops)
            }
        }
    }

    fn show_bgp(&mut self, show: &ShowBgp) -> Result<(), Failure> {
        match show {
            ShowBgp::Summary => self.one("show.bgp.summary", json!({}), render::bgp::summary),
            ShowBgp::Neighbor { address } => self.one(
                "show.bgp.neighbor",
                json!(BgpPeer { neighbor: *address }),
                render::bgp::neighbor,
            ),
            ShowBgp::Segments { vni } => {
                let query = ShowQuery {
                    vni: vni.vni,
                    ..ShowQuery::default()
                };
                self.rows("show.bgp.segments", query, render::bgp::segments)
            }
            ShowBgp::Routes {
                vni,
                kind,
                neighbor,
            } => {
                let query = ShowQuery {
                    vni: vni.vni,
                    kind: *kind,
                    neighbor: *neighbor,
                    ..ShowQuery::default()
                };
                self.rows("show.bgp.routes", query, render::bgp::routes)
            }
        }
    }

    /// An answer that is a single object.
    fn one<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: Value,
        render: fn(&T) -> String,
    ) -> Result<(), Failure> {
        let value = self.client.call(method, params)?;
        if self.json {
            return Ok(writeln!(self.out, "{value}")?);
        }
        let answer: T = serde_json::from_value(value).map_err(ClientError::from)?;
        Ok(self.out.write_all(render(&answer).as_bytes())?)
    }

    /// All pages as one table; as JSON, one answer with all rows.
    fn rows<T: DeserializeOwned>(
        &mut self,
        method: &str,
        query: ShowQuery,
        render: fn(&[T]) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            // Nothing is printed before the daemon has accepted the request.
            let (mut begin, mut separator) = ("{\"rows\":[", "");
            self.client.pages(method, query, |rows: Vec<Value>| {
                write!(self.out, "{}", std::mem::take(&mut begin))?;
                for row in rows {
                    write!(self.out, "{separator}{row}")?;
                    separator = ",";
                }
                Ok::<_, Failure>(())
            })?;
            return Ok(writeln!(self.out, "],\"next\":null}}")?);
        }
        let mut all = Vec::new();
        self.client.pages(method, query, |mut rows: Vec<T>| {
            all.append(&mut rows);
            Ok::<_, Failure>(())
        })?;
        Ok(self.out.write_all(render(&all).as_bytes())?)
    }
}

fn run_config(
    cli: &Cli,
    command: &ConfigCommand,
    client: &mut Client,
    out: &mut impl Write,
) -> Result<Outcome, Failure> {
    match command {
        ConfigCommand::Check { file } => {
            let check: ConfigCheck = client.call_as("config.check", source(file.as_deref())?)?;
            report(cli, &check, out, |out| {
                check
                    .warnings
                    .iter()
                    .try_for_each(|line| writeln!(out, "{line}"))
            })?;
        }
        ConfigCommand::Diff { file } => {
            let diff: ConfigDiff = client.call_as("config.diff", source(file.as_deref())?)?;
            report(cli, &diff, out, |out| write_diff(&diff, out))?;
            if !diff.is_empty() {
                return Ok(Outcome::Different);
            }
        }
        ConfigCommand::Apply { file } => {
            let diff: ConfigDiff = client.call_as("config.apply", source(file.as_deref())?)?;
            report(cli, &diff, out, |out| {
                if cli.verbose {
                    write_diff(&diff, out)
                } else {
                    Ok(())
                }
            })?;
        }
        ConfigCommand::Save { file } => save(cli, file.as_deref(), client, out)?,
    }
    Ok(Outcome::Done)
}

fn report(
    cli: &Cli,
    result: &impl Serialize,
    out: &mut impl Write,
    human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    if cli.json {
        return Ok(writeln!(
            out,
            "{}",
            serde_json::to_string(result).map_err(ClientError::from)?
        )?);
    }
    Ok(human(out)?)
}

fn write_diff(diff: &ConfigDiff, out: &mut dyn Write) -> io::Result<()> {
    diff.changes
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
}

/// Bytes of a request beside its parameters, at most.
const ENVELOPE: usize = 100;

/// A file that is sent to the daemon; `None` = the daemon's own.
fn source(file: Option<&Path>) -> Result<ConfigSource, Failure> {
    let Some(path) = file else {
        return Ok(ConfigSource::default());
    };
    let failed = |error| Failure::File(path.to_owned(), error);
    let too_long = || {
        failed(io::Error::other(
            "longer than the 1 MiB of a request; install it as the file of vtepd, and apply that",
        ))
    };
    let text = read_regular(path, MAX_REQUEST as u64).map_err(failed)?;
    let source = ConfigSource {
        text: Some(text.ok_or_else(too_long)?),
        name: Some(path.display().to_string()),
    };
    let length = serde_json::to_string(&source)
        .map_err(ClientError::from)?
        .len();
    if length + ENVELOPE > MAX_REQUEST {
        return Err(too_long());
    }
    Ok(source)
}

fn save(
    cli: &Cli,
    file: Option<&Path>,
    client: &mut Client,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let saved: ConfigSave = client.call_as(
        "config.save",
        SaveTarget {
            print: file.is_some(),
        },
    )?;
    let text = saved.text.as_deref().unwrap_or_default();
    match file {
        Some(path) if path.as_os_str() == "-" => Ok(out.write_all(text.as_bytes())?),
        Some(path) => {
            replace_file(path, text).map_err(|error| Failure::File(path.to_owned(), error))
        }
        None => report(cli, &saved, out, |out| match &saved.path {
            Some(path) if cli.verbose => writeln!(out, "done: written to {path}"),
            _ => Ok(()),
        }),
    }
}
