//! The mirror of links, and messages for tests of other modules.

use netlink_packet_route::link::{
    BondMode, BondPortState, InfoBond, InfoBondPort, InfoPortKind, MiiStatus,
};

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

/// An RTM_NEWLINK of a bond.
pub(in crate::underlay) fn bond_message(
    index: u32,
    name: &str,
    mode: BondMode,
    active: Option<u32>,
) -> LinkMessage {
    let mut message = message(index, name, true, 1500);
    let mut data = vec![InfoBond::Mode(mode)];
    data.extend(active.map(InfoBond::ActivePort));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bond),
        LinkInfo::Data(InfoData::Bond(data)),
    ]));
    message
}

/// An RTM_NEWLINK of a member of the bond with index `bond`.
pub(in crate::underlay) fn member_message(
    index: u32,
    name: &str,
    bond: u32,
    state: BondPortState,
    status: MiiStatus,
) -> LinkMessage {
    let mut message = message(index, name, true, 1500);
    message.attributes.push(LinkAttribute::Controller(bond));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bond),
        LinkInfo::PortData(InfoPortData::BondPort(vec![
            InfoBondPort::BondPortState(state),
            InfoBondPort::MiiStatus(status),
        ])),
    ]));
    message
}

/// What a switch floods arrives on each member: it counts once (finding C19).
#[test]
fn inactive_members_of_a_bond_receive_nothing() {
    let mut links = Links::default();
    let active_backup = BondMode::ActiveBackup;
    links.update(&bond_message(5, "bond0", active_backup, Some(4)));
    for (index, name) in [(3, "eth0"), (4, "eth1")] {
        let (state, up) = (BondPortState::Active, MiiStatus::Up);
        links.update(&member_message(index, name, 5, state, up));
    }
    let standby = |links: &Links| [3, 4, 5].map(|index| links.reception(index).standby);
    assert_eq!(standby(&links), [true, false, false]);
    links.update(&bond_message(5, "bond0", active_backup, Some(3)));
    assert_eq!(standby(&links), [false, true, false]);
    links.update(&bond_message(5, "bond0", BondMode::BalanceXor, None));
    assert_eq!(standby(&links), [false; 3]);
    links.update(&bond_message(5, "bond0", BondMode::Ieee8023Ad, None));
    let backup = member_message(4, "eth1", 5, BondPortState::Backup, MiiStatus::Up);
    links.update(&backup);
    assert_eq!(standby(&links), [false, true, false]);
    assert_eq!([3, 5, 9].map(|index| links.bond_or_self(index)), [5, 5, 9]);
    links.update(&message(4, "eth1", true, 1500));
    assert_eq!(standby(&links), [false; 3], "it has left the bond");
    assert_eq!(links.bond_or_self(4), 4);
}

/// This host receives on an interface under the MACs of what is over it too (finding D14).
#[test]
fn the_macs_of_an_interface_are_those_of_all_that_is_over_it() {
    let mut links = Links::default();
    let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
    let mut member = message(3, "eth0", true, 1500);
    member.attributes.push(LinkAttribute::Controller(4));
    links.update(&member);
    assert_eq!(links.reception(3).macs, [mac(3)]);
    links.update(&message(4, "bond0", true, 1500));
    links.update(&vlan_message(5, "bond0.7", 4, 7));
    links.update(&vlan_message(6, "bond0.7.8", 5, 8));
    links.update(&message(7, "eth1", true, 1500));
    assert_eq!(links.reception(3).macs, [3, 4, 5, 6].map(mac));
    assert_eq!(links.reception(5).macs, [5, 6].map(mac));
    assert_eq!(links.reception(9), Reception::default());
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

/// A tap is made again while vtepd starts, or while events are lost: the dump has the new one, and
/// the events before it are read after it.
#[test]
fn a_link_keeps_its_name_after_older_events_of_another_with_that_name() {
    let mut links = Links::default();
    let _ = links.update(&message(9, "vm0", true, 1500));
    let _ = links.update(&message(8, "vm0", false, 1500));
    let removed = links.remove(&message(8, "vm0", false, 1500));
    assert_eq!(removed.map(|change| change.present), Some(false));
    let changes = links.update(&message(9, "vm0", true, 1500));
    let present: Vec<_> = changes
        .iter()
        .map(|it| (it.link.index, it.present))
        .collect();
    assert_eq!(present, [(9, true)], "what was closed is opened again");
    assert_eq!(links.by_name("vm0").map(|link| link.index), Some(9));
    assert_eq!(links.update(&message(9, "vm0", true, 1500)), []);
}

#[test]
fn alternative_names_are_names_until_they_are_removed() {
    let mut links = Links::default();
    let mut named = message(3, "eth0", true, 1500);
    let alternative = |name: &str| Prop::AltIfName(name.to_owned());
    let all = vec![alternative("wan"), alternative("enp3s0")];
    named.attributes.push(LinkAttribute::PropList(all));
    assert_eq!(links.update(&named).len(), 1);
    for name in ["eth0", "wan", "enp3s0"] {
        assert_eq!(links.by_name(name).unwrap().index, 3, "{name}");
    }
    assert_eq!(links.update(&message(3, "eth0", true, 1500)).len(), 1);
    assert!(links.by_name("wan").is_none());
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
