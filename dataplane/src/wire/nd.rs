//! Neighbor Discovery (RFC 4861), as far as it binds a MAC to a host.
//!
//! ```text
//!  0      1      2             4                      8                        24
//! +------+------+-------------+----------------------+-------- - - -----------+-------- - -
//! | type | code |  checksum   | flags, reserved      | target address (16)    | options
//! +------+------+-------------+----------------------+-------- - - -----------+-------- - -
//! ```
//!
//! Router solicitations and advertisements have no target: their options begin at 8 and 16. An
//! option is a type, a length in units of 8 bytes, and a value.

use std::net::Ipv6Addr;

use super::checksum::Sum;
use super::ipv6::{self, Ipv6};
use super::put16;
use crate::addr::MacAddr;

/// Length of a solicitation or advertisement without options, bytes.
pub const LEN: usize = 24;

/// Length of an advertisement packet with its one option, from the IPv6 header on. Bytes.
pub const ADVERTISEMENT_LEN: usize = ipv6::LEN + LEN + 8;

/// The hop limit of every message: no router has forwarded it (RFC 4861 section 3.1).
pub const HOP_LIMIT: u8 = 255;

/// The all-nodes multicast address of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
/// CGA and RSA signature options: the sender has signed the message (RFC 3971).
const SIGNED: [u8; 2] = [11, 12];

/// Flags of an advertisement, in its fifth byte.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NdKind {
    /// Asks for the MAC of the target.
    Solicitation,
    /// Announces the MAC of the target.
    Advertisement,
    /// To or from a router, or a redirect: announces the MAC of its source at most.
    Router,
}

/// The Router and Override flags of advertisements for an address (RFC 4861 section 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NdFlags {
    /// The host is a router.
    pub router: bool,
    /// The advertisement replaces an entry that the receiver has; false for anycast addresses.
    pub overrides: bool,
}

impl NdFlags {
    /// Those of a host.
    pub const HOST: Self = Self {
        router: false,
        overrides: true,
    };
    /// Those of a router.
    pub const ROUTER: Self = Self {
        router: true,
        overrides: true,
    };
}

/// The message violates a rule that every receiver must enforce by discarding it (RFC 4861 sections
/// 6.1, 7.1, 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NdMalformed;

/// A valid message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nd {
    /// The kind of message.
    pub kind: NdKind,
    /// IPv6 source; `::` in duplicate address detection (RFC 4862 section 5.4).
    pub source: Ipv6Addr,
    /// The target; in router messages the source.
    pub target: Ipv6Addr,
    /// The announced MAC: the target's in an advertisement, otherwise the source's.
    pub link_address: Option<MacAddr>,
    /// The binding of another host that a redirect announces: its target, and the target's MAC.
    pub redirect: Option<(Ipv6Addr, MacAddr)>,
    /// The message is signed (RFC 3971): only its sender can answer for it or change it.
    pub signed: bool,
    /// What the message says about the announced address: an advertisement its flags, a router
    /// advertisement that its source is a router; `None` for other messages.
    pub flags: Option<NdFlags>,
}

/// True for the ICMPv6 types of Neighbor Discovery.
#[inline]
#[must_use]
pub const fn is_nd(kind: u8) -> bool {
    matches!(kind, ROUTER_SOLICITATION..=REDIRECT)
}

impl Nd {
    /// Reads the message at `offset` of `packet`, which begins with the IPv6 header and has the
    /// length that this header gives.
    ///
    /// # Errors
    /// [`NdMalformed`].
    pub fn parse(packet: &[u8], offset: usize) -> Result<Self, NdMalformed> {
        let header = Ipv6::parse(packet).ok_or(NdMalformed)?;
        let message = packet
            .get(offset..)
            .filter(|message| message.len() >= 8)
            .ok_or(NdMalformed)?;
        let sum = Sum::new()
            .pseudo_header(header.addresses(), ipv6::ICMP, message.len())
            .bytes(message);
        if header.hop_limit() != HOP_LIMIT || message[1] != 0 || !sum.is_valid() {
            return Err(NdMalformed);
        }
        let (kind, options_at, mac_option) = match message[0] {
            SOLICITATION => (NdKind::Solicitation, LEN, SOURCE_LINK_ADDRESS),
            ADVERTISEMENT => (NdKind::Advertisement, LEN, TARGET_LINK_ADDRESS),
            ROUTER_ADVERTISEMENT => (NdKind::Router, 16, SOURCE_LINK_ADDRESS),
            // A redirect announces the MAC of another host, not of its sender.
            REDIRECT => (NdKind::Router, 40, TARGET_LINK_ADDRESS),
            _ => (NdKind::Router, 8, SOURCE_LINK_ADDRESS),
        };
        let options = message.get(options_at..).ok_or(NdMalformed)?;
        let mut nd = Self {
            kind,
            source: header.source(),
            target: header.source(),
            link_address: None,
            redirect: None,
            signed: false,
            flags: match message[0] {
                ADVERTISEMENT => Some(NdFlags {
                    router: message[4] & ROUTER != 0,
                    overrides: message[4] & OVERRIDE != 0,
                }),
                ROUTER_ADVERTISEMENT => Some(NdFlags::ROUTER),
                _ => None,
            },
        };
        if kind != NdKind::Router {
            nd.target =
                Ipv6Addr::from(*message[8..].first_chunk::<16>().expect("checked: 24 bytes"));
        }
        nd.read_options(options, mac_option)?;
        if message[0] == REDIRECT {
            let target = Ipv6Addr::from(*message[8..].first_chunk::<16>().ok_or(NdMalformed)?);
            nd.redirect = nd.link_address.take().map(|mac| (target, mac));
        }
        nd.check(header.destination(), message[4] & SOLICITED != 0)?;
        Ok(nd)
    }

