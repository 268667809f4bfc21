//! The kernel's announcements of receive queues that were added or removed: uevents of the
//! subsystem `queues` (net/core/net-sysfs.c). They come for every kind of interface, also for a tap
//! whose guest attaches a queue, where ethtool sends no notification.

use std::collections::BTreeSet;
use std::io;

use mio::{Interest, Registry, Token, event::Source};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_KOBJECT_UEVENT};
use rustix::io::Errno;
use rustix::net::sockopt;

/// The multicast group of the kernel's own events; udev's are in another one.
const KERNEL: u32 = 1;

/// Receive buffer, bytes: a NIC with 256 queues sends 512 events of about 200 bytes at once.
const EVENT_BUFFER: usize = 1 << 20;

/// Longest event, bytes (`UEVENT_BUFFER_SIZE`, include/linux/kobject.h), with its headers.
const DATAGRAM: usize = 4096;

/// Events read at most in one go.
const READ_LIMIT: usize = 4096;

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueChanges {
    /// Interfaces whose queues changed.
    pub interfaces: BTreeSet<String>,
    /// Events were lost: any interface may have changed.
    pub lost: bool,
}

/// A socket that receives the events of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct QueueEvents {
    socket: Socket,
    buffer: Vec<u8>,
}

impl QueueEvents {
    /// Subscribes.
    ///
    /// # Errors
    /// When the socket can't be opened.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT)?;
        sockopt::set_socket_recv_buffer_size(&socket, EVENT_BUFFER)?;
        socket.bind(&SocketAddr::new(0, KERNEL))?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Reads the queued events.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn read(&mut self) -> io::Result<QueueChanges> {
        let mut changes = QueueChanges::default();
        for _ in 0..READ_LIMIT {
            self.buffer.clear();
            match self.socket.recv_from(&mut self.buffer, 0) {
                // Only the kernel has port 0; other processes may send to the group too.
                Ok((_, from)) if from.port_number() == 0 => {
                    changes.interfaces.extend(interface(&self.buffer));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    changes.lost = true;
                }
                Err(error) => return Err(error),
            }
        }
        // The rest is read later.
        Ok(changes)
    }
}

/// The interface whose receive queue an event announces, such as `eth0` for
/// `add@/devices/virtual/net/eth0/queues/rx-1`.
fn interface(event: &[u8]) -> Option<String> {
    let header = event.split(|byte| *byte == 0).next()?;
    let (action, path) = std::str::from_utf8(header).ok()?.split_once('@')?;
    let (device, queue) = path.rsplit_once("/queues/")?;
    let (parent, name) = device.rsplit_once('/')?;
    let concerns = matches!(action, "add" | "remove" | "online" | "offline")
        && queue.starts_with("rx-")
        && parent.ends_with("/net");
    concerns.then(|| name.to_owned())
}

impl Source for QueueEvents {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_receive_queues_name_their_interface() {
        let of = |text: &str| interface(text.as_bytes());
        let physical = "/devices/pci0000:00/0000:00:03.0/net/eth0/queues/rx-3";
        assert_eq!(
            of(&format!("add@{physical}\0ACTION=add\0SUBSYSTEM=queues\0")).as_deref(),
            Some("eth0")
        );
        assert_eq!(
            of("remove@/devices/virtual/net/tap0/queues/rx-1\0").as_deref(),
            Some("tap0")
        );
        for other in [
            "add@/devices/virtual/net/tap0/queues/tx-1",
            "add@/devices/virtual/net/tap0",
            "change@/devices/virtual/net/tap0/queues/rx-1",
            "add@/devices/virtual/block/nvme0/queues/rx-1",
            "libudev",
            "",
            "\0\0",
        ] {
            assert_eq!(of(other), None, "{other:?}");
        }
        assert_eq!(interface(&[0xff, b'@', b'/']), None);
    }
}
