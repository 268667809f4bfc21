//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//!  0      2      4    5    6     8             14          18            24          28
//! +------+------+----+----+-----+-------------+-----------+-------------+-----------+
//! | htype| ptype|hlen|plen| oper| sender MAC  | sender IP | target MAC  | target IP |
//! |1 or 6|0x0800| 6  | 4  |     |             |           |             |           |
//! +------+------+----+----+-----+-------------+-----------+-------------+-----------+
//! ```

use std::net::Ipv4Addr;

use super::{be16, put16};
use crate::addr::MacAddr;

/// Length of a message, bytes.
pub const LEN: usize = 28;

/// EtherType of ARP.
pub const ETHERTYPE: u16 = 0x0806;

/// EtherType of reverse ARP (RFC 903), which has the same format.
pub const RARP_ETHERTYPE: u16 = 0x8035;

/// Operation of an ARP request.
pub const REQUEST: u16 = 1;

/// Operation of an ARP reply.
pub const REPLY: u16 = 2;

/// Operation of a reverse request (RFC 903).
pub const REVERSE_REQUEST: u16 = 3;

/// Operation of a reverse reply (RFC 903).
pub const REVERSE_REPLY: u16 = 4;

/// Hardware type, protocol type and both lengths of a message for IPv4 over Ethernet.
const TYPES_AND_LENGTHS: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Hardware type IEEE 802 networks (RFC 1042), with the same format. Linux and the BSDs accept it
/// on Ethernet.
const IEEE_802: u16 = 6;

/// Why bytes are not a usable ARP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpError {
    /// Too short, or its lengths contradict its types.
    Malformed,
    /// Other hardware, another protocol, or another operation (RARP, InARP).
    Unsupported,
}

/// A view of a request or reply.
#[derive(Debug, Clone, Copy)]
pub struct Arp<'a>(&'a [u8; LEN]);

impl<'a> Arp<'a> {
    /// The message at the front of `bytes`; the rest is padding.
    ///
    /// # Errors
    /// [`ArpError`] when it is malformed or of an unsupported type.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ArpError> {
        let arp = Self::of_any_operation(bytes)?;
        match be16(arp.0, 6) {
            REQUEST | REPLY => Ok(arp),
            0 => Err(ArpError::Malformed),
            _ => Err(ArpError::Unsupported),
        }
    }

    /// The reverse ARP message at the front of `bytes` (RFC 903).
    ///
    /// # Errors
    /// [`ArpError`] when it is malformed or of an unsupported type.
    pub fn parse_reverse(bytes: &'a [u8]) -> Result<Self, ArpError> {
        let arp = Self::of_any_operation(bytes)?;
        match be16(arp.0, 6) {
            REVERSE_REQUEST | REVERSE_REPLY => Ok(arp),
            _ => Err(ArpError::Unsupported),
        }
    }

    fn of_any_operation(bytes: &'a [u8]) -> Result<Self, ArpError> {
        let message = bytes.first_chunk::<LEN>().ok_or(ArpError::Malformed)?;
        let is_ieee_802 = be16(message, 0) == IEEE_802;
        if message[2..4] != TYPES_AND_LENGTHS[2..4]
            || !(is_ieee_802 || message[..2] == TYPES_AND_LENGTHS[..2])
        {
            return Err(ArpError::Unsupported);
        }
        if message[4..6] != TYPES_AND_LENGTHS[4..] {
            return Err(ArpError::Malformed);
        }
        Ok(Self(message))
    }

    /// True for a request, false for a reply.
    #[must_use]
    pub fn is_request(self) -> bool {
        be16(self.0, 6) == REQUEST
    }

    /// MAC of the sender.
    #[must_use]
    pub fn sender_mac(self) -> MacAddr {
        MacAddr(*self.0[8..].first_chunk().expect("20 bytes follow"))
    }

    /// Address of the sender; 0.0.0.0 in a probe (RFC 5227 section 1.1).
    #[must_use]
    pub fn sender_ip(self) -> Ipv4Addr {
        Ipv4Addr::from(*self.0[14..].first_chunk::<4>().expect("14 bytes follow"))
    }

    /// The requested address; in a reply the receiver's.
    #[must_use]
    pub fn target_ip(self) -> Ipv4Addr {
        Ipv4Addr::from(*self.0[24..].first_chunk::<4>().expect("4 bytes follow"))
    }
}

