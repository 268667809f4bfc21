//! Superframes: frames that their sender left to be cut into segments ([`crate::frame::offload`]).
//! Up to its output such a frame is one frame; a device that takes superframes gets it whole, any
//! other its segments ([`super::cut`]), as if they had been received one by one.
//!
//! ```text
//! tenant_input -> lookup -> port_output     whole, or cut
//!                        -> vxlan_output    cut; each segment gets an outer header
//!                        -> flood           both, for each receiver
//! ```

use super::checksum::fill_crc32c;
use super::parse::{L3Info, Network, Part};
use super::segment::{Segmenter, Unsegmentable};
use crate::drop::DropReason;
use crate::frame::offload::{ChecksumState, Offload, SegmentKind, Segmentation};
use crate::frame::{Frame, FrameMemory, OutOfChunk};
use crate::table::port::PortEntry;
use crate::wire::checksum::Sum;
use crate::wire::tcp::{self, Tcp};
use crate::wire::{be16, ethernet, put16, sctp, udp, vlan};

/// What a frame is on the wire: itself, or the segments of a superframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireSize {
    /// Frames.
    pub(crate) frames: u64,
    /// Their bytes in total.
    pub(crate) bytes: u64,
    /// Bytes of the longest one.
    pub(crate) longest: usize,
    /// It is a superframe of a tunnel of the sender's, which no device takes whole.
    pub(crate) in_tunnel: bool,
}

impl WireSize {
    /// The size of `frame`.
    #[inline(always)]
    pub(crate) fn of<M: FrameMemory>(memory: &M, frame: &Frame) -> Self {
        if frame.has_offload() {
            Self::of_superframe(memory, frame)
        } else {
            Self::of_plain(frame.len())
        }
    }

    #[inline(always)]
    const fn of_plain(len: usize) -> Self {
        Self {
            frames: 1,
            bytes: len as u64,
            longest: len,
            in_tunnel: false,
        }
    }

    #[cold]
    fn of_superframe<M: FrameMemory>(memory: &M, frame: &Frame) -> Self {
        Self::checked(memory, frame).unwrap_or_else(|_| Self::of_plain(frame.len()))
    }

    /// The size of a frame that comes in.
    ///
    /// # Errors
    /// [`DropReason::Unsegmentable`] for a superframe that can't be cut.
    pub(super) fn checked<M: FrameMemory>(memory: &M, frame: &Frame) -> Result<Self, DropReason> {
        let segments = segmenter(memory, frame).map_err(|_| DropReason::Unsegmentable)?;
        Ok(segments.map_or(Self::of_plain(frame.len()), |segments| {
            let repeated = (segments.count() - 1) * segments.header_len();
            Self {
                frames: segments.count() as u64,
                bytes: (frame.len() + repeated) as u64,
                longest: segments.longest(),
                in_tunnel: segments.is_in_tunnel(),
            }
        }))
    }
}

/// The segments of a superframe; `None` for any other frame.
///
/// # Errors
/// What the superframe lacks to be cut.
pub(super) fn segmenter<M: FrameMemory>(
    memory: &M,
    frame: &Frame,
) -> Result<Option<Segmenter>, Unsegmentable> {
    let offload = memory.buffers().offload(frame);
    let Some(segmentation) = offload.segmentation else {
        return Ok(None);
    };
    let checksum_start = match offload.checksum {
        // A wrong start is not that of the transport header, which is checked.
        ChecksumState::Partial { start, .. } => {
            Some(usize::from(start).wrapping_sub(frame.start().into()))
        }
        ChecksumState::Unknown | ChecksumState::Valid => None,
    };
    Segmenter::new(
        memory.bytes(frame),
        frame.len(),
        segmentation,
        checksum_start,
    )
    .map(Some)
}

