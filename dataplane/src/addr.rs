//! Addresses and small identifiers. Every value of these types is valid by construction.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::str::FromStr;

/// An invalid address or number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    /// Not six hexadecimal octets.
    #[error("invalid MAC address {0:?}: must be six hexadecimal octets, such as 50:54:33:00:00:0a")]
    Mac(String),
    /// A MAC that no single host can have (RFC 7348 section 4: lookups are by unicast MAC).
    #[error("invalid host MAC address {0}: must be unicast, not {1}")]
    NotUnicast(MacAddr, &'static str),
    /// Outside 1..=16777215.
    #[error("invalid VNI {0}: must be 1 to 16777215 (24 bits, RFC 7348 section 5)")]
    Vni(String),
    /// An IP address that no VTEP can have.
    #[error("invalid VTEP address {0}: must be a unicast address of the underlay, not {1}")]
    Vtep(IpAddr, &'static str),
    /// An IP address that no host can have.
    #[error("invalid host address {0}: must be a unicast address, not {1}")]
    HostIp(IpAddr, &'static str),
    /// Not a multicast address where a group is expected.
    #[error("invalid multicast group {0}: must be in 224.0.0.0/4 or ff00::/8")]
    NotGroup(IpAddr),
    /// Not an IP address.
    #[error("invalid IP address {0:?}: must be an IPv4 or IPv6 address")]
    Ip(String),
}

/// An IEEE 802 MAC address of any kind, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for a group address, including broadcast: bit 0 of the first octet (IEEE 802).
    #[inline]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// 00:00:00:00:00:00.
    #[inline]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.to_bits() == 0
    }

    /// 01:80:c2:00:00:00 to 0f: never forwarded by a bridge (IEEE 802.1Q table 8-1).
    #[inline]
    #[must_use]
    pub const fn is_link_local(self) -> bool {
        is_link_local(self.to_bits())
    }

    /// The 48 bits as a number, first octet most significant.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let b = self.0;
        u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// The low 48 bits of `bits`.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        let b = bits.to_be_bytes();
        Self([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

/// [`MacAddr::is_link_local`] for the bits of a MAC.
#[inline]
pub(crate) const fn is_link_local(mac: u64) -> bool {
    mac & 0xffff_ffff_fff0 == 0x0180_c200_0000
}

/// True for the bits of a MAC that a single host can have ([`HostMac`]).
#[inline]
pub(crate) const fn is_host(mac: u64) -> bool {
    mac & 1 << 40 == 0 && mac != 0
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let invalid = || AddrError::Mac(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = part
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(invalid)?;
        }
        if parts.next().is_some() {
            Err(invalid())
        } else {
            Ok(Self(octets))
        }
    }
}

/// The MAC address of one host: neither zero nor a group address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostMac(MacAddr);

impl HostMac {
    /// # Errors
    /// [`AddrError::NotUnicast`] for a multicast or all-zero address.
    #[inline]
    pub const fn new(mac: MacAddr) -> Result<Self, AddrError> {
        if mac.is_multicast() {
            return Err(AddrError::NotUnicast(mac, "multicast"));
        }
        if mac.is_zero() {
            return Err(AddrError::NotUnicast(mac, "all-zero"));
        }
        Ok(Self(mac))
    }

    /// The address itself.
    #[inline]
    #[must_use]
    pub const fn get(self) -> MacAddr {
        self.0
    }
}

impl fmt::Display for HostMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for HostMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for HostMac {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        Self::new(text.parse()?)
    }
}

/// VXLAN Network Identifier, 1..=16777215 (RFC 7348 section 5; zero is never installed).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vni(NonZeroU32);

impl Vni {
    /// The highest VNI.
    pub const MAX: u32 = 0x00ff_ffff;

    /// # Errors
    /// [`AddrError::Vni`] for zero or more than 24 bits.
    pub fn new(number: u32) -> Result<Self, AddrError> {
        NonZeroU32::new(number)
            .filter(|n| n.get() <= Self::MAX)
            .map(Self)
            .ok_or_else(|| AddrError::Vni(number.to_string()))
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Vni {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        text.parse()
            .map_err(|_| AddrError::Vni(text.to_owned()))
            .and_then(Self::new)
    }
}

/// The underlay address of a VTEP: unicast and routable. [`VtepAddr::group`] alone makes the
/// address of a multicast group of VTEPs, which packets are sent to and never come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VtepAddr(IpAddr);

impl VtepAddr {
    /// # Errors
    /// [`AddrError::Vtep`] for unspecified (0/8), loopback, multicast, broadcast, reserved (240/4),
    /// IPv6 link-local and IPv4-mapped addresses.
    pub fn new(address: IpAddr) -> Result<Self, AddrError> {
        let invalid = match address {
            IpAddr::V4(v4) => invalid_v4(v4),
            IpAddr::V6(v6) => invalid_v6(v6),
        };
        invalid.map_or(Ok(Self(address)), |why| Err(AddrError::Vtep(address, why)))
    }

    /// The address itself.
    #[inline]
    #[must_use]
    pub const fn get(self) -> IpAddr {
        self.0
    }

    /// The multicast group that the VTEPs of a VNI join (RFC 7348 section 4.2).
    ///
    /// # Errors
    /// [`AddrError::NotGroup`] for a unicast address.
    pub const fn group(address: IpAddr) -> Result<Self, AddrError> {
        if address.is_multicast() {
            Ok(Self(address))
        } else {
            Err(AddrError::NotGroup(address))
        }
    }

    /// True for the address of a multicast group.
    #[inline]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0.is_multicast()
    }

    /// The destination MAC of packets to a group: 01:00:5e and the low 23 bits (RFC 1112 section
    /// 6.4), or 33:33 and the low 32 bits (RFC 2464 section 7). `None` for a unicast address.
    #[must_use]
    pub const fn group_mac(self) -> Option<MacAddr> {
        match self.0 {
            IpAddr::V4(v4) if v4.is_multicast() => {
                let [_, b, c, d] = v4.octets();
                Some(MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
            }
            IpAddr::V6(v6) if v6.is_multicast() => {
                let [.., a, b, c, d] = v6.octets();
                Some(MacAddr([0x33, 0x33, a, b, c, d]))
            }
            _ => None,
        }
    }

    /// True for IPv6.
    #[inline]
    #[must_use]
    pub const fn is_v6(self) -> bool {
        matches!(self.0, IpAddr::V6(_))
    }
}

fn invalid_v4(v4: Ipv4Addr) -> Option<&'static str> {
    no_host_v4(v4).or_else(|| (v4.octets()[0] >= 240).then_some("a reserved address"))
}

fn invalid_v6(v6: Ipv6Addr) -> Option<&'static str> {
    no_host_v6(v6).or_else(|| v6.is_unicast_link_local().then_some("a link-local address"))
}

