//! Sends frames on a packet socket. The kernel copies them in the system call.
//!
//! To the underlay, consecutive frames of one path leave as one superframe ([`super::train`]).

use std::collections::VecDeque;
use std::os::fd::AsFd;

use super::BATCH;
use super::socket::Socket;
use super::sys::Messages;
use super::train::{MAX_HEADER, Train};
use super::vnet::VnetHeader;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory, Pool};
use crate::port::{PortErrors, TxState};
use crate::wire::ethernet;

/// Buffers of one system call: as many as the kernel takes for one message (`UIO_MAXIOV`).
const BUFFERS: usize = 1024;

/// Chunks that a socket holds to send at most: those of any one frame, and its header, fit into a
/// system call.
const CAPACITY: usize = BUFFERS - 1;

/// A frame to send.
#[derive(Debug)]
struct Queued {
    frame: Frame,
    header: VnetHeader,
    chunks: u16,
}

/// The sending side of a socket.
#[derive(Debug)]
pub(super) struct Transmitter {
    queue: VecDeque<Queued>,
    /// Chunks of the frames in the queue.
    chunks: usize,
    messages: Messages,
    headers: Box<[VnetHeader]>,
    /// Of each message: the outer header of a train, and how many frames it stands for.
    outer: Box<[[u8; MAX_HEADER]]>,
    frames: Box<[usize]>,
    /// Trains are made.
    joins: bool,
}

/// Messages that are set up.
#[derive(Debug, Clone, Copy)]
struct Prepared {
    messages: usize,
    /// Some are superframes.
    superframes: bool,
}

impl Transmitter {
    pub(super) fn new(is_underlay: bool) -> Self {
        Self {
            queue: VecDeque::with_capacity(CAPACITY),
            chunks: 0,
            messages: Messages::new(BATCH, BUFFERS),
            headers: vec![VnetHeader::default(); BATCH].into(),
            outer: vec![[0; MAX_HEADER]; BATCH].into(),
            frames: vec![0; BATCH].into(),
            joins: is_underlay,
        }
    }

    /// Queues frames from the front of `frames` until the queue is full. Returns how many were
    /// accepted; the others stay in `frames`.
    pub(super) fn queue<M: FrameMemory>(
        &mut self,
        pool: &mut Pool<M>,
        frames: &mut Vec<Frame>,
        errors: &mut PortErrors,
    ) -> usize {
        let mut free = CAPACITY - self.chunks;
        let memory = pool.memory();
        let fits = |frame: &&Frame| {
            let left = free.checked_sub(memory.chunks(frame));
            free = left.unwrap_or(0);
            left.is_some()
        };
        let count = frames.iter().take_while(fits).count();
        for frame in frames.drain(..count) {
            match header(pool.memory(), &frame) {
                Ok(header) => {
                    let chunks = pool.memory().chunks(&frame);
                    self.chunks += chunks;
                    self.queue.push_back(Queued {
                        frame,
                        header,
                        chunks: chunks as u16,
                    });
                }
                Err(reason) => {
                    errors.count(reason);
                    pool.free(frame);
                }
            }
        }
        count
    }

