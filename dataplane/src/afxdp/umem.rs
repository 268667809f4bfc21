//! The packet memory: one area that every socket shares, so that a frame goes from port to port without a copy.
//!
//! The kernel binds zero-copy or copy for a whole UMEM registration: a socket that shares one inherits its mode
//! (net/xdp/xsk.c `xsk_bind`, net/xdp/xsk_buff_pool.c `xp_assign_dev_shared`). So the same area is registered once for
//! each mode in use, and with and without multi-buffer, which is inherited as well (`XDP_UMEM_SG_FLAG`); descriptors are
//! offsets into the area and mean the same in all. Sharing goes over the file
//! descriptor of any socket that is *bound*; a socket whose device vanished isn't, so another one is used, and if
//! there is none the area is registered anew.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Error;
use super::ledger::{Ledger, Owner};
use super::port::{SocketId, Statistics};
use super::socket::Binding;
use super::sys::{self, Mapping};
use crate::frame::chain::{Segment, SegmentTable};
use crate::frame::{Frame, FrameMemory, HEADROOM, Pool};
use crate::mem::prefetch;

/// Whether the packet memory lies in huge pages of 2 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// If the host has enough of them free.
    #[default]
    Auto,
    /// Always: an error if there are none.
    On,
    /// Never.
    Off,
}

/// Size of the packet memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UmemConfig {
    /// Chunks, 64..=16,777,216.
    pub frames: u32,
    /// Bytes a chunk: 2048 (frames up to 1792 bytes in copy mode, longer ones take several) or 4096 (3840).
    pub frame_size: u32,
    /// Huge pages.
    pub huge_pages: HugePages,
}

impl Default for UmemConfig {
    fn default() -> Self {
        Self {
            frames: 16_384,
            frame_size: 2048,
            huge_pages: HugePages::Auto,
        }
    }
}

/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// The area and its geometry.
#[derive(Debug)]
pub(super) struct Area {
    pub(super) mapping: Mapping,
    pub(super) chunk_size: u32,
    pub(super) chunks: u32,
}

/// Access to the frames of a [`Umem`], one for each pool.
#[derive(Debug)]
pub struct UmemMemory {
    area: Arc<Area>,
    chains: Arc<SegmentTable>,
}

impl UmemMemory {
    /// The first byte of a piece. Checked in release builds: a frame may have been placed by a wrong chunk size.
    #[inline]
    fn at(&self, piece: Segment) -> NonNull<u8> {
        let chunk_size = self.area.chunk_size as usize;
        let start = usize::from(piece.start());
        assert!(
            piece.chunk() < self.area.chunks && start + piece.len() <= chunk_size,
            "frame outside of the packet memory"
        );
        // SAFETY: chunk < chunks and start < chunk_size, and the mapping holds chunks * chunk_size bytes.
        unsafe {
            self.area
                .mapping
                .start()
                .add(piece.chunk() as usize * chunk_size + start)
        }
    }
}

impl FrameMemory for UmemMemory {
    #[inline]
    fn chunk_size(&self) -> usize {
        self.area.chunk_size as usize
    }

    #[inline]
    fn segments(&self) -> &SegmentTable {
        &self.chains
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        // SAFETY: `at` has checked the range. The token says that neither the kernel nor another worker has this
        // chunk (the ledger makes a token only for a chunk that left the kernel's rings), and it is borrowed shared.
        unsafe { std::slice::from_raw_parts(self.at(frame.first()).as_ptr(), frame.first().len()) }
    }

