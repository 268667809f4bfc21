//! Receives frames from a packet socket into chunks of the pool.
//!
//! ```text
//! up to 1780 bytes   ring slot -> one chunk                                   no system call
//! longer             ring slot says so; recvmmsg -> | vnet header | chunk | further chunks |
//! superframe         the same, and each segment's payload in a chunk of its own ([`super::split`])
//! ```
//!
//! Only a frame that is longer than a slot takes a system call of its own: it stands for many. Chunks
//! to receive such frames into stay with the socket while it has frames, and else go back to the pool.

use std::os::fd::AsFd;

use super::ring::{RxRing, Slot};
use super::socket::Socket;
use super::split::{NotSplit, Parts, Splitter};
use super::sys::{self, Messages};
use super::tag::Tag;
use super::vnet::{Invalid, VnetHeader};
use crate::drop::DropReason;
use crate::frame::assembly::ChainBuilder;
use crate::frame::offload::Offload;
use crate::frame::{BURST, Frame, FrameMemory, HEADROOM, Pool};
use crate::port::PortErrors;
use crate::wire::{ethernet, vlan};

/// The longest frame that is received, bytes: the longest IP packet, with two tags in the frame.
const LONGEST: usize = ethernet::LEN + 2 * vlan::LEN + 65_535;

/// Bytes after which a call takes no further frame. Four superframes: their segments fit into the tx
/// ring of an underlay queue.
const MAX_BYTES: usize = 256 << 10;

/// Chunks that receiving leaves in the pool, for copies of flooded frames and for replies.
const RESERVE: usize = 2 * BURST;

/// Calls without a frame after which the socket is asked for an error. It reports one when the
/// interface goes down, and stays readable until it is asked.
const IDLE_CALLS: u32 = 32;

/// Why a frame is not delivered now.
enum NotTaken {
    Dropped(DropReason),
    /// There was no room for it in the kernel.
    Lost,
    /// The frame waits: the pool has too few chunks, or the burst too little room.
    Waits,
    /// The kernel reports an error of the socket; the frame waits.
    Failed(i32),
}

impl From<NotSplit> for NotTaken {
    fn from(error: NotSplit) -> Self {
        match error {
            NotSplit::NoChunks => Self::Waits,
            NotSplit::Failed(None | Some(libc::EAGAIN)) => Self::Dropped(DropReason::BadDescriptor),
            // As in `Receiver::long`.
            NotSplit::Failed(Some(libc::EINVAL)) => Self::Dropped(DropReason::Unsegmentable),
            NotSplit::Failed(Some(errno)) => Self::Failed(errno),
        }
    }
}

/// The receiving side of a socket.
#[derive(Debug)]
pub(super) struct Receiver {
    ring: RxRing,
    /// One message, for a frame that is longer than a slot.
    message: Messages,
    header: Box<VnetHeader>,
    /// Chunks to receive it into, the first one last.
    chunks: Vec<Frame>,
    chunk_size: usize,
    /// Chunks that hold the longest frame.
    depth: usize,
    /// Receives superframes by segment: those of UDP on the underlay, which are taken apart, and those
    /// of a tenant that are likely to be cut.
    splitter: Splitter,
    is_underlay: bool,
    /// Superframes of this tenant were cut lately.
    cuts: bool,
    /// Calls without a frame, in a row.
    idle: u32,
}

impl Receiver {
    pub(super) fn new(ring: RxRing, chunk_size: usize, is_underlay: bool) -> Self {
        let rest = LONGEST - (chunk_size - usize::from(HEADROOM));
        let depth = 1 + rest.div_ceil(chunk_size);
        Self {
            ring,
            message: Messages::new(1, 1 + depth),
            header: Box::default(),
            chunks: Vec::with_capacity(depth),
            chunk_size,
            depth,
            splitter: Splitter::new(),
            is_underlay,
            cuts: false,
            idle: 0,
        }
    }

    /// Bytes of a frame in its first chunk.
    const fn first_len(&self) -> usize {
        self.chunk_size - HEADROOM as usize
    }

