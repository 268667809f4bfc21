//! The steps of a burst, in groups of frames: while one group is admitted, memory is on its way for the two before it.
//!
//! ```text
//! step     0        1        2        3
//! admit    group 0  group 1  group 2  ..         asks for the frames of the next group, and for the key's bucket
//! look              group 0  group 1  group 2    asks for the key's other bucket if it must be there
//! pass                       group 0  group 1    writes the header, queues
//! ```

use std::ops::Range;

use super::context::Turn;
use crate::frame::{BURST, Frame, FrameMemory};
use crate::table::mac::{Lookup, LookupResult, MacKey};

/// Frames that take a step together: with 8 a step takes longer than memory does. More would drive each other out of L1,
/// since chunks begin at the same place of a page, so that their first lines go to two of its sets; and what was asked for
/// and lost costs more than what was never asked for.
const GROUP: usize = 8;

/// Bytes before a frame that its outer header ends at: it takes the line before, or some of it.
const OUTER: usize = 64;

/// Where frames come from: what is done with one before and after its key is looked up.
pub(super) trait Side<'t> {
    /// What is found out before, for after.
    type Facts: Copy;
    /// Those of a frame that goes nowhere.
    const NOWHERE: Self::Facts;
    /// True when something is written before the frame.
    const PREPENDS: bool;

    /// Checks a frame; returns its key.
    fn admit<M: FrameMemory>(
        turn: &mut Turn<'t, '_, M>,
        frame: &mut Frame,
        facts: &mut Self::Facts,
    ) -> MacKey;

    /// Does with an admitted frame what is to be done. The facts come by reference: copied at once, they would wait for the
    /// stores of the first step.
    fn pass<M: FrameMemory>(
        turn: &mut Turn<'t, '_, M>,
        frame: Frame,
        facts: &Self::Facts,
        key: MacKey,
        found: LookupResult,
    );
}

/// Takes up to [`BURST`] frames of the turn's device through all steps. `queries`: room for what is looked up.
pub(super) fn forward<'t, S: Side<'t>, M: FrameMemory>(
    turn: &mut Turn<'t, '_, M>,
    queries: &mut [Lookup; BURST],
    burst: &mut Vec<Frame>,
) {
    let count = burst.len().min(BURST);
    let frames = &mut burst[..count];
    let mut facts = [S::NOWHERE; BURST];
    frames
        .iter()
        .take(GROUP)
        .for_each(|frame| ask_for::<S, M>(turn, frame));
    for step in 0..count.div_ceil(GROUP) + 2 {
        let now = group(step, count);
        let (known, ahead) = frames.split_at_mut(now.end);
        let mut ahead = ahead.iter();
        let frames_now = known[now.clone()].iter_mut();
        for ((frame, facts), query) in frames_now
            .zip(&mut facts[now.clone()])
            .zip(&mut queries[now])
        {
            if let Some(ahead) = ahead.next() {
                ask_for::<S, M>(turn, ahead);
            }
            *query = turn.macs.lookup_start(S::admit(turn, frame, facts));
        }
        let now = step.checked_sub(1).map_or(0..0, |step| group(step, count));
        queries[now]
            .iter_mut()
            .for_each(|query| turn.macs.lookup_probe(query));
        let now = step.checked_sub(2).map_or(0..0, |step| group(step, count));
        for ((frame, facts), query) in frames[now.clone()]
            .iter_mut()
            .zip(&facts[now.clone()])
            .zip(&queries[now])
        {
            S::pass(
                turn,
                frame.take(),
                facts,
                query.key(),
                turn.macs.lookup_finish(query),
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
/// but once the page is known it costs little, and later it came too late.
#[inline(always)]
fn ask_for<'t, S: Side<'t>, M: FrameMemory>(turn: &Turn<'t, '_, M>, frame: &Frame) {
    turn.pool.memory().prefetch(frame, 0);
    if S::PREPENDS {
        turn.pool.memory().prefetch(frame, OUTER);
    }
}
