//! The copies of a flooded frame for VTEPs of one device: many at a time, with their headers side by
//! side in one chunk, before a shared payload or each before a copy of it.
//!
//! ```text
//! chunk: | header | header | header | ..      each linked to the payload's chunks
//! chunk: | header, payload | header, payload | ..
//! ```

use super::context::BurstContext;
use super::encap::{PerPacketFields, Tail};
use super::flood_queue::PendingFlood;
use super::flood_writer::{AnyWriter, BLOCK, BlockWriter, LINE, LongWriter, PlainHeaders, Writer};
use super::flow;
use super::meta::{TenantFrame, TxFrame};
use crate::addr::{DeviceId, VtepId};
use crate::frame::chain::SharedPayload;
use crate::frame::{self, Frame, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::encapsulation::{MAX_HEADER, PLAIN_V4};
use crate::table::flood::FloodAdjacency;
use crate::table::port::Device;
use crate::table::vtep::Adjacency;

/// Copies in a chunk, at most: as many as 4096 bytes have lines.
const MAX_COPIES: usize = 4096 / LINE;

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
    /// Bytes of a header.
    header: usize,
    /// Bytes that are copied after it.
    copied: usize,
    /// Bytes from one copy to the next.
    stride: usize,
    count: usize,
}

impl Layout {
    /// Of copies with a `stride` of their own, or one by their length. `None` when a chunk is too small
    /// for one.
    #[inline(always)]
    fn new(
        (header, copied): (usize, usize),
        stride: Option<usize>,
        chunk_size: usize,
    ) -> Option<Self> {
        let len = header + copied;
        let stride = match stride {
            Some(stride) => stride,
            None if (LINE + 1..=MAX_HEADER).contains(&len) => MAX_HEADER.next_multiple_of(16),
            None => len.next_multiple_of(LINE),
        };
        let count = if stride == LINE {
            chunk_size / LINE
        } else {
            chunk_size / stride
        };
        (len <= chunk_size).then_some(Self {
            header,
            copied,
            stride,
            count: count.clamp(1, MAX_COPIES),
        })
    }
}

/// The shortest frame whose chunks are shared, bytes. Copying a shorter one costs less than the
/// second buffer costs the kernel.
const MIN_SHARED_LEN: usize = 256;

/// A payload that copies share, and how many of them may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    pub(super) payload: SharedPayload,
    pub(super) limit: usize,
}

/// The path to the first VTEP of several copies; those to the others are like it.
#[derive(Debug, Clone, Copy)]
pub(super) struct CopyPath<'t> {
    pub(super) device: &'t Device,
    kind: PathKind<'t>,
}

#[derive(Debug, Clone, Copy)]
enum PathKind<'t> {
    /// In one line, and the row that has the paths of the other VTEPs.
    Plain(&'t FloodAdjacency, &'t [Option<FloodAdjacency>]),
    Any(&'t Adjacency),
}

impl<'t> CopyPath<'t> {
    /// The path of `frame`, which is no superframe, to a VTEP; `None` when there is none, or the frame
    /// does not fit.
    #[inline(always)]
    pub(super) fn find(snapshot: &'t Snapshot, frame: &TenantFrame, id: VtepId) -> Option<Self> {
        let (hash, len) = (flow::path_hash(frame.meta.flow), frame.frame.len());
        let (device, kind) = match snapshot.vteps.floods().path(id, hash) {
            Some((path, row)) if len <= usize::from(path.max_frame) => {
                (path.key.device(), PathKind::Plain(path, row))
            }
            _ => {
                let (_, path) = frame.adjacency(snapshot, id, len)?;
                (path.device, PathKind::Any(path))
            }
        };
        let device = snapshot.ports.device(device)?;
        Some(Self { device, kind })
    }

    /// True over IPv6.
    #[inline]
    pub(super) fn is_v6(&self) -> bool {
        match self.kind {
            PathKind::Plain(..) => false,
            PathKind::Any(path) => path.rewrite.is_v6(),
        }
    }

    /// Length of the outer header, bytes.
    #[inline]
    pub(super) fn header_len(&self) -> usize {
        match self.kind {
            PathKind::Plain(..) => PLAIN_V4,
            PathKind::Any(path) => path.rewrite.size().into(),
        }
    }

    /// True when all copies of a frame of `len` bytes, the last one too, cost less than to send the
    /// frame itself.
    #[inline]
    pub(super) const fn prefers_copies(&self, len: usize) -> bool {
        matches!(self.kind, PathKind::Plain(..)) && len <= BLOCK
    }
}

