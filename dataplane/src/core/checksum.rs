//! TCP and UDP checksums that a tenant's kernel left to its hardware.
//!
//! veth and tap say that they compute checksums, and don't. Linux then leaves the folded sum of the pseudo-header in the
//! checksum field (`CHECKSUM_PARTIAL`, include/linux/skbuff.h), and hardware that adds up everything from the transport
//! header on gets the right checksum. A right checksum that looks the same by chance is computed to the same again.

use super::classify::{Packet, Part};
use crate::table::port::ChecksumMode;
use crate::wire::checksum::Sum;
use crate::wire::{be16, put16, tcp, udp, vxlan};
use std::ops::Range;

/// Completes the checksum of `frame` if `mode` says so.
#[inline(always)]
pub(super) fn complete(frame: &mut [u8], packet: Packet, mode: ChecksumMode) {
    if mode == ChecksumMode::Trust || packet.part != Part::Whole || packet.routed {
        return;
    }
    let Some(Range { start, end }) = packet.transport_range() else { return };
    let transport = &frame[start..end];
    let (field, value, len) = match packet.protocol {
        tcp::PROTOCOL if transport.len() >= tcp::LEN => {
            (tcp::CHECKSUM, be16(transport, tcp::CHECKSUM), transport.len())
        }
        udp::PROTOCOL => match udp::Udp::parse(transport) {
            Some(header) if (udp::LEN..=transport.len()).contains(&header.len()) => {
                (udp::CHECKSUM, header.checksum(), header.len())
            }
            _ => return,
        },
        _ => return,
    };
    let pseudo = Sum::new().pseudo_header(packet.addresses(frame), packet.protocol, len);
    if mode == ChecksumMode::Complete || pseudo.folds_to(value) {
        fill(&mut frame[start..start + len], field, pseudo, packet.protocol);
    }
}

/// Computes the checksum in place `field` of a transport header and its payload.
#[inline(never)]
fn fill(transport: &mut [u8], field: usize, pseudo: Sum, protocol: u8) {
    put16(transport, field, pseudo.fold());
    let mut checksum = Sum::new().bytes(transport).checksum();
    if protocol == udp::PROTOCOL {
        checksum = udp::never_zero(checksum);
    }
    put16(transport, field, checksum);
}

