//! Static neighbors: `[[vni.neighbor]]`, `neigh.add` and `neigh.del`.

use std::net::IpAddr;

use vtep_dataplane::addr::{HostMac, Vni};

use super::kind::{EntryKind, Steps, Verb, VniLoader};
use super::{Change, ChangeError, Undo};
use crate::config::diagnostic::Diagnostics;
use crate::config::model::{Config, NeighborEntry, VniConfig};
use crate::config::table::TableReader;
use crate::config::value::{ip, seconds, text};
use crate::config::write::{line, quoted};

pub(super) struct Neighbors;

impl EntryKind for Neighbors {
    fn name(&self) -> &'static str {
        "neigh"
    }

    fn load(&self, table: &mut TableReader<'_>, loader: &mut VniLoader<'_>) {
        loader.tables(table, "neighbor", |item, loader| {
            let (ip, mac) = read(item, loader.diagnostics)?;
            Some(move |vni| Change::NeighborAdd {
                vni,
                ip,
                mac,
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
                let ((ip, mac), vni) = entry.zip(vni)?;
                Some(Change::NeighborAdd {
                    vni,
                    ip,
                    mac,
                    lifetime,
                })
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
        }
    }

    fn diff(&self, vni: Vni, old: &VniConfig, new: &VniConfig, steps: &mut Steps) {
        for (ip, entry) in old.neighbors() {
            let wanted = new.neighbors().get(ip);
            let kept = entry.lifetime.is_some() && wanted.is_none();
            if !kept && wanted != Some(entry) {
                steps.removals.push(Change::NeighborDel { vni, ip: *ip });
            }
        }
        for (ip, entry) in new.neighbors() {
            if old.neighbors().get(ip) != Some(entry) {
                steps.additions.push(Change::NeighborAdd {
                    vni,
                    ip: *ip,
                    mac: entry.mac,
                    lifetime: entry.lifetime,
                });
            }
        }
    }
}

const IP_EXAMPLE: &str = "\"192.0.2.12\"";

fn read(table: &mut TableReader<'_>, diagnostics: &mut Diagnostics) -> Option<(IpAddr, HostMac)> {
    let address = table.required("ip", IP_EXAMPLE, diagnostics, ip);
    let mac = table.required("mac", "\"50:54:33:00:00:0c\"", diagnostics, text);
    Some((address?, mac?))
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
        let NeighborEntry { mac, lifetime } = std::mem::replace(old, entry);
        return Ok(Undo::Change(Change::NeighborAdd {
            vni,
            ip,
            mac,
            lifetime,
        }));
    }
    neighbors.insert(ip, entry);
    Ok(Undo::Change(Change::NeighborDel { vni, ip }))
}

pub(super) fn del(config: &mut Config, vni: Vni, ip: IpAddr) -> Result<Undo, ChangeError> {
    let removed = config.vni_mut(vni)?.neighbors.remove(&ip);
    let NeighborEntry { mac, lifetime } = removed.ok_or(ChangeError::NoNeighbor { ip, vni })?;
    Ok(Undo::Change(Change::NeighborAdd {
        vni,
        ip,
        mac,
        lifetime,
    }))
}