/// Checks that a tenant's host can have this address. Linux hosts may have one of 240.0.0.0/4, which
/// is reserved.
///
/// # Errors
/// [`AddrError::HostIp`] for unspecified (0/8), loopback, multicast, broadcast and IPv4-mapped
/// addresses.
#[inline]
pub fn host_ip(address: IpAddr) -> Result<IpAddr, AddrError> {
    let invalid = match address {
        IpAddr::V4(v4) => no_host_v4(v4),
        IpAddr::V6(v6) => no_host_v6(v6),
    };
    invalid.map_or(Ok(address), |why| Err(AddrError::HostIp(address, why)))
}

/// Why no host can have an IPv4 address (RFC 1122 section 3.2.1.3).
fn no_host_v4(v4: Ipv4Addr) -> Option<&'static str> {
    match v4.octets() {
        [0, ..] => Some("one of 0.0.0.0/8"),
        [127, ..] => Some("a loopback address"),
        [224..=239, ..] => Some("a multicast address"),
        [255, 255, 255, 255] => Some("the broadcast address"),
        _ => None,
    }
}

/// Why no host can have an IPv6 address (RFC 4291 section 2.5).
fn no_host_v6(v6: Ipv6Addr) -> Option<&'static str> {
    if v6.is_unspecified() {
        Some("the unspecified address")
    } else if v6.is_loopback() {
        Some("a loopback address")
    } else if v6.is_multicast() {
        Some("a multicast address")
    } else if v6.to_ipv4_mapped().is_some() {
        Some("an IPv4-mapped address")
    } else {
        None
    }
}

impl fmt::Display for VtepAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for VtepAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for VtepAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        text.parse()
            .map_err(|_| AddrError::Ip(text.to_owned()))
            .and_then(Self::new)
    }
}

