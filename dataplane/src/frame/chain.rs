//! Chains: frames of several segments, each in a chunk of its own, and chunks that several frames
//! share.
//!
//! ```text
//!   Frame: first chunk --link--> chunk --link--> chunk     not shared: reference count 0
//!
//!   Frame: header --link--+
//!   Frame: header --link--+-> chunk --link--> chunk    shared: each chunk has a reference count
//!   Frame: header --link--+
//! ```
//!
//! The headers of such frames may be parts of one chunk ([`super::Pool::split`]), which is shared,
//! too: its one link leads to the payload of all.
//!
//! A frame holds the number of bytes that follow its first segment; the links record where they
//! are. The segments of a shared payload are written before it is shared, and never after.
//!
//! Links and reference counts are in the records of the chunks ([`super::buffer`]).

use super::buffer::BufferTable;
pub use super::buffer::Segment;
use super::{BURST, Frame, MAX_REST};
use crate::wire::{ethernet, ipv6, udp, vlan, vxlan};

/// Maximum number of segments of a frame. The longest one takes 37 chunks of 1792 bytes, and may also
/// be made of the chunks of a burst.
pub const MAX_SEGMENTS: usize = BURST;

/// The longest frame, bytes: the longest IPv6 packet (RFC 8200 section 3) with an Ethernet header, two
/// VLAN tags, and the outer header before them.
pub const MAX_LEN: usize = ipv6::LEN + 65_535 + ethernet::LEN + 2 * vlan::LEN + MAX_OUTER;

/// The longest outer header, bytes: Ethernet, 802.1Q, IPv6, UDP and VXLAN.
const MAX_OUTER: usize = ethernet::LEN + vlan::LEN + ipv6::LEN + udp::LEN + vxlan::LEN;

/// A payload that several headers are linked to, with one reference each ([`BufferTable::share`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedPayload {
    first: Segment,
    len: usize,
}

impl SharedPayload {
    /// All of `frame`; `None` when it is empty, or too long for `header` more bytes ([`MAX_LEN`]) or
    /// for what follows a header ([`MAX_REST`]).
    pub(crate) fn new(frame: &Frame, header: usize) -> Option<Self> {
        let (first, len) = (frame.first(), frame.len());
        let fits = len <= MAX_REST && header + len <= MAX_LEN;
        (!first.is_empty() && fits).then_some(Self { first, len })
    }

    /// Length, bytes.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Links the payload to `chunk`, which is split into headers of it.
    #[inline]
    pub(crate) fn link_to(&self, table: &BufferTable, chunk: u32) {
        table.link(chunk, self.first);
    }
}

#[cfg(test)]
mod tests {
    use super::super::assembly::ChainBuilder;
    use super::super::offload::Offload;
    use super::*;

    fn chain(table: &BufferTable, lens: &[u16]) -> Frame {
        let mut chunks = (0..)
            .zip(lens)
            .map(|(chunk, len)| Frame::new(chunk, 10, *len));
        let mut builder = ChainBuilder::new(chunks.next().unwrap());
        chunks.for_each(|segment| builder.push(table, segment).unwrap());
        builder.finish()
    }

    #[test]
    fn a_frame_continues_from_chunk_to_chunk() {
        let table = BufferTable::new(16);
        let frame = chain(&table, &[100, 200, 300]);
        assert_eq!(
            (frame.len(), frame.first().len(), frame.is_chained()),
            (600, 100, true)
        );
        let rest: Vec<_> = table.rest(&frame).collect();
        assert_eq!(rest, [Segment::new(1, 10, 200), Segment::new(2, 10, 300)]);
        assert_eq!(table.rest(&Frame::new(3, 0, 60)).count(), 0);
    }

    #[test]
    fn several_headers_share_one_payload() {
        let table = BufferTable::new(16);
        let payload = chain(&table, &[1000, 500]);
        let shared = SharedPayload::new(&payload, 74).unwrap();
        shared.link_to(&table, 8);
        let headers = [0, 64].map(|start| Frame::part(8, start, 50, shared.len()));
        for header in headers {
            assert_eq!(
                (header.len(), header.first().len(), header.is_part()),
                (1550, 50, true)
            );
            assert!(
                table
                    .rest(&header)
                    .eq([Segment::new(0, 10, 1000), Segment::new(1, 10, 500)])
            );
        }
        assert!(SharedPayload::new(&payload, MAX_LEN - 1499).is_none());
        assert!(SharedPayload::new(&Frame::new(7, 0, 0), 74).is_none());
    }

    #[test]
    fn an_offload_stays_with_its_frame() {
        let table = BufferTable::new(16);
        let mut frame = chain(&table, &[100, 200, 300]);
        assert!(!frame.has_offload());
        let offload = Offload {
            vlan_tci: Some(7),
            ..Offload::default()
        };
        table.set_offload(&mut frame, offload);
        frame.trim_front(60).unwrap();
        frame.prepend(64).unwrap();
        let mut frame = frame.take();
        assert_eq!(table.offload(&frame), offload);
        assert_eq!((frame.len(), frame.first().len()), (604, 104));
        assert_eq!(table.offload(&Frame::new(0, 10, 100)), Offload::default());
        table.set_offload(&mut frame, Offload::default());
        assert_eq!(table.offload(&frame), Offload::default());
        assert_eq!((frame.len(), frame.has_offload()), (604, false));
    }
}
