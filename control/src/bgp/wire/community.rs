//! Extended communities (RFC 4360) as eight raw octets, with accessors for those that EVPN uses.

use std::fmt;

use vtep_dataplane::addr::MacAddr;
use vtep_dataplane::wire::nd::NdFlags;

/// One extended community.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtendedCommunity(pub [u8; 8]);

impl ExtendedCommunity {
    /// Encapsulation: VXLAN, tunnel type 8 (RFC 9012 section 4.1, RFC 8365 section 5.1.3).
    pub const VXLAN: Self = Self([3, 0x0c, 0, 0, 0, 0, 0, 8]);
    /// Default gateway (RFC 7432 section 7.8).
    pub const DEFAULT_GATEWAY: Self = Self([3, 0x0d, 0, 0, 0, 0, 0, 0]);

    /// Route target of a 2-octet AS (type 0x00) and a 32-bit number (RFC 4360 section 4).
    #[must_use]
    pub const fn route_target(asn: u16, number: u32) -> Self {
        let ([a, b], [c, d, e, f]) = (asn.to_be_bytes(), number.to_be_bytes());
        Self([0, 2, a, b, c, d, e, f])
    }

    /// Route target of a 4-octet AS (type 0x02) and a 16-bit number (RFC 5668 section 2).
    #[must_use]
    pub const fn route_target_as4(asn: u32, number: u16) -> Self {
        let ([a, b, c, d], [e, f]) = (asn.to_be_bytes(), number.to_be_bytes());
        Self([2, 2, a, b, c, d, e, f])
    }

    /// MAC mobility (RFC 7432 section 7.7).
    #[must_use]
    pub const fn mac_mobility(sticky: bool, sequence: u32) -> Self {
        let [a, b, c, d] = sequence.to_be_bytes();
        Self([6, 0, sticky as u8, 0, a, b, c, d])
    }

    /// EVPN router's MAC (RFC 9135 section 8.1).
    #[must_use]
    pub const fn router_mac(mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self([6, 3, a, b, c, d, e, f])
    }

    /// ARP/ND: the flags of an IPv6 address (RFC 9047 section 2).
    #[must_use]
    pub const fn nd(flags: NdFlags) -> Self {
        let flags = flags.router as u8 | (flags.overrides as u8) << 1;
        Self([6, 8, flags, 0, 0, 0, 0, 0])
    }

    /// The flags of an ARP/ND community, and whether the binding of its address is immutable (the
    /// flag I).
    #[must_use]
    pub const fn as_nd(self) -> Option<(NdFlags, bool)> {
        match self.0 {
            [6, 8, flags, ..] => {
                let nd = NdFlags {
                    router: flags & 1 != 0,
                    overrides: flags & 2 != 0,
                };
                Some((nd, flags & 8 != 0))
            }
            _ => None,
        }
    }

    /// True for a route target of any type (RFC 4360 section 4, RFC 5668).
    #[must_use]
    pub const fn is_route_target(self) -> bool {
        matches!(self.0, [0..=2, 2, ..])
    }

    /// Sticky flag and sequence number of a MAC mobility community.
    #[must_use]
    pub const fn as_mac_mobility(self) -> Option<(bool, u32)> {
        match self.0 {
            [6, 0, flags, _, a, b, c, d] => {
                Some((flags & 1 == 1, u32::from_be_bytes([a, b, c, d])))
            }
            _ => None,
        }
    }

    /// The tunnel type of an encapsulation community; 8 is VXLAN.
    #[must_use]
    pub const fn as_encapsulation(self) -> Option<u16> {
        match self.0 {
            [3, 0x0c, _, _, _, _, high, low] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }

    /// The MAC of a router's-MAC community.
    #[must_use]
    pub const fn as_router_mac(self) -> Option<MacAddr> {
        match self.0 {
            [6, 3, a, b, c, d, e, f] => Some(MacAddr([a, b, c, d, e, f])),
            _ => None,
        }
    }

    /// The single-active flag of an ESI label community (RFC 7432 section 7.5).
    #[must_use]
    pub const fn as_esi_label(self) -> Option<bool> {
        match self.0 {
            [6, 1, flags, ..] => Some(flags & 1 == 1),
            _ => None,
        }
    }

    /// True for the default-gateway community.
    #[must_use]
    pub const fn is_default_gateway(self) -> bool {
        matches!(self.0, [3, 0x0d, ..])
    }
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, sub, a, b, c, d, e, g] = self.0;
        let low = u16::from_be_bytes([e, g]);
        match (kind, sub) {
            (0, 2) => write!(
                f,
                "RT:{}:{}",
                u16::from_be_bytes([a, b]),
                u32::from_be_bytes([c, d, e, g])
            ),
            (1, 2) => write!(f, "RT:{a}.{b}.{c}.{d}:{low}"),
            (2, 2) => write!(f, "RT:{}:{low}", u32::from_be_bytes([a, b, c, d])),
            (3, 0x0c) => write!(f, "ET:{low}"),
            (3, 0x0d) => write!(f, "default-gateway"),
            (6, 0) => {
                let sticky = if a & 1 == 1 { ",sticky" } else { "" };
                write!(f, "MM:{}{sticky}", u32::from_be_bytes([c, d, e, g]))
            }
            (6, 8) => {
                let flags = [(1, "R"), (2, "O"), (8, "I")];
                write!(f, "ND:")?;
                flags
                    .iter()
                    .filter(|(bit, _)| a & bit != 0)
                    .try_for_each(|(_, name)| f.write_str(name))
            }
            (6, 3) => write!(f, "Rmac:{}", MacAddr([a, b, c, d, e, g])),
            _ => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_read_back() {
        let moved = ExtendedCommunity::mac_mobility(true, 7);
        assert_eq!(
            (moved.as_mac_mobility(), moved.to_string()),
            (Some((true, 7)), "MM:7,sticky".into())
        );
        assert_eq!(ExtendedCommunity::VXLAN.as_encapsulation(), Some(8));
        let target = ExtendedCommunity::route_target(65000, 268_435_556);
        assert!(target.is_route_target());
        assert_eq!(target.to_string(), "RT:65000:268435556");
        assert_eq!(
            ExtendedCommunity::route_target_as4(4_200_000_002, 100).to_string(),
            "RT:4200000002:100"
        );
        let mac = MacAddr([2, 0, 0, 0, 0x40, 1]);
        assert_eq!(
            ExtendedCommunity::router_mac(mac).as_router_mac(),
            Some(mac)
        );
        assert!(ExtendedCommunity::DEFAULT_GATEWAY.is_default_gateway());
        assert_eq!(target.as_mac_mobility(), None);
        let router = ExtendedCommunity::nd(NdFlags::ROUTER);
        assert_eq!(router.0, [6, 8, 3, 0, 0, 0, 0, 0]);
        assert_eq!(router.as_nd(), Some((NdFlags::ROUTER, false)));
        let immutable = ExtendedCommunity([6, 8, 0b1010, 0, 0, 0, 0, 0]);
        assert_eq!(immutable.as_nd(), Some((NdFlags::HOST, true)));
        assert_eq!(immutable.to_string(), "ND:OI");
    }
}
