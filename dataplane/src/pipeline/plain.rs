//! The usual frame of a tenant, parsed at once: untagged IPv4 without options, not a fragment, with
//! a complete TCP or UDP checksum, and no tunnel of the tenant's own.
//!
//! Nearly every frame is one, so all conditions are one test. Any other frame is parsed by the
//! general functions ([`super::parse`], [`super::flow`], [`super::checksum`], [`super::validate`]),
//! which give the same results for the usual one.

use super::{flow, inner, validate};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::{ipv4, tcp, udp};

/// What is known of a usual frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlainFrame {
    /// Destination MAC, as [`crate::addr::MacAddr::to_bits`]: no link-local group.
    pub(super) destination: u64,
    /// Source MAC, that of a host.
    pub(super) source: u64,
    /// Hash of the flow, as [`flow::hash`].
    pub(super) flow: u64,
    /// DSCP and ECN.
    pub(super) tos: u8,
}

/// Offsets from the start of the frame.
const IP: usize = ethernet::LEN;
const TRANSPORT: usize = IP + ipv4::LEN;

/// The headers up to the end of a TCP header without options. The shortest Ethernet frame has more.
const HEADERS: usize = TRANSPORT + tcp::LEN;

/// EtherType, version 4 and header length 20, and which bits of these and TOS they are.
const FRONT: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
const FRONT_BITS: u32 = u32::from_le_bytes([0xff, 0xff, 0xff, 0]);

/// From the total length on: the fields of a fragment, More Fragments and the offset.
const FRAGMENT: u64 = u64::from_le_bytes([0, 0, 0, 0, 0x3f, 0xff, 0, 0]);

/// The 64 bits at `at`, a little-endian word: a single load.
#[inline(always)]
fn word(headers: &[u8; HEADERS], at: usize) -> u64 {
    headers[at..]
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

impl PlainFrame {
    /// Parses a frame; `None` for any but a usual one, and for one that is dropped because of its
    /// MACs. `frame`: its first segment.
    #[inline(always)]
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let headers: &[u8; HEADERS] = frame.first_chunk()?;
        let ethernet = Ethernet::parse(headers)?;
        let front = word(headers, ethernet::ETHERTYPE) as u32;
        // Total length 2, identification 2, fragment 2, TTL 1, protocol 1.
        let middle = word(headers, IP + 2);
        let protocol = (middle >> 56) as u8;
        let total = (middle as u16).swap_bytes();
        let payload = i64::from(total) - ipv4::LEN as i64;
        // Source port 2, destination port 2, length 2, checksum 2.
        let datagram = word(headers, TRANSPORT);
        let is_udp = protocol == udp::PROTOCOL;
        let (checksum, shortest) = if is_udp {
            ((datagram >> 48) as u16, udp::LEN)
        } else if protocol == tcp::PROTOCOL {
            ((word(headers, HEADERS - 8) >> 32) as u16, tcp::LEN)
        } else {
            return None;
        };
        let addresses = word(headers, IP + 12);
        let pseudo =
            Sum::new().pseudo_header(&addresses.to_le_bytes(), protocol, payload as u16 as usize);
        // All hold for nearly every frame, so one branch suffices. A bit is set where a field is
        // not as it should be...
        let wrong_udp = ((datagram >> 32) as u16).swap_bytes() ^ payload as u16
            | u16::from(inner::may_be_tunnel_port((datagram >> 24) as u16 & 0xff));
        let wrong = u64::from((front ^ FRONT) & FRONT_BITS)
            | middle & FRAGMENT
            | u64::from(if is_udp { wrong_udp } else { 0 });
        // ... and the sign where a number is less than it should be.
        let less =
            (frame.len() as i64 - IP as i64 - i64::from(total)) | (payload - shortest as i64);
        let rejected = less as u64 | validate::rejected_macs(ethernet);
        let is_plain = wrong | rejected >> 63 == 0;
        (is_plain && !pseudo.folds_to(checksum.swap_bytes())).then_some(Self {
            destination: ethernet.destination_bits(),
            source: ethernet.source_bits(),
            flow: flow::hash_v4(addresses, datagram as u32, protocol),
            tos: (front >> 24) as u8,
        })
    }
}
