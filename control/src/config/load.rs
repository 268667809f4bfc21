//! Loads a file: the result is a consistent configuration, or every error in it.

use std::path::Path;

use super::change::kind::VniLoader;
use super::change::{Change, KINDS};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::host::{self, HostFacts, Missing};
use super::model::{Config, VniConfig};
use super::node::parse_toml;
use super::password::{Password, PasswordSource};
use super::references::{HostReferences, Places};
use super::regular_file::{LONGEST_CONFIGURATION, read_regular};
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
    pub fn check_host(&self, host: &dyn HostFacts, missing: Missing) -> Diagnostics {
        let mut diagnostics = Diagnostics::new(&self.source);
        host::check(
            &self.config,
            &self.references,
            host,
            missing,
            &mut diagnostics,
        );
        diagnostics.sorted()
    }

    /// What it holds, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let vnis = self.config.vnis();
        let count = |size: fn(&VniConfig) -> usize| vnis.values().map(size).sum::<usize>();
        format!(
            "{}: valid: {} VNIs, {} ports, {} static MACs, {} flood entries",
            self.source,
            vnis.len(),
            count(|vni| vni.ports().len()),
            count(|vni| vni.fdb().len()),
            count(|vni| vni.flood().len())
        )
    }

    /// A refusal of a change that the file makes, with its file, line and key. `field`: the key at
    /// fault. What the file does not have, such as an entry that is deleted, has no line.
    #[must_use]
    pub fn refuse(&self, change: &Change, field: &str, message: String) -> Diagnostics {
        let subject = change.subject();
        let path = subject.path();
        let single = || self.references.places.keys.get(path);
        let line = self.references.places.entries.get(&subject);
        let line = line.or_else(single).copied().unwrap_or(0);
        let key = if line == 0 {
            subject.to_string()
        } else {
            format!("{path}.{field}")
        };
        self.refuse_at(line, key, message)
    }

    /// A refusal of a key of a table that exists once, such as `vtep.udp-port`.
    pub fn refuse_keys(&self, refused: impl IntoIterator<Item = (String, String)>) -> Diagnostics {
        let mut diagnostics = Diagnostics::new(&self.source);
        for (key, message) in refused {
            let line = self.references.places.line_of_key(&key);
            diagnostics.push(Diagnostic::error(line, key, message));
        }
        diagnostics.sorted()
    }

    fn refuse_at(&self, line: u32, key: String, message: String) -> Diagnostics {
        let mut diagnostics = Diagnostics::new(&self.source);
        diagnostics.push(Diagnostic::error(line, key, message));
        diagnostics
    }
}

/// Reads and checks a file.
///
/// # Errors
/// Every diagnostic, with its line.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    let (source, text) = text_of(path)?;
    parse(&source, &text)
}

/// Reads a file and checks it against the host, all in one round: what is wrong in the file does
/// not hide what the host lacks. The configuration is `None` if one of the diagnostics, which are
/// returned in any case, is an error.
#[must_use]
pub fn load_on(
    path: &Path,
    host: &dyn HostFacts,
    missing: Missing,
) -> (Option<Loaded>, Diagnostics) {
    match text_of(path) {
        Ok((source, text)) => valid_on(&source, &text, &Password::read, (host, missing)),
        Err(diagnostics) => (None, diagnostics),
    }
}

fn valid_on(
    source: &str,
    text: &str,
    passwords: PasswordSource<'_>,
    (host, missing): (&dyn HostFacts, Missing),
) -> (Option<Loaded>, Diagnostics) {
    let mut diagnostics = Diagnostics::new(source);
    let loaded = read(source, text, passwords, &mut diagnostics);
    if let Some(loaded) = &loaded {
        let Loaded {
            config, references, ..
        } = loaded;
        host::check(config, references, host, missing, &mut diagnostics);
    }
    let loaded = loaded.filter(|_| !diagnostics.has_errors());
    (loaded, diagnostics.sorted())
}

/// The name and the text of a file.
fn text_of(path: &Path) -> Result<(String, String), Diagnostics> {
    let source = path.display().to_string();
    match read_regular(path, LONGEST_CONFIGURATION) {
        Ok(Some(text)) => Ok((source, text)),
        Ok(None) => {
            let message = format!("too long: must be at most {LONGEST_CONFIGURATION} bytes");
            Err(single(&source, message))
        }
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
    valid(source, text, &Password::read)
}

/// As [`load_on`], of a text that a client sent. No file is opened, since the client may have fewer
/// permissions than the daemon: a password file must be one that `running` has read before.
#[must_use]
pub fn parse_request_on(
    (source, text): (&str, &str),
    running: &Config,
    host: &dyn HostFacts,
    missing: Missing,
) -> (Option<Loaded>, Diagnostics) {
    let known = |file: &Path| {
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
    };
    valid_on(source, text, &known, (host, missing))
}

fn valid(source: &str, text: &str, passwords: PasswordSource<'_>) -> Result<Loaded, Diagnostics> {
    let mut diagnostics = Diagnostics::new(source);
    let loaded = read(source, text, passwords, &mut diagnostics);
    loaded
        .filter(|_| !diagnostics.has_errors())
        .ok_or_else(|| diagnostics.sorted())
}

/// Reads a text. With errors in `diagnostics` the result lacks what they are about; it is `None`
/// if the text is not TOML.
fn read(
    source: &str,
    text: &str,
    passwords: PasswordSource<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Loaded> {
    let document = parse_toml(text, diagnostics)?;
    let mut top = TableReader::new("", &document, diagnostics)?;
    let mut references = HostReferences::default();
    let vtep = top.table("vtep", diagnostics);
    let vtep = vtep.map(|mut table| vtep::read(&mut table, &mut references, diagnostics));
    if vtep.is_none() && !top.has("vtep") {
        top.reject(
            "vtep",
            "missing; write [vtep] with address and underlay",
            diagnostics,
        );
    }
    let control = top.table("control", diagnostics);
    let control = control.map(|mut table| control::read(&mut table, &mut references, diagnostics));
    let mut config = Config::new(vtep.unwrap_or_default(), control.unwrap_or_default());
    if let Some(mut table) = top.table("bgp", diagnostics) {
        let places = &mut references.places;
        read_bgp(&mut table, &mut config, places, passwords, diagnostics);
        table.finish(diagnostics);
        table.note_lines(&mut references.places.keys);
    }
    for mut table in top.tables("vni", diagnostics) {
        read_vni(&mut table, &mut config, &mut references, diagnostics);
        table.finish(diagnostics);
    }
    top.finish(diagnostics);
    Some(Loaded {
        config,
        source: source.to_owned(),
        references,
    })
}

/// `[bgp]`. Its neighbors are read, and so checked, even when its settings are invalid.
fn read_bgp(
    table: &mut TableReader<'_>,
    config: &mut Config,
    places: &mut Places,
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
        match config.apply(&add) {
            Err(error) => item.reject(error.field(), &error, diagnostics),
            Ok(()) => drop(
                places
                    .entries
                    .insert(add.subject(), item.line_of("address")),
            ),
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
            let entries = &mut references.places.entries;
            entries.insert(add.subject(), table.line_of("id"));
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
