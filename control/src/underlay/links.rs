//! The host's network interfaces, as the kernel last described them.
//!
//! In: link messages (include/uapi/linux/if_link.h). Out: interfaces by index or name, and what
//! changed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoData, InfoPortData, InfoVlan, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage, Prop,
};
use netlink_packet_route::link::{InfoKind, VlanProtocol};
use vtep_dataplane::addr::MacAddr;

use super::bonds::{Bond, BondMember};

/// The VLAN of a sub-interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// VLAN ID, 1..=4094.
    pub id: u16,
    /// Index of the parent interface. `None` when it is in another network namespace.
    pub parent: Option<u32>,
    /// True for 802.1Q (EtherType 0x8100), false for 802.1ad.
    pub dot1q: bool,
}

/// A VXLAN device of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanDevice {
    /// Its UDP port.
    pub port: u16,
    /// The local address that it receives on; `None` = any.
    pub local: Option<IpAddr>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Its alternative names (`ip link property add`).
    pub alt_names: Vec<Arc<str>>,
    /// The link kind (IFLA_INFO_KIND), such as `veth` or `vlan`; empty for hardware.
    pub kind: String,
    /// Administratively up (IFF_UP).
    pub admin_up: bool,
    /// Has a carrier (IFF_LOWER_UP).
    pub carrier: bool,
    /// Carries Ethernet frames (ARPHRD_ETHER).
    pub ethernet: bool,
    /// MTU, bytes.
    pub mtu: u32,
    /// Its MAC address, if it has one of six octets.
    pub mac: Option<MacAddr>,
    /// Set for VLAN sub-interfaces.
    pub vlan: Option<Vlan>,
    /// The loopback interface (IFF_LOOPBACK).
    pub loopback: bool,
    /// Index of the interface that it is stacked on (IFLA_LINK), or of a veth's other end. `None` when
    /// that is in another network namespace.
    pub lower: Option<u32>,
    /// Set for Linux VXLAN devices.
    pub vxlan: Option<VxlanDevice>,
    /// Index of the bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// Set for bonds.
    pub bond: Option<Bond>,
    /// Set for members of a bond.
    pub bond_member: Option<BondMember>,
}

/// What this host receives on an underlay interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reception {
    /// The MACs under which it receives: those of the interface, and of the VLAN interfaces, bonds
    /// and bridges over it. Sorted; empty if unknown.
    pub macs: Vec<MacAddr>,
    /// It receives nothing, since the interface is an inactive member of a bond.
    pub standby: bool,
}

impl Link {
    /// Whether this is its name or one of its alternative names.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.names().any(|own| &**own == name)
    }

    /// Its name and its alternative names.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.name).chain(&self.alt_names)
    }

    /// Whether it can carry frames: administratively up and with a carrier.
    #[must_use]
    pub fn up(&self) -> bool {
        self.admin_up && self.carrier
    }
}

/// One interface appeared, changed or went away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkChange {
    /// The interface; its last state when it was removed.
    pub link: Link,
    /// False when no interface with this name and index exists any more.
    pub present: bool,
}

/// All interfaces of this network namespace.
#[derive(Debug, Clone, Default)]
pub struct Links {
    by_index: HashMap<u32, Link>,
    /// The indexes of the interfaces by their names.
    by_name: HashMap<Arc<str>, u32>,
}

