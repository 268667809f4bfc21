//! Loads a file: the result is a consistent configuration, or every error in it.

use std::io::{self, Write};
use std::path::Path;

use super::change::kind::VniLoader;
use super::change::{Change, KINDS};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::host::{self, HostFacts};
use super::model::{Config, VniConfig};
use super::node::parse_toml;
use super::password::{Password, PasswordSource};
use super::references::HostReferences;
use super::table::TableReader;
use super::{bgp, bgp_neighbor, control, vni, vtep};

/// A configuration that was read from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration, consistent by itself.
    pub config: Config,
    source: String,
    references: HostReferences,
}

impl Loaded {
    /// Checks it against the host. The configuration can't run there when
    /// [`Diagnostics::has_errors`].
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
/// Every diagnostic, with its line.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    let source = path.display().to_string();
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => parse(&source, &text),
        Ok(Err(_)) => Err(single(&source, "invalid text: must be UTF-8".to_owned())),
        Err(error) => Err(single(&source, format!("can't be read: {error}"))),
    }
}

fn single(source: &str, message: String) -> Diagnostics {
    let mut diagnostics = Diagnostics::new(source);
    diagnostics.push(Diagnostic::error(0, String::new(), message));
    diagnostics
}

/// Reads and checks a text, and the password files that it names. `source` is the file name in
/// messages.
///
/// # Errors
/// Every diagnostic, with its line.
pub fn parse(source: &str, text: &str) -> Result<Loaded, Diagnostics> {
    read(source, text, &Password::read)
}

/// Reads and checks a text that a client sent. No file is opened, since the client may have fewer
/// permissions than the daemon: a password file must be one that `running` has read before.
///
/// # Errors
/// Every diagnostic, with its line.
pub fn parse_request(source: &str, text: &str, running: &Config) -> Result<Loaded, Diagnostics> {
    read(source, text, &|file| {
        let known = running
            .bgp_neighbors()
            .values()
            .filter_map(|neighbor| neighbor.password.as_ref());
        known
            .into_iter()
            .find(|known| known.file() == file)
            .cloned()
            .ok_or_else(|| {
                format!(
                    "{} is not in use yet, and vtepd opens no file that a client names; add it to \
                 vtepd's \
                 own file and apply that",
                    file.display()
                )
            })
    })
}

fn read(source: &str, text: &str, passwords: PasswordSource<'_>) -> Result<Loaded, Diagnostics> {
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
    let vtep = vtep.map(|mut table| vtep::read(&mut table, &mut references, &mut diagnostics));
    if vtep.is_none() && !top.has("vtep") {
        top.reject(
            "vtep",
            "missing; write [vtep] with address and underlay",
            &mut diagnostics,
        );
    }
    let control = top.table("control", &mut diagnostics);
    let control = control.map(|mut table| control::read(&mut table, &mut diagnostics));
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

/// `[bgp]`. Its neighbors are read, and so checked, even when its settings are invalid.
fn read_bgp(
    table: &mut TableReader<'_>,
    config: &mut Config,
    passwords: PasswordSource<'_>,
    diagnostics: &mut Diagnostics,
) {
    let settings = bgp::read(table, config.vtep().addresses, diagnostics);
    let valid = settings.is_some();
    if valid && let Err(error) = config.apply(&Change::BgpSet { settings }) {
        table.reject(error.field(), error, diagnostics);
    }
    for mut item in table.tables("neighbor", diagnostics) {
        let read = bgp_neighbor::read(&mut item, passwords, diagnostics);
        item.finish(diagnostics);
        let Some(neighbor) = read.filter(|_| valid) else {
            continue;
        };
        let add = Change::BgpNeighborAdd {
            neighbor: Box::new(neighbor),
        };
        if let Err(error) = config.apply(&add) {
            item.reject(error.field(), &error, diagnostics);
        }
    }
}

/// One `[[vni]]`. Its entries are read, and so checked, even when its number is invalid.
fn read_vni(
    table: &mut TableReader<'_>,
    config: &mut Config,
    references: &mut HostReferences,
    diagnostics: &mut Diagnostics,
) {
    let number = table.required("id", "100", diagnostics, vni::number);
    let settings = vni::read(table, diagnostics);
    let vni = number.filter(|vni| {
        let add = Change::VniAdd {
            vni: *vni,
            settings: settings.clone(),
        };
        let Err(error) = config.apply(&add) else {
            return true;
        };
        let key = match error.field() {
            "vni" => "id",
            field => field,
        };
        table.reject(key, error, diagnostics);
        false
    });
    let mut loader = VniLoader {
        vni,
        config,
        references,
        diagnostics,
    };
    for kind in KINDS {
        kind.load(table, &mut loader);
    }
}

/// The output of `--check`: every diagnostic, then a summary of a valid configuration. Without
/// `host` nothing is looked up there. Returns whether the configuration would be accepted.
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
        "{}: valid: {} VNIs, {} ports, {} static MACs, {} flood entries",
        path.display(),
        vnis.len(),
        count(|vni| vni.ports().len()),
        count(|vni| vni.fdb().len()),
        count(|vni| vni.flood().len())
    )?;
    Ok(true)
}
