//! Path MTU discovery in the underlay: a link behind a router is narrower than the interface here
//! (finding D12).
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h7: router ── narrow, MTU 1400 ── far: Linux ── t12
//! ```

use std::net::IpAddr;

use serde_json::Value;
use vtep_tests::config::each_underlay;
use vtep_tests::echo::answers;
use vtep_tests::fabric::{Fabric, Underlay};
use vtep_tests::frame;
use vtep_tests::link::{Host, mac, veth};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::tools::{iperf3, ping};
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

const NARROW: u32 = 1400;

/// The topology over one family, without the daemon.
struct Narrow {
    family: Underlay,
    near: Netns,
    router: Netns,
    hosts: [Host; 2],
    _far: Netns,
    _fabric: Fabric,
}

impl Narrow {
    fn new(family: Underlay) -> Self {
        let fabric = Fabric::new(1600);
        let [near, router] = [1, 7].map(|number| fabric.hypervisor(number));
        let far = Netns::new("far");
        veth(&router, "narrow", &far, "eth0");
        for (ns, name) in [(&router, "narrow"), (&far, "eth0")] {
            ns.ip(&format!("link set {name} mtu {NARROW}"));
        }
        router.sysctl("net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        router.ip("addr add 198.51.100.1/24 dev narrow");
        router.ip("addr add 2001:db8:2::1/64 dev narrow nodad");
        far.ip("addr add 198.51.100.2/24 dev eth0");
        far.ip("addr add 2001:db8:2::2/64 dev eth0 nodad");
        far.ip("route add default via 198.51.100.1");
        far.ip("route add default via 2001:db8:2::1");
        near.ip("route add 198.51.100.0/24 via 203.0.113.7");
        near.ip("route add 2001:db8:2::/64 via 2001:db8:1::7");
        let hosts = [Host::new(&near, 11), Host::new(&far, 12)];
        let _ = LinuxVtep::new(&far, 100, remote(family))
            .port(&hosts[1].port)
            .fdb(&mac(11), family.vtep(1))
            .flood(family.vtep(1));
        Self {
            family,
            near,
            router,
            hosts,
            _far: far,
            _fabric: fabric,
        }
    }

    fn start(&self) -> Vtepd {
        let remote = remote(self.family);
        let config = Config::new(self.family.vtep(1))
            .vni(100, &[remote])
            .port("t11", &[mac(11)])
            .fdb(&mac(12), remote);
        let vtepd = Vtepd::start(&self.near, &config);
        vtepd.expect_up(&[remote]);
        let [a, b] = &self.hosts;
        wait_for("the far tenant", 10, || {
            answers(&a.ns, b.ip4()).then_some(())
        });
        vtepd
    }
}

fn remote(family: Underlay) -> IpAddr {
    let text = match family {
        Underlay::V4 => "198.51.100.2",
        Underlay::V6 => "2001:db8:2::2",
    };
    text.parse().expect("an address")
}

/// The only row of `show underlay`.
fn row(vtepd: &Vtepd) -> Value {
    vtepd.show("underlay")["rows"][0].clone()
}

/// TCP passes although its first segments do not fit, and what was discovered is shown.
fn tcp_passes(family: Underlay) {
    let narrow = Narrow::new(family);
    let vtepd = narrow.start();
    let [a, b] = &narrow.hosts;
    assert_eq!(row(&vtepd)["path_mtu"], Value::Null);
    let measured = iperf3(&a.ns, &b.ns, b.ip4(), vtepd.dir(), 2, false);
    assert!(measured.mbps > 1.0, "{measured:?}");
    let row = row(&vtepd);
    assert_eq!(
        (&row["path_mtu"], &row["mtu"], &row["path_mtu_reporter"]),
        (
            &NARROW.into(),
            &NARROW.into(),
            &narrow.family.vtep(7).to_string().into()
        ),
        "{row}"
    );
    assert!(
        row["path_mtu_expires"]
            .as_u64()
            .is_some_and(|left| left > 500)
    );
    assert!(vtepd.done("show underlay").contains("1400 (path)"));
}

/// Finding D12, over IPv4.
#[test]
fn tcp_passes_a_narrow_link_behind_a_router() {
    each_underlay(|| {
        tcp_passes(Underlay::V4);
    });
}

/// Finding D12, over IPv6.
#[test]
fn tcp_passes_a_narrow_link_behind_an_ipv6_router() {
    each_underlay(|| {
        tcp_passes(Underlay::V6);
    });
}

/// Finding D12: a path MTU that the host's own traffic has discovered is used.
#[test]
fn the_kernels_path_mtu_is_used() {
    each_underlay(|| {
        for family in [Underlay::V4, Underlay::V6] {
            let narrow = Narrow::new(family);
            let discovered = wait_for("the kernel's path MTU", 10, || {
                let _ = ping(&narrow.near, remote(family), "-c 1 -W 1 -M do -s 1480");
                let route = narrow.near.ip(&format!("route get {}", remote(family)));
                route.contains("mtu 1400").then_some(route)
            });
            let vtepd = narrow.start();
            let row = row(&vtepd);
            assert_eq!(
                (&row["path_mtu"], &row["path_mtu_reporter"]),
                (&NARROW.into(), &Value::Null),
                "{row}, although the kernel has {discovered}"
            );
        }
    });
}

/// Finding D12: errors that quote no packet that was sent from here, or one that is short enough,
/// change nothing.
#[test]
fn errors_lower_the_mtu_of_their_vtep_only() {
    each_underlay(|| {
        let narrow = Narrow::new(Underlay::V4);
        let vtepd = narrow.start();
        let mut raw = Raw::open(&narrow.router, "eth0", Kind::Packet);
        let ends = [&narrow.near, &narrow.router].map(|ns| frame::mac(&ns.mac("eth0")));
        let forged = Quote {
            source: [203, 0, 113, 1],
            destination: [198, 51, 100, 2],
            length: 1550,
            port: 4789,
            mtu: 1290,
        };
        let refused = [
            Quote {
                source: [203, 0, 113, 9],
                ..forged
            },
            Quote {
                destination: [198, 51, 100, 3],
                ..forged
            },
            Quote {
                length: 1290,
                ..forged
            },
            // Longer than the MTU of the interface.
            Quote {
                length: 65_000,
                ..forged
            },
            Quote { port: 53, ..forged },
        ];
        for quote in refused {
            raw.send(&quote.frame(ends));
        }
        // Larger than theirs: it would change nothing if one of them had been accepted.
        raw.send(
            &Quote {
                mtu: 1300,
                ..forged
            }
            .frame(ends),
        );
        wait_for("the last one to be accepted", 5, || {
            (row(&vtepd)["path_mtu"] == 1300).then_some(())
        });
    });
}

/// "Fragmentation needed" from the router about a packet with these fields.
#[derive(Debug, Clone, Copy)]
struct Quote {
    source: [u8; 4],
    destination: [u8; 4],
    length: u16,
    port: u16,
    mtu: u16,
}

impl Quote {
    /// The frame from the second to the first MAC of `ends`.
    fn frame(&self, ends: [[u8; 6]; 2]) -> Vec<u8> {
        let mut message = vec![3, 4, 0, 0, 0, 0];
        message.extend(self.mtu.to_be_bytes());
        message.extend(ipv4(self.length, 17, self.source, self.destination));
        message.extend([0xc0, 1]);
        message.extend(self.port.to_be_bytes());
        message.extend([0; 4]);
        let sum = frame::checksum(0, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let length = 20 + message.len() as u16;
        let outer = ipv4(length, 1, [203, 0, 113, 7], [203, 0, 113, 1]);
        [ends.concat(), vec![8, 0], outer, message].concat()
    }
}

fn ipv4(length: u16, protocol: u8, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header.extend(source);
    header.extend(destination);
    let sum = frame::checksum(0, &header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}
