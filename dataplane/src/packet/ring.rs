//! The ring of a packet socket, `TPACKET_V2` (Documentation/networking/packet_mmap.rst): the kernel
//! copies each received frame into the next slot. No system call.
//!
//! ```text
//! | tpacket2_hdr | sockaddr_ll | reserve | vnet header, 10 | frame: up to 1780 |   2048 bytes
//!                                                         ^ tp_mac, 268
//! ```

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use super::sys::{self, RingShape};
use super::tag::Tag;
use super::vnet::VnetHeader;
use crate::afxdp::Mapping;
use crate::mem::prefetch;

/// Bytes of a slot.
const SLOT: usize = 2048;

/// Bytes that are left free before a frame, so that none which is longer than the bytes after the
/// headroom of a chunk (1792 of 2048) fits into a slot.
const RESERVE: u32 = 192;

/// Slots whose headers are loaded before they are needed.
const AHEAD: usize = 3;

/// A received frame.
#[derive(Debug)]
pub(super) enum Slot<'r> {
    /// All of it is here.
    Whole {
        header: VnetHeader,
        bytes: &'r [u8],
        tag: Option<Tag>,
    },
    /// It is the next one in the socket's queue: `len` bytes, which begin with `front`.
    Queued {
        header: VnetHeader,
        front: &'r [u8],
        len: usize,
        tag: Option<Tag>,
    },
    /// It was too long for a slot, and there was no room in the socket's queue.
    Lost,
    /// The kernel's description of it is wrong.
    Bad,
}

/// The ring of one socket.
#[derive(Debug)]
pub(super) struct RxRing {
    mapping: Mapping,
    next: usize,
    slots: usize,
}

impl RxRing {
    /// Makes the ring, with at least `slots` slots. Must come before the socket is bound.
    pub(super) fn new(fd: BorrowedFd<'_>, slots: u32) -> io::Result<Self> {
        let shape = RingShape {
            slot: SLOT as u32,
            slots: slots.next_multiple_of(64),
            reserve: RESERVE,
        };
        Ok(Self {
            mapping: sys::create_ring(fd, shape)?,
            next: 0,
            slots: shape.slots as usize,
        })
    }

    fn slot(&self, number: usize) -> *mut u8 {
        debug_assert!(number < self.slots);
        // SAFETY: number < slots, and the mapping has `slots` slots of SLOT bytes.
        unsafe { self.mapping.start().add(number * SLOT) }.as_ptr()
    }

    /// The first word of the next slot: who owns it.
    fn status(&self) -> &AtomicU32 {
        // SAFETY: the slot is in the mapping, which lives as long as `self`, and aligned to SLOT; the
        // kernel and this process access this word atomically only.
        unsafe { AtomicU32::from_ptr(self.slot(self.next).cast()) }
    }

    /// Whether the kernel has no frame in the ring.
    pub(super) fn is_empty(&self) -> bool {
        self.status().load(Ordering::Relaxed) & libc::TP_STATUS_USER == 0
    }

    /// The next frame, which stays in the ring until [`RxRing::release`]; `None` when there is none.
    #[inline]
    pub(super) fn peek(&self) -> Option<Slot<'_>> {
        // Pairs with the kernel's barrier between the frame and its status (`__packet_set_status`).
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let ahead = self.slot((self.next + AHEAD) % self.slots);
        prefetch(ahead);
        prefetch(ahead.wrapping_add(256));
        // SAFETY: the slot is user space's, so that the kernel does not write to it; it begins with
        // this struct of integers, and is aligned to SLOT.
        let header = unsafe { self.slot(self.next).cast::<libc::tpacket2_hdr>().read() };
        let is_queued = status & libc::TP_STATUS_COPY != 0;
        if header.tp_snaplen < header.tp_len && !is_queued {
            return Some(Slot::Lost);
        }
        let (start, len) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        if start < size_of::<libc::tpacket2_hdr>() + VnetHeader::LEN || start + len > SLOT {
            return Some(Slot::Bad);
        }
        // SAFETY: the range was checked; the kernel does not write to the slot before it is released,
        // which needs `self` exclusively.
        let bytes = unsafe {
            let vnet = self.slot(self.next).add(start - VnetHeader::LEN);
            std::slice::from_raw_parts(vnet, VnetHeader::LEN + len)
        };
        let (vnet, bytes) = bytes.split_first_chunk()?;
        let vnet = VnetHeader::from_bytes(*vnet);
        let tag = Tag::of(status, header.tp_vlan_tci, header.tp_vlan_tpid);
        Some(if is_queued {
            Slot::Queued {
                header: vnet,
                front: bytes,
                len: header.tp_len as usize,
                tag,
            }
        } else {
            Slot::Whole {
                header: vnet,
                bytes,
                tag,
            }
        })
    }

    /// Gives the next slot back to the kernel.
    #[inline]
    pub(super) fn release(&mut self) {
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.slots;
    }
}
