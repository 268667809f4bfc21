//! System calls of packet sockets (packet(7), include/uapi/linux/if_packet.h). Errors are the
//! kernel's errno as [`io::Error`].

use std::ffi::c_int;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use super::tag::Tag;
use crate::afxdp::{Mapping, check, get_option, set_option};

/// `PACKET_FANOUT_FLAG_IGNORE_OUTGOING` (include/uapi/linux/if_packet.h).
const FANOUT_IGNORE_OUTGOING: u32 = 0x4000;

/// All EtherTypes, in network order.
const ALL: u16 = (libc::ETH_P_ALL as u16).to_be();

/// A packet socket that receives nothing before [`bind`]. It never blocks.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    check(fd)?;
    // SAFETY: the kernel has just returned this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Each frame has a vnet header before it, in both directions, and is received with its VLAN tag as
/// auxiliary data. What is sent goes to the driver directly and is not received again.
pub(super) fn set_up(fd: BorrowedFd<'_>) -> io::Result<()> {
    for name in [
        libc::PACKET_VNET_HDR,
        libc::PACKET_AUXDATA,
        libc::PACKET_IGNORE_OUTGOING,
        libc::PACKET_QDISC_BYPASS,
    ] {
        set_option::<c_int>(fd, libc::SOL_PACKET, name, &1)?;
    }
    Ok(())
}

/// The mark of superframes that are sent (`SO_MARK`): random, so that no other program of the host
/// has it by chance or on purpose.
pub(super) fn mark() -> u32 {
    static MARK: OnceLock<u32> = OnceLock::new();
    *MARK.get_or_init(|| 1 | RandomState::new().hash_one(0) as u32)
}

/// A socket that only sends, through the interface's queueing discipline, where the kernel cuts what
/// the driver can't (net/core/dev.c, `validate_xmit_skb`): a driver that is called directly gets
/// superframes that are to be cut not at all (`__dev_direct_xmit`). `buffer` as of [`set_buffers`].
pub(super) fn superframe_socket(ifindex: u32, buffer: c_int) -> io::Result<OwnedFd> {
    let socket = self::socket()?;
    let fd = socket.as_fd();
    set_option::<c_int>(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &buffer)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_MARK, &mark())?;
    bind_to(fd, ifindex, 0)?;
    Ok(socket)
}

/// The geometry of a receive ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingShape {
    /// Bytes of a slot; a divisor of [`RingShape::BLOCK`].
    pub(super) slot: u32,
    /// Slots: a multiple of those in a block.
    pub(super) slots: u32,
    /// Bytes that the kernel leaves free before the frame, in addition to its own header.
    pub(super) reserve: u32,
}

impl RingShape {
    /// Bytes that the kernel allocates together.
    const BLOCK: u32 = 1 << 16;

    /// Bytes of all slots.
    pub(super) const fn len(self) -> usize {
        self.slot as usize * self.slots as usize
    }
}

/// Makes the kernel put received frames into a ring of slots, and those that are longer than a slot
/// into the socket's queue too, where [`Messages::receive`] finds them.
pub(super) fn create_ring(fd: BorrowedFd<'_>, shape: RingShape) -> io::Result<Mapping> {
    set_option(
        fd,
        libc::SOL_PACKET,
        libc::PACKET_VERSION,
        &(libc::tpacket_versions::TPACKET_V2 as c_int),
    )?;
    set_option(fd, libc::SOL_PACKET, libc::PACKET_RESERVE, &shape.reserve)?;
    set_option::<c_int>(fd, libc::SOL_PACKET, libc::PACKET_COPY_THRESH, &1)?;
    let request = libc::tpacket_req {
        tp_block_size: RingShape::BLOCK,
        tp_block_nr: shape.slots / (RingShape::BLOCK / shape.slot),
        tp_frame_size: shape.slot,
        tp_frame_nr: shape.slots,
    };
    set_option(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
    Mapping::of_ring(fd, shape.len(), 0)
}

/// The error that the kernel has stored for the socket, and forgets now: ENETDOWN when the interface
/// went down.
pub(super) fn take_error(fd: BorrowedFd<'_>) -> Option<i32> {
    let error: io::Result<c_int> = get_option(fd, libc::SOL_SOCKET, libc::SO_ERROR);
    error.ok().filter(|error| *error != 0)
}

/// Makes the socket receive what the program (`BPF_PROG_TYPE_SOCKET_FILTER`) says, instead of what a
/// former filter did.
pub(super) fn set_filter(fd: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let program = program.as_raw_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &program)
}