impl Links {
    /// The interface with this index.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// The interface with this name or alternative name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.by_index.get(self.by_name.get(name)?)
    }

    /// What this host receives on an interface.
    #[must_use]
    pub fn reception(&self, index: u32) -> Reception {
        Reception {
            macs: self.macs(index),
            standby: self.is_standby(index),
        }
    }

    fn is_standby(&self, index: u32) -> bool {
        let Some(link) = self.get(index) else {
            return false;
        };
        let bond = link.master.and_then(|master| self.get(master)?.bond);
        bond.is_some_and(|bond| bond.ignores(index, link.bond_member))
    }

    /// The members of a bond, in the order of their indexes.
    #[must_use]
    pub fn members(&self, bond: u32) -> Vec<&Link> {
        let mut members: Vec<_> = self
            .iter()
            .filter(|link| link.master == Some(bond))
            .collect();
        members.sort_by_key(|link| link.index);
        members
    }

    /// The names of a bond's members.
    #[must_use]
    pub fn member_names(&self, bond: u32) -> Vec<&str> {
        let members = self.members(bond);
        members.iter().map(|link| &*link.name).collect()
    }

    /// The bond that an interface is a member of, else the interface itself.
    #[must_use]
    pub fn bond_or_self(&self, index: u32) -> u32 {
        let master = self.get(index).and_then(|link| self.get(link.master?));
        master
            .filter(|master| master.bond.is_some())
            .map_or(index, |bond| bond.index)
    }

    fn macs(&self, index: u32) -> Vec<MacAddr> {
        let mut over = vec![index];
        let mut at = 0;
        while let Some(lower) = over.get(at).copied() {
            at += 1;
            let is_over = |link: &&Link| link.vlan.is_some_and(|vlan| vlan.parent == Some(lower));
            let vlans = self.iter().filter(is_over).map(|link| link.index);
            let master = self.get(lower).and_then(|link| link.master);
            let new: Vec<_> = vlans.chain(master).filter(|i| !over.contains(i)).collect();
            over.extend(new);
        }
        let macs: BTreeSet<_> = over
            .into_iter()
            .filter_map(|index| self.get(index)?.mac)
            .collect();
        macs.into_iter().collect()
    }

    /// Every interface, unordered.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values()
    }

    /// The interface's name, or its index as text for an unknown interface.
    #[must_use]
    pub fn name(&self, index: u32) -> Arc<str> {
        self.get(index).map_or_else(
            || format!("interface {index}").into(),
            |link| link.name.clone(),
        )
    }

    /// Applies RTM_NEWLINK. Returns what changed; nothing for messages of a bridge about its ports.
    pub fn update(&mut self, message: &LinkMessage) -> Vec<LinkChange> {
        if message.header.interface_family != AddressFamily::Unspec {
            return Vec::new();
        }
        let old = self.by_index.get(&message.header.index);
        let new = merge(old, message);
        // Events that are older than a dump, of an interface that had the name before, take it away
        // from a link that is as the dump has it.
        let has_names = new
            .names()
            .all(|name| self.by_name.get(name) == Some(&new.index));
        if old == Some(&new) && has_names {
            return Vec::new();
        }
        let mut changes = Vec::new();
        if let Some(renamed) = old.filter(|old| old.name != new.name) {
            changes.push(LinkChange {
                link: renamed.clone(),
                present: false,
            });
        }
        changes.push(LinkChange {
            link: new.clone(),
            present: true,
        });
        self.insert(new);
        changes
    }

    fn insert(&mut self, link: Link) {
        self.forget(link.index);
        for name in link.names() {
            self.by_name.insert(name.clone(), link.index);
        }
        self.by_index.insert(link.index, link);
    }

    fn forget(&mut self, index: u32) -> Option<Link> {
        let link = self.by_index.remove(&index)?;
        // Another interface may have taken over the name.
        for name in link.names() {
            if self.by_name.get(name) == Some(&index) {
                self.by_name.remove(name);
            }
        }
        Some(link)
    }

    /// Applies RTM_DELLINK. A bridge sends it too, with its own family, when a port leaves it: that
    /// is not a deletion.
    pub fn remove(&mut self, message: &LinkMessage) -> Option<LinkChange> {
        if message.header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let link = self.forget(message.header.index)?;
        Some(LinkChange {
            link,
            present: false,
        })
    }

    /// The differences of `newer`.
    #[must_use]
    pub fn difference(&self, newer: &Self) -> Vec<LinkChange> {
        let same_name =
            |link: &Link, other: &Self| other.get(link.index).is_some_and(|o| o.name == link.name);
        let removed = self.iter().filter(|link| !same_name(link, newer));
        let removed = removed.map(|link| LinkChange {
            link: link.clone(),
            present: false,
        });
        let changed = newer
            .iter()
            .filter(|link| self.get(link.index) != Some(link));
        removed
            .chain(changed.map(|link| LinkChange {
                link: link.clone(),
                present: true,
            }))
            .collect()
    }
}

