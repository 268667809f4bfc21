//! VXLAN (RFC 7348 section 5).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-----------------------------------------------+
//! |R|R|R|R|I|R|R|R|            Reserved                           |
//! +-+-+-+-+-+-+-+-+-------------------------------+---------------+
//! |                VXLAN Network Identifier (VNI) |   Reserved    |
//! +-----------------------------------------------+---------------+
//! ```

/// Length of the header, bytes.
pub const LEN: usize = 8;

/// The I flag in the first byte: the VNI is valid.
pub const I_FLAG: u8 = 0x08;

/// A view of the header.
#[derive(Debug, Clone, Copy)]
pub struct Vxlan(u64);

impl Vxlan {
    /// The header at the front of `bytes`; `None` when they are too few.
    #[inline]
    #[must_use]
    pub const fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first_chunk() {
            Some(header) => Some(Self(u64::from_be_bytes(*header))),
            None => None,
        }
    }

    /// The I flag.
    #[inline]
    #[must_use]
    pub const fn has_vni(self) -> bool {
        self.0 >> 56 & I_FLAG as u64 != 0
    }

    /// True when any reserved bit is set.
    #[inline]
    #[must_use]
    pub const fn has_reserved_bits(self) -> bool {
        self.0 & 0xf7ff_ffff_0000_00ff != 0
    }

    /// The VNI, 24 bits.
    #[inline]
    #[must_use]
    pub const fn vni(self) -> u32 {
        (self.0 >> 8) as u32 & 0x00ff_ffff
    }
}

/// The header's bytes for a VNI.
#[inline]
#[must_use]
pub const fn header(vni: u32) -> [u8; LEN] {
    ((I_FLAG as u64) << 56 | ((vni & 0x00ff_ffff) as u64) << 8).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_is_where_the_rfc_has_it() {
        let bytes = header(0x12_3456);
        assert_eq!(bytes, [8, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        let view = Vxlan::parse(&bytes).unwrap();
        assert_eq!(
            (view.vni(), view.has_vni(), view.has_reserved_bits()),
            (0x12_3456, true, false)
        );
        for bit in 0..64 {
            let view = Vxlan::parse(&(1u64 << (63 - bit)).to_be_bytes()).unwrap();
            let vni = (32..56).contains(&bit);
            assert_eq!(
                (view.has_vni(), view.vni() != 0, view.has_reserved_bits()),
                (bit == 4, vni, bit != 4 && !vni)
            );
        }
        assert!(Vxlan::parse(&bytes[..7]).is_none());
    }
}
