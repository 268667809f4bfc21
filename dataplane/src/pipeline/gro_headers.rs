//! The headers of TCP segments that may be joined: what they must have in common, and the header of
//! the joined frame.
//!
//! The rules are those of Linux (`tcp_gro_receive`, net/ipv4/tcp_offload.c; `inet_gro_receive`,
//! net/ipv4/af_inet.c; `ipv6_gro_receive`, net/ipv6/ip6_offload.c; `inet_gro_flush`,
//! include/net/gro.h), without what a receiver could not cut into the same segments again:
//!
//! - Segments with CWR are not joined: kernels differ in what they make of it, because accurate ECN
//!   (RFC 9768) counts with this flag.
//! - An IPv4 identification that stays the same must be that of packets with Don't Fragment, for
//!   which it has no meaning (RFC 6864).
//! - IPv6 extension headers, VLAN tags and different urgent pointers.

use crate::frame::offload::{ChecksumState, Offload, SegmentKind, Segmentation};
use crate::wire::checksum::{self, Sum};
use crate::wire::ethernet::Ethernet;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::tcp::{self, Tcp};
use crate::wire::{be16, ethernet, put16};

/// Offset of the IP header.
const IP: usize = ethernet::LEN;

/// The longest IP packet, bytes, as in the kernel (`GRO_LEGACY_MAX_SIZE`).
const MAX_PACKET: usize = 65_535;

/// More Fragments, the fragment offset and the reserved bit of an IPv4 header.
const FRAGMENT: u8 = 0xbf;
/// Don't Fragment.
const DF: u8 = 0x40;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A TCP segment with plain headers.
    Segment(TcpSegment),
    /// TCP that is never joined, of a connection that is not known.
    OtherTcp,
    /// Anything else.
    Other,
}

/// A TCP segment with plain headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TcpSegment {
    v6: bool,
    flags: u8,
    /// Offset of the TCP header.
    tcp: u16,
    /// Offset of the payload.
    payload: u16,
    /// Bytes of payload.
    len: u16,
    sequence: u32,
}

/// What `head`, the first segment of a frame of `len` bytes, begins with.
#[inline]
pub(super) fn parse(head: &[u8], len: usize) -> Parsed {
    match Ethernet::parse(head).map(Ethernet::ethertype) {
        Some(ethernet::IPV4) => parse_v4(head, len),
        Some(ethernet::IPV6) => parse_v6(head, len),
        _ => Parsed::Other,
    }
}

fn parse_v4(head: &[u8], len: usize) -> Parsed {
    match Ipv4::parse(&head[IP..]) {
        Some(ip) if ip.protocol() == tcp::PROTOCOL => {
            let plain = ip.version() == 4
                && ip.header_len() == ipv4::LEN
                && head[IP + 6] & FRAGMENT == 0
                && head[IP + 7] == 0
                && ip.total_len() == len - IP
                && ip.checksum_is_valid();
            parse_tcp(head, len, IP + ipv4::LEN, plain)
        }
        _ => Parsed::Other,
    }
}

fn parse_v6(head: &[u8], len: usize) -> Parsed {
    match Ipv6::parse(&head[IP..]) {
        Some(ip) if ip.next_header() == tcp::PROTOCOL => {
            let plain = ip.version() == 6 && ip.payload_len() == len - IP - ipv6::LEN;
            parse_tcp(head, len, IP + ipv6::LEN, plain)
        }
        // TCP may follow.
        Some(ip) if ipv6::is_extension(ip.next_header()) => Parsed::OtherTcp,
        _ => Parsed::Other,
    }
}