    /// Notes whether the tenant's superframes are cut, so that they come in as they are cut.
    pub(super) const fn expect_cuts(&mut self, cuts: bool) {
        self.cuts = cuts;
    }

    /// Appends up to a burst of frames to `burst`.
    ///
    /// # Errors
    /// The kernel's error number: ENETDOWN when the interface went down.
    pub(super) fn receive<M: FrameMemory>(
        &mut self,
        socket: &Socket,
        pool: &mut Pool<M>,
        burst: &mut Vec<Frame>,
        errors: &mut PortErrors,
    ) -> Result<(), i32> {
        let before = burst.len();
        let mut bytes = 0;
        let mut slots = 0;
        self.take_datagrams(burst);
        while burst.len() - before < BURST && slots < BURST && bytes < MAX_BYTES {
            let Some(taken) = self.take(socket, pool, burst) else {
                break;
            };
            match taken {
                Ok(len) => bytes += len,
                Err(NotTaken::Dropped(reason)) => errors.count(reason),
                Err(NotTaken::Lost) => socket.count_drop(),
                Err(NotTaken::Waits) => break,
                Err(NotTaken::Failed(errno)) => return Err(errno),
            }
            self.ring.release();
            slots += 1;
        }
        if burst.len() > before {
            if self.idle > 0 {
                socket.set_empty(false);
            }
            self.idle = 0;
            return Ok(());
        }
        if slots == 0 && self.ring.is_empty() && self.idle == 0 {
            socket.set_empty(true);
        }
        self.release(|frame| pool.free(frame));
        self.idle = self.idle.checked_add(1).unwrap_or(IDLE_CALLS);
        if self.idle.is_multiple_of(IDLE_CALLS)
            && let Some(errno) = sys::take_error(socket.fd.as_fd())
        {
            return Err(errno);
        }
        Ok(())
    }

    /// Appends the frame of the next slot to `burst`, or its datagrams. Returns its length; `None` when
    /// there is none.
    #[inline]
    fn take<M: FrameMemory>(
        &mut self,
        socket: &Socket,
        pool: &mut Pool<M>,
        burst: &mut Vec<Frame>,
    ) -> Option<Result<usize, NotTaken>> {
        let first_len = self.first_len();
        let taken = match self.ring.peek()? {
            Slot::Whole { header, .. } | Slot::Queued { header, .. }
                if self.is_underlay && header.is_superframe() =>
            {
                return Some(self.split(socket, pool, burst));
            }
            Slot::Queued { header, .. } if self.cuts && header.is_superframe() => {
                self.by_segment(socket, pool)
            }
            Slot::Whole { header, bytes, tag } if bytes.len() <= first_len => {
                short(header, bytes, tag, pool)
            }
            Slot::Queued { .. } => self.long(socket, pool),
            Slot::Lost => Err(NotTaken::Lost),
            Slot::Whole { .. } | Slot::Bad => Err(NotTaken::Dropped(DropReason::BadDescriptor)),
        };
        Some(taken.map(|frame| {
            let len = frame.len();
            burst.push(frame);
            len
        }))
    }

    /// Appends the datagrams of the superframe in the next slot to `burst`, which must be empty so that
    /// they come into one burst; a superframe of another kind as it is.
    #[inline(never)]
    fn split<M: FrameMemory>(
        &mut self,
        socket: &Socket,
        pool: &mut Pool<M>,
        burst: &mut Vec<Frame>,
    ) -> Result<usize, NotTaken> {
        let Some(slot) = self.ring.peek() else {
            return Err(NotTaken::Waits);
        };
        let splitter = &mut self.splitter;
        let (header, front, len, tag, is_whole) = match slot {
            Slot::Whole { header, bytes, tag } => (header, bytes, bytes.len(), tag, true),
            Slot::Queued {
                header,
                front,
                len,
                tag,
            } => (header, front, len, tag, false),
            Slot::Lost | Slot::Bad => return Err(NotTaken::Waits),
        };
        let datagrams = Parts::of_datagrams(header, front, len)
            .filter(|datagrams| Splitter::takes(datagrams, pool, RESERVE));
        let Some(datagrams) = datagrams else {
            let frame = if is_whole {
                short(header, front, tag, pool)
            } else {
                self.long(socket, pool)
            };
            return frame.map(|frame| {
                burst.push(frame);
                len
            });
        };
        if !burst.is_empty() {
            return Err(NotTaken::Waits);
        }
        let split = if is_whole {
            splitter.copy(&datagrams, front, pool, RESERVE)
        } else {
            let received = splitter.receive(socket, &datagrams, (header, len), pool, RESERVE);
            received.map(|_| ())
        };
        split?;
        splitter.write_headers(&datagrams, pool);
        splitter.insert_tags(tag, pool);
        self.take_datagrams(burst);
        Ok(len)
    }

