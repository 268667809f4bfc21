//! Requests over netlink whose messages netlink-packet-route does not have: IPsec policies and chains
//! of nftables.

use std::io;
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;

use super::netlink::messages;

/// NLMSG_ERROR, NLMSG_DONE; NLM_F_REQUEST, with NLM_F_DUMP (include/uapi/linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const REQUEST_DUMP: u16 = 0x301;

/// Bytes of a netlink header.
const HEADER: usize = 16;

/// Datagrams read for one request: 32 KiB each.
const DATAGRAM_LIMIT: usize = 65_536;

const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRequest<'a> {
    /// The message type of the request.
    pub(super) kind: u16,
    /// The message type of what answers it.
    pub(super) answer: u16,
    /// What follows the netlink header.
    pub(super) payload: &'a [u8],
    /// All objects are asked for; else there is one answer.
    pub(super) dump: bool,
}

/// Opens a socket of a netlink protocol in the network namespace of the calling thread.
pub(super) fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(REPLY_TIMEOUT))?;
    Ok(socket)
}

/// Sends a request, and passes on the payload of each answer.
pub(super) fn ask(
    socket: &Socket,
    request: RawRequest<'_>,
    handle: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let flags = if request.dump { REQUEST_DUMP } else { REQUEST };
    let mut bytes = ((HEADER + request.payload.len()) as u32)
        .to_ne_bytes()
        .to_vec();
    bytes.extend(request.kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(request.payload);
    socket.send(&bytes, 0)?;
    let mut buffer = Vec::with_capacity(64 << 10);
    for _ in 0..DATAGRAM_LIMIT {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        for message in messages(&buffer) {
            match u16::from_ne_bytes([message[4], message[5]]) {
                DONE => return Ok(()),
                ERROR => {
                    let code = message.get(HEADER..).and_then(<[u8]>::first_chunk);
                    let code = code.map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(-code));
                }
                answer if answer == request.answer => {
                    handle(&message[HEADER..]);
                    if !request.dump {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The attributes (`struct nlattr`) in `bytes`: type, without the flags for nesting and byte order,
/// and value. Stops at the first that does not fit.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const TYPE_MASK: u16 = 0x3fff;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [a, b, c, d] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_attributes_end_the_list() {
        for bytes in [&[0, 0, 5, 0][..], &[3, 0], &[], &[9, 0, 1, 0, 7]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
        let two = [5, 0, 1, 0x80, 7, 0, 0, 0, 4, 0, 2, 0];
        let all: Vec<_> = attributes(&two).collect();
        assert_eq!(all, [(1, &[7][..]), (2, &[][..])]);
    }
}
