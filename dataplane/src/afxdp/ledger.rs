//! Who has each chunk: user space, or the kernel for one of the four rings of one socket.
//!
//! A cell is written only by whoever has its chunk: the worker that holds the frame's token, or the owner of the
//! socket whose ring it is in. Chunks go from one worker to another over queues that order memory themselves, so that
//! relaxed loads and stores suffice.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use crate::frame::{Frame, HEADROOM};

/// The number of a socket in the ledger. Given again only after the socket is closed and its chunks are back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(u16);

impl Owner {
    /// Sockets that one ledger tells apart.
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

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In user space: a token [`Frame`], a free chunk of a pool, or one that several frames end in ([`Lent`] to sockets).
    User,
    /// In the fill or rx ring of a socket.
    Receive(Owner),
    /// In the tx or completion ring of a socket.
    Transmit(Owner),
}

impl Place {
    const fn code(self) -> u16 {
        match self {
            Self::User => 0,
            Self::Receive(owner) => owner.0 * 2 + 1,
            Self::Transmit(owner) => owner.0 * 2 + 2,
        }
    }
}

/// One cell a chunk.
#[derive(Debug)]
pub(crate) struct Ledger {
    cells: Box<[AtomicU16]>,
}

impl Ledger {
    /// `chunks` chunks, all in user space.
    pub(crate) fn new(chunks: u32) -> Self {
        Self {
            cells: (0..chunks)
                .map(|_| AtomicU16::new(Place::User.code()))
                .collect(),
        }
    }

    /// Notes that a chunk goes to `place`. Its token is given up: from now on the kernel has the chunk.
    #[inline]
    pub(crate) fn hand_over(&self, chunk: u32, place: Place) {
        self.cells[chunk as usize].store(place.code(), Relaxed);
    }

    /// Takes the chunk back into user space if it is at `place`, and makes its token: an empty frame. `None` when the
    /// chunk doesn't exist or is elsewhere: the kernel's descriptor is wrong and must be ignored.
    #[inline]
    pub(crate) fn take_back(&self, chunk: u64, place: Place) -> Option<Frame> {
        let cell = self.cells.get(usize::try_from(chunk).ok()?)?;
        if cell.load(Relaxed) != place.code() {
            return None;
        }
        cell.store(Place::User.code(), Relaxed);
        Some(Frame::new(chunk as u32, HEADROOM, 0))
    }

    /// Takes back every chunk of a socket that is closed: the kernel touches them no more.
    pub(crate) fn take_back_all(&self, owner: Owner, mut give: impl FnMut(Frame)) {
        for chunk in 0..self.cells.len() as u64 {
            for place in [Place::Receive(owner), Place::Transmit(owner)] {
                if let Some(frame) = self.take_back(chunk, place) {
                    give(frame);
                }
            }
        }
    }
}

/// The chunks that several frames end in, and how many tx and completion entries of one socket name each.
///
/// Such a chunk may be in several rings, and in user space, at once; [`crate::frame::chain::SegmentTable`] counts all its holders.
/// A completion of a chunk that the socket doesn't have is noticed; which of several completions of one chunk is one too
/// many can't be told.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    /// By chunk. Zeroed memory, of which only the pages of lent chunks are ever there.
    times: Vec<u32>,
}

impl Lent {
    /// Nothing is lent, of `chunks` chunks.
    pub(crate) fn new(chunks: u32) -> Self {
        Self {
            times: vec![0; chunks as usize],
        }
    }

    /// One more entry of the tx ring names the chunk.
    #[inline]
    pub(crate) fn lend(&mut self, chunk: u32) {
        self.times[chunk as usize] += 1;
    }

    /// An entry of the completion ring named the chunk. `None`: the socket doesn't have it.
    #[inline]
    pub(crate) fn take_back(&mut self, chunk: u64) -> Option<u32> {
        let times = self.times.get_mut(usize::try_from(chunk).ok()?)?;
        *times = times.checked_sub(1)?;
        Some(chunk as u32)
    }

    /// Takes back everything of a socket that is closed: each chunk with the number of entries that named it.
    pub(crate) fn take_back_all(self, mut give: impl FnMut(u32, u32)) {
        (0..)
            .zip(self.times)
            .filter(|(_, times)| *times > 0)
            .for_each(|(chunk, times)| give(chunk, times));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lent_chunk_comes_back_as_often_as_it_was_lent() {
        let mut lent = Lent::new(4);
        (0..2).for_each(|_| lent.lend(3));
        (0..3).for_each(|_| lent.lend(1));
        assert_eq!(
            (lent.take_back(3), lent.take_back(3), lent.take_back(3)),
            (Some(3), Some(3), None)
        );
        assert_eq!(
            (
                lent.take_back(4),
                lent.take_back(u64::MAX),
                lent.take_back(1)
            ),
            (None, None, Some(1))
        );
        let mut rest = Vec::new();
        lent.take_back_all(|chunk, times| rest.push((chunk, times)));
        assert_eq!(rest, [(1, 2)]);
    }

    #[test]
    fn a_chunk_comes_back_once_and_only_from_where_it_is() {
        let ledger = Ledger::new(4);
        let [first, second] = [Owner::new(0).unwrap(), Owner::new(1).unwrap()];
        ledger.hand_over(3, Place::Receive(second));
        assert_eq!(ledger.take_back(3, Place::Receive(first)), None);
        assert_eq!(ledger.take_back(3, Place::Transmit(second)), None);
        assert_eq!(ledger.take_back(4, Place::Receive(second)), None);
        assert_eq!(ledger.take_back(u64::MAX, Place::Receive(second)), None);
        assert_eq!(
            ledger.take_back(3, Place::Receive(second)),
            Some(Frame::new(3, HEADROOM, 0))
        );
        assert_eq!(ledger.take_back(3, Place::Receive(second)), None);
    }

    #[test]
    fn closing_a_socket_brings_back_its_chunks_and_no_others() {
        let ledger = Ledger::new(8);
        let [first, last] = [Owner::new(0).unwrap(), Owner::new(Owner::MAX - 1).unwrap()];
        assert_eq!(Owner::new(Owner::MAX), None);
        for chunk in 0..6 {
            let owner = if chunk < 3 { first } else { last };
            let place = if chunk % 2 == 0 {
                Place::Receive(owner)
            } else {
                Place::Transmit(owner)
            };
            ledger.hand_over(chunk, place);
        }
        let mut back = Vec::new();
        ledger.take_back_all(last, |frame| back.push(frame.chunk()));
        assert_eq!(back, [3, 4, 5]);
        ledger.take_back_all(last, |_| unreachable!("taken back twice"));
        ledger.take_back_all(first, |frame| back.push(frame.chunk()));
        assert_eq!(back, [3, 4, 5, 0, 1, 2]);
    }
}
