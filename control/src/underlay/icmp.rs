//! Raw sockets for the ICMP errors about packets that are too big (raw(7), RFC 3542 section 3).
//!
//! The kernel passes an ICMP error about a UDP packet to the socket that sent it. Frames sent over
//! AF_XDP have none: the kernel ignores the error, and only a raw socket receives it.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use mio::{Interest, Registry, Token, event::Source, unix::SourceFd};
use nix::libc;
use nix::sys::socket::SetSockOpt;
use nix::sys::socket::sockopt::SetStruct;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, ipproto};

use super::links::Links;
use super::path_mtu::{self, PathMtu, TooBig};
use super::{PendingWork, TrackedVtep, Underlay, UnderlayConfig};

/// Messages of each family read in one poll.
const READ_LIMIT: usize = 64;

/// Bytes read of a message: what it quotes beyond that is not looked at.
const LONGEST: usize = 2048;

/// `ICMP_FILTER` and `ICMPV6_FILTER` (include/uapi/linux/icmp.h, icmpv6.h).
const FILTER: libc::c_int = 1;

/// `struct icmp_filter`: a set bit blocks a type.
#[derive(Debug, Clone, Copy)]
struct IcmpFilter;
nix::setsockopt_impl!(IcmpFilter, libc::SOL_RAW, FILTER, u32, SetStruct<'_, u32>);

/// `struct icmp6_filter`: a set bit blocks a type.
#[derive(Debug, Clone, Copy)]
struct Icmp6Filter;
nix::setsockopt_impl!(
    Icmp6Filter,
    libc::SOL_ICMPV6,
    FILTER,
    [u32; 8],
    SetStruct<'_, [u32; 8]>
);

/// How many errors were received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IcmpCounts {
    /// They lowered the MTU of a path, or confirmed it.
    pub accepted: u64,
    /// They concern no VTEP here, or no packet that could have been sent.
    pub ignored: u64,
    /// Not evaluated: more than 100 in a second.
    pub rate_limited: u64,
}

/// The sockets, or why the kernel refuses one.
#[derive(Debug)]
pub(super) struct IcmpSockets {
    v4: io::Result<OwnedFd>,
    v6: io::Result<OwnedFd>,
}

impl IcmpSockets {
    /// Opens both in the network namespace of this thread.
    pub(super) fn open() -> Self {
        let v4 = raw(AddressFamily::INET, ipproto::ICMP).and_then(|socket| {
            IcmpFilter.set(&socket, &!(1 << 3))?;
            Ok(socket)
        });
        let v6 = raw(AddressFamily::INET6, ipproto::ICMPV6).and_then(|socket| {
            let mut blocked = [u32::MAX; 8];
            blocked[0] = !(1 << 2);
            Icmp6Filter.set(&socket, &blocked)?;
            Ok(socket)
        });
        Self { v4, v6 }
    }

    /// Families without a socket that tunnels use: their path MTUs are not discovered.
    fn problems(&self, config: &UnderlayConfig) -> impl Iterator<Item = String> {
        let families = [
            ("IPv4", config.local_v4.is_some(), &self.v4),
            ("IPv6", config.local_v6.is_some(), &self.v6),
        ];
        families.into_iter().filter_map(|(family, is_used, socket)| {
            let error = socket.as_ref().err().filter(|_| is_used)?;
            Some(format!(
                "can't receive ICMP errors over {family}: {error}; path MTUs are not discovered; give \
                 vtepd CAP_NET_RAW and start it again"
            ))
        })
    }

    /// Reads at most [`READ_LIMIT`] errors of each family, each with its sender. Returns whether more
    /// may wait.
    fn read(&self, mut handle: impl FnMut(TooBig, IpAddr)) -> bool {
        let mut more = false;
        let families = [
            (&self.v4, TooBig::decode_v4 as fn(&[u8]) -> Option<TooBig>),
            (&self.v6, TooBig::decode_v6),
        ];
        for (socket, decode) in families {
            let Ok(socket) = socket else { continue };
            let mut buffer = [0; LONGEST];
            let mut left = READ_LIMIT;
            while left > 0 {
                let received = rustix::net::recvfrom(socket, &mut buffer, RecvFlags::DONTWAIT);
                let Ok((length, _, sender)) = received else {
                    break;
                };
                left -= 1;
                let sender = sender.and_then(|sender| std::net::SocketAddr::try_from(sender).ok());
                if let (Some(error), Some(sender)) = (decode(&buffer[..length]), sender) {
                    handle(error, sender.ip());
                }
            }
            more |= left == 0;
        }
        more
    }

    fn each(&self, mut apply: impl FnMut(&mut SourceFd<'_>) -> io::Result<()>) -> io::Result<()> {
        [&self.v4, &self.v6]
            .into_iter()
            .flatten()
            .try_for_each(|socket| apply(&mut SourceFd(&socket.as_raw_fd())))
    }
}

impl Source for IcmpSockets {
    fn register(&mut self, to: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.each(|socket| socket.register(to, token, interests))
    }

