//! The rings of many sockets against a simulated kernel: ten million frames in bursts, in one chunk
//! and in several, with shared payloads, full rings, stalls, wrong descriptors, incomplete frames,
//! and sockets that are closed and reopened. In the end every chunk is accounted for.

use std::collections::VecDeque;
use std::sync::Arc;

use libc::xdp_desc;

use super::fake::FakeRing;
use super::options::{HugePages, UmemConfig};
use super::ring::{Consumer, Producer};
use super::rings::{FillLevel, Rings, SocketChunks};
use super::umem::{Umem, UmemMemory};
use crate::drop::DropReason;
use crate::frame::assembly::ChainBuilder;
use crate::frame::buffer::Owner;
use crate::frame::chain::{MAX_SEGMENTS, SharedPayload};
use crate::frame::offload::{ChecksumState, Offload};
use crate::frame::{BURST, Frame, FrameMemory, Pool};
use crate::port::PortErrors;

const CHUNKS: u32 = 4096;
const CHUNK: u32 = 2048;
const SOCKETS: usize = 6;
const LEN: u32 = 64;

/// xorshift64 (Marsaglia 2003): the same sequence in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The kernel's ends of a socket's rings.
struct Kernel {
    rx: Producer<xdp_desc, FakeRing<xdp_desc>>,
    tx: Consumer<xdp_desc, FakeRing<xdp_desc>>,
    fill: Consumer<u64, FakeRing<u64>>,
    completion: Producer<u64, FakeRing<u64>>,
    /// Taken from the tx ring and not completed yet: frames in the device.
    in_flight: VecDeque<u64>,
    /// Missing chunks of the frame that is being received, and the stamp of the next one.
    unfinished: (u64, u64),
}

type FakeRings = Rings<FakeRing<xdp_desc>, FakeRing<u64>>;

fn socket(owner: Owner, umem: &Umem, random: &mut Random) -> (FakeRings, Kernel) {
    let start = (random.below(1 << 32)) as u32;
    let (rx, tx) = (FakeRing::new(128, start), FakeRing::new(128, !start));
    let (fill, completion) = (
        FakeRing::new(256, start ^ 0xff),
        FakeRing::new(128, start / 3),
    );
    let kernel = Kernel {
        rx: Producer::new(rx.clone()),
        tx: Consumer::new(tx.clone()),
        fill: Consumer::new(fill.clone()),
        completion: Producer::new(completion.clone()),
        in_flight: VecDeque::new(),
        unfinished: (0, 0),
    };
    let rings = Rings {
        rx: Consumer::new(rx),
        tx: Producer::new(tx),
        fill: Producer::new(fill),
        completion: Consumer::new(completion),
        buffers: Arc::clone(umem.buffers()),
        owner,
        chunk_size: CHUNK,
        multi_buffer: true,
        socket_chunks: SocketChunks::new(CHUNKS),
        tx_held: 0,
        level: FillLevel::new(64),
        errors: PortErrors::default(),
    };
    (rings, kernel)
}

/// Sockets with their kernels, two workers' pools, and frames between receive and send.
struct Simulation {
    umem: Umem,
    random: Random,
    sockets: Vec<(FakeRings, Kernel)>,
    pools: Vec<Pool<UmemMemory>>,
    /// Frames in user space, for each socket to send.
    waiting: Vec<Vec<Frame>>,
    next_stamp: u64,
    received: u64,
    sent: u64,
    /// Wrong descriptors that the kernels gave, and those detected on sockets closed since.
    lies: u64,
    noticed: u64,
    too_long: u64,
}

impl Simulation {
    fn new() -> Self {
        let config = UmemConfig {
            frames: CHUNKS,
            frame_size: CHUNK,
            huge_pages: HugePages::Off,
        };
        let umem = Umem::new(config).unwrap();
        let mut random = Random(0x5eed_cafe_f00d_1234);
        let owner = |number| Owner::new(number).unwrap();
        let sockets = (0..SOCKETS)
            .map(|i| socket(owner(i), &umem, &mut random))
            .collect();
        let pools = umem.pools(2).unwrap();
        let waiting = (0..SOCKETS).map(|_| Vec::new()).collect();
        Self {
            umem,
            random,
            sockets,
            pools,
            waiting,
            next_stamp: 1,
            received: 0,
            sent: 0,
            lies: 0,
            noticed: 0,
            too_long: 0,
        }
    }

