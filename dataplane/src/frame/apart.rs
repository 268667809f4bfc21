//! Takes frames of several segments apart, into a frame for each segment.

use super::Frame;
use super::buffer::BufferTable;

impl BufferTable {
    /// Whether no other frame shares a chunk of `frame`.
    pub(crate) fn is_unshared(&self, frame: &Frame) -> bool {
        !frame.is_part()
            && !self.is_shared(frame.chunk())
            && self
                .rest(frame)
                .all(|segment| !self.is_shared(segment.chunk()))
    }

    /// Splits `frame`, which shares no chunk, after its first segment: both parts are frames of their
    /// own, without an offload. `None` as the second when nothing follows.
    #[inline]
    pub(crate) fn split_first(&self, frame: Frame) -> (Frame, Option<Frame>) {
        debug_assert!(self.is_unshared(&frame));
        let first = frame.first();
        let rest = self.rest(&frame).next().map(|next| {
            let mut rest = Frame::new(next.chunk(), next.start(), next.len() as u16);
            rest.extend(frame.rest() - next.len());
            rest
        });
        let first = Frame::new(first.chunk(), first.start(), first.len() as u16);
        (first, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::FrameMemory;
    use super::super::HEADROOM;
    use super::super::assembly::ChainBuilder;
    use crate::port::memory::memory_pools;

    #[test]
    fn each_segment_becomes_a_frame_of_its_own() {
        let mut pool = memory_pools(1, 8, 2048).remove(0);
        let mut segment = |fill: u8, len| {
            let mut frame = pool.alloc().unwrap();
            frame.set_extent(HEADROOM, len, 2048).unwrap();
            pool.memory_mut().bytes_mut(&mut frame).fill(fill);
            frame
        };
        let segments = [segment(1, 100), segment(2, 200), segment(3, 300)];
        let mut segments = segments.into_iter();
        let mut chain = ChainBuilder::new(segments.next().unwrap());
        let table = pool.memory().buffers();
        segments.for_each(|segment| chain.push(table, segment).unwrap());
        let mut frame = chain.finish();
        // Ends inside of the last segment.
        pool.truncate(&mut frame, 350);
        let (mut rest, mut seen) = (Some(frame), Vec::new());
        while let Some(frame) = rest.take() {
            let (first, after) = pool.memory().buffers().split_first(frame);
            seen.push((
                first.len(),
                pool.memory().bytes(&first)[0],
                first.is_plain(),
            ));
            pool.free(first);
            rest = after;
        }
        assert_eq!(seen, [(100, 1, true), (200, 2, true), (50, 3, true)]);
        assert_eq!(pool.available(), 8);
    }
}
