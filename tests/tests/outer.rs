//! The outer header: what is sent, and the answer to a frame that does not fit.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h9: raw frames, or h2: vtepd ── t12
//!                               └─ capture
//! ```

use std::collections::BTreeSet;

use vtep_tests::config::each_underlay;
use vtep_tests::fabric::Underlay;
use vtep_tests::frame::{plain, udp4, udp6};
use vtep_tests::link::{ip4, ip6, mac};
use vtep_tests::tools::ping;
use vtep_tests::topology::{Pair, Peer, RawPair};
use vtep_tests::wire::Capture;

/// Sends one frame from the tenant for each of `tos`; returns `fields` of the outer headers, in the
/// same order.
fn sent_by(keys: &str, tos: &[u8], v6: bool, fields: &[&str]) -> Vec<Vec<String>> {
    let mut pair = RawPair::with(keys, "");
    let mut wire = Capture::start(&pair.fabric.ns, pair.vtepd.dir(), "h1", "udp port 4789");
    for class in tos {
        let build = if v6 { udp6 } else { udp4 };
        pair.tenant
            .send(&build(&mac(12), &mac(11), *class, "outer-fields"));
    }
    let _ = pair.peer.expect("outer-fields", tos.len());
    wire.fields("vxlan && udp.dstport == 7778", fields)
}

/// The first of the comma-separated values: that of the outer header.
fn outer(field: &str) -> &str {
    field.split(',').next().unwrap_or_default()
}

#[test]
fn ttl_is_64_df_is_set_and_reserved_bits_are_zero_by_default() {
    each_underlay(|| {
        let fields = [
            "ip.ttl",
            "ip.flags.df",
            "udp.checksum",
            "vxlan.flags",
            "vxlan.vni",
            "udp.srcport",
            "ip.checksum.status",
        ];
        let seen = sent_by("", &[0], false, &fields);
        let values: Vec<&str> = seen[0].iter().map(|f| outer(f)).collect();
        assert_eq!(values[0], "64");
        assert!(["1", "True"].contains(&values[1]), "DF: {}", values[1]);
        assert_eq!(values[2..5], ["0x0000", "0x0800", "100"]);
        let port: u16 = values[5].parse().expect("a port");
        assert!(port >= 49152, "source port {port}");
        assert_eq!(values[6], "1", "outer IPv4 checksum");
    });
}

#[test]
fn ttl_and_df_follow_the_configuration() {
    each_underlay(|| {
        let seen = sent_by("ttl = 17\ndf = false", &[0], false, &["ip.ttl", "ip.flags"]);
        assert_eq!((outer(&seen[0][0]), outer(&seen[0][1])), ("17", "0x00"));
    });
}

#[test]
fn dscp_is_fixed_or_inherited_and_ecn_is_always_copied() {
    each_underlay(|| {
        let tos = [0x00, 0xb8, 0x02, 0xb9, 0x03];
        let classes = |keys, v6| -> Vec<(String, String)> {
            let seen = sent_by(keys, &tos, v6, &["ip.dsfield.dscp", "ip.dsfield.ecn"]);
            seen.iter()
                .map(|f| (outer(&f[0]).to_owned(), outer(&f[1]).to_owned()))
                .collect()
        };
        let text =
            |pairs: [(u8, u8); 5]| pairs.map(|(d, e)| (d.to_string(), e.to_string())).to_vec();
        let inherited = text([(0, 0), (46, 0), (0, 2), (46, 1), (0, 3)]);
        // By default a tenant does not choose the class of its packets on the underlay (finding D15).
        let default = text([(0, 0), (0, 0), (0, 2), (0, 1), (0, 3)]);
        assert_eq!(classes("", false), default);
        assert_eq!(classes("", true), default);
        assert_eq!(classes("dscp = \"inherit\"", false), inherited);
        assert_eq!(classes("dscp = \"inherit\"", true), inherited);
        assert_eq!(
            classes("dscp = 10", false),
            text([(10, 0), (10, 0), (10, 2), (10, 1), (10, 3)])
        );
    });
}

#[test]
fn flows_spread_over_source_ports_and_each_keeps_its_own() {
    each_underlay(|| {
        let mut pair = RawPair::new();
        let mut wire = Capture::start(&pair.fabric.ns, pair.vtepd.dir(), "h1", "udp port 4789");
        for round in 0..2 {
            for flow in 0..32_u8 {
                let mut frame = plain(&mac(12), &mac(11), &format!("flow-{round}"));
                frame[5] = 100 + flow;
                pair.tenant.send(&frame);
            }
        }
        let _ = pair.peer.expect("flow-1", 32);
        let ports: Vec<String> = wire
            .fields("vxlan && eth.type == 0x88b5", &["udp.srcport"])
            .into_iter()
            .map(|f| f[0].clone())
            .collect();
        assert_eq!(ports[..32], ports[32..64], "the same flows, the same ports");
        assert!(
            ports.iter().collect::<BTreeSet<_>>().len() > 24,
            "{ports:?}"
        );
    });
}

#[test]
fn an_oversized_datagram_is_answered_with_the_path_mtu() {
    each_underlay(|| {
        // 1500 bytes of outer IP packet, less 20 + 8 + 8 for IPv4, UDP and VXLAN, and 14 for the inner
        // Ethernet header.
        let pair = Pair::with(Underlay::V4, Peer::Vtepd, "", 1500);
        let from = &pair.hosts[0].ns;
        let answer = ping(from, ip4(12), "-c 3 -W 5 -M do -s 1472");
        assert!(
            answer.contains("mtu=1450") || answer.contains("mtu = 1450"),
            "{answer}"
        );
        from.ip("route flush cache");
        let six = ping(from, ip6(12), "-c 3 -W 5 -M do -s 1452");
        assert!(
            six.contains("mtu=1450")
                || six.contains("mtu = 1450")
                || six.contains("Packet too big"),
            "{six}"
        );
        let fits = ping(from, ip4(12), "-c 2 -W 5 -M do -s 1422");
        assert!(fits.contains(" 0% packet loss"), "{fits}");
        assert!(pair.vtepd().drops("too-big") >= 2);
    });
}
