//! Writes the copies of a flooded frame: the outer header for each VTEP, and what is copied after it.
//!
//! Over IPv4, without a VLAN tag and with DF, the header is that of the VTEP's line
//! ([`FloodAdjacency`]) with a few fields, all but the checksum the same in all copies.

use super::encap::{self, PerPacketFields, Tail};
use super::meta::TenantFrame;
use crate::addr::{VtepId, WorkerId};
use crate::stats::{FloodPage, FloodRows};
use crate::table::Snapshot;
use crate::table::encapsulation::{IP_OFFSET, OVERHEAD_V4, PLAIN_V4, TUNNEL_LEN, tunnel_header};
use crate::table::flood::{FloodAdjacency, FloodKey};
use crate::table::vtep::Adjacency;
use crate::wire::ipv4;

/// A cache line, bytes: short headers and copies don't share any.
pub(super) const LINE: usize = 64;

/// Writes copies with headers of one length.
pub(super) trait Writer {
    /// Length of a header, bytes.
    fn header_len(&self) -> usize;

    /// Bytes from one copy to the next in a chunk that has several, if all have the same.
    fn stride(&self) -> Option<usize> {
        None
    }

    /// Writes the copy for a VTEP into `place`: a header, and `inner` after it. Counts it for the
    /// VTEP. False when the VTEP's path is of another kind.
    fn write(&self, id: VtepId, place: &mut [u8], inner: &[u8], identification: &mut u16) -> bool;

    /// Writes copies, each `stride` bytes after the one before, up to the first VTEP whose path is of
    /// another kind. Returns their number.
    #[inline(always)]
    fn write_all(
        &self,
        ids: &[VtepId],
        (space, stride): (&mut [u8], usize),
        inner: &[u8],
        identification: &mut u16,
    ) -> usize {
        let mut made = 0;
        for (id, place) in ids.iter().zip(space.chunks_exact_mut(stride)) {
            if !self.write(*id, place, inner, identification) {
                break;
            }
            made += 1;
        }
        made
    }
}

/// Any outer header.
pub(super) struct AnyWriter<'w> {
    pub(super) frame: &'w TenantFrame,
    /// Length and checksum of what follows a header in other chunks.
    pub(super) tail: Tail,
    pub(super) fields: PerPacketFields,
    /// The path to the first VTEP.
    pub(super) first: &'w Adjacency,
    pub(super) snapshot: &'w Snapshot,
    pub(super) worker: WorkerId,
}

impl Writer for AnyWriter<'_> {
    fn header_len(&self) -> usize {
        self.first.rewrite.size().into()
    }

    fn write(&self, id: VtepId, place: &mut [u8], inner: &[u8], identification: &mut u16) -> bool {
        let (first, len) = (&self.first.rewrite, self.frame.frame.len());
        let Some((vtep, path)) = self.frame.adjacency(self.snapshot, id, len) else {
            return false;
        };
        let header = &path.rewrite;
        let size = usize::from(header.size());
        let is_like = path.device == self.first.device
            && (header.is_v6(), header.size()) == (first.is_v6(), first.size());
        let Some(packet) = place.get_mut(..size + inner.len()).filter(|_| is_like) else {
            return false;
        };
        copy_inner(&mut packet[size..], inner);
        encap::write(packet, self.tail, header, self.fields, identification);
        vtep.counters.row(self.worker).sent(1, len as u64);
        true
    }
}

/// Copies the frame itself, if it is not shared, to the front of `to`.
#[inline(always)]
fn copy_inner(to: &mut [u8], inner: &[u8]) {
    if let Some(to) = to.get_mut(..inner.len())
        && !inner.is_empty()
    {
        to.copy_from_slice(inner);
    }
}

/// The longest frame that is copied by a few wide moves, without its length: two lines.
pub(super) const BLOCK: usize = 2 * LINE;

/// The sum of two 16-bit words (RFC 1071).
#[inline(always)]
const fn ones_complement_sum(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry as u16)
}