    /// The 8 bytes at an address of the packet memory.
    fn stamp(&self, address: u64) -> *mut u64 {
        assert!(address + u64::from(LEN) <= u64::from(CHUNKS * CHUNK));
        // SAFETY: inside the mapping, by the assertion.
        unsafe {
            self.umem
                .area()
                .mapping
                .start()
                .as_ptr()
                .add(address as usize)
                .cast()
        }
    }

    /// Number of chunks of the next frame: mostly one, sometimes too many.
    fn chunks(&mut self) -> u64 {
        match self.random.below(20) {
            0 if self.random.below(8) == 0 => 2 + self.random.below(MAX_SEGMENTS as u64 + 3),
            0 => 2 + self.random.below(11),
            1 => 2,
            _ => 1,
        }
    }

    /// The kernel receives: chunks from the fill ring, stamped, to the rx ring.
    fn kernel_receives(&mut self, which: usize) {
        for _ in 0..self.random.below(2 * BURST as u64) {
            if self.sockets[which].1.unfinished.0 == 0 {
                let chunks = self.chunks();
                self.sockets[which].1.unfinished = (chunks, self.next_stamp);
                self.next_stamp += chunks;
            }
            let fault = self.random.below(1000);
            let kernel = &mut self.sockets[which].1;
            let (left, stamp) = kernel.unfinished;
            if kernel.rx.free(2) < 2 {
                break;
            }
            let options = if left > 1 { libc::XDP_PKT_CONTD } else { 0 };
            if fault == 0 {
                // A chunk that does not exist: user space must ignore it and the frame that it is
                // part of.
                let addr = u64::from(CHUNKS * CHUNK) + 7;
                kernel.rx.push(xdp_desc {
                    addr,
                    len: LEN,
                    options,
                });
                self.lies += 1;
            }
            let Some(chunk) = kernel.fill.pop() else {
                break;
            };
            kernel.unfinished = (left - 1, stamp + 1);
            let addr = chunk + 256;
            let len = if fault == 1 { CHUNK } else { LEN };
            if fault == 1 {
                // A valid chunk with a length beyond its end.
                self.lies += 1;
            } else {
                // SAFETY: `stamp` checks the address; a u64 at a multiple of 8; the kernel has this
                // chunk.
                unsafe { self.stamp(addr).write(stamp) };
            }
            self.sockets[which]
                .1
                .rx
                .push(xdp_desc { addr, len, options });
        }
        let kernel = &mut self.sockets[which].1;
        kernel.fill.release();
        kernel.rx.publish();
    }

    /// The kernel delivers a chunk twice, and the worker reads both before the chunk is in the fill
    /// ring again.
    fn kernel_repeats(&mut self, which: usize) {
        let kernel = &mut self.sockets[which].1;
        if kernel.rx.pending() > 0 || kernel.unfinished.0 > 0 {
            return;
        }
        let Some(chunk) = kernel.fill.pop() else {
            return;
        };
        // SAFETY: `stamp` checks the address; a u64 at a multiple of 8; the kernel has this chunk.
        unsafe { self.stamp(chunk + 256).write(self.next_stamp) };
        self.next_stamp += 1;
        let kernel = &mut self.sockets[which].1;
        for _ in 0..2 {
            kernel.rx.push(xdp_desc {
                addr: chunk + 256,
                len: LEN,
                options: 0,
            });
        }
        kernel.fill.release();
        kernel.rx.publish();
        self.lies += 1;
        self.worker_receives(which);
    }

    /// The kernel sends: checks the stamps, which the worker has inverted, and completes some.
    fn kernel_sends(&mut self, which: usize) {
        for _ in 0..self.random.below(2 * BURST as u64) {
            let Some(mut descriptor) = self.sockets[which].1.tx.pop() else {
                break;
            };
            assert_eq!(
                descriptor.len,
                LEN + 8,
                "the length that the worker gave it"
            );
            // SAFETY: `stamp` checks the address; the worker's frames begin at multiples of 8.
            let [seal, mut stamp] = unsafe {
                [
                    self.stamp(descriptor.addr).read(),
                    self.stamp(descriptor.addr + 8).read(),
                ]
            };
            assert_eq!(seal, !stamp, "a chunk was used twice");
            self.sockets[which].1.in_flight.push_back(descriptor.addr);
            while descriptor.options & libc::XDP_PKT_CONTD != 0 {
                descriptor = self.sockets[which]
                    .1
                    .tx
                    .pop()
                    .expect("a frame is published whole");
                assert_eq!(descriptor.len, LEN);
                // SAFETY: as above.
                let next = unsafe { self.stamp(descriptor.addr).read() };
                // A header in a chunk of its own has the stamp of its payload.
                assert!(
                    next == stamp + 1 || next == stamp,
                    "a chunk was used twice: {next} behind {stamp}"
                );
                stamp = next;
                self.sockets[which].1.in_flight.push_back(descriptor.addr);
            }
            self.sent += 1;
        }
        let complete = self.random.below(2 * BURST as u64);
        let kernel = &mut self.sockets[which].1;
        kernel.tx.release();
        for _ in 0..complete {
            if kernel.completion.free(2) < 2 {
                break;
            }
            let Some(address) = kernel.in_flight.pop_front() else {
                break;
            };
            kernel.completion.push(address);
            // With several entries for one chunk, a superfluous completion is not detectable.
            let shared = self
                .umem
                .buffers()
                .is_shared((address / u64::from(CHUNK)) as u32);
            if self.random.below(1000) == 0 && !shared {
                kernel.completion.push(address);
                self.lies += 1;
            }
        }
        kernel.completion.publish();
    }

