//! The topology of the rows over real links: a generator, a forwarder and a sink, with two veth
//! links between them.
//!
//! ```text
//! generator namespace      forwarder namespace         sink namespace
//! gen0 ------- veth ------ tenant0   underlay0 -- veth -- sink0
//!                          192.0.2.1              192.0.2.2, a static neighbor of the forwarder
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use vtep_dataplane::addr::{HostMac, MacAddr, Vni};

use super::net::{Namespace, run};
use crate::row::Failure;
use crate::tables::{LOCAL, TENANT, UDP_PORT, UNDERLAY, VNI};
use crate::traffic::template::{FIRST_PORT, Shape, Tunnel};

/// The generator's interface.
pub const GENERATOR: &str = "gen0";
/// The sink's interface.
pub const SINK: &str = "sink0";

/// The address of the remote VTEP.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The same over IPv6, for rows in memory.
pub const REMOTE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// The generator's MAC, as text.
const FROM: &str = "02:00:00:00:00:01";
/// The MAC behind the remote VTEP.
const TO: &str = "02:00:00:00:00:02";
/// MAC of the forwarder's underlay interface.
const UNDERLAY_MAC: &str = "02:00:00:00:10:01";
/// MAC of the sink's interface.
const SINK_MAC: &str = "02:00:00:00:10:02";

/// UDP flows of the generator: enough for ECMP and RSS to spread them.
const FLOWS: u16 = 64;

/// The core that Linux forwards on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// The core that frames are sent from.
    Inline,
    /// This one, by receive packet steering.
    Rps(usize),
    /// This one, by threaded NAPI.
    Thread(usize),
}

/// Three namespaces and two links, up.
#[derive(Debug)]
pub struct Topology {
    /// The namespace of the generator.
    pub generator: Namespace,
    /// The namespace of the forwarder.
    pub forwarder: Namespace,
    /// The namespace of the sink.
    pub sink: Namespace,
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(Failure::of(text))
}

/// The VNI of the topology.
///
/// # Errors
/// Never: the number is a valid VNI.
pub fn vni() -> Result<Vni, Failure> {
    Vni::new(VNI).map_err(Failure::of("VNI"))
}

/// The MAC behind the remote VTEP.
///
/// # Errors
/// Never: the text is a valid MAC.
pub fn destination() -> Result<HostMac, Failure> {
    parsed(TO)
}

/// The generator's MAC.
///
/// # Errors
/// Never: the text is a valid MAC.
pub fn source() -> Result<HostMac, Failure> {
    parsed(FROM)
}

/// (MAC of the forwarder's underlay interface, MAC of the sink).
///
/// # Errors
/// Never: the texts are valid MACs.
pub fn underlay_macs() -> Result<(MacAddr, MacAddr), Failure> {
    Ok((parsed(UNDERLAY_MAC)?, parsed(SINK_MAC)?))
}

/// Direction of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the tenant to the remote VTEP: encapsulation.
    Out,
    /// From the remote VTEP to the tenant: decapsulation.
    In,
}

/// The frames to send, known unicast with inner frames of `size` bytes: out, from the tenant to the
/// MAC behind the remote VTEP; in, the reverse, in VXLAN.
///
/// # Errors
/// Never: the texts are valid MACs, and the number is a valid VNI.
pub fn shape(size: usize, direction: Direction) -> Result<Shape, Failure> {
    let (destination_mac, source_mac) = underlay_macs()?;
    let tunnel = Tunnel {
        source_mac,
        destination_mac,
        source: REMOTE.into(),
        destination: LOCAL.into(),
        udp_port: UDP_PORT,
        vni: vni()?,
    };
    let (from, to, tunnel) = match direction {
        Direction::Out => (source()?, destination()?, None),
        Direction::In => (destination()?, source()?, Some(tunnel)),
    };
    Ok(Shape {
        source: from,
        destination: to.get(),
        destinations: 1,
        flows: FLOWS,
        size,
        tunnel,
    })
}

