//! SCTP (RFC 9260): the common header, and the checksum.
//!
//! ```text
//!  0         2         4                   8                   12
//! +---------+---------+-------------------+-------------------+- - -
//! | source  |  dest.  | verification tag  |      CRC32c       | chunks
//! +---------+---------+-------------------+-------------------+- - -
//! ```

/// Protocol number.
pub const PROTOCOL: u8 = 132;

/// Length of the common header, bytes.
pub const LEN: usize = 12;

/// Offset of the checksum, 4 bytes. No other transport protocol has its checksum there.
pub const CHECKSUM: usize = 8;

/// The CRC32c (RFC 9260 appendix A) of what was added to it.
#[derive(Debug, Clone, Copy)]
pub struct Crc32c(u32);

/// The polynomial of CRC32c, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What each byte contributes.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let (mut value, mut bit) = (byte as u32, 0);
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

impl Default for Crc32c {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc32c {
    /// Adds bytes.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |crc, byte| {
            TABLE[(crc as u8 ^ byte) as usize] ^ (crc >> 8)
        }))
    }

    /// The checksum as it is in the header.
    #[must_use]
    pub const fn finish(self) -> [u8; 4] {
        (!self.0).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32/ISCSI, and those of RFC 3720 appendix B.4.
    #[test]
    fn checksums_are_those_of_the_standards() {
        let rising: Vec<u8> = (0..32).collect();
        for (bytes, crc) in [
            (&b"123456789"[..], 0xe306_9283_u32),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
            (&[], 0),
        ] {
            let whole = Crc32c::default().bytes(bytes);
            assert_eq!(whole.finish(), crc.to_le_bytes());
            let (front, rest) = bytes.split_at(bytes.len() / 3);
            let parts = Crc32c::default().bytes(front).bytes(rest);
            assert_eq!(parts.finish(), whole.finish());
        }
    }
}
