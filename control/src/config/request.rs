//! Reads the changes in requests of the control socket, with the readers of the file.

use serde_json::Value;

use super::change::kind::{EntryKind, Verb};
use super::change::{Change, KINDS};
use super::diagnostic::Diagnostics;
use super::node::Located;
use super::table::TableReader;
use super::vni;

impl Change {
    /// The change that `method` requests with `params`, an object; `None` when no change has that
    /// name.
    ///
    /// # Errors
    /// Every invalid, missing or unknown field. The diagnostics have no line, and their keys are
    /// the names of the fields.
    pub fn from_request(method: &str, params: &Value) -> Option<Result<Self, Diagnostics>> {
        let (name, verb) = method.split_once('.')?;
        let verb = match verb {
            "add" => Verb::Add,
            "del" => Verb::Del,
            _ => return None,
        };
        let kind = KINDS.iter().find(|kind| kind.name() == name);
        if kind.is_none() && name != "vni" {
            return None;
        }
        let mut diagnostics = Diagnostics::of_request();
        let params = Located::from_json(params);
        let change = TableReader::new("", &params, &mut diagnostics).and_then(|mut table| {
            let change = read(kind.copied(), verb, &mut table, &mut diagnostics);
            table.finish(&mut diagnostics);
            change
        });
        match change {
            Some(change) if !diagnostics.has_errors() => Some(Ok(change)),
            _ => Some(Err(diagnostics)),
        }
    }
}

/// Reads a change of an entry, or of a VNI itself.
fn read(
    kind: Option<&dyn EntryKind>,
    verb: Verb,
    table: &mut TableReader<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Change> {
    let vni = table.required("vni", "100", diagnostics, vni::number);
    match (kind, verb) {
        (Some(kind), verb) => kind.request(verb, vni, table, diagnostics),
        (None, Verb::Add) => {
            let settings = vni::read(table, diagnostics);
            Some(Change::VniAdd {
                vni: vni?,
                settings,
            })
        }
        (None, Verb::Del) => Some(Change::VniDel { vni: vni? }),
    }
}