    /// Sends what is queued, until the socket's buffer is full.
    ///
    /// # Errors
    /// The kernel's error number when the interface is down or gone; the frames stay queued.
    pub(super) fn flush<M: FrameMemory>(
        &mut self,
        socket: &Socket,
        pool: &mut Pool<M>,
        errors: &mut PortErrors,
    ) -> Result<(), i32> {
        let mut before = None;
        while !self.queue.is_empty() {
            let prepared = self.prepare(pool.memory());
            let fd = match prepared.superframes {
                true => socket.superframes.as_fd(),
                false => socket.fd.as_fd(),
            };
            // SAFETY: `prepare` has set the buffers of these messages: headers of `self`, and
            // segments of frames whose tokens are in the queue, so that no one writes to them.
            let error = match unsafe { self.messages.send(fd, prepared.messages) } {
                Ok(sent) => {
                    if before.take() == Some(libc::EINVAL) {
                        errors.count(DropReason::Unsegmentable);
                    }
                    self.remove(self.frames[..sent].iter().sum(), pool);
                    continue;
                }
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            let reason = match error {
                libc::EAGAIN | libc::EINTR => return Ok(()),
                // The driver has dropped the frame: its queue is full, or there is no carrier.
                libc::ENOBUFS => DropReason::TxDropped,
                // May have been stored by a receive call that ended with an error after some frames
                // (net/socket.c, `do_recvmmsg`): the kernel reports it once.
                errno if before.is_none() => {
                    before = Some(errno);
                    continue;
                }
                libc::EINVAL if self.frames[0] > 1 => {
                    before = None;
                    self.joins = false;
                    socket.refuse_trains();
                    continue;
                }
                libc::EMSGSIZE => DropReason::PortMtu,
                libc::EINVAL => DropReason::BadDescriptor,
                errno => return Err(errno),
            };
            before = None;
            self.reject(self.frames[0], reason, pool, errors);
        }
        Ok(())
    }

    /// Sets up messages for the first frames of the queue. Those of a tenant's port are all
    /// superframes, or none is.
    #[inline]
    fn prepare<M: FrameMemory>(&mut self, memory: &M) -> Prepared {
        let first_is = self.queue[0].header.is_superframe();
        let (mut messages, mut buffers, mut at) = (0, 0, 0);
        let mut superframes = first_is;
        while messages < self.messages.len() && at < self.queue.len() {
            let queued = &self.queue[at];
            let most = self.messages.buffers() - buffers;
            let is_other = queued.header.is_superframe() != first_is;
            if is_other || 1 + usize::from(queued.chunks) > most {
                break;
            }
            let train = if self.joins {
                self.train(memory, at, most)
            } else {
                None
            };
            let (frames, used) = match train {
                Some(train) => (
                    train.frames(),
                    self.set_train(memory, messages, at, buffers, train),
                ),
                None => (1, self.set_frame(memory, messages, at, buffers)),
            };
            superframes |= frames > 1;
            self.frames[messages] = frames;
            self.messages.set_message(messages, buffers, used);
            messages += 1;
            buffers += used;
            at += frames;
        }
        Prepared {
            messages,
            superframes,
        }
    }

    /// The train of several frames that begins at `at` in the queue, in up to `most` buffers.
    #[inline]
    fn train<M: FrameMemory>(&self, memory: &M, at: usize, most: usize) -> Option<Train> {
        let front = &self.queue[at];
        if front.header.is_superframe() {
            return None;
        }
        let first = memory.bytes(&front.frame);
        let mut train = Train::of(first, front.frame.len())?;
        // The vnet header, and the outer header.
        let mut buffers = 2 + usize::from(front.chunks);
        for next in self.queue.range(at + 1..) {
            buffers += usize::from(next.chunks);
            if buffers > most || !train.add(first, memory.bytes(&next.frame), next.frame.len()) {
                break;
            }
        }
        (train.frames() > 1).then_some(train)
    }

    /// Sets the buffers of a train. Returns how many they are.
    fn set_train<M: FrameMemory>(
        &mut self,
        memory: &M,
        message: usize,
        at: usize,
        buffers: usize,
        train: Train,
    ) -> usize {
        let outer = &mut self.outer[message];
        let first = memory.bytes(&self.queue[at].frame);
        self.headers[message] = train.write(first, outer);
        let header: *mut VnetHeader = &raw mut self.headers[message];
        self.messages
            .set_buffer(buffers, header.cast(), VnetHeader::LEN);
        self.messages
            .set_buffer(buffers + 1, outer.as_mut_ptr(), train.header_len());
        let mut next = buffers + 2;
        for queued in self.queue.range(at..at + train.frames()) {
            next = set_bytes(
                &mut self.messages,
                memory,
                &queued.frame,
                next,
                train.header_len(),
            );
        }
        next - buffers
    }

    /// Sets the buffers of one frame. Returns how many they are.
    #[inline]
    fn set_frame<M: FrameMemory>(
        &mut self,
        memory: &M,
        message: usize,
        at: usize,
        buffers: usize,
    ) -> usize {
        let queued = &self.queue[at];
        self.headers[message] = queued.header;
        let header: *mut VnetHeader = &raw mut self.headers[message];
        self.messages
            .set_buffer(buffers, header.cast(), VnetHeader::LEN);
        set_bytes(&mut self.messages, memory, &queued.frame, buffers + 1, 0) - buffers
    }

    /// Frees the first `count` frames.
    #[inline]
    fn remove<M: FrameMemory>(&mut self, count: usize, pool: &mut Pool<M>) {
        let chunks = &mut self.chunks;
        pool.free_bulk(self.queue.drain(..count).map(|queued| {
            *chunks -= usize::from(queued.chunks);
            queued.frame
        }));
    }

    /// Drops the first `count` frames, and all segments of a superframe.
    #[cold]
    fn reject<M: FrameMemory>(
        &mut self,
        count: usize,
        reason: DropReason,
        pool: &mut Pool<M>,
        errors: &mut PortErrors,
    ) {
        for Queued { frame, header, .. } in self.queue.range(..count) {
            errors.count_many(reason, header.segments(frame.len()) as u64);
        }
        self.remove(count, pool);
    }

    /// Drops all frames: the interface is down or gone.
    pub(super) fn discard<M: FrameMemory>(&mut self, pool: &mut Pool<M>, errors: &mut PortErrors) {
        self.reject(self.queue.len(), DropReason::PortDown, pool, errors);
    }

    /// How full the queue is.
    #[inline]
    pub(super) fn state(&self) -> TxState {
        TxState {
            free: CAPACITY - self.chunks,
            held: self.chunks,
            waiting: self.chunks,
        }
    }

    /// Gives back all frames.
    pub(super) fn release(&mut self, mut give: impl FnMut(Frame)) {
        self.chunks = 0;
        self.queue.drain(..).for_each(|queued| give(queued.frame));
    }
}

/// Sets the buffers of a frame from the one with number `next` on, without its first `skip` bytes.
/// Returns the number of the next one.
#[inline]
fn set_bytes<M: FrameMemory>(
    messages: &mut Messages,
    memory: &M,
    frame: &Frame,
    mut next: usize,
    skip: usize,
) -> usize {
    let rest = memory.buffers().rest(frame);
    let mut skip = skip;
    for segment in std::iter::once(frame.first()).chain(rest) {
        let bytes = &memory.segment(frame, segment)[skip..];
        skip = 0;
        messages.set_buffer(next, bytes.as_ptr().cast_mut(), bytes.len());
        next += 1;
    }
    next
}

/// The vnet header of a frame to send, or why the kernel would refuse the frame.
#[inline]
fn header<M: FrameMemory>(memory: &M, frame: &Frame) -> Result<VnetHeader, DropReason> {
    let bytes = memory.bytes(frame);
    if bytes.len() < ethernet::LEN {
        return Err(DropReason::BadDescriptor);
    }
    if !frame.has_offload() {
        return Ok(VnetHeader::default());
    }
    let offload = memory.buffers().offload(frame);
    VnetHeader::new(offload, bytes, frame.start()).map_err(|_| DropReason::BadDescriptor)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::frame::HEADROOM;
    use crate::frame::offload::{ChecksumState, Offload, SegmentKind, Segmentation};
    use crate::port::memory::memory_pools;

    /// They were counted as sent, one by one (finding D18).
    #[test]
    fn a_superframe_that_is_not_sent_counts_as_its_segments() {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1, 2, 3, 4)
            .write(&mut bytes, &[0x5a; 1500])
            .unwrap();
        let mut pool = memory_pools(1, 8, 2048).remove(0);
        let (mut transmitter, mut errors) = (Transmitter::new(false), PortErrors::default());
        for segmentation in [None, Some(400)] {
            let mut frame = pool.alloc().unwrap();
            frame.set_extent(HEADROOM, bytes.len(), 2048).unwrap();
            pool.memory_mut()
                .bytes_mut(&mut frame)
                .copy_from_slice(&bytes);
            let offload = segmentation.map(|size| Offload {
                segmentation: Some(Segmentation {
                    kind: SegmentKind::TcpV4,
                    size,
                    ecn: false,
                }),
                checksum: ChecksumState::Partial {
                    start: HEADROOM + 34,
                    offset: 16,
                },
                vlan_tci: None,
            });
            if let Some(offload) = offload {
                pool.memory().buffers().set_offload(&mut frame, offload);
            }
            transmitter.queue(&mut pool, &mut vec![frame], &mut errors);
        }
        transmitter.discard(&mut pool, &mut errors);
        assert_eq!(errors.get(DropReason::PortDown), 1 + 4);
        assert_eq!((transmitter.state().held, pool.available()), (0, 8));
    }
}
