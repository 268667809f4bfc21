//! Opens a socket on one queue: rings, packet memory (registered or shared), and a bind in the best
//! mode that works.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use libc::xdp_desc;

use super::error::Error;
use super::options::{BindMode, Binding, BusyPoll, SocketConfig};
use super::ring::{Consumer, Layout, Memory, Producer};
use super::rings::{FillLevel, Rings, SocketChunks};
use super::stall::Stall;
use super::sys::{self, Mapping, RingKind};
use super::umem::{Bound, Registry, Umem};
use crate::frame::buffer::Owner;
use crate::port::PortErrors;

/// Microseconds and frames of one busy poll (Documentation/networking/napi.rst).
const BUSY_POLL: (i32, i32) = (20, 64);

/// A ring in the kernel's memory.
#[derive(Debug)]
pub(super) struct KernelRing<T> {
    mapping: Mapping,
    offsets: libc::xdp_ring_offset,
    size: u32,
    entry: PhantomData<T>,
}

impl<T> KernelRing<T> {
    fn part<P>(&self, offset: u64) -> NonNull<P> {
        // SAFETY: the kernel's offsets are inside the ring's memory, whose mapping has the length
        // that they require.
        unsafe { self.mapping.start().add(offset as usize) }.cast()
    }

    fn shape(&self) -> Layout<T> {
        Layout {
            producer: self.part(self.offsets.producer),
            consumer: self.part(self.offsets.consumer),
            flags: self.part(self.offsets.flags),
            slots: self.part(self.offsets.desc),
            size: self.size,
        }
    }
}

// SAFETY: the mapping holds the ring in the kernel's layout (cache-line aligned indices, then
// `size` slots) until it is dropped; moving `self` does not move it. One socket makes one end of
// each ring.
unsafe impl Memory<xdp_desc> for KernelRing<xdp_desc> {
    fn layout(&self) -> Layout<xdp_desc> {
        self.shape()
    }
}

// SAFETY: as above.
unsafe impl Memory<u64> for KernelRing<u64> {
    fn layout(&self) -> Layout<u64> {
        self.shape()
    }
}

/// The rings of a socket of the kernel.
pub(super) type KernelRings = Rings<KernelRing<xdp_desc>, KernelRing<u64>>;

/// A bound socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) rings: KernelRings,
    pub(super) mode: BindMode,
    /// While busy polling is on: the check that frames are sent.
    pub(super) busy_poll: Option<Stall>,
    /// True once busy polling was disabled.
    pub(super) busy_poll_ended: Arc<AtomicBool>,
}

/// The queue to open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue<'a> {
    pub(super) interface: &'a str,
    pub(super) ifindex: u32,
    pub(super) number: u32,
}

impl Queue<'_> {
    fn failed(self, step: &'static str, mode: BindMode) -> impl FnOnce(io::Error) -> Error {
        let (interface, queue) = (self.interface.to_owned(), self.number);
        move |source| Error::Socket {
            interface,
            queue,
            step,
            mode,
            source,
        }
    }
}

/// Checks the ring sizes.
fn check(config: SocketConfig) -> Result<(), Error> {
    for (what, value) in [
        ("rx ring", config.rx_ring),
        ("tx ring", config.tx_ring),
        ("fill ring", config.fill_ring),
    ] {
        if !value.is_power_of_two() || !(64..=32_768).contains(&value) {
            let expected = "a power of two from 64 to 32768";
            return Err(Error::Value {
                what,
                value: value.into(),
                expected,
            });
        }
    }
    Ok(())
}

/// How long a queue may stay busy after its last socket was closed: the kernel releases it in a
/// work item (net/xdp/xsk_buff_pool.c, `xp_put_pool`).
const RELEASE_TIMEOUT: Duration = Duration::from_millis(500);