/// Outer headers over IPv4 without a tag and with DF: what is equal in all of them.
pub(super) struct PlainHeaders<'w> {
    /// Paths, by VTEP; only those with this key.
    row: &'w [Option<FloodAdjacency>],
    key: FloodKey,
    worker: WorkerId,
    /// Where copies are counted, for most VTEPs: in rows of this page.
    page: &'w FloodPage,
    rows: &'w FloodRows,
    /// Length of the frame, bytes.
    len: u16,
    /// Sum of TOS and total length, folded, in network byte order.
    sum: u16,
    /// Of the IPv4 header: version, length, TOS and total length. In words, as they are stored.
    front: u32,
    /// UDP source port and length, where the path's header has zeros.
    udp: u64,
    /// UDP checksum and tunnel header, and zeros after them.
    back: u128,
}

/// Bytes that a header is written to: those after its end are the copy's.
const HEADER_SPACE: usize = FloodAdjacency::HEADER + size_of::<u128>();
const _: () = assert!(PLAIN_V4 <= HEADER_SPACE && HEADER_SPACE <= LINE);

impl<'w> PlainHeaders<'w> {
    /// Headers of a frame of `len` bytes for paths like `first`; `None` for a worker without counters.
    #[inline(always)]
    pub(super) fn new(
        (len, fields): (usize, PerPacketFields),
        (first, row): (&'w FloodAdjacency, &'w [Option<FloodAdjacency>]),
        worker: WorkerId,
    ) -> Option<Self> {
        let total = (len + OVERHEAD_V4) as u16;
        let [high, low] = total.to_be_bytes();
        let [udp_high, udp_low] = (total - ipv4::LEN as u16).to_be_bytes();
        let [port_high, port_low] = fields.source_port.to_be_bytes();
        let mut back = [0; size_of::<u128>()];
        back[PLAIN_V4 - FloodAdjacency::HEADER - TUNNEL_LEN..PLAIN_V4 - FloodAdjacency::HEADER]
            .copy_from_slice(&tunnel_header(fields.vni));
        Some(Self {
            row,
            key: first.key,
            worker,
            page: &first.counters,
            rows: first.counters.of(worker)?,
            len: len as u16,
            sum: ones_complement_sum(total, fields.tos.into()).to_be(),
            front: u32::from_ne_bytes([ipv4::VERSION_IHL, fields.tos, high, low]),
            udp: u64::from_ne_bytes([0, 0, port_high, port_low, 0, 0, udp_high, udp_low]),
            back: u128::from_ne_bytes(back),
        })
    }

    /// The path to a VTEP; `None` when it is of another kind, or too narrow.
    #[inline(always)]
    fn path(&self, id: VtepId) -> Option<&FloodAdjacency> {
        let to = self.row.get(id.index())?.as_ref()?;
        (to.key == self.key && self.len <= to.max_frame).then_some(to)
    }

    /// Writes the header, as [`encap::write`] does, and zeros up to the end of the space.
    #[inline(always)]
    fn write(&self, to: &FloodAdjacency, header: &mut [u8; HEADER_SPACE]) {
        const CHECKSUM: usize = IP_OFFSET + ipv4::CHECKSUM;
        const UDP: usize = FloodAdjacency::HEADER - size_of::<u64>();
        // In any byte order (RFC 1071 section 2).
        let checksum = !ones_complement_sum(to.sum, self.sum);
        header[..UDP].copy_from_slice(&to.header[..UDP]);
        header[IP_OFFSET..IP_OFFSET + 4].copy_from_slice(&self.front.to_ne_bytes());
        header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_ne_bytes());
        if let Some(udp) = to.header.last_chunk() {
            let udp = u64::from_ne_bytes(*udp) | self.udp;
            header[UDP..FloodAdjacency::HEADER].copy_from_slice(&udp.to_ne_bytes());
        }
        header[FloodAdjacency::HEADER..].copy_from_slice(&self.back.to_ne_bytes());
    }

    /// Counts a copy for its VTEP.
    #[inline(always)]
    fn count(&self, to: &FloodAdjacency) {
        if to.counters.is_same(self.page) {
            self.rows[usize::from(to.place)].add(self.len.into());
        } else {
            self.count_elsewhere(to);
        }
    }

    #[cold]
    fn count_elsewhere(&self, to: &FloodAdjacency) {
        if let Some(rows) = to.counters.of(self.worker) {
            rows[usize::from(to.place)].add(self.len.into());
        }
    }
}

/// Headers, each before what is copied: at least a block.
pub(super) struct LongWriter<'w>(pub(super) PlainHeaders<'w>);

