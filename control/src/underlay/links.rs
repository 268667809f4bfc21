//! The host's network interfaces, as the kernel last described them.
//!
//! In: link messages (include/uapi/linux/if_link.h). Out: interfaces by index or name, and what
//! changed.

use std::sync::Arc;

use hashbrown::HashMap;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::link::{InfoKind, VlanProtocol};
use vtep_dataplane::addr::MacAddr;

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

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
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
    /// Index of the bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
}

impl Link {
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
}

impl Links {
    /// The interface with this index.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// The interface with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.by_index.values().find(|link| &*link.name == name)
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
        if old == Some(&new) {
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
        self.by_index.insert(new.index, new);
        changes
    }

    /// Applies RTM_DELLINK. A bridge sends it too, with its own family, when a port leaves it: that
    /// is not a deletion.
    pub fn remove(&mut self, message: &LinkMessage) -> Option<LinkChange> {
        if message.header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let link = self.by_index.remove(&message.header.index)?;
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
        kind: String::new(),
        admin_up: false,
        carrier: false,
        ethernet: false,
        mtu: 0,
        mac: None,
        vlan: None,
        master: None,
    });
    link.admin_up = flags.contains(LinkFlags::Up);
    link.carrier = flags.contains(LinkFlags::LowerUp);
    link.ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut parent = None;
    let mut elsewhere = false;
    let mut master = None;
    let mut whole = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name.as_str().into(),
            LinkAttribute::Mtu(mtu) => {
                link.mtu = *mtu;
                whole = true;
            }
            LinkAttribute::Address(octets) => {
                link.mac = octets.as_slice().try_into().ok().map(MacAddr);
            }
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::Controller(index) => master = Some(*index),
            LinkAttribute::LinkInfo(infos) => read_info(&mut link, infos),
            _ => {}
        }
    }
    if whole {
        link.master = master;
        if let Some(vlan) = &mut link.vlan {
            vlan.parent = parent.filter(|_| !elsewhere);
        }
    }
    link
}

fn read_info(link: &mut Link, infos: &[LinkInfo]) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => {
                link.kind = kind.to_string();
                if *kind != InfoKind::Vlan {
                    link.vlan = None;
                }
            }
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
pub(super) mod tests {
    use super::*;

    /// An RTM_NEWLINK of an Ethernet interface, for tests.
    pub(in crate::underlay) fn message(index: u32, name: &str, up: bool, mtu: u32) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.header.flags = if up {
            LinkFlags::Up | LinkFlags::LowerUp
        } else {
            LinkFlags::Up
        };
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]),
        ];
        message
    }

    /// The same for VLAN `id` of interface `parent`.
    pub(in crate::underlay) fn vlan_message(
        index: u32,
        name: &str,
        parent: u32,
        id: u16,
    ) -> LinkMessage {
        let mut message = message(index, name, true, 1500);
        message.attributes.push(LinkAttribute::Link(parent));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![
                InfoVlan::Id(id),
                InfoVlan::Protocol(VlanProtocol::Ieee8021Q),
            ])),
        ]));
        message
    }

    #[test]
    fn a_link_is_tracked_from_creation_to_removal() {
        let mut links = Links::default();
        let born = links.update(&message(3, "eth0", true, 1500));
        assert_eq!(
            (born.len(), born[0].present, born[0].link.up()),
            (1, true, true)
        );
        assert!(links.update(&message(3, "eth0", true, 1500)).is_empty());
        let down = links.update(&message(3, "eth0", false, 1500));
        assert!(down[0].link.admin_up && !down[0].link.up());
        let renamed = links.update(&message(3, "wan", false, 9000));
        assert_eq!(
            (&*renamed[0].link.name, renamed[0].present),
            ("eth0", false)
        );
        assert_eq!((&*renamed[1].link.name, renamed[1].present), ("wan", true));
        assert_eq!(links.by_name("wan").unwrap().mtu, 9000);
        assert!(links.by_name("eth0").is_none());
        assert!(
            !links
                .remove(&message(3, "wan", false, 9000))
                .unwrap()
                .present
        );
        assert!(links.get(3).is_none());
    }

    #[test]
    fn bridge_messages_do_not_change_the_link() {
        let mut links = Links::default();
        links.update(&message(3, "eth0", true, 1500));
        let mut port = message(3, "eth0", false, 1);
        port.header.interface_family = AddressFamily::Bridge;
        assert!(links.update(&port).is_empty());
        assert!(links.remove(&port).is_none());
        assert!(links.get(3).unwrap().up());
    }

    #[test]
    fn partial_messages_keep_missing_attributes() {
        let mut links = Links::default();
        links.update(&vlan_message(9, "eth0.7", 3, 7));
        let mut partial = message(9, "eth0.7", true, 0);
        partial.attributes.truncate(1);
        assert!(links.update(&partial).is_empty());
        let vlan = links.get(9).unwrap().vlan.unwrap();
        assert_eq!(
            vlan,
            Vlan {
                id: 7,
                parent: Some(3),
                dot1q: true
            }
        );
    }

    #[test]
    fn a_vlan_over_an_interface_of_another_namespace_has_no_parent_here() {
        let mut links = Links::default();
        let mut far = vlan_message(9, "eth0.7", 3, 7);
        far.attributes.push(LinkAttribute::LinkNetNsId(0));
        links.update(&far);
        assert_eq!(links.get(9).unwrap().vlan.unwrap().parent, None);
    }

    #[test]
    fn difference_lists_added_removed_and_changed_links() {
        let (mut old, mut new) = (Links::default(), Links::default());
        old.update(&message(1, "a", true, 1500));
        old.update(&message(2, "b", true, 1500));
        old.update(&message(3, "same", true, 1500));
        new.update(&message(1, "a", true, 9000));
        new.update(&message(3, "same", true, 1500));
        let mut changes = old.difference(&new);
        changes.sort_by_key(|change| change.link.index);
        let seen: Vec<_> = changes
            .iter()
            .map(|c| (&*c.link.name, c.present, c.link.mtu))
            .collect();
        assert_eq!(seen, [("a", true, 9000), ("b", false, 1500)]);
    }
}