    #[inline]
    fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        // SAFETY: as in `bytes`; the token is borrowed exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(self.at(frame.first()).as_ptr(), frame.first().len())
        }
    }

    #[inline]
    fn prefetch(&self, frame: &Frame, before: usize) {
        prefetch(self.at(frame.first()).as_ptr().wrapping_sub(before));
    }

    #[inline]
    fn segment<'a>(&'a self, _of: &'a Frame, piece: Segment) -> &'a [u8] {
        // SAFETY: `at` has checked the range. The frame holds the chunk: its bytes were written before the frame was
        // handed over, and nobody writes to a chunk that is not the first of a frame.
        unsafe { std::slice::from_raw_parts(self.at(piece).as_ptr(), piece.len()) }
    }

    #[inline]
    fn read_write<'a>(
        &'a mut self,
        _from: &'a Frame,
        piece: Segment,
        to: &'a mut Frame,
    ) -> (&'a [u8], &'a mut [u8]) {
        assert!(
            piece.chunk() != to.chunk(),
            "a frame is not copied into itself"
        );
        // SAFETY: as in `piece` and `bytes_mut`; the two are of two chunks.
        unsafe {
            (
                std::slice::from_raw_parts(self.at(piece).as_ptr(), piece.len()),
                std::slice::from_raw_parts_mut(self.at(to.first()).as_ptr(), to.first().len()),
            )
        }
    }
}

/// A socket that others may share the registration of.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) owner: Owner,
    pub(super) binding: Binding,
    pub(super) socket: Arc<OwnedFd>,
    /// True once its busy polling was taken back.
    pub(super) polling_ended: Arc<AtomicBool>,
}

/// The open sockets of a UMEM. Locked to open and to close one, never on the packet path.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) bound: Vec<Bound>,
    used: Vec<bool>,
}

impl Registry {
    /// A number for a new socket.
    pub(super) fn reserve(&mut self) -> Result<Owner, Error> {
        let number = self
            .used
            .iter()
            .position(|used| !used)
            .unwrap_or(self.used.len());
        let owner = Owner::new(number).ok_or(Error::TooManySockets)?;
        if number == self.used.len() {
            self.used.push(false);
        }
        self.used[number] = true;
        Ok(owner)
    }

    /// The number may be used again: the socket is closed and its chunks are back.
    pub(super) fn release(&mut self, owner: Owner) {
        self.used[owner.number()] = false;
    }
}

#[derive(Debug)]
struct Inner {
    area: Arc<Area>,
    chains: Arc<SegmentTable>,
    ledger: Arc<Ledger>,
    huge: bool,
    pools_taken: AtomicBool,
    registry: Mutex<Registry>,
    /// Chunks of ports that were dropped, not closed.
    recovered: Mutex<Vec<Frame>>,
}

