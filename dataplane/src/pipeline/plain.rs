//! The usual frame of a tenant, parsed at once: untagged IPv4 without options, not a fragment, with
//! a complete TCP or UDP checksum, and no tunnel of the tenant's own.
//!
//! Nearly every frame is one, so all conditions are one test. Any other frame is parsed by the
//! general functions ([`super::parse`], [`super::flow`], [`super::checksum`], [`super::validate`]),
//! which give the same results for the usual one.

use super::{flow, inner};
use crate::addr;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::udp::{self, Udp};
use crate::wire::{be16, ipv4, tcp};

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

/// EtherType, version 4 and header length 20.
const FRONT: u64 = 0x0008_0045;

/// The fields of a fragment: More Fragments, and the offset.
const FRAGMENT: u16 = 0x3fff;

/// In the bits of a MAC: set for a group.
const GROUP: u64 = 1 << 40;

/// The bits of a link-local group ([`addr::is_link_local`]), without the last four.
const LINK_LOCAL: u64 = 0x0018_0c20_0000;

const _: () = assert!(addr::is_link_local(LINK_LOCAL << 4) && !addr::is_host(GROUP));

/// The 64 bits at `at`.
#[inline(always)]
fn word(headers: &[u8; HEADERS], at: usize) -> [u8; 8] {
    std::array::from_fn(|byte| headers[at + byte])
}

impl PlainFrame {
    /// Parses a frame; `None` for any but a usual one, and for one that is dropped because of its
    /// MACs. `frame`: its first segment.
    #[inline(always)]
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let headers: &[u8; HEADERS] = frame.first_chunk()?;
        let ethernet = Ethernet::parse(headers)?;
        let (destination, source) = (ethernet.destination_bits(), ethernet.source_bits());
        // EtherType 2, version and header length 1, TOS 1, total length 2, identification 2.
        let front = u64::from_be_bytes(word(headers, ethernet::ETHERTYPE));
        let total = usize::from((front >> 16) as u16);
        let payload = total.wrapping_sub(ipv4::LEN);
        let protocol = headers[IP + 9];
        let datagram = Udp::parse(&headers[TRANSPORT..])?;
        let is_udp = protocol == udp::PROTOCOL;
        let (checksum, covered, shortest) = if is_udp {
            (datagram.checksum(), datagram.len(), udp::LEN)
        } else if protocol == tcp::PROTOCOL {
            (be16(headers, TRANSPORT + tcp::CHECKSUM), payload, tcp::LEN)
        } else {
            return None;
        };
        let addresses = word(headers, IP + 12);
        let pseudo = Sum::new().pseudo_header(&addresses, protocol, covered);
        let ports = u32::from_le_bytes(std::array::from_fn(|byte| headers[TRANSPORT + byte]));
        // All hold for nearly every frame, so one branch suffices. A bit is set where a field is
        // not as it should be...
        let wrong = (front >> 40 ^ FRONT)
            | u64::from(be16(headers, IP + 6) & FRAGMENT)
            | source & GROUP
            | u64::from(is_udp & inner::may_be_tunnel_port(datagram.destination_port()));
        // ... and the sign where a number is less than it should be.
        let less = (frame.len() - IP).wrapping_sub(total)
            | payload.wrapping_sub(shortest)
            | covered.wrapping_sub(shortest)
            | payload.wrapping_sub(covered);
        let zero = source.wrapping_sub(1) | (destination >> 4 ^ LINK_LOCAL).wrapping_sub(1);
        let is_plain = wrong | (less as u64 | zero) >> 63 == 0;
        (is_plain && !pseudo.folds_to(checksum)).then_some(Self {
            destination,
            source,
            flow: flow::hash_v4(u64::from_le_bytes(addresses), ports, protocol),
            tos: (front >> 32) as u8,
        })
    }
}
