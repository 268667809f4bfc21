//! Explicit congestion notification through a tunnel (RFC 6040), and DSCP (RFC 2983).

use crate::table::Dscp;

/// The ECN bits of a TOS octet (RFC 3168 section 5); 0 means that the transport is not ECN-capable.
pub(super) const MASK: u8 = 3;

/// The bit of the ECN bits that Not-ECT and ECT(0) have clear: in an outer header these two never
/// change the inner one ([`inner_tos`]).
pub(super) const CHANGING: u8 = 1;

const CE: u8 = 3;
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;

/// The outer DSCP and ECN for an inner TOS: ECN is copied (RFC 6040 section 4.1, normal mode).
#[derive(Debug, Clone, Copy)]
pub(super) struct OuterTos {
    /// The bits that are copied.
    copied: u8,
    fixed: u8,
}

impl OuterTos {
    #[inline]
    pub(super) const fn new(dscp: Dscp) -> Self {
        match dscp {
            Dscp::Inherit => Self {
                copied: u8::MAX,
                fixed: 0,
            },
            Dscp::Fixed(value) => Self {
                copied: MASK,
                fixed: value << 2,
            },
        }
    }

    #[inline]
    pub(super) const fn of(self, inner: u8) -> u8 {
        inner & self.copied | self.fixed
    }
}

/// The inner TOS after decapsulation (RFC 6040 section 4.2, figure 4); `None`: drop.
///
/// ```text
/// inner \ outer | Not-ECT | ECT(0) | ECT(1) |  CE
/// Not-ECT       | Not-ECT | Not-ECT| Not-ECT| drop
/// ECT(0)        | ECT(0)  | ECT(0) | ECT(1) |  CE
/// ECT(1)        | ECT(1)  | ECT(1) | ECT(1) |  CE
/// CE            |   CE    |   CE   |   CE   |  CE
/// ```
#[inline]
pub(super) const fn inner_tos(outer: u8, inner: u8) -> Option<u8> {
    match (inner & 3, outer & 3) {
        (NOT_ECT, CE) => None,
        (ECT_0 | ECT_1, CE) => Some(inner | CE),
        (ECT_0, ECT_1) => Some(inner & !3 | ECT_1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_of_rfc_6040_figure_4() {
        let names = [NOT_ECT, ECT_0, ECT_1, CE];
        let figure = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE); 4]),
        ];
        for (inner, row) in figure {
            for (outer, wanted) in names.into_iter().zip(row) {
                for dscp in [0, 0xb8] {
                    let wanted = wanted.map(|ecn| dscp | ecn);
                    assert_eq!(
                        inner_tos(0x48 | outer, dscp | inner),
                        wanted,
                        "{outer} {inner}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_outer_marks_with_the_changing_bit_change_anything() {
        for (outer, inner) in (0..4).flat_map(|outer| (0..4).map(move |inner| (outer, inner))) {
            let kept = inner_tos(outer, inner) == Some(inner);
            assert!(kept || outer & CHANGING != 0, "{outer} {inner}");
        }
    }

    #[test]
    fn ecn_is_copied_whatever_the_dscp() {
        for inner in 0..=255 {
            assert_eq!(OuterTos::new(Dscp::Inherit).of(inner), inner);
            assert_eq!(
                OuterTos::new(Dscp::Fixed(46)).of(inner),
                46 << 2 | inner & 3
            );
        }
    }
}