    /// Appends datagrams of the last superframe to `burst`, up to a whole burst.
    #[inline]
    fn take_datagrams(&mut self, burst: &mut Vec<Frame>) {
        if !self.splitter.is_empty() {
            while burst.len() < BURST
                && let Some(frame) = self.splitter.pop()
            {
                burst.push(frame);
            }
        }
    }

    /// Receives the superframe that is the next frame in the socket's queue so that each segment is in
    /// a chunk of its own, if it fits.
    #[inline(never)]
    fn by_segment<M: FrameMemory>(
        &mut self,
        socket: &Socket,
        pool: &mut Pool<M>,
    ) -> Result<Frame, NotTaken> {
        let Some(Slot::Queued {
            header, front, len, ..
        }) = self.ring.peek()
        else {
            return Err(NotTaken::Waits);
        };
        let parts =
            Parts::of(header, front, len).filter(|parts| Splitter::lays_out(parts, pool, RESERVE));
        let Some(parts) = parts else {
            return self.long(socket, pool);
        };
        let splitter = &mut self.splitter;
        let tag = splitter.receive(socket, &parts, (header, len), pool, RESERVE)?;
        match splitter.join(&parts, pool) {
            Some(frame) => finish(frame, header, len, tag, pool),
            None => Err(NotTaken::Dropped(DropReason::TooManySegments)),
        }
    }

    /// Receives the frame that is the next one in the socket's queue.
    #[inline(never)]
    fn long<M: FrameMemory>(
        &mut self,
        socket: &Socket,
        pool: &mut Pool<M>,
    ) -> Result<Frame, NotTaken> {
        if !self.provide(pool) {
            return Err(NotTaken::Waits);
        }
        let drop = |reason| Err(NotTaken::Dropped(reason));
        // SAFETY: `provide` has set the buffers: the header, and chunks whose tokens are in
        // `self.chunks`, all accessed by `self` alone.
        match unsafe { self.message.receive(socket.fd.as_fd(), 1) } {
            Ok(_) => {}
            Err(error) => match error.raw_os_error().unwrap_or(libc::EIO) {
                // Segmentation that a vnet header can't describe
                // (include/linux/virtio_net.h, `virtio_net_hdr_from_skb`).
                libc::EINVAL => return drop(DropReason::Unsegmentable),
                libc::EAGAIN => return drop(DropReason::BadDescriptor),
                errno => return Err(NotTaken::Failed(errno)),
            },
        }
        let received = self.message.received();
        if received.truncated {
            return drop(DropReason::TooManySegments);
        }
        let Some(len) = received.len.checked_sub(VnetHeader::LEN) else {
            return drop(DropReason::BadDescriptor);
        };
        match self.join(len, pool) {
            Ok(frame) => finish(frame, *self.header, len, received.tag, pool),
            Err(reason) => drop(reason),
        }
    }

