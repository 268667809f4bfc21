//! Tenants that keep the offloads of their interfaces: they hand over superframes of up to 64 KiB
//! without checksums, and vtepd forwards them whole or cuts them. Nothing is switched off in a
//! tenant.
//!
//! ```text
//! t11 (veth, tap, macvtap, trunk) ─┬─ h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd or Linux ── t12
//! t13                             ─┘
//! ```

use std::net::IpAddr;
use std::path::Path;

use vtep_tests::fabric::{Fabric, Underlay};
use vtep_tests::guest::Guest;
use vtep_tests::link::{self, Host, mac};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::Netns;
use vtep_tests::stream::{Segments, assert_udp, transfer};
use vtep_tests::tools::iperf3;
use vtep_tests::topology::Peer;
use vtep_tests::vtepd::{Config, Vtepd};

/// How a tenant is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Veth,
    /// As a virtual machine with this number of queues.
    Tap(u32),
    /// Behind a macvtap, as libvirt's `direct` interfaces.
    Macvtap,
    /// On a veth of which the port takes VLAN 10.
    Trunk,
}

/// The VLAN of [`Kind::Trunk`].
const VLAN: u16 = 10;

/// A tenant, and the program behind its tap.
struct Tenant {
    guest: Option<Guest>,
    host: Option<Host>,
    kind: Kind,
}

impl Tenant {
    fn new(hypervisor: &Netns, number: u8, kind: Kind, mtu: u32) -> Self {
        let (guest, host) = match kind {
            Kind::Tap(queues) => (Some(Guest::new(hypervisor, number, queues)), None),
            _ => (None, Some(Host::new(hypervisor, number))),
        };
        let tenant = Self { guest, host, kind };
        let host = tenant.host();
        host.ns.ip(&format!("link set eth0 mtu {mtu}"));
        hypervisor.ip(&format!("link set {} mtu {mtu}", host.port));
        match kind {
            Kind::Macvtap => {
                let (lower, port) = (&host.port, tenant.port());
                hypervisor.ip(&format!(
                    "link add link {lower} name {port} type macvtap mode passthru"
                ));
                hypervisor.ip(&format!("link set {port} addrgenmode none up"));
            }
            Kind::Trunk => link::access_of_vlan(&host.ns, "eth0", VLAN),
            Kind::Veth | Kind::Tap(_) => {}
        }
        tenant
    }

    fn host(&self) -> &Host {
        let guest = self.guest.as_ref().map(|guest| &guest.host);
        guest.or(self.host.as_ref()).expect("one of them")
    }

    fn ns(&self) -> &Netns {
        &self.host().ns
    }

    fn port(&self) -> String {
        match self.kind {
            Kind::Macvtap => format!("mv{}", self.host().port),
            _ => self.host().port.clone(),
        }
    }

    /// Adds its port to the VNI of `config`.
    fn configure(&self, config: Config) -> Config {
        let config = config.port(&self.port(), &[self.host().mac()]);
        match self.kind {
            Kind::Trunk => config.raw(&format!("vlan = {VLAN}")),
            _ => config,
        }
    }

    /// Packets and bytes that its interface sent, as its kernel counts them: a superframe is one.
    fn sent(&self) -> (u64, u64) {
        let count = |name: &str| {
            let file = format!("/sys/class/net/eth0/statistics/{name}");
            let text = self.ns().run(&format!("cat {file}"));
            text.trim().parse().expect("a number")
        };
        (count("tx_packets"), count("tx_bytes"))
    }
}

/// Tenants 11 and 12, and what is between them.
struct Net {
    daemons: Vec<Vtepd>,
    tenants: [Tenant; 2],
    mtu: u32,
    hypervisors: Vec<Netns>,
    fabric: Fabric,
}

/// Bytes of outer headers that the underlay has room for.
const OVERHEAD: u32 = 100;

impl Net {
    /// Both tenants at one host.
    fn local(kinds: [Kind; 2], mtu: u32) -> Self {
        Self::local_with(Config::new(Underlay::V4.vtep(1)), kinds, mtu)
    }

    /// As [`Net::local`], with other settings of the host.
    fn local_with(config: Config, kinds: [Kind; 2], mtu: u32) -> Self {
        let fabric = Fabric::new(mtu + OVERHEAD);
        let hypervisor = fabric.hypervisor(1);
        let mut config = config.vni(100, &[]);
        let tenants = [11, 12].map(|number| {
            let kind = kinds[usize::from(number) - 11];
            Tenant::new(&hypervisor, number, kind, mtu)
        });
        for tenant in &tenants {
            config = tenant.configure(config);
        }
        Self {
            daemons: vec![Vtepd::start(&hypervisor, &config)],
            tenants,
            mtu,
            hypervisors: vec![hypervisor],
            fabric,
        }
    }

