//! Counting by runs: frames of a burst that belong to the same row are added up, and written to it once.

use crate::stats::Row;

/// A run of frames received from (`SENT` false) or sent to (`SENT` true) one thing.
#[derive(Debug, Default)]
pub(super) struct Tally<'t, const SENT: bool> {
    row: Option<&'t Row>,
    frames: u64,
    bytes: u64,
}

impl<'t, const SENT: bool> Tally<'t, SENT> {
    /// Counts one frame.
    #[inline]
    pub(super) fn add(&mut self, row: &'t Row, bytes: usize) {
        if !self.row.is_some_and(|current| std::ptr::eq(current, row)) {
            self.write();
            self.row = Some(row);
        }
        self.frames += 1;
        self.bytes += bytes as u64;
    }

    fn write(&mut self) {
        if let Some(row) = self.row {
            if SENT {
                row.sent(self.frames, self.bytes);
            } else {
                row.received(self.frames, self.bytes);
            }
        }
        (self.frames, self.bytes) = (0, 0);
    }
}

impl<const SENT: bool> Drop for Tally<'_, SENT> {
    fn drop(&mut self) {
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::WorkerId;
    use crate::stats::Counters;

    #[test]
    fn each_row_gets_its_own_frames() {
        let (one, two) = (Counters::new(1), Counters::new(1));
        let mut tally = Tally::<true>::default();
        for row in [&one, &one, &two, &one] {
            tally.add(row.row(WorkerId(0)), 100);
        }
        drop(tally);
        assert_eq!((one.totals().tx_frames, one.totals().tx_bytes), (3, 300));
        assert_eq!((two.totals().tx_frames, two.totals().rx_frames), (1, 0));
    }
}
