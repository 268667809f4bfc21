//! Writes the outer header of an inner frame (RFC 7348 section 5): copies the prebuilt header of
//! the adjacency, then fills in the fields that differ from packet to packet.
//!
//! ```text
//! | Ethernet [802.1Q] | IPv4 or IPv6         | UDP                       | VXLAN | inner frame
//!                       length, TOS, checksum  source port, length, [sum]   VNI
//! ```

use crate::table::encapsulation::{
    INNER_OFFSET, IP_OFFSET, OuterHeader, PLAIN_V4, PLAIN_V6, TAGGED_IP_OFFSET, TAGGED_V4,
    TAGGED_V6, tunnel_header,
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
    /// IPv6 flow label, 20 bits (RFC 6438).
    pub(super) flow_label: u32,
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
    if usize::from(header.size()) == PLAIN_V4 {
        PlainHeaderV4::new(header, fields).write(packet, tail, fields, identification);
    } else {
        write_other(packet, tail, header, fields, identification);
    }
}

#[inline(never)]
fn write_other(
    packet: &mut [u8],
    tail: Tail,
    header: &OuterHeader,
    fields: PerPacketFields,
    id: &mut u16,
) {
    match usize::from(header.size()) {
        PLAIN_V6 => PlainHeaderV6::new(header, fields).write(packet, tail, fields, id),
        TAGGED_V4 => TaggedHeaderV4::new(header, fields).write(packet, tail, fields, id),
        TAGGED_V6 => TaggedHeaderV6::new(header, fields).write(packet, tail, fields, id),
        len => unreachable!("an outer header of {len} bytes"),
    }
}

/// What the outer headers of a run of packets have in common: the header of their path, with the VNI.
pub(super) trait RunHeader {
    /// Length, bytes.
    const LEN: usize;

    /// `header` is one of this length; of `fields`, what is equal in all packets is used.
    fn new(header: &OuterHeader, fields: PerPacketFields) -> Self;

    /// Does what [`write()`] does.
    fn write(
        &self,
        packet: &mut [u8],
        tail: Tail,
        fields: PerPacketFields,
        identification: &mut u16,
    );
}

/// Over IPv4. `IP`: offset of the IP header; `LEN`: length of the header. Fields are added to the
/// little-endian words that they are in, since a wide store costs no more than a narrow one.
#[derive(Debug)]
pub(super) struct HeaderV4<const IP: usize, const LEN: usize> {
    front: [u8; LEN],
    /// The words at [`LENGTH`], [`CHECKSUM`] and [`PORTS`] from the start of the IP header.
    words: [u64; 3],
    /// Sum of the header as it is in `front`, in memory order, folded.
    sum: u32,
    may_fragment: bool,
}

/// From the start of an IPv4 header: the words that begin with the total length and with the checksum,
/// and the one that has the UDP header from its third byte on.
const LENGTH: usize = 2;
const CHECKSUM: usize = ipv4::CHECKSUM;
const PORTS: usize = ipv4::LEN - 2;

/// Over IPv6.
#[derive(Debug)]
pub(super) struct HeaderV6<const IP: usize, const LEN: usize> {
    front: [u8; LEN],
    /// The sum of what the UDP checksum covers and is equal in all packets.
    sum: Sum,
}

/// Over IPv4 without a VLAN tag.
pub(super) type PlainHeaderV4 = HeaderV4<IP_OFFSET, PLAIN_V4>;
/// Over IPv6 without a VLAN tag.
pub(super) type PlainHeaderV6 = HeaderV6<IP_OFFSET, PLAIN_V6>;
type TaggedHeaderV4 = HeaderV4<TAGGED_IP_OFFSET, TAGGED_V4>;
type TaggedHeaderV6 = HeaderV6<TAGGED_IP_OFFSET, TAGGED_V6>;

impl<const IP: usize, const LEN: usize> RunHeader for HeaderV4<IP, LEN> {
    const LEN: usize = LEN;

    #[inline(always)]
    fn new(header: &OuterHeader, fields: PerPacketFields) -> Self {
        let mut front = *header.front();
        write_tunnel(&mut front, IP + ipv4::LEN, fields.vni);
        let folded = (header.sum() >> 16) + (header.sum() & 0xffff);
        let folded = (folded >> 16) + (folded & 0xffff);
        Self {
            front,
            words: [LENGTH, CHECKSUM, PORTS].map(|at| word(&front, IP + at)),
            sum: u32::from((folded as u16).swap_bytes()),
            may_fragment: front[IP + ipv4::FLAGS] & ipv4::DONT_FRAGMENT == 0,
        }
    }