    /// The worker receives a burst; each frame gets a header in its headroom and is queued for some
    /// socket, or dropped.
    fn worker_receives(&mut self, which: usize) {
        let pool = &mut self.pools[which % 2];
        let mut burst = Vec::new();
        self.sockets[which].0.receive(pool, &mut burst);
        for mut frame in burst {
            self.received += 1;
            let stamp = stamp_of(pool.memory().bytes(&frame));
            let chains = pool.memory().buffers();
            for (piece, expected) in chains.rest(&frame).zip(stamp + 1..) {
                assert_eq!(
                    stamp_of(pool.memory().segment(&frame, piece)),
                    expected,
                    "another frame's chunk"
                );
            }
            let copies = if self.random.below(50) == 0 {
                self.random.below(40)
            } else {
                0
            };
            if copies > 0 {
                share(
                    pool,
                    frame,
                    stamp,
                    copies as u32,
                    &mut self.random,
                    &mut self.waiting,
                );
                continue;
            }
            frame.prepend(8).unwrap();
            pool.memory_mut().bytes_mut(&mut frame)[..8].copy_from_slice(&(!stamp).to_ne_bytes());
            queue(pool, frame, &mut self.random, &mut self.waiting);
        }
    }

    fn worker_sends(&mut self, which: usize) {
        let pool = &mut self.pools[which % 2];
        self.sockets[which].0.send(pool, &mut self.waiting[which]);
        let foreign: Vec<_> = std::iter::from_fn(|| pool.pop_foreign()).collect();
        foreign
            .into_iter()
            .for_each(|frame| self.pools[1 - which % 2].free(frame));
    }

    /// The interface is deleted: the chunks of its rings and its device are reclaimed.
    fn reopen(&mut self, which: usize) {
        let owner = self.sockets[which].0.owner;
        self.noticed += self.sockets[which].0.errors.get(DropReason::BadDescriptor)
            + self.count_unread_wrong(which);
        self.umem
            .buffers()
            .reclaim_all(owner, |frame| self.pools[which % 2].free(frame));
        let held = std::mem::replace(
            &mut self.sockets[which].0.socket_chunks,
            SocketChunks::new(CHUNKS),
        );
        held.release(self.umem.buffers(), |frame| {
            self.pools[which % 2].free(frame);
        });
        self.too_long += self.sockets[which]
            .0
            .errors
            .get(DropReason::TooManySegments);
        self.sockets[which] = socket(owner, &self.umem, &mut self.random);
    }

    /// Reads the wrong descriptors that are still in the rings of a socket, as the worker would.
    fn count_unread_wrong(&mut self, which: usize) -> u64 {
        let pool = &mut self.pools[which % 2];
        let rings = &mut self.sockets[which].0;
        let before = rings.errors.get(DropReason::BadDescriptor);
        let mut burst = Vec::new();
        // Two bursts and some wrong ones fill the rx ring.
        (0..4).for_each(|_| {
            rings.receive(pool, &mut burst);
        });
        rings.reap(pool);
        burst.into_iter().for_each(|frame| pool.free(frame));
        rings.errors.get(DropReason::BadDescriptor) - before
    }
}

fn stamp_of(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes[..8].try_into().unwrap())
}

/// Queues a frame for some socket, or drops it.
fn queue(
    pool: &mut Pool<UmemMemory>,
    frame: Frame,
    random: &mut Random,
    waiting: &mut [Vec<Frame>],
) {
    let to = random.below(SOCKETS as u64 + 1) as usize;
    match waiting.get_mut(to) {
        Some(queue) if queue.len() < 256 => queue.push(frame),
        _ => pool.free(frame),
    }
}

