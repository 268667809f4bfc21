//! From a file to a valid configuration, or to all that is wrong with it.

use std::io::{self, Write};
use std::path::Path;

use vtep_dataplane::addr::Vni;

use super::bgp::{self, Passwords};
use super::bgp_neighbor::Password;
use super::change::{Change, ChangeError};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::group::{self, FloodTarget};
use super::host::{self, HostFacts, HostReferences};
use super::model::{Config, VniConfig};
use super::node::parse_toml;
use super::port;
use super::table::TableReader;
use super::vtep;

/// A configuration that was read from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration, valid in itself.
    pub config: Config,
    source: String,
    references: HostReferences,
}

impl Loaded {
    /// Checks it against the host. The configuration can't run there when [`Diagnostics::refused`].
    #[must_use]
    pub fn check_host(&self, host: &dyn HostFacts) -> Diagnostics {
        let mut diagnostics = Diagnostics::new(&self.source);
        host::check(&self.config, &self.references, host, &mut diagnostics);
        diagnostics.sorted()
    }
}

/// Reads and checks a file.
///
/// # Errors
/// Every problem that was found, with its line.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    let source = path.display().to_string();
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => parse(&source, &text),
        Ok(Err(_)) => Err(single(&source, "not UTF-8 text; TOML files are".to_owned())),
        Err(error) => Err(single(&source, format!("can't be read: {error}"))),
    }
}

fn single(source: &str, message: String) -> Diagnostics {
    let mut diagnostics = Diagnostics::new(source);
    diagnostics.push(Diagnostic::error(0, String::new(), message));
    diagnostics
}

/// Reads and checks a text, and the password files that it names. `source` is the file name in messages.
///
/// # Errors
/// Every problem that was found, with its line.
pub fn parse(source: &str, text: &str) -> Result<Loaded, Diagnostics> {
    read(source, text, &Password::read)
}

/// Reads and checks a text that a client sent. No file is opened: its sender may have fewer rights than we. A password
/// file is taken only when `running` has read it before.
///
/// # Errors
/// Every problem that was found, with its line.
pub fn parse_request(source: &str, text: &str, running: &Config) -> Result<Loaded, Diagnostics> {
    read(source, text, &|file| {
        let known = running
            .bgp_neighbors()
            .values()
            .filter_map(|neighbor| neighbor.password.as_ref());
        known.into_iter().find(|known| known.file() == file).cloned().ok_or_else(|| {
            format!(
                "{} is not in use yet, and vtepd opens no file that a client names; write it into vtepd's own file and apply that",
                file.display()
            )
        })
    })
}

fn read(source: &str, text: &str, passwords: Passwords<'_>) -> Result<Loaded, Diagnostics> {
    let mut diagnostics = Diagnostics::new(source);
    let document = parse_toml(text, &mut diagnostics);
    let top = document
        .as_ref()
        .and_then(|document| TableReader::new("", document, &mut diagnostics));
    let Some(mut top) = top else {
        return Err(diagnostics.sorted());
    };
    let mut references = HostReferences::default();
    let vtep = top.table("vtep", &mut diagnostics);
    let vtep = vtep.map(|mut table| vtep::vtep(&mut table, &mut references, &mut diagnostics));
    if vtep.is_none() && !top.has("vtep") {
        top.reject(
            "vtep",
            "missing; write [vtep] with address and underlay",
            &mut diagnostics,
        );
    }
    let control = top.table("control", &mut diagnostics);
    let control = control.map(|mut table| vtep::control(&mut table, &mut diagnostics));
    let mut config = Config::new(vtep.unwrap_or_default(), control.unwrap_or_default());
    if let Some(mut table) = top.table("bgp", &mut diagnostics) {
        read_bgp(&mut table, &mut config, passwords, &mut diagnostics);
        table.finish(&mut diagnostics);
    }
    for mut table in top.tables("vni", &mut diagnostics) {
        read_vni(&mut table, &mut config, &mut references, &mut diagnostics);
        table.finish(&mut diagnostics);
    }
    top.finish(&mut diagnostics);
    if diagnostics.has_errors() {
        return Err(diagnostics.sorted());
    }
    Ok(Loaded {
        config,
        source: source.to_owned(),
        references,
    })
}