    fn read_options(&mut self, mut options: &[u8], mac_option: u8) -> Result<(), NdMalformed> {
        while let Some((kind, rest)) = options.split_first() {
            let len = 8 * usize::from(*rest.first().ok_or(NdMalformed)?);
            if len == 0 || len > options.len() {
                return Err(NdMalformed);
            }
            if *kind == mac_option {
                let mac = options[2..].first_chunk().ok_or(NdMalformed)?;
                // Two that differ: receivers may disagree on which one counts.
                if len != 8 || self.link_address.is_some_and(|first| first.0 != *mac) {
                    return Err(NdMalformed);
                }
                self.link_address = Some(MacAddr(*mac));
            }
            self.signed |= SIGNED.contains(kind);
            options = &options[len..];
        }
        Ok(())
    }

    /// Checks the rules between fields.
    fn check(&self, destination: Ipv6Addr, solicited: bool) -> Result<(), NdMalformed> {
        let wrong = match self.kind {
            NdKind::Solicitation if self.source.is_unspecified() => {
                self.target.is_multicast()
                    || self.link_address.is_some()
                    || !is_solicited_node(destination)
            }
            NdKind::Solicitation => self.target.is_multicast(),
            NdKind::Advertisement => {
                self.target.is_multicast() || (solicited && destination.is_multicast())
            }
            NdKind::Router => self.source.is_unspecified() && self.link_address.is_some(),
        };
        if wrong || self.source.is_multicast() {
            Err(NdMalformed)
        } else {
            Ok(())
        }
    }
}

/// True for ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
fn is_solicited_node(address: Ipv6Addr) -> bool {
    address.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]
}

/// An advertisement to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// The address that it announces, which is also its source.
    pub target: Ipv6Addr,
    /// Source of the solicitation; `::` in duplicate address detection, where the answer goes to
    /// all nodes.
    pub requester: Ipv6Addr,
    /// The target's MAC.
    pub mac: MacAddr,
    /// The Router and Override flags.
    pub flags: NdFlags,
}

impl Advertisement {
    /// Writes the whole packet, from the IPv6 header on, as the target would send it (RFC 4861
    /// section 7.2.4).
    ///
    /// # Panics
    /// If `packet` is shorter than [`ADVERTISEMENT_LEN`].
    pub fn emit(&self, packet: &mut [u8]) {
        let (headers, message) = packet[..ADVERTISEMENT_LEN].split_at_mut(ipv6::LEN);
        let solicited = !self.requester.is_unspecified();
        let flag = |set, bit| if set { bit } else { 0 };
        ipv6::Repr {
            payload_len: message.len() as u16,
            next_header: ipv6::ICMP,
            hop_limit: HOP_LIMIT,
            source: self.target,
            destination: if solicited { self.requester } else { ALL_NODES },
        }
        .emit(headers);
        message[..8].copy_from_slice(&[ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0]);
        message[4] = flag(self.flags.router, ROUTER)
            | flag(solicited, SOLICITED)
            | flag(self.flags.overrides, OVERRIDE);
        message[8..LEN].copy_from_slice(&self.target.octets());
        message[LEN..LEN + 2].copy_from_slice(&[TARGET_LINK_ADDRESS, 1]);
        message[LEN + 2..].copy_from_slice(&self.mac.0);
        let sum = Sum::new()
            .pseudo_header(&headers[8..], ipv6::ICMP, message.len())
            .bytes(message);
        put16(message, 2, sum.checksum());
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Slice, Icmpv6Type, icmpv6::NeighborAdvertisementHeader};
    use proptest::prelude::*;

    use super::*;

