//! The packet memory: one area shared by all sockets, so that a frame moves between ports without a
//! copy.
//!
//! Zero-copy or copy is a property of a whole UMEM registration: a socket that shares one inherits
//! its mode (net/xdp/xsk.c `xsk_bind`, net/xdp/xsk_buff_pool.c `xp_assign_dev_shared`). The area is
//! therefore registered once per mode in use, and with and without multi-buffer, which is inherited
//! as well (`XDP_UMEM_SG_FLAG`); descriptors are offsets into the area, equal in all registrations.
//! A registration is shared by the file descriptor of any *bound* socket. A socket whose device is
//! gone is not bound any more, so another one is used; without any, the area is registered again.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Error;
use super::options::{Binding, HugePages, UmemConfig};
use super::statistics::{SocketId, Statistics};
use super::sys::{self, Mapping};
use crate::frame::buffer::{BufferTable, Owner, Segment};
use crate::frame::{Frame, FrameMemory, HEADROOM, MAX_CHUNKS, Pool};

/// Size of a huge page, bytes.
const HUGE_PAGE: usize = 2 << 20;

/// The area and its geometry.
#[derive(Debug)]
pub(super) struct Area {
    pub(super) mapping: Mapping,
    pub(super) chunk_size: u32,
    pub(super) chunks: u32,
}

/// Access to the frames of a [`Umem`], one per pool.
#[derive(Debug)]
pub struct UmemMemory {
    area: Arc<Area>,
    buffers: Arc<BufferTable>,
}

impl UmemMemory {
    /// The first byte of a segment. Checked in release builds too, against a frame that was made
    /// with a wrong chunk size.
    #[inline]
    fn at(&self, segment: Segment) -> NonNull<u8> {
        let chunk_size = self.area.chunk_size as usize;
        let start = usize::from(segment.start());
        assert!(
            segment.chunk() < self.area.chunks && start + segment.len() <= chunk_size,
            "frame outside of the packet memory"
        );
        // SAFETY: chunk < chunks and start < chunk_size, and the mapping holds chunks * chunk_size
        // bytes.
        unsafe {
            self.area
                .mapping
                .start()
                .add(segment.chunk() as usize * chunk_size + start)
        }
    }
}

impl FrameMemory for UmemMemory {
    #[inline]
    fn chunk_size(&self) -> usize {
        self.area.chunk_size as usize
    }

    #[inline]
    fn buffers(&self) -> &BufferTable {
        &self.buffers
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        // SAFETY: `at` has checked the range. The token proves that neither the kernel nor another
        // worker holds this chunk (its record gives a token only for a chunk that left the kernel's
        // rings) or, of a chunk that was split, this part: parts are disjoint and do not grow. It is
        // borrowed shared.
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
    fn address(&self, frame: &Frame) -> *const u8 {
        self.at(frame.first()).as_ptr()
    }

    #[inline]
    fn segment<'a>(&'a self, _of: &'a Frame, segment: Segment) -> &'a [u8] {
        // SAFETY: `at` has checked the range. The frame holds the chunk: its bytes were written
        // before the frame was handed off, and only the first chunk of a frame is ever written to.
        unsafe { std::slice::from_raw_parts(self.at(segment).as_ptr(), segment.len()) }
    }

    #[inline]
    fn read_write<'a>(
        &'a mut self,
        _from: &'a Frame,
        segment: Segment,
        to: &'a mut Frame,
    ) -> (&'a [u8], &'a mut [u8]) {
        assert!(
            segment.chunk() != to.chunk(),
            "a frame is not copied into itself"
        );
        // SAFETY: as in `segment` and `bytes_mut`; the two are in different chunks.
        unsafe {
            (
                std::slice::from_raw_parts(self.at(segment).as_ptr(), segment.len()),
                std::slice::from_raw_parts_mut(self.at(to.first()).as_ptr(), to.first().len()),
            )
        }
    }
}

/// A bound socket, whose registration others may share.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) owner: Owner,
    pub(super) ifindex: u32,
    pub(super) queue: u32,
    pub(super) binding: Binding,
    pub(super) socket: Arc<OwnedFd>,
    /// True once its busy polling was disabled.
    pub(super) busy_poll_ended: Arc<AtomicBool>,
}

/// The open sockets of a UMEM. Locked to open or close one, never on the packet path.
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

    /// Makes the number available again: the socket is closed and its chunks are reclaimed.
    pub(super) fn release(&mut self, owner: Owner) {
        self.used[owner.number()] = false;
    }
}