impl PendingFlood {
    /// The frame's chunks, when the copy for a VTEP may share them. The first such copy shares them
    /// with all that follow, `left` in total: each copy takes a reference, and the last one those of
    /// the frame itself. `None`: the payload must be copied.
    #[inline]
    pub(super) fn share<M: FrameMemory>(
        &mut self,
        ctx: &BurstContext<'_, '_, M>,
        path: &CopyPath<'_>,
        left: usize,
    ) -> Option<Shared> {
        if !path.device.multi_buffer || self.frame.frame.len() < MIN_SHARED_LEN {
            return None;
        }
        let payload = SharedPayload::new(&self.frame.frame, MAX_HEADER)?;
        let references = *self.references.get_or_insert_with(|| {
            let table = ctx.pool.memory().buffers();
            table.share(self.frame.frame.chunk(), left as u32);
            table
                .rest(&self.frame.frame)
                .for_each(|segment| table.share(segment.chunk(), left as u32));
            left as u32
        }) as usize;
        // If the list has grown since, the last one is kept: other copies don't share.
        let limit = references - usize::from(references < left);
        (limit > 0).then_some(Shared { payload, limit })
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
        first: &CopyPath<'_>,
        ids: &[VtepId],
        chunks: usize,
    ) -> usize {
        let (plain, row) = match first.kind {
            PathKind::Plain(plain, row) => (plain, row),
            PathKind::Any(first) => {
                let writer = AnyWriter {
                    frame: self.frame,
                    tail: self.tail,
                    fields: self.fields,
                    first,
                    snapshot: ctx.snapshot,
                    worker: ctx.worker,
                };
                return self.make_all(ctx, &writer, ids, chunks);
            }
        };
        let len = self.frame.frame.len();
        let Some(headers) = PlainHeaders::new((len, self.fields), (plain, row), ctx.worker) else {
            return 0;
        };
        if self.payload.is_some() {
            let writer = BlockWriter::<0, LINE>::new(headers, &[]);
            return self.make_all(ctx, &writer, ids, chunks);
        }
        let inner = ctx.pool.memory().bytes(&self.frame.frame);
        if inner.len() <= LINE {
            let writer = BlockWriter::<LINE, { 2 * LINE }>::new(headers, inner);
            self.make_all(ctx, &writer, ids, chunks)
        } else if inner.len() <= BLOCK {
            let writer = BlockWriter::<BLOCK, { BLOCK + LINE }>::new(headers, inner);
            self.make_all(ctx, &writer, ids, chunks)
        } else {
            self.make_all(ctx, &LongWriter(headers), ids, chunks)
        }
    }

    #[inline(never)]
    fn make_all<M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'_, '_, M>,
        writer: &impl Writer,
        ids: &[VtepId],
        chunks: usize,
    ) -> usize {
        let chunk_size = ctx.pool.memory().chunk_size();
        let copied = self.payload.map_or(self.frame.frame.len(), |_| 0);
        let layout = Layout::new((writer.header_len(), copied), writer.stride(), chunk_size);
        let Some(layout) = layout else {
            return 0;
        };
        if layout.count == 1 {
            return self.make_single(ctx, writer, layout, ids, chunks);
        }
        let mut made = 0;
        while made < ids.len() {
            let count = self.make_side_by_side(ctx, writer, layout, &ids[made..], chunks);
            made += count;
            if count < layout.count {
                break;
            }
        }
        made
    }

    /// Makes as many copies as fit into one chunk.
    #[inline(always)]
    fn make_side_by_side<M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'_, '_, M>,
        writer: &impl Writer,
        layout: Layout,
        ids: &[VtepId],
        chunks: usize,
    ) -> usize {
        let Some(mut chunk) = ctx.pool.alloc() else {
            return 0;
        };
        let Layout {
            header,
            copied,
            stride,
            count,
        } = layout;
        let (chunk_size, size) = (ctx.pool.memory().chunk_size(), stride * count);
        let (inner, space) = match chunk.set_extent(0, size, chunk_size) {
            Ok(()) => self.source(ctx.pool, &mut chunk),
            Err(_) => (&[][..], &mut [][..]),
        };
        let ids = &ids[..count.min(ids.len())];
        let made = writer.write_all(ids, (space, stride), inner, ctx.identification);
        if made == 0 {
            ctx.pool.free(chunk);
            return 0;
        }
        let shared = self.payload.map_or(0, |payload| {
            payload.link_to(ctx.pool.memory().buffers(), chunk.chunk());
            payload.len()
        });
        let place = ((header + copied) as u16, stride as u16);
        let copies = ctx.pool.split(chunk, place, made as u16, shared);
        ctx.enqueue_all(self.device, copies.map(EncapsulatedCopy), chunks);
        made
    }

    /// Makes copies in a chunk each. What is copied begins a cache line: that takes least time.
    #[inline(always)]
    fn make_single<M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'_, '_, M>,
        writer: &impl Writer,
        Layout { header, copied, .. }: Layout,
        ids: &[VtepId],
        chunks: usize,
    ) -> usize {
        let chunk_size = ctx.pool.memory().chunk_size();
        let (len, before) = (header + copied, header.next_multiple_of(LINE));
        let mut made = 0;
        for id in ids {
            let Some(mut chunk) = ctx.pool.alloc() else {
                break;
            };
            let start = frame::cache_color(chunk.chunk(), before + copied, chunk_size);
            let start = (usize::from(start) + before - header).min(chunk_size - len);
            let written = chunk.set_extent(start as u16, len, chunk_size).is_ok() && {
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
