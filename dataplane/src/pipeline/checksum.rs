//! TCP, UDP and SCTP checksums that a tenant's kernel left to its hardware.
//!
//! veth and tap announce checksum offload, but don't compute checksums. Linux then leaves the
//! folded sum of the pseudo-header in the checksum field (`CHECKSUM_PARTIAL`,
//! include/linux/skbuff.h); hardware that sums up everything from the transport header on gets the
//! right checksum. A complete checksum that looks like a partial one by chance is recomputed to the
//! same value. The CRC32c of SCTP has no pseudo-header: Linux leaves zeros
//! (net/sctp/output.c, `sctp_packet_pack`).
//!
//! Where the sender has a tunnel of its own, the checksum of the inner packet is left: that of an
//! outer UDP header is 0 or already what it is with the inner one complete (local checksum offload,
//! Documentation/networking/checksum-offloads.rst).

use std::ops::Range;

use super::inner::{self, Layer};
use super::parse::{L3Info, Part};
use crate::frame::{Frame, FrameMemory};
use crate::table::encapsulation::INNER_OFFSET;
use crate::table::port::ChecksumMode;
use crate::wire::checksum::Sum;
use crate::wire::{put16, sctp, tcp, udp};

/// Packets in each other whose checksums are completed: a tunnel in a tunnel, and what it carries.
const MAX_LAYERS: usize = 4;

/// What must be done with the checksums of a frame.
pub(super) enum Work {
    /// One checksum is computed.
    One(Pending),
    /// All packets inside of each other are looked at.
    Tunnel(ChecksumMode),
}

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

/// What must be computed in `mode`; `None` when nothing must, or there is no checksum. `frame`: the
/// first segment of the frame that `l3` was parsed from.
#[inline(always)]
pub(super) fn work(frame: &[u8], l3: L3Info, mode: ChecksumMode) -> Option<Work> {
    if l3.protocol != tcp::PROTOCOL && mode != ChecksumMode::Trust && inner::is_tunnel(l3, frame) {
        return Some(Work::Tunnel(mode));
    }
    pending(frame, l3, mode).map(Work::One)
}

/// Does the work of a frame.
#[inline(always)]
pub(super) fn finish<M: FrameMemory>(memory: &mut M, frame: &mut Frame, work: Work) {
    match work {
        Work::One(pending) => fill(memory, frame, 0, pending),
        Work::Tunnel(mode) => {
            let all = 0..frame.len();
            complete_layers(memory, frame, all, mode);
        }
    }
}

/// Completes the checksums of the packet in `range` of `frame` and of those inside it, the innermost
/// first, because the outer ones cover it.
#[inline(never)]
fn complete_layers<M: FrameMemory>(
    memory: &mut M,
    frame: &mut Frame,
    mut range: Range<usize>,
    mode: ChecksumMode,
) {
    let mut layers = [None; MAX_LAYERS];
    let mut layer = Layer::Ethernet;
    for found in &mut layers {
        let Some(bytes) = memory.bytes(frame).get(range.start..) else {
            break;
        };
        let bytes = &bytes[..range.len().min(bytes.len())];
        let l3 = match layer {
            Layer::Ethernet => L3Info::of_first(bytes, range.len()),
            Layer::Ip => L3Info::of_ip(bytes, range.len()),
        };
        *found = Some((range.start, l3));
        let Some(inner) = inner::find(l3, bytes) else {
            break;
        };
        layer = inner.layer;
        range = range.start + inner.start..range.start + inner.end;
    }
    for (base, l3) in layers.into_iter().flatten().rev() {
        complete(memory, frame, base, l3, mode);
    }
}

