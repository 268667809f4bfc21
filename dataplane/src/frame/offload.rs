//! What a sender left to hardware: segmentation, the transport checksum and the VLAN tag of a frame,
//! as the vnet header and the auxiliary data of a packet socket describe them.
//!
//! A frame that is to be cut into segments is called a superframe. It is one frame up to where it
//! leaves, for a device that takes it whole, or as the segments that it stands for.

/// How a frame is cut into segments (include/uapi/linux/virtio_net.h, `VIRTIO_NET_HDR_GSO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over IPv4 or IPv6 (`VIRTIO_NET_HDR_GSO_UDP_L4`): each segment is a datagram.
    Udp,
}

/// How a superframe is cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// The protocol that is cut.
    pub kind: SegmentKind,
    /// Bytes of payload in each segment but the last, which may be shorter (`gso_size`).
    pub size: u16,
    /// The sender's TCP uses ECN (`VIRTIO_NET_HDR_GSO_ECN`): CWR is set in the first segment only.
    pub ecn: bool,
}

/// The state of the innermost transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumState {
    /// As it was received: complete, or partial without a mark, as a frame from an AF_XDP socket of
    /// a device without hardware may be.
    #[default]
    Unknown,
    /// Verified (`VIRTIO_NET_HDR_F_DATA_VALID`).
    Valid,
    /// The field has the folded sum of the pseudo-header only (`VIRTIO_NET_HDR_F_NEEDS_CSUM`). The
    /// sum of all bytes from `start` to the end of the frame belongs there. Offsets below
    /// [`ChecksumState::MAX_OFFSET`]; the field lies in the first segment.
    Partial {
        /// Offset of the transport header in its *chunk*, bytes: what is written before the frame
        /// does not change it.
        start: u16,
        /// Offset of the checksum field from `start`, bytes.
        offset: u16,
    },
}

impl ChecksumState {
    /// Upper limit of both offsets, bytes, exclusive.
    pub const MAX_OFFSET: u16 = 1 << OFFSET_BITS;
}

/// What a sender left to hardware. The default: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// Present for a superframe.
    pub segmentation: Option<Segmentation>,
    /// The state of the transport checksum: that of the superframe, for a superframe.
    pub checksum: ChecksumState,
    /// The 802.1Q tag that is kept beside the frame (`tp_vlan_tci`): priority and VLAN ID.
    pub vlan_tci: Option<u16>,
}

const OFFSET_BITS: u32 = 13;

/// Bits of the packed word, from the lowest:
///
/// ```text
/// | kind 2 | ecn 1 | checksum 2 | has tag 1 | size 16 | tag 16 | start 13 | offset 13 |
/// ```
const ECN: u32 = 2;
const CHECKSUM: u32 = ECN + 1;
const HAS_TAG: u32 = CHECKSUM + 2;
const SIZE: u32 = HAS_TAG + 1;
const TAG: u32 = SIZE + 16;
const START: u32 = TAG + 16;
const OFFSET: u32 = START + OFFSET_BITS;

impl Offload {
    /// Packs it into a word.
    pub(super) fn to_bits(self) -> u64 {
        let segmentation = self.segmentation.map_or(0, |to| {
            let kind = match to.kind {
                SegmentKind::TcpV4 => 1,
                SegmentKind::TcpV6 => 2,
                SegmentKind::Udp => 3,
            };
            kind | u64::from(to.ecn) << ECN | u64::from(to.size) << SIZE
        });
        let checksum = match self.checksum {
            ChecksumState::Unknown => 0,
            ChecksumState::Valid => 1 << CHECKSUM,
            ChecksumState::Partial { start, offset } => {
                debug_assert!(start.max(offset) < ChecksumState::MAX_OFFSET);
                let field = |value: u16| u64::from(value % ChecksumState::MAX_OFFSET);
                2 << CHECKSUM | field(start) << START | field(offset) << OFFSET
            }
        };
        let tag = self
            .vlan_tci
            .map_or(0, |tci| 1 << HAS_TAG | u64::from(tci) << TAG);
        segmentation | checksum | tag
    }

    /// Unpacks a word.
    pub(super) fn from_bits(bits: u64) -> Self {
        let kind = match bits & 3 {
            1 => Some(SegmentKind::TcpV4),
            2 => Some(SegmentKind::TcpV6),
            3 => Some(SegmentKind::Udp),
            _ => None,
        };
        let offset = |at| (bits >> at) as u16 % ChecksumState::MAX_OFFSET;
        Self {
            segmentation: kind.map(|kind| Segmentation {
                kind,
                size: (bits >> SIZE) as u16,
                ecn: bits >> ECN & 1 == 1,
            }),
            checksum: match bits >> CHECKSUM & 3 {
                0 => ChecksumState::Unknown,
                1 => ChecksumState::Valid,
                _ => ChecksumState::Partial {
                    start: offset(START),
                    offset: offset(OFFSET),
                },
            },
            vlan_tci: (bits >> HAS_TAG & 1 == 1).then_some((bits >> TAG) as u16),
        }
    }
}

/// The number of segments that a superframe of `len` bytes is cut into: at least one. `headers`:
/// bytes before the payload, which each segment repeats; `size`: [`Segmentation::size`].
#[must_use]
pub const fn segments_of(len: usize, headers: usize, size: u16) -> usize {
    let (payload, size) = (len.saturating_sub(headers), size as usize);
    if size == 0 || payload <= size {
        1
    } else {
        payload.div_ceil(size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_offload() -> impl Strategy<Value = Offload> {
        let kinds = [SegmentKind::TcpV4, SegmentKind::TcpV6, SegmentKind::Udp];
        let segmentation = (
            prop::sample::select(kinds.to_vec()),
            any::<u16>(),
            any::<bool>(),
        )
            .prop_map(|(kind, size, ecn)| Segmentation { kind, size, ecn });
        let limit = ChecksumState::MAX_OFFSET;
        let partial = (0..limit, 0..limit)
            .prop_map(|(start, offset)| ChecksumState::Partial { start, offset });
        let checksum = prop_oneof![
            Just(ChecksumState::Unknown),
            Just(ChecksumState::Valid),
            partial
        ];
        (
            prop::option::of(segmentation),
            checksum,
            any::<Option<u16>>(),
        )
            .prop_map(|(segmentation, checksum, vlan_tci)| Offload {
                segmentation,
                checksum,
                vlan_tci,
            })
    }

    proptest! {
        #[test]
        fn an_offload_fits_into_a_word(offload in any_offload(), bits: u64) {
            prop_assert_eq!(Offload::from_bits(offload.to_bits()), offload);
            let read = Offload::from_bits(bits);
            prop_assert_eq!(Offload::from_bits(read.to_bits()), read);
        }
    }

    #[test]
    fn the_segments_of_a_superframe_are_counted() {
        for (len, size, count) in [
            (54, 1448, 1),
            (54 + 1448, 1448, 1),
            (54 + 1449, 1448, 2),
            (54 + 2896, 1448, 2),
            (65_549, 1448, 46),
            (10, 1, 1),
            (1000, 0, 1),
        ] {
            assert_eq!(segments_of(len, 54, size), count, "{len} {size}");
        }
        assert_eq!(Offload::from_bits(0), Offload::default());
    }
}
