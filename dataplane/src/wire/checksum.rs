//! The Internet checksum (RFC 1071): the ones' complement of the ones' complement sum of 16-bit
//! words.
//!
//! The sum may be computed in any byte order and over wider words (RFC 1071 section 2): 32-bit
//! words are added into 64-bit lanes in memory order, which the compiler turns into vector
//! additions, and the byte order is corrected once, when the sum is folded.

/// A sum that is not folded yet. It does not overflow for at least 4 GiB of data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds bytes that begin at an even offset of the summed data; an odd last byte is padded with
    /// zero.
    #[inline]
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        self.0 += words
            .iter()
            .map(|word| u64::from(u32::from_ne_bytes(*word)))
            .sum::<u64>();
        let last = match *rest {
            [a] => [a, 0, 0, 0],
            [a, b] => [a, b, 0, 0],
            [a, b, c] => [a, b, c, 0],
            _ => return self,
        };
        self.0 += u64::from(u32::from_ne_bytes(last));
        self
    }

    /// Adds the sum of bytes that follow; `is_odd` when they begin at an odd offset of the summed
    /// data. Each byte is in the other half of its word then, so the bytes of the sum are swapped
    /// (RFC 1071 section 2).
    #[inline]
    #[must_use]
    pub const fn then(self, next: Self, is_odd: bool) -> Self {
        let word = next.fold();
        self.word(if is_odd { word.swap_bytes() } else { word })
    }

    /// Adds one 16-bit word.
    #[inline]
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word.to_be() as u64)
    }

    /// Adds the addresses, protocol and length of a pseudo-header (RFC 768, RFC 9293, RFC 8200
    /// section 8.1). `addresses` are source and destination as in the header: 8 or 32 bytes.
    #[inline]
    #[must_use]
    pub fn pseudo_header(self, addresses: &[u8], protocol: u8, length: usize) -> Self {
        // With a constant length the compiler emits two additions instead of a loop.
        let sum = match addresses.first_chunk::<8>() {
            Some(v4) if addresses.len() == v4.len() => self.bytes(v4),
            _ => self.bytes(addresses),
        };
        sum.word(u16::from(protocol))
            .word(length as u16)
            .word((length >> 16) as u16)
    }

    /// The sum folded to 16 bits; 0 only when all data was zero.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        let mut sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        sum = (sum >> 32) + (sum & 0xffff_ffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// True when the sum folds to `folded`: cheaper than folding it. For less than 256 bytes of
    /// data, not all zero.
    ///
    /// Folding is the remainder modulo 2^16 - 1. A number is divisible by 2^16 - 1 exactly when its
    /// product with the inverse of 2^16 - 1 modulo 2^64 is at most (2^64 - 1) / (2^16 - 1).
    #[inline]
    #[must_use]
    pub const fn folds_to(self, folded: u16) -> bool {
        folded != 0 && Self(self.0 + (0xffff - folded.to_be() as u64)).is_multiple()
    }

    /// True for a multiple of 2^16 - 1.
    #[inline]
    const fn is_multiple(self) -> bool {
        const MODULUS: u64 = 0xffff;
        // 1 / (2^16 - 1) = -(1 + 2^16 + 2^32 + 2^48) modulo 2^64.
        const INVERSE: u64 = 0x0001_0001_0001_0001u64.wrapping_neg();
        self.0.wrapping_mul(INVERSE) <= u64::MAX / MODULUS
    }

    /// The checksum to put into a header: the complement of the sum.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// True when the summed data includes its own valid checksum.
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 != 0 && self.is_multiple()
    }
}

/// The checksum after one word that it covers has changed (RFC 1624, equation 3).
#[inline]
#[must_use]
pub const fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::new().word(!checksum).word(!old).word(new).checksum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::new().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
        assert_eq!(sum.checksum(), !0xddf2);
        assert!(sum.word(!0xddf2).is_valid());
    }

    proptest! {
        #[test]
        fn a_sum_folds_to_one_value_only(
            bytes in prop::collection::vec(any::<u8>(), 1..64),
            other: u16,
        ) {
            let sum = Sum::new().bytes(&bytes).word(1);
            prop_assert!(sum.folds_to(sum.fold()));
            for other in [other, 0, 0xffff, sum.fold() ^ 1, sum.fold().swap_bytes()] {
                prop_assert_eq!(sum.folds_to(other), sum.fold() == other);
            }
        }

        #[test]
        fn agrees_with_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let low = |word: &[u8]| word.get(1).map_or(0, |byte| u64::from(*byte));
            let plain: u64 = bytes.chunks(2).map(|w| u64::from(w[0]) << 8 | low(w)).sum();
            let mut folded = plain;
            while folded > 0xffff {
                folded = (folded >> 16) + (folded & 0xffff);
            }
            prop_assert_eq!(u64::from(Sum::new().bytes(&bytes).fold()), folded);
        }

        #[test]
        fn a_sum_in_parts_is_the_sum(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            cut in 0usize..300,
        ) {
            let (front, back) = bytes.split_at(cut.min(bytes.len()));
            let parts = Sum::new().bytes(front).then(Sum::new().bytes(back), front.len() % 2 == 1);
            prop_assert_eq!(parts.fold(), Sum::new().bytes(&bytes).fold());
        }

        #[test]
        fn agrees_with_etherparse(
            source: [u8; 16],
            destination: [u8; 16],
            payload in prop::collection::vec(any::<u8>(), 0..1600),
        ) {
            let mut header =
                etherparse::UdpHeader::without_ipv4_checksum(1, 2, payload.len()).unwrap();
            header.checksum = header.calc_checksum_ipv6_raw(source, destination, &payload).unwrap();
            let mut addresses = [0; 32];
            addresses[..16].copy_from_slice(&source);
            addresses[16..].copy_from_slice(&destination);
            let sum = Sum::new()
                .pseudo_header(&addresses, 17, payload.len() + 8)
                .bytes(&header.to_bytes())
                .bytes(&payload);
            prop_assert!(sum.is_valid());
        }

        #[test]
        fn an_update_equals_a_new_sum(mut bytes: [u8; 20], at in 0usize..9, new: u16) {
            let checksum = Sum::new().bytes(&bytes[..18]).checksum();
            let old = crate::wire::be16(&bytes, at * 2);
            crate::wire::put16(&mut bytes, at * 2, new);
            // Both zeros of ones' complement mean the same.
            let wanted = Sum::new().bytes(&bytes[..18]).word(updated(checksum, old, new));
            prop_assert!(wanted.is_valid() || bytes[..18] == [0; 18]);
        }
    }
}