/// Does what a sender left to hardware, but for segmentation: inserts the tag that is kept beside
/// the frame, and completes the checksum of a frame that is not a superframe. Afterwards only
/// superframes have an offload.
///
/// # Errors
/// [`DropReason::BadDescriptor`] when there is no headroom for the tag, or the checksum lies outside
/// of the frame's first segment.
pub(super) fn receive<M: FrameMemory>(memory: &mut M, frame: &mut Frame) -> Result<(), DropReason> {
    let outside = |_| DropReason::BadDescriptor;
    let offload = memory.buffers().offload(frame);
    if let Some(tci) = offload.vlan_tci {
        if frame.first().len() < ethernet::LEN {
            return Err(DropReason::Runt);
        }
        frame.prepend(vlan::LEN as u16).map_err(outside)?;
        vlan::insert(memory.bytes_mut(frame), vlan::TPID, tci);
    }
    if offload.segmentation.is_some() {
        let vlan_tci = None;
        memory.buffers().set_offload(
            frame,
            Offload {
                vlan_tci,
                ..offload
            },
        );
        return Ok(());
    }
    if let ChecksumState::Partial { start, offset } = offload.checksum {
        complete(memory, frame, start, offset).map_err(outside)?;
    }
    memory.buffers().set_offload(frame, Offload::default());
    Ok(())
}

/// Completes a partial checksum (net/core/dev.c `skb_checksum_help`). A vnet header does not say that
/// it is the CRC32c of SCTP (`skb_crc32c_csum_help`): its offset does.
///
/// # Errors
/// [`OutOfChunk`] when the field lies outside of the frame's first segment.
fn complete<M: FrameMemory>(
    memory: &mut M,
    frame: &mut Frame,
    start: u16,
    offset: u16,
) -> Result<(), OutOfChunk> {
    let start = start.checked_sub(frame.start()).ok_or(OutOfChunk)?;
    let field = usize::from(start) + usize::from(offset);
    if field + 2 > frame.first().len() {
        return Err(OutOfChunk);
    }
    let range = start.into()..frame.len();
    if usize::from(offset) == sctp::CHECKSUM && field + 4 <= frame.first().len() {
        fill_crc32c(memory, frame, range, field);
        return Ok(());
    }
    let checksum = memory.sum(frame, range).checksum();
    // Zero means "no checksum" in UDP, and is the same sum as 0xffff in all others.
    let checksum = udp::never_zero(checksum);
    put16(memory.bytes_mut(frame), field, checksum);
    Ok(())
}

/// Makes a superframe of a TCP packet that is longer than the MTU of the port that it came from: its
/// sender left segmentation to a device, whose program was run before and does not say so. Segments
/// have the port's MTU, as the sender's have.
///
/// Only TCP: cut anywhere, its stream stays the same, whereas the length of a UDP datagram is part
/// of what it says, and the sender's is not known here.
#[cold]
pub(super) fn infer<M: FrameMemory>(memory: &mut M, frame: &mut Frame, port: &PortEntry) {
    let bytes = memory.bytes(frame);
    let l3 = L3Info::of_first(bytes, frame.len());
    let (Some(range), false) = (l3.transport_range(), l3.has_routing_header) else {
        return;
    };
    let kind = match l3.network {
        Network::V4 => SegmentKind::TcpV4,
        Network::V6 => SegmentKind::TcpV6,
        Network::Other => return,
    };
    let header = bytes.get(range.start..).and_then(Tcp::parse);
    let Some(header) = header.filter(|_| l3.protocol == tcp::PROTOCOL && l3.part == Part::Whole)
    else {
        return;
    };
    let headers = range.start + header.header_len();
    let size = usize::from(port.max_frame).saturating_sub(headers) as u16;
    let pseudo = Sum::new().pseudo_header(l3.addresses(bytes), l3.protocol, range.len());
    let sum = memory.sum(frame, range.clone());
    let field = range.start + tcp::CHECKSUM;
    let is_partial = be16(bytes, field) == pseudo.fold();
    if range.end != frame.len() || !(is_partial || pseudo.then(sum, false).is_valid()) {
        return;
    }
    put16(memory.bytes_mut(frame), field, pseudo.fold());
    let offload = Offload {
        segmentation: Some(Segmentation {
            kind,
            size,
            ecn: false,
        }),
        checksum: ChecksumState::Partial {
            start: frame.start() + range.start as u16,
            offset: tcp::CHECKSUM as u16,
        },
        vlan_tci: None,
    };
    memory.buffers().set_offload(frame, offload);
    if segmenter(memory, frame).is_err() {
        memory.buffers().set_offload(frame, Offload::default());
    }
}