/// Binds a socket to the interface `name`.
pub(super) fn bind_to_device(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut bytes = [0_u8; libc::IFNAMSIZ];
    for (to, from) in bytes[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    set_option(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &bytes)
}

/// Sets how many bytes of packets the socket may have in the kernel, received and sent; the kernel
/// doubles both. Above `net.core.rmem_max` and `wmem_max` this needs CAP_NET_ADMIN.
pub(super) fn set_buffers(fd: BorrowedFd<'_>, receive: c_int, send: c_int) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &receive)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &send)
}

/// Receives the frames of the interface from now on.
pub(super) fn bind(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    bind_to(fd, ifindex, ALL)
}

/// Binds the socket to the interface. It receives frames of this EtherType, in network order; none
/// with 0.
fn bind_to(fd: BorrowedFd<'_>, ifindex: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: ifindex as c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `address`, which outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })
}

/// Makes the interface deliver frames for all MACs, as long as the socket is open.
pub(super) fn set_promiscuous(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: ifindex as c_int,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Makes the bound socket the first of a new group, whose sockets share the interface's frames by
/// flow. Returns the number of the group.
pub(super) fn create_group(fd: BorrowedFd<'_>) -> io::Result<u16> {
    let unique = libc::PACKET_FANOUT_FLAG_UNIQUEID | FANOUT_IGNORE_OUTGOING;
    let request = (libc::PACKET_FANOUT_HASH | unique) << 16;
    set_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &request)?;
    let group: u32 = get_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT)?;
    Ok(group as u16)
}

/// Adds the bound socket to a group.
pub(super) fn join_group(fd: BorrowedFd<'_>, group: u16) -> io::Result<()> {
    let kind = libc::PACKET_FANOUT_HASH | FANOUT_IGNORE_OUTGOING;
    let request = kind << 16 | u32::from(group);
    set_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &request)
}

/// Makes the socket receive nothing, until [`unblock`].
pub(super) fn block(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut nothing = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut nothing,
    };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Ends [`block`].
pub(super) fn unblock(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0)
}

/// `struct tpacket_stats` (include/uapi/linux/if_packet.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct PacketStatistics {
    /// Frames for the socket, with those that were dropped.
    pub(super) packets: u32,
    /// Frames that were dropped because the socket's buffer was full.
    pub(super) drops: u32,
}

/// The frames since the last call.
pub(super) fn take_statistics(fd: BorrowedFd<'_>) -> io::Result<PacketStatistics> {
    get_option(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS)
}

/// Whether the interface exists and is up: ENXIO or ENETDOWN if not.
pub(super) fn probe(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an empty message; the kernel reads nothing.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            std::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null(),
            0,
        )
    };
    match check(sent as c_int) {
        // Only after it has looked at the interface the kernel misses the vnet header
        // (net/packet/af_packet.c, `packet_snd`).
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// The auxiliary data of a frame, as the kernel writes them: one control message
/// (`struct tpacket_auxdata`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Control {
    header: libc::cmsghdr,
    data: Auxdata,
    end: u32,
}

/// `struct tpacket_auxdata` (include/uapi/linux/if_packet.h).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Auxdata {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    /// Bytes, with the vnet header.
    pub(super) len: usize,
    /// Bytes are missing, or the tag may be.
    pub(super) truncated: bool,
    pub(super) tag: Option<Tag>,
}

