//! Runs a burst through its three stages, in groups of frames. While one group is parsed, the
//! memory that the two groups before it need is being loaded, so that cache misses overlap.
//!
//! ```text
//! step      0        1        2        3
//! parse     group 0  group 1  group 2  ..        prefetches the next group's frames, and the first
//!                                                bucket of each key
//! probe              group 0  group 1  group 2   prefetches the second bucket where it is needed
//! forward                     group 0  group 1   writes the header, enqueues
//! ```

use std::ops::Range;

use super::context::BurstContext;
use crate::frame::{BURST, Frame, FrameMemory};
use crate::table::mac::{LookupResult, Lookups, MacKey};

/// Frames of a group. With 8, a step takes longer than a load from memory. Larger groups evict one
/// another from the L1 cache: chunks start at the same page offset, so that their first lines share
/// two of its sets, and a prefetched line that is evicted costs more than one never prefetched.
const GROUP: usize = 8;

/// How far before a frame the outer header's cache line is prefetched, bytes: one line.
const OUTER_HEADER: usize = 64;

/// An input node: what is parsed with a frame before and after the lookup of its key.
pub(super) trait Input<'t> {
    /// What `parse` leaves for `forward`.
    type Meta: Copy;
    /// The metadata of a frame that was dropped and counted.
    const DROPPED: Self::Meta;
    /// True when a header may be written before the frame.
    const PREPENDS: bool;

    /// Checks a frame, and fills in its metadata. Returns the key to look up.
    fn parse<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut Self::Meta,
    ) -> MacKey;

    /// Forwards, floods or frees a parsed frame. `meta` is a reference: a copy would have to wait
    /// for the stores of `parse`.
    fn forward<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: Frame,
        meta: &Self::Meta,
        key: MacKey,
        found: LookupResult,
    );

    /// Forwards the frames of a group, in their order, and takes each of them.
    #[inline(always)]
    fn forward_group<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frames: &mut [Frame],
        meta: &[Self::Meta],
        (keys, found): (&[MacKey], &[LookupResult]),
    ) {
        let looked_up = keys.iter().zip(found);
        for ((frame, meta), (key, found)) in frames.iter_mut().zip(meta).zip(looked_up) {
            Self::forward(ctx, frame.take(), meta, *key, *found);
        }
    }
}

/// Runs up to [`BURST`] frames through all stages, and removes them from `burst`. `lookups`:
/// scratch space for the lookups.
pub(super) fn process<'t, I: Input<'t>, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    lookups: &mut Lookups,
    burst: &mut Vec<Frame>,
) {
    let count = burst.len().min(BURST);
    let frames = &mut burst[..count];
    let mut meta = [I::DROPPED; BURST];
    lookups.clear();
    frames
        .iter()
        .take(GROUP)
        .for_each(|frame| prefetch::<I, M>(ctx, frame));
    for step in 0..count.div_ceil(GROUP) + 2 {
        let now = group(step, count);
        let (parsed, ahead) = frames.split_at_mut(now.end);
        let mut ahead = ahead.iter();
        let frames_now = parsed[now.clone()].iter_mut();
        for (at, (frame, meta)) in now.clone().zip(frames_now.zip(&mut meta[now.clone()])) {
            if let Some(ahead) = ahead.next() {
                prefetch::<I, M>(ctx, ahead);
            }
            lookups.set_key(at, I::parse(ctx, frame, meta));
        }
        ctx.macs.lookup_start(lookups, now);
        let now = step.checked_sub(1).map_or(0..0, |step| group(step, count));
        ctx.macs.lookup_probe(lookups, now);
        let now = step.checked_sub(2).map_or(0..0, |step| group(step, count));
        ctx.macs.lookup_finish(lookups, now.clone());
        let (keys, found) = lookups.results();
        I::forward_group(
            ctx,
            &mut frames[now.clone()],
            &meta[now.clone()],
            (&keys[now.clone()], &found[now]),
        );
    }
    burst.drain(..count);
}

/// The index range of a group in a burst of `count` frames; empty past the last group.
#[inline(always)]
fn group(number: usize, count: usize) -> Range<usize> {
    (number * GROUP).min(count)..(number * GROUP + GROUP).min(count)
}

/// Prefetches the first cache line of a frame, and the one that its outer header is written to.
/// Only `forward` needs the second one, but it is cheap while the page is in the TLB, and a
/// prefetch in a later step would come too late.
#[inline(always)]
fn prefetch<'t, I: Input<'t>, M: FrameMemory>(ctx: &BurstContext<'t, '_, M>, frame: &Frame) {
    ctx.pool.memory().prefetch(frame, 0);
    if I::PREPENDS {
        ctx.pool.memory().prefetch(frame, OUTER_HEADER);
    }
}