/// Completes the checksums of a VXLAN packet that a VTEP on this host has left to a software device: in the inner frame,
/// or in the outer UDP header, which covers it. The outer one may be right only when the inner one is (local checksum
/// offload, Documentation/networking/checksum-offloads.rst), so the inner frame comes first.
pub(super) fn complete_tunnelled(packet: &mut [u8]) {
    let outer = Packet::of(packet);
    if outer.protocol != udp::PROTOCOL {
        return;
    }
    let Some(datagram) = outer.transport_range() else { return };
    if let Some(inner) = packet.get_mut(datagram.start + udp::LEN + vxlan::LEN..datagram.end) {
        complete(inner, Packet::of(inner), ChecksumMode::Auto);
    }
    complete(packet, outer, ChecksumMode::Auto);
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    /// A frame with a right checksum, and where that is.
    fn frame(v6: bool, tcp: bool, tagged: bool, payload: &[u8]) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let eth = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let network = match (v6, tagged) {
            (false, false) => eth.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
            (true, false) => eth.ipv6([0x20; 16], [0x21; 16], 64),
            (false, true) => eth.single_vlan(7u16.try_into().unwrap()).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
            (true, true) => eth.single_vlan(7u16.try_into().unwrap()).ipv6([0x20; 16], [0x21; 16], 64),
        };
        if tcp {
            network.tcp(1000, 80, 1, 512).write(&mut bytes, payload).unwrap();
        } else {
            network.udp(1000, 80).write(&mut bytes, payload).unwrap();
        }
        let transport = usize::from(Packet::of(&bytes).transport);
        (bytes, transport + if tcp { 16 } else { 6 })
    }

    fn make_partial(bytes: &mut [u8], field: usize) {
        let packet = Packet::of(bytes);
        let len = packet.transport_range().unwrap().len();
        let pseudo = Sum::new().pseudo_header(packet.addresses(bytes), packet.protocol, len).fold();
        put16(bytes, field, pseudo);
    }

    fn completed(bytes: &[u8], mode: ChecksumMode) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let packet = Packet::of(&bytes);
        complete(&mut bytes, packet, mode);
        bytes
    }

    proptest! {
        #[test]
        fn partial_checksums_become_those_of_etherparse(
            v6: bool, tcp: bool, tagged: bool, padding in 0usize..20,
            payload in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            let (right, field) = frame(v6, tcp, tagged, &payload);
            let mut partial = [right.clone(), vec![0xee; padding]].concat();
            make_partial(&mut partial, field);
            for mode in [ChecksumMode::Auto, ChecksumMode::Complete] {
                prop_assert_eq!(&completed(&partial, mode)[..right.len()], &right[..]);
                prop_assert_eq!(&completed(&right, mode), &right);
            }
            prop_assert_eq!(completed(&partial, ChecksumMode::Trust), partial);
        }
    }

    #[test]
    fn a_wrong_checksum_is_the_senders_own_affair_unless_told_otherwise() {
        let (right, field) = frame(false, true, false, &[1, 2, 3]);
        let mut wrong = right.clone();
        wrong[field] ^= 0x55;
        assert_eq!(completed(&wrong, ChecksumMode::Auto), wrong);
        assert_eq!(completed(&wrong, ChecksumMode::Complete), right);
    }

    #[test]
    fn a_udp_checksum_is_never_sent_as_zero() {
        let (probe, field) = frame(false, false, false, &[0, 0]);
        let payload = be16(&probe, field).to_be_bytes();
        let (mut bytes, field) = frame(false, false, false, &payload);
        make_partial(&mut bytes, field);
        assert_eq!(be16(&completed(&bytes, ChecksumMode::Auto), field), 0xffff);
    }

    #[test]
    fn a_tunnelled_packet_gets_the_inner_checksum_or_the_outer_one() {
        for v6 in [false, true] {
            let (inner, inner_field) = frame(v6, true, false, &[7; 100]);
            let payload = [&[8, 0, 0, 0, 0, 0, 100, 0][..], &inner].concat();
            let (right, outer_field) = frame(v6, false, true, &payload);
            let start = right.len() - inner.len();
            let mut outer_partial = right.clone();
            make_partial(&mut outer_partial, outer_field);
            // The outer checksum is that of the packet with its inner checksum filled in.
            let mut inner_partial = right.clone();
            make_partial(&mut inner_partial[start..], inner_field);
            for mut partial in [outer_partial, inner_partial, right.clone()] {
                complete_tunnelled(&mut partial);
                assert_eq!(partial, right);
            }
        }
    }

    #[test]
    fn what_is_no_tunnelled_packet_is_left_alone() {
        let (right, field) = frame(false, true, false, &[1; 60]);
        let mut partial = right.clone();
        make_partial(&mut partial, field);
        for len in 0..partial.len() {
            let mut packet = partial[..len].to_vec();
            complete_tunnelled(&mut packet);
            assert_eq!(packet, partial[..len]);
        }
    }

    #[test]
    fn fragments_are_left_alone() {
        let (mut bytes, field) = frame(false, false, false, &[1; 100]);
        make_partial(&mut bytes, field);
        for flags in [0x2000, 0x0005] {
            put16(&mut bytes, 20, flags);
            assert_eq!(completed(&bytes, ChecksumMode::Complete), bytes);
        }
    }

    #[test]
    fn ipv6_extension_headers_are_stepped_over() {
        let (right, _) = frame(true, false, false, &[9; 33]);
        let mut bytes = [&right[..54], &[17, 0, 1, 4, 0, 0, 0, 0], &right[54..]].concat();
        bytes[20] = 60;
        put16(&mut bytes, 18, be16(&right, 18) + 8);
        let mut partial = bytes.clone();
        make_partial(&mut partial, 54 + 8 + 6);
        assert_ne!(partial, bytes);
        assert_eq!(completed(&partial, ChecksumMode::Auto), bytes);
    }
}
