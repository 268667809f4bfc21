//! Links between namespaces, and tenants behind them.

use std::net::IpAddr;

use crate::netns::Netns;

/// Joins `a_name` in `a` and `b_name` in `b` by a veth pair with the kernel's default offloads;
/// both are up.
pub fn veth(a: &Netns, a_name: &str, b: &Netns, b_name: &str) {
    veth_queues(a, a_name, b, b_name, 1);
}

/// As [`veth`], with `queues` receive and transmit queues at both ends.
pub fn veth_queues(a: &Netns, a_name: &str, b: &Netns, b_name: &str, queues: u32) {
    let q = format!("numrxqueues {queues} numtxqueues {queues}");
    a.ip(&format!(
        "link add {a_name} {q} type veth peer name {b_name} {q} netns {}",
        b.name()
    ));
    a.ip(&format!("link set {a_name} up"));
    b.ip(&format!("link set {b_name} up"));
}

/// A bridge, up, without STP and without multicast snooping.
pub fn bridge(ns: &Netns, name: &str) {
    // With br_netfilter, a bridge checks IP headers and drops frames that a switch would forward.
    for family in ["ip", "ip6", "arp"] {
        let _ = ns.try_run(&format!(
            "sysctl -q -w net.bridge.bridge-nf-call-{family}tables=0"
        ));
    }
    ns.ip(&format!(
        "link add {name} type bridge stp_state 0 mcast_snooping 0 forward_delay 0"
    ));
    ns.ip(&format!("link set {name} addrgenmode none up"));
}

/// A persistent tap; no program holds it yet.
pub fn tap(ns: &Netns, name: &str) {
    ns.ip(&format!("tuntap add dev {name} mode tap"));
    ns.ip(&format!("link set {name} addrgenmode none up"));
}

/// As [`tap`], for a guest with several queues; none is attached yet.
pub fn multi_queue_tap(ns: &Netns, name: &str) {
    ns.ip(&format!("tuntap add dev {name} mode tap multi_queue"));
    ns.ip(&format!("link set {name} addrgenmode none up"));
}

/// Makes the kernel put a VLAN tag beside each frame that leaves `interface`, in the skb's metadata,
/// as a VLAN sub-interface does: `protocol` 0x8100 or 0x88a8, any `tci`.
///
/// # Panics
/// If clang or tc fail.
pub fn tag_beside_frame(ns: &Netns, interface: &str, protocol: u16, tci: u16) {
    let _ = ns.try_run(&format!("tc qdisc del dev {interface} clsact"));
    ns.run(&format!("tc qdisc add dev {interface} clsact"));
    // 18 is bpf_skb_vlan_push, whose protocol is in network order.
    let push = format!(
        "((long (*)(void *, unsigned short, unsigned short))18)(skb, {}, {tci})",
        protocol.to_be()
    );
    filter(ns, interface, "egress", &push);
}

/// Makes `interface` an access port of VLAN `id` of a switch at the other end that sends and takes
/// tagged frames: as a VLAN sub-interface, which this kernel may not have.
///
/// # Panics
/// If clang or tc fail.
pub fn access_of_vlan(ns: &Netns, interface: &str, id: u16) {
    tag_beside_frame(ns, interface, 0x8100, id);
    // 19 is bpf_skb_vlan_pop.
    filter(ns, interface, "ingress", "((long (*)(void *))19)(skb)");
}

/// Calls a BPF function for each frame, in C.
fn filter(ns: &Netns, interface: &str, direction: &str, call: &str) {
    let directory = crate::program::Scratch::new(ns);
    let (source, object) = (
        directory.path().join("filter.c"),
        directory.path().join("filter.o"),
    );
    let text = format!(
        "__attribute__((section(\"classifier\"), used)) int tag(void *skb) {{ {call}; return 0; }}\n\
         char LICENSE[] __attribute__((section(\"license\"), used)) = \"GPL\";\n"
    );
    std::fs::write(&source, text).expect("a scratch file");
    let (source, object) = (source.display(), object.display());
    ns.run(&format!("clang -target bpf -O2 -c {source} -o {object}"));
    ns.run(&format!(
        "tc filter add dev {interface} {direction} bpf da obj {object} sec classifier"
    ));
}

