//! An interface whose frames packet sockets carry.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::error::Error;
use super::isolation::Isolation;
use super::port::PacketPort;
use super::ring::RxRing;
use super::socket::{Group, Socket};
use super::sys;
use super::tcx::Attached;
use super::underlay::UnderlayFilter;
use crate::afxdp::{Interface, Probe, Umem};

/// Bytes of received packets that are longer than a slot of its ring and that a socket may have in
/// the kernel, which doubles them: some 240 superframes. Linux' own backlog takes 1000 packets; a
/// connection may have 6 MB on the way (tcp_rmem), and loses whole superframes where several don't
/// fit.
const RECEIVE_BUFFER: i32 = 8 << 20;

/// The same of packets to send.
const SEND_BUFFER: i32 = 2 << 20;

/// Slots of the rings of an interface: short frames that wait for a worker.
const SLOTS: u32 = 1024;

/// The same of an underlay interface, which receives for all tenants: a TCP connection alone may have
/// 6 MB on the way (tcp_rmem), which are 4200 segments.
const UNDERLAY_SLOTS: u32 = 4096;

/// Slots of a ring, at least.
const LEAST_SLOTS: u32 = 256;

/// An interface, without a socket yet.
#[derive(Debug)]
pub struct PacketDevice {
    name: String,
    interface: Interface,
    group: Mutex<Weak<Group>>,
}

impl PacketDevice {
    /// The interface `name` in the caller's network namespace. Nothing is changed on it.
    ///
    /// # Errors
    /// [`Error::Interface`] when it can't be queried, [`Error::Unsuitable`] when its frames are not
    /// Ethernet.
    pub fn open(name: &str) -> Result<Self, Error> {
        let interface = Interface::named(name)?;
        if !interface.ethernet {
            return Err(Error::Unsuitable {
                interface: name.to_owned(),
                why: "its frames have no Ethernet header; use a tap instead of a tun interface",
            });
        }
        Ok(Self {
            name: name.to_owned(),
            interface,
            group: Mutex::default(),
        })
    }

    /// Opens socket `number` of `of` (at least 1) of a tenant's interface: several share the frames by
    /// flow. A socket that is closed leaves its flows to the others. Its received frames are put into
    /// chunks of `umem`.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn bind(&self, number: u32, of: u32, umem: &Umem) -> Result<PacketPort, Error> {
        self.open_socket((number, of), umem, None)
    }

    /// [`PacketDevice::bind`] for an underlay interface: the socket takes what `filter` says, and
    /// nothing that the interface would not receive by itself.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn bind_underlay(
        &self,
        number: u32,
        of: u32,
        umem: &Umem,
        filter: &UnderlayFilter,
    ) -> Result<PacketPort, Error> {
        self.open_socket((number, of), umem, Some(filter))
    }

    fn open_socket(
        &self,
        (number, of): (u32, u32),
        umem: &Umem,
        underlay: Option<&UnderlayFilter>,
    ) -> Result<PacketPort, Error> {
        let failed = |step| {
            let interface = self.name.clone();
            move |source| Error::Socket {
                interface,
                number,
                step,
                source,
            }
        };
        let fd = sys::socket().map_err(failed("open it"))?;
        sys::set_up(fd.as_fd()).map_err(failed("ask for vnet headers"))?;
        sys::set_buffers(fd.as_fd(), RECEIVE_BUFFER, SEND_BUFFER)
            .map_err(failed("set its buffers"))?;
        let slots = underlay.map_or(SLOTS, |_| UNDERLAY_SLOTS);
        let slots = (slots / of.max(1)).max(LEAST_SLOTS);
        let ring = RxRing::new(fd.as_fd(), slots).map_err(failed("create its ring"))?;
        let filter = underlay
            .map(UnderlayFilter::socket_filter)
            .transpose()
            .map_err(failed("find its filter"))?;
        let group = self
            .bind_in_group(fd.as_fd(), of, filter.as_ref())
            .map_err(failed(if of > 1 { "join its group" } else { "bind" }))?;
        if underlay.is_none() {
            sys::set_promiscuous(fd.as_fd(), self.interface.index)
                .map_err(failed("make the interface promiscuous"))?;
        }
        let superframes = sys::superframe_socket(self.interface.index, SEND_BUFFER)
            .map_err(failed("open the one for superframes"))?;
        Ok(PacketPort::new(
            (Socket::new(fd, superframes), ring),
            number,
            group,
            umem,
            underlay.is_some(),
        ))
    }

    /// Binds a socket, which receives what `filter` says.
    fn bind_in_group(
        &self,
        fd: BorrowedFd<'_>,
        of: u32,
        filter: Option<&OwnedFd>,
    ) -> io::Result<Option<Arc<Group>>> {
        let ifindex = self.interface.index;
        let set_filter = || filter.map_or(Ok(()), |filter| sys::set_filter(fd, filter.as_fd()));
        if of <= 1 {
            set_filter()?;
            return sys::bind(fd, ifindex).map(|()| None);
        }
        // Held while the socket joins: another one must not make a second group.
        let mut of_device = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = of_device.upgrade() {
            // Between the two steps it would receive frames that are for others of the group.
            sys::block(fd)?;
            sys::bind(fd, ifindex)?;
            sys::join_group(fd, group.0)?;
            if filter.is_some() {
                set_filter()?;
            } else {
                sys::unblock(fd)?;
            }
            return Ok(Some(group));
        }
        set_filter()?;
        sys::bind(fd, ifindex)?;
        let group = Arc::new(Group(sys::create_group(fd)?));
        *of_device = Arc::downgrade(&group);
        Ok(Some(group))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's index of the interface.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.interface.index
    }

    /// MTU when it was opened, bytes.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.interface.mtu
    }

    /// Whether it was up, with a carrier, when it was opened.
    #[must_use]
    pub fn link_up(&self) -> bool {
        self.interface.link_up
    }

    /// Receive queues of the interface; the number of sockets does not depend on it.
    #[must_use]
    pub fn queues(&self) -> u32 {
        self.interface.queues
    }

    /// Whether there is no device on a bus behind it.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.interface.software
    }

    /// Why packet sockets serve the interface better than AF_XDP, or why they don't.
    ///
    /// # Errors
    /// The reason for AF_XDP.
    pub fn preferred(&self) -> Result<&'static str, &'static str> {
        if self.interface.software {
            Ok(
                "an interface without hardware: its senders' segmentation and checksum offloads stay on",
            )
        } else {
            Err("an interface with hardware: XDP takes its frames before the network stack")
        }
    }

    /// What to ask about the interface with these programs attached.
    #[must_use]
    pub fn probe(&self, isolation: &Isolation) -> Probe {
        self.probe_tcx(isolation.attached())
    }

    /// [`PacketDevice::probe`] for an underlay interface.
    #[must_use]
    pub fn probe_underlay(&self, filter: &UnderlayFilter) -> Probe {
        self.probe_tcx(filter.attached())
    }

    fn probe_tcx(&self, tcx: Vec<Attached>) -> Probe {
        Probe {
            name: self.name.clone(),
            ifindex: self.interface.index,
            xdp: None,
            tcx,
        }
    }

    /// Notes how many receive queues it has now.
    pub fn set_queues(&mut self, queues: u32) {
        self.interface.queues = queues;
    }
}