/// Messages for one system call, each with the same number of places for buffers. Allocated once.
#[derive(Debug)]
pub(super) struct Messages {
    headers: Box<[libc::mmsghdr]>,
    buffers: Box<[libc::iovec]>,
    control: Box<[Control]>,
}

// SAFETY: the pointers inside lead to buffers of this process, not of a thread; they are used only
// in the calls below, whose callers answer for the buffers.
unsafe impl Send for Messages {}

const NO_BUFFER: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

impl Messages {
    /// `messages` messages, and `buffers` buffers for all of them.
    pub(super) fn new(messages: usize, buffers: usize) -> Self {
        // SAFETY: these structs are integers and pointers: all-zero bytes are valid.
        let (header, control): (libc::mmsghdr, Control) = unsafe { std::mem::zeroed() };
        Self {
            headers: vec![header; messages].into(),
            buffers: vec![NO_BUFFER; buffers].into(),
            control: vec![control; messages].into(),
        }
    }

    /// Messages.
    pub(super) fn len(&self) -> usize {
        self.headers.len()
    }

    /// Buffers of all messages.
    pub(super) fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// Sets one buffer.
    #[inline]
    pub(super) fn set_buffer(&mut self, index: usize, start: *mut u8, len: usize) {
        self.buffers[index] = libc::iovec {
            iov_base: start.cast(),
            iov_len: len,
        };
    }

    /// Makes the `count` buffers from `first` those of a message.
    #[inline]
    pub(super) fn set_message(&mut self, index: usize, first: usize, count: usize) {
        let buffers = &mut self.buffers[first..first + count];
        let header = &mut self.headers[index].msg_hdr;
        header.msg_iov = buffers.as_mut_ptr();
        header.msg_iovlen = count as _;
    }

    /// Receives up to `count` frames into the buffers. Returns how many there were, which is less
    /// than `count` when no more have arrived; EAGAIN for none.
    ///
    /// # Safety
    /// All buffers of the first `count` messages are set, and the caller alone accesses them.
    #[inline]
    pub(super) unsafe fn receive(&mut self, fd: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        for (header, control) in self.headers[..count].iter_mut().zip(&mut self.control) {
            header.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
            header.msg_hdr.msg_flags = 0;
        }
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: there are `count` headers. Each one's buffers are the caller's, and its control
        // message is written to `self.control`.
        let received = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers,
                count as _,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        check(received)?;
        Ok((received as usize).min(count))
    }

    /// The first message that the last [`Messages::receive`] has received.
    #[inline]
    pub(super) fn received(&self) -> Received {
        let header = &self.headers[0];
        let flags = header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC);
        Received {
            len: header.msg_len as usize,
            truncated: flags != 0,
            tag: self.tag(),
        }
    }

    #[inline]
    fn tag(&self) -> Option<Tag> {
        let control = &self.control[0];
        let whole = self.headers[0].msg_hdr.msg_controllen
            >= size_of::<libc::cmsghdr>() + size_of::<Auxdata>()
            && control.header.cmsg_level == libc::SOL_PACKET
            && control.header.cmsg_type == libc::PACKET_AUXDATA;
        let data = control.data;
        if !whole {
            return None;
        }
        Tag::of(data.status, data.vlan_tci, data.vlan_tpid)
    }

    /// Sends the first `count` messages. Returns how many were sent, at least one.
    ///
    /// # Safety
    /// All buffers of the first `count` messages are set, and no one writes to them meanwhile.
    #[inline]
    pub(super) unsafe fn send(&mut self, fd: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        debug_assert!(count <= self.headers.len());
        // SAFETY: there are `count` headers without names and control messages; the kernel reads
        // the buffers, which are the caller's.
        let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers, count as _, flags as _) };
        check(sent)?;
        Ok((sent as usize).min(count))
    }
}
