//! TCP sockets for BGP: non-blocking, with TCP-MD5 (RFC 2385) and GTSM (RFC 5082).
//!
//! Options without a wrapper in `rustix` use `nix::setsockopt_impl!`, a typed `setsockopt` for a
//! plain structure, so that no unsafe code is needed.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::SetSockOpt;
use nix::sys::socket::sockopt::SetStruct;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// A TCP-MD5 key (RFC 2385), omitted from debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Password(pub Box<[u8]>);

impl fmt::Debug for Md5Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Password")
    }
}

/// Socket options for the connections of a neighbor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Local address; `None`: chosen by the kernel's route.
    pub local: Option<IpAddr>,
    /// TCP-MD5 password, 1 to 80 octets (`TCP_MD5SIG_MAXKEYLEN`, include/uapi/linux/tcp.h).
    pub password: Option<Md5Password>,
    /// GTSM (RFC 5082): maximum number of hops to the neighbor, 1 to 254. Packets are sent with TTL
    /// 255, and received only with a TTL of at least 256 - hops.
    pub ttl_security: Option<u8>,
}

impl TcpOptions {
    /// The least TTL of packets from the neighbor; 0 without GTSM.
    #[must_use]
    pub fn least_ttl(&self) -> u8 {
        // 256 - hops, for 1 to 254 hops.
        self.ttl_security
            .map_or(0, |hops| u8::MAX - (hops.max(1) - 1))
    }
}

/// Longest TCP-MD5 password, in octets: `TCP_MD5SIG_MAXKEYLEN`.
pub const MAX_PASSWORD_LEN: usize = 80;

/// `struct tcp_md5sig` (include/uapi/linux/tcp.h): a `sockaddr_storage` of 128 octets, then the
/// key.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub struct Md5Key {
    family: u16,
    address: [u8; 126],
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: i32,
    key: [u8; MAX_PASSWORD_LEN],
}

/// `TCP_MD5SIG`: signs and verifies all segments to and from one address.
#[derive(Debug, Clone, Copy)]
struct TcpMd5Sig;
nix::setsockopt_impl!(
    TcpMd5Sig,
    libc::IPPROTO_TCP,
    libc::TCP_MD5SIG,
    Md5Key,
    SetStruct<'_, Md5Key>
);

/// `IP_MINTTL`: drops packets with a lower TTL.
#[derive(Debug, Clone, Copy)]
struct IpMinTtl;
nix::setsockopt_impl!(
    IpMinTtl,
    libc::IPPROTO_IP,
    libc::IP_MINTTL,
    libc::c_int,
    SetStruct<'_, libc::c_int>
);

/// `IPV6_MINHOPCOUNT`: drops packets with a lower hop limit.
#[derive(Debug, Clone, Copy)]
struct Ipv6MinHopCount;
nix::setsockopt_impl!(
    Ipv6MinHopCount,
    libc::IPPROTO_IPV6,
    libc::IPV6_MINHOPCOUNT,
    libc::c_int,
    SetStruct<'_, libc::c_int>
);

impl Md5Key {
    /// Removes the key for `neighbor`: one without octets.
    fn removal(neighbor: IpAddr) -> Self {
        let (family, address) = sockaddr(neighbor);
        Self {
            family,
            address,
            flags: 0,
            prefix_len: 0,
            key_len: 0,
            ifindex: 0,
            key: [0; MAX_PASSWORD_LEN],
        }
    }

    /// The key for segments to and from `neighbor`; `None` if the password is empty or too long.
    fn new(neighbor: IpAddr, password: &[u8]) -> Option<Self> {
        let mut key = [0; MAX_PASSWORD_LEN];
        key.get_mut(..password.len())
            .filter(|field| !field.is_empty())?
            .copy_from_slice(password);
        Some(Self {
            key_len: password.len() as u16,
            key,
            ..Self::removal(neighbor)
        })
    }
}

/// The family and the rest of a `sockaddr_storage`: `sockaddr_in` has port 2, address 4;
/// `sockaddr_in6` has port 2, flow 4, address 16.
fn sockaddr(ip: IpAddr) -> (u16, [u8; 126]) {
    let mut address = [0; 126];
    let family = match ip {
        IpAddr::V4(v4) => {
            address[2..6].copy_from_slice(&v4.octets());
            libc::AF_INET
        }
        IpAddr::V6(v6) => {
            address[6..22].copy_from_slice(&v6.octets());
            libc::AF_INET6
        }
    };
    (family as u16, address)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    }
}

fn new_socket(address: IpAddr) -> io::Result<rustix::fd::OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(
        family(address),
        SocketType::STREAM,
        flags,
        Some(ipproto::TCP),
    )?)
}

/// Sets, changes or removes (`None`) the key for one neighbor on a socket; on a listening one
/// before the neighbor connects.
///
/// # Errors
/// EINVAL for a password that is empty or longer than [`MAX_PASSWORD_LEN`]; ENOENT or EOPNOTSUPP if
/// the kernel does not support TCP-MD5.
pub fn set_password(
    socket: impl AsFd,
    neighbor: IpAddr,
    password: Option<&Md5Password>,
) -> io::Result<()> {
    let key = match password {
        Some(password) => Md5Key::new(neighbor, &password.0).ok_or(io::ErrorKind::InvalidInput)?,
        None => Md5Key::removal(neighbor),
    };
    Ok(TcpMd5Sig.set(&socket.as_fd(), &key)?)
}

/// Drops packets with a TTL or hop limit below `least`; 0 for none.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_least_ttl(socket: impl AsFd, v6: bool, least: u8) -> io::Result<()> {
    let least = libc::c_int::from(least);
    if v6 {
        Ok(Ipv6MinHopCount.set(&socket.as_fd(), &least)?)
    } else {
        Ok(IpMinTtl.set(&socket.as_fd(), &least)?)
    }
}

