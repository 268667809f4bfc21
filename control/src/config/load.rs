//! From a file to a valid configuration, or to all that is wrong with it.

use std::io::{self, Write};
use std::path::Path;

use vtep_dataplane::addr::Vni;

use super::bgp::{self, Passwords};
use super::change::{Change, ChangeError};
use super::entry;
use super::group::{self, Member};
use super::host::{self, HostFacts, Places};
use super::model::{Config, VniConfig};
use super::node::parse_toml;
use super::problem::{Problem, Problems};
use super::routing::Password;
use super::section;
use super::table::TableReader;

/// A configuration that was read from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration, valid in itself.
    pub config: Config,
    source: String,
    places: Places,
}

impl Loaded {
    /// Checks it against the host. The configuration can't run there when [`Problems::refused`].
    #[must_use]
    pub fn check_host(&self, host: &dyn HostFacts) -> Problems {
        let mut problems = Problems::new(&self.source);
        host::check(&self.config, &self.places, host, &mut problems);
        problems.sorted()
    }
}

/// Reads and checks a file.
///
/// # Errors
/// Every problem that was found, with its line.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let source = path.display().to_string();
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => parse(&source, &text),
        Ok(Err(_)) => Err(single(&source, "not UTF-8 text; TOML files are".to_owned())),
        Err(error) => Err(single(&source, format!("can't be read: {error}"))),
    }
}

fn single(source: &str, message: String) -> Problems {
    let mut problems = Problems::new(source);
    problems.push(Problem::error(0, String::new(), message));
    problems
}

/// Reads and checks a text, and the password files that it names. `source` is the file name in messages.
///
/// # Errors
/// Every problem that was found, with its line.
pub fn parse(source: &str, text: &str) -> Result<Loaded, Problems> {
    read(source, text, &Password::read)
}

/// Reads and checks a text that a client sent. No file is opened: its sender may have fewer rights than we. A password
/// file is taken only when `running` has read it before.
///
/// # Errors
/// Every problem that was found, with its line.
pub fn parse_request(source: &str, text: &str, running: &Config) -> Result<Loaded, Problems> {
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

fn read(source: &str, text: &str, passwords: Passwords<'_>) -> Result<Loaded, Problems> {
    let mut problems = Problems::new(source);
    let document = parse_toml(text, &mut problems);
    let top = document
        .as_ref()
        .and_then(|document| TableReader::new("", document, &mut problems));
    let Some(mut top) = top else {
        return Err(problems.sorted());
    };
    let mut places = Places::default();
    let vtep = top.table("vtep", &mut problems);
    let vtep = vtep.map(|mut table| section::vtep(&mut table, &mut places, &mut problems));
    if vtep.is_none() && !top.has("vtep") {
        top.refuse(
            "vtep",
            "missing; write [vtep] with address and underlay",
            &mut problems,
        );
    }
    let control = top.table("control", &mut problems);
    let control = control.map(|mut table| section::control(&mut table, &mut problems));
    let mut config = Config::new(vtep.unwrap_or_default(), control.unwrap_or_default());
    if let Some(mut table) = top.table("bgp", &mut problems) {
        read_bgp(&mut table, &mut config, passwords, &mut problems);
        table.finish(&mut problems);
    }
    for mut table in top.tables("vni", &mut problems) {
        read_vni(&mut table, &mut config, &mut places, &mut problems);
        table.finish(&mut problems);
    }
    top.finish(&mut problems);
    if problems.refused() {
        return Err(problems.sorted());
    }
    Ok(Loaded {
        config,
        source: source.to_owned(),
        places,
    })
}

/// `[bgp]`. Its neighbours are read, and so checked, even when its settings are wrong.
fn read_bgp(
    table: &mut TableReader<'_>,
    config: &mut Config,
    passwords: Passwords<'_>,
    problems: &mut Problems,
) {
    let settings = bgp::settings(table, config.vtep().addresses, problems);
    let ready = settings.is_some_and(|settings| {
        config
            .apply(&Change::BgpSet {
                settings: Some(settings),
            })
            .is_ok()
    });
    for mut item in table.tables("neighbor", problems) {
        let read = bgp::neighbor(&mut item, passwords, problems);
        item.finish(problems);
        let Some(neighbor) = read.filter(|_| ready) else {
            continue;
        };
        let add = Change::BgpNeighborAdd {
            neighbor: Box::new(neighbor),
        };
        refuse(config.apply(&add), &item, problems);
    }
}

/// One `[[vni]]`. Its parts are read, and so checked, even when its number is wrong.
fn read_vni(
    table: &mut TableReader<'_>,
    config: &mut Config,
    places: &mut Places,
    problems: &mut Problems,
) {
    let number = table.required("id", "100", problems, entry::vni);
    let settings = entry::settings(table, problems);
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
                table.refuse(key, error, problems);
                false
            }
        }
    });
    let mut apply = |vni: Option<Vni>, change: &dyn Fn(Vni) -> Change| {
        vni.map_or(Ok(()), |vni| config.apply(&change(vni)))
    };
    for mut port in table.tables("port", problems) {
        let read = entry::port(&mut port, problems);
        port.finish(problems);
        let Some(read) = read else { continue };
        places
            .ports
            .push((port.line_of("interface"), read.key.interface.clone()));
        refuse(
            apply(vni, &|vni| Change::PortAdd {
                vni,
                port: read.clone(),
            }),
            &port,
            problems,
        );
    }
    for (line, member) in table.one_or_list("flood", problems, group::member) {
        let add = |vni| match member {
            Member::Vtep(vtep) => Change::FloodAdd { vni, vtep },
            Member::Group(group) => Change::GroupAdd { vni, group },
        };
        if let Err(error) = apply(vni, &add) {
            table.refuse_at(line, "flood", error, problems);
        }
    }
    for mut fdb in table.tables("fdb", problems) {
        let read = entry::fdb(&mut fdb, problems);
        fdb.finish(problems);
        let Some((mac, vtep)) = read else { continue };
        refuse(
            apply(vni, &|vni| Change::FdbAdd {
                vni,
                mac,
                vtep,
                lifetime: None,
            }),
            &fdb,
            problems,
        );
    }
    for mut neighbor in table.tables("neighbor", problems) {
        let read = entry::neighbor(&mut neighbor, problems);
        neighbor.finish(problems);
        let Some((ip, mac)) = read else { continue };
        refuse(
            apply(vni, &|vni| Change::NeighborAdd {
                vni,
                ip,
                mac,
                lifetime: None,
            }),
            &neighbor,
            problems,
        );
    }
}

fn refuse(result: Result<(), ChangeError>, table: &TableReader<'_>, problems: &mut Problems) {
    if let Err(error) = result {
        table.refuse(error.field(), &error, problems);
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
        Err(problems) => {
            writeln!(out, "{problems}")?;
            return Ok(false);
        }
    };
    let problems = host.map(|host| loaded.check_host(host)).unwrap_or_default();
    if !problems.is_empty() {
        writeln!(out, "{problems}")?;
    }
    if problems.refused() {
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
