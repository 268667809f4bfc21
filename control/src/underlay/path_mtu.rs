//! Path MTUs of VTEPs that are below those of the interfaces and routes here: a narrower link
//! behind a router is known only by the ICMP errors that the router sends (RFC 1191, RFC 8201).
//! Pure: the sockets are in [`super::icmp`].
//!
//! Such an error can be forged by anyone who knows the addresses. It is believed when it quotes a
//! packet that this VTEP may have sent, that is longer than the MTU it reports; it lowers the MTU
//! of one VTEP, not below a floor, and for ten minutes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use vtep_dataplane::wire::checksum::Sum;
use vtep_dataplane::wire::ipv4::Ipv4;
use vtep_dataplane::wire::ipv6::{self, Ipv6};
use vtep_dataplane::wire::udp::{self, Udp};
use vtep_dataplane::wire::{icmp, ipv4};

/// How long a path MTU is used before a larger one is tried, as net.ipv4.route.mtu_expires (RFC
/// 1191 section 6.3: ten minutes).
pub(super) const LIFETIME: Duration = Duration::from_secs(600);

/// Smallest path MTU over IPv4, bytes: Linux' net.ipv4.route.min_pmtu.
const FLOOR_V4: u32 = 552;

/// Smallest path MTU over IPv6, bytes: the minimum link MTU (RFC 8200 section 5).
const FLOOR_V6: u32 = 1280;

/// Errors that are evaluated in a second; later ones are ignored. A change of a path reaches every
/// worker, and errors can be forged.
const PER_SECOND: u32 = 100;

/// MTUs of links in descending order, for routers that report none (RFC 1191 section 7.1).
const PLATEAUS: [u32; 9] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296];

/// An ICMP error "fragmentation needed" (RFC 792, RFC 1191 section 4) or "packet too big" (RFC 4443
/// section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooBig {
    /// Source of the quoted packet.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Its length with the IP header, bytes, as its header says.
    pub length: u32,
    /// Its destination port, if it is UDP and the port is quoted.
    pub udp_port: Option<u16>,
    /// The MTU that the router reports, bytes.
    pub mtu: u32,
}

impl TooBig {
    /// Decodes an IPv4 packet with an ICMP message. `None` for any other message, one with a wrong
    /// checksum, and one that quotes less than an IP header.
    #[must_use]
    pub fn decode_v4(packet: &[u8]) -> Option<Self> {
        let message = packet.get(Ipv4::parse(packet)?.header_len()..)?;
        let header = message.first_chunk::<{ icmp::LEN }>()?;
        if header[..2] != [3, 4] || !Sum::new().bytes(message).is_valid() {
            return None;
        }
        let quote = &message[icmp::LEN..];
        let ip = Ipv4::parse(quote).filter(|ip| ip.version() == 4)?;
        let ports = quote.get(ip.header_len().max(ipv4::LEN)..)?;
        let length = ip.total_len() as u32;
        let mtu = u32::from(u16::from_be_bytes([header[6], header[7]]));
        let plateau = || PLATEAUS.into_iter().find(|plateau| *plateau < length);
        Some(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            length,
            udp_port: (!ip.is_later_fragment())
                .then(|| udp_port(ip.protocol(), ports))
                .flatten(),
            mtu: if mtu == 0 { plateau()? } else { mtu },
        })
    }

    /// Decodes an ICMPv6 message, whose checksum the kernel has verified. `None` for any other, and
    /// one that quotes less than an IPv6 header.
    #[must_use]
    pub fn decode_v6(message: &[u8]) -> Option<Self> {
        let header = message.first_chunk::<{ icmp::LEN }>()?;
        if header[..2] != [2, 0] {
            return None;
        }
        let quote = &message[icmp::LEN..];
        let ip = Ipv6::parse(quote).filter(|ip| ip.version() == 6)?;
        Some(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            length: (ipv6::LEN + ip.payload_len()) as u32,
            udp_port: udp_port(ip.next_header(), quote.get(ipv6::LEN..)?),
            mtu: u32::from_be_bytes(*header.last_chunk()?),
        })
    }
}

fn udp_port(protocol: u8, header: &[u8]) -> Option<u16> {
    let header = Udp::parse(header).filter(|_| protocol == udp::PROTOCOL)?;
    Some(header.destination_port())
}

/// A path MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMtu {
    /// Bytes, with the outer IP header.
    pub mtu: u32,
    /// Who reported it; `None` when the kernel knew it.
    pub reporter: Option<IpAddr>,
    /// Until when it is used.
    pub until: Instant,
}

/// The path MTUs of tracked VTEPs.
#[derive(Debug, Default)]
pub(super) struct PathMtus {
    by_vtep: HashMap<IpAddr, PathMtu>,
    /// The current second, and the errors evaluated in it.
    window: Option<(Instant, u32)>,
}

impl PathMtus {
    /// The path MTU of a VTEP.
    pub(super) fn get(&self, vtep: IpAddr) -> Option<&PathMtu> {
        self.by_vtep.get(&vtep)
    }

    /// Number of VTEPs with one.
    pub(super) fn len(&self) -> usize {
        self.by_vtep.len()
    }

    /// Whether another error may be evaluated in this second.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let (since, count) = self.window.get_or_insert((now, 0));
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= PER_SECOND
    }

    /// Records a path MTU; a smaller one that is known already stays. Returns whether it has
    /// changed.
    pub(super) fn lower(&mut self, vtep: IpAddr, new: PathMtu) -> bool {
        let floor = if vtep.is_ipv6() { FLOOR_V6 } else { FLOOR_V4 };
        let new = PathMtu {
            mtu: new.mtu.max(floor),
            ..new
        };
        match self.by_vtep.get_mut(&vtep) {
            Some(known) if known.mtu < new.mtu => false,
            Some(known) if known.mtu == new.mtu => {
                known.until = known.until.max(new.until);
                false
            }
            _ => {
                self.by_vtep.insert(vtep, new);
                true
            }
        }
    }

    /// Forgets that of one VTEP.
    pub(super) fn remove(&mut self, vtep: IpAddr) {
        self.by_vtep.remove(&vtep);
    }

    /// Forgets those whose time has passed, and returns their VTEPs.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<IpAddr> {
        let over = |_: &IpAddr, known: &mut PathMtu| known.until <= now;
        self.by_vtep
            .extract_if(over)
            .map(|(vtep, _)| vtep)
            .collect()
    }

    /// When the next one ends.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_vtep.values().map(|known| known.until).min()
    }
}

#[cfg(test)]
#[path = "path_mtu_tests.rs"]
mod tests;
