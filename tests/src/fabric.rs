//! The underlay: one bridge in a namespace of its own, and hypervisors whose `eth0` is a port of
//! it.

use std::net::IpAddr;

use crate::link::{bridge, veth};
use crate::netns::Netns;

/// The switch of the underlay. Captures run here: in the hypervisors, tcpdump does not see AF_XDP
/// traffic.
#[derive(Debug)]
pub struct Fabric {
    /// The namespace of the bridge `br0`; the port to hypervisor N is `hN`.
    pub ns: Netns,
    mtu: u32,
}

impl Fabric {
    /// An underlay that carries frames of `mtu` bytes.
    #[must_use]
    pub fn new(mtu: u32) -> Self {
        let ns = Netns::new("fabric");
        bridge(&ns, "br0");
        Self { ns, mtu }
    }

    /// A hypervisor: 203.0.113.N/24 and 2001:db8:1::N/64 on its `eth0`.
    #[must_use]
    pub fn hypervisor(&self, number: u8) -> Netns {
        let ns = Netns::new(&format!("h{number}"));
        self.attach(&ns, "eth0", number);
        ns.ip(&format!("addr add {}/24 dev eth0", vtep4(number)));
        ns.ip(&format!("addr add {}/64 dev eth0 nodad", vtep6(number)));
        ns
    }

    /// Adds `name` to `ns` as a port of the fabric, `h<number>` on the bridge's side, without
    /// addresses.
    pub fn attach(&self, ns: &Netns, name: &str, number: u8) {
        let port = format!("h{number}");
        veth(&self.ns, &port, ns, name);
        self.ns.ip(&format!(
            "link set {port} mtu {} master br0 addrgenmode none",
            self.mtu
        ));
        ns.ip(&format!("link set {name} mtu {}", self.mtu));
    }
}

/// The IPv4 VTEP address of hypervisor `number`.
#[must_use]
pub fn vtep4(number: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, number])
}

/// The IPv6 VTEP address of hypervisor `number`.
#[must_use]
pub fn vtep6(number: u8) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(number)])
}

/// The address family of the underlay that a test runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// Outer IPv4.
    V4,
    /// Outer IPv6.
    V6,
}

impl Underlay {
    /// The VTEP address of hypervisor `number` in this family.
    #[must_use]
    pub fn vtep(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => vtep4(number),
            Self::V6 => vtep6(number),
        }
    }
}

/// Makes an underlay with packet sockets send each datagram by itself and with a complete checksum, as
/// it is on a wire: for scenarios that look at what leaves `ns` by `eth0`.
pub fn send_datagrams(ns: &Netns) {
    ns.run("ethtool -K eth0 tx-udp-segmentation off tx-checksum-ip-generic off");
}
