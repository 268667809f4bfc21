//! TCP and UDP checksums that a tenant's kernel left to its hardware.
//!
//! veth and tap announce checksum offload, but don't compute checksums. Linux then leaves the
//! folded sum of the pseudo-header in the checksum field (`CHECKSUM_PARTIAL`,
//! include/linux/skbuff.h); hardware that sums up everything from the transport header on gets the
//! right checksum. A complete checksum that looks like a partial one by chance is recomputed to the
//! same value.

use std::ops::Range;

use super::parse::{L3Info, Part};
use crate::frame::{Frame, FrameMemory};
use crate::table::encapsulation::INNER_OFFSET;
use crate::table::port::ChecksumMode;
use crate::wire::checksum::Sum;
use crate::wire::{put16, tcp, udp};

/// A checksum that must be computed.
pub(super) struct Pending {
    /// The bytes that it covers, from the start of the packet's frame.
    range: Range<usize>,
    /// Offset of the checksum field.
    field: usize,
    /// Sum of the pseudo-header, the initial value of the field.
    pseudo: Sum,
    protocol: u8,
}

/// The checksum that must be computed in `mode`; `None` when it is complete, or there is none.
/// `frame`: the first segment of the frame that `l3` was parsed from.
#[inline(always)]
pub(super) fn pending(frame: &[u8], l3: L3Info, mode: ChecksumMode) -> Option<Pending> {
    if mode == ChecksumMode::Trust || l3.part != Part::Whole || l3.has_routing_header {
        return None;
    }
    let Range { start, end } = l3.transport_range()?;
    let transport = frame.get(start..)?;
    let (field, value, len) = match l3.protocol {
        tcp::PROTOCOL if end - start >= tcp::LEN => {
            let value = transport.get(tcp::CHECKSUM..)?.first_chunk()?;
            (
                start + tcp::CHECKSUM,
                u16::from_be_bytes(*value),
                end - start,
            )
        }
        udp::PROTOCOL => {
            let header = udp::Udp::parse(transport)?;
            if !(udp::LEN..=end - start).contains(&header.len()) {
                return None;
            }
            (start + udp::CHECKSUM, header.checksum(), header.len())
        }
        _ => return None,
    };
    let pseudo = Sum::new().pseudo_header(l3.addresses(frame), l3.protocol, len);
    let needed = mode == ChecksumMode::Complete || pseudo.folds_to(value);
    needed.then_some(Pending {
        range: start..start + len,
        field,
        pseudo,
        protocol: l3.protocol,
    })
}

/// Completes the checksum of the packet at offset `base` of `frame`, if `mode` requires it.
fn complete<M: FrameMemory>(
    memory: &mut M,
    frame: &mut Frame,
    base: usize,
    l3: L3Info,
    mode: ChecksumMode,
) {
    let Some(bytes) = memory.bytes(frame).get(base..) else {
        return;
    };
    if let Some(pending) = pending(bytes, l3, mode) {
        fill(memory, frame, base, pending);
    }
}

/// Computes a checksum of the packet at offset `base` of `frame`.
#[inline(never)]
pub(super) fn fill<M: FrameMemory>(
    memory: &mut M,
    frame: &mut Frame,
    base: usize,
    pending: Pending,
) {
    let Pending {
        range,
        field,
        pseudo,
        protocol,
    } = pending;
    put16(memory.bytes_mut(frame), base + field, pseudo.fold());
    let mut checksum = memory
        .sum(frame, base + range.start..base + range.end)
        .checksum();
    if protocol == udp::PROTOCOL {
        checksum = udp::never_zero(checksum);
    }
    put16(memory.bytes_mut(frame), base + field, checksum);
}

