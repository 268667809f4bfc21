//! Tenant ports: `[[vni.port]]`, `port.add` and `port.del`.

use vtep_dataplane::addr::Vni;

use super::kind::{EntryKind, Steps, Verb, VniLoader};
use super::{Change, ChangeError, MAX_PORTS, Undo};
use crate::config::diagnostic::Diagnostics;
use crate::config::interface::PortKey;
use crate::config::model::{Config, FdbEntry, VniConfig};
use crate::config::port::{self, Port};
use crate::config::table::TableReader;

pub(super) struct Ports;

impl EntryKind for Ports {
    fn name(&self) -> &'static str {
        "port"
    }

    fn load(&self, table: &mut TableReader<'_>, loader: &mut VniLoader<'_>) {
        loader.tables(table, ("port", "interface"), |item, loader| {
            let port = port::read(item, loader.diagnostics)?;
            let line = item.line_of("interface");
            let interface = port.key.interface.clone();
            loader.references.ports.push((line, interface));
            Some(|vni| Change::PortAdd { vni, port })
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
                let port = port::read(table, diagnostics)?;
                Some(Change::PortAdd { vni: vni?, port })
            }
            Verb::Del => {
                let port = port::read_key(table, diagnostics)?;
                Some(Change::PortDel { vni: vni?, port })
            }
        }
    }

    fn write_tables(&self, vni: &VniConfig, out: &mut String) {
        for port in vni.ports().values() {
            port::write(port, out);
        }
    }

    fn diff(&self, vni: Vni, old: &VniConfig, new: &VniConfig, steps: &mut Steps) {
        for key in old
            .ports()
            .keys()
            .filter(|key| !new.ports().contains_key(key))
        {
            steps.removals.push(Change::PortDel {
                vni,
                port: key.clone(),
            });
        }
        for (key, port) in new.ports() {
            let Some(before) = old.ports().get(key) else {
                steps.additions.push(Change::PortAdd {
                    vni,
                    port: port.clone(),
                });
                continue;
            };
            // All ports of a trunk must have left it before the first one has another `io`.
            if key.vlan.is_some() && before.io != port.io {
                steps.removals.push(Change::PortDel {
                    vni,
                    port: key.clone(),
                });
                steps.additions.push(Change::PortAdd {
                    vni,
                    port: port.clone(),
                });
                continue;
            }
            // A MAC that leaves a port may reappear elsewhere, so it must be free before that.
            if before.macs.difference(&port.macs).next().is_some() {
                let kept = before.macs.intersection(&port.macs).copied().collect();
                let shrunk = Port {
                    macs: kept,
                    ..port.clone()
                };
                steps.removals.push(Change::PortSet {
                    vni,
                    port: shrunk.clone(),
                });
                if shrunk != *port {
                    steps.additions.push(Change::PortSet {
                        vni,
                        port: port.clone(),
                    });
                }
            } else if before != port {
                steps.additions.push(Change::PortSet {
                    vni,
                    port: port.clone(),
                });
            }
        }
    }
}

pub(super) fn add(config: &mut Config, vni: Vni, port: &Port) -> Result<Undo, ChangeError> {
    let content = config.vnis.get(&vni).ok_or(ChangeError::NoVni(vni))?;
    config.check_interface(&port.key)?;
    config.check_io(port)?;
    content.check_macs(vni, port)?;
    if config.port_count >= MAX_PORTS {
        return Err(ChangeError::TooManyPorts);
    }
    config.index_port(&port.key, vni);
    config.vni_mut(vni)?.put_port(port.clone());
    Ok(Undo::Change(Change::PortDel {
        vni,
        port: port.key.clone(),
    }))
}

pub(super) fn set(config: &mut Config, vni: Vni, port: &Port) -> Result<Undo, ChangeError> {
    config.check_io(port)?;
    let content = config.vni_mut(vni)?;
    content.check_macs(vni, port)?;
    let old = content.take_port(&port.key);
    let old = old.ok_or_else(|| ChangeError::NoPort(port.key.clone(), vni))?;
    content.put_port(port.clone());
    Ok(Undo::Change(Change::PortSet { vni, port: old }))
}