/// The packet memory. Cheap to clone: all clones are the same memory.
#[derive(Debug, Clone)]
pub struct Umem {
    inner: Arc<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is complete at each step, so that a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Umem {
    /// Allocates the memory. It is registered with the kernel when the first socket binds.
    ///
    /// # Errors
    /// [`Error::Value`] for a size out of range, [`Error::Memory`] when there is not enough.
    pub fn new(config: UmemConfig) -> Result<Self, Error> {
        if !(64..=1 << 24).contains(&config.frames) {
            let value = config.frames.into();
            return Err(Error::Value {
                what: "frames",
                value,
                expected: "64 to 16777216 frames",
            });
        }
        if ![2048, 4096].contains(&config.frame_size) {
            let value = config.frame_size.into();
            return Err(Error::Value {
                what: "frame-size",
                value,
                expected: "2048 or 4096 bytes",
            });
        }
        let bytes = config.frames as usize * config.frame_size as usize;
        let (mapping, huge) = allocate(bytes, config.huge_pages)?;
        let area = Area {
            mapping,
            chunk_size: config.frame_size,
            chunks: config.frames,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                area: Arc::new(area),
                chains: Arc::new(SegmentTable::new(config.frames)),
                ledger: Arc::new(Ledger::new(config.frames)),
                huge,
                pools_taken: AtomicBool::new(false),
                registry: Mutex::default(),
                recovered: Mutex::default(),
            }),
        })
    }

    /// Splits all frames into one pool for each of `workers` (1 or more). Only once: frames are used by one at a time.
    ///
    /// # Errors
    /// [`Error::PoolsTaken`] at the second call, [`Error::Value`] for no worker or more workers than frames.
    pub fn pools(&self, workers: usize) -> Result<Vec<Pool<UmemMemory>>, Error> {
        let frames = self.inner.area.chunks;
        let share = match u32::try_from(workers) {
            Ok(workers) if workers > 0 && workers <= frames => frames / workers,
            _ => {
                let expected = "1 worker or more, and a frame or more for each";
                return Err(Error::Value {
                    what: "workers",
                    value: workers as u64,
                    expected,
                });
            }
        };
        if self.inner.pools_taken.swap(true, Ordering::Relaxed) {
            return Err(Error::PoolsTaken);
        }
        let pool = |worker| {
            let first = worker * share;
            let last = if worker as usize + 1 == workers {
                frames
            } else {
                first + share
            };
            let (area, chains) = (Arc::clone(&self.inner.area), Arc::clone(&self.inner.chains));
            Pool::new(UmemMemory { area, chains }, first..last)
        };
        Ok((0..workers as u32).map(pool).collect())
    }

    /// Takes back the chunks of ports that were dropped and not closed. Returns how many there were.
    pub fn recover(&self, pool: &mut Pool<UmemMemory>) -> usize {
        let frames = std::mem::take(&mut *lock(&self.inner.recovered));
        let count = frames.len();
        frames.into_iter().for_each(|frame| pool.free(frame));
        count
    }

    /// What the kernel has counted of an open socket, whichever thread serves it. `None` when it is closed.
    #[must_use]
    pub fn statistics(&self, socket: SocketId) -> Option<Statistics> {
        // Under the lock: a descriptor held beyond it would keep a socket alive that its worker closes, and with it
        // the kernel's hold on chunks that have gone back to their pool.
        let registry = self.registry();
        let bound = registry
            .bound
            .iter()
            .find(|bound| bound.owner == socket.0)?;
        sys::statistics(bound.socket.as_fd())
            .ok()
            .map(Statistics::from)
    }

    /// Whether busy polling of an open socket was taken back, because what it had to send stayed in its tx ring.
    #[must_use]
    pub fn busy_poll_ended(&self, socket: SocketId) -> bool {
        let registry = self.registry();
        let bound = registry.bound.iter().find(|bound| bound.owner == socket.0);
        bound.is_some_and(|bound| bound.polling_ended.load(Ordering::Relaxed))
    }

    /// Chunks in all.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.inner.area.chunks
    }

    /// Bytes a chunk.
    #[must_use]
    pub fn frame_size(&self) -> u32 {
        self.inner.area.chunk_size
    }

    /// The longest frame that a socket in copy mode receives in one chunk, bytes.
    #[must_use]
    pub fn longest_whole(&self) -> u32 {
        self.inner.area.chunk_size - u32::from(HEADROOM)
    }

    /// True when the memory lies in huge pages.
    #[must_use]
    pub fn is_huge(&self) -> bool {
        self.inner.huge
    }

    pub(super) fn area(&self) -> &Area {
        &self.inner.area
    }

    pub(super) fn segments(&self) -> &Arc<SegmentTable> {
        &self.inner.chains
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.ledger
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.inner.registry)
    }

    pub(super) fn keep_recovered(&self, frame: Frame) {
        lock(&self.inner.recovered).push(frame);
    }
}

fn allocate(bytes: usize, huge_pages: HugePages) -> Result<(Mapping, bool), Error> {
    if huge_pages != HugePages::Off {
        let rounded = bytes.next_multiple_of(HUGE_PAGE);
        match Mapping::anonymous(rounded, true) {
            Ok(mapping) => return Ok((mapping, true)),
            Err(source) if huge_pages == HugePages::On => {
                return Err(Error::Memory {
                    bytes: rounded,
                    pages: "huge",
                    source,
                });
            }
            Err(_) => {}
        }
    }
    let mapping = Mapping::anonymous(bytes, false).map_err(|source| Error::Memory {
        bytes,
        pages: "normal",
        source,
    })?;
    Ok((mapping, false))
}