    /// Two hosts; tenant 12 is on veth, at `peer`.
    fn tunnel(kind: Kind, underlay: Underlay, peer: Peer, mtu: u32) -> Self {
        Self::tunnel_by("xdp", kind, underlay, peer, mtu)
    }

    /// The same, over an underlay of the kind `io`.
    fn tunnel_by(io: &str, kind: Kind, underlay: Underlay, peer: Peer, mtu: u32) -> Self {
        let fabric = Fabric::new(mtu + OVERHEAD);
        let hypervisors = [1, 2].map(|number| fabric.hypervisor(number));
        let tenants = [
            Tenant::new(&hypervisors[0], 11, kind, mtu),
            Tenant::new(&hypervisors[1], 12, Kind::Veth, mtu),
        ];
        let config = |place: u8| {
            let (me, other) = (underlay.vtep(1 + place), underlay.vtep(2 - place));
            let config = Config::new(me).underlay_io(io).core(usize::from(place));
            let config = config.vni(100, &[other]);
            tenants[usize::from(place)]
                .configure(config)
                .fdb(&mac(12 - place), other)
        };
        let mut daemons = vec![Vtepd::start(&hypervisors[0], &config(0))];
        match peer {
            Peer::Vtepd => daemons.push(Vtepd::start(&hypervisors[1], &config(1))),
            Peer::Linux => {
                let _ = LinuxVtep::new(&hypervisors[1], 100, underlay.vtep(2))
                    .port(&tenants[1].port())
                    .fdb(&mac(11), underlay.vtep(1))
                    .flood(underlay.vtep(1));
                hypervisors[1].ip(&format!("link set vx100 mtu {mtu}"));
            }
        }
        for (vtepd, other) in daemons.iter().zip([2, 1]) {
            vtepd.expect_up(&[underlay.vtep(other)]);
        }
        Self {
            daemons,
            tenants,
            mtu,
            hypervisors: hypervisors.into(),
            fabric,
        }
    }

    fn dir(&self) -> &Path {
        self.daemons[0].dir()
    }

    /// Nothing was dropped for a reason that has to do with superframes.
    fn assert_no_drops(&self) {
        for vtepd in &self.daemons {
            for reason in ["too-big", "unsegmentable"] {
                let drops = vtepd.show("drops --by reason");
                assert_eq!(vtepd.drops(reason), 0, "{reason}: {drops:#}");
            }
        }
    }

    /// TCP and UDP in both directions, over IPv4 and IPv6.
    fn assert_works(mut self) {
        let [a, b] = &self.tenants;
        for tenant in [a, b] {
            assert_offloads_are_on(tenant);
        }
        for (from, to) in [(a, b), (b, a)] {
            for address in [to.host().ip4(), to.host().ip6()] {
                self.assert_tcp(from, to, address);
                assert_udp(from.ns(), to.ns(), address, 5202, 2000);
            }
        }
        self.assert_no_drops();
        self.daemons.drain(..).for_each(Vtepd::stop);
    }

    /// Bytes arrive as they were sent, in superframes, and few of them twice.
    fn assert_tcp(&self, from: &Tenant, to: &Tenant, address: IpAddr) {
        transfer(from.ns(), to.ns(), address);
        let (segments, (packets, bytes)) = (Segments::of(from.ns()), from.sent());
        let rate = iperf3(from.ns(), to.ns(), address, self.dir(), 1, false);
        let again = Segments::of(from.ns()).percent_again(segments);
        let sent = from.sent();
        let mean = (sent.1 - bytes) / (sent.0 - packets).max(1);
        println!("{address}: {rate:?}, {again:.2}% sent again, {mean} bytes a packet");
        let drops = || -> Vec<_> { self.daemons.iter().map(|d| d.show("drops")).collect() };
        assert!(rate.mbps > WORKS, "{address}: {rate:?}, {:#?}", drops());
        assert!(again < STORM, "{address}: {again:.2}%, {:#?}", drops());
        // The sender's kernel did not cut.
        let least = 2 * u64::from(self.mtu);
        assert!(mean > least, "{address}: {mean} bytes a packet");
    }
}

