//! Two tenants and what forwards between them: vtepd or Linux, on one host or on two.
//!
//! ```text
//! local     tenant a -- port -- [ host a ] -- port -- tenant b
//! tunnel    tenant a -- port -- [ host a ] -- underlay -- [ host b ] -- port -- tenant b
//! ```
//!
//! Tenants keep the offloads that their interfaces have by default.

use std::net::Ipv4Addr;

use super::net::{Namespace, run};
use super::program::{Daemon, Guest};
use crate::row::Failure;
use crate::tables::{UDP_PORT, UNDERLAY, VNI};

/// What forwards on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// A bridge, with a vxlan device if there are two hosts.
    Linux,
    /// The daemon.
    Vtepd,
}

/// How tenant a is attached; tenant b has a veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// By a veth pair, as a container.
    Veth,
    /// By a tap, as a virtual machine.
    Tap,
}

/// Who cuts superframes into segments for the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// The sender: as for a NIC that can't segment inside VXLAN.
    Plain,
    /// No one needs to: the underlay has veth's offloads, and superframes cross it whole.
    Offloads,
}

/// The bytes of a full packet of the tenants, and of the underlay.
const MTU: (u32, u32) = (1500, 1600);

/// Two tenants, the hosts, and what runs on these.
#[derive(Debug)]
pub struct Tenants {
    // Programs are stopped before their namespaces are removed.
    daemons: Vec<Daemon>,
    _guest: Option<Guest>,
    tenants: [Namespace; 2],
    hosts: Vec<Namespace>,
}

/// The address of the tenant `place`.
#[must_use]
pub const fn address(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, 1 + place as u8)
}

const fn vtep(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1 + place as u8)
}

fn mac(place: usize) -> String {
    format!("02:00:00:00:00:0{}", 1 + place)
}

/// The interface of a host to the tenant `place`.
fn port(place: usize) -> String {
    format!("tenant{place}")
}

impl Tenants {
    /// Two tenants of one host; `name` distinguishes several of one process.
    ///
    /// # Errors
    /// [`Failure`] with the command that failed. Everything is removed again.
    pub fn local(name: &str, switch: Switch, attachment: Attachment) -> Result<Self, Failure> {
        let mut all = Self::with_hosts(name, 1)?;
        let host = &all.hosts[0];
        // An underlay is part of every configuration; here it leads nowhere.
        host.ip(&format!("link add {UNDERLAY} type veth peer name nowhere0"))?;
        host.ip("link set nowhere0 up")?;
        all.underlay(0)?;
        all._guest = match attachment {
            Attachment::Veth => all.veth(0, 0).map(|()| None)?,
            Attachment::Tap => Some(Guest::start(
                (&all.tenants[0], "eth0"),
                (host, &port(0)),
                1,
            )?),
        };
        all.veth(1, 0)?;
        [0, 1].into_iter().try_for_each(|place| all.up(place, 0))?;
        match switch {
            Switch::Linux => all.bridge(0, &[0, 1])?,
            Switch::Vtepd => all.daemon(0, &[0, 1])?,
        }
        Ok(all)
    }

    /// Two tenants at two hosts, that forward by `switches`.
    ///
    /// # Errors
    /// [`Failure`] with the command that failed. Everything is removed again.
    pub fn tunnel(name: &str, switches: [Switch; 2], wire: Wire) -> Result<Self, Failure> {
        let mut all = Self::with_hosts(name, 2)?;
        let (a, b) = (&all.hosts[0], all.hosts[1].name());
        a.ip(&format!(
            "link add {UNDERLAY} type veth peer name {UNDERLAY} netns {b}"
        ))?;
        for place in [0, 1] {
            all.underlay(place)?;
            if wire == Wire::Plain {
                all.hosts[place].within(|| {
                    let off = "tso off gso off gro on tx-udp_tnl-segmentation off";
                    run("ethtool", &format!("-K {UNDERLAY} {off}"))
                })?;
            }
            all.veth(place, place)?;
            all.up(place, place)?;
        }
        for (place, switch) in switches.into_iter().enumerate() {
            match switch {
                Switch::Linux => {
                    all.bridge(place, &[place])?;
                    all.vxlan(place)?;
                }
                Switch::Vtepd => all.daemon(place, &[place])?,
            }
        }
        Ok(all)
    }

