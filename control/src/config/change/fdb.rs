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
        loader.tables(table, "fdb", |item, loader| {
            let (mac, vtep) = read(item, loader.diagnostics)?;
            Some(move |vni| Change::FdbAdd {
                vni,
                mac,
                vtep,
                lifetime: None,
            })
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
                Some(Change::FdbAdd {
                    vni,
                    mac,
                    vtep,
                    lifetime,
                })
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
        for (mac, entry) in old.fdb() {
            // Entries with a lifetime are in no file: they stay unless the file defines that MAC.
            let wanted = new.fdb().get(mac);
            let kept =
                entry.lifetime.is_some() && wanted.is_none() && !new.local().contains_key(mac);
            if !kept && wanted != Some(entry) {
                steps.removals.push(Change::FdbDel { vni, mac: *mac });
            }
        }
        for (mac, entry) in new.fdb() {
            if old.fdb().get(mac) != Some(entry) {
                steps.additions.push(Change::FdbAdd {
                    vni,
                    mac: *mac,
                    vtep: entry.vtep,
                    lifetime: entry.lifetime,
                });
            }
        }
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
        let FdbEntry { vtep, lifetime } = std::mem::replace(old, entry);
        return Ok(Undo::Change(Change::FdbAdd {
            vni,
            mac,
            vtep,
            lifetime,
        }));
    }
    content.fdb.insert(mac, entry);
    Ok(Undo::Change(Change::FdbDel { vni, mac }))
}

pub(super) fn del(config: &mut Config, vni: Vni, mac: HostMac) -> Result<Undo, ChangeError> {
    let removed = config.vni_mut(vni)?.fdb.remove(&mac);
    let FdbEntry { vtep, lifetime } = removed.ok_or(ChangeError::NoFdb { mac, vni })?;
    Ok(Undo::Change(Change::FdbAdd {
        vni,
        mac,
        vtep,
        lifetime,
    }))
}