    fn host(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)
    }

    /// A packet with a valid checksum.
    fn packet(source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; ipv6::LEN];
        let payload_len = message.len() as u16;
        ipv6::Repr {
            payload_len,
            next_header: ipv6::ICMP,
            hop_limit,
            source,
            destination,
        }
        .emit(&mut packet);
        packet.extend_from_slice(message);
        let sum = Sum::new()
            .pseudo_header(&packet[8..40], ipv6::ICMP, message.len())
            .bytes(message);
        put16(&mut packet, 42, sum.checksum());
        packet
    }

    fn solicitation(target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
        [
            &[SOLICITATION, 0, 0, 0, 0, 0, 0, 0],
            &target.octets()[..],
            options,
        ]
        .concat()
    }

    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
    const FROM_1: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];

    #[test]
    fn a_solicitation_is_read() {
        let nd = Nd::parse(
            &packet(host(1), GROUP, 255, &solicitation(host(2), &FROM_1)),
            40,
        )
        .unwrap();
        assert_eq!(
            (nd.kind, nd.source, nd.target),
            (NdKind::Solicitation, host(1), host(2))
        );
        assert_eq!(
            (nd.link_address, nd.signed),
            (Some(MacAddr([2, 0, 0, 0, 0, 1])), false)
        );
        let signed = solicitation(host(2), &[12, 1, 0, 0, 0, 0, 0, 0]);
        assert!(
            Nd::parse(&packet(host(1), GROUP, 255, &signed), 40)
                .unwrap()
                .signed
        );
        let dad = packet(
            Ipv6Addr::UNSPECIFIED,
            GROUP,
            255,
            &solicitation(host(2), &[]),
        );
        assert_eq!(Nd::parse(&dad, 40).unwrap().link_address, None);
    }

    #[test]
    fn what_receivers_must_discard_is_malformed() {
        let good = solicitation(host(2), &FROM_1);
        let wrong =
            |packet: Vec<u8>| assert_eq!(Nd::parse(&packet, 40), Err(NdMalformed), "{packet:x?}");
        wrong(packet(host(1), GROUP, 254, &good));
        wrong(packet(host(1), GROUP, 255, &good[..20]));
        wrong(packet(host(1), GROUP, 255, &solicitation(GROUP, &[])));
        wrong(packet(
            host(1),
            GROUP,
            255,
            &solicitation(host(2), &[1, 0, 0, 0, 0, 0, 0, 0]),
        ));
        wrong(packet(
            host(1),
            GROUP,
            255,
            &solicitation(host(2), &[1, 2, 0, 0, 0, 0, 0, 0]),
        ));
        wrong(packet(
            host(1),
            GROUP,
            255,
            &solicitation(host(2), &[FROM_1, [1, 1, 2, 0, 0, 0, 0, 9]].concat()),
        ));
        wrong(packet(Ipv6Addr::UNSPECIFIED, GROUP, 255, &good));
        wrong(packet(
            Ipv6Addr::UNSPECIFIED,
            host(2),
            255,
            &solicitation(host(2), &[]),
        ));
        wrong(packet(GROUP, GROUP, 255, &good));
        let mut code = good.clone();
        code[1] = 1;
        wrong(packet(host(1), GROUP, 255, &code));
        let mut sum = packet(host(1), GROUP, 255, &good);
        sum[43] ^= 1;
        wrong(sum);
        let mut to_all = good;
        (to_all[0], to_all[4]) = (ADVERTISEMENT, SOLICITED);
        wrong(packet(host(1), ALL_NODES, 255, &to_all));
    }

    #[test]
    fn an_advertisement_reads_in_etherparse_and_here() {
        for (requester, router, overrides) in
            [(host(1), true, false), (Ipv6Addr::UNSPECIFIED, false, true)]
        {
            let mut packet = vec![0xaa; ADVERTISEMENT_LEN];
            let mac = MacAddr([2, 0, 0, 0, 0, 9]);
            Advertisement {
                target: host(2),
                requester,
                mac,
                flags: NdFlags { router, overrides },
            }
            .emit(&mut packet);
            let (ip, message) = etherparse::Ipv6Header::from_slice(&packet).unwrap();
            let solicited = !requester.is_unspecified();
            assert_eq!(
                (
                    ip.source_addr(),
                    ip.hop_limit,
                    usize::from(ip.payload_length)
                ),
                (host(2), 255, 32)
            );
            assert_eq!(
                ip.destination_addr(),
                if solicited { requester } else { ALL_NODES }
            );
            let icmp = Icmpv6Slice::from_slice(message).unwrap();
            assert!(icmp.is_checksum_valid(ip.source, ip.destination));
            let flags = NeighborAdvertisementHeader {
                router,
                solicited,
                r#override: overrides,
            };
            assert_eq!(icmp.icmp_type(), Icmpv6Type::NeighborAdvertisement(flags));
            assert_eq!(
                message[8..],
                [&host(2).octets()[..], &[2, 1, 2, 0, 0, 0, 0, 9]].concat()
            );
            let nd = Nd::parse(&packet, 40).unwrap();
            assert_eq!(
                (nd.kind, nd.target, nd.link_address, nd.flags),
                (
                    NdKind::Advertisement,
                    host(2),
                    Some(mac),
                    Some(NdFlags { router, overrides })
                )
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            mut message in prop::collection::vec(any::<u8>(), 8..120),
            kind in 133u8..138,
        ) {
            (message[0], message[1]) = (kind, 0);
            put16(&mut message, 2, 0);
            let _ = Nd::parse(&packet(host(1), host(2), 255, &message), 40);
            let _ = Nd::parse(&message, 40);
        }
    }
}
