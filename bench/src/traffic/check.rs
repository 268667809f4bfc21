//! Checks that a forwarded frame equals the one that was sent. Not on the fast path.

use std::net::IpAddr;

use etherparse::IpHeaders;
use vtep_dataplane::addr::MacAddr;

use super::template::{self, Template};
use crate::row::Failure;

/// The expected outer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// (source, destination) MAC.
    pub macs: (MacAddr, MacAddr),
    /// (source, destination) address.
    pub addresses: (IpAddr, IpAddr),
    /// The VNI.
    pub vni: u32,
}

/// Compares a frame with the one of `template`: every byte of the inner frame except the time
/// stamp, and the outer header, or its absence.
///
/// # Errors
/// [`Failure`] with the difference and the bytes of the frame.
pub fn check(frame: &[u8], template: &Template, outer: Option<&Outer>) -> Result<(), Failure> {
    let wrong = |what: &str| Failure::new(format!("a forwarded frame {what}: {frame:02x?}"));
    let stamp = template::read(frame).ok_or_else(|| wrong("was not sent"))?;
    let vni = outer.map(|outer| outer.vni);
    if stamp.vni != vni {
        return Err(wrong(&format!(
            "has VNI {:?} instead of {vni:?}",
            stamp.vni
        )));
    }
    if let Some(outer) = outer
        && !is_right(frame, outer)?
    {
        return Err(wrong("has a wrong outer header"));
    }
    if template::same(&frame[stamp.inner..], &template.expected(stamp.sequence)) {
        Ok(())
    } else {
        Err(wrong("has a changed inner frame"))
    }
}

fn is_right(frame: &[u8], outer: &Outer) -> Result<bool, Failure> {
    let (ethernet, rest) =
        etherparse::Ethernet2Header::from_slice(frame).map_err(Failure::of("outer"))?;
    let ip_length = rest.len();
    let (ip, payload) = IpHeaders::from_slice(rest).map_err(Failure::of("outer"))?;
    let rest = payload.payload;
    let (udp, data) = etherparse::UdpHeader::from_slice(rest).map_err(Failure::of("outer"))?;
    let is_right = match (&ip, outer.addresses) {
        (IpHeaders::Ipv4(ip, _), (IpAddr::V4(from), IpAddr::V4(to))) => {
            (ip.source, ip.destination) == (from.octets(), to.octets())
                && usize::from(ip.total_len) == ip_length
                && ip.header_checksum == ip.calc_header_checksum()
        }
        (IpHeaders::Ipv6(ip, _), (IpAddr::V6(from), IpAddr::V6(to))) => {
            (ip.source, ip.destination) == (from.octets(), to.octets())
                && usize::from(ip.payload_length) == rest.len()
                && udp
                    .calc_checksum_ipv6(ip, data)
                    .is_ok_and(|sum| sum == udp.checksum)
        }
        _ => false,
    };
    Ok(is_right
        && (ethernet.source, ethernet.destination) == (outer.macs.0.0, outer.macs.1.0)
        && usize::from(udp.length) == rest.len()
        && udp.source_port >= template::FIRST_PORT)
}

#[cfg(test)]
mod tests {
    use vtep_dataplane::addr::Vni;

    use super::super::template::{Shape, Tunnel};
    use super::*;

    #[test]
    fn every_changed_byte_is_found() {
        let macs = (MacAddr([2, 0, 0, 0, 2, 1]), MacAddr([2, 0, 0, 0, 2, 2]));
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let addresses = (address(1), address(2));
        let shape = Shape {
            source: "02:00:00:00:00:01".parse().unwrap(),
            destination: MacAddr([2, 0, 0, 0, 1, 0]),
            destinations: 1,
            flows: 1,
            size: 60,
            tunnel: Some(Tunnel {
                source_mac: macs.0,
                destination_mac: macs.1,
                source: addresses.0,
                destination: addresses.1,
                udp_port: 4789,
                vni: Vni::new(100).unwrap(),
            }),
        };
        let template = Template::new(&shape).unwrap();
        let outer = Outer {
            macs,
            addresses,
            vni: 100,
        };
        let mut frame = vec![0; template.size()];
        template.clone().write(&mut frame, 9);
        check(&frame, &template, Some(&outer)).unwrap();
        assert!(check(&frame, &template, None).is_err());
        // MACs, IPv4 header, UDP length, VNI, inner headers, magic, the last byte.
        for place in [0, 11, 15, 17, 26, 33, 39, 47, 50, 70, 92, 109] {
            frame[place] ^= 1;
            assert!(
                check(&frame, &template, Some(&outer)).is_err(),
                "byte {place}"
            );
            frame[place] ^= 1;
        }
    }
}
