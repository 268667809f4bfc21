//! The steps of a burst, in groups of frames: while one group is admitted, memory is on its way for the two before it.
//!
//! ```text
//! step     0        1        2        3
//! parse    group 0  group 1  group 2  ..         asks for the frames of the next group, and for the key's bucket
//! look              group 0  group 1  group 2    asks for the key's other bucket if it must be there
//! pass                       group 0  group 1    writes the header, queues
//! ```

use std::ops::Range;

use super::context::BurstContext;
use crate::frame::{BURST, Frame, FrameMemory};
use crate::table::mac::{Lookup, LookupResult, MacKey};

/// Frames that take a step together: with 8 a step takes longer than memory does. More would drive each other out of L1,
/// since chunks begin at the same place of a page, so that their first lines go to two of its sets; and what was asked for
/// and lost costs more than what was never asked for.
const GROUP: usize = 8;

/// Bytes before a frame that its outer header ends at: it takes the line before, or some of it.
const OUTER_HEADER: usize = 64;

/// Where frames come from: what is done with one before and after its key is looked up.
pub(super) trait Input<'t> {
    /// What is found out before, for after.
    type FrameMeta: Copy;
    /// Those of a frame that goes nowhere.
    const DROPPED: Self::FrameMeta;
    /// True when something is written before the frame.
    const PREPENDS: bool;

    /// Checks a frame; returns its key.
    fn parse<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut Self::FrameMeta,
    ) -> MacKey;

    /// Does with an admitted frame what is to be done. The meta come by reference: copied at once, they would wait for the
    /// stores of the first step.
    fn forward<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: Frame,
        meta: &Self::FrameMeta,
        key: MacKey,
        found: LookupResult,
    );
}

/// Takes up to [`BURST`] frames of the ctx's device through all steps. `queries`: room for what is looked up.
pub(super) fn process<'t, I: Input<'t>, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    queries: &mut [Lookup; BURST],
    burst: &mut Vec<Frame>,
) {
    let count = burst.len().min(BURST);
    let frames = &mut burst[..count];
    let mut meta = [I::DROPPED; BURST];
    frames
        .iter()
        .take(GROUP)
        .for_each(|frame| prefetch::<I, M>(ctx, frame));
    for step in 0..count.div_ceil(GROUP) + 2 {
        let now = group(step, count);
        let (done, ahead) = frames.split_at_mut(now.end);
        let mut ahead = ahead.iter();
        let frames_now = done[now.clone()].iter_mut();
        for ((frame, meta), query) in frames_now
            .zip(&mut meta[now.clone()])
            .zip(&mut queries[now])
        {
            if let Some(ahead) = ahead.next() {
                prefetch::<I, M>(ctx, ahead);
            }
            *query = ctx.macs.lookup_start(I::parse(ctx, frame, meta));
        }
        let now = step.checked_sub(1).map_or(0..0, |step| group(step, count));
        queries[now]
            .iter_mut()
            .for_each(|query| ctx.macs.lookup_probe(query));
        let now = step.checked_sub(2).map_or(0..0, |step| group(step, count));
        for ((frame, meta), query) in frames[now.clone()]
            .iter_mut()
            .zip(&meta[now.clone()])
            .zip(&queries[now])
        {
            I::forward(
                ctx,
                frame.take(),
                meta,
                query.key(),
                ctx.macs.lookup_finish(query),
            );
        }
    }
    burst.drain(..count);
}

/// The places of a group in a burst of `count` frames; none of a group behind the last.
#[inline(always)]
fn group(number: usize, count: usize) -> Range<usize> {
    (number * GROUP).min(count)..(number * GROUP + GROUP).min(count)
}

/// Starts to load the first line of a frame, and the one that its outer header goes to. That one only the last step needs,
/// but once the page is done it costs little, and later it came too late.
#[inline(always)]
fn prefetch<'t, I: Input<'t>, M: FrameMemory>(ctx: &BurstContext<'t, '_, M>, frame: &Frame) {
    ctx.pool.memory().prefetch(frame, 0);
    if I::PREPENDS {
        ctx.pool.memory().prefetch(frame, OUTER_HEADER);
    }
}
