//! Writes the outer header of an inner frame (RFC 7348 section 5): copies the prebuilt header of
//! the adjacency, then fills in the fields that differ from packet to packet.
//!
//! ```text
//! | Ethernet [802.1Q] | IPv4 or IPv6         | UDP                       | VXLAN | inner frame
//!                       length, TOS, checksum  source port, length, [sum]   VNI
//! ```

use crate::table::encapsulation::{
    INNER_OFFSET, IP_OFFSET, OVERHEAD_V4, OVERHEAD_V6, OuterHeader, TAGGED_IP_OFFSET, tunnel_header,
};
use crate::wire::checksum::Sum;
use crate::wire::{ipv4, ipv6, put16, udp};

/// The fields that differ from packet to packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct PerPacketFields {
    /// DSCP and ECN of the outer header.
    pub(super) tos: u8,
    /// UDP source port.
    pub(super) source_port: u16,
    /// VXLAN Network Identifier.
    pub(super) vni: u32,
    /// Send no UDP checksum over IPv6 (RFC 6935).
    pub(super) no_udp6_checksum: bool,
}

/// What follows the first segment of a packet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tail {
    /// Bytes.
    pub(super) len: usize,
    /// Their Internet checksum. Only needed for packets with a UDP checksum.
    pub(super) sum: Sum,
}

/// Writes the header over the first bytes of `packet`, which has the inner frame after them.
/// `tail`: what follows `packet` in other segments. `identification`: of the last IPv4 packet that
/// may be fragmented (RFC 6864).
///
/// # Panics
/// If `packet` is shorter than the header.
#[inline(always)]
pub(super) fn write(
    packet: &mut [u8],
    tail: Tail,
    header: &OuterHeader,
    fields: PerPacketFields,
    identification: &mut u16,
) {
    // With constant lengths, a header is a few wide moves and stores.
    match usize::from(header.size()) {
        PLAIN_V4 => {
            write_v4::<IP_OFFSET, PLAIN_V4>(packet, tail.len, header, fields, identification);
        }
        _ => write_other(packet, tail, header, fields, identification),
    }
}

#[inline(never)]
fn write_other(
    packet: &mut [u8],
    tail: Tail,
    header: &OuterHeader,
    fields: PerPacketFields,
    identification: &mut u16,
) {
    match (header.is_v6(), header.ip_offset()) {
        (false, IP_OFFSET) => {
            write_v4::<IP_OFFSET, PLAIN_V4>(packet, tail.len, header, fields, identification);
        }
        (false, _) => {
            write_v4::<TAGGED_IP_OFFSET, { TAGGED_IP_OFFSET + OVERHEAD_V4 }>(
                packet,
                tail.len,
                header,
                fields,
                identification,
            );
        }
        (true, IP_OFFSET) => {
            write_v6::<IP_OFFSET, { IP_OFFSET + OVERHEAD_V6 }>(packet, tail, header, fields);
        }
        (true, _) => write_v6::<TAGGED_IP_OFFSET, { TAGGED_IP_OFFSET + OVERHEAD_V6 }>(
            packet, tail, header, fields,
        ),
    }
}

/// The length of the outer header over IPv4 without a tag: no other has it.
const PLAIN_V4: usize = IP_OFFSET + OVERHEAD_V4;

/// In the byte of an IPv4 header with its flags (RFC 791 section 3.1).
const DONT_FRAGMENT: u8 = 0x40;

#[inline(always)]
fn copy<'p, const LEN: usize>(packet: &'p mut [u8], header: &OuterHeader) -> &'p mut [u8; LEN] {
    let front = packet.first_chunk_mut().expect("the headroom was checked");
    *front = *header.front();
    front
}

#[inline(always)]
fn write_v4<const IP: usize, const LEN: usize>(
    packet: &mut [u8],
    tail: usize,
    header: &OuterHeader,
    fields: PerPacketFields,
    identification: &mut u16,
) {
    let total = (packet.len() - IP + tail) as u16;
    let front = copy::<LEN>(packet, header);
    let mut sum = header.sum() + u32::from(total) + u32::from(fields.tos);
    front[IP + 1] = fields.tos;
    put16(front, IP + 2, total);
    // Read from the template, not from the packet, whose cache line may still be loading.
    if header.front::<LEN>()[IP + 6] & DONT_FRAGMENT == 0 {
        *identification = identification.wrapping_add(1);
        put16(front, IP + 4, *identification);
        sum += u32::from(*identification);
    }
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    put16(front, IP + ipv4::CHECKSUM, !(sum as u16));
    write_udp(front, IP + ipv4::LEN, total - ipv4::LEN as u16, fields);
}

#[inline(always)]
fn write_v6<const IP: usize, const LEN: usize>(
    packet: &mut [u8],
    tail: Tail,
    header: &OuterHeader,
    fields: PerPacketFields,
) {
    let payload = packet.len() + tail.len - IP - ipv6::LEN;
    let front = copy::<LEN>(packet, header);
    put16(front, IP + 4, payload as u16);
    ipv6::set_traffic_class(&mut front[IP..], fields.tos);
    write_udp(front, IP + ipv6::LEN, payload as u16, fields);
    if !fields.no_udp6_checksum {
        // The addresses are part of the header's sum, which is one of numbers in host byte order.
        let sum = header.sum();
        let pseudo = Sum::new()
            .word(sum as u16)
            .word((sum >> 16) as u16)
            .pseudo_header(&[], udp::PROTOCOL, payload);
        let datagram = &mut packet[IP + ipv6::LEN..];
        let sum = pseudo.bytes(datagram);
        let sum = if tail.len == 0 {
            sum
        } else {
            sum.then(tail.sum, datagram.len() % 2 == 1)
        };
        let checksum = sum.checksum();
        put16(datagram, udp::CHECKSUM, udp::never_zero(checksum));
    }
}

#[inline(always)]
fn write_udp<const LEN: usize>(
    front: &mut [u8; LEN],
    at: usize,
    len: u16,
    fields: PerPacketFields,
) {
    put16(front, at, fields.source_port);
    put16(front, at + 4, len);
    front[at + udp::LEN..at + INNER_OFFSET].copy_from_slice(&tunnel_header(fields.vni));
}