    #[inline(always)]
    fn write(
        &self,
        packet: &mut [u8],
        tail: Tail,
        fields: PerPacketFields,
        identification: &mut u16,
    ) {
        let total = (packet.len() - IP + tail.len) as u16;
        let (front, _) = copy(packet, &self.front);
        front[IP + 1] = fields.tos;
        let [mut length, mut checksum, mut ports] = self.words;
        length |= u64::from(total.swap_bytes());
        let mut sum = self.sum + u32::from(total.swap_bytes()) + (u32::from(fields.tos) << 8);
        if self.may_fragment {
            *identification = identification.wrapping_add(1);
            length |= u64::from(identification.swap_bytes()) << 16;
            sum += u32::from(identification.swap_bytes());
        }
        put_word(front, IP + LENGTH, length);
        // The carries of the lower half are added to the upper half, which is the folded sum.
        sum = sum.wrapping_add(sum.rotate_left(16)) >> 16;
        checksum |= u64::from(!sum as u16);
        put_word(front, IP + CHECKSUM, checksum);
        let datagram = total - ipv4::LEN as u16;
        ports |= u64::from(fields.source_port.swap_bytes()) << 16
            | u64::from(datagram.swap_bytes()) << 48;
        put_word(front, IP + PORTS, ports);
    }
}

impl<const IP: usize, const LEN: usize> RunHeader for HeaderV6<IP, LEN> {
    const LEN: usize = LEN;

    #[inline(always)]
    fn new(header: &OuterHeader, fields: PerPacketFields) -> Self {
        let mut front = *header.front();
        write_tunnel(&mut front, IP + ipv6::LEN, fields.vni);
        // The addresses are part of the header's sum, which is one of numbers in host byte order.
        let addresses = header.sum();
        let sum = Sum::new()
            .word(addresses as u16)
            .word((addresses >> 16) as u16)
            .bytes(&front[IP + ipv6::LEN..]);
        Self { front, sum }
    }

    #[inline(always)]
    fn write(&self, packet: &mut [u8], tail: Tail, fields: PerPacketFields, _: &mut u16) {
        let payload = packet.len() + tail.len - IP - ipv6::LEN;
        let (front, inner) = copy(packet, &self.front);
        put16(front, IP + 4, payload as u16);
        ipv6::set_class_and_label(&mut front[IP..], fields.tos, fields.flow_label);
        write_udp(front, IP + ipv6::LEN, payload as u16, fields);
        if !fields.no_udp6_checksum {
            // What was just written is not read back: a load waits for such stores.
            let sum = self
                .sum
                .pseudo_header(&[], udp::PROTOCOL, payload)
                .word(payload as u16)
                .word(fields.source_port)
                .bytes(inner);
            let sum = if tail.len == 0 {
                sum
            } else {
                sum.then(tail.sum, inner.len() % 2 == 1)
            };
            let checksum = udp::never_zero(sum.checksum());
            put16(front, IP + ipv6::LEN + udp::CHECKSUM, checksum);
        }
    }
}

/// Copies a header to the front of a packet; returns that, and what follows it.
#[inline(always)]
fn copy<'p, const LEN: usize>(
    packet: &'p mut [u8],
    header: &[u8; LEN],
) -> (&'p mut [u8; LEN], &'p mut [u8]) {
    let split = packet.split_first_chunk_mut();
    let (front, inner) = split.expect("the headroom was checked");
    *front = *header;
    (front, inner)
}

/// The little-endian word at `at`.
#[inline(always)]
fn word<const LEN: usize>(front: &[u8; LEN], at: usize) -> u64 {
    front[at..]
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

#[inline(always)]
fn put_word<const LEN: usize>(front: &mut [u8; LEN], at: usize, word: u64) {
    front[at..at + 8].copy_from_slice(&word.to_le_bytes());
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
}

/// Writes the tunnel header after the UDP header at `at`.
#[inline(always)]
fn write_tunnel<const LEN: usize>(front: &mut [u8; LEN], at: usize, vni: u32) {
    front[at + udp::LEN..at + INNER_OFFSET].copy_from_slice(&tunnel_header(vni));
}
