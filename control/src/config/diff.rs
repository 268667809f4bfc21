//! The difference of two configurations, as changes.

use vtep_dataplane::addr::Vni;

use super::change::Change;
use super::model::{Config, Port, VniConfig};

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
    for vni in old
        .vnis()
        .keys()
        .filter(|vni| !new.vnis().contains_key(vni))
    {
        gone.push(Change::VniDel { vni: *vni });
    }
    if old.vtep().tunnel != new.vtep().tunnel {
        come.push(Change::Tunnel(new.vtep().tunnel.clone()));
    }
    bgp(old, new, &mut gone, &mut come);
    for (vni, content) in new.vnis() {
        let Some(before) = old.vnis().get(vni) else {
            come.extend(vni_content(*vni, content));
            continue;
        };
        if before.settings() != content.settings() {
            // Another VNI may take over its route distinguisher, so that must be free before.
            let (was, is) = (before.settings().evpn.rd, content.settings().evpn.rd);
            if was != is && was.is_some_and(|rd| new.distinguishers.contains_key(&rd)) {
                let mut free = before.settings().clone();
                free.evpn.rd = None;
                gone.push(Change::VniSet {
                    vni: *vni,
                    settings: free,
                });
            }
            come.push(Change::VniSet {
                vni: *vni,
                settings: content.settings().clone(),
            });
        }
        ports(*vni, before, content, &mut gone, &mut come);
        entries(*vni, before, content, &mut gone, &mut come);
    }
    gone.append(&mut come);
    Diff {
        changes: gone,
        restart: restart(old, new),
    }
}

/// The changes that add a VNI with all its content, in order.
#[must_use]
pub fn vni_content(vni: Vni, content: &VniConfig) -> Vec<Change> {
    let mut come = vec![Change::VniAdd {
        vni,
        settings: content.settings().clone(),
    }];
    let (empty, mut gone) = (VniConfig::default(), Vec::new());
    ports(vni, &empty, content, &mut gone, &mut come);
    entries(vni, &empty, content, &mut gone, &mut come);
    come
}

fn ports(
    vni: Vni,
    old: &VniConfig,
    new: &VniConfig,
    gone: &mut Vec<Change>,
    come: &mut Vec<Change>,
) {
    for key in old
        .ports()
        .keys()
        .filter(|key| !new.ports().contains_key(key))
    {
        gone.push(Change::PortDel {
            vni,
            port: key.clone(),
        });
    }
    for (key, port) in new.ports() {
        let Some(before) = old.ports().get(key) else {
            come.push(Change::PortAdd {
                vni,
                port: port.clone(),
            });
            continue;
        };
        // A MAC that leaves a port may come back in another place, so it must be free before that.
        if before.macs.difference(&port.macs).next().is_some() {
            let kept = before.macs.intersection(&port.macs).copied().collect();
            let shrunk = Port {
                macs: kept,
                ..port.clone()
            };
            gone.push(Change::PortSet {
                vni,
                port: shrunk.clone(),
            });
            if shrunk != *port {
                come.push(Change::PortSet {
                    vni,
                    port: port.clone(),
                });
            }
        } else if before != port {
            come.push(Change::PortSet {
                vni,
                port: port.clone(),
            });
        }
    }
}

fn entries(
    vni: Vni,
    old: &VniConfig,
    new: &VniConfig,
    gone: &mut Vec<Change>,
    come: &mut Vec<Change>,
) {
    for vtep in old.flood().difference(new.flood()) {
        gone.push(Change::FloodDel { vni, vtep: *vtep });
    }
    for vtep in new.flood().difference(old.flood()) {
        come.push(Change::FloodAdd { vni, vtep: *vtep });
    }
    if old.group() != new.group() {
        gone.extend(old.group().map(|group| Change::GroupDel { vni, group }));
        come.extend(new.group().map(|group| Change::GroupAdd { vni, group }));
    }
    for (mac, entry) in old.fdb() {
        // A file says nothing of entries with a lifetime: they go when it wants their place.
        let wanted = new.fdb().get(mac);
        let kept = entry.lifetime.is_some() && wanted.is_none() && !new.local().contains_key(mac);
        if !kept && wanted != Some(entry) {
            gone.push(Change::FdbDel { vni, mac: *mac });
        }
    }
    for (mac, entry) in new.fdb() {
        if old.fdb().get(mac) != Some(entry) {
            come.push(Change::FdbAdd {
                vni,
                mac: *mac,
                vtep: entry.vtep,
                lifetime: entry.lifetime,
            });
        }
    }
    for (ip, entry) in old.neighbors() {
        let wanted = new.neighbors().get(ip);
        let kept = entry.lifetime.is_some() && wanted.is_none();
        if !kept && wanted != Some(entry) {
            gone.push(Change::NeighborDel { vni, ip: *ip });
        }
    }
    for (ip, entry) in new.neighbors() {
        if old.neighbors().get(ip) != Some(entry) {
            come.push(Change::NeighborAdd {
                vni,
                ip: *ip,
                mac: entry.mac,
                lifetime: entry.lifetime,
            });
        }
    }
}

/// BGP starts before its first neighbour comes, and ends after its last has gone.
fn bgp(old: &Config, new: &Config, gone: &mut Vec<Change>, come: &mut Vec<Change>) {
    let (before, after) = (old.bgp_neighbors(), new.bgp_neighbors());
    for address in before.keys().filter(|address| !after.contains_key(address)) {
        gone.push(Change::BgpNeighborDel { address: *address });
    }
    if old.bgp() != new.bgp() {
        come.push(Change::BgpSet {
            settings: new.bgp().cloned(),
        });
    }
    for (address, neighbor) in after {
        match before.get(address) {
            None => come.push(Change::BgpNeighborAdd {
                neighbor: Box::new(neighbor.clone()),
            }),
            Some(old) if old != neighbor => {
                come.push(Change::BgpNeighborSet {
                    neighbor: Box::new(neighbor.clone()),
                });
            }
            Some(_) => (),
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
