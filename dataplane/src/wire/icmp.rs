//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the one error that a VTEP sends, "packet too big".
//!
//! ```text
//!  0      1      2             4                           8
//! +------+------+-------------+---------------------------+------- - -
//! | type | code |  checksum   |  v4: 0, MTU (RFC 1191)    | quote of the packet
//! |      |      |             |  v6: MTU (32 bits)        |
//! +------+------+-------------+---------------------------+------- - -
//! ```

use super::checksum::Sum;
use super::put16;

/// Length of the header, bytes.
pub const LEN: usize = 8;

/// Longest IPv4 packet with an error, which every host can receive (RFC 1812 section 4.3.2.3).
pub const MAX_V4: usize = 576;

/// Longest IPv6 packet with an error: the minimum IPv6 MTU (RFC 4443 section 2.4 c).
pub const MAX_V6: usize = 1280;

/// True for an ICMP type that reports an error; no error may be sent about one (RFC 1122 section
/// 3.2.2).
#[inline]
#[must_use]
pub const fn is_v4_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// True for an ICMPv6 type that no error may be sent about: errors, and redirects (RFC 4443 section
/// 2.4 e).
#[inline]
#[must_use]
pub const fn is_v6_error(kind: u8) -> bool {
    kind < 128 || kind == 137
}

/// Writes "fragmentation needed" with the next hop's MTU (RFC 1191 section 4). The quoted packet
/// must already follow the header.
///
/// # Panics
/// If `message` is shorter than [`LEN`].
pub fn emit_fragmentation_needed(message: &mut [u8], mtu: u16) {
    message[..LEN].copy_from_slice(&[3, 4, 0, 0, 0, 0, 0, 0]);
    put16(message, 6, mtu);
    let checksum = Sum::new().bytes(message).checksum();
    put16(message, 2, checksum);
}

/// Writes "packet too big" (RFC 4443 section 3.2). The quoted packet must already follow the
/// header; `addresses` are those of the IPv6 header before it.
///
/// # Panics
/// If `message` is shorter than [`LEN`].
pub fn emit_packet_too_big(message: &mut [u8], mtu: u16, addresses: &[u8]) {
    message[..LEN].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
    put16(message, 6, mtu);
    let sum = Sum::new().pseudo_header(addresses, super::ipv6::ICMP, message.len());
    let checksum = sum.bytes(message).checksum();
    put16(message, 2, checksum);
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, icmpv4};

    use super::*;

    #[test]
    fn etherparse_reads_both_errors() {
        let mut message = [7; 40];
        emit_fragmentation_needed(&mut message, 1400);
        let wanted = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
        assert_eq!(
            Icmpv4Slice::from_slice(&message).unwrap().icmp_type(),
            Icmpv4Type::DestinationUnreachable(wanted)
        );
        assert!(Sum::new().bytes(&message).is_valid());

        let mut message = [7; 41];
        let addresses: Vec<u8> = (0..32).collect();
        emit_packet_too_big(&mut message, 1380, &addresses);
        let slice = Icmpv6Slice::from_slice(&message).unwrap();
        assert_eq!(slice.icmp_type(), Icmpv6Type::PacketTooBig { mtu: 1380 });
        let [source, destination] = [0, 16].map(|at| *addresses[at..].first_chunk::<16>().unwrap());
        assert!(slice.is_checksum_valid(source, destination));
    }
}