impl Writer for LongWriter<'_> {
    fn header_len(&self) -> usize {
        PLAIN_V4
    }

    #[inline(always)]
    fn write(&self, id: VtepId, place: &mut [u8], inner: &[u8], _: &mut u16) -> bool {
        let Some(to) = self.0.path(id) else {
            return false;
        };
        let Some(header) = place.first_chunk_mut() else {
            return false;
        };
        self.0.write(to, header);
        copy_inner(&mut place[PLAIN_V4..], inner);
        self.0.count(to);
        true
    }
}

/// Headers, each before the first bytes of a block of `INNER` bytes, `STRIDE` bytes apart.
pub(super) struct BlockWriter<'w, const INNER: usize, const STRIDE: usize> {
    headers: PlainHeaders<'w>,
    block: [u8; INNER],
}

impl<'w, const INNER: usize, const STRIDE: usize> BlockWriter<'w, INNER, STRIDE> {
    const FITS: () = assert!(PLAIN_V4 + INNER <= STRIDE && HEADER_SPACE <= STRIDE);

    /// `inner` is not longer than a block.
    #[inline(always)]
    pub(super) fn new(headers: PlainHeaders<'w>, inner: &[u8]) -> Self {
        let () = Self::FITS;
        let mut block = [0; INNER];
        copy_inner(&mut block, inner);
        Self { headers, block }
    }

    #[inline(always)]
    fn write_at(&self, id: VtepId, place: &mut [u8; STRIDE]) -> bool {
        let Some(to) = self.headers.path(id) else {
            return false;
        };
        if let Some(header) = place.first_chunk_mut() {
            self.headers.write(to, header);
        }
        place[PLAIN_V4..PLAIN_V4 + INNER].copy_from_slice(&self.block);
        self.headers.count(to);
        true
    }
}

