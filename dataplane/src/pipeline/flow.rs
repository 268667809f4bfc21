//! The flow hash of a tenant's frame, which selects the underlay path and the outer UDP source
//! port.
//!
//! Inputs: for TCP, UDP and SCTP the addresses, the protocol and the ports. For other IP packets,
//! and for fragments, the addresses only: only the first fragment has ports, and all must take one
//! path. For everything else the MACs and the EtherType. The high half of the hash selects the
//! path, the low half the port, so that flows of one path are spread over all ports.

use super::parse::{L3Info, Network, Part};
use crate::wire::{tcp, udp};

const SCTP: u8 = 132;

/// Constants without structure (the fractional part of pi).
const SEEDS: [u64; 3] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7345,
    0xa409_3822_299f_31d1,
];

/// The lowest outer source port: the first dynamic port (RFC 7348 section 5, RFC 6335 section 6).
pub(super) const FIRST_PORT: u16 = 49152;

/// Multiplies to 128 bits and folds, so that each input bit changes each output bit with a
/// probability of about one half.
#[inline]
pub(super) const fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |word| u64::from_le_bytes(*word))
}

/// The hash of the flow that `frame` belongs to. `frame` is at least an Ethernet header.
#[inline(always)]
pub(super) fn hash(frame: &[u8], l3: L3Info) -> u64 {
    let addresses = l3.addresses(frame);
    let endpoints = match l3.network {
        Network::Other => mix(word(frame, 0) ^ SEEDS[0], word(frame, 6) ^ SEEDS[1]),
        Network::V4 => word(addresses, 0) ^ SEEDS[0],
        Network::V6 => {
            let source = mix(word(addresses, 0) ^ SEEDS[0], word(addresses, 8) ^ SEEDS[1]);
            source
                ^ mix(
                    word(addresses, 16) ^ SEEDS[1],
                    word(addresses, 24) ^ SEEDS[2],
                )
        }
    };
    finish(endpoints, ports(frame, l3))
}

/// [`hash`] of a packet over IPv4 that is not a fragment: its `addresses` and `ports` as numbers in
/// little-endian order. `protocol`: TCP, UDP or SCTP.
#[inline(always)]
pub(super) const fn hash_v4(addresses: u64, ports: u32, protocol: u8) -> u64 {
    finish(addresses ^ SEEDS[0], with_protocol(ports, protocol))
}

#[inline(always)]
const fn finish(endpoints: u64, ports: u64) -> u64 {
    mix(mix(endpoints, ports ^ SEEDS[1]) ^ SEEDS[2], SEEDS[0])
}

#[inline(always)]
const fn with_protocol(ports: u32, protocol: u8) -> u64 {
    (ports as u64) << 8 | protocol as u64
}

/// Both ports and the protocol; 0 when there are none.
#[inline(always)]
fn ports(frame: &[u8], l3: L3Info) -> u64 {
    let has_ports =
        matches!(l3.protocol, tcp::PROTOCOL | udp::PROTOCOL | SCTP) && l3.part == Part::Whole;
    match l3.transport_range().and_then(|range| {
        frame
            .get(range.start..range.end.min(frame.len()))?
            .first_chunk()
    }) {
        Some(ports) if has_ports => with_protocol(u32::from_le_bytes(*ports), l3.protocol),
        _ => 0,
    }
}

/// The outer UDP source port, 49152..=65535.
#[inline]
pub(super) const fn source_port(hash: u64) -> u16 {
    FIRST_PORT | (hash as u32 >> 18) as u16
}

/// The outer IPv6 flow label, 20 bits: routers on the path that hash it instead of the ports spread
/// flows too (RFC 6438). Its bits are not those of the source port.
#[inline]
pub(super) const fn label(hash: u64) -> u32 {
    hash as u32 & 0x000f_ffff
}

/// The half of the hash that selects the path.
#[inline]
pub(super) const fn path_hash(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use etherparse::PacketBuilder;

    use super::*;

    fn frame(v6: bool, from: u16, fragment: bool) -> Vec<u8> {
        let eth = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut bytes = Vec::new();
        if v6 {
            eth.ipv6([1; 16], [2; 16], 64)
                .udp(from, 80)
                .write(&mut bytes, &[0; 10])
                .unwrap();
        } else {
            eth.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .udp(from, 80)
                .write(&mut bytes, &[0; 10])
                .unwrap();
            if fragment {
                crate::wire::put16(&mut bytes, 20, 0x2000);
            }
        }
        bytes
    }

    fn hash_of(bytes: &[u8]) -> u64 {
        hash(bytes, L3Info::of(bytes))
    }

    #[test]
    fn flows_spread_over_ports_and_paths() {
        for v6 in [false, true] {
            let hashes: Vec<_> = (1000..3000)
                .map(|from| hash_of(&frame(v6, from, false)))
                .collect();
            let ports: HashSet<_> = hashes.iter().map(|h| source_port(*h)).collect();
            assert!(
                ports.len() > 1800 && ports.iter().all(|p| *p >= FIRST_PORT),
                "{}",
                ports.len()
            );
            // The flows that take one of two paths use ports of the whole range as well.
            let one: HashSet<_> = hashes
                .iter()
                .filter(|h| path_hash(**h) >> 31 == 0)
                .map(|h| source_port(*h) >> 6)
                .collect();
            assert!(one.len() > 220, "{}", one.len());
        }
    }

    #[test]
    fn fragments_are_hashed_by_their_addresses_only() {
        assert_eq!(
            hash_of(&frame(false, 1, true)),
            hash_of(&frame(false, 2, true))
        );
        assert_ne!(
            hash_of(&frame(false, 1, false)),
            hash_of(&frame(false, 2, false))
        );
    }

    #[test]
    fn frames_that_are_not_ip_are_hashed_by_macs_and_ethertype() {
        let mut arp = vec![0xff; 42];
        arp[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 8, 6]);
        let first = hash_of(&arp);
        arp[30] = 1;
        assert_eq!(hash_of(&arp), first);
        for at in [0, 11, 13] {
            let mut other = arp.clone();
            other[at] ^= 1;
            assert_ne!(hash_of(&other), first);
        }
    }
}
