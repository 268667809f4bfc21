use netlink_packet_route::link::{BondMode, BondPortState, MiiStatus};

use super::*;
use crate::underlay::{addresses, links, neighbors};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vtep() -> VtepAddr {
    "203.0.113.9".parse().unwrap()
}

impl HostState {
    /// eth0 (1), eth1 (2), VLAN 7 of eth0 (3), and an interface that is not of the underlay (4).
    fn new() -> Self {
        let config = UnderlayConfig {
            devices: vec!["eth0".to_owned(), "eth1".to_owned()],
            local_v4: Some([192, 0, 2, 1].into()),
            local_v6: None,
            ttl: 64,
            df: true,
            udp_port: 4789,
        };
        let mut host = Self {
            config,
            links: Links::default(),
            neighbors: NeighborCache::default(),
            addresses: Addresses::default(),
            default_links: DefaultLinks::default(),
            set_routes: SetRoutes::default(),
            path_mtus: PathMtus::default(),
        };
        host.links
            .update(&links::tests::message(1, "eth0", true, 1500));
        host.links
            .update(&links::tests::message(2, "eth1", true, 9000));
        host.links
            .update(&links::tests::vlan_message(3, "eth0.7", 1, 7));
        host.links
            .update(&links::tests::message(4, "other", true, 1500));
        host.addresses
            .update(&addresses::tests::message(1, "192.0.2.1"));
        host.neighbor((1, ip("10.0.0.1")), NudState::Reachable);
        host.neighbor((2, ip("10.0.1.1")), NudState::Stale);
        host.neighbor((3, ip("10.0.0.1")), NudState::Reachable);
        host
    }

    fn neighbor(&mut self, key: NeighborKey, state: NudState) {
        self.neighbors.update(&neighbors::tests::message(
            key,
            state,
            Some(0x80 + key.0 as u8),
        ));
    }

    fn resolve(&self, answer: &RouteLookup) -> Resolution {
        resolve(vtep(), answer, self)
    }

    fn error(&self, answer: &RouteLookup) -> String {
        let resolution = self.resolve(answer);
        assert!(resolution.paths.is_empty());
        resolution.error.unwrap().to_string()
    }
}

fn hop(link: u32, via: &str, weight: u16) -> NextHop {
    NextHop {
        ifindex: link,
        via: Some(ip(via)),
        weight,
        dead: false,
        encapsulated: false,
    }
}

fn route(hops: &[NextHop]) -> RouteLookup {
    RouteLookup::Found(Route {
        kind: RouteType::Unicast,
        prefix: "203.0.113.0/24".to_owned(),
        mtu: None,
        hops: hops.to_vec(),
        nexthop_id: None,
    })
}

fn of_kind(kind: RouteType) -> RouteLookup {
    let RouteLookup::Found(route) = route(&[hop(1, "10.0.0.1", 1)]) else {
        unreachable!("route() makes a route")
    };
    RouteLookup::Found(Route { kind, ..route })
}

#[test]
fn a_path_has_the_macs_the_vlan_and_the_mtu_of_its_interface() {
    let host = HostState::new();
    let result = host.resolve(&route(&[hop(1, "10.0.0.1", 1)]));
    let path = &result.paths[0];
    assert_eq!(
        (
            path.ifindex,
            &*path.device,
            path.fields.vlan,
            path.max_frame
        ),
        (1, "eth0", None, 1464)
    );
    assert_eq!(path.fields.source_mac, MacAddr([2, 0, 0, 0, 0, 1]));
    assert_eq!(path.fields.next_hop_mac, MacAddr([2, 0, 0, 0, 0, 0x81]));
    assert_eq!(
        (path.fields.source.get(), path.fields.destination),
        (ip("192.0.2.1"), vtep())
    );
    assert_eq!(
        (result.error, result.neighbors),
        (None, vec![(1, ip("10.0.0.1"))])
    );

    let by_vlan = host.resolve(&route(&[hop(3, "10.0.0.1", 1)]));
    let path = &by_vlan.paths[0];
    assert_eq!(
        (path.ifindex, &*path.device, path.fields.vlan),
        (1, "eth0", Some(7))
    );
    assert_eq!(path.fields.source_mac, MacAddr([2, 0, 0, 0, 0, 3]));
}

#[test]
fn the_smallest_mtu_counts() {
    let mut host = HostState::new();
    let RouteLookup::Found(mut small) = route(&[hop(2, "10.0.1.1", 1)]) else {
        unreachable!("route() makes a route")
    };
    assert_eq!(
        host.resolve(&RouteLookup::Found(small.clone())).paths[0].max_frame,
        8964
    );
    small.mtu = Some(1400);
    assert_eq!(
        host.resolve(&RouteLookup::Found(small.clone())).paths[0].max_frame,
        1364
    );
    host.links
        .update(&links::tests::message(1, "eth0", true, 1300));
    assert_eq!(
        host.resolve(&route(&[hop(3, "10.0.0.1", 1)])).paths[0].max_frame,
        1264
    );
    small.mtu = Some(50);
    assert_eq!(
        host.error(&RouteLookup::Found(small)),
        "MTU 50 of the path by eth1 leaves no space for a frame after 36 bytes of headers"
    );
}

