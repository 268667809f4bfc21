//! The copies of a flooded frame for VTEPs of one device: many at a time, with their headers side by
//! side in one chunk, before a shared payload or each before a copy of it.
//!
//! ```text
//! chunk: | header | header | header | ..      each linked to the payload's chunks
//! chunk: | header, payload | header, payload | ..
//! ```

use super::context::BurstContext;
use super::encap::{self, PerPacketFields, Tail};
use super::flow;
use super::meta::{TenantFrame, TxFrame};
use crate::addr::{DeviceId, VtepId, WorkerId};
use crate::frame::chain::SharedPayload;
use crate::frame::{self, Frame, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::encapsulation::{IP_OFFSET, MAX_HEADER, OVERHEAD_V4, PLAIN_V4, tunnel_header};
use crate::table::flood::{FloodAdjacency, FloodKey};
use crate::table::vtep::Adjacency;
use crate::wire::{ipv4, udp};

/// Copies in a chunk, at most: as many as 4096 bytes have lines.
const MAX_COPIES: usize = 4096 / LINE;

/// A cache line, bytes: short headers and copies don't share any.
const LINE: usize = 64;

/// A copy with its outer header.
struct EncapsulatedCopy(Frame);

impl TxFrame for EncapsulatedCopy {
    fn into_frame(self) -> Frame {
        self.0
    }
}

/// What the copies of a frame have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copies<'f> {
    /// The frame.
    pub(super) frame: &'f TenantFrame,
    /// The frame's chunks, where the copies share them. Otherwise it has one.
    pub(super) payload: Option<SharedPayload>,
    /// Length and checksum of a shared payload.
    pub(super) tail: Tail,
    /// The underlay device.
    pub(super) device: DeviceId,
    pub(super) fields: PerPacketFields,
}

/// The places of copies in a chunk.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Bytes of a copy without those it shares.
    len: u16,
    /// Bytes from one copy to the next.
    stride: u16,
    count: usize,
}

impl Layout {
    /// Of copies of `len` bytes; `None` when a chunk is too small for one.
    #[inline(always)]
    fn new(len: usize, chunk_size: usize) -> Option<Self> {
        let stride = if (LINE + 1..=MAX_HEADER).contains(&len) {
            MAX_HEADER.next_multiple_of(16)
        } else {
            len.next_multiple_of(LINE)
        };
        let count = if stride <= LINE {
            chunk_size / LINE
        } else {
            chunk_size / stride
        };
        (len <= chunk_size).then_some(Self {
            len: len as u16,
            stride: stride as u16,
            count: count.clamp(1, MAX_COPIES),
        })
    }
}

