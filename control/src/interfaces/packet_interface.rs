//! An interface with packet sockets. Tcx programs keep a tenant's from the host, and VXLAN of an
//! underlay interface.

use std::net::IpAddr;

use vtep_dataplane::afxdp::{Drops, Probe, Probed, Umem};
use vtep_dataplane::packet::{Isolation, PacketDevice, TcxError, UnderlayFilter};

use super::Purpose;
use super::error::BackendError;
use crate::config::InterfaceName;
use crate::workers::QueuePort;

/// An interface with packet sockets: one for each worker, among which the kernel divides its flows.
#[derive(Debug)]
pub struct PacketInterface {
    pub(super) device: PacketDevice,
    programs: Programs,
    sockets: u32,
    /// What the kernel last said about it.
    probed: Probed,
}

/// include/uapi/asm-generic/errno.h.
const EADDRINUSE: i32 = 98;

/// The tcx programs of an interface.
#[derive(Debug)]
pub(super) enum Programs {
    Tenant(Isolation),
    Underlay(UnderlayFilter),
}

/// Local VTEP addresses and multicast groups, and the UDP port of VXLAN.
pub(super) type Endpoints<'a> = (&'a [IpAddr], u16);

impl Programs {
    /// Attaches them to the interface `name` with this index.
    ///
    /// # Errors
    /// [`TcxError`]; none stays attached.
    pub(super) fn attach(
        (name, ifindex): (&str, u32),
        purpose: Purpose,
        (locals, udp_port): Endpoints<'_>,
    ) -> Result<Self, TcxError> {
        Ok(match purpose {
            Purpose::Underlay => {
                Self::Underlay(UnderlayFilter::attach(name, ifindex, locals, udp_port)?)
            }
            Purpose::Tenant | Purpose::Trunk => Self::Tenant(Isolation::attach(name, ifindex)?),
        })
    }

    /// Sets whether sockets take the frames. While none does, they are counted.
    ///
    /// # Errors
    /// [`TcxError`].
    pub(super) fn set_taken(&self, taken: bool) -> Result<(), TcxError> {
        match self {
            Self::Tenant(isolation) => isolation.set_taken(taken),
            Self::Underlay(filter) => filter.set_taken(taken),
        }
    }

    /// Frames that were dropped while no socket took them.
    pub(super) fn untaken(&self) -> u64 {
        match self {
            Self::Tenant(isolation) => isolation.isolated().untaken,
            Self::Underlay(filter) => filter.untaken(),
        }
    }
}

impl PacketInterface {
    /// Attaches the programs; no socket is bound yet. It gets one for each of `workers` workers.
    ///
    /// # Errors
    /// [`BackendError`]; nothing stays attached.
    pub(super) fn open(
        name: &InterfaceName,
        purpose: Purpose,
        endpoints: Endpoints<'_>,
        workers: u32,
    ) -> Result<Self, BackendError> {
        let device = PacketDevice::open(name.as_str())?;
        let ifindex = device.ifindex();
        let mut programs = Programs::attach((name.as_str(), ifindex), purpose, endpoints)?;
        if let Programs::Underlay(filter) = &mut programs {
            filter.join(endpoints.0, endpoints.1);
        }
        let probed = probe(&device, &programs).ask().unwrap_or_default();
        Ok(Self {
            device,
            programs,
            sockets: workers,
            probed,
        })
    }

    pub(super) fn bind(&self, number: u32, umem: &Umem) -> Result<QueuePort, BackendError> {
        let port = match &self.programs {
            Programs::Tenant(_) => self.device.bind(number, self.sockets, umem),
            Programs::Underlay(filter) => {
                self.device
                    .bind_underlay(number, self.sockets, umem, filter)
            }
        }?;
        Ok(QueuePort::Packet(port))
    }

    /// The number of sockets that it is to have.
    pub(super) const fn sockets(&self) -> u32 {
        self.sockets
    }

    /// What to ask about it.
    pub(super) fn probe(&self) -> Probe {
        probe(&self.device, &self.programs)
    }

    /// Notes the answer.
    pub(super) fn set_probed(&mut self, probed: Probed) {
        self.device.set_queues(probed.queues);
        self.probed = probed;
    }

    /// What it receives is counted as dropped while it has no socket.
    pub(super) fn set_bound(&self, sockets: usize) -> Result<(), BackendError> {
        Ok(self.programs.set_taken(sockets > 0)?)
    }

    /// Replaces the addresses that VXLAN is accepted for.
    pub(super) fn set_endpoints(
        &mut self,
        addresses: &[IpAddr],
        udp_port: u16,
    ) -> Result<(), BackendError> {
        match &mut self.programs {
            Programs::Tenant(_) => Ok(()),
            Programs::Underlay(filter) => Ok(filter.set_endpoints(addresses, udp_port)?),
        }
    }

    /// Frames that it received while it had no socket: its queues are not told apart, and all are
    /// counted for the first socket.
    pub(super) fn drops(&self) -> Vec<Drops> {
        let mut drops = vec![Drops::default(); self.sockets as usize];
        if let Some(first) = drops.first_mut() {
            first.no_socket = self.programs.untaken();
        }
        drops
    }

    /// Frames of the host that were kept from the tenant; `None` on the underlay.
    pub(super) fn host_frames(&self) -> Option<u64> {
        match &self.programs {
            Programs::Tenant(isolation) => Some(isolation.isolated().host),
            Programs::Underlay(_) => None,
        }
    }

    /// Why datagrams that the underlay receives are not joined: one sentence, with the remedy.
    pub(super) fn not_joined(&self) -> Option<String> {
        let Programs::Underlay(filter) = &self.programs else {
            return None;
        };
        let (name, error) = (self.device.name(), filter.not_joined()?);
        let why = match error.raw_os_error() {
            Some(EADDRINUSE) => "another socket of the host has the VXLAN port".to_owned(),
            _ => format!("it refuses UDP_GRO: {error}"),
        };
        Some(format!(
            "interface {name}: the kernel does not join the datagrams that arrive, since {why}; remove the host's vxlan \
             device, give it another port, or use underlay-io = \"xdp\""
        ))
    }

    /// Programs of others that come before ours: one sentence each, with the remedy.
    pub(super) fn preceded_by(&self) -> Vec<String> {
        let name = self.device.name();
        let (what, may, again) = match &self.programs {
            Programs::Tenant(_) => (
                "the tenant's frames",
                "pass frames between the tenant and the host",
                "remove the port and add it again",
            ),
            Programs::Underlay(_) => ("VXLAN", "pass VXLAN to the host", "restart vtepd"),
        };
        let tcx = self.probed.preceded.then(|| {
            format!(
                "interface {name}: another tcx program comes before vtepd's, and may {may}; detach it (`bpftool net list \
                 dev {name}`, 7.3 or later), or {again}"
            )
        });
        let xdp = self.probed.foreign_xdp.then(|| {
            format!(
                "interface {name}: an XDP program takes {what} before vtepd; remove it (`ip link set {name} xdp off`), or \
                 use io = \"xdp\""
            )
        });
        tcx.into_iter().chain(xdp).collect()
    }
}

/// What to ask about an interface with these programs.
fn probe(device: &PacketDevice, programs: &Programs) -> Probe {
    match programs {
        Programs::Tenant(isolation) => device.probe(isolation),
        Programs::Underlay(filter) => device.probe_underlay(filter),
    }
}
