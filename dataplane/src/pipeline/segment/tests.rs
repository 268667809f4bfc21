use etherparse::{
    IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader, NetHeaders,
    PacketBuilder, PacketHeaders, TcpOptionElement, TransportHeader,
};
use proptest::prelude::*;

use super::*;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
const V4: ([u8; 4], [u8; 4]) = ([192, 0, 2, 1], [192, 0, 2, 2]);
const V6: ([u8; 16], [u8; 16]) = ([0x20; 16], [0x21; 16]);
const KINDS: [(SegmentKind, bool); 4] = [
    (SegmentKind::TcpV4, false),
    (SegmentKind::TcpV6, true),
    (SegmentKind::Udp, false),
    (SegmentKind::Udp, true),
];

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// A frame with a complete checksum.
fn frame(kind: SegmentKind, is_v6: bool, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(MACS.0, MACS.1);
    let ip = if is_v6 {
        ethernet.ipv6(V6.0, V6.1, 64)
    } else {
        let mut header = Ipv4Header::new(0, 64, IpNumber::TCP, V4.0, V4.1).expect("short");
        header.identification = 0xfffe;
        header.dont_fragment = true;
        ethernet.ip(etherparse::IpHeaders::Ipv4(
            header,
            Ipv4Extensions::default(),
        ))
    };
    let mut bytes = Vec::new();
    match kind {
        SegmentKind::Udp => ip.udp(1000, 2000).write(&mut bytes, payload),
        SegmentKind::TcpV4 | SegmentKind::TcpV6 => ip
            .tcp(1000, 2000, u32::MAX - 50, 500)
            .ack(77)
            .fin()
            .psh()
            .cwr()
            .ece()
            .urg(5)
            .options(&[
                TcpOptionElement::Noop,
                TcpOptionElement::Noop,
                TcpOptionElement::Timestamp(0x0102_0304, 0x0506_0708),
            ])
            .expect("12 bytes")
            .write(&mut bytes, payload),
    }
    .expect("a vector");
    bytes
}

/// Offset of the transport header, and of the checksum in it.
fn checksum_of(kind: SegmentKind, is_v6: bool) -> (usize, usize) {
    let transport = if is_v6 { 54 } else { 34 };
    let field = if kind == SegmentKind::Udp { 6 } else { 16 };
    (transport, field)
}

/// Replaces the checksum by the partial one.
fn make_partial(frame: &mut [u8], kind: SegmentKind, is_v6: bool) -> usize {
    let (transport, field) = checksum_of(kind, is_v6);
    let addresses = if is_v6 { 22..54 } else { 26..34 };
    let protocol = if kind == SegmentKind::Udp { 17 } else { 6 };
    let sum = Sum::new().pseudo_header(&frame[addresses], protocol, frame.len() - transport);
    put16(frame, transport + field, sum.fold());
    transport
}

fn segmentation(kind: SegmentKind, size: u16) -> Segmentation {
    Segmentation {
        kind,
        size,
        ecn: false,
    }
}

/// All segments with their payload.
fn cut(frame: &[u8], segmenter: &Segmenter) -> Vec<Vec<u8>> {
    (0..segmenter.count())
        .map(|index| {
            let range = segmenter.payload(index);
            let mut segment = vec![0xee; segmenter.header_len()];
            let sum = Sum::new().bytes(&frame[range.clone()]);
            assert_eq!(segmenter.write(index, &mut segment, sum), range);
            segment.extend(&frame[range]);
            assert!(segment.len() <= segmenter.longest());
            segment
        })
        .collect()
}

/// The segments of the frame of `kind` with `len` bytes of payload.
fn segments(kind: SegmentKind, is_v6: bool, len: usize, size: u16, partial: bool) -> Vec<Vec<u8>> {
    let mut whole = frame(kind, is_v6, &payload(len));
    let start = partial.then(|| make_partial(&mut whole, kind, is_v6));
    let segmenter = Segmenter::new(&whole, whole.len(), segmentation(kind, size), start);
    cut(&whole, &segmenter.expect("well formed"))
}

