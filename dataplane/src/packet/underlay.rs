//! Takes VXLAN from an underlay interface with packet sockets: the host's stack has all other packets,
//! and none of VXLAN to this VTEP.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use vtep_bpf::UnderlayPrograms;

use super::gro_socket::GroSocket;
use super::tcx::{Attached, Hook, TcxError, TcxLink, system_error};

/// The programs of an underlay interface; dropping it detaches them.
#[derive(Debug)]
pub struct UnderlayFilter {
    name: String,
    programs: UnderlayPrograms,
    link: TcxLink,
    /// They make the kernel join datagrams.
    gro: Vec<GroSocket>,
    /// Why datagrams are not joined for some address.
    not_joined: Option<io::Error>,
}

impl UnderlayFilter {
    /// Attaches the programs to the interface `name` with this index, before all other programs of
    /// tcx ingress. From now on VXLAN to `locals` does not reach the host.
    ///
    /// # Errors
    /// [`TcxError`].
    pub fn attach(
        name: &str,
        ifindex: u32,
        locals: &[IpAddr],
        udp_port: u16,
    ) -> Result<Self, TcxError> {
        let failed = |step| move |error| TcxError::of_bpf(name, step, &error);
        let mut programs =
            UnderlayPrograms::load().map_err(failed("load the programs of the underlay"))?;
        programs
            .set_endpoints(locals, udp_port)
            .map_err(failed("set the local VTEP addresses"))?;
        let link = TcxLink::attach((name, ifindex), Hook::Ingress, programs.ingress())?;
        Ok(Self {
            name: name.to_owned(),
            programs,
            link,
            gro: Vec::new(),
            not_joined: None,
        })
    }

    /// Makes the kernel join the datagrams that the interface receives for these addresses, where it
    /// can.
    pub fn join(&mut self, locals: &[IpAddr], udp_port: u16) {
        for address in locals.iter().filter(|address| !address.is_multicast()) {
            match GroSocket::open(&self.name, *address, udp_port) {
                Ok(socket) => self.gro.push(socket),
                Err(error) => self.not_joined = Some(error),
            }
        }
    }

    /// The filter of the sockets.
    pub(super) fn socket_filter(&self) -> io::Result<OwnedFd> {
        self.programs.filter().map_err(|error| system_error(&error))
    }

    /// Takes VXLAN to these addresses from now on, and to no other.
    ///
    /// # Errors
    /// [`TcxError`], such as ENOMEM.
    pub fn set_endpoints(&mut self, addresses: &[IpAddr], udp_port: u16) -> Result<(), TcxError> {
        let failed = |error| TcxError::of_bpf(&self.name, "set the local VTEP addresses", &error);
        let set = self.programs.set_endpoints(addresses, udp_port);
        set.map_err(failed)
    }

    /// Sets whether sockets take the packets. While none does, they are counted.
    ///
    /// # Errors
    /// [`TcxError`].
    pub fn set_taken(&self, taken: bool) -> Result<(), TcxError> {
        let failed = |error| TcxError::of_bpf(&self.name, "note the sockets", &error);
        self.programs.set_taken(taken).map_err(failed)
    }

    /// Packets that were dropped while no socket took them.
    #[must_use]
    pub fn untaken(&self) -> u64 {
        self.programs.untaken()
    }

    /// Why [`Self::join`] could not make the kernel join datagrams.
    #[must_use]
    pub const fn not_joined(&self) -> Option<&io::Error> {
        self.not_joined.as_ref()
    }

    /// The program that is attached.
    pub(super) fn attached(&self) -> Vec<Attached> {
        vec![self.link.attached()]
    }
}
