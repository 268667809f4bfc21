//! The kinds of interface. Their differences are handled here and hidden from the callers.

use std::net::IpAddr;

use vtep_dataplane::afxdp::{
    self, BusyPoll, Misfit, Mode, Probe, Probed, Program, Umem, XdpDevice,
};
use vtep_dataplane::packet::{self, Isolation};

use super::error::BackendError;
use super::packet_interface::{Endpoints, PacketInterface};
use super::{InterfaceQueue, IoChoice, IoKind, Purpose};
use crate::config::InterfaceName;
use crate::workers::QueuePort;

/// How the program of an interface is attached.
pub type AttachMode = afxdp::AttachMode;

/// How the sockets of an interface are bound.
pub type BindMode = afxdp::BindMode;

/// The kernel's counters of the sockets of an interface.
pub type SocketStatistics = afxdp::Statistics;

/// Local VTEP addresses and multicast groups that an underlay interface accepts VXLAN for.
pub const ENDPOINT_LIMIT: usize = afxdp::ENDPOINT_LIMIT;

/// Where the VLAN tags of a tenant's frames are.
pub type VlanTags = afxdp::VlanTags;

/// Frames that the program has dropped on one queue.
pub type QueueDrops = afxdp::Drops;

/// Identifies an open socket.
#[derive(Debug, Clone)]
pub(super) enum SocketId {
    AfXdp(afxdp::SocketId),
    Packet(packet::SocketId),
}

impl SocketId {
    pub(super) fn of(port: &QueuePort) -> Self {
        match port {
            QueuePort::AfXdp(port) => Self::AfXdp(port.id()),
            QueuePort::Packet(port) => Self::Packet(port.id()),
        }
    }
}

/// Ring sizes of a queue.
pub(super) type QueueRings = afxdp::SocketConfig;

/// Settings of all interfaces.
#[derive(Debug, Clone)]
pub struct InterfaceSettings {
    /// Local VTEP addresses and multicast groups, for the underlay program.
    pub locals: Vec<IpAddr>,
    /// UDP port of VXLAN, for the underlay program.
    pub udp_port: u16,
    /// How sockets are bound.
    pub mode: Mode,
    /// Busy polling of sockets.
    pub busy_poll: BusyPoll,
}

impl InterfaceSettings {
    /// Whether the configuration sets what only AF_XDP sockets have.
    #[must_use]
    pub fn names_afxdp(&self) -> bool {
        self.mode != Mode::Auto || self.busy_poll == BusyPoll::On
    }

    /// What VXLAN to this VTEP is addressed to.
    pub(super) fn endpoints(&self) -> Endpoints<'_> {
        (&self.locals, self.udp_port)
    }
}

/// What carries an interface's frames.
#[derive(Debug)]
pub enum Backend {
    /// A Linux interface with an XDP program and an AF_XDP socket for each receive queue. A tenant's
    /// also has a tcx program, where the kernel has tcx, that drops what the host sends.
    AfXdp(XdpDevice, Option<Isolation>),
    /// A Linux interface with tcx programs and a packet socket for each worker.
    Packet(PacketInterface),
}

impl Backend {
    /// Opens an interface and attaches its programs; no socket is bound yet. `workers`: number of
    /// workers.
    ///
    /// # Errors
    /// [`BackendError`]; nothing stays attached.
    pub(super) fn open(
        name: &InterfaceName,
        purpose: Purpose,
        choice: &mut IoChoice,
        settings: &InterfaceSettings,
        workers: u32,
    ) -> Result<Self, BackendError> {
        if choice.kind == IoKind::Packet {
            match PacketInterface::open(name, purpose, settings.endpoints(), workers) {
                Err(BackendError::Tcx(error)) if choice.falls_back(&error) => {}
                opened => return opened.map(Self::Packet),
            }
        }
        let program = match purpose {
            Purpose::Underlay => Program::Underlay {
                locals: settings.locals.clone(),
                udp_port: settings.udp_port,
            },
            Purpose::Tenant | Purpose::Trunk => Program::Tenant,
        };
        let mode = mode_of(settings.mode, purpose);
        let device = XdpDevice::open(name.as_str(), &program, mode)?;
        let isolation = (purpose != Purpose::Underlay)
            .then(|| isolate_egress(name, device.ifindex()))
            .flatten();
        Ok(Self::AfXdp(device, isolation))
    }

    /// The kind of its sockets.
    #[must_use]
    pub const fn io(&self) -> IoKind {
        match self {
            Self::AfXdp(..) => IoKind::Xdp,
            Self::Packet(_) => IoKind::Packet,
        }
    }

