//! Cuts a superframe into the segments that it stands for, byte for byte as Linux does
//! (net/core/skbuff.c `skb_segment`, net/ipv4/tcp_offload.c `tcp_gso_segment`,
//! net/ipv4/udp_offload.c `__udp_gso_segment`, net/ipv4/af_inet.c `inet_gso_segment`,
//! net/ipv6/ip6_offload.c `ipv6_gso_segment`).
//!
//! ```text
//! superframe   | headers |  payload ....................................... |
//! segments     | headers' | payload 0..size |
//!              | headers' | payload size..2 size |
//!              | headers' | the rest, at most size bytes |
//! ```
//!
//! Each segment has the superframe's headers but for these fields:
//!
//! - IPv4: total length; identification, which counts up by one, whether DF is set or not; header
//!   checksum.
//! - IPv6: payload length. Extension headers are repeated.
//! - TCP: sequence number; FIN and PSH only in the last segment, CWR only in the first; checksum.
//! - UDP: length; checksum. Each segment is a datagram.
//!
//! A superframe of a tunnel of the sender's (VXLAN, Geneve, GRE, IP in IP) is one whose partial checksum is
//! that of an inner packet: that one is cut, and each segment has the outer headers too, with their lengths,
//! identification and checksums.
//!
//! The lengths in the headers of the superframe are not looked at, as in Linux: its own length is
//! what counts.
//!
//! Everything here comes from a tenant and is not trusted. What can't be cut is refused with
//! [`Unsegmentable`].

mod tunnel;

use std::ops::Range;

use self::tunnel::Tunnel;
use crate::frame::offload::{SegmentKind, Segmentation, segments_of};
use crate::wire::checksum::Sum;
use crate::wire::ipv4::Ipv4;
use crate::wire::tcp::Tcp;
use crate::wire::{be16, ethernet, ipv4, ipv6, put16, tcp, udp, vlan};

/// Maximum length of all headers, bytes. Ethernet with two tags, IPv6 and TCP with all options take
/// 122, IPv4 with all options 142; the rest is for extension headers.
pub const MAX_HEADERS: usize = 256;

/// Maximum number of segments of a superframe: those of 64 KiB at 48 bytes each, the smallest that
/// Linux's TCP sends (`net.ipv4.tcp_min_snd_mss`).
pub const MAX_TCP_SEGMENTS: usize = 65_536usize.div_ceil(48);

/// Maximum number of datagrams of a superframe (include/linux/udp.h `UDP_MAX_SEGMENTS`).
pub const MAX_UDP_SEGMENTS: usize = 128;

/// Longest IPv4 packet, and longest payload of an IPv6 packet, bytes.
const MAX_IP_LEN: usize = 65_535;

/// Offsets in an IPv4 header.
const TOTAL_LEN: usize = 2;
const IDENTIFICATION: usize = 4;
/// Offset in an IPv6 header.
const PAYLOAD_LEN: usize = 4;
/// Offset in a UDP header.
const UDP_LEN: usize = 4;

/// Why a superframe can't be cut. Linux refuses the same, except where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsegmentable {
    /// Segments without payload.
    #[error("the segment size is 0")]
    Size,
    /// Not the network protocol of its [`SegmentKind`], or a version field that contradicts the
    /// EtherType (Linux ignores that field).
    #[error("not the IP version of its kind")]
    Network,
    /// Not the transport protocol of its [`SegmentKind`].
    #[error("not the transport protocol of its kind")]
    Protocol,
    /// A header that is shorter than its minimum or does not lie in the front of the frame, too many
    /// extension headers, or headers longer than [`MAX_HEADERS`] (Linux has no such limits).
    #[error("the headers are malformed or too long")]
    Headers,
    /// A fragment. (Linux cuts IPv4 fragments as if they were whole packets.)
    #[error("a fragment")]
    Fragment,
    /// An Authentication header, whose value covers the whole packet.
    #[error("an Authentication header")]
    Authenticated,
    /// A Routing header with segments left and no partial checksum: the final destination, which
    /// the checksum covers, is not known. (Linux writes a wrong checksum.)
    #[error("a Routing header without a partial checksum")]
    Routed,
    /// The partial checksum is neither that of the outermost transport header, nor that of a packet in
    /// a tunnel of the sender's.
    #[error("the partial checksum is not that of the transport header")]
    ChecksumStart,
    /// More segments than [`MAX_TCP_SEGMENTS`] (Linux has no limit) or [`MAX_UDP_SEGMENTS`].
    #[error("too many segments")]
    TooMany,
    /// Segments longer than an IP packet may be. (Linux writes a wrong length.)
    #[error("the segments are too long for IP")]
    TooLong,
}

