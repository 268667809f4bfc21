//! Building a frame of several chunks.

use super::Frame;
use super::chain::{Chains, MAX_CHUNKS, MAX_LEN};

/// A frame that is put together from chunks as they come.
#[derive(Debug, PartialEq, Eq)]
pub struct Assembly {
    frame: Frame,
    last: u32,
    chunks: usize,
}

impl Assembly {
    /// Begins with the first chunk.
    #[must_use]
    pub const fn new(first: Frame) -> Self {
        let last = first.chunk();
        Self {
            frame: first,
            last,
            chunks: 1,
        }
    }

    /// Appends a frame of one chunk.
    ///
    /// # Errors
    /// The chunk, when it is empty, or the frame would have more than [`MAX_CHUNKS`] chunks or [`MAX_LEN`] bytes.
    pub fn push(&mut self, chains: &Chains, piece: Frame) -> Result<(), Frame> {
        let len = self.frame.len() + piece.len();
        if piece.is_empty() || piece.is_chained() || self.chunks == MAX_CHUNKS || len > MAX_LEN {
            return Err(piece);
        }
        chains.link(self.last, piece.first());
        self.last = piece.chunk();
        self.chunks += 1;
        self.frame.extend(piece.len());
        Ok(())
    }

    /// The frame.
    #[must_use]
    pub fn finish(self) -> Frame {
        self.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_or_too_long_is_not_appended() {
        let chains = Chains::new(16);
        let mut assembly = Assembly::new(Frame::new(0, 0, 60));
        assert_eq!(
            assembly.push(&chains, Frame::new(1, 0, 0)),
            Err(Frame::new(1, 0, 0))
        );
        for chunk in 1..MAX_CHUNKS as u32 {
            assembly.push(&chains, Frame::new(chunk, 0, 2048)).unwrap();
        }
        assert_eq!(
            assembly.push(&chains, Frame::new(9, 0, 1)),
            Err(Frame::new(9, 0, 1))
        );
        assert_eq!(assembly.finish().len(), 60 + (MAX_CHUNKS - 1) * 2048);
        let mut long = Assembly::new(Frame::new(0, 0, 8_000));
        assert!(long.push(&chains, Frame::new(1, 0, 8_001)).is_err());
    }
}
