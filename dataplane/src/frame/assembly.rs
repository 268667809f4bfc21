//! Builds a frame of several segments.

use super::buffer::BufferTable;
use super::chain::{MAX_LEN, MAX_SEGMENTS};
use super::{Frame, MAX_REST};

/// A frame that is built from chunks, or from other frames, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct ChainBuilder {
    frame: Frame,
    last: u32,
    chunks: usize,
}

impl ChainBuilder {
    /// Starts with the first chunk.
    #[must_use]
    pub const fn new(first: Frame) -> Self {
        let last = first.chunk();
        Self {
            frame: first,
            last,
            chunks: 1,
        }
    }

    /// Starts with a frame of any number of segments.
    #[must_use]
    pub fn of(table: &BufferTable, frame: Frame) -> Self {
        let (last, chunks) = end_links(table, &frame);
        Self {
            frame,
            last,
            chunks,
        }
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// The frame, when its first segment is empty, or the result would have more than
    /// [`MAX_SEGMENTS`] segments, [`MAX_LEN`] bytes or 65,535 bytes after the first segment.
    pub fn push(&mut self, table: &BufferTable, frame: Frame) -> Result<(), Frame> {
        let (last, chunks) = end_links(table, &frame);
        if frame.first().is_empty()
            || self.chunks + chunks > MAX_SEGMENTS
            || self.frame.len() + frame.len() > MAX_LEN
            || self.frame.rest() + frame.len() > MAX_REST
        {
            return Err(frame);
        }
        table.link(self.last, frame.first());
        self.last = last;
        self.chunks += chunks;
        self.frame.extend(frame.len());
        Ok(())
    }

    /// What was built so far.
    #[inline]
    #[must_use]
    pub const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The finished frame.
    #[must_use]
    pub fn finish(self) -> Frame {
        self.frame
    }
}

/// Ends each link of a frame where the frame does, so that others may follow: that of a shortened
/// frame may reach further. Returns the last chunk, and the number of chunks.
#[inline]
fn end_links(table: &BufferTable, frame: &Frame) -> (u32, usize) {
    let (mut last, mut chunks) = (frame.chunk(), 1);
    if frame.is_chained() {
        for segment in table.rest(frame) {
            table.link(last, segment);
            last = segment.chunk();
            chunks += 1;
        }
    }
    (last, chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_too_long_segments_are_not_appended() {
        let table = BufferTable::new(2 * MAX_SEGMENTS as u32);
        let mut builder = ChainBuilder::new(Frame::new(0, 0, 60));
        assert_eq!(
            builder.push(&table, Frame::new(1, 0, 0)),
            Err(Frame::new(1, 0, 0))
        );
        for chunk in 1..MAX_SEGMENTS as u32 {
            builder.push(&table, Frame::new(chunk, 0, 1000)).unwrap();
        }
        let last = MAX_SEGMENTS as u32;
        assert_eq!(
            builder.push(&table, Frame::new(last, 0, 1)),
            Err(Frame::new(last, 0, 1))
        );
        assert_eq!(builder.finish().len(), 60 + (MAX_SEGMENTS - 1) * 1000);
        let mut long = ChainBuilder::new(Frame::new(0, 0, 2048));
        let whole = MAX_LEN / 2048;
        for chunk in 1..whole as u32 {
            long.push(&table, Frame::new(chunk, 0, 2048)).unwrap();
        }
        let left = (MAX_LEN - whole * 2048) as u16;
        assert!(long.push(&table, Frame::new(last, 0, left + 1)).is_err());
        long.push(&table, Frame::new(last, 0, left)).unwrap();
        assert_eq!(long.finish().len(), MAX_LEN);
    }
}
