//! Cuts a superframe: makes a frame of each of its segments.
//!
//! Where each segment's payload is in a chunk of its own, with room before it, the headers are written
//! there and the payload is only summed up (`packet::split` receives so). Else it is copied once, and summed up on the
//! way. Inner and outer checksum follow from that sum and the headers.

use super::context::BurstContext;
use super::meta::DropScope;
use super::segment::Segmenter;
use super::superframe::segmenter;
use crate::drop::DropReason;
use crate::frame::assembly::ChainBuilder;
use crate::frame::chain::{MAX_SEGMENTS, Segment};
use crate::frame::{self, Frame, FrameMemory, Pool};
use crate::table::encapsulation::MAX_HEADER;
use crate::wire::checksum::Sum;

/// A segment that was cut.
#[derive(Debug)]
pub(super) struct Cut {
    /// The segment, with all checksums complete.
    pub(super) frame: Frame,
    /// Its chunks.
    pub(super) chunks: usize,
    /// The Internet checksum of all its bytes.
    pub(super) sum: Sum,
}

/// A superframe that is cut.
#[derive(Debug)]
pub(super) enum Superframe<'f> {
    /// It is needed afterwards.
    Kept(&'f Frame),
    /// It is not: its chunks may become those of its segments.
    Last(Frame),
}

/// Makes the segments of a superframe, and gives each to `send`, which returns false when its device has
/// refused that one. Returns how many others are not sent either. `scope`: what drops are counted for
/// when chunks run out.
pub(super) fn cut<'t, 'p, M: FrameMemory>(
    ctx: &mut BurstContext<'t, 'p, M>,
    superframe: Superframe<'_>,
    scope: DropScope<'_>,
    send: impl FnMut(&mut BurstContext<'t, 'p, M>, Cut) -> bool,
) -> u64 {
    let frame = match &superframe {
        Superframe::Kept(frame) => frame,
        Superframe::Last(frame) => frame,
    };
    let segments = segmenter(ctx.pool.memory(), frame).ok().flatten();
    match (superframe, segments) {
        (Superframe::Last(frame), Some(segments))
            if is_laid_out(ctx.pool.memory(), &frame, &segments) =>
        {
            cut_in_place(ctx, frame, &segments, send)
        }
        (Superframe::Last(frame), segments) => {
            let left = cut_copies(ctx, &frame, segments.as_ref(), scope, send);
            ctx.pool.free(frame);
            left
        }
        (Superframe::Kept(frame), segments) => {
            cut_copies(ctx, frame, segments.as_ref(), scope, send)
        }
    }
}

/// [`cut`] into copies of the payloads.
fn cut_copies<'t, 'p, M: FrameMemory>(
    ctx: &mut BurstContext<'t, 'p, M>,
    frame: &Frame,
    segments: Option<&Segmenter>,
    scope: DropScope<'_>,
    mut send: impl FnMut(&mut BurstContext<'t, 'p, M>, Cut) -> bool,
) -> u64 {
    let Some(segments) = segments else {
        ctx.count_drops_at(ctx.device, DropReason::Unsegmentable, scope, 1);
        return 0;
    };
    let mut source = Source::new(ctx.pool.memory(), frame, segments.header_len());
    for index in 0..segments.count() {
        let left = (segments.count() - index) as u64;
        let Some(segment) = source.segment(ctx.pool, segments, index) else {
            ctx.count_drops_at(ctx.device, DropReason::NoFrame, scope, left);
            return 0;
        };
        if !send(ctx, segment) {
            return left - 1;
        }
    }
    0
}

/// Whether each segment's payload is in a chunk of its own, with room for inner and outer headers before
/// it, and no other frame has the chunk.
fn is_laid_out<M: FrameMemory>(memory: &M, frame: &Frame, segments: &Segmenter) -> bool {
    let (headers, count) = (segments.header_len(), segments.count());
    let table = memory.buffers();
    let is_first = frame.first().len() == headers + segments.payload(0).len();
    let mut seen = 1;
    let has_room = |segment: Segment| usize::from(segment.start()) >= headers + MAX_HEADER;
    is_first
        && table.is_unshared(frame)
        && table.rest(frame).all(|segment| {
            let payload = segments.payload(seen.min(count - 1));
            seen += 1;
            seen <= count && segment.len() == payload.len() && has_room(segment)
        })
        && seen == count
}