/// Completes the checksums of a VXLAN packet that another VTEP on this host has left to a software
/// device: that of the inner frame, then that of the outer UDP header, which covers it. With local
/// checksum offload (Documentation/networking/checksum-offloads.rst), the outer one depends on the
/// inner one.
pub(super) fn complete_vxlan<M: FrameMemory>(memory: &mut M, frame: &mut Frame) {
    let bytes = memory.bytes(frame);
    let outer = L3Info::of_first(bytes, frame.len());
    if outer.protocol != udp::PROTOCOL {
        return;
    }
    let Some(datagram) = outer.transport_range() else {
        return;
    };
    let base = datagram.start + INNER_OFFSET;
    if let (Some(inner), Some(len)) = (bytes.get(base..), datagram.end.checked_sub(base)) {
        let inner = L3Info::of_first(&inner[..len.min(inner.len())], len);
        complete(memory, frame, base, inner, ChecksumMode::Auto);
    }
    complete(memory, frame, 0, outer, ChecksumMode::Auto);
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::frame::HEADROOM;
    use crate::frame::assembly::ChainBuilder;
    use crate::port::memory::{HeapMemory, memory_pools};
    use crate::wire::be16;

    /// A frame with a complete checksum, and the offset of the checksum field.
    fn frame(v6: bool, tcp: bool, tagged: bool, payload: &[u8]) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let eth = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let network = match (v6, tagged) {
            (false, false) => eth.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
            (true, false) => eth.ipv6([0x20; 16], [0x21; 16], 64),
            (false, true) => {
                eth.single_vlan(7u16.try_into().unwrap())
                    .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            }
            (true, true) => eth
                .single_vlan(7u16.try_into().unwrap())
                .ipv6([0x20; 16], [0x21; 16], 64),
        };
        if tcp {
            network
                .tcp(1000, 80, 1, 512)
                .write(&mut bytes, payload)
                .unwrap();
        } else {
            network.udp(1000, 80).write(&mut bytes, payload).unwrap();
        }
        let transport = usize::from(L3Info::of(&bytes).transport);
        (bytes, transport + if tcp { 16 } else { 6 })
    }

    fn make_partial(bytes: &mut [u8], field: usize) {
        let l3 = L3Info::of(bytes);
        let len = l3.transport_range().unwrap().len();
        let pseudo = Sum::new()
            .pseudo_header(l3.addresses(bytes), l3.protocol, len)
            .fold();
        put16(bytes, field, pseudo);
    }

    /// The bytes after `change`, in a frame whose first segment has `first` bytes and each other
    /// one 301.
    fn changed(
        bytes: &[u8],
        first: usize,
        change: impl Fn(&mut HeapMemory, &mut Frame),
    ) -> Vec<u8> {
        let mut pool = memory_pools(1, 16, 2048).remove(0);
        let (head, rest) = bytes.split_at(first.min(bytes.len()));
        let mut segments = std::iter::once(head).chain(rest.chunks(301)).map(|bytes| {
            let mut segment = pool.alloc().unwrap();
            segment.set_extent(HEADROOM, bytes.len(), 2048).unwrap();
            pool.memory_mut()
                .bytes_mut(&mut segment)
                .copy_from_slice(bytes);
            segment
        });
        let mut assembly = ChainBuilder::new(segments.next().unwrap());
        let segments: Vec<_> = segments.collect();
        segments
            .into_iter()
            .for_each(|segment| assembly.push(pool.memory().segments(), segment).unwrap());
        let mut frame = assembly.finish();
        change(pool.memory_mut(), &mut frame);
        let mut after = vec![0; frame.len()];
        pool.memory().read(&frame, &mut after);
        after
    }

    fn completed_in(first: usize, bytes: &[u8], mode: ChecksumMode) -> Vec<u8> {
        changed(bytes, first, |memory, frame| {
            let l3 = L3Info::of_first(memory.bytes(frame), frame.len());
            complete(memory, frame, 0, l3, mode);
        })
    }

    fn completed(bytes: &[u8], mode: ChecksumMode) -> Vec<u8> {
        completed_in(2048 - 256, bytes, mode)
    }

    fn completed_vxlan(bytes: &[u8]) -> Vec<u8> {
        changed(bytes, 1000, complete_vxlan)
    }

    proptest! {
        #[test]
        fn partial_checksums_become_those_of_etherparse(
            v6: bool, tcp: bool, tagged: bool, padding in 0usize..20,
            payload in prop::collection::vec(any::<u8>(), 0..2100), first in 80usize..400,
        ) {
            let (right, field) = frame(v6, tcp, tagged, &payload);
            let mut partial = [right.clone(), vec![0xee; padding]].concat();
            make_partial(&mut partial, field);
            for mode in [ChecksumMode::Auto, ChecksumMode::Complete] {
                prop_assert_eq!(&completed(&partial, mode)[..right.len()], &right[..]);
                prop_assert_eq!(&completed(&right, mode), &right);
                prop_assert_eq!(&completed_in(first, &partial, mode)[..right.len()], &right[..]);
            }
            prop_assert_eq!(completed(&partial, ChecksumMode::Trust), partial);
        }
    }

    #[test]
    fn a_wrong_checksum_is_only_replaced_in_mode_complete() {
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
    fn a_vxlan_packet_gets_its_inner_or_its_outer_checksum() {
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
            for partial in [outer_partial, inner_partial, right.clone()] {
                assert_eq!(completed_vxlan(&partial), right);
                for first in [146, 147, 150, 201] {
                    assert_eq!(changed(&partial, first, complete_vxlan), right, "{first}");
                }
            }
        }
    }

    #[test]
    fn other_packets_are_left_unchanged() {
        let (right, field) = frame(false, true, false, &[1; 60]);
        let mut partial = right.clone();
        make_partial(&mut partial, field);
        for len in 0..partial.len() {
            assert_eq!(completed_vxlan(&partial[..len]), partial[..len]);
        }
    }

    #[test]
    fn fragments_are_left_unchanged() {
        let (mut bytes, field) = frame(false, false, false, &[1; 100]);
        make_partial(&mut bytes, field);
        for flags in [0x2000, 0x0005] {
            put16(&mut bytes, 20, flags);
            assert_eq!(completed(&bytes, ChecksumMode::Complete), bytes);
        }
    }

    #[test]
    fn ipv6_extension_headers_are_skipped() {
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
