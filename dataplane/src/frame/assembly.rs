//! Builds a frame of several segments.

use super::Frame;
use super::chain::{MAX_LEN, MAX_SEGMENTS, SegmentTable};

/// A frame that is built from chunks, in order.
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

    /// Appends a frame of one segment.
    ///
    /// # Errors
    /// The segment, when it is empty, or the frame would have more than [`MAX_SEGMENTS`] segments
    /// or [`MAX_LEN`] bytes.
    pub fn push(&mut self, table: &SegmentTable, segment: Frame) -> Result<(), Frame> {
        let len = self.frame.len() + segment.len();
        if segment.is_empty()
            || segment.is_chained()
            || self.chunks == MAX_SEGMENTS
            || len > MAX_LEN
        {
            return Err(segment);
        }
        table.link(self.last, segment.first());
        self.last = segment.chunk();
        self.chunks += 1;
        self.frame.extend(segment.len());
        Ok(())
    }

    /// The finished frame.
    #[must_use]
    pub fn finish(self) -> Frame {
        self.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_too_long_segments_are_not_appended() {
        let table = SegmentTable::new(16);
        let mut builder = ChainBuilder::new(Frame::new(0, 0, 60));
        assert_eq!(
            builder.push(&table, Frame::new(1, 0, 0)),
            Err(Frame::new(1, 0, 0))
        );
        for chunk in 1..MAX_SEGMENTS as u32 {
            builder.push(&table, Frame::new(chunk, 0, 2048)).unwrap();
        }
        assert_eq!(
            builder.push(&table, Frame::new(9, 0, 1)),
            Err(Frame::new(9, 0, 1))
        );
        assert_eq!(builder.finish().len(), 60 + (MAX_SEGMENTS - 1) * 2048);
        let mut long = ChainBuilder::new(Frame::new(0, 0, 8_000));
        assert!(long.push(&table, Frame::new(1, 0, 8_001)).is_err());
    }
}
