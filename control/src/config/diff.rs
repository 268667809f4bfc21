//! The difference of two configurations, as changes.

use super::change::Change;
use super::model::{Config, Port, VniConfig};
use vtep_dataplane::addr::Vni;

/// What leads from one configuration to another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// To be applied in this order: what goes first, then what comes.
    pub changes: Vec<Change>,
    /// Keys whose new values take a restart of the daemon.
    pub restart: Vec<&'static str>,
}

/// What leads from `old` to `new`. Without keys in `restart`, the changes applied to `old` give `new`.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Diff {
    let mut gone = Vec::new();
    let mut come = Vec::new();
    for vni in old.vnis().keys().filter(|vni| !new.vnis().contains_key(vni)) {
        gone.push(Change::VniDel { vni: *vni });
    }
    if old.vtep().tunnel != new.vtep().tunnel {
        come.push(Change::Tunnel(new.vtep().tunnel.clone()));
    }
    for (vni, content) in new.vnis() {
        let empty = VniConfig::default();
        let before = old.vnis().get(vni);
        match before {
            None => come.push(Change::VniAdd { vni: *vni, settings: content.settings() }),
            Some(before) if before.settings() != content.settings() => {
                come.push(Change::VniSet { vni: *vni, settings: content.settings() });
            }
            Some(_) => (),
        }
        let before = before.unwrap_or(&empty);
        ports(*vni, before, content, &mut gone, &mut come);
        entries(*vni, before, content, &mut gone, &mut come);
    }
    gone.append(&mut come);
    Diff { changes: gone, restart: restart(old, new) }
}

fn ports(vni: Vni, old: &VniConfig, new: &VniConfig, gone: &mut Vec<Change>, come: &mut Vec<Change>) {
    for key in old.ports().keys().filter(|key| !new.ports().contains_key(key)) {
        gone.push(Change::PortDel { vni, port: key.clone() });
    }
    for (key, port) in new.ports() {
        let Some(before) = old.ports().get(key) else {
            come.push(Change::PortAdd { vni, port: port.clone() });
            continue;
        };
        // A MAC that leaves a port may come back in another place, so it must be free before that.
        if before.macs.difference(&port.macs).next().is_some() {
            let kept = before.macs.intersection(&port.macs).copied().collect();
            let shrunk = Port { macs: kept, ..port.clone() };
            gone.push(Change::PortSet { vni, port: shrunk.clone() });
            if shrunk != *port {
                come.push(Change::PortSet { vni, port: port.clone() });
            }
        } else if before != port {
            come.push(Change::PortSet { vni, port: port.clone() });
        }
    }
}

fn entries(vni: Vni, old: &VniConfig, new: &VniConfig, gone: &mut Vec<Change>, come: &mut Vec<Change>) {
    for vtep in old.flood().difference(new.flood()) {
        gone.push(Change::FloodDel { vni, vtep: *vtep });
    }
    for vtep in new.flood().difference(old.flood()) {
        come.push(Change::FloodAdd { vni, vtep: *vtep });
    }
    for (mac, vtep) in old.fdb() {
        if new.fdb().get(mac) != Some(vtep) {
            gone.push(Change::FdbDel { vni, mac: *mac });
        }
    }
    for (mac, vtep) in new.fdb() {
        if old.fdb().get(mac) != Some(vtep) {
            come.push(Change::FdbAdd { vni, mac: *mac, vtep: *vtep });
        }
    }
    for (ip, mac) in old.neighbors() {
        if new.neighbors().get(ip) != Some(mac) {
            gone.push(Change::NeighborDel { vni, ip: *ip });
        }
    }
    for (ip, mac) in new.neighbors() {
        if old.neighbors().get(ip) != Some(mac) {
            come.push(Change::NeighborAdd { vni, ip: *ip, mac: *mac });
        }
    }
}

fn restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (old.vtep(), new.vtep());
    let (c, d) = (old.control(), new.control());
    [
        ("vtep.address", a.addresses == b.addresses),
        ("vtep.underlay", a.underlay == b.underlay),
        ("vtep.udp-port", a.udp_port == b.udp_port),
        ("vtep.cores", a.cores == b.cores),
        ("vtep.afxdp", a.afxdp == b.afxdp),
        ("control.socket", c.socket == d.socket),
        ("control.group", c.group == d.group),
        ("control.metrics", c.metrics == d.metrics),
    ]
    .into_iter()
    .filter_map(|(key, same)| (!same).then_some(key))
    .collect()
}
