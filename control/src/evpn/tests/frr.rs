//! The example of FRR's documentation: three VTEPs, VNIs 100 and 200, MACs 50:54:33:00:00:09 to
//! 50:54:33:00:00:0f.

use std::net::Ipv4Addr;

use vtep_dataplane::addr::{HostMac, MacAddr};

use super::fabric::Fabric;
use super::fixture::vni;
use crate::evpn::{EntryOrigin, EvpnSpeaker, LocalKind, LocalMac, MacVrfConfig};

fn host(last: u8) -> HostMac {
    HostMac::new(MacAddr([0x50, 0x54, 0x33, 0, 0, last])).expect("a MAC")
}

/// Node, VNI and last octet of each local MAC.
const PLACED: [(usize, u32, u8); 7] = [
    (0, 100, 0x09),
    (0, 100, 0x0a),
    (1, 100, 0x0b),
    (2, 100, 0x0c),
    (0, 200, 0x0d),
    (1, 200, 0x0e),
    (2, 200, 0x0f),
];

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, node as u8 + 1)
}

fn fabric() -> Fabric {
    let mut fabric = Fabric::new(&[0, 1, 2].map(address), &[65000; 3], |_| ());
    for node in &mut fabric.nodes {
        for number in [100, 200] {
            node.speaker
                .vni_add(fabric.now, MacVrfConfig::new(vni(number)))
                .expect("added");
        }
    }
    let local = LocalMac {
        kind: LocalKind::Attached,
        sticky: false,
        anycast: false,
    };
    for (node, number, last) in PLACED {
        let speaker = &mut fabric.nodes[node].speaker;
        speaker
            .local_mac_add(fabric.now, vni(number), host(last), local)
            .expect("local");
    }
    fabric.run();
    fabric
}

/// Compares the MACs and the flood list of a VNI with those that FRR's documentation shows.
fn assert_shown(speaker: &EvpnSpeaker, node: usize, number: u32) {
    let macs = speaker.macs(vni(number)).map(|m| (m.mac, m.vtep));
    let mut macs: Vec<_> = macs.collect();
    macs.sort_unstable();
    let shown: Vec<_> = macs
        .iter()
        .map(|(mac, vtep)| (*mac, vtep.map(|v| v.to_string())))
        .collect();
    let expected: Vec<_> = PLACED
        .iter()
        .filter(|(_, of, _)| *of == number)
        .map(|(at, _, last)| (host(*last), (*at != node).then(|| address(*at).to_string())))
        .collect();
    assert_eq!(shown, expected, "node {node}, VNI {number}");
    let flood = speaker.flood_list(vni(number)).map(|(v, ..)| v.to_string());
    let others = (0..3).filter(|at| *at != node);
    let others: Vec<_> = others.map(|at| address(at).to_string()).collect();
    assert_eq!(flood.collect::<Vec<_>>(), others);
}

#[test]
fn three_vteps_show_what_frr_shows() {
    let fabric = fabric();
    for (node, here) in fabric.nodes.iter().enumerate() {
        for number in [100, 200] {
            assert_shown(&here.speaker, node, number);
        }
        let remote = here.speaker.vni_views().map(|v| v.remote_macs as usize);
        assert_eq!(here.tables.macs.len(), remote.sum::<usize>());
        let macs = here.speaker.macs(vni(100));
        let own = macs.filter(|mac| mac.origin == EntryOrigin::Local).count();
        assert_eq!(own, if node == 0 { 2 } else { 1 });
    }
    let view = fabric.nodes[0].speaker.vni_views().next();
    assert_eq!(view.expect("VNI 100").rd.to_string(), "203.0.113.1:100");
}