/// Opens and binds a socket with the first of `bindings` that works, and registers it.
pub(super) fn open(
    queue: Queue<'_>,
    umem: &Umem,
    bindings: &[Binding],
    config: SocketConfig,
) -> Result<(Socket, Owner), Error> {
    check(config)?;
    let owner = umem.registry().reserve()?;
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    let mut last = Error::Value {
        what: "modes",
        value: 0,
        expected: "at least one mode to bind in",
    };
    for &binding in bindings {
        loop {
            // The lock is released between two attempts, so that no worker waits long to close a
            // port.
            let mut registry = umem.registry();
            match open_in(queue, umem, binding, config, owner, &registry) {
                Ok(socket) => {
                    let binding = Binding {
                        mode: socket.mode,
                        ..binding
                    };
                    let busy_poll_ended = Arc::clone(&socket.busy_poll_ended);
                    let fd = Arc::clone(&socket.fd);
                    registry.bound.push(Bound {
                        owner,
                        ifindex: queue.ifindex,
                        queue: queue.number,
                        binding,
                        socket: fd,
                        busy_poll_ended,
                    });
                    return Ok((socket, owner));
                }
                Err(error) => last = error,
            }
            drop(registry);
            if last.errno() != Some(libc::EBUSY) || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    umem.registry().release(owner);
    Err(last)
}

/// Waits until the kernel has released a queue whose socket was closed: until then a device may
/// still write to chunks of its fill ring, and no other socket can bind. False if that takes too
/// long.
pub(super) fn await_release(is_released: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        if is_released() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the kernel has released a queue whose socket was closed: no device and no packet buffer
/// refers to the chunks of that socket (net/xdp/xsk_buff_pool.c, `xp_release_deferred`).
pub(super) fn is_released(ifindex: u32, queue: u32) -> bool {
    // Bound; or the device is gone, and then the kernel has released its queues.
    !probe(ifindex, queue).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

/// The number of queues that AF_XDP sockets can bind to, for devices that don't report it: 1 to 64.
pub(super) fn count_queues(ifindex: u32) -> u32 {
    let missing = |queue: &u32| {
        // The kernel's answer beyond the last queue (net/xdp/xsk_buff_pool.c,
        // `xsk_reg_pool_at_qid`).
        probe(ifindex, *queue).is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
    };
    (1..64).find(missing).unwrap_or(64)
}

/// Binds a temporary socket.
fn probe(ifindex: u32, queue: u32) -> io::Result<()> {
    const CHUNK: u32 = 4096;
    const ENTRIES: u32 = 4;
    let memory = Mapping::anonymous(CHUNK as usize, false)?;
    let fd = sys::socket()?;
    sys::register_umem(fd.as_fd(), &memory, CHUNK)?;
    let _fill: KernelRing<u64> = ring(&fd, RingKind::Fill, ENTRIES)?;
    let _completion: KernelRing<u64> = ring(&fd, RingKind::Completion, ENTRIES)?;
    let _rx: KernelRing<xdp_desc> = ring(&fd, RingKind::Rx, ENTRIES)?;
    sys::bind(fd.as_fd(), ifindex, queue, libc::XDP_COPY, None)
}

fn open_in(
    queue: Queue<'_>,
    umem: &Umem,
    binding: Binding,
    config: SocketConfig,
    owner: Owner,
    registry: &Registry,
) -> Result<Socket, Error> {
    for other in registry
        .bound
        .iter()
        .filter(|bound| bound.binding == binding)
    {
        let share = Arc::clone(&other.socket);
        match open_with(queue, umem, binding, config, owner, Some(&share)) {
            // The other socket is not bound any more: its device is gone.
            Err(Error::Socket {
                step: "bind",
                source,
                ..
            }) if source.raw_os_error() == Some(libc::EBADF) => {}
            done => return done,
        }
    }
    open_with(queue, umem, binding, config, owner, None)
}

fn open_with(
    queue: Queue<'_>,
    umem: &Umem,
    binding: Binding,
    config: SocketConfig,
    owner: Owner,
    share: Option<&OwnedFd>,
) -> Result<Socket, Error> {
    let mode = binding.mode;
    let fd = sys::socket().map_err(queue.failed("open an AF_XDP socket", mode))?;
    if share.is_none() {
        sys::register_umem(fd.as_fd(), &umem.area().mapping, umem.area().chunk_size)
            .map_err(queue.failed("register the packet memory (UMEM)", mode))?;
    }
    let rings = rings(&fd, umem, config, (owner, binding.multi_buffer))
        .map_err(queue.failed("create the rings", mode))?;
    sys::bind(
        fd.as_fd(),
        queue.ifindex,
        queue.number,
        binding.flags(),
        share.map(AsFd::as_fd),
    )
    .map_err(queue.failed("bind", mode))?;
    let zero_copy =
        sys::is_zero_copy(fd.as_fd()).map_err(queue.failed("query the bind mode", mode))?;
    let mode = if zero_copy {
        BindMode::ZeroCopy
    } else {
        BindMode::Copy
    };
    let mut busy_poll = None;
    if config.busy_poll == BusyPoll::On {
        let (microseconds, budget) = BUSY_POLL;
        sys::prefer_busy_poll(fd.as_fd(), microseconds, budget)
            .map_err(queue.failed("prefer busy polling", mode))?;
        busy_poll = Some(Stall::default());
    }
    // Room for all frames of the ring, or the kernel would leave most of them waiting (EAGAIN).
    let _ = sys::set_send_buffer(fd.as_fd(), send_buffer(config.tx_ring, umem.frame_size()));
    // Older kernels refuse: a full ring then needs several kicks, as its indices show.
    let _ = sys::set_tx_budget(fd.as_fd(), config.tx_ring);
    Ok(Socket {
        fd: Arc::new(fd),
        rings,
        mode,
        busy_poll,
        busy_poll_ended: Arc::default(),
    })
}

/// The socket's limit for packets in the network stack, bytes, which the kernel doubles: each frame
/// of the tx ring as a packet buffer of the next power of two, and its descriptor.
fn send_buffer(tx_ring: u32, frame_size: u32) -> u32 {
    tx_ring.saturating_mul(frame_size + PACKET_OVERHEAD)
}

/// Bytes of a packet buffer besides its data, generously (`struct sk_buff`, `skb_shared_info`).
const PACKET_OVERHEAD: u32 = 1024;

fn rings(
    fd: &OwnedFd,
    umem: &Umem,
    config: SocketConfig,
    (owner, multi_buffer): (Owner, bool),
) -> io::Result<KernelRings> {
    Ok(Rings {
        rx: Consumer::new(ring(fd, RingKind::Rx, config.rx_ring)?),
        tx: Producer::new(ring(fd, RingKind::Tx, config.tx_ring)?),
        fill: Producer::new(ring(fd, RingKind::Fill, config.fill_ring)?),
        completion: Consumer::new(ring(fd, RingKind::Completion, config.tx_ring)?),
        buffers: Arc::clone(umem.buffers()),
        owner,
        chunk_size: umem.frame_size(),
        multi_buffer,
        socket_chunks: SocketChunks::new(umem.frames()),
        tx_held: 0,
        level: FillLevel::new(config.fill_start.min(config.fill_ring)),
        errors: PortErrors::default(),
    })
}

fn ring<T>(fd: &OwnedFd, kind: RingKind, size: u32) -> io::Result<KernelRing<T>> {
    let (mapping, offsets) = sys::create_ring(fd.as_fd(), kind, size, size_of::<T>())?;
    Ok(KernelRing {
        mapping,
        offsets,
        size,
        entry: PhantomData,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_sized_by_their_share_of_the_memory() {
        for (chunks, fill) in [
            (0, 128),
            (127, 128),
            (1000, 512),
            (2048, 2048),
            (1 << 20, 4096),
        ] {
            let config = SocketConfig::for_chunks(chunks);
            assert_eq!((config.fill_ring, config.rx_ring), (fill, fill / 2));
            check(config).unwrap();
        }
        let wrong = SocketConfig {
            rx_ring: 100,
            ..SocketConfig::default()
        };
        assert!(
            check(wrong)
                .unwrap_err()
                .to_string()
                .starts_with("rx ring = 100: ")
        );
    }
}