/// Where the headers are. Offsets from the Ethernet header, bytes.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// What is before the packet that is cut.
    tunnel: Option<Tunnel>,
    ip: usize,
    transport: usize,
    /// The length of all headers.
    end: usize,
    is_v6: bool,
    is_tcp: bool,
}

/// What is written per segment.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// One segment is the whole packet: nothing but the checksum is completed, if it was partial.
    Nothing { partial: bool },
    /// IPv4: sum of the header without the changed fields, and the first identification.
    V4 { sum: Sum, identification: u16 },
    /// IPv6.
    V6,
}

/// A superframe's headers, ready to write those of each segment.
#[derive(Debug, Clone)]
pub struct Segmenter {
    /// The headers, with 0 in the fields that change.
    headers: [u8; MAX_HEADERS],
    layout: Layout,
    change: Change,
    /// Sum of the transport header and the pseudo-header, without the fields that change.
    sum: Sum,
    /// TCP: the first sequence number, and the flags that not all segments have.
    sequence: u32,
    flags: u8,
    /// Bytes of payload in each segment but the last.
    size: usize,
    payload_len: usize,
    count: usize,
}

impl Segmenter {
    /// Checks a superframe of `total_len` bytes and prepares its segments. `headers`: its front,
    /// from the Ethernet header on, with all headers in it, of which at most two may be VLAN tags;
    /// what follows them is not read. `checksum_start`: where the sum of a partial checksum begins,
    /// in bytes from the Ethernet header; the checksums are then computed from the partial one by
    /// difference. Without it they are computed from the addresses.
    ///
    /// A frame that fits into one segment is not an error: Linux ignores the segmentation of such a
    /// frame, and [`Segmenter::write`] does.
    ///
    /// # Errors
    /// [`Unsegmentable`] says what can't be cut.
    pub fn new(
        headers: &[u8],
        total_len: usize,
        segmentation: Segmentation,
        checksum_start: Option<usize>,
    ) -> Result<Self, Unsegmentable> {
        if segmentation.size == 0 {
            return Err(Unsegmentable::Size);
        }
        let front = &headers[..headers.len().min(total_len).min(MAX_HEADERS)];
        let layout = Layout::of(front, segmentation.kind, checksum_start)?;
        if checksum_start.is_some_and(|start| start != layout.transport) {
            return Err(Unsegmentable::ChecksumStart);
        }
        let size = usize::from(segmentation.size);
        let payload_len = total_len - layout.end;
        let count = segments_of(total_len, layout.end, segmentation.size);
        let most = if layout.is_tcp {
            MAX_TCP_SEGMENTS
        } else {
            MAX_UDP_SEGMENTS
        };
        if count > most {
            return Err(Unsegmentable::TooMany);
        }
        // The length in an IPv6 header is that of what follows it.
        let outermost = layout
            .tunnel
            .map_or((layout.ip, layout.is_v6), |it| (it.ip, it.is_v6));
        let not_counted = outermost.0 + if outermost.1 { ipv6::LEN } else { 0 };
        if count > 1 && layout.end - not_counted + size > MAX_IP_LEN {
            return Err(Unsegmentable::TooLong);
        }
        let mut segmenter = Self {
            headers: [0; MAX_HEADERS],
            layout,
            change: Change::Nothing {
                partial: checksum_start.is_some(),
            },
            sum: Sum::new(),
            sequence: 0,
            flags: 0,
            size,
            payload_len,
            count,
        };
        segmenter.headers[..layout.end].copy_from_slice(&front[..layout.end]);
        if count > 1 {
            segmenter.prepare(total_len, checksum_start.is_some());
        } else {
            segmenter.sum = Sum::new().bytes(&front[layout.transport..layout.end]);
        }
        Ok(segmenter)
    }

