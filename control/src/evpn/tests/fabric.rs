//! Speakers connected by real peers on a virtual clock.
//!
//! ```text
//! VTEP 1 ---- VTEP 2
//!       \    /
//!       VTEP 3        a full mesh of BGP sessions
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::fixture::{AppliedTables, SECOND, ip, mac, vni, vtep};
use crate::bgp::{ConnectionId, Peer, PeerConfig, PeerOutput};
use crate::evpn::{
    EvpnConfig, EvpnEvent, EvpnSpeaker, LocalKind, LocalMac, MacVrfConfig, NeighborId,
};

/// One end of a link: the node, and the other node as its neighbor.
type End = (usize, NeighborId);

pub(super) struct FabricNode {
    pub(super) speaker: EvpnSpeaker,
    pub(super) tables: AppliedTables,
    pub(super) events: Vec<EvpnEvent>,
    peers: Vec<Peer>,
}

/// A full mesh of VTEPs.
pub(super) struct Fabric {
    pub(super) now: Instant,
    pub(super) nodes: Vec<FabricNode>,
    links: Vec<(End, End)>,
    conns: Vec<Option<(ConnectionId, ConnectionId)>>,
}

impl Fabric {
    /// `addresses` are VTEP addresses and BGP identifiers, `systems` their AS numbers.
    pub(super) fn new(
        addresses: &[Ipv4Addr],
        systems: &[u32],
        change: impl Fn(&mut PeerConfig),
    ) -> Self {
        let now = Instant::now();
        let address = |node: usize| IpAddr::V4(addresses[node]);
        let mut nodes = Vec::new();
        for (node, own) in addresses.iter().enumerate() {
            let vtep = vtep_dataplane::addr::VtepAddr::new(address(node)).expect("a VTEP");
            let speaker = EvpnSpeaker::new(EvpnConfig::new(systems[node], *own, vtep));
            nodes.push(FabricNode {
                speaker,
                tables: AppliedTables::default(),
                events: Vec::new(),
                peers: Vec::new(),
            });
        }
        let mut links = Vec::new();
        for a in 0..addresses.len() {
            for b in a + 1..addresses.len() {
                let mut join = |node: usize, other: usize, passive: bool| {
                    let mut config =
                        PeerConfig::new(systems[node], addresses[node], systems[other]);
                    config.passive = passive;
                    change(&mut config);
                    let id = NeighborId(nodes[node].peers.len() as u16);
                    let mut peer = Peer::new(config, 1);
                    peer.start(now);
                    nodes[node].peers.push(peer);
                    nodes[node].speaker.neighbor_add(id, address(other));
                    (node, id)
                };
                links.push((join(a, b, false), join(b, a, true)));
            }
        }
        let conns = links.iter().map(|_| None).collect();
        Self {
            now,
            nodes,
            links,
            conns,
        }
    }

    fn peer(&mut self, (node, id): End) -> &mut Peer {
        &mut self.nodes[node].peers[usize::from(id.0)]
    }

    /// Runs until no message is left.
    pub(super) fn run(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for link in 0..self.links.len() {
                moved |= self.poll_link(link);
            }
        }
        for node in &mut self.nodes {
            for change in node.speaker.take_changes(self.now) {
                node.tables.apply(change);
            }
            node.events.extend(node.speaker.take_events());
        }
    }

    fn poll_link(&mut self, link: usize) -> bool {
        let (a, b) = self.links[link];
        let mut moved = false;
        for end in [a, b] {
            moved |= self.outputs(link, end);
            let (now, FabricNode { speaker, peers, .. }) = (self.now, &mut self.nodes[end.0]);
            speaker.pump(now, end.1, &mut peers[usize::from(end.1.0)]);
        }
        let Some((left, right)) = self.conns[link] else {
            return moved;
        };
        for (from, to, at, target) in [(a, left, b, right), (b, right, a, left)] {
            let octets = self.peer(from).transmit(to).to_vec();
            let count = self.peer(at).recv_capacity(target).min(octets.len());
            let now = self.now;
            self.peer(from).handle_written(now, to, count);
            self.peer(at).handle_bytes(target, &octets[..count]);
            moved |= count > 0;
        }
        moved
    }

    fn outputs(&mut self, link: usize, end: End) -> bool {
        let now = self.now;
        let mut asked = None;
        let mut any = false;
        let FabricNode { speaker, peers, .. } = &mut self.nodes[end.0];
        while let Some(output) = peers[usize::from(end.1.0)].poll_output(now) {
            any = true;
            match output {
                PeerOutput::Connect(conn) => asked = Some(conn),
                PeerOutput::Close { .. } => self.conns[link] = None,
                output => assert!(speaker.handle(now, end.1, &output)),
            }
        }
        if let Some(conn) = asked {
            let (a, b) = self.links[link];
            let accepted = self.peer(b).handle_accepted(now);
            self.peer(a).handle_connected(now, conn);
            self.conns[link] = accepted.map(|accepted| (conn, accepted));
        }
        any
    }

    /// The TCP connection of a link breaks.
    fn cut(&mut self, link: usize) {
        let (a, b) = self.links[link];
        let now = self.now;
        if let Some((left, right)) = self.conns[link].take() {
            self.peer(a).handle_closed(now, left);
            self.peer(b).handle_closed(now, right);
        }
        self.run();
    }

    fn later(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now += SECOND;
            for node in &mut self.nodes {
                node.peers
                    .iter_mut()
                    .for_each(|peer| peer.handle_timeout(self.now));
                node.speaker.tick(self.now);
            }
            self.run();
        }
    }
}

fn addresses(count: u8) -> Vec<Ipv4Addr> {
    (1..=count)
        .map(|last| Ipv4Addr::new(192, 0, 2, last))
        .collect()
}

