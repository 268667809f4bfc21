//! Reads the changes that requests of the control socket ask for, with the readers of the file.

use serde_json::Value;

use super::bgp::seconds;
use super::change::Change;
use super::diagnostic::Diagnostics;
use super::group::{self, FloodTarget};
use super::node::Located;
use super::port;
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
    pub fn from_request(method: &str, params: &Value) -> Option<Result<Self, Diagnostics>> {
        let method = CHANGE_METHODS.iter().find(|known| **known == method)?;
        let mut diagnostics = Diagnostics::new(method);
        let params = Located::from_json(params);
        let change = TableReader::new("", &params, &mut diagnostics).and_then(|mut table| {
            let change = read(method, &mut table, &mut diagnostics);
            table.finish(&mut diagnostics);
            change
        });
        match change {
            Some(change) if !diagnostics.has_errors() => Some(Ok(change)),
            _ => Some(Err(diagnostics)),
        }
    }
}

fn read(
    method: &str,
    table: &mut TableReader<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Change> {
    let number = table.required("vni", "100", diagnostics, port::vni);
    // The rest is read even when the VNI is wrong, so that all problems are told at once.
    match method {
        "vni.add" => {
            let settings = port::settings(table, diagnostics);
            Some(Change::VniAdd {
                vni: number?,
                settings,
            })
        }
        "vni.del" => Some(Change::VniDel { vni: number? }),
        "port.add" => {
            let port = port::port(table, diagnostics);
            Some(Change::PortAdd {
                vni: number?,
                port: port?,
            })
        }
        "port.del" => {
            let port = port::port_key(table, diagnostics);
            Some(Change::PortDel {
                vni: number?,
                port: port?,
            })
        }
        "fdb.add" => {
            let entry = port::fdb(table, diagnostics);
            let lifetime = table.optional("lifetime", diagnostics, seconds);
            entry.zip(number).map(|((mac, vtep), vni)| Change::FdbAdd {
                vni,
                mac,
                vtep,
                lifetime,
            })
        }
        "fdb.del" => {
            let mac = table.required("mac", "\"50:54:33:00:00:0c\"", diagnostics, text);
            Some(Change::FdbDel {
                vni: number?,
                mac: mac?,
            })
        }
        "flood.add" | "flood.del" => {
            let member = table.required("vtep", "\"203.0.113.9\"", diagnostics, group::member);
            let (vni, member) = number.zip(member)?;
            Some(match (member, method == "flood.add") {
                (FloodTarget::Vtep(vtep), true) => Change::FloodAdd { vni, vtep },
                (FloodTarget::Vtep(vtep), false) => Change::FloodDel { vni, vtep },
                (FloodTarget::Group(group), true) => Change::GroupAdd { vni, group },
                (FloodTarget::Group(group), false) => Change::GroupDel { vni, group },
            })
        }
        "neigh.add" => {
            let entry = port::neighbor(table, diagnostics);
            let lifetime = table.optional("lifetime", diagnostics, seconds);
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
            let ip = table.required("ip", "\"192.0.2.12\"", diagnostics, port::ip);
            Some(Change::NeighborDel {
                vni: number?,
                ip: ip?,
            })
        }
        _ => None,
    }
}