/// Some messages carry only part of the attributes (wireless events): missing ones keep their
/// values.
fn merge(old: Option<&Link>, message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = old.cloned().unwrap_or_else(|| Link {
        index: message.header.index,
        name: "".into(),
        alt_names: Vec::new(),
        kind: String::new(),
        admin_up: false,
        carrier: false,
        ethernet: false,
        mtu: 0,
        mac: None,
        vlan: None,
        loopback: false,
        lower: None,
        vxlan: None,
        master: None,
        bond: None,
        bond_member: None,
    });
    link.loopback = flags.contains(LinkFlags::Loopback);
    link.admin_up = flags.contains(LinkFlags::Up);
    link.carrier = flags.contains(LinkFlags::LowerUp);
    link.ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut parent = None;
    let mut elsewhere = false;
    let mut master = None;
    let mut alt_names = Vec::new();
    let is_mtu = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Mtu(_));
    let whole = message.attributes.iter().any(is_mtu);
    if whole {
        link.bond_member = None;
    }
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name.as_str().into(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(octets) => {
                link.mac = octets.as_slice().try_into().ok().map(MacAddr);
            }
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::Controller(index) => master = Some(*index),
            LinkAttribute::PropList(all) => alt_names.extend(all.iter().filter_map(alt_name)),
            LinkAttribute::LinkInfo(infos) => read_info(&mut link, infos),
            _ => {}
        }
    }
    if whole {
        (link.master, link.alt_names) = (master, alt_names);
        link.lower = parent.filter(|_| !elsewhere);
        if let Some(vlan) = &mut link.vlan {
            vlan.parent = parent.filter(|_| !elsewhere);
        }
    }
    link
}

fn vxlan(data: &[InfoVxlan]) -> Option<VxlanDevice> {
    let local = data.iter().find_map(|data| match data {
        InfoVxlan::Local(v4) => Some(IpAddr::V4(*v4)),
        InfoVxlan::Local6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    data.iter().find_map(|data| match data {
        InfoVxlan::Port(port) => Some(VxlanDevice { port: *port, local }),
        _ => None,
    })
}

fn alt_name(property: &Prop) -> Option<Arc<str>> {
    match property {
        Prop::AltIfName(name) => Some(name.as_str().into()),
        _ => None,
    }
}

fn read_info(link: &mut Link, infos: &[LinkInfo]) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => {
                link.kind = kind.to_string();
                if *kind != InfoKind::Vlan {
                    link.vlan = None;
                }
                if *kind != InfoKind::Bond {
                    link.bond = None;
                }
            }
            LinkInfo::Data(InfoData::Bond(data)) => link.bond = Some(Bond::read(data)),
            LinkInfo::PortData(InfoPortData::BondPort(data)) => {
                link.bond_member = Some(BondMember::read(data));
            }
            LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = vxlan(data),
            LinkInfo::Data(InfoData::Vlan(data)) => {
                let id = data.iter().find_map(|d| {
                    if let InfoVlan::Id(id) = d {
                        Some(*id)
                    } else {
                        None
                    }
                });
                let tagged_otherwise = |d: &InfoVlan| match d {
                    InfoVlan::Protocol(protocol) => *protocol != VlanProtocol::Ieee8021Q,
                    _ => false,
                };
                let dot1q = !data.iter().any(tagged_otherwise);
                link.vlan = id.map(|id| Vlan {
                    id,
                    parent: None,
                    dot1q,
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
pub(super) mod tests;