/// The kernel's error when it does not support 802.1Q interfaces (no CONFIG_VLAN_8021Q); `None` if
/// it does.
#[must_use]
pub fn vlan_refusal(ns: &Netns) -> Option<String> {
    ns.ip("link add vlanprobe type veth peer name vlanprobe2");
    let made = ns.try_run("ip link add link vlanprobe name vlanprobe.7 type vlan id 7");
    ns.ip("link del vlanprobe");
    (!made.status.success()).then(|| String::from_utf8_lossy(&made.stderr).into_owned())
}

/// An 802.1Q sub-interface `name` of `parent`, up.
pub fn vlan(ns: &Netns, parent: &str, name: &str, id: u16) {
    ns.ip(&format!(
        "link add link {parent} name {name} type vlan id {id}"
    ));
    ns.ip(&format!("link set {name} addrgenmode none up"));
}

/// A tenant: a namespace whose `eth0` is one end of a veth pair.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub ns: Netns,
    /// The name of the other end, in the hypervisor's namespace.
    pub port: String,
    number: u8,
}

impl Host {
    /// Tenant `number` behind a default veth `t<number>` of the hypervisor: MAC 50:54:33:00:00:NN,
    /// 192.0.2.N/24 and 2001:db8:2::N/64.
    #[must_use]
    pub fn new(hypervisor: &Netns, number: u8) -> Self {
        Self::with_queues(hypervisor, number, 1)
    }

    /// As [`Host::new`], with `queues` queues at both ends.
    #[must_use]
    pub fn with_queues(hypervisor: &Netns, number: u8, queues: u32) -> Self {
        let ns = Netns::new(&format!("t{number}"));
        let port = format!("t{number}");
        veth_queues(hypervisor, &port, &ns, "eth0", queues);
        Self::on(hypervisor, ns, &port, number)
    }

    /// Tenant `number` in `ns`, whose `eth0` exists and is behind `port` of the hypervisor.
    #[must_use]
    pub fn on(hypervisor: &Netns, ns: Netns, port: &str, number: u8) -> Self {
        let host = Self {
            ns,
            port: port.to_owned(),
            number,
        };
        hypervisor.ip(&format!("link set {} addrgenmode none", host.port));
        // The port belongs to the switch: the hypervisor's own stack must not take part in the
        // tenant's network.
        hypervisor.sysctl(&format!("net.ipv6.conf.{}.disable_ipv6=1", host.port));
        host.ns.ip(&format!("link set eth0 address {}", host.mac()));
        host.ns.ip(&format!("addr add {}/24 dev eth0", host.ip4()));
        host.ns
            .ip(&format!("addr add {}/64 dev eth0 nodad", host.ip6()));
        host
    }

    /// Sets the MTU of the tenant's interface; its port at the hypervisor is unchanged.
    #[must_use]
    pub fn mtu(self, bytes: u32) -> Self {
        self.ns.ip(&format!("link set eth0 mtu {bytes}"));
        self
    }

    /// Sets an MTU of 9000 at both ends of its link to `hypervisor`.
    #[must_use]
    pub fn jumbo(self, hypervisor: &Netns) -> Self {
        hypervisor.ip(&format!("link set {} mtu 9000", self.port));
        self.mtu(9000)
    }

    /// Its MAC address, as text.
    #[must_use]
    pub fn mac(&self) -> String {
        mac(self.number)
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ip4(&self) -> IpAddr {
        ip4(self.number)
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ip6(&self) -> IpAddr {
        ip6(self.number)
    }
}

/// The MAC address of tenant `number`.
#[must_use]
pub fn mac(number: u8) -> String {
    format!("50:54:33:00:00:{number:02x}")
}

/// The IPv4 address of tenant `number`.
#[must_use]
pub fn ip4(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

/// The IPv6 address of tenant `number`.
#[must_use]
pub fn ip6(number: u8) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(number)])
}