impl Copies<'_> {
    /// The number of chunks of a copy.
    #[inline]
    pub(super) fn chunks<M: FrameMemory>(&self, ctx: &BurstContext<'_, '_, M>) -> usize {
        match self.payload {
            Some(_) => 1 + ctx.pool.memory().chunks(&self.frame.frame),
            None => 1,
        }
    }

    /// Makes, queues and counts copies for the VTEPs of `ids`, of which the first has the path
    /// `first`, up to the first one whose path is of another kind. The device accepts as many, each
    /// of `chunks` chunks. Returns how many were made; fewer also when chunks run out or are too
    /// small.
    #[inline(always)]
    pub(super) fn make<M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'_, '_, M>,
        first: &Adjacency,
        ids: &[VtepId],
        chunks: usize,
    ) -> usize {
        let chunk_size = ctx.pool.memory().chunk_size();
        let inner_len = self.frame.frame.len();
        let copied = self.payload.map_or(inner_len, |_| 0);
        let Some(layout) = Layout::new(usize::from(first.rewrite.size()) + copied, chunk_size)
        else {
            return 0;
        };
        let path_hash = flow::path_hash(self.frame.meta.flow);
        let vteps = ctx.snapshot.vteps.floods();
        let plain = ids.first().and_then(|id| vteps.path(*id, path_hash));
        match (plain, self.payload) {
            (Some(plain), Some(_)) => {
                let writer = PlainWriter::<true>::new(self, plain, ctx.worker);
                self.make_all(ctx, writer, layout, ids, chunks)
            }
            (Some(plain), None) => {
                let writer = PlainWriter::<false>::new(self, plain, ctx.worker);
                self.make_all(ctx, writer, layout, ids, chunks)
            }
            (None, _) => {
                let writer = AnyWriter {
                    copies: self,
                    first,
                    snapshot: ctx.snapshot,
                    worker: ctx.worker,
                };
                self.make_all(ctx, writer, layout, ids, chunks)
            }
        }
    }

    #[inline(never)]
    fn make_all<M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'_, '_, M>,
        writer: impl Writer,
        layout: Layout,
        ids: &[VtepId],
        chunks: usize,
    ) -> usize {
        if layout.count > 1 {
            self.make_side_by_side(ctx, writer, layout, ids, chunks)
        } else {
            self.make_single(ctx, writer, layout, ids, chunks)
        }
    }

    /// Makes as many copies as fit into one chunk.
    #[inline(always)]
    fn make_side_by_side<M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'_, '_, M>,
        writer: impl Writer,
        layout: Layout,
        ids: &[VtepId],
        chunks: usize,
    ) -> usize {
        let Some(mut chunk) = ctx.pool.alloc() else {
            return 0;
        };
        let chunk_size = ctx.pool.memory().chunk_size();
        let size = usize::from(layout.stride) * layout.count;
        let (inner, space) = match chunk.set_extent(0, size, chunk_size) {
            Ok(()) => self.source(ctx.pool, &mut chunk),
            Err(_) => (&[][..], &mut [][..]),
        };
        let places = space.chunks_exact_mut(layout.stride.into());
        let mut made = 0;
        for (id, place) in ids.iter().zip(places) {
            if !writer.write(*id, place, inner, ctx.identification) {
                break;
            }
            made += 1;
        }
        if made == 0 {
            ctx.pool.free(chunk);
            return 0;
        }
        let shared = self.payload.map_or(0, |payload| {
            payload.link_to(ctx.pool.memory().segments(), chunk.chunk());
            payload.len()
        });
        let Layout { len, stride, .. } = layout;
        let copies = ctx.pool.split(chunk, (len, stride), made as u16, shared);
        ctx.enqueue_all(self.device, copies.map(EncapsulatedCopy), chunks);
        made
    }

    /// Makes copies in a chunk each.
    #[inline(always)]
    fn make_single<M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'_, '_, M>,
        writer: impl Writer,
        layout: Layout,
        ids: &[VtepId],
        chunks: usize,
    ) -> usize {
        let chunk_size = ctx.pool.memory().chunk_size();
        let len = usize::from(layout.len);
        let mut made = 0;
        for id in ids {
            let Some(mut chunk) = ctx.pool.alloc() else {
                break;
            };
            let start = frame::cache_color(chunk.chunk(), len, chunk_size);
            let start = start.min((chunk_size - len) as u16);
            let written = chunk.set_extent(start, len, chunk_size).is_ok() && {
                let (inner, space) = self.source(ctx.pool, &mut chunk);
                writer.write(*id, space, inner, ctx.identification)
            };
            if !written {
                ctx.pool.free(chunk);
                break;
            }
            let copy = EncapsulatedCopy(chunk).into_frame();
            if let Err(copy) = ctx.out.push(self.device, copy, chunks) {
                ctx.pool.free(copy);
                break;
            }
            made += 1;
        }
        made
    }

    /// The bytes to copy after each header, none if they are shared, and those of `chunk`, to write.
    #[inline(always)]
    fn source<'m, M: FrameMemory>(
        &'m self,
        pool: &'m mut Pool<M>,
        chunk: &'m mut Frame,
    ) -> (&'m [u8], &'m mut [u8]) {
        let frame = &self.frame.frame;
        match self.payload {
            Some(_) => (&[], pool.memory_mut().bytes_mut(chunk)),
            None => pool.memory_mut().read_write(frame, frame.first(), chunk),
        }
    }
}