#[inline(always)]
fn parse_tcp(head: &[u8], len: usize, at: usize, plain: bool) -> Parsed {
    let Some(header) = head.get(at..).and_then(Tcp::parse) else {
        return Parsed::OtherTcp;
    };
    let payload = at + header.header_len();
    // Without all headers, and the first byte of the payload, in the first segment, nothing can be
    // appended to it or taken off it.
    let complete = header.header_len() >= tcp::LEN
        && payload <= head.len()
        && (payload < head.len() || payload == len);
    if !plain || !complete || len - IP > MAX_PACKET {
        return Parsed::OtherTcp;
    }
    Parsed::Segment(TcpSegment {
        v6: at != IP + ipv4::LEN,
        flags: header.flags(),
        tcp: at as u16,
        payload: payload as u16,
        len: (len - payload) as u16,
        sequence: header.sequence(),
    })
}

impl TcpSegment {
    /// Offset of the payload: the length of all headers, bytes.
    #[inline]
    pub(super) const fn headers(self) -> u16 {
        self.payload
    }

    /// Offset of the TCP header.
    #[inline]
    pub(super) const fn tcp(self) -> usize {
        self.tcp as usize
    }

    /// Whether it is data without a flag that has to be seen at once.
    #[inline]
    const fn is_data(self) -> bool {
        const NEVER: u8 = tcp::SYN | tcp::RST | tcp::URG | tcp::CWR;
        self.len > 0 && self.flags & NEVER == 0
    }

    /// Whether no segment follows it in a joined frame.
    #[inline]
    const fn ends_train(self) -> bool {
        self.flags & (tcp::FIN | tcp::PSH) != 0
    }

    /// Whether others may be appended to it.
    #[inline]
    pub(super) const fn may_start(self) -> bool {
        self.is_data() && !self.ends_train()
    }

    /// Addresses and ports: of the header that `head` begins with, without the MACs.
    #[inline]
    fn connection(self, head: &[u8]) -> &[u8] {
        let from = IP + if self.v6 { 8 } else { 12 };
        &head[from..self.tcp() + 4]
    }

    /// Whether both are segments of one connection between the same MACs. `first`, `second`: where
    /// `self` and `other` were parsed from.
    #[inline]
    pub(super) fn is_same_connection(self, first: &[u8], other: Self, second: &[u8]) -> bool {
        self.v6 == other.v6
            && self.connection(first) == other.connection(second)
            && first[..IP] == second[..IP]
    }

    /// True when the checksum is valid. `sum`: that of all bytes from the TCP header on.
    #[inline]
    pub(super) fn is_intact(self, head: &[u8], sum: Sum) -> bool {
        let len = usize::from(self.payload - self.tcp) + usize::from(self.len);
        sum.pseudo_header(self.addresses(head), tcp::PROTOCOL, len)
            .is_valid()
    }

    #[inline]
    fn addresses(self, head: &[u8]) -> &[u8] {
        let from = IP + if self.v6 { 8 } else { 12 };
        &head[from..self.tcp()]
    }
}

/// Segments that were joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Train {
    first: TcpSegment,
    /// Flags of all segments.
    flags: u8,
    count: u16,
    /// The IPv4 identification is that of the first segment in all of them.
    fixed_id: bool,
    /// Bytes of payload.
    payload: usize,
}

impl Train {
    /// One segment, which others may follow.
    #[inline]
    pub(super) const fn new(first: TcpSegment) -> Self {
        Self {
            first,
            flags: first.flags,
            count: 1,
            fixed_id: false,
            payload: first.len as usize,
        }
    }

    /// The first segment.
    #[inline]
    pub(super) const fn first(&self) -> TcpSegment {
        self.first
    }

    /// Whether `next`, a segment of the same connection, continues it. `first`, `second`: where the
    /// first segment and `next` were parsed from.
    #[inline]
    pub(super) fn is_continued(&self, first: &[u8], next: TcpSegment, second: &[u8]) -> bool {
        next.is_data()
            && next.payload == self.first.payload
            && next.len <= self.first.len
            && next.sequence == self.first.sequence.wrapping_add(self.payload as u32)
            && usize::from(next.payload) - IP + self.payload + usize::from(next.len) <= MAX_PACKET
            && self.is_same_network(first, second)
            && is_same_transport(
                &first[self.first.tcp()..usize::from(next.payload)],
                &second[self.first.tcp()..usize::from(next.payload)],
            )
    }