    /// Binds a socket: of this receive queue, or with this number. `rings`: of AF_XDP.
    ///
    /// # Errors
    /// [`BackendError`]; the queue stays unbound.
    pub(super) fn bind(
        &self,
        queue: u32,
        umem: &Umem,
        rings: Option<QueueRings>,
    ) -> Result<QueuePort, BackendError> {
        match self {
            Self::AfXdp(xdp, _) => {
                let port = xdp.bind(queue, umem, rings.unwrap_or_default())?;
                Ok(QueuePort::AfXdp(port))
            }
            Self::Packet(packet) => packet.bind(queue, umem),
        }
    }

    /// Notes how many sockets are bound.
    ///
    /// # Errors
    /// [`BackendError`] when the map of the programs can't be written.
    pub(super) fn set_bound(&self, sockets: usize) -> Result<(), BackendError> {
        match self {
            Self::AfXdp(..) => Ok(()),
            Self::Packet(packet) => packet.set_bound(sockets),
        }
    }

    /// Replaces the addresses that the underlay program accepts VXLAN for.
    ///
    /// # Errors
    /// [`BackendError`] when there are more than the program can hold.
    pub(super) fn set_endpoints(
        &mut self,
        addresses: &[IpAddr],
        udp_port: u16,
    ) -> Result<(), BackendError> {
        match self {
            Self::AfXdp(xdp, _) => Ok(xdp.set_endpoints(addresses, udp_port)?),
            Self::Packet(packet) => packet.set_endpoints(addresses, udp_port),
        }
    }

    /// Passes the interface's MTU (bytes) to the program.
    ///
    /// # Errors
    /// [`BackendError`] when its map can't be written.
    pub(super) fn set_mtu(&self, mtu: u32) -> Result<(), BackendError> {
        match self {
            Self::AfXdp(xdp, _) => Ok(xdp.set_mtu(mtu)?),
            Self::Packet(_) => Ok(()),
        }
    }

    /// Why the frames of these queues are copied at this MTU (bytes) although zero-copy is wanted;
    /// `None` if they are not copied, or nothing prevents zero-copy.
    pub(super) fn copied_because(
        &self,
        umem: &Umem,
        queues: &[InterfaceQueue],
        mtu: u32,
    ) -> Option<Misfit> {
        match self {
            Self::AfXdp(xdp, _) => {
                let copied = queues
                    .iter()
                    .any(|queue| queue.mode == Some(BindMode::Copy));
                xdp.misfit(umem, mtu).filter(|_| copied)
            }
            Self::Packet(_) => None,
        }
    }

    /// Whether nothing prevents zero-copy at this MTU (bytes).
    pub(super) fn zero_copy_possible(&self, umem: &Umem, mtu: u32) -> bool {
        match self {
            Self::AfXdp(xdp, _) => xdp.misfit(umem, mtu).is_none(),
            Self::Packet(_) => true,
        }
    }

    /// Frames that the program has dropped, by queue.
    #[must_use]
    pub fn drops(&self) -> Vec<QueueDrops> {
        match self {
            Self::AfXdp(xdp, _) => xdp.drops(),
            Self::Packet(packet) => packet.drops(),
        }
    }

    /// Frames of the host that were kept from the tenant since the programs were attached; `None`
    /// where none is, as on the underlay.
    #[must_use]
    pub fn host_frames(&self) -> Option<u64> {
        match self {
            Self::AfXdp(_, isolation) => isolation
                .as_ref()
                .map(|isolation| isolation.isolated().host),
            Self::Packet(packet) => packet.host_frames(),
        }
    }

    /// Programs of others that come before ours: one sentence each, with the remedy.
    #[must_use]
    pub fn preceded_by(&self) -> Vec<String> {
        match self {
            // Only one XDP program can be attached.
            Self::AfXdp(..) => Vec::new(),
            Self::Packet(packet) => packet.preceded_by(),
        }
    }

    /// Why datagrams that the underlay receives are not joined: one sentence, with the remedy.
    pub(super) fn not_joined(&self) -> Option<String> {
        match self {
            Self::AfXdp(..) => None,
            Self::Packet(packet) => packet.not_joined(),
        }
    }

    /// What to ask about it, to know whether it is still as it was opened.
    pub(super) fn probe(&self) -> Probe {
        match self {
            Self::AfXdp(xdp, _) => xdp.probe(),
            Self::Packet(packet) => packet.probe(),
        }
    }

    /// Follows the answer: queues that were added get the program.
    ///
    /// # Errors
    /// [`BackendError`]; the number of queues stays as it was.
    pub(super) fn set_probed(&mut self, probed: Probed) -> Result<(), BackendError> {
        match self {
            Self::AfXdp(xdp, _) => xdp.set_queues(probed.queues)?,
            Self::Packet(packet) => packet.set_probed(probed),
        }
        Ok(())
    }