macro_rules! index {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl $name {
            /// The index in its table.
            #[inline]
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// A network interface that has AF_XDP sockets: its index in the device table.
    DeviceId,
    u16
);
index!(
    /// A tenant port, which is an interface or one VLAN of it: its index in the port table.
    PortId,
    u16
);
index!(
    /// The bridge domain of one VNI: its index in the VNI table, and the high bits of a MAC table
    /// key.
    DomainId,
    u16
);
index!(
    /// A remote VTEP: its index in the VTEP table.
    VtepId,
    u32
);
index!(
    /// A worker thread.
    WorkerId,
    u16
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_classify_as_the_address_does() {
        for text in [
            "00:00:00:00:00:00",
            "02:00:00:00:00:00",
            "01:80:c2:00:00:0f",
            "01:80:c2:00:00:10",
            "ff:ff:ff:ff:ff:ff",
        ] {
            let mac: MacAddr = text.parse().unwrap();
            assert_eq!(is_host(mac.to_bits()), HostMac::new(mac).is_ok(), "{text}");
            assert_eq!(
                is_host(mac.to_bits()),
                !mac.is_multicast() && !mac.is_zero(),
                "{text}"
            );
        }
    }

    #[test]
    fn mac_text_and_bits_round_trip() {
        let mac: MacAddr = "50:54:33:00:00:0a".parse().unwrap();
        assert_eq!(mac.to_string(), "50:54:33:00:00:0a");
        assert_eq!(MacAddr::from_bits(mac.to_bits()), mac);
        assert_eq!("50-54-33-00-00-0A".parse::<MacAddr>().unwrap(), mac);
        for wrong in [
            "",
            "50:54:33:00:00",
            "50:54:33:00:00:0a:0b",
            "5:54:33:00:00:0a",
            "+5:54:33:00:00:0a",
            "zz:54:33:00:00:0a",
        ] {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn host_macs_are_unicast() {
        assert!("01:00:5e:00:00:01".parse::<HostMac>().is_err());
        assert!("00:00:00:00:00:00".parse::<HostMac>().is_err());
        assert!("02:00:00:00:00:01".parse::<HostMac>().is_ok());
    }

    #[test]
    fn link_local_groups_are_the_sixteen_of_802_1q() {
        assert!(MacAddr([1, 0x80, 0xc2, 0, 0, 0x0f]).is_link_local());
        assert!(!MacAddr([1, 0x80, 0xc2, 0, 0, 0x10]).is_link_local());
    }

    #[test]
    fn vnis_are_24_bits_and_not_zero() {
        assert!(Vni::new(0).is_err());
        assert!(Vni::new(1 << 24).is_err());
        assert_eq!("16777215".parse::<Vni>().unwrap().get(), Vni::MAX);
        assert!("-1".parse::<Vni>().is_err());
    }

    #[test]
    fn groups_are_multicast_and_have_a_mac() {
        let mac = |text: &str| {
            VtepAddr::group(text.parse().unwrap())
                .unwrap()
                .group_mac()
                .unwrap()
                .to_string()
        };
        assert_eq!(mac("239.129.2.3"), "01:00:5e:01:02:03");
        assert_eq!(mac("ff05::1:2"), "33:33:00:01:00:02");
        assert!(VtepAddr::group("203.0.113.2".parse().unwrap()).is_err());
        let one: VtepAddr = "203.0.113.2".parse().unwrap();
        assert!(!one.is_group() && one.group_mac().is_none());
    }

    #[test]
    fn hosts_have_unicast_addresses() {
        for wrong in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "::ffff:192.0.2.1",
        ] {
            assert!(host_ip(wrong.parse().unwrap()).is_err(), "{wrong}");
        }
        for right in [
            "10.0.0.1",
            "169.254.1.1",
            "240.0.0.1",
            "fe80::1",
            "2001:db8::2",
        ] {
            assert!(host_ip(right.parse().unwrap()).is_ok(), "{right}");
        }
    }

    #[test]
    fn vteps_are_unicast() {
        for wrong in [
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:192.0.2.1",
            "x",
        ] {
            assert!(wrong.parse::<VtepAddr>().is_err(), "{wrong}");
        }
        for right in ["203.0.113.2", "2001:db8::2", "10.0.0.1"] {
            assert_eq!(right.parse::<VtepAddr>().unwrap().to_string(), right);
        }
    }
}