    /// Takes the fields that change out of the headers, and sums up the rest.
    fn prepare(&mut self, total_len: usize, is_partial: bool) {
        let Layout {
            ip, transport, end, ..
        } = self.layout;
        let (network, segment) = self.headers[ip..end].split_at_mut(transport - ip);
        let (checksum, protocol) = if self.layout.is_tcp {
            let sequence = &mut segment[tcp::SEQUENCE..][..4];
            self.sequence =
                u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
            sequence.fill(0);
            self.flags = segment[tcp::FLAGS] & (tcp::FIN | tcp::PSH | tcp::CWR);
            segment[tcp::FLAGS] &= !self.flags;
            (tcp::CHECKSUM, tcp::PROTOCOL)
        } else {
            (udp::CHECKSUM, udp::PROTOCOL)
        };
        self.sum = if is_partial {
            // The partial checksum has the length of the superframe in it.
            let len = if self.layout.is_tcp {
                total_len - transport
            } else {
                usize::from(be16(segment, UDP_LEN))
            };
            Sum::new()
                .word(be16(segment, checksum))
                .word(!(len as u16))
                .word(!((len >> 16) as u16))
        } else if self.layout.is_v6 {
            Sum::new().pseudo_header(&network[8..40], protocol, 0)
        } else {
            Sum::new().pseudo_header(&network[12..20], protocol, 0)
        };
        put16(segment, checksum, 0);
        if !self.layout.is_tcp {
            put16(segment, UDP_LEN, 0);
        }
        self.sum = self.sum.then(Sum::new().bytes(segment), false);
        self.change = if self.layout.is_v6 {
            Change::V6
        } else {
            let identification = be16(network, IDENTIFICATION);
            for field in [TOTAL_LEN, IDENTIFICATION, ipv4::CHECKSUM] {
                put16(network, field, 0);
            }
            Change::V4 {
                sum: Sum::new().bytes(network),
                identification,
            }
        };
    }

    /// The number of segments, at least 1: then it is a plain frame.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The length of each segment's headers, bytes, from the Ethernet header to the end of the
    /// transport header.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.layout.end
    }

    /// Whether the packet that is cut is inside a tunnel of the sender's.
    #[inline]
    #[must_use]
    pub const fn is_in_tunnel(&self) -> bool {
        self.layout.tunnel.is_some()
    }

    /// The length of the longest segment, bytes, with its headers.
    #[inline]
    #[must_use]
    pub fn longest(&self) -> usize {
        self.layout.end + self.size.min(self.payload_len)
    }

    /// The payload of segment `index`, in bytes from the Ethernet header of the superframe. Empty
    /// only for a plain frame without payload.
    #[inline]
    #[must_use]
    pub fn payload(&self, index: usize) -> Range<usize> {
        let start = self.layout.end + index * self.size;
        start..(start + self.size).min(self.layout.end + self.payload_len)
    }

    /// Writes the headers of segment `index` to the front of `out`; returns the range of its
    /// payload, as [`Segmenter::payload`] does, whose sum is `payload_sum`. The transport checksum
    /// is complete then; that of a plain frame only if it was partial, else it is left as it is.
    ///
    /// # Panics
    /// If `out` is shorter than [`Segmenter::header_len`], or `index` is not less than
    /// [`Segmenter::count`].
    #[inline]
    pub fn write(&self, index: usize, out: &mut [u8], payload_sum: Sum) -> Range<usize> {
        let range = self.write_packet(index, out, payload_sum);
        if let Some(tunnel) = &self.layout.tunnel {
            tunnel.write(index, &mut out[..self.layout.end], range.len(), payload_sum);
        }
        range
    }

    #[inline(always)]
    fn write_packet(&self, index: usize, out: &mut [u8], payload_sum: Sum) -> Range<usize> {
        assert!(index < self.count, "no such segment");
        let Layout {
            ip, transport, end, ..
        } = self.layout;
        let out = &mut out[..end];
        out.copy_from_slice(&self.headers[..end]);
        let range = self.payload(index);
        let (network, segment) = out[ip..].split_at_mut(transport - ip);
        let len = segment.len() + range.len();
        match self.change {
            Change::Nothing { partial: false } => return range,
            Change::Nothing { partial: true } => {
                self.finish(segment, self.sum, payload_sum);
                return range;
            }
            Change::V4 {
                sum,
                identification,
            } => {
                let total = (network.len() + len) as u16;
                let id = identification.wrapping_add(index as u16);
                put16(network, TOTAL_LEN, total);
                put16(network, IDENTIFICATION, id);
                put16(network, ipv4::CHECKSUM, sum.word(total).word(id).checksum());
            }
            Change::V6 => put16(
                network,
                PAYLOAD_LEN,
                (network.len() - ipv6::LEN + len) as u16,
            ),
        }
        let sum = if self.layout.is_tcp {
            self.write_tcp(index, segment, self.sum.word(len as u16))
        } else {
            put16(segment, UDP_LEN, len as u16);
            // In the header and in the pseudo-header.
            self.sum.word(len as u16).word(len as u16)
        };
        self.finish(segment, sum, payload_sum);
        range
    }

    /// Writes sequence number and flags, and adds them to `sum`.
    #[inline(always)]
    fn write_tcp(&self, index: usize, segment: &mut [u8], sum: Sum) -> Sum {
        let sequence = self
            .sequence
            .wrapping_add((index * self.size) as u32)
            .to_be_bytes();
        segment[tcp::SEQUENCE..tcp::SEQUENCE + 4].copy_from_slice(&sequence);
        let mut absent = 0;
        if index != 0 {
            absent |= tcp::CWR;
        }
        if index + 1 != self.count {
            absent |= tcp::FIN | tcp::PSH;
        }
        let flags = self.flags & !absent;
        segment[tcp::FLAGS] |= flags;
        sum.bytes(&sequence).word(u16::from(flags))
    }

    /// Writes the transport checksum.
    #[inline(always)]
    fn finish(&self, segment: &mut [u8], sum: Sum, payload_sum: Sum) {
        // Transport headers have an even length.
        let checksum = sum.then(payload_sum, false).checksum();
        if self.layout.is_tcp {
            put16(segment, tcp::CHECKSUM, checksum);
        } else {
            put16(segment, udp::CHECKSUM, udp::never_zero(checksum));
        }
    }
}