fn headers(segment: &[u8]) -> PacketHeaders<'_> {
    PacketHeaders::from_ethernet_slice(segment).expect("lengths that agree")
}

/// The transport checksum and what etherparse computes; TCP's or UDP's.
fn assert_checksums(segment: &[u8]) {
    let parsed = headers(segment);
    let payload = parsed.payload.slice();
    let (found, wanted) = match (
        parsed.net.expect("IP"),
        parsed.transport.expect("TCP or UDP"),
    ) {
        (NetHeaders::Ipv4(ip, _), transport) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            match transport {
                TransportHeader::Tcp(tcp) => (tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload)),
                TransportHeader::Udp(udp) => (udp.checksum, udp.calc_checksum_ipv4(&ip, payload)),
                other => panic!("{other:?}"),
            }
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => {
            (tcp.checksum, tcp.calc_checksum_ipv6(&ip, payload))
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
            (udp.checksum, udp.calc_checksum_ipv6(&ip, payload))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(found, wanted.expect("short"));
}

#[test]
fn segments_have_the_payload_in_order_and_right_checksums() {
    for (kind, is_v6) in KINDS {
        for (len, size) in [
            (1449, 1448),
            (2896, 1448),
            (9001, 999),
            (65_000, 1448),
            (300, 7),
        ] {
            let (whole, partial) = (
                segments(kind, is_v6, len, size, false),
                segments(kind, is_v6, len, size, true),
            );
            assert_eq!(whole, partial, "{kind:?} {len} {size}");
            assert_eq!(whole.len(), len.div_ceil(size.into()));
            whole.iter().for_each(|segment| assert_checksums(segment));
            let joined: Vec<u8> = whole
                .iter()
                .flat_map(|segment| headers(segment).payload.slice().to_vec())
                .collect();
            assert!(joined == payload(len), "{kind:?} {len} {size}");
        }
    }
}

#[test]
fn flags_numbers_and_identifications_of_tcp_segments() {
    let all = segments(SegmentKind::TcpV4, false, 250, 100, true);
    let fields: Vec<_> = all
        .iter()
        .map(|segment| {
            let parsed = headers(segment);
            let Some(TransportHeader::Tcp(tcp)) = parsed.transport else {
                panic!("TCP");
            };
            let Some(NetHeaders::Ipv4(ip, _)) = parsed.net else {
                panic!("IPv4");
            };
            assert!(tcp.ece && tcp.urg && tcp.ack, "kept in each");
            assert_eq!((tcp.urgent_pointer, tcp.options.len()), (5, 12));
            assert!(ip.dont_fragment);
            (
                tcp.sequence_number.wrapping_add(51),
                ip.identification,
                (tcp.cwr, tcp.psh, tcp.fin),
            )
        })
        .collect();
    assert_eq!(
        fields,
        [
            (0, 0xfffe, (true, false, false)),
            (100, 0xffff, (false, false, false)),
            (200, 0, (false, true, true)),
        ]
    );
}

#[test]
fn extension_headers_and_tags_are_repeated() {
    let options = Ipv6RawExtHeader::new_raw(IpNumber::UDP, &[4; 14]).expect("16 bytes");
    let extensions = Ipv6Extensions {
        destination_options: Some(options),
        ..Ipv6Extensions::default()
    };
    let ip = Ipv6Header {
        source: V6.0,
        destination: V6.1,
        hop_limit: 64,
        ..Ipv6Header::default()
    };
    let mut whole = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .single_vlan(5.try_into().expect("12 bits"))
        .ip(etherparse::IpHeaders::Ipv6(ip, extensions))
        .udp(1, 2)
        .write(&mut whole, &payload(1001))
        .expect("a vector");
    let segmenter = Segmenter::new(
        &whole,
        whole.len(),
        segmentation(SegmentKind::Udp, 500),
        None,
    )
    .expect("well formed");
    let all = cut(&whole, &segmenter);
    assert_eq!(
        (all.len(), segmenter.header_len()),
        (3, 14 + 4 + 40 + 16 + 8)
    );
    for (segment, len) in all.iter().zip([500, 500, 1]) {
        assert_checksums(segment);
        assert_eq!(headers(segment).payload.slice().len(), len);
        assert_eq!(segment[..18], whole[..18]);
        assert_eq!(segment[24..74], whole[24..74]);
    }
}

#[test]
fn a_frame_that_fits_is_only_completed() {
    for (kind, is_v6) in KINDS {
        let complete = frame(kind, is_v6, &payload(100));
        for size in [100, 101, 65_535] {
            for partial in [false, true] {
                let all = segments(kind, is_v6, 100, size, partial);
                assert_eq!((all.len(), &all[0]), (1, &complete));
            }
        }
    }
}

/// A sender that states a wrong partial checksum gets wrong ones, as from Linux: what it sends is
/// not repaired on its way.
#[test]
fn a_wrong_partial_checksum_stays_wrong() {
    for (kind, is_v6) in KINDS {
        let mut whole = frame(kind, is_v6, &payload(1000));
        let start = make_partial(&mut whole, kind, is_v6);
        let at = start + checksum_of(kind, is_v6).1;
        whole[at] ^= 1;
        let segmenter = Segmenter::new(&whole, whole.len(), segmentation(kind, 400), Some(start));
        let wrong = cut(&whole, &segmenter.expect("well formed"));
        for (wrong, right) in wrong.iter().zip(segments(kind, is_v6, 1000, 400, true)) {
            assert_ne!(be16(wrong, at), be16(&right, at));
            assert_eq!(wrong[..at], right[..at]);
        }
    }
}

/// What [`Segmenter::new`] says to a frame of 1000 bytes of payload after `change`.
fn refused(
    kind: SegmentKind,
    is_v6: bool,
    size: u16,
    start: Option<usize>,
    change: impl FnOnce(&mut Vec<u8>),
) -> Option<Unsegmentable> {
    let mut whole = frame(kind, is_v6, &payload(1000));
    change(&mut whole);
    Segmenter::new(&whole, whole.len(), segmentation(kind, size), start).err()
}

#[test]
fn what_is_malformed_is_refused_with_its_reason() {
    use SegmentKind::{TcpV4, TcpV6, Udp};
    use Unsegmentable::{
        Authenticated, ChecksumStart, Fragment, Headers, Network, Protocol, Routed, Size, TooMany,
    };
    let same = |_: &mut Vec<u8>| ();
    let set = |at: usize, value: u8| move |frame: &mut Vec<u8>| frame[at] = value;
    let cut_to = |len: usize| move |frame: &mut Vec<u8>| frame.truncate(len);
    assert_eq!(refused(TcpV4, false, 100, Some(34), same), None);
    assert_eq!(refused(TcpV4, false, 0, None, same), Some(Size));
    assert_eq!(refused(TcpV4, true, 100, None, same), Some(Network));
    assert_eq!(refused(TcpV6, false, 100, None, same), Some(Network));
    assert_eq!(refused(Udp, false, 100, None, set(12, 9)), Some(Network));
    assert_eq!(refused(Udp, false, 100, None, set(14, 0x65)), Some(Network));
    assert_eq!(refused(Udp, true, 100, None, set(14, 0x45)), Some(Network));
    assert_eq!(refused(Udp, false, 100, None, set(14, 0x44)), Some(Headers));
    assert_eq!(refused(Udp, false, 100, None, set(23, 6)), Some(Protocol));
    assert_eq!(refused(TcpV6, true, 100, None, set(20, 17)), Some(Protocol));
    assert_eq!(
        refused(Udp, false, 100, None, set(20, 0x20)),
        Some(Fragment)
    );
    assert_eq!(refused(Udp, false, 100, None, set(21, 1)), Some(Fragment));
    assert_eq!(refused(Udp, true, 100, None, set(20, 44)), Some(Fragment));
    assert_eq!(refused(Udp, true, 100, None, cut_to(58)), Some(Headers));
    assert_eq!(refused(TcpV4, false, 9, None, set(46, 0x40)), Some(Headers));
    assert_eq!(refused(TcpV4, false, 9, None, cut_to(60)), Some(Headers));
    assert_eq!(refused(TcpV4, false, 9, None, cut_to(30)), Some(Headers));
    assert_eq!(refused(TcpV4, false, 9, None, cut_to(13)), Some(Headers));
    assert_eq!(refused(Udp, false, 7, None, same), Some(TooMany));
    assert_eq!(refused(Udp, false, 9, Some(84), same), Some(ChecksumStart));
    for (next, inside, reason) in [
        (51, [17, 4, 0, 0], Authenticated),
        (43, [17, 0, 4, 1], Routed),
    ] {
        let insert = |frame: &mut Vec<u8>| {
            frame[20] = next;
            frame.splice(54..54, [&inside[..], &[0; 20]].concat());
        };
        assert_eq!(refused(Udp, true, 100, None, insert), Some(reason));
    }
}

#[test]
fn segments_are_limited_in_number_and_length() {
    let most = u16::try_from(MAX_TCP_SEGMENTS).expect("small");
    for (len, size, refusal) in [
        (usize::from(most), 1, None),
        (usize::from(most) + 1, 1, Some(Unsegmentable::TooMany)),
        (65_536, 48, None),
        (MAX_TCP_SEGMENTS * 48 + 1, 48, Some(Unsegmentable::TooMany)),
        (70_000, 65_483, None),
        (70_000, 65_484, Some(Unsegmentable::TooLong)),
    ] {
        let front = frame(SegmentKind::TcpV4, false, &[]);
        let to = segmentation(SegmentKind::TcpV4, size);
        let found = Segmenter::new(&front, front.len() + len, to, None).err();
        assert_eq!(found, refusal, "{len} {size}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_cut_into_all_their_payload(
        mut front in prop::collection::vec(any::<u8>(), 0..300),
        plausible in prop::option::of((0usize..4, any::<[u8; 3]>())),
        more in 0usize..70_000,
        size: u16,
        kind in 0usize..3,
        start in prop::option::of(0usize..100),
    ) {
        let mut kind = [SegmentKind::TcpV4, SegmentKind::TcpV6, SegmentKind::Udp][kind];
        if let Some((base, changes)) = plausible {
            let is_v6;
            (kind, is_v6) = KINDS[base];
            front = frame(kind, is_v6, &front);
            for change in changes {
                let at = 12 + usize::from(change) % 60;
                if let Some(byte) = front.get_mut(at) {
                    *byte = change;
                }
            }
        }
        let total = front.len() + more;
        let to = segmentation(kind, size);
        if let Ok(segmenter) = Segmenter::new(&front, total, to, start) {
            let mut at = segmenter.header_len();
            prop_assert!(at <= front.len() && at <= MAX_HEADERS);
            let mut out = [0; MAX_HEADERS];
            for index in 0..segmenter.count() {
                let range = segmenter.write(index, &mut out, Sum::new());
                prop_assert_eq!(range.start, at);
                prop_assert!(segmenter.header_len() + range.len() <= segmenter.longest());
                at = range.end;
            }
            prop_assert_eq!(at, total);
        }
    }
}

/// What is before the Ethernet or IP header of an inner packet of `len` bytes.
fn outer(name: &str, is_v6: bool, len: usize) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let inner = vec![0; len];
    let mut out = Vec::new();
    let (protocol, header): (u8, &[u8]) = match name {
        "vxlan" | "vxlan with a checksum" => (17, &[8, 0, 0, 0, 0, 0, 7, 0]),
        "gre" => (47, &[0x20, 0, 0x65, 0x58, 0, 0, 0, 9]),
        _ => (4, &[]),
    };
    let body = [header, &inner].concat();
    let builder = |ethernet: etherparse::PacketBuilderStep<etherparse::Ethernet2Header>| {
        if is_v6 {
            ethernet.ipv6([1; 16], [2; 16], 64)
        } else {
            ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        }
    };
    if protocol == 17 {
        builder(ethernet)
            .udp(50_000, 8472)
            .write(&mut out, &body)
            .unwrap();
        let at = if is_v6 { 54 } else { 34 };
        put16(&mut out, at + 6, u16::from(name == "vxlan with a checksum"));
    } else {
        builder(ethernet)
            .write(&mut out, etherparse::IpNumber(protocol), &body)
            .unwrap();
    }
    out.truncate(out.len() - len);
    out
}

/// The segments of a superframe in a tunnel are those of the inner superframe, each behind outer
/// headers of its own.
#[test]
fn a_superframe_in_a_tunnel_is_cut_inside() {
    for name in ["vxlan", "vxlan with a checksum", "gre", "ip in ip"] {
        for (kind, is_v6) in [
            (SegmentKind::TcpV4, false),
            (SegmentKind::TcpV6, true),
            (SegmentKind::Udp, false),
            (SegmentKind::Udp, true),
        ] {
            for outer_v6 in [false, true] {
                let mut inner = frame(kind, is_v6, &payload(4001));
                let start = make_partial(&mut inner, kind, is_v6);
                let alone =
                    Segmenter::new(&inner, inner.len(), segmentation(kind, 1000), Some(start));
                let alone = cut(&inner, &alone.unwrap());
                // Without the Ethernet header where there is none inside.
                let skipped = if name == "ip in ip" { 14 } else { 0 };
                let before = outer(name, outer_v6, inner.len() - skipped);
                let whole = [&before[..], &inner[skipped..]].concat();
                let start = Some(before.len() + start - skipped);
                let segments = Segmenter::new(&whole, whole.len(), segmentation(kind, 1000), start);
                let segments = segments.unwrap_or_else(|why| panic!("{name} {kind:?}: {why}"));
                assert!(segments.is_in_tunnel());
                let segments = cut(&whole, &segments);
                assert_eq!(segments.len(), alone.len());
                for (number, (segment, alone)) in segments.iter().zip(&alone).enumerate() {
                    assert_eq!(segment[before.len()..], alone[skipped..], "{name} {kind:?}");
                    assert_outer(segment, outer_v6, name, number as u16);
                }
            }
        }
    }
}

/// Lengths, identification and checksums of outer headers.
fn assert_outer(segment: &[u8], is_v6: bool, name: &str, number: u16) {
    let packet = &segment[14..];
    let transport = if is_v6 {
        assert_eq!(usize::from(be16(packet, 4)), packet.len() - 40, "{name}");
        40
    } else {
        assert_eq!(usize::from(be16(packet, 2)), packet.len(), "{name}");
        assert_eq!(be16(packet, 4), number, "{name}");
        assert!(Sum::new().bytes(&packet[..20]).is_valid(), "{name}");
        20
    };
    if !name.starts_with("vxlan") {
        return;
    }
    let datagram = &packet[transport..];
    assert_eq!(usize::from(be16(datagram, 4)), datagram.len(), "{name}");
    if name == "vxlan" {
        return assert_eq!(be16(datagram, 6), 0);
    }
    let addresses = if is_v6 {
        &packet[8..40]
    } else {
        &packet[12..20]
    };
    let sum = Sum::new().pseudo_header(addresses, 17, datagram.len());
    assert!(
        sum.then(Sum::new().bytes(datagram), false).is_valid(),
        "{name}"
    );
}