/// Queues up to `copies` sealed headers that end in `payload`, for some sockets, many in a chunk.
fn share(
    pool: &mut Pool<UmemMemory>,
    payload: Frame,
    stamp: u64,
    copies: u32,
    random: &mut Random,
    waiting: &mut [Vec<Frame>],
) {
    let chains = pool.memory().buffers();
    chains.share(payload.chunk(), copies + 1);
    chains
        .rest(&payload)
        .for_each(|piece| chains.share(piece.chunk(), copies + 1));
    let mut left = copies;
    while left > 0
        && let Some(mut chunk) = pool.alloc()
    {
        const STRIDE: u16 = 80;
        let count = 1 + random.below(u64::from(left.min(CHUNK / u32::from(STRIDE)))) as u32;
        chunk
            .set_extent(0, count as usize * usize::from(STRIDE), CHUNK as usize)
            .unwrap();
        let bytes = pool.memory_mut().bytes_mut(&mut chunk);
        for header in bytes.chunks_exact_mut(STRIDE.into()) {
            header[..8].copy_from_slice(&(!stamp).to_ne_bytes());
            header[8..16].copy_from_slice(&stamp.to_ne_bytes());
        }
        // Some are copies without a payload in another chunk.
        let shared = SharedPayload::new(&payload, STRIDE.into()).filter(|_| random.below(4) > 0);
        if let Some(shared) = shared {
            shared.link_to(pool.memory().buffers(), chunk.chunk());
        }
        let rest = shared.map_or(0, |shared| shared.len());
        let len = (LEN as u16 + 8, STRIDE);
        let headers: Vec<_> = pool.split(chunk, len, count as u16, rest).collect();
        for header in headers {
            queue(pool, header, random, waiting);
        }
        left -= shared.map_or(0, |_| count);
        if shared.is_none() && random.below(2) == 0 {
            break;
        }
    }
    pool.release_shared(payload, left + 1);
}

#[test]
fn no_chunk_is_lost_in_ten_million_frames() {
    let mut simulation = Simulation::new();
    let goal = 10_000_000;
    let mut reopened = 0;
    while simulation.received < goal {
        let which = simulation.random.below(SOCKETS as u64) as usize;
        match simulation.random.below(4000) {
            0 => {
                simulation.reopen(which);
                reopened += 1;
            }
            1..=8 => simulation.kernel_repeats(which),
            step if step % 4 == 0 => simulation.kernel_receives(which),
            step if step % 4 == 1 => simulation.kernel_sends(which),
            step if step % 4 == 2 => simulation.worker_receives(which),
            _ => simulation.worker_sends(which),
        }
    }
    for which in 0..SOCKETS {
        simulation.reopen(which);
        let frames = std::mem::take(&mut simulation.waiting[which]);
        frames
            .into_iter()
            .for_each(|frame| simulation.pools[0].free(frame));
    }
    for from in 0..2 {
        while let Some(frame) = simulation.pools[from].pop_foreign() {
            simulation.pools[1 - from].free(frame);
        }
    }
    for pool in &simulation.pools {
        assert_eq!(pool.available(), pool.capacity());
    }
    let mut chunks: Vec<_> = simulation
        .pools
        .iter_mut()
        .flat_map(|pool| std::iter::from_fn(|| pool.alloc()))
        .map(|f| f.chunk())
        .collect();
    chunks.sort_unstable();
    assert!(
        chunks.into_iter().eq(0..CHUNKS),
        "a chunk is missing or there twice"
    );
    assert_eq!(
        simulation.noticed, simulation.lies,
        "each wrong descriptor is counted once"
    );
    assert!(
        reopened > 100
            && simulation.sent > goal / 2
            && simulation.lies > 10_000
            && simulation.too_long > 1000
    );
    assert!(
        (0..CHUNKS).all(|chunk| !simulation.umem.buffers().is_shared(chunk)),
        "a chunk has a holder too many"
    );
}

/// A socket, and the pool of its worker.
struct Single {
    umem: Umem,
    rings: FakeRings,
    kernel: Kernel,
    pool: Pool<UmemMemory>,
}

impl Single {
    fn new() -> Self {
        let umem = Umem::new(UmemConfig {
            frames: CHUNKS,
            frame_size: CHUNK,
            huge_pages: HugePages::Off,
        })
        .unwrap();
        let (rings, kernel) = socket(Owner::new(0).unwrap(), &umem, &mut Random(7));
        let pool = umem.pools(1).unwrap().remove(0);
        Self {
            umem,
            rings,
            kernel,
            pool,
        }
    }

