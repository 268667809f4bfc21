//! The Internet checksum (RFC 1071): the ones' complement of the ones' complement sum of 16-bit
//! words.
//!
//! The sum may be computed in any byte order and over wider words (RFC 1071 section 2): 32-bit
//! words are added into 64-bit lanes in memory order, which the compiler turns into vector
//! additions, and the byte order is corrected once, when the sum is folded.
//!
//! The 32-bit words are not taken apart for that: the sum of 64-bit words modulo 2^64 and the sum of
//! their upper halves give the sum of all halves. Each load is followed by two additions and a shift,
//! where widening both halves and adding them takes four operations and a copy.

use crate::mem::with_wide_vectors;

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
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let sum = if bytes.len() < LONG {
            sum_of(words)
        } else {
            long_sum_of(words)
        };
        Self(self.0 + sum).last(rest)
    }

    /// [`Sum::bytes`] of `from`, which is copied to `to` in the same pass.
    ///
    /// # Panics
    /// If `to` is not as long as `from`.
    #[inline(never)]
    #[must_use]
    pub fn copied(self, from: &[u8], to: &mut [u8]) -> Self {
        assert_eq!(from.len(), to.len(), "a copy is as long as the original");
        with_wide_vectors(|| self.copied_blocks(from, to))
    }

    #[inline(always)]
    fn copied_blocks(self, from: &[u8], to: &mut [u8]) -> Self {
        let (from, rest) = from.as_chunks::<BLOCK>();
        let (to, to_rest) = to.as_chunks_mut::<BLOCK>();
        // One sum for each column of the blocks, and a loop for each operation: these become vectors,
        // where a loop over words that are copied does not.
        let (mut words, mut upper) = ([0u64; BLOCK / 8], [0; BLOCK / 8]);
        for (from, to) in from.iter().zip(to) {
            let (from, _) = from.as_chunks::<8>();
            let block: [u64; BLOCK / 8] = std::array::from_fn(|at| u64::from_ne_bytes(from[at]));
            for (sum, word) in words.iter_mut().zip(block) {
                *sum = sum.wrapping_add(word);
            }
            for (sum, word) in upper.iter_mut().zip(block) {
                *sum += word >> 32;
            }
            for (to, word) in to.as_chunks_mut().0.iter_mut().zip(block) {
                *to = word.to_ne_bytes();
            }
        }
        to_rest.copy_from_slice(rest);
        let halves = Halves {
            words: words.into_iter().fold(0, u64::wrapping_add),
            upper: upper.into_iter().sum(),
        };
        Self(self.0 + halves.sum()).bytes(rest)
    }

    /// Adds the last bytes, fewer than 8.
    #[inline(always)]
    fn last(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            self.0 += u64::from(u32::from_ne_bytes(*word));
        }
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
        if is_odd {
            self.word(next.fold().swap_bytes())
        } else {
            Self(self.0 + next.0)
        }
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

/// Bytes from which on wide vectors are worth a call.
const LONG: usize = 256;

/// The sum of all halves of these words.
#[inline(always)]
fn sum_of(words: &[[u8; 8]]) -> u64 {
    let mut halves = Halves::default();
    for word in words {
        halves.add(u64::from_ne_bytes(*word));
    }
    halves.sum()
}

/// [`sum_of`] many words.
#[inline(never)]
fn long_sum_of(words: &[[u8; 8]]) -> u64 {
    with_wide_vectors(|| sum_of(words))
}

/// The bytes that [`Sum::copied`] takes at a time: what four 128-bit registers hold, which every
/// x86-64 and ARMv8 has.
const BLOCK: usize = 64;

/// The sum of 64-bit words modulo 2^64, and that of their upper halves.
#[derive(Clone, Copy, Default)]
struct Halves {
    words: u64,
    upper: u64,
}

impl Halves {
    #[inline(always)]
    fn add(&mut self, word: u64) {
        self.words = self.words.wrapping_add(word);
        self.upper += word >> 32;
    }

    /// The sum of all halves.
    #[inline(always)]
    fn sum(self) -> u64 {
        self.words.wrapping_sub(self.upper << 32) + self.upper
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

    fn folded(bytes: &[u8]) -> u16 {
        let low = |word: &[u8]| word.get(1).map_or(0, |byte| u64::from(*byte));
        let plain: u64 = bytes.chunks(2).map(|w| u64::from(w[0]) << 8 | low(w)).sum();
        let mut folded = plain;
        while folded > 0xffff {
            folded = (folded >> 16) + (folded & 0xffff);
        }
        folded as u16
    }

    #[test]
    fn every_length_at_every_alignment_has_the_sum_of_the_definition() {
        let bytes: Vec<u8> = (0..700u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let mut copy = vec![0; bytes.len()];
        for bytes in [&bytes, &vec![0xff; 700], &vec![0; 700]] {
            for (start, len) in (0..17).flat_map(|start| (0..600).map(move |len| (start, len))) {
                let bytes = &bytes[start..start + len];
                let wanted = folded(bytes);
                assert_eq!(Sum::new().bytes(bytes).fold(), wanted, "{start} {len}");
                // At an alignment of its own, and nothing beside the copy changes.
                let to = (start * 5 % 17)..(start * 5 % 17 + len);
                copy.fill(0x5a);
                assert_eq!(
                    Sum::new().copied(bytes, &mut copy[to.clone()]).fold(),
                    wanted
                );
                assert_eq!(copy[to.clone()], *bytes);
                assert!(
                    copy[..to.start]
                        .iter()
                        .chain(&copy[to.end..])
                        .all(|byte| *byte == 0x5a)
                );
            }
        }
    }

    #[test]
    fn the_longest_packet_of_ones_does_not_overflow() {
        let bytes = vec![0xff; 1 << 24];
        assert_eq!(Sum::new().bytes(&bytes).fold(), 0xffff);
        assert_eq!(Sum(u64::from(u32::MAX) << 31).bytes(&bytes).fold(), 0xffff);
    }

    #[test]
    #[should_panic(expected = "as long as the original")]
    fn a_copy_of_another_length_is_refused() {
        let _ = Sum::new().copied(&[0; 128], &mut [0; 64]);
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
        fn agrees_with_the_definition(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            start in 0usize..16,
        ) {
            let bytes = &bytes[start.min(bytes.len())..];
            let wanted = folded(bytes);
            prop_assert_eq!(Sum::new().bytes(bytes).fold(), wanted);
            let mut copy = vec![0; bytes.len()];
            prop_assert_eq!(Sum::new().copied(bytes, &mut copy).fold(), wanted);
            prop_assert_eq!(&copy, bytes);
        }

        #[test]
        fn a_sum_in_parts_is_the_sum(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            cut in 0usize..600,
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
