//! TCP segments that the kernel has dropped because of their TCP-MD5 signature or their TTL: the only
//! sign that a password is wrong, or that a neighbor is too far away, as TCP tells neither side (RFC
//! 2385 section 2.0, RFC 5082 section 3).

use std::fs;
use std::io;
use std::ops::Sub;
use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::GetSockOpt;
use nix::sys::socket::sockopt::GetStruct;

/// The counters of Linux (net/ipv4/proc.c): no signature where a password is set, a signature where
/// none is set, a wrong signature.
const SIGNATURE: [&str; 3] = ["TCPMD5NotFound", "TCPMD5Unexpected", "TCPMD5Failure"];

/// A TTL or hop limit below that of the socket's `IP_MINTTL` or `IPV6_MINHOPCOUNT`.
const TTL: [&str; 1] = ["TCPMinTTLDrop"];

/// Segments dropped in this network namespace, of all programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentDrops {
    /// Without the right TCP-MD5 signature.
    pub signature: u64,
    /// With a TTL below that of the socket. Those that the filter of a listener drops
    /// ([`super::ttl_filter`]) are not among them.
    pub ttl: u64,
}

impl SegmentDrops {
    /// Those so far; 0 if the kernel does not say.
    pub(super) fn read() -> Self {
        let text = fs::read_to_string("/proc/self/net/netstat");
        text.map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    /// Two lines for each group: names, then values.
    fn parse(text: &str) -> Self {
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("TcpExt: "))
            .collect();
        let [names, values] = lines[..] else {
            return Self::default();
        };
        let sum = |wanted: &[&str]| {
            names
                .split(' ')
                .zip(values.split(' '))
                .filter(|(name, _)| wanted.contains(name))
                .filter_map(|(_, value)| value.parse::<u64>().ok())
                .sum()
        };
        Self {
            signature: sum(&SIGNATURE),
            ttl: sum(&TTL),
        }
    }
}

impl Sub for SegmentDrops {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            signature: self.signature.saturating_sub(before.signature),
            ttl: self.ttl.saturating_sub(before.ttl),
        }
    }
}

/// Words of `SO_MEMINFO` up to `SK_MEMINFO_DROPS` (include/uapi/linux/sock_diag.h), which is the last.
const MEMORY_WORDS: usize = 9;

/// `SO_MEMINFO`: what a socket holds in the kernel, and what it has dropped.
#[derive(Debug, Clone, Copy)]
struct MemoryInfo;
nix::getsockopt_impl!(
    MemoryInfo,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; MEMORY_WORDS],
    GetStruct<[u32; MEMORY_WORDS]>
);

/// Segments that the kernel has dropped at a listening socket: by its filter or its least TTL, for
/// their TCP-MD5 signature, or because too many connections wait.
///
/// # Errors
/// Those of getsockopt(2).
pub(super) fn of_socket(socket: impl AsFd) -> io::Result<u64> {
    let [.., drops] = MemoryInfo.get(&socket.as_fd())?;
    Ok(drops.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_each_cause_are_added() {
        let text = "TcpExt: A TCPMD5NotFound TCPMinTTLDrop TCPMD5Unexpected TCPMD5Failure\n\
                    TcpExt: 9 1 9 2 4\nIpExt: A TCPMD5Failure\nIpExt: 9 9\n";
        let (signature, ttl) = (7, 9);
        assert_eq!(SegmentDrops::parse(text), SegmentDrops { signature, ttl });
        for text in ["", "TcpExt: A\n", "TcpExt: TCPMD5Failure\nTcpExt: -1\n"] {
            assert_eq!(SegmentDrops::parse(text), SegmentDrops::default());
        }
    }
}
