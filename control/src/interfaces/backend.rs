//! The kinds of interface. Their differences are handled here and hidden from the callers.

use std::net::IpAddr;

use vtep_dataplane::afxdp::{
    self, AttachMode, Misfit, Program, SocketConfig, Umem, XdpDevice, XskPort,
};

use super::{InterfaceSettings, Purpose};
use crate::config::InterfaceName;

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
    /// [`afxdp::Error`]; nothing stays attached.
    pub(super) fn open(
        name: &InterfaceName,
        purpose: Purpose,
        settings: &InterfaceSettings,
    ) -> Result<Self, afxdp::Error> {
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
    /// [`afxdp::Error`]; the queue stays unbound.
    pub(super) fn bind(
        &self,
        queue: u32,
        umem: &Umem,
        rings: SocketConfig,
    ) -> Result<XskPort, afxdp::Error> {
        match self {
            Self::AfXdp(xdp) => xdp.bind(queue, umem, rings),
        }
    }

    /// Replaces the addresses that the underlay program accepts VXLAN for.
    ///
    /// # Errors
    /// [`afxdp::Error`] when there are more than the program can hold.
    pub(super) fn set_endpoints(
        &mut self,
        addresses: &[IpAddr],
        udp_port: u16,
    ) -> Result<(), afxdp::Error> {
        match self {
            Self::AfXdp(xdp) => xdp.set_endpoints(addresses, udp_port),
        }
    }

    /// Passes the interface's MTU (bytes) to the program.
    ///
    /// # Errors
    /// [`afxdp::Error`] when its map can't be written.
    pub(super) fn set_mtu(&self, mtu: u32) -> Result<(), afxdp::Error> {
        match self {
            Self::AfXdp(xdp) => xdp.set_mtu(mtu),
        }
    }

    /// Why frames are copied at this MTU (bytes) although zero-copy is wanted; `None` if nothing
    /// prevents zero-copy.
    pub(super) fn misfit(&self, umem: &Umem, mtu: u32) -> Option<Misfit> {
        match self {
            Self::AfXdp(xdp) => xdp.misfit(umem, mtu),
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

    /// How the XDP program is attached.
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
