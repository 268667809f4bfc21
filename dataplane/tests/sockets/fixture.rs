//! Network namespaces, links and sockets that are cleaned up, also when a test fails.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vtep_dataplane::afxdp::{
    Error, HugePages, Mode, Program, SocketConfig, Umem, UmemConfig, UmemMemory, XdpDevice, XskPort,
};
use vtep_dataplane::frame::assembly::ChainBuilder;
use vtep_dataplane::frame::{Frame, FrameMemory, Pool};
use vtep_dataplane::port::Port;

/// Length of a test frame, bytes.
pub(crate) const FRAME: usize = 98;

/// The test frame with this number: broadcast, local EtherType (IEEE Std 802 clause 9.2.4).
pub(crate) fn frame(number: u32) -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    bytes.extend(number.to_be_bytes());
    bytes.resize(FRAME, number as u8);
    bytes
}

/// Whether these bytes are a test frame, or one after 50 bytes of an outer header: the kernel may
/// send frames of its own on any link.
pub(crate) fn is_test_frame(bytes: &[u8]) -> bool {
    [12, 62]
        .iter()
        .any(|at| bytes.get(*at..at + 2) == Some(&[0x88, 0xb5]))
}

/// Receives like [`Port::receive`], and drops frames that the kernel sent by itself.
pub(crate) fn receive(
    port: &mut XskPort,
    pool: &mut Pool<UmemMemory>,
    burst: &mut Vec<Frame>,
) -> usize {
    let before = burst.len();
    port.receive(pool, burst);
    let (ours, foreign): (Vec<_>, Vec<_>) = burst
        .drain(before..)
        .partition(|frame| is_test_frame(pool.memory().bytes(frame)));
    foreign.into_iter().for_each(|frame| pool.free(frame));
    burst.extend(ours);
    burst.len() - before
}

/// A network namespace; the calling thread is in it until it is dropped.
pub(crate) struct Netns {
    name: String,
    home: File,
}

impl Netns {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "vtep-xsk-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let home = File::open("/proc/thread-self/ns/net").unwrap();
        run(&format!("ip netns add {name}"));
        let netns = Self { name, home };
        let own = File::open(format!("/run/netns/{}", netns.name)).unwrap();
        move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        // The kernel's own frames (MLD, router solicitations) would disturb the frames that the
        // tests count.
        for whose in ["default", "all"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{whose}/disable_ipv6"), "1").unwrap();
        }
        netns
    }

    /// Runs `ip ARGUMENTS` in this namespace: children of this thread are in it.
    pub(crate) fn ip(&self, arguments: &str) {
        run(&format!("ip {arguments}"));
    }

    /// `ip netns exec` in this namespace: with its own /sys, which this thread does not have.
    pub(crate) fn exec(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        command
    }

    /// Runs `tc ARGUMENTS` in this namespace.
    pub(crate) fn tc(&self, arguments: &str) {
        run(&format!("tc {arguments}"));
    }

    /// Two connected interfaces, up, without IPv6, so that the host sends no frames by itself.
    pub(crate) fn veth(&self, left: &str, right: &str) {
        self.ip(&format!("link add {left} type veth peer name {right}"));
        for end in [left, right] {
            self.ip(&format!("link set {end} up addrgenmode none"));
        }
    }

    /// The output of `ip link show` for an interface.
    pub(crate) fn show(&self, interface: &str) -> String {
        let output = Command::new("ip")
            .args(["-d", "link", "show", interface])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let left = move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network));
        let deleted = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        if let (Err(error), _) | (Ok(()), Err(error)) =
            (left.map_err(std::io::Error::from), deleted)
        {
            eprintln!("{} could not be removed: {error}", self.name);
        }
    }
}

pub(crate) fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A child process that is killed when it is dropped.
pub(crate) struct Child(pub(crate) std::process::Child);

impl Child {
    /// Starts a Python program that has a guest's end of a tap; returns when it has printed "ready".
    pub(crate) fn guest(program: &str) -> Self {
        let mut guest = Self(
            Command::new("python3")
                .args(["-c", program])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("python3"),
        );
        let mut line = String::new();
        BufReader::new(guest.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        guest
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only if it has already exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Time limit for every wait, generous for a slow, busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits up to [`PATIENCE`].
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn own_umem() -> Umem {
    umem_of(2048)
}

pub(crate) fn umem_of(frame_size: u32) -> Umem {
    Umem::new(UmemConfig {
        frames: 8192,
        frame_size,
        huge_pages: HugePages::Off,
    })
    .unwrap()
}

/// Retries while a device or queue is busy: between fork and exec, a child of a parallel test holds
/// copies of all descriptors, including those of programs and sockets that were closed here since.
fn when_free<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(error) if error.errno() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result.unwrap_or_else(|error| panic!("{error}")),
        }
    }
}