    /// Compares what follows the MACs up to the addresses, but the length and what depends on it.
    #[inline]
    fn is_same_network(&self, first: &[u8], second: &[u8]) -> bool {
        let same = |from: usize, to: usize| first[IP + from..IP + to] == second[IP + from..IP + to];
        if self.first.v6 {
            // Traffic class and flow label; hop limit.
            same(0, 4) && same(6, 8)
        } else {
            // TOS; Don't Fragment; time to live.
            same(0, 2) && same(6, 10) && self.is_next_id(first, second)
        }
    }

    #[inline]
    fn is_next_id(&self, first: &[u8], second: &[u8]) -> bool {
        let difference = be16(second, IP + 4).wrapping_sub(be16(first, IP + 4));
        let fixed = difference == 0 && first[IP + 6] & DF != 0;
        if self.count == 1 {
            fixed || difference == 1
        } else if self.fixed_id {
            fixed
        } else {
            difference == self.count
        }
    }

    /// Adds a segment that continues the train. True when no other may follow. `first`, `second` as
    /// in [`Train::is_continued`].
    #[inline]
    pub(super) fn add(&mut self, first: &[u8], next: TcpSegment, second: &[u8]) -> bool {
        if self.count == 1 {
            self.fixed_id = !next.v6 && first[IP + 4..IP + 6] == second[IP + 4..IP + 6];
        }
        self.count += 1;
        self.payload += usize::from(next.len);
        self.flags |= next.flags;
        next.len < self.first.len || next.ends_train()
    }

    /// Makes the header of the first segment that of the joined frame, which begins at offset
    /// `start` of its chunk: lengths, flags, and the folded sum of the pseudo-header as TCP checksum
    /// (`tcp_gro_complete`). `None` for a single segment, whose header is left as it is.
    pub(super) fn finish(&self, head: &mut [u8], start: u16) -> Option<Offload> {
        if self.count == 1 {
            return None;
        }
        let at = self.first.tcp();
        let transport = usize::from(self.first.payload) - at + self.payload;
        let ip = &mut head[IP..];
        if self.first.v6 {
            put16(ip, 4, transport as u16);
        } else {
            let (old, new) = (be16(ip, 2), (ipv4::LEN + transport) as u16);
            put16(ip, 2, new);
            let updated = checksum::updated(be16(ip, ipv4::CHECKSUM), old, new);
            put16(ip, ipv4::CHECKSUM, updated);
        }
        head[at + tcp::FLAGS] = self.flags;
        let addresses = self.first.addresses(head);
        let pseudo = Sum::new().pseudo_header(addresses, tcp::PROTOCOL, transport);
        put16(head, at + tcp::CHECKSUM, pseudo.fold());
        let kind = if self.first.v6 {
            SegmentKind::TcpV6
        } else {
            SegmentKind::TcpV4
        };
        Some(Offload {
            segmentation: Some(Segmentation {
                kind,
                size: self.first.len,
                ecn: false,
            }),
            checksum: ChecksumState::Partial {
                start: start + at as u16,
                offset: tcp::CHECKSUM as u16,
            },
            vlan_tci: None,
        })
    }
}

/// Compares two TCP headers of the same length, but sequence number, FIN, PSH and checksum.
#[inline]
fn is_same_transport(first: &[u8], second: &[u8]) -> bool {
    const IGNORED: u8 = tcp::FIN | tcp::PSH;
    let same = |from: usize, to: usize| first[from..to] == second[from..to];
    // Acknowledgment and header length; window; urgent pointer and options.
    same(8, tcp::FLAGS)
        && (first[tcp::FLAGS] ^ second[tcp::FLAGS]) & !IGNORED == 0
        && same(tcp::FLAGS + 1, tcp::CHECKSUM)
        && first[tcp::CHECKSUM + 2..] == second[tcp::CHECKSUM + 2..]
}
