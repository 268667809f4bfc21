//! A socket that receives nothing, and whose existence makes the kernel join datagrams for its address
//! into superframes before packet sockets see them (`UDP_GRO`; net/ipv4/udp_offload.c,
//! `udp_gro_receive`): one superframe costs as much as one datagram.
//!
//! The kernel joins datagrams where generic receive offload is on (`ethtool -k IF`), if they have a
//! checksum.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::sys;
use crate::afxdp::set_option;

/// `SOL_UDP` and `UDP_GRO` (include/linux/socket.h, include/uapi/linux/udp.h).
const SOL_UDP: i32 = 17;
const UDP_GRO: i32 = 104;

/// An open socket of the VXLAN port of one address, of one interface.
#[derive(Debug)]
pub(super) struct GroSocket {
    _socket: OwnedFd,
}

impl GroSocket {
    /// Opens the socket for datagrams that the interface `name` receives for this address, which the
    /// host need not have yet.
    ///
    /// # Errors
    /// EADDRINUSE when the host has another socket of the port, such as that of a vxlan device.
    pub(super) fn open(name: &str, address: IpAddr, port: u16) -> io::Result<Self> {
        let family = match address {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        let fd = socket.as_fd();
        // Whatever passes the program at tcx ingress by is not queued.
        sys::block(fd)?;
        sockopt::set_socket_recv_buffer_size(fd, 0)?;
        sys::bind_to_device(fd, name)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(fd, true)?;
            set_option::<i32>(fd, libc::SOL_IPV6, libc::IPV6_FREEBIND, &1)?;
        } else {
            set_option::<i32>(fd, libc::SOL_IP, libc::IP_FREEBIND, &1)?;
        }
        set_option::<i32>(fd, SOL_UDP, UDP_GRO, &1)?;
        rustix::net::bind(fd, &SocketAddr::new(address, port))?;
        Ok(Self { _socket: socket })
    }
}
