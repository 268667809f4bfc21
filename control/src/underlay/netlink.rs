//! The two NETLINK_ROUTE sockets (netlink(7), rtnetlink(7)): one for events, one for requests.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;
use rustix::net::sockopt;

/// Multicast groups (enum rtnetlink_groups, include/uapi/linux/rtnetlink.h): LINK, NEIGH,
/// IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, NEXTHOP.
const GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 32];

/// Receive buffer for events while the control thread is busy, bytes.
const EVENT_BUFFER: usize = 8 << 20;

/// Receive buffer for one datagram, bytes; the kernel's longest (a dump) has 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// Datagrams read in one poll: a flood of route changes must not block the control thread.
const READ_LIMIT: usize = 4096;

/// Requests sent before their replies are read: few enough for all replies to fit the default
/// receive buffer of 208 KiB.
const PIPELINE: usize = 64;

/// How often a dump that was interrupted by changes is tried.
const DUMP_TRIES: usize = 4;

/// Time limit for a reply: the kernel may hold its RTNL lock for another process.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// Result of reading events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// The queue is empty.
    Drained,
    /// More events wait.
    More,
    /// The kernel dropped events (ENOBUFS): only a full dump restores the state.
    Overrun,
}

/// The socket that receives the kernel's events. Non-blocking.
#[derive(Debug)]
pub(super) struct EventSocket {
    socket: Socket,
    buffer: Vec<u8>,
}

impl EventSocket {
    /// Subscribes to all groups.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN; otherwise as much as is allowed.
        if sockopt::set_socket_recv_buffer_size_force(&socket, EVENT_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, EVENT_BUFFER)?;
        }
        socket.bind_auto()?;
        for group in GROUPS {
            // Linux before 5.3 has no nexthop objects, and thus no such group.
            let joined = socket.add_membership(group);
            if group != 32 {
                joined?;
            }
        }
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// For mio.
    pub(super) fn source(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Calls `each` with every queued message.
    pub(super) fn read(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<ReadOutcome> {
        for _ in 0..READ_LIMIT {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => messages(&self.buffer).for_each(&mut each),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(ReadOutcome::Drained);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    return Ok(ReadOutcome::Overrun);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ReadOutcome::More)
    }
}

/// The kernel's reply to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// The requested object.
    Message(RouteNetlinkMessage),
    /// An error number (positive), or 0 for success.
    Code(i32),
}

/// The socket for requests. Blocking, with a time limit.
#[derive(Debug)]
pub(super) struct RequestSocket {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl RequestSocket {
    /// Opens it in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(REPLY_TIMEOUT))?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
            sequence: 0,
        })
    }

    /// As [`Self::open`]; the kernel selects what a dump asks for by the fields of its request
    /// (Linux 4.20).
    pub(super) fn open_strict() -> io::Result<Self> {
        let socket = Self::open()?;
        socket.socket.set_netlink_get_strict_chk(true)?;
        Ok(socket)
    }

    /// Sends requests in batches, and calls `each` with a request's index and its reply. Set
    /// `acknowledge` for requests without a reply of their own. Replies to earlier, abandoned
    /// requests are skipped.
    pub(super) fn transact(
        &mut self,
        requests: &[RouteNetlinkMessage],
        acknowledge: bool,
        mut each: impl FnMut(usize, Reply),
    ) -> io::Result<()> {
        let flags = if acknowledge {
            NLM_F_REQUEST | NLM_F_ACK
        } else {
            NLM_F_REQUEST
        };
        for (batch, requests) in requests.chunks(PIPELINE).enumerate() {
            let first = self.sequence.wrapping_add(1);
            self.send(requests, flags | create_flag(requests))?;
            let mut open = requests.len();
            while open > 0 {
                for (header, reply) in self.receive()? {
                    let place = header.sequence_number.wrapping_sub(first) as usize;
                    if place < requests.len() {
                        open = open.saturating_sub(1);
                        each(batch * PIPELINE + place, reply);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a whole table; again when it changed meanwhile (NLM_F_DUMP_INTR).
    pub(super) fn dump(
        &mut self,
        request: &RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut entries = Vec::new();
        for _ in 0..DUMP_TRIES {
            entries.clear();
            let interrupted = self.dump_once(request, &mut entries)?;
            if !interrupted {
                break;
            }
        }
        Ok(entries)
    }

    fn dump_once(
        &mut self,
        request: &RouteNetlinkMessage,
        out: &mut Vec<RouteNetlinkMessage>,
    ) -> io::Result<bool> {
        self.send(std::slice::from_ref(request), NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut interrupted = false;
        loop {
            for (header, reply) in self.receive()? {
                if header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match reply {
                    Reply::Message(message) => out.push(message),
                    Reply::Code(0) => return Ok(interrupted),
                    Reply::Code(error) => return Err(io::Error::from_raw_os_error(error)),
                }
            }
        }
    }

    fn send(&mut self, requests: &[RouteNetlinkMessage], flags: u16) -> io::Result<()> {
        let mut bytes = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let mut header = NetlinkHeader::default();
            header.flags = flags;
            header.sequence_number = self.sequence;
            let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request.clone()));
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[start..]);
        }
        self.socket.send(&bytes, 0).map(|_| ())
    }

    fn receive(&mut self) -> io::Result<Vec<(NetlinkHeader, Reply)>> {
        self.buffer.clear();
        self.socket
            .recv(&mut self.buffer, 0)
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("the kernel did not answer within {REPLY_TIMEOUT:?}"),
                ),
                _ => error,
            })?;
        Ok(messages(&self.buffer).filter_map(read_reply).collect())
    }
}