/// Turns the request in `message` into the reply that its target, at `mac`, would send.
///
/// # Panics
/// If `message` is shorter than [`LEN`].
pub fn make_reply(message: &mut [u8], mac: MacAddr) {
    let target: [u8; 4] = *message[24..].first_chunk().expect("a whole message");
    message.copy_within(8..18, 18);
    put16(message, 6, REPLY);
    message[8..14].copy_from_slice(&mac.0);
    message[14..18].copy_from_slice(&target);
}

/// A message to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// [`REQUEST`], [`REPLY`] or [`REVERSE_REQUEST`].
    pub operation: u16,
    /// MAC of the sender.
    pub sender_mac: MacAddr,
    /// Address of the sender.
    pub sender_ip: Ipv4Addr,
    /// MAC of the target; zeros in a request.
    pub target_mac: MacAddr,
    /// Address of the target.
    pub target_ip: Ipv4Addr,
}

impl Repr {
    /// Writes the message to the front of `bytes`.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`LEN`].
    pub fn emit(&self, bytes: &mut [u8]) {
        bytes[..6].copy_from_slice(&TYPES_AND_LENGTHS);
        put16(bytes, 6, self.operation);
        bytes[8..14].copy_from_slice(&self.sender_mac.0);
        bytes[14..18].copy_from_slice(&self.sender_ip.octets());
        bytes[18..24].copy_from_slice(&self.target_mac.0);
        bytes[24..LEN].copy_from_slice(&self.target_ip.octets());
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType};

    use super::*;

    fn request() -> Vec<u8> {
        let (mac, from, to) = ([2, 0, 0, 0, 0, 1], [10, 0, 0, 1], [10, 0, 0, 2]);
        let (ethernet, ipv4) = (ArpHardwareId::ETHERNET, EtherType::IPV4);
        let packet = ArpPacket::new(
            ethernet,
            ipv4,
            ArpOperation::REQUEST,
            &mac,
            &from,
            &[0; 6],
            &to,
        )
        .unwrap();
        packet.to_bytes().to_vec()
    }

    #[test]
    fn a_reply_reads_in_etherparse_as_the_target_s_own() {
        let mut bytes = request();
        let view = Arp::parse(&bytes).unwrap();
        assert!(view.is_request());
        assert_eq!(view.sender_mac(), MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!(
            [view.sender_ip(), view.target_ip()].map(|ip| ip.octets()[3]),
            [1, 2]
        );
        make_reply(&mut bytes, MacAddr([2, 0, 0, 0, 0, 9]));
        let reply = etherparse::ArpPacketSlice::from_slice(&bytes).unwrap();
        assert_eq!(reply.operation(), ArpOperation::REPLY);
        assert_eq!(
            (reply.sender_hw_addr(), reply.sender_protocol_addr()),
            (&[2, 0, 0, 0, 0, 9][..], &[10, 0, 0, 2][..])
        );
        assert_eq!(
            (reply.target_hw_addr(), reply.target_protocol_addr()),
            (&[2, 0, 0, 0, 0, 1][..], &[10, 0, 0, 1][..])
        );
    }

    #[test]
    fn wrong_lengths_are_distinguished_from_other_types() {
        let parse = |at: usize, value| {
            let mut bytes = request();
            bytes[at] = value;
            Arp::parse(&bytes).err()
        };
        assert_eq!(parse(7, 2), None);
        assert_eq!(
            [parse(4, 8), parse(5, 16), parse(7, 0)],
            [Some(ArpError::Malformed); 3]
        );
        assert_eq!(
            [parse(1, 7), parse(2, 0x86), parse(7, 3), parse(6, 1)],
            [Some(ArpError::Unsupported); 4]
        );
        assert_eq!(parse(1, 6), None, "IEEE 802");
        assert_eq!(
            Arp::parse(&request()[..27]).err(),
            Some(ArpError::Malformed)
        );
    }
}