/// Over an underlay with packet sockets, also on the wire.
fn assert_superframes_cross(net: Net) {
    let count = |name: &str| -> u64 {
        let file = format!("/sys/class/net/h1/statistics/{name}");
        let text = net.fabric.ns.run(&format!("cat {file}"));
        text.trim().parse().expect("a number")
    };
    let [a, b] = &net.tenants;
    let (packets, bytes) = (count("rx_packets"), count("rx_bytes"));
    transfer(a.ns(), b.ns(), b.host().ip4());
    let mean = (count("rx_bytes") - bytes) / (count("rx_packets") - packets).max(1);
    println!("{mean} bytes a packet on the underlay");
    assert!(mean > 2 * u64::from(net.mtu), "{mean} bytes a packet");
    net.assert_works();
}

/// Mbit/s that a stream reaches on any machine, however busy: debug builds reached 10 beside a program
/// that took nearly all time. With superframes dropped it was 0.3.
const WORKS: f64 = 5.0;

/// Segments sent again, percent. TCP itself loses some when it fills a queue.
const STORM: f64 = 5.0;

/// The kernel's defaults are still on in the tenant: segmentation and checksums.
fn assert_offloads_are_on(tenant: &Tenant) {
    let features = tenant.ns().run("ethtool -k eth0");
    for feature in ["tcp-segmentation-offload", "tx-checksumming"] {
        let on = features.contains(&format!("{feature}: on"));
        assert!(on, "{:?}: {feature} is off in the tenant", tenant.kind);
    }
}

#[test]
fn containers_of_one_host() {
    Net::local([Kind::Veth, Kind::Veth], 1500).assert_works();
}

#[test]
fn a_container_and_a_virtual_machine_of_one_host() {
    Net::local([Kind::Tap(1), Kind::Veth], 1500).assert_works();
}

#[test]
fn virtual_machines_with_several_queues_of_one_host() {
    Net::local([Kind::Tap(2), Kind::Tap(4)], 1500).assert_works();
}

#[test]
fn a_macvtap_and_a_container_of_one_host() {
    Net::local([Kind::Macvtap, Kind::Veth], 1500).assert_works();
}

#[test]
fn a_trunk_port_and_a_container_of_one_host() {
    Net::local([Kind::Trunk, Kind::Veth], 1500).assert_works();
}

/// A port whose driver takes no superframes: the guest of a tap has not negotiated them, or they were
/// switched off. The kernel cuts them before it.
#[test]
fn a_port_that_takes_no_superframes() {
    let net = Net::local([Kind::Veth, Kind::Tap(1)], 1500);
    for tenant in &net.tenants {
        net.hypervisors[0].run(&format!(
            "ethtool -K {} tx off tso off gso off tx-udp-segmentation off",
            tenant.port()
        ));
    }
    net.assert_works();
}

/// What a port may hold of the smallest packet memory has room for the superframes of a burst.
#[test]
fn containers_of_one_host_with_little_packet_memory() {
    let config = Config::new(Underlay::V4.vtep(1))
        .workers(2)
        .raw("[vtep.afxdp]\nframes = 2048");
    let net = Net::local_with(config, [Kind::Veth, Kind::Veth], 1500);
    let [a, b] = &net.tenants;
    for (from, to) in [(a, b), (b, a)] {
        net.assert_tcp(from, to, to.host().ip4());
    }
    assert_eq!(
        net.daemons[0].drops("tx-full"),
        0,
        "{:#}",
        net.daemons[0].show("drops")
    );
    net.assert_works();
}

#[test]
fn containers_with_jumbo_frames_of_one_host() {
    Net::local([Kind::Veth, Kind::Veth], 9000).assert_works();
}

#[test]
fn a_container_to_vtepd() {
    Net::tunnel(Kind::Veth, Underlay::V4, Peer::Vtepd, 1500).assert_works();
}

#[test]
fn a_container_to_vtepd_over_ipv6() {
    Net::tunnel(Kind::Veth, Underlay::V6, Peer::Vtepd, 1500).assert_works();
}

#[test]
fn a_container_to_linux() {
    Net::tunnel(Kind::Veth, Underlay::V4, Peer::Linux, 1500).assert_works();
}

#[test]
fn a_container_to_linux_over_ipv6() {
    Net::tunnel(Kind::Veth, Underlay::V6, Peer::Linux, 1500).assert_works();
}

