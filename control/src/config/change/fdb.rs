//! Static remote MACs: `[[vni.fdb]]`, `fdb.add` and `fdb.del`.

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::kind::{EntryKind, Steps, Verb, VniLoader};
use super::{Change, ChangeError, Undo};
use crate::config::diagnostic::Diagnostics;
use crate::config::model::{Config, FdbEntry, VniConfig};
use crate::config::table::TableReader;
use crate::config::value::{seconds, text};
use crate::config::write::{line, quoted};

pub(super) struct Fdb;

impl EntryKind for Fdb {
    fn name(&self) -> &'static str {
        "fdb"
    }

    fn load(&self, table: &mut TableReader<'_>, loader: &mut VniLoader<'_>) {
        loader.tables(table, ("fdb", "mac"), |item, loader| {
            let (mac, vtep) = read(item, loader.diagnostics)?;
            let lifetime = None;
            Some(move |vni| addition(vni, mac, FdbEntry { vtep, lifetime }))
        });
    }

    fn request(
        &self,
        verb: Verb,
        vni: Option<Vni>,
        table: &mut TableReader<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Change> {
        match verb {
            Verb::Add => {
                let entry = read(table, diagnostics);
                let lifetime = table.optional("lifetime", diagnostics, seconds);
                let ((mac, vtep), vni) = entry.zip(vni)?;
                Some(addition(vni, mac, FdbEntry { vtep, lifetime }))
            }
            Verb::Del => {
                let mac = table.required("mac", MAC_EXAMPLE, diagnostics, text);
                let (mac, vni) = mac.zip(vni)?;
                Some(Change::FdbDel { vni, mac })
            }
        }
    }

    fn write_tables(&self, vni: &VniConfig, out: &mut String) {
        // An entry with a lifetime belongs to the program that added it.
        for (mac, entry) in vni.fdb().iter().filter(|(_, e)| e.lifetime.is_none()) {
            out.push_str("[[vni.fdb]]\n");
            line(out, "mac", quoted(mac));
            line(out, "vtep", quoted(entry.vtep));
        }
    }

    fn diff(&self, vni: Vni, old: &VniConfig, new: &VniConfig, steps: &mut Steps) {
        // Entries with a lifetime are in no file: they stay unless the file defines that MAC.
        let is_kept =
            |mac, entry: FdbEntry| entry.lifetime.is_some() && !new.local().contains_key(&mac);
        steps.entries(
            (old.fdb(), new.fdb()),
            is_kept,
            |mac, entry| addition(vni, mac, entry),
            |mac| Change::FdbDel { vni, mac },
        );
    }
}

const fn addition(vni: Vni, mac: HostMac, entry: FdbEntry) -> Change {
    let FdbEntry { vtep, lifetime } = entry;
    Change::FdbAdd {
        vni,
        mac,
        vtep,
        lifetime,
    }
}

const MAC_EXAMPLE: &str = "\"50:54:33:00:00:0c\"";

fn read(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> Option<(HostMac, VtepAddr)> {
    let mac = table.required("mac", MAC_EXAMPLE, diagnostics, text);
    let vtep = table.required("vtep", "\"203.0.113.3\"", diagnostics, text);
    Some((mac?, vtep?))
}

pub(super) fn add(
    config: &mut Config,
    vni: Vni,
    mac: HostMac,
    entry: FdbEntry,
) -> Result<Undo, ChangeError> {
    config.check_remote(entry.vtep)?;
    let content = config.vni_mut(vni)?;
    if let Some(port) = content.local.get(&mac) {
        return Err(ChangeError::FdbLocal {
            mac,
            port: port.clone(),
            vni,
        });
    }
    if let Some(old) = content.fdb.get_mut(&mac) {
        if old.lifetime.is_none() || entry.lifetime.is_none() {
            return Err(ChangeError::FdbExists {
                mac,
                vtep: old.vtep,
                vni,
            });
        }
        let old = std::mem::replace(old, entry);
        return Ok(Undo::Change(addition(vni, mac, old)));
    }
    content.fdb.insert(mac, entry);
    Ok(Undo::Change(Change::FdbDel { vni, mac }))
}

pub(super) fn del(config: &mut Config, vni: Vni, mac: HostMac) -> Result<Undo, ChangeError> {
    let removed = config.vni_mut(vni)?.fdb.remove(&mac);
    let removed = removed.ok_or(ChangeError::NoFdb { mac, vni })?;
    Ok(Undo::Change(addition(vni, mac, removed)))
}