pub(crate) fn open(name: &str, program: &Program, mode: Mode) -> XdpDevice {
    when_free(|| XdpDevice::open(name, program, mode))
}

pub(crate) fn bind(device: &XdpDevice, umem: &Umem, config: SocketConfig) -> XskPort {
    when_free(|| device.bind(0, umem, config))
}

/// Asserts that each chunk of a UMEM with one pool is in the pool exactly once.
pub(crate) fn pool_is_whole(mut pool: Pool<UmemMemory>) {
    let mut chunks: Vec<_> = std::iter::from_fn(|| pool.alloc())
        .map(|frame| frame.chunk())
        .collect();
    chunks.sort_unstable();
    assert!(
        chunks.into_iter().eq(0..pool.capacity() as u32),
        "a chunk is missing or duplicated"
    );
}

/// A device with one socket and its own UMEM.
pub(crate) struct End {
    pub(crate) device: XdpDevice,
    pub(crate) port: XskPort,
    pub(crate) pool: Pool<UmemMemory>,
}

impl End {
    pub(crate) fn open(name: &str, program: &Program, mode: Mode) -> Self {
        Self::open_over(&own_umem(), name, program, mode)
    }

    pub(crate) fn open_over(umem: &Umem, name: &str, program: &Program, mode: Mode) -> Self {
        let device = open(name, program, mode);
        let mut port = bind(&device, umem, SocketConfig::default());
        let mut pool = umem.pools(1).unwrap().remove(0);
        // The first call fills the fill ring.
        assert_eq!(
            receive(&mut port, &mut pool, &mut Vec::new()),
            0,
            "no frame before the test sends one"
        );
        Self { device, port, pool }
    }

    /// Puts one frame into the tx ring, in as many chunks as needed; returns 0 if the ring is full.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> u32 {
        self.send_in(bytes, 1792)
    }

    /// Puts one frame into the tx ring, `piece` bytes per chunk; returns 0 if the ring is full.
    pub(crate) fn send_in(&mut self, bytes: &[u8], piece: usize) -> u32 {
        let Some(frame) = self.make(bytes, piece) else {
            return 0;
        };
        let mut frames = vec![frame];
        let sent = self.port.send(&mut self.pool, &mut frames);
        let left: Option<Frame> = frames.pop();
        left.into_iter().for_each(|frame| self.pool.free(frame));
        sent as u32
    }

    /// A frame in chunks of `piece` bytes each; `None` if there are not enough chunks.
    pub(crate) fn make(&mut self, bytes: &[u8], piece: usize) -> Option<Frame> {
        let mut whole: Option<ChainBuilder> = None;
        for bytes in bytes.chunks(piece) {
            let Some(mut chunk) = self.pool.alloc() else {
                whole
                    .into_iter()
                    .for_each(|whole| self.pool.free(whole.finish()));
                return None;
            };
            let chunk_size = self.pool.memory().chunk_size();
            chunk
                .set_extent(
                    256.min(chunk_size - bytes.len()) as u16,
                    bytes.len(),
                    chunk_size,
                )
                .unwrap();
            self.pool
                .memory_mut()
                .bytes_mut(&mut chunk)
                .copy_from_slice(bytes);
            match &mut whole {
                None => whole = Some(ChainBuilder::new(chunk)),
                Some(whole) => whole.push(self.pool.memory().buffers(), chunk).unwrap(),
            }
        }
        whole.map(ChainBuilder::finish)
    }

    /// All bytes of a received frame.
    pub(crate) fn bytes(&self, frame: &Frame) -> Vec<u8> {
        let mut bytes = vec![0; frame.len()];
        self.pool.memory().read(frame, &mut bytes);
        bytes
    }

    /// Closes the socket and asserts that no chunk is lost.
    pub(crate) fn close(mut self) {
        self.port.close(&mut self.pool);
        pool_is_whole(self.pool);
    }
}