/// Neighbor entries are only created with NLM_F_CREATE.
fn create_flag(requests: &[RouteNetlinkMessage]) -> u16 {
    match requests.first() {
        Some(RouteNetlinkMessage::NewNeighbour(_)) => netlink_packet_core::NLM_F_CREATE,
        _ => 0,
    }
}

fn read_reply(bytes: &[u8]) -> Option<(NetlinkHeader, Reply)> {
    let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        Ok(message) => message,
        Err(error) => return unreadable(bytes, &error),
    };
    let (header, payload) = message.into_parts();
    let reply = match payload {
        NetlinkPayload::InnerMessage(inner) => Reply::Message(inner),
        NetlinkPayload::Error(error) => {
            Reply::Code(error.code.map_or(0, |code| code.get().saturating_abs()))
        }
        NetlinkPayload::Done(_) => Reply::Code(0),
        _ => return None,
    };
    Some((header, reply))
}

/// A reply that can't be parsed still completes its request, so that it is not waited for.
fn unreadable(
    bytes: &[u8],
    error: &netlink_packet_core::DecodeError,
) -> Option<(NetlinkHeader, Reply)> {
    tracing::debug!(%error, length = bytes.len(), "can't parse a netlink message");
    let mut header = NetlinkHeader::default();
    header.flags = u16::from_ne_bytes([bytes[6], bytes[7]]);
    header.sequence_number = u32::from_ne_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    let dumped = header.flags & netlink_packet_core::NLM_F_MULTIPART != 0;
    (!dumped).then_some((header, Reply::Code(Errno::BADMSG.raw_os_error())))
}

/// The messages of one datagram, header included. Stops at the first that does not fit.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        if length < 16 || length > rest.len() {
            return None;
        }
        let (message, _) = rest.split_at(length);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_datagram_is_split_into_its_messages() {
        let datagram = [message(18, 20), message(16, 16)].concat();
        let lengths: Vec<_> = messages(&datagram).map(<[u8]>::len).collect();
        assert_eq!(lengths, [18, 16]);
    }

    #[test]
    fn invalid_lengths_end_the_datagram() {
        for (length, size) in [(15, 16), (0, 16), (17, 16), (u32::MAX, 16)] {
            assert_eq!(messages(&message(length, size)).count(), 0, "{length}");
        }
        assert_eq!(messages(&[1, 0]).count(), 0);
    }

    #[test]
    fn an_unreadable_reply_still_completes_its_request() {
        let mut bytes = message(20, 20);
        bytes[4..6].copy_from_slice(&24u16.to_ne_bytes());
        bytes[8..12].copy_from_slice(&77u32.to_ne_bytes());
        let (header, reply) = read_reply(&bytes).unwrap();
        assert_eq!(
            (header.sequence_number, reply),
            (77, Reply::Code(Errno::BADMSG.raw_os_error()))
        );
    }
}
