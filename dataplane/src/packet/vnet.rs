//! The vnet header before each frame of a packet socket (`PACKET_VNET_HDR`): what the frame's sender
//! left to hardware. No I/O.
//!
//! ```text
//! struct virtio_net_hdr, include/uapi/linux/virtio_net.h, in the byte order of the host
//!
//!  1       1          2         2          2            2          10 bytes
//! +-------+----------+---------+----------+------------+-------------+
//! | flags | gso_type | hdr_len | gso_size | csum_start | csum_offset |
//! +-------+----------+---------+----------+------------+-------------+
//! ```
//!
//! Every value of a received header may be chosen by a guest that writes to its tap: it is checked
//! against the bytes of the frame.

use crate::frame::offload::{ChecksumState, Offload, SegmentKind, Segmentation, segments_of};
use crate::wire::ipv4::Ipv4;
use crate::wire::{ethernet, ipv6, tcp, udp, vlan};

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;

/// `VIRTIO_NET_HDR_GSO_*`.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// A vnet header.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The transport header or its checksum lie outside of the frame's first segment.
    #[error("the checksum lies outside of the frame's headers")]
    Checksum,
    /// The frame is not what is to be cut: another protocol, a fragment, no segment size.
    #[error("the frame can't be cut as its vnet header says")]
    Segmentation,
}

/// The transport header of a frame, outside of any tunnel.
#[derive(Debug, Clone, Copy)]
struct Transport {
    ipv6: bool,
    protocol: u8,
    /// Offset from the frame's first byte.
    at: usize,
}

impl Transport {
    /// `None` when there is none in `frame`, the first segment, or the packet is a fragment.
    fn of(frame: &[u8]) -> Option<Self> {
        let (ethertype, at) = vlan::skip(frame)?;
        let packet = frame.get(at..)?;
        match ethertype {
            ethernet::IPV4 => {
                let header = Ipv4::parse(packet)?;
                let plain = header.version() == 4
                    && header.header_len() >= crate::wire::ipv4::LEN
                    && !header.is_fragment();
                plain.then_some(Self {
                    ipv6: false,
                    protocol: header.protocol(),
                    at: at + header.header_len(),
                })
            }
            ethernet::IPV6 if packet.first()? >> 4 == 6 => {
                let upper = ipv6::upper(packet)?;
                upper.fragment.is_none().then_some(Self {
                    ipv6: true,
                    protocol: upper.protocol,
                    at: at + upper.offset,
                })
            }
            _ => None,
        }
    }

    fn is(self, kind: SegmentKind) -> bool {
        match kind {
            SegmentKind::TcpV4 => self.protocol == tcp::PROTOCOL && !self.ipv6,
            SegmentKind::TcpV6 => self.protocol == tcp::PROTOCOL && self.ipv6,
            SegmentKind::Udp => self.protocol == udp::PROTOCOL,
        }
    }
}

/// The end of the headers that each segment repeats, from the frame's first byte, when the transport
/// header begins at `at`; `None` when it is not in `frame`, the first segment.
fn headers_end(frame: &[u8], at: usize, kind: SegmentKind) -> Option<usize> {
    let header = frame.get(at..)?;
    let len = match kind {
        SegmentKind::Udp => udp::LEN,
        SegmentKind::TcpV4 | SegmentKind::TcpV6 => usize::from(header.get(12)? >> 4) * 4,
    };
    let least = if kind == SegmentKind::Udp {
        udp::LEN
    } else {
        tcp::LEN
    };
    (len >= least && len <= header.len()).then_some(at + len)
}

/// Offset of the checksum in the transport header, bytes.
const fn checksum_offset(kind: SegmentKind) -> u16 {
    match kind {
        SegmentKind::Udp => udp::CHECKSUM as u16,
        SegmentKind::TcpV4 | SegmentKind::TcpV6 => tcp::CHECKSUM as u16,
    }
}

impl VnetHeader {
    /// Length, bytes.
    pub const LEN: usize = size_of::<Self>();

