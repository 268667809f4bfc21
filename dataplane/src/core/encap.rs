//! Writes the outer header before an inner frame (RFC 7348 section 5): a copy of the path's ready header, and then what
//! differs from packet to packet.
//!
//! ```text
//! | Ethernet [802.1Q] | IPv4 or IPv6         | UDP                       | VXLAN | inner frame
//!                       length, TOS, checksum  source port, length, [sum]   VNI
//! ```

use crate::table::nexthop::OuterHeader;
use crate::wire::checksum::Sum;
use crate::wire::{ipv4, ipv6, put16, udp, vxlan};

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variable {
    /// DSCP and ECN.
    pub(super) tos: u8,
    /// UDP source port.
    pub(super) source_port: u16,
    /// VXLAN Network Identifier.
    pub(super) vni: u32,
    /// IPv4 identification: used where Don't Fragment is clear.
    pub(super) identification: u16,
    /// Send no UDP checksum over IPv6 (RFC 6935).
    pub(super) no_udp6_checksum: bool,
}

/// What follows the first chunk of a packet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beyond {
    /// Bytes.
    pub(super) len: usize,
    /// Their sum. Only for packets with a UDP checksum.
    pub(super) sum: Sum,
}

/// Writes the header to the front of `packet`; the inner frame already stands behind it, and goes on `beyond` it.
///
/// # Panics
/// If `packet` is shorter than the header.
#[inline]
pub(super) fn write(packet: &mut [u8], beyond: Beyond, header: &OuterHeader, variable: Variable) {
    copy_header(packet, header.bytes());
    let ip = header.ip_offset();
    let packet = &mut packet[ip..];
    if header.is_v6() {
        write_v6(packet, beyond, header, variable);
    } else {
        write_v4(packet, beyond.len, header, variable);
    }
}

/// Copies with a length that the compiler knows: a few wide moves and no call.
#[inline]
fn copy_header(to: &mut [u8], header: &[u8]) {
    #[inline]
    fn copy<const LEN: usize>(to: &mut [u8], from: &[u8]) {
        to[..LEN].copy_from_slice(&from[..LEN]);
    }
    match header.len() {
        50 => copy::<50>(to, header),
        54 => copy::<54>(to, header),
        70 => copy::<70>(to, header),
        len => to[..len].copy_from_slice(header),
    }
}

#[inline]
fn write_v4(packet: &mut [u8], beyond: usize, header: &OuterHeader, variable: Variable) {
    const LEN: usize = ipv4::LEN + udp::LEN + vxlan::LEN;
    let total = (packet.len() + beyond) as u16;
    let front: &mut [u8; LEN] = packet.first_chunk_mut().expect("the header has just been copied here");
    let mut sum = header.sum() + u32::from(total) + u32::from(variable.tos);
    front[1] = variable.tos;
    put16(front, 2, total);
    let may_be_fragmented = front[6] & 0x40 == 0;
    if may_be_fragmented {
        put16(front, 4, variable.identification);
        sum += u32::from(variable.identification);
    }
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    put16(front, ipv4::CHECKSUM, !(sum as u16));
    write_udp(&mut front[ipv4::LEN..], total - ipv4::LEN as u16, variable);
}

#[inline]
fn write_v6(packet: &mut [u8], beyond: Beyond, header: &OuterHeader, variable: Variable) {
    let payload = packet.len() + beyond.len - ipv6::LEN;
    put16(packet, 4, payload as u16);
    ipv6::set_traffic_class(packet, variable.tos);
    let datagram = &mut packet[ipv6::LEN..];
    write_udp(datagram, payload as u16, variable);
    if !variable.no_udp6_checksum {
        // The addresses are summed already; the header's sum is of numbers, not of bytes in memory.
        let sum = header.sum();
        let pseudo =
            Sum::new().word(sum as u16).word((sum >> 16) as u16).pseudo_header(&[], udp::PROTOCOL, payload);
        let sum = pseudo.bytes(datagram);
        let sum = if beyond.len == 0 { sum } else { sum.then(beyond.sum, datagram.len() % 2 == 1) };
        let checksum = sum.checksum();
        put16(datagram, udp::CHECKSUM, udp::never_zero(checksum));
    }
}

#[inline]
fn write_udp(datagram: &mut [u8], len: u16, variable: Variable) {
    put16(datagram, 0, variable.source_port);
    put16(datagram, 4, len);
    datagram[udp::LEN..udp::LEN + vxlan::LEN].copy_from_slice(&vxlan::header(variable.vni));
}