#[test]
fn of_several_next_hops_the_usable_ones_are_used() {
    let mut host = HostState::new();
    let both = route(&[hop(1, "10.0.0.1", 1), hop(2, "10.0.1.1", 3)]);
    let weights = |result: &Resolution| {
        result
            .paths
            .iter()
            .map(|p| (p.ifindex, p.weight))
            .collect::<Vec<_>>()
    };
    assert_eq!(weights(&host.resolve(&both)), [(1, 1), (2, 3)]);
    host.neighbor((1, ip("10.0.0.1")), NudState::Failed);
    let one = host.resolve(&both);
    assert_eq!((weights(&one), &one.error), (vec![(2, 3)], &None));
    assert_eq!(
        one.rows[0]
            .error
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("neighbor 10.0.0.1 on eth0 is FAILED")
    );
    assert_eq!(one.rows[1].error, None);
    assert_eq!(one.neighbors.len(), 2, "the failed one is still requested");
    host.links
        .update(&links::tests::message(2, "eth1", false, 9000));
    assert_eq!(
        host.error(&both),
        "neighbor 10.0.0.1 on eth0 is FAILED; eth1 has no carrier"
    );
}

#[test]
fn every_reason_is_named() {
    let mut host = HostState::new();
    let refused = |errno: rustix::io::Errno| RouteLookup::Failed(errno.raw_os_error());
    let mut dead = hop(1, "10.0.0.1", 1);
    dead.dead = true;
    let mut mpls = hop(1, "10.0.0.1", 1);
    mpls.encapsulated = true;
    for (answer, expected) in [
        (
            refused(rustix::io::Errno::NETUNREACH),
            "no route to 203.0.113.9",
        ),
        (
            of_kind(RouteType::BlackHole),
            "route to 203.0.113.9 is blackhole",
        ),
        (
            of_kind(RouteType::Local),
            "203.0.113.9 is an address of this host",
        ),
        (
            route(&[hop(4, "10.9.0.1", 1)]),
            "route uses other, which is not in [vtep] underlay",
        ),
        (
            route(&[hop(99, "10.9.0.1", 1)]),
            "route uses unknown interface 99",
        ),
        (
            route(&[hop(1, "10.0.0.77", 1)]),
            "neighbor 10.0.0.77 on eth0 is not resolved yet",
        ),
        (
            route(&[dead]),
            "the kernel considers the next hop via eth0 dead",
        ),
        (
            route(&[mpls]),
            "route via eth0 adds another encapsulation, which can't be combined with VXLAN here",
        ),
        (route(&[]), "route 203.0.113.0/24 has no interface"),
    ] {
        assert_eq!(host.error(&answer), expected);
    }
    host.addresses
        .remove(&addresses::tests::message(1, "192.0.2.1"));
    let why = local_address(vtep(), &host).unwrap_err().to_string();
    assert_eq!(
        why,
        "local VTEP address 192.0.2.1 is not on this host; add it to an interface"
    );
    let why = local_address("2001:db8::9".parse().unwrap(), &host)
        .unwrap_err()
        .to_string();
    assert_eq!(
        why,
        "2001:db8::9 is IPv6, but [vtep] address has no IPv6 address"
    );
}

#[test]
fn slots_keep_the_proportion_of_weights() {
    let host = HostState::new();
    let by_weights = |weights: &[u16]| -> Vec<usize> {
        let hops: Vec<_> = weights
            .iter()
            .map(|weight| hop(1, "10.0.0.1", *weight))
            .collect();
        let mut paths = host.resolve(&route(&hops)).paths;
        // Marks that distinguish the paths.
        paths
            .iter_mut()
            .zip(100..)
            .for_each(|(path, mark)| path.ifindex = mark);
        let slots = weighted_slots(&paths);
        let count = |mark: u32| slots.iter().filter(|slot| slot.ifindex == mark).count();
        (100..100 + weights.len() as u32).map(count).collect()
    };
    assert!(by_weights(&[]).is_empty());
    assert_eq!(by_weights(&[7]), [1]);
    assert_eq!(by_weights(&[1, 1]), [1, 1]);
    assert_eq!(by_weights(&[1, 3]), [1, 3]);
    assert_eq!(by_weights(&[20, 60]), [1, 3]);
    assert_eq!(by_weights(&[1, 256]), [1, 15]);
    assert_eq!(by_weights(&[100, 101]), [8, 8]);
    assert_eq!(by_weights(&[1; 20])[..16], [1; 16]);
    assert_eq!(by_weights(&[1; 20])[16..], [0; 4]);
}

