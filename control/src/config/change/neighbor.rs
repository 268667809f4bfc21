//! Static neighbors: `[[vni.neighbor]]`, `neigh.add` and `neigh.del`.

use std::net::IpAddr;

use vtep_dataplane::addr::Vni;

use super::kind::{EntryKind, Steps, Verb, VniLoader};
use super::{Change, ChangeError, Undo};
use crate::config::diagnostic::Diagnostics;
use crate::config::model::{Config, NeighborEntry, VniConfig};
use crate::config::table::TableReader;
use crate::config::value::{boolean, ip, seconds, text};
use crate::config::write::{line, quoted};

pub(super) struct Neighbors;

impl EntryKind for Neighbors {
    fn name(&self) -> &'static str {
        "neigh"
    }

    fn load(&self, table: &mut TableReader<'_>, loader: &mut VniLoader<'_>) {
        loader.tables(table, ("neighbor", "ip"), |item, loader| {
            let (ip, entry) = read(item, loader.diagnostics)?;
            Some(move |vni| addition(vni, ip, entry))
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
                let ((ip, entry), vni) = entry.zip(vni)?;
                Some(addition(vni, ip, NeighborEntry { lifetime, ..entry }))
            }
            Verb::Del => {
                let ip = table.required("ip", IP_EXAMPLE, diagnostics, ip);
                let (ip, vni) = ip.zip(vni)?;
                Some(Change::NeighborDel { vni, ip })
            }
        }
    }

    fn write_tables(&self, vni: &VniConfig, out: &mut String) {
        // An entry with a lifetime belongs to the program that added it.
        for (ip, entry) in vni.neighbors().iter().filter(|(_, e)| e.lifetime.is_none()) {
            out.push_str("[[vni.neighbor]]\n");
            line(out, "ip", quoted(ip));
            line(out, "mac", quoted(entry.mac));
            if entry.router {
                line(out, "router", true);
            }
        }
    }

    fn diff(&self, vni: Vni, old: &VniConfig, new: &VniConfig, steps: &mut Steps) {
        steps.entries(
            (old.neighbors(), new.neighbors()),
            |_, entry| entry.lifetime.is_some(),
            |ip, entry| addition(vni, ip, entry),
            |ip| Change::NeighborDel { vni, ip },
        );
    }
}

const fn addition(vni: Vni, ip: IpAddr, entry: NeighborEntry) -> Change {
    let NeighborEntry {
        mac,
        router,
        lifetime,
    } = entry;
    Change::NeighborAdd {
        vni,
        ip,
        mac,
        router,
        lifetime,
    }
}

const IP_EXAMPLE: &str = "\"192.0.2.12\"";

/// An entry without a lifetime.
fn read(
    table: &mut TableReader<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<(IpAddr, NeighborEntry)> {
    let address = table.required("ip", IP_EXAMPLE, diagnostics, ip);
    let mac = table.required("mac", "\"50:54:33:00:00:0c\"", diagnostics, text);
    let router = table.optional("router", diagnostics, boolean);
    let entry = NeighborEntry {
        mac: mac?,
        router: router.unwrap_or(false),
        lifetime: None,
    };
    Some((address?, entry))
}

pub(super) fn add(
    config: &mut Config,
    vni: Vni,
    ip: IpAddr,
    entry: NeighborEntry,
) -> Result<Undo, ChangeError> {
    let neighbors = &mut config.vni_mut(vni)?.neighbors;
    if let Some(old) = neighbors.get_mut(&ip) {
        if old.lifetime.is_none() || entry.lifetime.is_none() {
            return Err(ChangeError::NeighborExists {
                ip,
                mac: old.mac,
                vni,
            });
        }
        let old = std::mem::replace(old, entry);
        return Ok(Undo::Change(addition(vni, ip, old)));
    }
    neighbors.insert(ip, entry);
    Ok(Undo::Change(Change::NeighborDel { vni, ip }))
}

pub(super) fn del(config: &mut Config, vni: Vni, ip: IpAddr) -> Result<Undo, ChangeError> {
    let removed = config.vni_mut(vni)?.neighbors.remove(&ip);
    let removed = removed.ok_or(ChangeError::NoNeighbor { ip, vni })?;
    Ok(Undo::Change(addition(vni, ip, removed)))
}