    /// The kernel receives `frames` of `segments` chunks, as long as the fill ring has some, and the
    /// worker frees them, `rounds` times. Returns the chunks in the fill ring.
    fn receive(&mut self, rounds: usize, frames: usize, segments: usize) -> usize {
        let mut burst = Vec::new();
        for _ in 0..rounds {
            for place in 1..=frames * segments {
                let Some(addr) = self.kernel.fill.pop() else {
                    break;
                };
                let is_last = place % segments == 0;
                assert!(self.kernel.rx.push(xdp_desc {
                    addr,
                    len: LEN,
                    options: if is_last { 0 } else { libc::XDP_PKT_CONTD },
                }));
            }
            self.kernel.fill.release();
            self.kernel.rx.publish();
            self.rings.receive(&mut self.pool, &mut burst);
            burst.drain(..).for_each(|frame| self.pool.free(frame));
        }
        self.rings.fill.pending() as usize
    }
}

/// A frame of more chunks than the kernel completes is refused, and so is a superframe.
#[test]
fn a_frame_of_more_chunks_than_devices_take_is_not_sent() {
    let Single {
        umem,
        mut rings,
        mut kernel,
        mut pool,
    } = Single::new();
    let frames = [9, 10].map(|chunks| {
        let mut chunks = (0..chunks).map(|_| {
            let mut chunk = pool.alloc().unwrap();
            chunk.set_extent(256, 1000, CHUNK as usize).unwrap();
            chunk
        });
        let mut whole = ChainBuilder::new(chunks.next().unwrap());
        for chunk in chunks {
            whole.push(umem.buffers(), chunk).unwrap();
        }
        whole.finish()
    });
    let mut frames = Vec::from(frames);
    let mut superframe = pool.alloc().unwrap();
    superframe.set_extent(256, 1000, CHUNK as usize).unwrap();
    let offload = Offload {
        checksum: ChecksumState::Valid,
        ..Offload::default()
    };
    umem.buffers().set_offload(&mut superframe, offload);
    frames.push(superframe);
    assert_eq!(rings.send(&mut pool, &mut frames), 3);
    assert_eq!(rings.errors.get(DropReason::TooManySegments), 1);
    assert_eq!(rings.errors.get(DropReason::Unsegmentable), 1);
    assert_eq!(std::iter::from_fn(|| kernel.tx.pop()).count(), 9);
    assert_eq!(pool.available(), pool.capacity() - 9);
}

/// A queue without traffic binds few chunks, a busy one many, and all give back what others lack
/// (finding D16).
#[test]
fn a_fill_ring_holds_more_chunks_while_its_queue_is_busy() {
    let mut single = Single::new();
    // `available` chunks of the pool are free while the kernel receives full bursts.
    let mut busy = |available: usize, rounds: usize| {
        let kept: Vec<_> = (available..single.pool.available())
            .filter_map(|_| single.pool.alloc())
            .collect();
        let held = single.receive(rounds, BURST, 1);
        kept.into_iter().for_each(|frame| single.pool.free(frame));
        held
    };
    assert_eq!(busy(CHUNKS as usize, 1), 64);
    let many = busy(CHUNKS as usize, 20);
    assert!(many > 128, "{many}");
    let few = busy(CHUNKS as usize / 16, 20);
    assert!(few <= 64, "{few}");
}

/// A queue that becomes busy gets more chunks though another one, after a flood from the underlay, has
/// taken half of them and keeps them, but no more than an eighth of those that are free: it stayed at
/// those of its start for good.
#[test]
fn a_busy_queue_gets_more_chunks_beside_one_that_keeps_half() {
    let mut single = Single::new();
    let half = CHUNKS as usize / 2;
    let kept: Vec<_> = (half - 256..single.pool.available())
        .filter_map(|_| single.pool.alloc())
        .collect();
    let free = single.pool.available();
    assert!(free < half, "{free}");
    let held = single.receive(20, BURST, 1);
    assert!(held > 64 && held <= free / 8, "{held} of {free}");
    kept.into_iter().for_each(|frame| single.pool.free(frame));
}

/// Frames of several chunks use up a fill ring long before a burst of frames is received, and single
/// frames do not make it grow (finding D16).
#[test]
fn a_fill_ring_grows_by_the_chunks_that_are_used() {
    for (segments, frames, grows) in [(6, 4, true), (1, 16, true), (1, 2, false), (6, 1, false)] {
        let held = Single::new().receive(30, frames, segments);
        assert_eq!(held > 64, grows, "{frames} of {segments}: {held}");
    }
}