#[test]
fn a_group_needs_no_neighbor() {
    let host = HostState::new();
    let group = VtepAddr::group(ip("239.129.2.3")).unwrap();
    // A default route has a gateway, which multicast does not use.
    let resolution = resolve(group, &route(&[hop(1, "10.0.0.99", 1)]), &host);
    let [path] = &resolution.paths[..] else {
        panic!("{resolution:?}")
    };
    assert_eq!(
        path.fields.next_hop_mac,
        MacAddr([0x01, 0x00, 0x5e, 0x01, 0x02, 0x03])
    );
    assert_eq!((path.fields.destination, path.ifindex), (group, 1));
    assert!(resolution.neighbors.is_empty());
}

impl HostState {
    /// bond0 (5) of eth0 and eth1, and its VLAN 9 (6).
    fn with_bond(mode: BondMode, active: Option<u32>) -> Self {
        let mut host = Self::new();
        host.links
            .update(&links::tests::bond_message(5, "bond0", mode, active));
        host.member(1, BondPortState::Active, MiiStatus::Up);
        host.member(2, BondPortState::Active, MiiStatus::Up);
        host.links
            .update(&links::tests::vlan_message(6, "bond0.9", 5, 9));
        host.neighbor((5, ip("10.0.0.1")), NudState::Reachable);
        host.neighbor((6, ip("10.0.0.1")), NudState::Reachable);
        host
    }

    fn member(&mut self, index: u32, state: BondPortState, status: MiiStatus) {
        let name = ["", "eth0", "eth1"][index as usize];
        let message = links::tests::member_message(index, name, 5, state, status);
        self.links.update(&message);
    }

    /// The devices, weights and VLANs of the paths by these interfaces.
    fn by(&self, hops: &[u32]) -> Vec<(Arc<str>, u16, Option<u16>)> {
        let hops: Vec<_> = hops.iter().map(|link| hop(*link, "10.0.0.1", 3)).collect();
        let paths = self.resolve(&route(&hops)).paths;
        paths
            .into_iter()
            .map(|path| (path.device, path.weight, path.fields.vlan))
            .collect()
    }
}

/// Frames leave on the members that the bond's driver would choose from, with the bond's MAC
/// (finding C19).
#[test]
fn a_bond_is_used_through_its_active_members() {
    let (backup, active) = (BondPortState::Backup, BondPortState::Active);
    let (one, two) = (Arc::<str>::from("eth0"), Arc::<str>::from("eth1"));
    for (mode, member, expected) in [
        (BondMode::ActiveBackup, Some(2), vec![two.clone()]),
        (BondMode::ActiveBackup, Some(1), vec![one.clone()]),
        (BondMode::BalanceTlb, Some(2), vec![two.clone()]),
        (BondMode::BalanceXor, None, vec![one.clone(), two.clone()]),
        (BondMode::BalanceRr, None, vec![one.clone(), two.clone()]),
        (BondMode::Ieee8023Ad, None, vec![one.clone(), two.clone()]),
    ] {
        let host = HostState::with_bond(mode, member);
        let result = host.resolve(&route(&[hop(6, "10.0.0.1", 1)]));
        assert_eq!(result.rows[0].members, expected, "{mode}");
        for path in &result.paths {
            assert_eq!(path.fields.source_mac, MacAddr([2, 0, 0, 0, 0, 6]));
            assert_eq!(
                (path.fields.vlan, path.max_frame),
                (Some(9), 1464),
                "{mode}"
            );
        }
    }
    let mut host = HostState::with_bond(BondMode::Ieee8023Ad, None);
    host.member(1, backup, MiiStatus::Up);
    assert_eq!(host.by(&[5]), [(two.clone(), 3, None)], "no LACP on eth0");
    host.member(1, active, MiiStatus::GoingBack);
    assert_eq!(host.by(&[5]), [(two.clone(), 3, None)], "updelay of eth0");
    host.member(1, active, MiiStatus::Up);
    assert_eq!(host.by(&[5]).len(), 2);
    host.links
        .update(&links::tests::message(4, "other", true, 1500));
    host.neighbor((4, ip("10.0.0.1")), NudState::Reachable);
    host.config.devices.push("other".to_owned());
    let shares = host.by(&[5, 4]);
    assert_eq!(
        shares,
        [
            (one, 3, None),
            (two, 3, None),
            (Arc::<str>::from("other"), 6, None)
        ],
        "the members share the weight of the bond"
    );
}

/// Each says what to do (finding C19).
#[test]
fn a_bond_that_can_not_be_used_says_why() {
    let by_bond = route(&[hop(5, "10.0.0.1", 1)]);
    let mut host = HostState::with_bond(BondMode::ActiveBackup, Some(2));
    host.config.devices = vec!["eth0".to_owned()];
    assert_eq!(
        host.error(&by_bond),
        "route uses bond bond0, whose members in use are not in [vtep] underlay; write its members there: eth0, eth1"
    );
    for (mode, active, part) in [
        (BondMode::ActiveBackup, None, "no active member"),
        (
            BondMode::Broadcast,
            None,
            "broadcast, which is not supported",
        ),
        (BondMode::BalanceAlb, Some(1), "balance-alb, which is not"),
    ] {
        let error = HostState::with_bond(mode, active).error(&by_bond);
        assert!(error.contains(part), "{mode}: {error}");
    }
}