    /// The namespace of the tenant `place`.
    #[must_use]
    pub const fn tenant(&self, place: usize) -> &Namespace {
        &self.tenants[place]
    }

    /// What each daemon dropped so far, by reason.
    ///
    /// # Errors
    /// [`Failure`] if one does not answer.
    pub fn drops(&self) -> Result<String, Failure> {
        let mut all = Vec::new();
        for daemon in &self.daemons {
            let drops = daemon.drops()?;
            all.push(if drops.is_empty() {
                "none".to_owned()
            } else {
                drops
            });
        }
        Ok(all.join("; "))
    }

    fn with_hosts(name: &str, hosts: usize) -> Result<Self, Failure> {
        let new = |suffix: &str| {
            let namespace = Namespace::new(&format!("{name}-{suffix}"))?;
            // Only the rows' own traffic.
            namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
            namespace.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
            Ok(namespace)
        };
        Ok(Self {
            daemons: Vec::new(),
            _guest: None,
            tenants: [new("ta")?, new("tb")?],
            hosts: ["ha", "hb"][..hosts]
                .iter()
                .map(|suffix| new(suffix))
                .collect::<Result<_, Failure>>()?,
        })
    }

    fn underlay(&self, place: usize) -> Result<(), Failure> {
        let host = &self.hosts[place];
        host.ip(&format!("link set {UNDERLAY} mtu {} up", MTU.1))?;
        host.ip(&format!("address add {}/24 dev {UNDERLAY}", vtep(place)))
            .map(drop)
    }

    fn veth(&self, place: usize, host: usize) -> Result<(), Failure> {
        let (tenant, name) = (&self.tenants[place], self.hosts[host].name());
        let port = port(place);
        tenant
            .ip(&format!(
                "link add eth0 type veth peer name {port} netns {name}"
            ))
            .map(drop)
    }

    fn up(&self, place: usize, host: usize) -> Result<(), Failure> {
        let tenant = &self.tenants[place];
        tenant.ip(&format!(
            "link set eth0 address {} mtu {} up",
            mac(place),
            MTU.0
        ))?;
        tenant.ip(&format!("address add {}/24 dev eth0", address(place)))?;
        self.hosts[host]
            .ip(&format!("link set {} up", port(place)))
            .map(drop)
    }

    fn bridge(&self, host: usize, tenants: &[usize]) -> Result<(), Failure> {
        let host = &self.hosts[host];
        host.ip("link add br0 type bridge stp_state 0 forward_delay 0")?;
        for place in tenants {
            host.ip(&format!("link set {} master br0", port(*place)))?;
        }
        host.ip("link set br0 up").map(drop)
    }

    fn vxlan(&self, place: usize) -> Result<(), Failure> {
        let (host, local, remote) = (&self.hosts[place], vtep(place), vtep(1 - place));
        host.ip(&format!(
            "link add vxlan0 mtu {} type vxlan id {VNI} local {local} remote {remote} dstport \
             {UDP_PORT} dev {UNDERLAY}",
            MTU.0
        ))?;
        host.ip("link set vxlan0 master br0 up").map(drop)
    }

    /// The daemon with one worker, as it has for a single underlay queue. By default that is on the
    /// first core, which two hosts don't share.
    fn daemon(&mut self, host: usize, tenants: &[usize]) -> Result<(), Failure> {
        let mut config = format!(
            "[vtep]\naddress = \"{}\"\nunderlay = [\"{UNDERLAY}\"]\ncores = [{host}]\n[[vni]]\nid = \
             {VNI}\n",
            vtep(host)
        );
        let other = 1 - host;
        let remote = self.hosts.len() > 1;
        if remote {
            config += &format!("flood = [\"{}\"]\n", vtep(other));
        }
        for place in tenants {
            config += &format!(
                "[[vni.port]]\ninterface = \"{}\"\nmacs = [\"{}\"]\n",
                port(*place),
                mac(*place)
            );
        }
        if remote {
            config += &format!(
                "[[vni.fdb]]\nmac = \"{}\"\nvtep = \"{}\"\n",
                mac(other),
                vtep(other)
            );
        }
        let daemon = Daemon::start(&self.hosts[host], &config)?;
        self.daemons.push(daemon);
        Ok(())
    }
}