#[derive(Debug)]
struct Inner {
    area: Arc<Area>,
    buffers: Arc<BufferTable>,
    huge: bool,
    pools_taken: AtomicBool,
    registry: Mutex<Registry>,
    /// Chunks of ports that were dropped instead of closed.
    recovered: Mutex<Vec<Frame>>,
}

/// The packet memory. Clones share it.
#[derive(Debug, Clone)]
pub struct Umem {
    inner: Arc<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The state under these locks is consistent at every step, so a panic of a holder is harmless.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Umem {
    /// Allocates the memory. It is registered with the kernel when the first socket binds.
    ///
    /// # Errors
    /// [`Error::Value`] for a size out of range, [`Error::Memory`] when the allocation fails.
    pub fn new(config: UmemConfig) -> Result<Self, Error> {
        if !(64..=MAX_CHUNKS as u32).contains(&config.frames) {
            let value = config.frames.into();
            return Err(Error::Value {
                what: "frames",
                value,
                expected: "64 to 1048576 frames",
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
                buffers: Arc::new(BufferTable::new(config.frames)),
                huge,
                pools_taken: AtomicBool::new(false),
                registry: Mutex::default(),
                recovered: Mutex::default(),
            }),
        })
    }

    /// Splits all chunks into one pool for each of `workers` (1 or more). Can be called only once,
    /// since each chunk has one owner.
    ///
    /// # Errors
    /// [`Error::PoolsTaken`] at the second call, [`Error::Value`] for no worker or more workers
    /// than frames.
    pub fn pools(&self, workers: usize) -> Result<Vec<Pool<UmemMemory>>, Error> {
        let frames = self.inner.area.chunks;
        let share = match u32::try_from(workers) {
            Ok(workers) if workers > 0 && workers <= frames => frames / workers,
            _ => {
                let expected = "at least 1 worker, and at least 1 frame per worker";
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
            let (area, buffers) = (
                Arc::clone(&self.inner.area),
                Arc::clone(&self.inner.buffers),
            );
            Pool::new(UmemMemory { area, buffers }, first..last)
        };
        Ok((0..workers as u32).map(pool).collect())
    }

    /// Reclaims the chunks of ports that were dropped instead of closed. Returns their number.
    pub fn recover(&self, pool: &mut Pool<UmemMemory>) -> usize {
        let frames = std::mem::take(&mut *lock(&self.inner.recovered));
        let count = frames.len();
        frames.into_iter().for_each(|frame| pool.free(frame));
        count
    }

    /// The kernel's statistics of an open socket, from any thread. `None` when it is closed.
    #[must_use]
    pub fn statistics(&self, socket: SocketId) -> Option<Statistics> {
        // Under the lock: a descriptor held beyond it would keep a socket open that its worker
        // closes, and with it the kernel's hold on chunks that were returned to their pool.
        let registry = self.registry();
        let bound = registry
            .bound
            .iter()
            .find(|bound| bound.owner == socket.0)?;
        sys::statistics(bound.socket.as_fd())
            .ok()
            .map(Statistics::from)
    }

    /// Whether busy polling of an open socket was disabled because the driver does not transmit with
    /// it, or can't be polled.
    #[must_use]
    pub fn busy_poll_ended(&self, socket: SocketId) -> bool {
        let registry = self.registry();
        let bound = registry.bound.iter().find(|bound| bound.owner == socket.0);
        bound.is_some_and(|bound| bound.busy_poll_ended.load(Ordering::Relaxed))
    }

    /// Number of chunks.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.inner.area.chunks
    }

    /// Size of a chunk, bytes.
    #[must_use]
    pub fn frame_size(&self) -> u32 {
        self.inner.area.chunk_size
    }

    /// The longest frame that a socket in copy mode receives in one chunk, bytes.
    #[must_use]
    pub fn longest_whole(&self) -> u32 {
        self.inner.area.chunk_size - u32::from(HEADROOM)
    }

    /// True when the memory is in huge pages.
    #[must_use]
    pub fn is_huge(&self) -> bool {
        self.inner.huge
    }

    pub(super) fn area(&self) -> &Area {
        &self.inner.area
    }

    pub(super) fn buffers(&self) -> &Arc<BufferTable> {
        &self.inner.buffers
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.inner.registry)
    }

    /// Whether a socket of this memory is bound to the queue.
    pub(super) fn is_bound(&self, ifindex: u32, queue: u32) -> bool {
        let registry = self.registry();
        registry
            .bound
            .iter()
            .any(|bound| bound.ifindex == ifindex && bound.queue == queue)
    }

    pub(crate) fn keep_recovered(&self, frame: Frame) {
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
