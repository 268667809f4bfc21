//! The example of FRR's documentation: three VTEPs, VNIs 100 and 200, MACs 50:54:33:00:00:09 to
//! 50:54:33:00:00:0f.

use std::net::Ipv4Addr;

use vtep_dataplane::addr::{HostMac, MacAddr};

use super::fabric::Fabric;
use super::fixture::vni;
use crate::evpn::{EntryOrigin, LocalKind, LocalMac, MacVrfConfig};

fn host(last: u8) -> HostMac {
    HostMac::new(MacAddr([0x50, 0x54, 0x33, 0, 0, last])).expect("a MAC")
}

#[test]
fn three_vteps_show_what_frr_shows() {
    let addresses = [1, 2, 3].map(|last| Ipv4Addr::new(203, 0, 113, last));
    let mut fabric = Fabric::new(&addresses, &[65000; 3], |_| ());
    let placed = [
        (0, 100, 0x09),
        (0, 100, 0x0a),
        (1, 100, 0x0b),
        (2, 100, 0x0c),
        (0, 200, 0x0d),
        (1, 200, 0x0e),
        (2, 200, 0x0f),
    ];
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
    };
    for (node, number, last) in placed {
        let speaker = &mut fabric.nodes[node].speaker;
        speaker
            .local_mac_add(fabric.now, vni(number), host(last), local)
            .expect("local");
    }
    fabric.run();
    for (node, here) in fabric.nodes.iter().enumerate() {
        for number in [100, 200] {
            let mut macs: Vec<_> = here
                .speaker
                .macs(vni(number))
                .map(|m| (m.mac, m.vtep))
                .collect();
            macs.sort_unstable();
            let expected: Vec<_> = placed
                .iter()
                .filter(|(_, of, _)| *of == number)
                .map(|(at, _, last)| {
                    (
                        host(*last),
                        (*at != node).then(|| addresses[*at].to_string()),
                    )
                })
                .collect();
            let shown: Vec<_> = macs
                .iter()
                .map(|(mac, vtep)| (*mac, vtep.map(|v| v.to_string())))
                .collect();
            assert_eq!(shown, expected, "node {node}, VNI {number}");
            let flood: Vec<_> = here
                .speaker
                .flood_list(vni(number))
                .map(|(v, ..)| v.to_string())
                .collect();
            let others: Vec<_> = (0..3)
                .filter(|at| *at != node)
                .map(|at| addresses[at].to_string())
                .collect();
            assert_eq!(flood, others);
        }
        assert_eq!(
            here.tables.macs.len(),
            here.speaker
                .vni_views()
                .map(|v| v.remote_macs as usize)
                .sum::<usize>()
        );
        let own = here
            .speaker
            .macs(vni(100))
            .filter(|mac| mac.origin == EntryOrigin::Local)
            .count();
        assert_eq!(own, if node == 0 { 2 } else { 1 });
    }
    let rd = fabric.nodes[0]
        .speaker
        .vni_views()
        .next()
        .expect("VNI 100")
        .rd;
    assert_eq!(rd.to_string(), "203.0.113.1:100");
}