    fn reregister(&mut self, to: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.each(|socket| socket.reregister(to, token, interests))
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        self.each(|socket| socket.deregister(from))
    }
}

fn raw(family: AddressFamily, protocol: Protocol) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(
        family,
        SocketType::RAW,
        flags,
        Some(protocol),
    )?)
}

impl TrackedVtep {
    /// The longest packet that can have been sent to it: the MTU of the interfaces of its routes,
    /// bytes.
    fn longest(&self, links: &Links) -> u32 {
        let rows = self.resolution.rows.iter();
        let links = rows.filter_map(|row| links.by_name(&row.interface));
        links.map(|link| link.mtu).max().unwrap_or(0)
    }
}

impl Underlay {
    /// Why path MTUs are not discovered, with the remedy.
    #[must_use]
    pub fn icmp_problems(&self) -> Vec<String> {
        self.icmp.problems(&self.host.config).collect()
    }

    /// Reads ICMP errors, and ends path MTUs whose time has passed.
    pub(super) fn discover_path_mtus(&mut self, now: Instant) {
        let mut errors = Vec::new();
        self.more_events |= self.icmp.read(|error, sender| errors.push((error, sender)));
        for (error, sender) in errors {
            self.too_big(error, sender, now);
        }
        for vtep in self.host.path_mtus.expire(now) {
            if let Some(tracked) = self.tracked.get_mut(&vtep) {
                tracked.pending = tracked.pending.max(PendingWork::Derive);
                tracked.ask_kernel = true;
            }
        }
    }

    /// Handles one error: about a packet to a VTEP from here, longer than the MTU that does not let
    /// it pass, and not longer than the interface lets out. The kernel handles those about its own packets, and is asked for the result.
    fn too_big(&mut self, error: TooBig, sender: IpAddr, now: Instant) {
        let config = &self.host.config;
        let from_here = [
            config.local_v4.map(IpAddr::V4),
            config.local_v6.map(IpAddr::V6),
        ]
        .contains(&Some(error.source));
        let links = &self.host.links;
        let Some(tracked) = self
            .tracked
            .get_mut(&error.destination)
            .filter(|tracked| error.mtu < error.length && error.length <= tracked.longest(links))
        else {
            self.icmp_counts.ignored += 1;
            return;
        };
        if !self.host.path_mtus.allow(now) {
            self.icmp_counts.rate_limited += 1;
            return;
        }
        if !from_here || error.udp_port != Some(config.udp_port) {
            self.icmp_counts.ignored += 1;
            tracked.ask_kernel = true;
            self.requested = true;
            return;
        }
        let narrower = |row: &super::ShowPath| error.mtu <= row.mtu;
        if !tracked.resolution.rows.iter().any(narrower) {
            self.icmp_counts.ignored += 1;
            return;
        }
        self.icmp_counts.accepted += 1;
        let learned = PathMtu {
            mtu: error.mtu,
            reporter: Some(sender),
            until: now + path_mtu::LIFETIME,
        };
        self.lower_path_mtu(error.destination, learned, now);
    }

    /// Records a path MTU of a tracked VTEP, whose paths are derived again when it has changed.
    pub(super) fn lower_path_mtu(&mut self, vtep: IpAddr, learned: PathMtu, now: Instant) {
        if !self.host.path_mtus.lower(vtep, learned) {
            return;
        }
        let reporter = learned
            .reporter
            .map_or_else(|| "the kernel".to_owned(), |it| it.to_string());
        if let Some(suppressed) = self.path_mtu_notices.allow(now) {
            tracing::info!(%vtep, mtu = learned.mtu, reporter, suppressed, "the path MTU is lower than that of the interface");
        }
        if let Some(tracked) = self.tracked.get_mut(&vtep) {
            tracked.pending = tracked.pending.max(PendingWork::Derive);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A family that no tunnel uses, as IPv6 on a host without it, needs no socket.
    #[test]
    fn a_refused_socket_of_a_family_in_use_is_a_problem() {
        let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
        let config = UnderlayConfig {
            local_v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
            local_v6: None,
            ..UnderlayConfig::default()
        };
        let opened = || Ok(std::fs::File::open("/dev/null").unwrap().into());
        let problems = |v4, v6| {
            let sockets = IcmpSockets { v4, v6 };
            sockets.problems(&config).collect::<Vec<_>>()
        };
        assert_eq!(problems(opened(), refused()), [""; 0]);
        let all = problems(refused(), refused());
        assert_eq!(all.len(), 1);
        for part in ["IPv4", "not permitted", "CAP_NET_RAW"] {
            assert!(all[0].contains(part), "{all:?}");
        }
    }
}
