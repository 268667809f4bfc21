//! The topologies that most scenarios start from.
//!
//! ```text
//! Pair      t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd or Linux ── t12       VNI 100
//! RawPair   t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h9: raw frames in and out
//! ```

pub use crate::config::IO_KINDS;
use crate::fabric::{Fabric, Underlay, send_datagrams};
use crate::link::{Host, mac};
use crate::linux_vtep::LinuxVtep;
use crate::netns::Netns;
use crate::vtepd::{Config, Vtepd};
use crate::wire::{Kind, Raw};

/// vtepd at hypervisor 1 with this configuration, and tenant 11.
#[must_use]
pub fn one_vtepd(config: &Config) -> (Fabric, Netns, Host, Vtepd) {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let host = Host::new(&ns, 11);
    let vtepd = Vtepd::start(&ns, config);
    (fabric, ns, host, vtepd)
}

/// Two VTEPs, at hypervisors 1 and 2, with tenants 11 and 12 in VNI 100. The first is vtepd.
#[derive(Debug)]
pub struct Pair {
    /// The daemons: one, or two.
    pub daemons: Vec<Vtepd>,
    /// Tenants 11 and 12.
    pub hosts: [Host; 2],
    /// Their hypervisors.
    pub hypervisors: [Netns; 2],
    /// The underlay.
    pub fabric: Fabric,
}

/// The VTEP at hypervisor 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// vtepd as well.
    Vtepd,
    /// A Linux bridge with a vxlan device.
    Linux,
}

impl Pair {
    /// The pair over `underlay` with an MTU of 1600; tenants have 1500.
    #[must_use]
    pub fn new(underlay: Underlay, peer: Peer) -> Self {
        Self::with(underlay, peer, "", 1600)
    }

    /// As [`Pair::new`], with additional keys of `[vtep]` at the first VTEP, and this MTU of the
    /// underlay.
    #[must_use]
    pub fn with(underlay: Underlay, peer: Peer, keys: &str, mtu: u32) -> Self {
        Self::of(underlay, peer, (keys, "auto"), mtu, |host, _| host)
    }

    /// As [`Pair::new`], with this `io` of all ports.
    #[must_use]
    pub fn with_io(underlay: Underlay, peer: Peer, io: &str) -> Self {
        Self::of(underlay, peer, ("", io), 1600, |host, _| host)
    }

    /// The pair over an underlay with an MTU of 9100; tenants have 9000.
    #[must_use]
    pub fn jumbo(underlay: Underlay, peer: Peer, keys: &str, io: &str) -> Self {
        let pair = Self::of(underlay, peer, (keys, io), 9100, Host::jumbo);
        if peer == Peer::Linux {
            pair.hypervisors[1].ip("link set vx100 mtu 9000");
        }
        pair
    }

    fn of(
        underlay: Underlay,
        peer: Peer,
        (keys, io): (&str, &str),
        mtu: u32,
        prepare: impl Fn(Host, &Netns) -> Host,
    ) -> Self {
        let fabric = Fabric::new(mtu);
        let hypervisors = [1, 2].map(|n| fabric.hypervisor(n));
        let hosts = [(0, 11), (1, 12)].map(|(at, number): (usize, u8)| {
            prepare(Host::new(&hypervisors[at], number), &hypervisors[at])
        });
        let mut daemons = vec![Vtepd::start(
            &hypervisors[0],
            &config(underlay, 0, keys, io),
        )];
        match peer {
            Peer::Vtepd => {
                daemons.push(Vtepd::start(&hypervisors[1], &config(underlay, 1, "", io)));
            }
            Peer::Linux => {
                let _ = LinuxVtep::new(&hypervisors[1], 100, underlay.vtep(2))
                    .port(&hosts[1].port)
                    .fdb(&mac(11), underlay.vtep(1))
                    .flood(underlay.vtep(1));
            }
        }
        for (vtepd, other) in daemons.iter().zip([2, 1]) {
            vtepd.expect_up(&[underlay.vtep(other)]);
        }
        Self {
            daemons,
            hosts,
            hypervisors,
            fabric,
        }
    }

    /// The first daemon.
    #[must_use]
    pub fn vtepd(&self) -> &Vtepd {
        &self.daemons[0]
    }
}

/// The configuration of one vtepd of the pair.
fn config(underlay: Underlay, index: u8, keys: &str, io: &str) -> Config {
    let (me, other) = (underlay.vtep(1 + index), underlay.vtep(2 - index));
    let (mine, theirs) = (11 + index, 12 - index);
    Config::new(me)
        .core(usize::from(index))
        .io(io)
        .raw(keys)
        .vni(100, &[other])
        .port(&format!("t{mine}"), &[mac(mine)])
        .fdb(&mac(theirs), other)
}

/// vtepd at hypervisor 1 with tenant 11 in VNI 100, and a peer at hypervisor 9 that sends and
/// receives raw frames.
#[derive(Debug)]
pub struct RawPair {
    /// The daemon.
    pub vtepd: Vtepd,
    /// Raw frames at the interface of the tenant.
    pub tenant: Raw,
    /// Raw frames at hypervisor 9's `eth0`.
    pub peer: Raw,
    /// Tenant 11.
    pub host: Host,
    /// Hypervisors 1 and 9.
    pub hypervisors: [Netns; 2],
    /// The underlay.
    pub fabric: Fabric,
}

impl RawPair {
    /// With the default configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::with("", "")
    }

    /// With additional keys of `[vtep]` and of the port.
    #[must_use]
    pub fn with(keys: &str, port_keys: &str) -> Self {
        Self::of(keys, "", port_keys)
    }

    /// With additional keys of the VNI and of the port.
    #[must_use]
    pub fn with_vni(keys: &str, port_keys: &str) -> Self {
        Self::of("", keys, port_keys)
    }

    fn of(keys: &str, vni_keys: &str, port_keys: &str) -> Self {
        let fabric = Fabric::new(1600);
        let hypervisors = [1, 9].map(|n| fabric.hypervisor(n));
        send_datagrams(&hypervisors[0]);
        let host = Host::new(&hypervisors[0], 11);
        let other = Underlay::V4.vtep(9);
        let config = Config::new(Underlay::V4.vtep(1))
            .raw(keys)
            .vni(100, &[other])
            .raw(vni_keys)
            .port(&host.port, &[mac(11)])
            .raw(port_keys)
            .fdb(&mac(12), other);
        let vtepd = Vtepd::start(&hypervisors[0], &config);
        vtepd.expect_up(&[other]);
        let tenant = Raw::open(&host.ns, "eth0", Kind::Packet);
        let peer = Raw::open(&hypervisors[1], "eth0", Kind::Packet);
        Self {
            vtepd,
            tenant,
            peer,
            host,
            hypervisors,
            fabric,
        }
    }

    /// The underlay MAC addresses: of vtepd's hypervisor, of the peer's.
    #[must_use]
    pub fn macs(&self) -> (String, String) {
        (
            self.hypervisors[0].mac("eth0"),
            self.hypervisors[1].mac("eth0"),
        )
    }
}

impl Default for RawPair {
    fn default() -> Self {
        Self::new()
    }
}