/// [`cut`] for a superframe that [`is_laid_out`].
fn cut_in_place<'t, 'p, M: FrameMemory>(
    ctx: &mut BurstContext<'t, 'p, M>,
    frame: Frame,
    segments: &Segmenter,
    mut send: impl FnMut(&mut BurstContext<'t, 'p, M>, Cut) -> bool,
) -> u64 {
    let headers = segments.header_len();
    let mut rest = Some(frame);
    let mut index = 0;
    while let Some(whole) = rest.take() {
        let (mut frame, next) = ctx.pool.memory().buffers().split_first(whole);
        if index > 0 {
            let has_room = frame.prepend(headers as u16);
            debug_assert!(has_room.is_ok(), "it was checked");
        }
        let bytes = ctx.pool.memory_mut().bytes_mut(&mut frame);
        let sum = Sum::new().bytes(&bytes[headers..]);
        segments.write(index, bytes, sum);
        // Headers have an even length.
        let sum = Sum::new().bytes(&bytes[..headers]).then(sum, false);
        index += 1;
        let chunks = 1;
        if !send(ctx, Cut { frame, chunks, sum }) {
            next.into_iter().for_each(|next| ctx.pool.free(next));
            return (segments.count() - index) as u64;
        }
        rest = next;
    }
    0
}

/// The payload of a superframe, read from front to back.
struct Source<'f> {
    frame: &'f Frame,
    /// The frame's segments, of which `count` exist.
    pieces: [Segment; MAX_SEGMENTS],
    /// The next byte: the piece, and the offset in it.
    piece: usize,
    at: usize,
}

impl<'f> Source<'f> {
    /// Begins after `headers` bytes, which are in the first segment.
    fn new<M: FrameMemory>(memory: &M, frame: &'f Frame, headers: usize) -> Self {
        let mut pieces = [frame.first(); MAX_SEGMENTS];
        for (to, from) in pieces[1..].iter_mut().zip(memory.buffers().rest(frame)) {
            *to = from;
        }
        Self {
            frame,
            pieces,
            piece: 0,
            at: headers,
        }
    }

    /// Segment `index`, which follows the one before it; `None` when chunks run out.
    fn segment<M: FrameMemory>(
        &mut self,
        pool: &mut Pool<M>,
        segments: &Segmenter,
        index: usize,
    ) -> Option<Cut> {
        let headers = segments.header_len();
        let mut left = headers + segments.payload(index).len();
        let chunk_size = pool.memory().chunk_size();
        let mut sum = Sum::new();
        let mut is_odd = false;
        let mut first = pool.alloc()?;
        let start = frame::cache_color(first.chunk(), left, chunk_size);
        let len = left.min(chunk_size - usize::from(start));
        if headers > len || first.set_extent(start, len, chunk_size).is_err() {
            pool.free(first);
            return None;
        }
        left -= len;
        self.copy(
            pool.memory_mut(),
            &mut first,
            headers,
            (&mut sum, &mut is_odd),
        );
        let (frame, chunks) = if left == 0 {
            (first, 1)
        } else {
            self.copy_rest(pool, first, left, (&mut sum, &mut is_odd))?
        };
        let mut frame = frame;
        let bytes = pool.memory_mut().bytes_mut(&mut frame);
        segments.write(index, bytes, sum);
        // Headers have an even length.
        let sum = Sum::new().bytes(&bytes[..headers]).then(sum, false);
        Some(Cut { frame, chunks, sum })
    }

    /// Copies the last `left` bytes of a segment to chunks that follow the first one.
    #[cold]
    fn copy_rest<M: FrameMemory>(
        &mut self,
        pool: &mut Pool<M>,
        first: Frame,
        mut left: usize,
        (sum, is_odd): (&mut Sum, &mut bool),
    ) -> Option<(Frame, usize)> {
        let chunk_size = pool.memory().chunk_size();
        let mut whole = ChainBuilder::new(first);
        let mut chunks = 1;
        while left > 0 {
            let len = left.min(chunk_size);
            let next = pool.alloc().map(|mut next| {
                let fits = next.set_extent(0, len, chunk_size).is_ok();
                debug_assert!(fits, "at most a chunk");
                self.copy(pool.memory_mut(), &mut next, 0, (sum, is_odd));
                whole.push(pool.memory().buffers(), next)
            });
            if next != Some(Ok(())) {
                let rejected = next.and_then(Result::err);
                rejected.into_iter().for_each(|chunk| pool.free(chunk));
                pool.free(whole.finish());
                return None;
            }
            left -= len;
            chunks += 1;
        }
        Some((whole.finish(), chunks))
    }

    /// Fills `to` from offset `at` on, and adds the bytes to the sum.
    #[inline(always)]
    fn copy<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        to: &mut Frame,
        mut at: usize,
        (sum, is_odd): (&mut Sum, &mut bool),
    ) {
        let end = to.first().len();
        while at < end {
            let piece = self.pieces[self.piece];
            let len = (end - at).min(piece.len() - self.at);
            let part = Segment::new(piece.chunk(), piece.start() + self.at as u16, len as u16);
            let (from, to) = memory.read_write(self.frame, part, to);
            let copied = Sum::new().copied(from, &mut to[at..at + len]);
            *sum = sum.then(copied, *is_odd);
            *is_odd ^= len % 2 == 1;
            at += len;
            self.at += len;
            if self.at == piece.len() {
                self.piece += 1;
                self.at = 0;
            }
        }
    }
}