impl<const INNER: usize, const STRIDE: usize> Writer for BlockWriter<'_, INNER, STRIDE> {
    fn header_len(&self) -> usize {
        PLAIN_V4
    }

    fn stride(&self) -> Option<usize> {
        Some(STRIDE)
    }

    fn write(&self, id: VtepId, place: &mut [u8], _: &[u8], _: &mut u16) -> bool {
        let mut copy = [0; STRIDE];
        let written = self.write_at(id, &mut copy);
        let len = place.len().min(STRIDE);
        place[..len].copy_from_slice(&copy[..len]);
        written
    }

    #[inline(always)]
    fn write_all(
        &self,
        ids: &[VtepId],
        (space, _): (&mut [u8], usize),
        _: &[u8],
        _: &mut u16,
    ) -> usize {
        let mut made = 0;
        for (id, place) in ids.iter().zip(space.as_chunks_mut().0) {
            if !self.write_at(*id, place) {
                break;
            }
            made += 1;
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::addr::{DeviceId, MacAddr, VtepAddr};
    use crate::stats::{Counters, FloodCounters};
    use crate::table::encapsulation::{HeaderFields, OuterHeader};
    use crate::table::vtep::{RemoteVtep, VtepTable};

    fn table(paths: &[Adjacency]) -> VtepTable {
        let remote = RemoteVtep {
            vtep: VtepAddr::new(Ipv4Addr::new(192, 0, 2, 9).into()).unwrap(),
            paths: paths.into(),
            counters: Arc::new(Counters::of_vtep(&FloodCounters::new(1))),
        };
        let mut table = VtepTable::default();
        table.set(VtepId(0), Some(Arc::new(remote)));
        table
    }

    /// Asserts that both functions of `writer` write `wanted`.
    fn assert_same_bytes(writer: &impl Writer, stride: usize, wanted: &[u8]) {
        let mut space = vec![0xee; 2 * stride];
        let ids = [VtepId(0), VtepId(1)];
        assert_eq!(writer.write_all(&ids, (&mut space, stride), &[], &mut 0), 1);
        assert_eq!(&space[..wanted.len()], wanted);
        let mut place = vec![0xee; wanted.len()];
        assert!(writer.write(VtepId(0), &mut place, &[], &mut 0));
        assert_eq!(place, wanted);
        assert!(!writer.write(VtepId(1), &mut place, &[], &mut 0));
    }

    proptest! {
        /// All writers write the same bytes.
        #[test]
        fn a_plain_header_is_that_of_any_writer(
            (source, destination) in (1u32..0x0a00_0000, 1u32..0x0a00_0000),
            (ttl, udp_port) in (1u8.., any::<u16>()),
            inner in prop::collection::vec(any::<u8>(), 14..300),
            (tos, source_port, vni) in (any::<u8>(), any::<u16>(), 1u32..1 << 24),
        ) {
            let vtep = |bits| VtepAddr::new(Ipv4Addr::from(0x0a00_0000 + bits).into()).unwrap();
            let header = OuterHeader::new(&HeaderFields {
                source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
                next_hop_mac: MacAddr([2, 0, 0, 0, 0, 2]),
                vlan: None,
                source: vtep(source),
                destination: vtep(destination),
                ttl,
                df: true,
                udp_port,
            });
            let path = Adjacency {
                device: DeviceId(1),
                rewrite: header.unwrap(),
                max_frame: inner.len() as u16,
            };
            let vteps = table(std::slice::from_ref(&path));
            let fields = PerPacketFields {
                tos,
                source_port,
                vni,
                flow_label: 0,
                no_udp6_checksum: false,
            };
            let mut wanted = vec![0; PLAIN_V4 + inner.len()];
            wanted[PLAIN_V4..].copy_from_slice(&inner);
            encap::write(&mut wanted, Tail::default(), &path.rewrite, fields, &mut 0);
            let row = vteps.floods().path(VtepId(0), 0).unwrap();
            let headers = |row| PlainHeaders::new((inner.len(), fields), row, WorkerId(0)).unwrap();
            // Each as the first of two places; the other VTEP has no path.
            let ids = [VtepId(0), VtepId(1)];
            let mut space = vec![0xee; 1024];
            let stride = PLAIN_V4 + inner.len();
            let long = LongWriter(headers(row));
            prop_assert_eq!(long.write_all(&ids, (&mut space, stride), &inner, &mut 0), 1);
            prop_assert_eq!(&space[..stride], &wanted);
            prop_assert!(space[stride..].iter().all(|byte| *byte == 0xee));
            let mut sent = 1;
            if inner.len() <= LINE {
                let writer = BlockWriter::<LINE, { 2 * LINE }>::new(headers(row), &inner);
                assert_same_bytes(&writer, 2 * LINE, &wanted);
                sent += 2;
            }
            if inner.len() <= BLOCK {
                let writer = BlockWriter::<BLOCK, { BLOCK + LINE }>::new(headers(row), &inner);
                assert_same_bytes(&writer, BLOCK + LINE, &wanted);
                sent += 2;
            }
            assert_same_bytes(&BlockWriter::<0, LINE>::new(headers(row), &[]), LINE, &wanted[..PLAIN_V4]);
            sent += 2;
            let totals = vteps.get(VtepId(0)).unwrap().counters.totals();
            prop_assert_eq!((totals.tx_frames, totals.tx_bytes), (sent, sent * inner.len() as u64));
            // Not over another device, nor one that is too long.
            for (device, max_frame) in [(2, path.max_frame), (1, path.max_frame - 1)] {
                let path = Adjacency { device: DeviceId(device), max_frame, ..path.clone() };
                let vteps = table(&[path]);
                let headers = PlainHeaders {
                    row: vteps.floods().path(VtepId(0), 0).unwrap().1,
                    ..headers(row)
                };
                prop_assert!(!LongWriter(headers).write(VtepId(0), &mut space, &inner, &mut 0));
            }
        }
    }

    #[test]
    fn only_paths_with_df_take_one_line_each() {
        let fields = |vlan, df| HeaderFields {
            source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            next_hop_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            vlan,
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.9".parse().unwrap(),
            ttl: 64,
            df,
            udp_port: 4789,
        };
        for (vlan, df, is_plain) in [
            (None, true, true),
            (Some(7), true, false),
            (None, false, false),
        ] {
            let rewrite = OuterHeader::new(&fields(vlan, df)).unwrap();
            let path = Adjacency {
                device: DeviceId(0),
                rewrite,
                max_frame: 1450,
            };
            for paths in 1..4 {
                let vteps = table(&vec![path.clone(); paths]);
                assert_eq!(vteps.floods().path(VtepId(0), 7).is_some(), is_plain);
            }
        }
    }
}