/// The checksum that must be computed in `mode`; `None` when it is complete, or there is none.
/// `frame`: the first segment of the frame that `l3` was parsed from.
#[inline(always)]
fn pending(frame: &[u8], l3: L3Info, mode: ChecksumMode) -> Option<Pending> {
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
        sctp::PROTOCOL => return pending_sctp(transport, start..end, mode),
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

/// [`pending`] of SCTP; `range`: the whole packet, of which `transport` is the front.
#[cold]
fn pending_sctp(transport: &[u8], range: Range<usize>, mode: ChecksumMode) -> Option<Pending> {
    let value = transport.get(sctp::CHECKSUM..sctp::LEN)?;
    let needed = range.len() >= sctp::LEN && (mode == ChecksumMode::Complete || value == [0; 4]);
    needed.then_some(Pending {
        field: range.start + sctp::CHECKSUM,
        range,
        pseudo: Sum::new(),
        protocol: sctp::PROTOCOL,
    })
}

/// Computes the CRC32c of `range` of a frame and writes it at offset `field`, with which all four
/// bytes are in the first segment.
#[cold]
pub(super) fn fill_crc32c<M: FrameMemory>(
    memory: &mut M,
    frame: &mut Frame,
    range: Range<usize>,
    field: usize,
) {
    let field = field..field + 4;
    memory.bytes_mut(frame)[field.clone()].fill(0);
    let crc = memory.crc32c(frame, range).finish();
    memory.bytes_mut(frame)[field].copy_from_slice(&crc);
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
fn fill<M: FrameMemory>(memory: &mut M, frame: &mut Frame, base: usize, pending: Pending) {
    let Pending {
        range,
        field,
        pseudo,
        protocol,
    } = pending;
    if protocol == sctp::PROTOCOL {
        let range = base + range.start..base + range.end;
        return fill_crc32c(memory, frame, range, base + field);
    }
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
    if base <= datagram.end {
        complete_layers(memory, frame, base..datagram.end, ChecksumMode::Auto);
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
            .for_each(|segment| assembly.push(pool.memory().buffers(), segment).unwrap());
        let mut frame = assembly.finish();
        change(pool.memory_mut(), &mut frame);
        let mut after = vec![0; frame.len()];
        pool.memory().read(&frame, &mut after);
        after
    }

    fn completed_in(first: usize, bytes: &[u8], mode: ChecksumMode) -> Vec<u8> {
        changed(bytes, first, |memory, frame| {
            let l3 = L3Info::of_first(memory.bytes(frame), frame.len());
            if let Some(work) = work(memory.bytes(frame), l3, mode) {
                finish(memory, frame, work);
            }
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

    /// A tunnel header and the headers before it, for a payload of `len` bytes.
    fn tunnel(outer_v6: bool, kind: &str, inner_v6: bool, payload: &[u8]) -> Vec<u8> {
        let ethertype: [u8; 2] = match (kind, inner_v6) {
            (name, _) if name.ends_with("ethernet") => [0x65, 0x58],
            (_, true) => [0x86, 0xdd],
            (_, false) => [8, 0],
        };
        let (protocol, header) = match kind {
            "vxlan" | "old vxlan" | "weave" => (17, vec![8, 0, 0, 0, 0, 0, 7, 0]),
            "gpe" => (17, vec![0x0c, 0, 0, 3, 0, 0, 7, 0]),
            "geneve ethernet" => (
                17,
                [&[2, 0][..], &ethertype, &[0, 0, 7, 0], &[9; 8]].concat(),
            ),
            "geneve ip" => (17, [&[0, 0][..], &ethertype, &[0, 0, 7, 0]].concat()),
            "gre ip" => (47, [&[0, 0][..], &ethertype].concat()),
            "gre key ethernet" => (47, [&[0x30, 0][..], &ethertype, &[1; 8]].concat()),
            "ip" => (if inner_v6 { 41 } else { 4 }, Vec::new()),
            other => panic!("{other}"),
        };
        let port = match kind {
            "old vxlan" => 8472,
            "weave" => 6784,
            "gpe" => 4790,
            "geneve ethernet" | "geneve ip" => 6081,
            _ => 4789,
        };
        let payload = [&header[..], payload].concat();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = if outer_v6 {
            builder.ipv6([0x22; 16], [0x23; 16], 64)
        } else {
            builder.ipv4([10, 1, 0, 1], [10, 1, 0, 2], 64)
        };
        let mut bytes = Vec::new();
        if protocol == 17 {
            builder
                .udp(50_000, port)
                .write(&mut bytes, &payload)
                .unwrap();
        } else {
            builder
                .write(&mut bytes, protocol.into(), &payload)
                .unwrap();
        }
        bytes
    }

    const TUNNELS: [&str; 9] = [
        "vxlan",
        "old vxlan",
        "weave",
        "gpe",
        "geneve ethernet",
        "geneve ip",
        "gre ip",
        "gre key ethernet",
        "ip",
    ];

    /// The inner packet of a tunnel of the tenant's own is completed, of any kind and family, also
    /// in a tunnel in a tunnel (finding D13).
    #[test]
    fn checksums_inside_the_tenants_own_tunnels_are_completed() {
        for (kind, bits) in TUNNELS
            .iter()
            .flat_map(|kind| (0..32).map(move |bits| (kind, bits)))
        {
            let [outer_v6, inner_v6, tcp, tagged, nested] =
                [0, 1, 2, 3, 4].map(|bit| bits >> bit & 1 == 1);
            let has_ethernet = !matches!(*kind, "ip" | "gre ip" | "geneve ip");
            let (inner, field) = frame(inner_v6, tcp, tagged && has_ethernet, &[7; 333]);
            let mut partial = inner.clone();
            make_partial(&mut partial, field);
            let skipped = if has_ethernet { 0 } else { 14 };
            let wrap = |inner: &[u8]| {
                let one = tunnel(outer_v6, kind, inner_v6, &inner[skipped..]);
                if nested {
                    tunnel(!outer_v6, "vxlan", outer_v6, &one)
                } else {
                    one
                }
            };
            let right = wrap(&inner);
            // As with local checksum offload: the outer checksums are those of the complete packet.
            let at = right.len() - (inner.len() - skipped);
            let mut sent = right.clone();
            sent[at..].copy_from_slice(&partial[skipped..]);
            let name = format!("{kind} {bits:05b}");
            assert_ne!(sent, right, "{name}");
            for mode in [ChecksumMode::Auto, ChecksumMode::Complete] {
                assert_eq!(completed(&sent, mode), right, "{name} {mode:?}");
                assert_eq!(completed(&right, mode), right, "{name} {mode:?}");
                assert_eq!(completed_in(250, &sent, mode), right, "{name} {mode:?}");
            }
            assert_eq!(completed(&sent, ChecksumMode::Trust), sent);
            // Without an outer checksum there is none to keep, and `complete` adds it.
            let mut wrong = right.clone();
            wrong[at + field - skipped] ^= 0x55;
            assert_eq!(completed(&wrong, ChecksumMode::Auto), wrong, "{name}");
            assert_eq!(completed(&wrong, ChecksumMode::Complete), right, "{name}");
        }
    }

    /// SCTP, whose CRC32c Linux leaves to hardware as well, also inside of tunnels (finding D13).
    #[test]
    fn the_crc32c_of_sctp_is_completed() {
        for (v6, nested) in [(false, false), (true, false), (false, true), (true, true)] {
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
            let payload = [&[0, 7, 0, 9, 1, 2, 3, 4, 0, 0, 0, 0][..], &[0x5a; 777]].concat();
            let (mut plain, sctp) = (Vec::new(), sctp::PROTOCOL.into());
            if v6 {
                builder
                    .ipv6([1; 16], [2; 16], 64)
                    .write(&mut plain, sctp, &payload)
            } else {
                builder
                    .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                    .write(&mut plain, sctp, &payload)
            }
            .unwrap();
            let at = plain.len() - payload.len();
            let crc = sctp::Crc32c::default().bytes(&payload).finish();
            let mut right = plain.clone();
            right[at + 8..at + 12].copy_from_slice(&crc);
            let mut wrong = right.clone();
            wrong[at + 8] ^= 1;
            let wrap = |bytes: Vec<u8>| {
                // Padding is not part of the packet.
                let bytes = if nested {
                    bytes
                } else {
                    [bytes, vec![0xee; 9]].concat()
                };
                let is_gre = "gre key ethernet";
                if nested {
                    tunnel(!v6, is_gre, v6, &bytes)
                } else {
                    bytes
                }
            };
            let [plain, right, wrong] = [plain, right, wrong].map(wrap);
            for first in [200, 203, 1500] {
                for mode in [ChecksumMode::Auto, ChecksumMode::Complete] {
                    assert_eq!(completed_in(first, &plain, mode), right, "{v6} {nested}");
                    assert_eq!(completed_in(first, &right, mode), right);
                }
                assert_eq!(completed_in(first, &wrong, ChecksumMode::Auto), wrong);
                assert_eq!(completed_in(first, &wrong, ChecksumMode::Complete), right);
                assert_eq!(completed_in(first, &plain, ChecksumMode::Trust), plain);
            }
            // Nothing is written outside of a packet that ends in the header.
            for cut in 0..at + 12 {
                completed(&plain[..cut.min(plain.len())], ChecksumMode::Complete);
            }
        }
    }

    #[test]
    fn an_outer_checksum_without_the_inner_one_is_completed_too() {
        for outer_v6 in [false, true] {
            let (inner, _) = frame(false, true, false, &[3; 50]);
            let right = tunnel(outer_v6, "vxlan", false, &inner);
            let mut partial = right.clone();
            make_partial(&mut partial, if outer_v6 { 54 + 6 } else { 34 + 6 });
            assert_eq!(completed(&partial, ChecksumMode::Auto), right);
        }
    }

    proptest! {
        #[test]
        fn no_tunnel_panics(
            mut bytes in prop::collection::vec(any::<u8>(), 60..200),
            kind in 0..TUNNELS.len(), outer_v6: bool, cut in 14usize..200,
        ) {
            bytes[0] = 8;
            let packet = tunnel(outer_v6, TUNNELS[kind], bytes[1] & 1 == 1, &bytes);
            let cut = &packet[..cut.min(packet.len())];
            for mode in [ChecksumMode::Auto, ChecksumMode::Complete] {
                completed(cut, mode);
                completed_in(60, cut, mode);
            }
        }
    }
}