impl Topology {
    /// Creates it; `name` distinguishes several topologies of one process.
    ///
    /// # Errors
    /// [`Failure`] with the command that failed. Everything is removed again.
    pub fn new(name: &str) -> Result<Self, Failure> {
        let topology = Self {
            generator: Namespace::new(&format!("{name}-gen"))?,
            forwarder: Namespace::new(&format!("{name}-fwd"))?,
            sink: Namespace::new(&format!("{name}-sink"))?,
        };
        let Self {
            generator,
            forwarder,
            sink,
        } = &topology;
        for namespace in [generator, forwarder, sink] {
            // Frames that Linux sends by itself would be counted with those of the generator.
            namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
            namespace.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
        }
        let inside = forwarder.name();
        generator.ip(&format!(
            "link add {GENERATOR} type veth peer name {TENANT} netns {inside}"
        ))?;
        sink.ip(&format!(
            "link add {SINK} type veth peer name {UNDERLAY} netns {inside}"
        ))?;
        generator.ip(&format!("link set {GENERATOR} address {FROM} up"))?;
        sink.ip(&format!("link set {SINK} address {SINK_MAC} up"))?;
        forwarder.ip(&format!("link set {TENANT} up"))?;
        // A full frame plus the outer header.
        forwarder.ip(&format!(
            "link set {UNDERLAY} address {UNDERLAY_MAC} mtu 1600 up"
        ))?;
        sink.ip(&format!("link set {SINK} mtu 1600"))?;
        forwarder.ip(&format!("address add {LOCAL}/24 dev {UNDERLAY}"))?;
        forwarder.ip(&format!(
            "neigh replace {REMOTE} lladdr {SINK_MAC} dev {UNDERLAY} nud permanent"
        ))?;
        for (namespace, interface) in [
            (generator, GENERATOR),
            (forwarder, TENANT),
            (forwarder, UNDERLAY),
            (sink, SINK),
        ] {
            // A veth link carries frames of the kernel's generator only if both ends have GRO (or
            // XDP), and then polls (NAPI) like a NIC.
            namespace.within(|| run("ethtool", &format!("-K {interface} gro on")))?;
        }
        Ok(topology)
    }

    /// Makes Linux the forwarder: a bridge with the tenant's interface and a VXLAN device without
    /// learning.
    ///
    /// # Errors
    /// [`Failure`] with the command that failed.
    pub fn add_kernel_vtep(&self) -> Result<(), Failure> {
        let forwarder = &self.forwarder;
        forwarder.ip("link add br0 type bridge")?;
        forwarder.ip(&format!(
            "link add vxlan0 type vxlan id {VNI} local {LOCAL} dstport {UDP_PORT} srcport \
             {FIRST_PORT} 65535 nolearning"
        ))?;
        for member in [TENANT, "vxlan0"] {
            forwarder.ip(&format!("link set {member} master br0 up"))?;
        }
        forwarder.ip("link set br0 up")?;
        let fdb = |entry: &str| run("bridge", &format!("-n {} fdb {entry}", forwarder.name()));
        fdb(&format!("replace {TO} dev vxlan0 master static"))?;
        fdb(&format!(
            "replace {TO} dev vxlan0 dst {REMOTE} self permanent"
        ))?;
        Ok(())
    }

    /// Selects the core on which Linux processes what the tenant's interface receives.
    ///
    /// # Errors
    /// [`Failure`] if the kernel does not support it.
    pub fn steer_kernel(&self, how: Steering) -> Result<(), Failure> {
        let (steered, thread) = match how {
            Steering::Inline => (0, None),
            Steering::Rps(core) => (1u64 << core, None),
            Steering::Thread(core) => (0, Some(core)),
        };
        self.forwarder.write(
            &format!("/sys/class/net/{TENANT}/queues/rx-0/rps_cpus"),
            &format!("{steered:x}"),
        )?;
        self.forwarder.receive_on(TENANT, thread).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_a_vtep_and_everything_is_removed_when_it_is_dropped() {
        let name = {
            let topology = Topology::new("test").unwrap();
            topology.add_kernel_vtep().unwrap();
            topology.steer_kernel(Steering::Rps(0)).unwrap();
            topology.steer_kernel(Steering::Thread(0)).unwrap();
            let links = topology.forwarder.ip("-d link show vxlan0").unwrap();
            assert!(links.contains("vxlan id 100 local 192.0.2.1"), "{links}");
            topology.forwarder.name().to_owned()
        };
        assert!(run("ip", &format!("-n {name} link")).is_err());
    }
}