fn fabric(count: u8, systems: &[u32], change: impl Fn(&mut PeerConfig)) -> Fabric {
    let mut fabric = Fabric::new(&addresses(count), systems, change);
    for node in &mut fabric.nodes {
        node.speaker
            .vni_add(fabric.now, MacVrfConfig::new(vni(100)))
            .expect("added");
    }
    fabric.run();
    fabric
}

const ATTACHED: LocalMac = LocalMac {
    kind: LocalKind::Attached,
    sticky: false,
    anycast: false,
};

#[test]
fn two_vteps_learn_each_other_and_remove_routes_when_a_session_ends() {
    let mut fabric = fabric(2, &[65000, 65000], |config| config.restart = None);
    let now = fabric.now;
    let there = &mut fabric.nodes[1].speaker;
    there
        .local_mac_add(now, vni(100), mac(1), ATTACHED)
        .expect("local");
    there
        .local_address_add(vni(100), mac(1), ip(101), false)
        .expect("local");
    fabric.run();
    let tables = &fabric.nodes[0].tables;
    assert_eq!(tables.flood, [(vni(100), vtep(2))].into());
    assert_eq!(tables.macs, [((vni(100), mac(1)), vtep(2))].into());
    assert_eq!(tables.neighbors.len(), 1);
    fabric.cut(0);
    assert_eq!(fabric.nodes[0].tables, AppliedTables::default());
    fabric.later(20);
    assert_eq!(
        fabric.nodes[0].tables.macs,
        [((vni(100), mac(1)), vtep(2))].into(),
        "it came back"
    );
}

#[test]
fn a_restart_loses_no_entry_and_sweeps_what_is_not_announced_again() {
    let mut fabric = fabric(2, &[65000, 65000], |_| ());
    let now = fabric.now;
    for number in 1..=2 {
        fabric.nodes[1]
            .speaker
            .local_mac_add(now, vni(100), mac(number), ATTACHED)
            .expect("local");
    }
    fabric.run();
    let before = fabric.nodes[0].tables.clone();
    assert_eq!(before.macs.len(), 2);
    fabric.cut(0);
    assert_eq!(fabric.nodes[0].tables, before);
    fabric.nodes[1].speaker.local_mac_del(now, vni(100), mac(2));
    fabric.later(20);
    assert_eq!(
        fabric.nodes[0].tables.macs,
        [((vni(100), mac(1)), vtep(2))].into()
    );
}

#[test]
fn a_mac_moves_between_three_vteps_and_all_agree() {
    let mut fabric = fabric(3, &[65000; 3], |_| ());
    for round in 0..4 {
        let here = round % 3;
        let now = fabric.now;
        fabric.nodes[here]
            .speaker
            .local_mac_add(now, vni(100), mac(1), ATTACHED)
            .expect("local");
        fabric.run();
        if round > 0 {
            fabric.nodes[(round - 1) % 3]
                .speaker
                .local_mac_del(now, vni(100), mac(1));
        }
        fabric.run();
        for (node, other) in fabric
            .nodes
            .iter()
            .enumerate()
            .filter(|(node, _)| *node != here)
        {
            let at = other.tables.macs.get(&(vni(100), mac(1))).copied();
            assert_eq!(at, Some(vtep(here as u8 + 1)), "round {round}, node {node}");
        }
        fabric.later(60);
    }
}

#[test]
fn external_neighbors_import_each_other() {
    let mut fabric = fabric(2, &[65001, 4_200_000_002], |_| ());
    let now = fabric.now;
    for node in &mut fabric.nodes {
        node.speaker
            .local_mac_add(now, vni(100), mac(1), ATTACHED)
            .expect("local");
        node.speaker.local_mac_del(now, vni(100), mac(1));
        node.speaker
            .local_mac_add(now, vni(100), mac(2), ATTACHED)
            .expect("local");
    }
    fabric.nodes[1].speaker.local_mac_del(now, vni(100), mac(2));
    fabric.run();
    assert_eq!(fabric.nodes[0].tables.flood, [(vni(100), vtep(2))].into());
    assert_eq!(
        fabric.nodes[1].tables.macs,
        [((vni(100), mac(2)), vtep(1))].into()
    );
    assert!(fabric.nodes[0].tables.macs.is_empty());
}

#[test]
fn ten_thousand_macs_pass_through_small_queues_and_again_at_a_refresh() {
    let mut fabric = fabric(2, &[65000, 65000], |config| {
        config.send_queue = 10_000;
        config.extended_messages = false;
    });
    let now = fabric.now;
    let host = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        vtep_dataplane::addr::HostMac::new(vtep_dataplane::addr::MacAddr([2, 1, 0, 0, high, low]))
            .expect("a MAC")
    };
    for number in 0..10_000 {
        fabric.nodes[1]
            .speaker
            .local_mac_add(now, vni(100), host(number), ATTACHED)
            .expect("local");
    }
    fabric.run();
    assert_eq!(fabric.nodes[0].tables.macs.len(), 10_000);
    let id = NeighborId(0);
    assert!(!fabric.nodes[1].speaker.wants_to_send(id));
    assert!(fabric.peer((0, id)).clear_soft_in(now));
    fabric.run();
    assert_eq!(fabric.nodes[0].tables.macs.len(), 10_000);
    assert_eq!(fabric.nodes[0].speaker.prefix_count(id), 10_001);
    for number in 0..10_000 {
        fabric.nodes[1]
            .speaker
            .local_mac_del(now, vni(100), host(number));
    }
    fabric.run();
    assert_eq!(fabric.nodes[0].tables.macs.len(), 0);
}
