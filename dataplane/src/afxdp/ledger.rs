//! The ownership ledger: which side holds each chunk, user space or the kernel in one of the four
//! rings of a socket.
//!
//! Only the holder of a chunk writes its cell: the worker that holds the frame's token, or the
//! owner of the socket whose ring the chunk is in. Chunks move between workers over queues that
//! order memory themselves, so that relaxed loads and stores suffice.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use crate::frame::{Frame, HEADROOM};

/// The number of a socket in the ledger. Reused only after the socket is closed and its chunks are
/// reclaimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(u16);

impl Owner {
    /// Maximum number of sockets that one ledger can distinguish.
    pub(crate) const MAX: usize = 32_767;

    /// The owner with this number, below [`Owner::MAX`].
    pub(crate) fn new(number: usize) -> Option<Self> {
        if number < Self::MAX {
            u16::try_from(number).ok().map(Self)
        } else {
            None
        }
    }

    /// The number.
    pub(crate) const fn number(self) -> usize {
        self.0 as usize
    }
}

/// The holder of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkState {
    /// User space: a token [`Frame`], a free chunk of a pool, or a chunk shared by several frames
    /// ([`SharedTx`] counts those in sockets).
    User,
    /// In the fill or rx ring of a socket.
    Receive(Owner),
    /// In the tx or completion ring of a socket.
    Transmit(Owner),
}

impl ChunkState {
    const fn code(self) -> u16 {
        match self {
            Self::User => 0,
            Self::Receive(owner) => owner.0 * 2 + 1,
            Self::Transmit(owner) => owner.0 * 2 + 2,
        }
    }
}

/// One cell per chunk.
#[derive(Debug)]
pub(crate) struct Ledger {
    cells: Box<[AtomicU16]>,
}

impl Ledger {
    /// A ledger of `chunks` chunks, all in user space.
    pub(crate) fn new(chunks: u32) -> Self {
        Self {
            cells: (0..chunks)
                .map(|_| AtomicU16::new(ChunkState::User.code()))
                .collect(),
        }
    }

    /// Records that a chunk moves to `state`. Its token must be gone: the kernel holds the chunk
    /// from now on.
    #[inline]
    pub(crate) fn transfer(&self, chunk: u32, state: ChunkState) {
        self.cells[chunk as usize].store(state.code(), Relaxed);
    }

    /// Returns a chunk to user space if it is in `state`, and makes its token, an empty frame.
    /// `None` when the chunk doesn't exist or is in another state: the kernel's descriptor is wrong
    /// and must be ignored.
    #[inline]
    pub(crate) fn reclaim(&self, chunk: u64, state: ChunkState) -> Option<Frame> {
        let cell = self.cells.get(usize::try_from(chunk).ok()?)?;
        if cell.load(Relaxed) != state.code() {
            return None;
        }
        cell.store(ChunkState::User.code(), Relaxed);
        Some(Frame::new(chunk as u32, HEADROOM, 0))
    }

    /// Reclaims every chunk of a closed socket, which the kernel does not access any more.
    pub(crate) fn reclaim_all(&self, owner: Owner, mut give: impl FnMut(Frame)) {
        for chunk in 0..self.cells.len() as u64 {
            for state in [ChunkState::Receive(owner), ChunkState::Transmit(owner)] {
                if let Some(frame) = self.reclaim(chunk, state) {
                    give(frame);
                }
            }
        }
    }
}

/// Chunks shared by several frames: how many tx and completion entries of one socket refer to each.
///
/// Such a chunk may be in several rings, and in user space, at once;
/// [`crate::frame::chain::SegmentTable`] counts all its holders. A completion of a chunk that the
/// socket doesn't hold is detected; which of several completions of one chunk is superfluous is not
/// detectable.
#[derive(Debug, Default)]
pub(crate) struct SharedTx {
    /// By chunk. Zeroed memory, of which only the pages with shared chunks are ever populated.
    counts: Vec<u32>,
}

impl SharedTx {
    /// No shared chunk, out of `chunks` chunks.
    pub(crate) fn new(chunks: u32) -> Self {
        Self {
            counts: vec![0; chunks as usize],
        }
    }

    /// Counts one more tx ring entry for the chunk.
    #[inline]
    pub(crate) fn add(&mut self, chunk: u32) {
        self.counts[chunk as usize] += 1;
    }

    /// Counts a completion ring entry for the chunk. `None` when the socket doesn't hold it.
    #[inline]
    pub(crate) fn complete(&mut self, chunk: u64) -> Option<u32> {
        let count = self.counts.get_mut(usize::try_from(chunk).ok()?)?;
        *count = count.checked_sub(1)?;
        Some(chunk as u32)
    }

    /// Reclaims everything of a closed socket: each chunk with its number of entries.
    pub(crate) fn reclaim_all(self, mut give: impl FnMut(u32, u32)) {
        (0..)
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
            .for_each(|(chunk, count)| give(chunk, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_chunk_is_completed_as_often_as_it_was_sent() {
        let mut shared = SharedTx::new(4);
        (0..2).for_each(|_| shared.add(3));
        (0..3).for_each(|_| shared.add(1));
        assert_eq!(
            (shared.complete(3), shared.complete(3), shared.complete(3)),
            (Some(3), Some(3), None)
        );
        assert_eq!(
            (
                shared.complete(4),
                shared.complete(u64::MAX),
                shared.complete(1)
            ),
            (None, None, Some(1))
        );
        let mut rest = Vec::new();
        shared.reclaim_all(|chunk, count| rest.push((chunk, count)));
        assert_eq!(rest, [(1, 2)]);
    }

    #[test]
    fn a_chunk_is_reclaimed_once_and_only_from_its_state() {
        let ledger = Ledger::new(4);
        let [first, second] = [Owner::new(0).unwrap(), Owner::new(1).unwrap()];
        ledger.transfer(3, ChunkState::Receive(second));
        assert_eq!(ledger.reclaim(3, ChunkState::Receive(first)), None);
        assert_eq!(ledger.reclaim(3, ChunkState::Transmit(second)), None);
        assert_eq!(ledger.reclaim(4, ChunkState::Receive(second)), None);
        assert_eq!(ledger.reclaim(u64::MAX, ChunkState::Receive(second)), None);
        assert_eq!(
            ledger.reclaim(3, ChunkState::Receive(second)),
            Some(Frame::new(3, HEADROOM, 0))
        );
        assert_eq!(ledger.reclaim(3, ChunkState::Receive(second)), None);
    }

    #[test]
    fn closing_a_socket_reclaims_its_chunks_and_no_others() {
        let ledger = Ledger::new(8);
        let [first, last] = [Owner::new(0).unwrap(), Owner::new(Owner::MAX - 1).unwrap()];
        assert_eq!(Owner::new(Owner::MAX), None);
        for chunk in 0..6 {
            let owner = if chunk < 3 { first } else { last };
            let state = if chunk % 2 == 0 {
                ChunkState::Receive(owner)
            } else {
                ChunkState::Transmit(owner)
            };
            ledger.transfer(chunk, state);
        }
        let mut back = Vec::new();
        ledger.reclaim_all(last, |frame| back.push(frame.chunk()));
        assert_eq!(back, [3, 4, 5]);
        ledger.reclaim_all(last, |_| unreachable!("reclaimed twice"));
        ledger.reclaim_all(first, |frame| back.push(frame.chunk()));
        assert_eq!(back, [3, 4, 5, 0, 1, 2]);
    }
}
