//! VLAN tags that the kernel keeps beside frames.

use crate::frame::{Frame, FrameMemory, Pool};
use crate::wire::{ethernet, vlan};

/// A VLAN tag that the kernel keeps beside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) tpid: u16,
    pub(super) tci: u16,
}

impl Tag {
    /// Puts it back into the frame that it was taken from.
    #[inline]
    pub(super) fn insert<M: FrameMemory>(self, frame: &mut Frame, pool: &mut Pool<M>) {
        if frame.first().len() >= ethernet::LEN && frame.prepend(vlan::LEN as u16).is_ok() {
            let bytes = pool.memory_mut().bytes_mut(frame);
            vlan::insert(bytes, self.tpid, self.tci);
        }
    }

    /// The tag in `struct tpacket_auxdata` or `struct tpacket2_hdr`.
    pub(super) fn of(status: u32, tci: u16, tpid: u16) -> Option<Self> {
        if status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let tpid = if status & libc::TP_STATUS_VLAN_TPID_VALID == 0 {
            vlan::TPID
        } else {
            tpid
        };
        Some(Self { tpid, tci })
    }
}