/// Sends packets with TTL or hop limit 255, as GTSM requires (RFC 5082 section 3).
fn send_greatest_ttl(socket: impl AsFd, v6: bool) -> io::Result<()> {
    if v6 {
        sockopt::set_ipv6_unicast_hops(&socket, Some(255))?;
    } else {
        sockopt::set_ip_ttl(&socket, 255)?;
    }
    Ok(())
}

/// Sets the options of any connection of a neighbor, opened or accepted.
///
/// # Errors
/// Those of setsockopt(2).
pub fn prepare(socket: impl AsFd, neighbor: IpAddr, options: &TcpOptions) -> io::Result<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    // CS6, network control (RFC 4594 section 3.1), for priority on a congested underlay.
    const CS6: u8 = 0xc0;
    if neighbor.is_ipv6() {
        sockopt::set_ipv6_tclass(&socket, CS6.into())?;
    } else {
        sockopt::set_ip_tos(&socket, CS6)?;
    }
    if options.ttl_security.is_some() {
        send_greatest_ttl(&socket, neighbor.is_ipv6())?;
    }
    // An accepted connection has that of the listener.
    set_least_ttl(&socket, neighbor.is_ipv6(), options.least_ttl())
}

/// Starts to connect. The stream becomes writable once that completes; `take_error` returns the
/// result.
///
/// # Errors
/// Those of connect(2): EADDRNOTAVAIL if the local address is not on this host, ENETUNREACH without
/// a route, and others.
pub fn connect(to: SocketAddr, options: &TcpOptions) -> io::Result<mio::net::TcpStream> {
    let socket = new_socket(to.ip())?;
    prepare(&socket, to.ip(), options)?;
    if let Some(password) = &options.password {
        set_password(&socket, to.ip(), Some(password))?;
    }
    if let Some(local) = options.local {
        rustix::net::bind(&socket, &SocketAddr::new(local, 0))?;
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(mio::net::TcpStream::from_std(std::net::TcpStream::from(
        socket,
    )))
}

/// Maximum number of connections that wait to be accepted (listen(2)); half-open ones are in the
/// SYN queue.
pub(super) const BACKLOG: i32 = 64;

/// Listens on all addresses of one family. SYN-ACKs, and packets of accepted connections, have TTL
/// 255: a neighbor with GTSM drops others (RFC 5082), and to others it makes no difference.
///
/// # Errors
/// EADDRINUSE if another BGP daemon uses the port, EACCES without `CAP_NET_BIND_SERVICE`.
pub fn listen(v6: bool, port: u16) -> io::Result<mio::net::TcpListener> {
    let any: IpAddr = if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    };
    let socket = new_socket(any)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if v6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    send_greatest_ttl(&socket, v6)?;
    rustix::net::bind(&socket, &SocketAddr::new(any, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(mio::net::TcpListener::from_std(
        std::net::TcpListener::from(socket),
    ))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::*;

    /// A listener on loopback with a key for 127.0.0.1, and a blocking connection to it with
    /// another.
    fn exchange(theirs: Option<&str>, ours: Option<&str>) -> io::Result<Vec<u8>> {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let listener = std::net::TcpListener::bind((loopback, 0))?;
        if let Some(password) = theirs {
            set_password(
                &listener,
                loopback,
                Some(&Md5Password(password.as_bytes().into())),
            )?;
        }
        let password = ours.map(|password| Md5Password(password.as_bytes().into()));
        let options = TcpOptions {
            password,
            ..TcpOptions::default()
        };
        let stream = connect(listener.local_addr()?, &options)?;
        let mut fds = [rustix::event::PollFd::new(
            &stream,
            rustix::event::PollFlags::OUT,
        )];
        let poll_timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 300_000_000,
        };
        if rustix::event::poll(&mut fds, Some(&poll_timeout))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        let (mut accepted, _) = listener.accept()?;
        accepted.set_read_timeout(Some(Duration::from_secs(2)))?;
        (&stream).write_all(b"open")?;
        let mut bytes = vec![0; 4];
        accepted.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn the_kernel_checks_md5_signatures() {
        assert_eq!(exchange(Some("secret"), Some("secret")).unwrap(), b"open");
        assert_eq!(
            exchange(Some("secret"), Some("wrong")).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(
            exchange(Some("secret"), None).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(exchange(None, None).unwrap(), b"open");
    }

    #[test]
    fn a_password_has_1_to_80_octets() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        assert!(Md5Key::new(loopback, b"").is_none());
        assert!(Md5Key::new(loopback, &[b'x'; 81]).is_none());
        assert!(Md5Key::new("2001:db8::1".parse().unwrap(), &[b'x'; 80]).is_some());
        // sockaddr_storage 128, flags to ifindex 8, key 80.
        assert_eq!(size_of::<Md5Key>(), 216);
    }

    #[test]
    fn gtsm_drops_packets_from_too_many_hops_away() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let listener = std::net::TcpListener::bind((loopback, 0)).unwrap();
        let options = TcpOptions {
            ttl_security: Some(1),
            ..TcpOptions::default()
        };
        // The listener answers with TTL 64: its SYN-ACK is dropped.
        let stream = connect(listener.local_addr().unwrap(), &options).unwrap();
        let mut fds = [rustix::event::PollFd::new(
            &stream,
            rustix::event::PollFlags::OUT,
        )];
        let poll_timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 300_000_000,
        };
        assert_eq!(
            rustix::event::poll(&mut fds, Some(&poll_timeout)).unwrap(),
            0
        );
    }
}