    /// Number of receive queues, or of sockets that it is to have.
    #[must_use]
    pub fn queues(&self) -> u32 {
        match self {
            Self::AfXdp(xdp, _) => xdp.queues(),
            Self::Packet(packet) => packet.sockets(),
        }
    }

    /// The kernel's index of the interface.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        match self {
            Self::AfXdp(xdp, _) => xdp.ifindex(),
            Self::Packet(packet) => packet.device.ifindex(),
        }
    }

    /// Whether it was up, with a carrier, when it was opened.
    #[must_use]
    pub fn link_up(&self) -> bool {
        match self {
            Self::AfXdp(xdp, _) => xdp.link_up(),
            Self::Packet(packet) => packet.device.link_up(),
        }
    }

    /// MTU when the interface was opened, bytes.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        match self {
            Self::AfXdp(xdp, _) => xdp.mtu(),
            Self::Packet(packet) => packet.device.mtu(),
        }
    }

    /// How its XDP program is attached; `None` without one.
    #[must_use]
    pub fn attach_mode(&self) -> Option<AttachMode> {
        match self {
            Self::AfXdp(xdp, _) => Some(xdp.attach_mode()),
            Self::Packet(_) => None,
        }
    }

    /// Whether received frames may have checksums that the sender has not completed, without saying
    /// so.
    #[must_use]
    pub fn csum_incomplete(&self) -> bool {
        match self {
            Self::AfXdp(xdp, _) => xdp.is_software(),
            Self::Packet(_) => false,
        }
    }

    /// Whether superframes are received and sent.
    #[must_use]
    pub const fn superframes(&self) -> bool {
        matches!(self, Self::Packet(_))
    }

    /// Where the VLAN tags of a tenant's frames are.
    #[must_use]
    pub fn vlan_tags(&self) -> VlanTags {
        match self {
            Self::AfXdp(xdp, _) => xdp.vlan_tags(),
            Self::Packet(_) => VlanTags::Restored,
        }
    }
}

impl SocketId {
    /// The kernel's counters of the socket; `None` once it is closed.
    pub(super) fn statistics(&self, umem: &Umem) -> Option<SocketStatistics> {
        match self {
            Self::AfXdp(socket) => umem.statistics(*socket),
            Self::Packet(socket) => socket.statistics(),
        }
    }

    /// Whether the kernel has refused a superframe to the underlay.
    pub(super) fn refuses_superframes(&self) -> bool {
        match self {
            Self::AfXdp(_) => false,
            Self::Packet(socket) => socket.refuses_superframes(),
        }
    }

    /// What became of the frames for a packet socket; `None` for AF_XDP, or once it is closed.
    pub(super) fn reception(&self) -> Option<packet::Reception> {
        match self {
            Self::AfXdp(_) => None,
            Self::Packet(socket) => socket.reception(),
        }
    }

    /// Whether busy polling of its queue was switched off.
    pub(super) fn busy_poll_ended(&self, umem: &Umem) -> bool {
        match self {
            Self::AfXdp(socket) => umem.busy_poll_ended(*socket),
            Self::Packet(_) => false,
        }
    }
}

/// Keeps what the host sends from a tenant with an XDP program. Without it (before Linux 6.6) only
/// what the tenant sends is kept from the host.
fn isolate_egress(name: &InterfaceName, ifindex: u32) -> Option<Isolation> {
    Isolation::attach_egress(name.as_str(), ifindex)
        .inspect_err(|error| tracing::warn!(%error, "the host's frames reach the tenant"))
        .ok()
}

/// The mode of an interface. Most tenants' interfaces have no hardware: zero-copy is required of
/// the underlay only.
const fn mode_of(configured: Mode, purpose: Purpose) -> Mode {
    match (configured, purpose) {
        (Mode::ZeroCopy, Purpose::Tenant | Purpose::Trunk) => Mode::Auto,
        (mode, _) => mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Veth tenants work beside a zero-copy underlay (finding N5).
    #[test]
    fn zero_copy_is_required_of_the_underlay_only() {
        for mode in [Mode::Auto, Mode::ZeroCopy, Mode::Copy, Mode::Generic] {
            assert_eq!(mode_of(mode, Purpose::Underlay), mode);
            for purpose in [Purpose::Tenant, Purpose::Trunk] {
                let required = mode_of(mode, purpose) == Mode::ZeroCopy;
                assert!(!required, "{mode:?} {purpose:?}");
            }
        }
        assert_eq!(mode_of(Mode::Generic, Purpose::Tenant), Mode::Generic);
    }
}
