//! Typed system calls of AF_XDP (include/uapi/linux/if_xdp.h). Errors are the kernel's errno as
//! [`io::Error`].

use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// One of the four rings of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RingKind {
    Rx,
    Tx,
    Fill,
    Completion,
}

impl RingKind {
    const fn option(self) -> c_int {
        match self {
            Self::Rx => libc::XDP_RX_RING,
            Self::Tx => libc::XDP_TX_RING,
            Self::Fill => libc::XDP_UMEM_FILL_RING,
            Self::Completion => libc::XDP_UMEM_COMPLETION_RING,
        }
    }

    const fn page_offset(self) -> libc::off_t {
        match self {
            Self::Rx => libc::XDP_PGOFF_RX_RING,
            Self::Tx => libc::XDP_PGOFF_TX_RING,
            Self::Fill => libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t,
            Self::Completion => libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
        }
    }

    const fn of(self, offsets: &libc::xdp_mmap_offsets) -> libc::xdp_ring_offset {
        match self {
            Self::Rx => offsets.rx,
            Self::Tx => offsets.tx,
            Self::Fill => offsets.fr,
            Self::Completion => offsets.cr,
        }
    }
}

/// The error of a system call that has returned -1.
pub(crate) fn check(result: c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A new AF_XDP socket.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: the kernel has just returned this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `setsockopt` with a plain C value.
pub(crate) fn set_option<T: Copy>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            len,
        )
    })
}

/// `getsockopt` into a plain C value for which any bytes are valid (only the structs of if_xdp.h
/// and if_packet.h, and integers).
pub(crate) fn get_option<T: Copy>(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<T> {
    // SAFETY: all-zero bytes are valid for the integer structs that this is called with.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, whose bytes may have any value.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut len,
        )
    })?;
    Ok(value)
}

/// Registers `area` as the packet memory of this socket, in chunks of `chunk_size` bytes.
pub(crate) fn register_umem(fd: BorrowedFd<'_>, area: &Mapping, chunk_size: u32) -> io::Result<()> {
    let registration = libc::xdp_umem_reg {
        addr: area.start().as_ptr() as u64,
        len: area.len() as u64,
        chunk_size,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set_option(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
}

/// Creates a ring of `entries` (a power of two) and maps it.
pub(crate) fn create_ring(
    fd: BorrowedFd<'_>,
    kind: RingKind,
    entries: u32,
    entry_size: usize,
) -> io::Result<(Mapping, libc::xdp_ring_offset)> {
    set_option(fd, libc::SOL_XDP, kind.option(), &entries)?;
    let offsets: libc::xdp_mmap_offsets = get_option(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
    let offset = kind.of(&offsets);
    let len = offset.desc as usize + entries as usize * entry_size;
    Ok((Mapping::of_ring(fd, len, kind.page_offset())?, offset))
}

/// Binds the socket to a queue. `flags` are those of `sockaddr_xdp`; with `share`, a bound socket
/// whose UMEM is shared, they must be 0: the kernel uses that socket's mode and need_wakeup
/// (net/xdp/xsk.c, `xsk_bind`).
pub(crate) fn bind(
    fd: BorrowedFd<'_>,
    ifindex: u32,
    queue: u32,
    flags: u16,
    share: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: if share.is_some() {
            libc::XDP_SHARED_UMEM
        } else {
            flags
        },
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: share.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `address`, which outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })
}

/// True when the socket was bound with zero-copy.
pub(crate) fn is_zero_copy(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let options: libc::xdp_options = get_option(fd, libc::SOL_XDP, libc::XDP_OPTIONS)?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// The kernel's counters of the socket.
pub(crate) fn statistics(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_statistics> {
    get_option(fd, libc::SOL_XDP, libc::XDP_STATISTICS)
}

/// Enables busy polling: the socket polls its queue, at most `microseconds` and `budget` frames per
/// call (Documentation/networking/af_xdp.rst and napi.rst, "busy polling").
pub(crate) fn prefer_busy_poll(
    fd: BorrowedFd<'_>,
    microseconds: c_int,
    budget: c_int,
) -> io::Result<()> {
    set_wakeups(fd, false)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &microseconds)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, &budget)
}

/// Whether the kernel knows which NAPI instance delivers the socket's frames, and so can poll it
/// (`SO_INCOMING_NAPI_ID`): not before the first frame in copy mode, and with some drivers never.
pub(crate) fn knows_napi(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let id: c_int = get_option(fd, libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID)?;
    Ok(id != 0)
}

/// Whether a kick wakes the driver of a socket that is busy-polled, or only polls its receive queue
/// (net/xdp/xsk.c, `xsk_no_wakeup`). `false` needs CAP_NET_ADMIN.
pub(crate) fn set_wakeups(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let prefer_busy_poll = c_int::from(!on);
    set_option(
        fd,
        libc::SOL_SOCKET,
        libc::SO_PREFER_BUSY_POLL,
        &prefer_busy_poll,
    )
}

/// Disables busy polling: interrupts and wakeups drive the queue again.
pub(crate) fn end_busy_poll(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_wakeups(fd, true)?;
    set_option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &0)
}

/// `XDP_MAX_TX_SKB_BUDGET` (include/uapi/linux/if_xdp.h, Linux 6.17 or later).
const MAX_TX_SKB_BUDGET: c_int = 9;

/// Sets the maximum number of frames that one kick sends in copy mode, 32 to the size of the tx
/// ring; the default is 32.
pub(crate) fn set_tx_budget(fd: BorrowedFd<'_>, frames: u32) -> io::Result<()> {
    set_option(fd, libc::SOL_XDP, MAX_TX_SKB_BUDGET, &frames)
}

/// Sets how many bytes of packets the socket may have in the network stack; the kernel doubles
/// `bytes`. Above `net.core.wmem_max` this needs CAP_NET_ADMIN.
pub(crate) fn set_send_buffer(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)
}

/// Makes the kernel process the tx ring. Never blocks.
pub(crate) fn kick_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
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
    check(sent as c_int)
}

/// Makes the kernel process the fill ring. Never blocks.
pub(crate) fn kick_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an empty buffer; the kernel writes nothing.
    let received = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            std::ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    check(received as c_int)
}

/// Memory shared with the kernel, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; its users coordinate their accesses.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` provides only an address.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: c_int, len: usize, flags: c_int, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no address is requested, so the kernel chooses one where nothing is mapped.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast())
            .map(|start| Self { start, len })
            .ok_or_else(|| io::Error::other("mmap returned address 0"))
    }

    /// The ring of a socket at `offset`.
    pub(crate) fn of_ring(fd: BorrowedFd<'_>, len: usize, offset: libc::off_t) -> io::Result<Self> {
        Self::new(
            fd.as_raw_fd(),
            len,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            offset,
        )
    }

    /// `len` zero bytes, page-aligned; in huge pages of 2 MiB if `huge`, where `len` must be a
    /// multiple of that size.
    pub(crate) fn anonymous(len: usize, huge: bool) -> io::Result<Self> {
        let pages = if huge {
            libc::MAP_HUGETLB | libc::MAP_HUGE_2MB
        } else {
            0
        };
        Self::new(
            -1,
            len,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | pages,
            0,
        )
    }

    /// The first byte.
    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; every holder of pointers into it also holds the
        // mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