pub(super) fn del(config: &mut Config, vni: Vni, key: &PortKey) -> Result<Undo, ChangeError> {
    let removed = config.vni_mut(vni)?.take_port(key);
    let port = removed.ok_or_else(|| ChangeError::NoPort(key.clone(), vni))?;
    config.unindex_port(key);
    Ok(Undo::Change(Change::PortAdd { vni, port }))
}

impl Config {
    pub(super) fn index_port(&mut self, key: &PortKey, vni: Vni) {
        self.interfaces
            .entry(key.interface.clone())
            .or_default()
            .insert(key.vlan, vni);
        self.port_count += 1;
    }

    pub(super) fn unindex_port(&mut self, key: &PortKey) {
        if let Some(vlans) = self.interfaces.get_mut(&key.interface) {
            if vlans.remove(&key.vlan).is_some() {
                self.port_count -= 1;
            }
            if vlans.is_empty() {
                self.interfaces.remove(&key.interface);
            }
        }
    }

    /// Checks that no port uses the interface, or its VLAN, already.
    fn check_interface(&self, key: &PortKey) -> Result<(), ChangeError> {
        if self.vtep.underlay.contains(&key.interface) {
            return Err(ChangeError::Underlay(key.interface.clone()));
        }
        let Some(vlans) = self.interfaces.get(&key.interface) else {
            return Ok(());
        };
        let same = vlans.get_key_value(&key.vlan);
        let whole = same.or_else(|| vlans.get_key_value(&None));
        let any = whole.or_else(|| vlans.first_key_value().filter(|_| key.vlan.is_none()));
        any.map_or(Ok(()), |(vlan, vni)| {
            let taken = PortKey {
                interface: key.interface.clone(),
                vlan: *vlan,
            };
            Err(ChangeError::InterfaceTwice {
                wanted: key.clone(),
                taken,
                vni: *vni,
            })
        })
    }

    /// Checks that the other ports of the interface have the same `io`.
    fn check_io(&self, port: &Port) -> Result<(), ChangeError> {
        let interface = &port.key.interface;
        let vlans = self.interfaces.get(interface).into_iter().flatten();
        for (vlan, vni) in vlans.filter(|(vlan, _)| **vlan != port.key.vlan) {
            let key = PortKey {
                interface: interface.clone(),
                vlan: *vlan,
            };
            let ports = self.vnis.get(vni).map(VniConfig::ports);
            let other = ports.and_then(|ports| ports.get(&key));
            if let Some(other) = other.filter(|other| other.io != port.io) {
                return Err(ChangeError::IoTwice {
                    wanted: port.key.clone(),
                    io: port.io.word(),
                    other: key,
                    others: other.io.word(),
                });
            }
        }
        Ok(())
    }
}

impl VniConfig {
    fn check_macs(&self, vni: Vni, port: &Port) -> Result<(), ChangeError> {
        for mac in &port.macs {
            if let Some(other) = self.local.get(mac).filter(|other| **other != port.key) {
                return Err(ChangeError::MacTwice {
                    mac: *mac,
                    port: other.clone(),
                    vni,
                });
            }
            if let Some(FdbEntry { vtep, .. }) = self.fdb.get(mac) {
                return Err(ChangeError::MacRemote {
                    mac: *mac,
                    vtep: *vtep,
                    vni,
                });
            }
        }
        Ok(())
    }

    fn put_port(&mut self, port: Port) {
        self.local
            .extend(port.macs.iter().map(|mac| (*mac, port.key.clone())));
        self.ports.insert(port.key.clone(), port);
    }

    fn take_port(&mut self, key: &PortKey) -> Option<Port> {
        let port = self.ports.remove(key)?;
        for mac in &port.macs {
            self.local.remove(mac);
        }
        Some(port)
    }
}