    /// Provides the chunks for a frame of any length. False when the pool has too few.
    fn provide<M: FrameMemory>(&mut self, pool: &mut Pool<M>) -> bool {
        while self.chunks.len() < self.depth {
            if pool.available() <= RESERVE {
                return false;
            }
            let Some(mut chunk) = pool.alloc() else {
                return false;
            };
            let place = self.depth - self.chunks.len();
            let (start, len) = if place == 1 {
                (HEADROOM, self.first_len())
            } else {
                (0, self.chunk_size)
            };
            set_extent(&mut chunk, start, len, self.chunk_size);
            let bytes = pool.memory_mut().bytes_mut(&mut chunk);
            self.message
                .set_buffer(place, bytes.as_mut_ptr(), bytes.len());
            self.chunks.push(chunk);
        }
        let header: *mut VnetHeader = &raw mut *self.header;
        self.message.set_buffer(0, header.cast(), VnetHeader::LEN);
        self.message.set_message(0, 0, 1 + self.depth);
        true
    }

    /// The received frame of `len` bytes.
    fn join<M: FrameMemory>(
        &mut self,
        len: usize,
        pool: &mut Pool<M>,
    ) -> Result<Frame, DropReason> {
        let head = len.min(self.first_len());
        let Some(mut first) = self.chunks.pop() else {
            return Err(DropReason::BadDescriptor);
        };
        set_extent(&mut first, HEADROOM, head, self.chunk_size);
        let mut chain = ChainBuilder::new(first);
        for at in (head..len).step_by(self.chunk_size) {
            let Some(mut next) = self.chunks.pop() else {
                pool.free(chain.finish());
                return Err(DropReason::TooManySegments);
            };
            set_extent(&mut next, 0, self.chunk_size.min(len - at), self.chunk_size);
            if let Err(next) = chain.push(pool.memory().buffers(), next) {
                pool.free(next);
                pool.free(chain.finish());
                return Err(DropReason::TooManySegments);
            }
        }
        Ok(chain.finish())
    }

    /// Gives back all chunks that wait to be received into.
    pub(super) fn release(&mut self, mut give: impl FnMut(Frame)) {
        self.chunks.drain(..).for_each(&mut give);
        self.splitter.release(give);
    }
}

/// Sets an extent inside of the chunk.
fn set_extent(chunk: &mut Frame, start: u16, len: usize, chunk_size: usize) {
    let inside = chunk.set_extent(start, len, chunk_size);
    debug_assert!(inside.is_ok());
}

/// The frame of a slot.
#[inline]
fn short<M: FrameMemory>(
    header: VnetHeader,
    bytes: &[u8],
    tag: Option<Tag>,
    pool: &mut Pool<M>,
) -> Result<Frame, NotTaken> {
    if pool.available() <= RESERVE {
        return Err(NotTaken::Waits);
    }
    let Some(mut frame) = pool.alloc() else {
        return Err(NotTaken::Waits);
    };
    set_extent(
        &mut frame,
        HEADROOM,
        bytes.len(),
        pool.memory().chunk_size(),
    );
    pool.memory_mut()
        .bytes_mut(&mut frame)
        .copy_from_slice(bytes);
    finish(frame, header, bytes.len(), tag, pool)
}

/// Records what the sender of a frame of `len` bytes left to do, and puts the VLAN tag that the kernel
/// keeps beside it back into it.
#[inline]
fn finish<M: FrameMemory>(
    mut frame: Frame,
    header: VnetHeader,
    len: usize,
    tag: Option<Tag>,
    pool: &mut Pool<M>,
) -> Result<Frame, NotTaken> {
    match header.offload(pool.memory().bytes(&frame), frame.start(), len) {
        Ok(None) => {}
        Ok(Some(offload)) => set_offload(&mut frame, offload, pool),
        Err(invalid) => {
            pool.free(frame);
            return Err(NotTaken::Dropped(match invalid {
                Invalid::Checksum => DropReason::ChecksumOffset,
                Invalid::Segmentation => DropReason::Unsegmentable,
            }));
        }
    }
    if let Some(tag) = tag {
        tag.insert(&mut frame, pool);
    }
    Ok(frame)
}

fn set_offload<M: FrameMemory>(frame: &mut Frame, offload: Offload, pool: &Pool<M>) {
    pool.memory().buffers().set_offload(frame, offload);
}