/// `[bgp]`. Its neighbours are read, and so checked, even when its settings are wrong.
fn read_bgp(
    table: &mut TableReader<'_>,
    config: &mut Config,
    passwords: Passwords<'_>,
    diagnostics: &mut Diagnostics,
) {
    let settings = bgp::settings(table, config.vtep().addresses, diagnostics);
    let ready = settings.is_some_and(|settings| {
        config
            .apply(&Change::BgpSet {
                settings: Some(settings),
            })
            .is_ok()
    });
    for mut item in table.tables("neighbor", diagnostics) {
        let read = bgp::neighbor(&mut item, passwords, diagnostics);
        item.finish(diagnostics);
        let Some(neighbor) = read.filter(|_| ready) else {
            continue;
        };
        let add = Change::BgpNeighborAdd {
            neighbor: Box::new(neighbor),
        };
        reject(config.apply(&add), &item, diagnostics);
    }
}

/// One `[[vni]]`. Its parts are read, and so checked, even when its number is wrong.
fn read_vni(
    table: &mut TableReader<'_>,
    config: &mut Config,
    references: &mut HostReferences,
    diagnostics: &mut Diagnostics,
) {
    let number = table.required("id", "100", diagnostics, port::vni);
    let settings = port::settings(table, diagnostics);
    let vni = number.filter(|vni| {
        match config.apply(&Change::VniAdd {
            vni: *vni,
            settings: settings.clone(),
        }) {
            Ok(()) => true,
            Err(error) => {
                let key = if matches!(error, ChangeError::RdTwice { .. }) {
                    "rd"
                } else {
                    "id"
                };
                table.reject(key, error, diagnostics);
                false
            }
        }
    });
    let mut apply = |vni: Option<Vni>, change: &dyn Fn(Vni) -> Change| {
        vni.map_or(Ok(()), |vni| config.apply(&change(vni)))
    };
    for mut port in table.tables("port", diagnostics) {
        let read = port::port(&mut port, diagnostics);
        port.finish(diagnostics);
        let Some(read) = read else { continue };
        references
            .ports
            .push((port.line_of("interface"), read.key.interface.clone()));
        reject(
            apply(vni, &|vni| Change::PortAdd {
                vni,
                port: read.clone(),
            }),
            &port,
            diagnostics,
        );
    }
    for (line, member) in table.one_or_list("flood", diagnostics, group::member) {
        let add = |vni| match member {
            FloodTarget::Vtep(vtep) => Change::FloodAdd { vni, vtep },
            FloodTarget::Group(group) => Change::GroupAdd { vni, group },
        };
        if let Err(error) = apply(vni, &add) {
            table.reject_at(line, "flood", error, diagnostics);
        }
    }
    for mut fdb in table.tables("fdb", diagnostics) {
        let read = port::fdb(&mut fdb, diagnostics);
        fdb.finish(diagnostics);
        let Some((mac, vtep)) = read else { continue };
        reject(
            apply(vni, &|vni| Change::FdbAdd {
                vni,
                mac,
                vtep,
                lifetime: None,
            }),
            &fdb,
            diagnostics,
        );
    }
    for mut neighbor in table.tables("neighbor", diagnostics) {
        let read = port::neighbor(&mut neighbor, diagnostics);
        neighbor.finish(diagnostics);
        let Some((ip, mac)) = read else { continue };
        reject(
            apply(vni, &|vni| Change::NeighborAdd {
                vni,
                ip,
                mac,
                lifetime: None,
            }),
            &neighbor,
            diagnostics,
        );
    }
}

fn reject(result: Result<(), ChangeError>, table: &TableReader<'_>, diagnostics: &mut Diagnostics) {
    if let Err(error) = result {
        table.reject(error.field(), &error, diagnostics);
    }
}

/// What `--check` prints: every problem, then a summary of what is good. Without `host` nothing is looked up there.
/// Returns whether the configuration would be accepted.
///
/// # Errors
/// Those of `out`.
pub fn check(path: &Path, host: Option<&dyn HostFacts>, out: &mut dyn Write) -> io::Result<bool> {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            writeln!(out, "{diagnostics}")?;
            return Ok(false);
        }
    };
    let diagnostics = host.map(|host| loaded.check_host(host)).unwrap_or_default();
    if !diagnostics.is_empty() {
        writeln!(out, "{diagnostics}")?;
    }
    if diagnostics.has_errors() {
        return Ok(false);
    }
    let vnis = loaded.config.vnis();
    let count = |size: fn(&VniConfig) -> usize| vnis.values().map(size).sum::<usize>();
    writeln!(
        out,
        "{}: good: {} VNIs, {} ports, {} static MACs, {} flood entries",
        path.display(),
        vnis.len(),
        count(|vni| vni.ports().len()),
        count(|vni| vni.fdb().len()),
        count(|vni| vni.flood().len())
    )?;
    Ok(true)
}
