//! The entries of a socket's rings for chunks that several frames share.
//!
//! Such a chunk may be in the rings of several sockets, and in user space, at once, so that its
//! record can't say where it is: that counts its references only
//! ([`crate::frame::buffer::BufferTable`]). A completion of a chunk that the socket doesn't hold is
//! detected; which of several completions of one chunk is superfluous is not detectable.

/// How many tx and completion entries of one socket refer to each shared chunk.
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
}