    /// A header of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: field(2),
            gso_size: field(4),
            csum_start: field(6),
            csum_offset: field(8),
        }
    }

    /// The header of a superframe of UDP to send, whose datagrams have `size` bytes of payload each,
    /// and whose headers, of `headers` bytes, have the sum of the pseudo-header as the checksum.
    #[must_use]
    pub(super) const fn of_datagrams(headers: usize, size: usize) -> Self {
        Self {
            flags: NEEDS_CSUM,
            gso_type: GSO_UDP_L4,
            hdr_len: headers as u16,
            gso_size: size as u16,
            csum_start: (headers - udp::LEN) as u16,
            csum_offset: udp::CHECKSUM as u16,
        }
    }

    /// Whether the frame is to be cut.
    #[inline]
    #[must_use]
    pub const fn is_superframe(self) -> bool {
        self.gso_type != GSO_NONE
    }

    /// Whether frames with both headers are cut in the same way. How many bytes are in the linear part
    /// of the kernel's buffer does not matter.
    #[inline]
    pub(super) fn is_cut_as(self, other: Self) -> bool {
        let hdr_len = self.hdr_len;
        self == Self { hdr_len, ..other }
    }

    /// The segments that a frame to send of `len` bytes stands for: it was counted as so many.
    #[must_use]
    pub const fn segments(self, len: usize) -> usize {
        if self.is_superframe() {
            segments_of(len, self.hdr_len as usize, self.gso_size)
        } else {
            1
        }
    }

    /// The offload of a received frame of `len` bytes, whose first segment is `frame`, `start` bytes
    /// after the start of its chunk. `None` when nothing is left to be done, as for most frames.
    ///
    /// # Errors
    /// [`Invalid`]: the frame must be dropped.
    #[inline]
    pub fn offload(self, frame: &[u8], start: u16, len: usize) -> Result<Option<Offload>, Invalid> {
        if self.flags & NEEDS_CSUM == 0 && self.gso_type == GSO_NONE {
            return Ok(None);
        }
        self.parse(frame, start, len)
    }

    fn parse(self, frame: &[u8], start: u16, len: usize) -> Result<Option<Offload>, Invalid> {
        let checksum = if self.flags & NEEDS_CSUM == 0 {
            ChecksumState::Unknown
        } else {
            let from = usize::from(self.csum_start);
            let end = from + usize::from(self.csum_offset) + 2;
            let chunk_start = usize::from(start) + from;
            if from < ethernet::LEN
                || end > frame.len()
                || chunk_start >= usize::from(ChecksumState::MAX_OFFSET)
                || self.csum_offset >= ChecksumState::MAX_OFFSET
            {
                return Err(Invalid::Checksum);
            }
            ChecksumState::Partial {
                start: chunk_start as u16,
                offset: self.csum_offset,
            }
        };
        let segmentation = self.segmentation(frame, len)?;
        let offload = Offload {
            segmentation,
            checksum,
            vlan_tci: None,
        };
        Ok((offload != Offload::default()).then_some(offload))
    }

    /// How the frame is cut; `None` for one that is short enough, as for the kernel
    /// (include/linux/virtio_net.h, `virtio_net_hdr_to_skb`: "too small packets are not really GSO
    /// ones").
    fn segmentation(self, frame: &[u8], len: usize) -> Result<Option<Segmentation>, Invalid> {
        let kind = match self.gso_type & !GSO_ECN {
            GSO_NONE if self.gso_type == GSO_NONE => return Ok(None),
            GSO_TCPV4 => SegmentKind::TcpV4,
            GSO_TCPV6 => SegmentKind::TcpV6,
            GSO_UDP_L4 => SegmentKind::Udp,
            _ => return Err(Invalid::Segmentation),
        };
        let transport = Transport::of(frame).ok_or(Invalid::Segmentation)?;
        let partial = self.flags & NEEDS_CSUM != 0;
        let start = usize::from(self.csum_start);
        let at = if partial && start > transport.at {
            // Of a packet in a tunnel of the sender's, which is looked at where it is cut.
            start
        } else if transport.is(kind) && !(partial && start < transport.at) {
            transport.at
        } else {
            return Err(Invalid::Segmentation);
        };
        let headers = headers_end(frame, at, kind).ok_or(Invalid::Segmentation)?;
        if self.gso_size == 0 || partial && self.csum_offset != checksum_offset(kind) {
            return Err(Invalid::Segmentation);
        }
        Ok(
            (len.saturating_sub(headers) > usize::from(self.gso_size)).then_some(Segmentation {
                kind,
                size: self.gso_size,
                ecn: self.gso_type & GSO_ECN != 0,
            }),
        )
    }

    /// The header of a frame to send: arguments as in [`VnetHeader::offload`].
    ///
    /// # Errors
    /// [`Invalid`] when the frame no longer fits its offload: the kernel would refuse it.
    pub fn new(offload: Offload, frame: &[u8], start: u16) -> Result<Self, Invalid> {
        let mut header = Self::default();
        let mut transport = None;
        if let ChecksumState::Partial { start: at, offset } = offload.checksum {
            let at = at
                .checked_sub(start)
                .filter(|at| usize::from(*at) + usize::from(offset) + 2 <= frame.len())
                .ok_or(Invalid::Checksum)?;
            header.flags = NEEDS_CSUM;
            (header.csum_start, header.csum_offset) = (at, offset);
            transport = Some(usize::from(at));
        }
        if let Some(Segmentation { kind, size, ecn }) = offload.segmentation {
            let at = transport.or_else(|| Transport::of(frame).map(|transport| transport.at));
            let headers = at
                .and_then(|at| headers_end(frame, at, kind))
                .ok_or(Invalid::Segmentation)?;
            header.gso_type = match kind {
                SegmentKind::TcpV4 => GSO_TCPV4,
                SegmentKind::TcpV6 => GSO_TCPV6,
                SegmentKind::Udp => GSO_UDP_L4,
            };
            if ecn {
                header.gso_type |= GSO_ECN;
            }
            // How much the kernel puts into the linear part of its buffer.
            header.hdr_len = headers as u16;
            header.gso_size = size;
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    const START: u16 = 256;

    /// A TCP packet over IPv4 or IPv6 with a payload of 3000 bytes.
    fn packet(v6: bool) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut bytes = Vec::new();
        let payload = [0x5a; 3000];
        if v6 {
            ethernet
                .ipv6([1; 16], [2; 16], 64)
                .tcp(1, 2, 3, 4)
                .write(&mut bytes, &payload)
        } else {
            ethernet
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .tcp(1, 2, 3, 4)
                .write(&mut bytes, &payload)
        }
        .unwrap();
        bytes
    }

    /// A UDP packet with this payload.
    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1, 4789)
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    }

    fn superframe(gso_type: u8, csum_start: u16, csum_offset: u16) -> VnetHeader {
        VnetHeader {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: 0,
            gso_size: 1448,
            csum_start,
            csum_offset,
        }
    }

    fn parse(header: VnetHeader, frame: &[u8]) -> Result<Option<Offload>, Invalid> {
        header.offload(frame, START, frame.len())
    }

    #[test]
    fn a_superframe_is_described_as_its_sender_did() {
        for (v6, gso_type, kind, at) in [
            (false, GSO_TCPV4, SegmentKind::TcpV4, 34),
            (true, GSO_TCPV6 | GSO_ECN, SegmentKind::TcpV6, 54),
        ] {
            let frame = packet(v6);
            let offload = parse(superframe(gso_type, at, 16), &frame)
                .unwrap()
                .unwrap();
            let segmentation = Segmentation {
                kind,
                size: 1448,
                ecn: v6,
            };
            assert_eq!(offload.segmentation, Some(segmentation));
            let checksum = ChecksumState::Partial {
                start: START + at,
                offset: 16,
            };
            assert_eq!(offload.checksum, checksum);
            // It is sent with 50 more bytes before it, or without its first ones.
            let sent = VnetHeader::new(offload, &frame, START).unwrap();
            let expected = VnetHeader {
                hdr_len: at + 20,
                ..superframe(gso_type, at, 16)
            };
            assert_eq!(sent, expected);
            let tagged = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
            let sent = VnetHeader::new(offload, &tagged, START - 4).unwrap();
            assert_eq!((sent.csum_start, sent.hdr_len), (at + 4, at + 24));
        }
    }

    #[test]
    fn most_frames_have_nothing_left_to_do() {
        let frame = packet(false);
        assert_eq!(parse(VnetHeader::default(), &frame), Ok(None));
        let verified = VnetHeader {
            flags: 2,
            ..VnetHeader::default()
        };
        assert_eq!(parse(verified, &frame), Ok(None));
        // Too short to be cut: one segment, of which the checksum is left.
        let short = VnetHeader {
            gso_size: 3000,
            ..superframe(GSO_TCPV4, 34, 16)
        };
        let offload = parse(short, &frame).unwrap().unwrap();
        assert_eq!(offload.segmentation, None);
        assert_ne!(offload.checksum, ChecksumState::Unknown);
    }

    #[test]
    fn a_superframe_in_a_tunnel_of_the_tenants_own_is_that_of_its_inner_packet() {
        let inner = packet(false);
        let outer = datagram(&[&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat());
        let start = 42 + 8 + 34;
        let inside = parse(superframe(GSO_TCPV4, start, 16), &outer)
            .unwrap()
            .unwrap();
        assert_eq!(
            inside.segmentation.map(|it| it.kind),
            Some(SegmentKind::TcpV4)
        );
        let checksum = ChecksumState::Partial {
            start: START + start,
            offset: 16,
        };
        assert_eq!(inside.checksum, checksum);
        // Not the checksum of a datagram.
        let mixed = superframe(GSO_UDP_L4, start, 16);
        assert_eq!(parse(mixed, &outer), Err(Invalid::Segmentation));
        assert!(parse(superframe(GSO_UDP_L4, 34, 6), &outer).is_ok());
    }

    #[test]
    fn headers_that_do_not_fit_the_frame_are_refused() {
        let frame = packet(false);
        let mut fragment = frame.clone();
        fragment[20] = 0x20;
        let mut short = frame.clone();
        short[46] = 0x40;
        for (what, header, frame) in [
            ("another protocol", superframe(GSO_UDP_L4, 34, 6), &frame),
            ("another version", superframe(GSO_TCPV6, 34, 16), &frame),
            ("UFO", superframe(3, 34, 16), &frame),
            ("only the ECN bit", superframe(GSO_ECN, 34, 16), &frame),
            ("another offset", superframe(GSO_TCPV4, 34, 6), &frame),
            ("a fragment", superframe(GSO_TCPV4, 34, 16), &fragment),
            ("a short TCP header", superframe(GSO_TCPV4, 34, 16), &short),
            (
                "no size",
                VnetHeader {
                    gso_size: 0,
                    ..superframe(GSO_TCPV4, 34, 16)
                },
                &frame,
            ),
        ] {
            assert_eq!(parse(header, frame), Err(Invalid::Segmentation), "{what}");
        }
        for (start, offset) in [
            (0, 16),
            (13, 16),
            (frame.len() as u16 - 1, 0),
            (34, frame.len() as u16),
            (u16::MAX, u16::MAX),
        ] {
            assert_eq!(
                parse(superframe(GSO_NONE, start, offset), &frame),
                Err(Invalid::Checksum),
                "{start} {offset}"
            );
        }
        assert_eq!(
            parse(superframe(GSO_TCPV4, 34, 16), &frame[..40]).ok(),
            None
        );
    }

    proptest! {
        /// What is accepted from one port can be sent on another.
        #[test]
        fn any_header_is_refused_or_can_be_sent(
            bytes: [u8; VnetHeader::LEN],
            v6: bool,
            at in 12usize..74,
            value: u8,
            plausible: bool,
        ) {
            let mut frame = packet(v6);
            frame[at] = value;
            let mut header = VnetHeader::from_bytes(bytes);
            if plausible {
                header.gso_type = [GSO_TCPV4, GSO_TCPV6][usize::from(v6)];
                header.csum_start = [34, 54][usize::from(v6)];
                header.csum_offset = 16;
            }
            if let Ok(Some(offload)) = parse(header, &frame) {
                let sent = VnetHeader::new(offload, &frame, START);
                prop_assert_eq!(parse(sent.unwrap(), &frame), Ok(Some(offload)));
            }
        }
    }
}
