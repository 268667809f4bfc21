//! Builds Ethernet frames for tests.

use etherparse::PacketBuilder;

/// EtherType for local experiments (IEEE Std 802): switches forward it, and no stack answers it.
pub const EXPERIMENT: u16 = 0x88b5;

/// Six bytes from `aa:bb:cc:dd:ee:ff`.
///
/// # Panics
/// If the text is not a MAC address.
#[must_use]
pub fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|p| u8::from_str_radix(p, 16).expect("two hex digits"))
        .collect();
    bytes.try_into().expect("six bytes")
}

/// A frame of [`EXPERIMENT`] type that carries `text`, padded to 60 bytes.
#[must_use]
pub fn plain(destination: &str, source: &str, text: &str) -> Vec<u8> {
    let mut frame = [
        &mac(destination)[..],
        &mac(source),
        &EXPERIMENT.to_be_bytes(),
        text.as_bytes(),
    ]
    .concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The same frame with an 802.1Q tag (VLAN 1..=4094).
#[must_use]
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    [
        &frame[..12],
        &[0x81, 0x00],
        &vlan.to_be_bytes(),
        &frame[12..],
    ]
    .concat()
}

/// The frame without its 802.1Q tag, and the VLAN; `None` if it has none.
#[must_use]
pub fn untagged(frame: &[u8]) -> Option<(Vec<u8>, u16)> {
    let tag = frame.get(12..16)?;
    (tag[..2] == [0x81, 0x00]).then(|| {
        (
            [&frame[..12], &frame[16..]].concat(),
            u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff,
        )
    })
}

/// A UDP datagram between tenants over IPv4 with correct checksums, `tos` as its second byte,
/// `text` as its payload.
///
/// # Panics
/// Never: the payload is short.
#[must_use]
pub fn udp4(destination: &str, source: &str, tos: u8, text: &str) -> Vec<u8> {
    let header = etherparse::Ipv4Header {
        dscp: etherparse::IpDscp::try_new(tos >> 2).expect("six bits"),
        ecn: etherparse::IpEcn::try_new(tos & 3).expect("two bits"),
        ..etherparse::Ipv4Header::new(
            0,
            64,
            etherparse::IpNumber::UDP,
            [192, 0, 2, 77],
            [192, 0, 2, 78],
        )
        .expect("short")
    };
    let header = etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default());
    udp(destination, source, header, text)
}

/// As [`udp4`], over IPv6 with `tos` as its traffic class.
///
/// # Panics
/// Never: the payload is short.
#[must_use]
pub fn udp6(destination: &str, source: &str, tos: u8, text: &str) -> Vec<u8> {
    let address = |last| std::net::Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, last).octets();
    let header = etherparse::Ipv6Header {
        traffic_class: tos,
        hop_limit: 64,
        next_header: etherparse::IpNumber::UDP,
        source: address(77),
        destination: address(78),
        ..Default::default()
    };
    let header = etherparse::IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default());
    udp(destination, source, header, text)
}

fn udp(destination: &str, source: &str, header: etherparse::IpHeaders, text: &str) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(source), mac(destination))
        .ip(header)
        .udp(7777, 7778);
    let mut frame = Vec::new();
    builder
        .write(&mut frame, text.as_bytes())
        .expect("writing to a vector cannot fail");
    frame
}

/// The Internet checksum (RFC 1071) of `bytes`, added to `sum`.
#[must_use]
pub fn checksum(sum: u32, bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0)));
    let mut sum = words.fold(sum, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}