/// Writes copies with headers of one length.
trait Writer {
    /// Writes the copy for a VTEP into `place`: a header, and `inner` after it. Counts it for the
    /// VTEP. False when the VTEP's path is of another kind.
    fn write(&self, id: VtepId, place: &mut [u8], inner: &[u8], identification: &mut u16) -> bool;
}

/// Any outer header.
struct AnyWriter<'w> {
    copies: &'w Copies<'w>,
    first: &'w Adjacency,
    snapshot: &'w Snapshot,
    worker: WorkerId,
}

impl Writer for AnyWriter<'_> {
    fn write(&self, id: VtepId, place: &mut [u8], inner: &[u8], identification: &mut u16) -> bool {
        let (frame, first) = (self.copies.frame, &self.first.rewrite);
        let len = frame.frame.len();
        let Some((vtep, path)) = frame.adjacency(self.snapshot, id, len) else {
            return false;
        };
        let header = &path.rewrite;
        let size = usize::from(header.size());
        let is_like = path.device == self.copies.device
            && (header.is_v6(), header.size()) == (first.is_v6(), first.size());
        let Some(packet) = place.get_mut(..size + inner.len()).filter(|_| is_like) else {
            return false;
        };
        copy_inner(&mut packet[size..], inner);
        let (tail, fields) = (self.copies.tail, self.copies.fields);
        encap::write(packet, tail, header, fields, identification);
        vtep.counters.row(self.worker).sent(1, len as u64);
        true
    }
}

/// Copies the frame itself, if it is not shared, to the front of `to`.
#[inline(always)]
fn copy_inner(to: &mut [u8], inner: &[u8]) {
    let Some(to) = to.get_mut(..inner.len()) else {
        return;
    };
    match inner.len() {
        0 => {}
        BLOCK..=SHORT => copy_short(to, inner),
        _ => to.copy_from_slice(inner),
    }
}

/// Bytes that a few instructions copy.
const BLOCK: usize = 32;

/// The longest frame that is copied in blocks: a call of `memcpy` takes as long as five of them.
const SHORT: usize = 5 * BLOCK;

/// Copies at least a block to a place of the same length.
#[inline(always)]
fn copy_short(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<BLOCK>(), from.last_chunk()) {
        *to = *from;
    }
    let blocks = to.as_chunks_mut::<BLOCK>().0.iter_mut();
    for (to, from) in blocks.zip(from.as_chunks().0) {
        *to = *from;
    }
}

/// The sum of two 16-bit words (RFC 1071).
#[inline(always)]
const fn ones_complement_sum(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry as u16)
}

/// Outer headers over IPv4 without a tag and with DF: what is equal in all of them. `SHARED`:
/// nothing is copied after them.
struct PlainWriter<'w, const SHARED: bool> {
    /// Paths, by VTEP; only those with this key.
    row: &'w [Option<FloodAdjacency>],
    key: FloodKey,
    worker: WorkerId,
    /// Length of the frame, bytes.
    len: usize,
    /// Of the IPv4 header: version, length, TOS and total length. In words, as they are stored.
    front: u32,
    /// Sum of TOS and total length, folded, in network byte order.
    sum: u16,
    source_port: [u8; 2],
    /// Length and checksum of the UDP header.
    udp: u32,
    tunnel: u64,
}