#[test]
fn a_container_to_vtepd_by_packet_sockets() {
    let net = Net::tunnel_by("packet", Kind::Veth, Underlay::V4, Peer::Vtepd, 1500);
    assert_superframes_cross(net);
}

#[test]
fn a_container_to_vtepd_by_packet_sockets_over_ipv6() {
    let net = Net::tunnel_by("packet", Kind::Veth, Underlay::V6, Peer::Vtepd, 1500);
    assert_superframes_cross(net);
}

#[test]
fn a_container_to_linux_by_packet_sockets() {
    let net = Net::tunnel_by("packet", Kind::Veth, Underlay::V4, Peer::Linux, 1500);
    assert_superframes_cross(net);
}

#[test]
fn a_virtual_machine_to_linux_by_packet_sockets_over_ipv6() {
    let net = Net::tunnel_by("packet", Kind::Tap(1), Underlay::V6, Peer::Linux, 1500);
    assert_superframes_cross(net);
}

#[test]
fn containers_with_jumbo_frames_to_vtepd_by_packet_sockets() {
    let net = Net::tunnel_by("packet", Kind::Veth, Underlay::V4, Peer::Vtepd, 9000);
    net.assert_works();
}

#[test]
fn a_virtual_machine_to_vtepd() {
    Net::tunnel(Kind::Tap(1), Underlay::V4, Peer::Vtepd, 1500).assert_works();
}

/// (finding N3)
#[test]
fn a_virtual_machine_to_linux() {
    Net::tunnel(Kind::Tap(2), Underlay::V4, Peer::Linux, 1500).assert_works();
}

#[test]
fn a_macvtap_to_linux() {
    Net::tunnel(Kind::Macvtap, Underlay::V4, Peer::Linux, 1500).assert_works();
}

#[test]
fn a_trunk_port_to_vtepd() {
    Net::tunnel(Kind::Trunk, Underlay::V4, Peer::Vtepd, 1500).assert_works();
}

#[test]
fn containers_with_jumbo_frames_to_vtepd() {
    Net::tunnel(Kind::Veth, Underlay::V4, Peer::Vtepd, 9000).assert_works();
}

#[test]
fn virtual_machines_with_jumbo_frames_to_linux_over_ipv6() {
    Net::tunnel(Kind::Tap(1), Underlay::V6, Peer::Linux, 9000).assert_works();
}

/// A VXLAN device inside each tenant: their kernels may not hand over superframes of this tunnel
/// that vtepd can't cut, so they cut these themselves.
fn tunnels_of_the_tenants_work(net: &Net) {
    let [a, b] = &net.tenants;
    for (number, keys) in [(1, "dstport 4789"), (2, "dstport 8472 udpcsum")] {
        for (tenant, other, place) in [(a, b, 1), (b, a, 2)] {
            let (ns, remote) = (tenant.ns(), other.host().ip4());
            ns.ip(&format!(
                "link add vx{number} type vxlan id {number} remote {remote} {keys} dev eth0"
            ));
            ns.ip(&format!("link set vx{number} mtu 1400 up"));
            ns.ip(&format!(
                "addr add 198.51.{number}.{place}/24 dev vx{number}"
            ));
        }
        for (from, to, place) in [(a, b, 2), (b, a, 1)] {
            let inner = IpAddr::from([198, 51, number, place]);
            transfer(from.ns(), to.ns(), inner);
            let before = Segments::of(from.ns());
            let rate = iperf3(from.ns(), to.ns(), inner, net.dir(), 1, false);
            let again = Segments::of(from.ns()).percent_again(before);
            println!("{keys}: {rate:?}, {again:.2}% sent again");
            assert!(rate.mbps > WORKS && again < STORM, "{rate:?}, {again:.2}%");
        }
    }
    for tenant in [a, b] {
        assert_offloads_are_on(tenant);
    }
    net.assert_no_drops();
}

#[test]
fn tunnels_inside_containers() {
    tunnels_of_the_tenants_work(&Net::tunnel(Kind::Veth, Underlay::V4, Peer::Vtepd, 1500));
}

#[test]
fn a_tunnel_between_a_virtual_machine_and_a_container() {
    tunnels_of_the_tenants_work(&Net::local([Kind::Tap(1), Kind::Veth], 1500));
}

#[test]
fn a_tunnel_of_a_virtual_machine_to_linux() {
    tunnels_of_the_tenants_work(&Net::tunnel(Kind::Tap(1), Underlay::V4, Peer::Linux, 1500));
}
