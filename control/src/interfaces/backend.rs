//! The kinds of interface. Their differences are handled here and hidden from the callers.

use std::net::IpAddr;

use vtep_dataplane::afxdp::{self, BusyPoll, Misfit, Mode, Program, Umem, XdpDevice};

use super::{InterfaceQueue, Purpose};
use crate::config::InterfaceName;
use crate::workers::QueuePort;

/// Why the kernel refused an interface or a queue.
pub type BackendError = afxdp::Error;

/// How the program of an interface is attached.
pub type AttachMode = afxdp::AttachMode;

/// How the sockets of an interface are bound.
pub type BindMode = afxdp::BindMode;

/// The kernel's counters of the sockets of an interface.
pub type SocketStatistics = afxdp::Statistics;

/// Identifies the open socket of a queue.
pub(super) type SocketId = afxdp::SocketId;

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

/// What carries an interface's frames. A second kind of interface is a second variant.
#[derive(Debug)]
pub enum Backend {
    /// A Linux interface with an XDP program and an AF_XDP socket for each receive queue.
    AfXdp(XdpDevice),
}

impl Backend {
    /// Opens an interface and attaches its program; no queue is bound yet.
    ///
    /// # Errors
    /// [`BackendError`]; nothing stays attached.
    pub(super) fn open(
        name: &InterfaceName,
        purpose: Purpose,
        settings: &InterfaceSettings,
    ) -> Result<Self, BackendError> {
        let program = match purpose {
            Purpose::Underlay => Program::Underlay {
                locals: settings.locals.clone(),
                udp_port: settings.udp_port,
            },
            Purpose::Tenant => Program::Tenant,
            Purpose::Trunk => Program::TenantTrunk,
        };
        XdpDevice::open(name.as_str(), &program, settings.mode).map(Self::AfXdp)
    }

    /// Binds a socket to a receive queue.
    ///
    /// # Errors
    /// [`BackendError`]; the queue stays unbound.
    pub(super) fn bind(
        &self,
        queue: u32,
        umem: &Umem,
        rings: QueueRings,
    ) -> Result<QueuePort, BackendError> {
        match self {
            Self::AfXdp(xdp) => xdp.bind(queue, umem, rings),
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
            Self::AfXdp(xdp) => xdp.set_endpoints(addresses, udp_port),
        }
    }

    /// Passes the interface's MTU (bytes) to the program.
    ///
    /// # Errors
    /// [`BackendError`] when its map can't be written.
    pub(super) fn set_mtu(&self, mtu: u32) -> Result<(), BackendError> {
        match self {
            Self::AfXdp(xdp) => xdp.set_mtu(mtu),
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
            Self::AfXdp(xdp) => {
                let copied = queues.iter().any(|queue| queue.mode == BindMode::Copy);
                xdp.misfit(umem, mtu).filter(|_| copied)
            }
        }
    }

    /// Whether nothing prevents zero-copy at this MTU (bytes).
    pub(super) fn zero_copy_possible(&self, umem: &Umem, mtu: u32) -> bool {
        match self {
            Self::AfXdp(xdp) => xdp.misfit(umem, mtu).is_none(),
        }
    }

    /// The kernel's counters of the socket of one queue; `None` once it is closed.
    pub(super) fn statistics(&self, umem: &Umem, socket: SocketId) -> Option<SocketStatistics> {
        match self {
            Self::AfXdp(_) => umem.statistics(socket),
        }
    }

    /// Whether busy polling of a queue was switched off.
    pub(super) fn busy_poll_ended(&self, umem: &Umem, socket: SocketId) -> bool {
        match self {
            Self::AfXdp(_) => umem.busy_poll_ended(socket),
        }
    }

    /// Pieces of frames longer than the MTU that were dropped.
    #[must_use]
    pub fn segments_dropped(&self) -> u64 {
        match self {
            Self::AfXdp(xdp) => xdp.segments_dropped(),
        }
    }

    /// Number of receive queues.
    #[must_use]
    pub fn queues(&self) -> u32 {
        match self {
            Self::AfXdp(xdp) => xdp.queues(),
        }
    }

    /// The kernel's index of the interface.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        match self {
            Self::AfXdp(xdp) => xdp.ifindex(),
        }
    }

    /// MTU when the interface was opened, bytes.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        match self {
            Self::AfXdp(xdp) => xdp.mtu(),
        }
    }

    /// How its program is attached.
    #[must_use]
    pub fn attach_mode(&self) -> AttachMode {
        match self {
            Self::AfXdp(xdp) => xdp.attach_mode(),
        }
    }

    /// Whether received frames may have checksums that the sender has not completed.
    #[must_use]
    pub fn csum_incomplete(&self) -> bool {
        match self {
            Self::AfXdp(xdp) => xdp.is_software(),
        }
    }

    /// Whether VLAN tags that the driver strips are put back.
    #[must_use]
    pub fn restores_tags(&self) -> bool {
        match self {
            Self::AfXdp(xdp) => xdp.restores_tags(),
        }
    }
}