impl<'w, const SHARED: bool> PlainWriter<'w, SHARED> {
    #[inline(always)]
    fn new(
        copies: &Copies<'_>,
        (first, row): (&FloodAdjacency, &'w [Option<FloodAdjacency>]),
        worker: WorkerId,
    ) -> Self {
        let (len, fields) = (copies.frame.frame.len(), copies.fields);
        let total = (len + OVERHEAD_V4) as u16;
        let [high, low] = total.to_be_bytes();
        let [udp_high, udp_low] = (total - ipv4::LEN as u16).to_be_bytes();
        Self {
            row,
            key: first.key,
            worker,
            len,
            front: u32::from_ne_bytes([ipv4::VERSION_IHL, fields.tos, high, low]),
            sum: ones_complement_sum(total, fields.tos.into()).to_be(),
            source_port: fields.source_port.to_be_bytes(),
            udp: u32::from_ne_bytes([udp_high, udp_low, 0, 0]),
            tunnel: u64::from_ne_bytes(tunnel_header(fields.vni)),
        }
    }

    /// Writes the header: as [`encap::write`] does.
    #[inline(always)]
    fn write_header(&self, to: &FloodAdjacency, header: &mut [u8; PLAIN_V4]) {
        const CHECKSUM: usize = IP_OFFSET + ipv4::CHECKSUM;
        const PORTS: usize = IP_OFFSET + ipv4::LEN;
        const TUNNEL: usize = PORTS + udp::LEN;
        // In any byte order (RFC 1071 section 2).
        let checksum = !ones_complement_sum(to.sum, self.sum);
        header[..FloodAdjacency::HEADER].copy_from_slice(&to.header);
        header[IP_OFFSET..IP_OFFSET + 4].copy_from_slice(&self.front.to_ne_bytes());
        header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_ne_bytes());
        header[PORTS..PORTS + 2].copy_from_slice(&self.source_port);
        header[FloodAdjacency::HEADER..TUNNEL].copy_from_slice(&self.udp.to_ne_bytes());
        header[TUNNEL..].copy_from_slice(&self.tunnel.to_ne_bytes());
    }
}

impl<const SHARED: bool> Writer for PlainWriter<'_, SHARED> {
    #[inline(always)]
    fn write(&self, id: VtepId, place: &mut [u8], inner: &[u8], _: &mut u16) -> bool {
        let Some(Some(to)) = self.row.get(id.index()) else {
            return false;
        };
        let Some((header, after)) = place.split_first_chunk_mut() else {
            return false;
        };
        if to.key != self.key || self.len > usize::from(to.max_frame) {
            return false;
        }
        self.write_header(to, header);
        if !SHARED {
            copy_inner(after, inner);
        }
        if let Some(sent) = to.counters.get(to.place, self.worker) {
            sent.add(self.len as u64);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::meta::FrameMeta;
    use super::*;
    use crate::addr::{MacAddr, VtepAddr};
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

    proptest! {
        /// Both writers write the same bytes.
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
            let frame = TenantFrame {
                frame: Frame::new(0, 256, inner.len() as u16),
                meta: FrameMeta::DROPPED,
            };
            let copies = Copies {
                frame: &frame,
                payload: None,
                tail: Tail::default(),
                device: DeviceId(1),
                fields,
            };
            let mut wanted = vec![0; PLAIN_V4 + inner.len()];
            wanted[PLAIN_V4..].copy_from_slice(&inner);
            encap::write(&mut wanted, Tail::default(), &path.rewrite, fields, &mut 0);
            let mut place = vec![0xee; PLAIN_V4 + inner.len()];
            let first = vteps.floods().path(VtepId(0), 0).unwrap();
            let plain = PlainWriter::<false>::new(&copies, first, WorkerId(0));
            prop_assert!(plain.write(VtepId(0), &mut place, &inner, &mut 0));
            prop_assert_eq!(place, wanted);
            let totals = vteps.get(VtepId(0)).unwrap().counters.totals();
            prop_assert_eq!((totals.tx_frames, totals.tx_bytes), (1, inner.len() as u64));
            // Not to another VTEP, nor over another device, nor one that is too long.
            let mut place = [0; 400];
            prop_assert!(!plain.write(VtepId(1), &mut place, &inner, &mut 0));
            for (device, max_frame) in [(2, path.max_frame), (1, path.max_frame - 1)] {
                let path = Adjacency { device: DeviceId(device), max_frame, ..path.clone() };
                let vteps = table(&[path]);
                let plain = PlainWriter::<false> {
                    row: vteps.floods().path(VtepId(0), 0).unwrap().1,
                    ..plain
                };
                prop_assert!(!plain.write(VtepId(0), &mut place, &inner, &mut 0));
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