/// The end of the transport header at `transport`.
fn headers_end(front: &[u8], transport: usize, is_tcp: bool) -> Result<usize, Unsegmentable> {
    let header = front.get(transport..).ok_or(Unsegmentable::Headers)?;
    let (len, least) = if is_tcp {
        let header = Tcp::parse(header).ok_or(Unsegmentable::Headers)?;
        (header.header_len(), tcp::LEN)
    } else {
        (udp::LEN, udp::LEN)
    };
    if len < least || len > header.len() {
        return Err(Unsegmentable::Headers);
    }
    Ok(transport + len)
}

impl Layout {
    /// The layout of a frame that begins with `front`. `checksum_start`: of a partial checksum.
    fn of(
        front: &[u8],
        kind: SegmentKind,
        checksum_start: Option<usize>,
    ) -> Result<Self, Unsegmentable> {
        let is_partial = checksum_start.is_some();
        let (ethertype, ip) = vlan::skip(front).ok_or(Unsegmentable::Headers)?;
        if let Some(start) = checksum_start
            && let Some(tunnel) = Tunnel::of(front, (ethertype, ip), start)
        {
            return tunnel.inside(front, kind, start);
        }
        let is_v6 = match (ethertype, kind) {
            (ethernet::IPV4, SegmentKind::TcpV4 | SegmentKind::Udp) => false,
            (ethernet::IPV6, SegmentKind::TcpV6 | SegmentKind::Udp) => true,
            _ => return Err(Unsegmentable::Network),
        };
        let packet = &front[ip..];
        let (protocol, offset) = if is_v6 {
            of_v6(packet, is_partial)?
        } else {
            of_v4(packet)?
        };
        let is_tcp = kind != SegmentKind::Udp;
        let wanted = if is_tcp { tcp::PROTOCOL } else { udp::PROTOCOL };
        if protocol != wanted {
            return Err(Unsegmentable::Protocol);
        }
        let transport = ip + offset;
        Ok(Self {
            tunnel: None,
            ip,
            transport,
            end: headers_end(front, transport, is_tcp)?,
            is_v6,
            is_tcp,
        })
    }
}

/// The transport protocol of an IPv4 packet, and the length of its IP header.
fn of_v4(packet: &[u8]) -> Result<(u8, usize), Unsegmentable> {
    let header = Ipv4::parse(packet).ok_or(Unsegmentable::Headers)?;
    if header.version() != 4 {
        return Err(Unsegmentable::Network);
    }
    if header.header_len() < ipv4::LEN {
        return Err(Unsegmentable::Headers);
    }
    if header.is_fragment() {
        return Err(Unsegmentable::Fragment);
    }
    Ok((header.protocol(), header.header_len()))
}

/// The transport protocol of an IPv6 packet, and the length of its headers before that.
fn of_v6(packet: &[u8], is_partial: bool) -> Result<(u8, usize), Unsegmentable> {
    let header = ipv6::Ipv6::parse(packet).ok_or(Unsegmentable::Headers)?;
    if header.version() != 6 {
        return Err(Unsegmentable::Network);
    }
    let upper = ipv6::upper(packet).ok_or(Unsegmentable::Headers)?;
    if upper.fragment.is_some() {
        return Err(Unsegmentable::Fragment);
    }
    if upper.authenticated {
        return Err(Unsegmentable::Authenticated);
    }
    if upper.routed && !is_partial {
        return Err(Unsegmentable::Routed);
    }
    Ok((upper.protocol, upper.offset))
}

#[cfg(test)]
mod tests;
