//! Reads the changes that requests of the control socket ask for, with the readers of the file.

use serde_json::Value;

use super::bgp::seconds;
use super::change::Change;
use super::entry;
use super::group::{self, Member};
use super::node::Located;
use super::problem::Problems;
use super::table::{TableReader, text};

/// The method of each change, as requests call it.
pub const CHANGE_METHODS: &[&str] = &[
    "vni.add",
    "vni.del",
    "port.add",
    "port.del",
    "fdb.add",
    "fdb.del",
    "flood.add",
    "flood.del",
    "neigh.add",
    "neigh.del",
];

impl Change {
    /// The change that `method` asks for with `params`, an object; `None` when no change has that name.
    ///
    /// # Errors
    /// Every wrong, missing or unknown field. The problems have no line and their keys are the fields' names.
    pub fn from_request(method: &str, params: &Value) -> Option<Result<Self, Problems>> {
        let method = CHANGE_METHODS.iter().find(|known| **known == method)?;
        let mut problems = Problems::new(method);
        let params = Located::from_json(params);
        let change = TableReader::new("", &params, &mut problems).and_then(|mut table| {
            let change = read(method, &mut table, &mut problems);
            table.finish(&mut problems);
            change
        });
        match change {
            Some(change) if !problems.refused() => Some(Ok(change)),
            _ => Some(Err(problems)),
        }
    }
}

fn read(method: &str, table: &mut TableReader<'_>, problems: &mut Problems) -> Option<Change> {
    let number = table.required("vni", "100", problems, entry::vni);
    // The rest is read even when the VNI is wrong, so that all problems are told at once.
    match method {
        "vni.add" => {
            let settings = entry::settings(table, problems);
            Some(Change::VniAdd {
                vni: number?,
                settings,
            })
        }
        "vni.del" => Some(Change::VniDel { vni: number? }),
        "port.add" => {
            let port = entry::port(table, problems);
            Some(Change::PortAdd {
                vni: number?,
                port: port?,
            })
        }
        "port.del" => {
            let port = entry::port_key(table, problems);
            Some(Change::PortDel {
                vni: number?,
                port: port?,
            })
        }
        "fdb.add" => {
            let entry = entry::fdb(table, problems);
            let lifetime = table.optional("lifetime", problems, seconds);
            entry.zip(number).map(|((mac, vtep), vni)| Change::FdbAdd {
                vni,
                mac,
                vtep,
                lifetime,
            })
        }
        "fdb.del" => {
            let mac = table.required("mac", "\"50:54:33:00:00:0c\"", problems, text);
            Some(Change::FdbDel {
                vni: number?,
                mac: mac?,
            })
        }
        "flood.add" | "flood.del" => {
            let member = table.required("vtep", "\"203.0.113.9\"", problems, group::member);
            let (vni, member) = number.zip(member)?;
            Some(match (member, method == "flood.add") {
                (Member::Vtep(vtep), true) => Change::FloodAdd { vni, vtep },
                (Member::Vtep(vtep), false) => Change::FloodDel { vni, vtep },
                (Member::Group(group), true) => Change::GroupAdd { vni, group },
                (Member::Group(group), false) => Change::GroupDel { vni, group },
            })
        }
        "neigh.add" => {
            let entry = entry::neighbor(table, problems);
            let lifetime = table.optional("lifetime", problems, seconds);
            entry
                .zip(number)
                .map(|((ip, mac), vni)| Change::NeighborAdd {
                    vni,
                    ip,
                    mac,
                    lifetime,
                })
        }
        "neigh.del" => {
            let ip = table.required("ip", "\"192.0.2.12\"", problems, entry::ip);
            Some(Change::NeighborDel {
                vni: number?,
                ip: ip?,
            })
        }
        _ => None,
    }
}
