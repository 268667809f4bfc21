//! Decoding ICMP errors, and what they may change.

use super::*;

const ROUTER: [u8; 4] = [10, 0, 0, 1];

/// "Fragmentation needed" with `mtu` about a packet of `length` bytes to UDP port 4789.
fn fragmentation_needed(mtu: u16, length: u16) -> Vec<u8> {
    let mut quote = vec![
        0x45, 0, 0, 0, 0, 1, 0x40, 0, 63, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9,
    ];
    quote[2..4].copy_from_slice(&length.to_be_bytes());
    quote.extend([0xc0, 1, 0x12, 0xb5, 0, 0, 0, 0]);
    let mut message = [vec![0; 8], quote].concat();
    icmp::emit_fragmentation_needed(&mut message, mtu);
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
    packet.extend(ROUTER);
    packet.extend([192, 0, 2, 1]);
    packet.extend(message);
    packet
}

fn packet_too_big(mtu: u32, payload: u16) -> Vec<u8> {
    let mut quote = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
    quote[4..6].copy_from_slice(&payload.to_be_bytes());
    for last in [1, 9] {
        quote.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    quote.extend([0xc0, 1, 0x12, 0xb5, 0, 0, 0, 0]);
    [&[2, 0, 0, 0][..], &mtu.to_be_bytes(), &quote].concat()
}

#[test]
fn both_families_are_decoded() {
    let error = TooBig::decode_v4(&fragmentation_needed(1400, 1550)).unwrap();
    assert_eq!(
        error,
        TooBig {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.9".parse().unwrap(),
            length: 1550,
            udp_port: Some(4789),
            mtu: 1400,
        }
    );
    let error = TooBig::decode_v6(&packet_too_big(1300, 1500)).unwrap();
    assert_eq!(
        error,
        TooBig {
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::9".parse().unwrap(),
            length: 1540,
            udp_port: Some(4789),
            mtu: 1300,
        }
    );
}

#[test]
fn a_router_that_reports_no_mtu_means_the_next_plateau() {
    for (length, mtu) in [(1550, 1492), (1492, 1006), (9000, 8166)] {
        let error = TooBig::decode_v4(&fragmentation_needed(0, length)).unwrap();
        assert_eq!(error.mtu, mtu, "{length}");
    }
}

#[test]
fn damaged_and_other_messages_are_refused() {
    let good = fragmentation_needed(1400, 1550);
    for length in 0..20 + 8 + 20 {
        assert_eq!(TooBig::decode_v4(&good[..length]), None, "{length}");
    }
    for at in 20..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x10;
        assert_eq!(TooBig::decode_v4(&damaged), None, "byte {at}");
    }
    let good = packet_too_big(1300, 1500);
    for length in 0..8 + 40 {
        assert_eq!(TooBig::decode_v6(&good[..length]), None, "{length}");
    }
    let mut other = good;
    other[0] = 1;
    assert_eq!(TooBig::decode_v6(&other), None);
}

#[test]
fn tcp_and_later_fragments_have_no_udp_port() {
    let mut packet = fragmentation_needed(1400, 1550);
    let set = |packet: &mut Vec<u8>, at: usize, value| {
        packet[20 + 8 + at] = value;
        let message = &mut packet[20..];
        icmp::emit_fragmentation_needed(message, 1400);
    };
    set(&mut packet, 9, 6);
    assert_eq!(TooBig::decode_v4(&packet).unwrap().udp_port, None);
    set(&mut packet, 9, 17);
    set(&mut packet, 7, 1);
    assert_eq!(TooBig::decode_v4(&packet).unwrap().udp_port, None);
}

#[test]
fn a_path_mtu_only_falls_has_a_floor_and_expires() {
    let (mut mtus, start) = (PathMtus::default(), Instant::now());
    let at = |mtu, seconds| PathMtu {
        mtu,
        reporter: Some(ROUTER.into()),
        until: start + Duration::from_secs(seconds),
    };
    for (vtep, floor) in [("192.0.2.9", 552), ("2001:db8::9", 1280)] {
        let vtep = vtep.parse().unwrap();
        assert!(mtus.lower(vtep, at(1400, 600)));
        assert!(!mtus.lower(vtep, at(1500, 900)));
        assert!(!mtus.lower(vtep, at(1400, 700)));
        assert_eq!(mtus.get(vtep), Some(&at(1400, 700)));
        assert!(mtus.lower(vtep, at(0, 800)));
        assert_eq!(mtus.get(vtep), Some(&at(floor, 800)));
        assert_eq!(mtus.next_expiry(), Some(at(0, 800).until));
        assert!(mtus.expire(at(0, 799).until).is_empty());
        assert_eq!(mtus.expire(at(0, 800).until), [vtep]);
        assert_eq!((mtus.get(vtep), mtus.next_expiry()), (None, None));
    }
}

/// A quote of no more than the IP header concerns no known port.
#[test]
fn a_short_quote_has_no_udp_port() {
    let mut packet = fragmentation_needed(1400, 1550);
    packet.truncate(20 + 8 + 20);
    icmp::emit_fragmentation_needed(&mut packet[20..], 1400);
    assert_eq!(TooBig::decode_v4(&packet).unwrap().udp_port, None);
}

#[test]
fn errors_are_evaluated_at_a_bounded_rate() {
    let (mut mtus, start) = (PathMtus::default(), Instant::now());
    let allowed = (0..1000).filter(|_| mtus.allow(start)).count();
    assert_eq!(allowed, PER_SECOND as usize);
    assert!(mtus.allow(start + Duration::from_secs(1)));
}
