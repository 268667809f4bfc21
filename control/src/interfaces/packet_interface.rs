//! An interface with packet sockets. Tcx programs keep a tenant's from the host, and VXLAN of an
//! underlay interface.

use std::net::IpAddr;

use vtep_dataplane::afxdp::{Drops, Probe, Probed, Umem};
use vtep_dataplane::packet::{Isolation, PacketDevice, UnderlayFilter};

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

/// The programs of an interface.
#[derive(Debug)]
enum Programs {
    Tenant(Isolation),
    Underlay(UnderlayFilter),
}

impl PacketInterface {
    /// Attaches the programs; no socket is bound yet. It gets one for each of `workers` workers.
    ///
    /// # Errors
    /// [`BackendError`]; nothing stays attached.
    pub(super) fn open(
        name: &InterfaceName,
        purpose: Purpose,
        (locals, udp_port): (&[IpAddr], u16),
        workers: u32,
    ) -> Result<Self, BackendError> {
        let device = PacketDevice::open(name.as_str())?;
        let (name, ifindex) = (name.as_str(), device.ifindex());
        let programs = match purpose {
            Purpose::Underlay => {
                let filter = UnderlayFilter::attach(name, ifindex, locals, udp_port)?;
                Programs::Underlay(filter)
            }
            Purpose::Tenant | Purpose::Trunk => Programs::Tenant(Isolation::attach(name, ifindex)?),
        };
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
        match &self.programs {
            Programs::Tenant(isolation) => isolation.set_taken(sockets > 0),
            Programs::Underlay(filter) => filter.set_taken(sockets > 0),
        }?;
        Ok(())
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
            first.no_socket = match &self.programs {
                Programs::Tenant(isolation) => isolation.isolated().untaken,
                Programs::Underlay(filter) => filter.untaken(),
            };
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
    pub(super) fn port_in_use(&self) -> Option<String> {
        let Programs::Underlay(filter) = &self.programs else {
            return None;
        };
        let name = self.device.name();
        (!filter.joins()).then(|| {
            format!(
                "interface {name}: another socket of the host has the VXLAN port, so that the kernel does not join \
                 what arrives; remove the host's vxlan device, give it another port, or use underlay-io = \"xdp\""
            )
        })
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
