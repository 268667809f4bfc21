//! Options of the packet memory and of sockets.

/// Whether the packet memory uses huge pages of 2 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// If the host has enough free ones.
    #[default]
    Auto,
    /// Always; an error if there are not enough.
    On,
    /// Never.
    Off,
}

/// Size of the packet memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UmemConfig {
    /// Number of chunks, 64..=1,048,576.
    pub frames: u32,
    /// Size of a chunk, bytes: 2048 (frames up to 1792 bytes in copy mode, longer ones take several
    /// chunks) or 4096 (3840).
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

/// How the kernel moves frames between the device and the packet memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindMode {
    /// The device reads and writes the packet memory itself.
    ZeroCopy,
    /// The kernel copies between the device and the packet memory.
    Copy,
}

impl std::fmt::Display for BindMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
        })
    }
}

/// The parameters of a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) mode: BindMode,
    /// Frames of several chunks (`XDP_USE_SG`).
    pub(super) multi_buffer: bool,
}

impl Binding {
    /// The flags of `sockaddr_xdp` (include/uapi/linux/if_xdp.h).
    pub(super) const fn flags(self) -> u16 {
        let mode = match self.mode {
            BindMode::ZeroCopy => libc::XDP_ZEROCOPY,
            BindMode::Copy => libc::XDP_COPY,
        };
        let multi_buffer = if self.multi_buffer {
            libc::XDP_USE_SG
        } else {
            0
        };
        mode | multi_buffer | libc::XDP_USE_NEED_WAKEUP
    }
}

/// Whether the worker polls the device queue instead of interrupts (`SO_PREFER_BUSY_POLL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BusyPoll {
    /// Yes; an error if the kernel refuses. Disabled again if frames stay in the tx ring for 250 ms
    /// and leave it as soon as the driver is woken ([`super::Umem::busy_poll_ended`]).
    On,
    /// No.
    #[default]
    Off,
}

/// Ring sizes (each a power of two, 64..=32,768) and polling of one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketConfig {
    /// Capacity for received frames that the worker has not taken yet.
    pub rx_ring: u32,
    /// Capacity for frames that the kernel has not sent yet; also the size of the completion ring.
    pub tx_ring: u32,
    /// Chunks that the kernel holds to receive into, and that are bound to the socket. More than
    /// `rx_ring`, since some drivers (igb) stall for good when they run out.
    pub fill_ring: u32,
    /// Chunks to receive into that the socket gets at first, at most `fill_ring`. It gets more while
    /// frames come in full bursts and most chunks of its worker are free, so that a queue without
    /// traffic binds few.
    pub fill_start: u32,
    /// Busy polling.
    pub busy_poll: BusyPoll,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self::for_chunks(2048)
    }
}

impl SocketConfig {
    /// Rings for a socket that may hold about `chunks` chunks to receive into, which is its share
    /// of the packet memory: between 128 and 4096, rounded down to a power of two.
    #[must_use]
    pub fn for_chunks(chunks: u32) -> Self {
        let fill_ring = 1 << chunks.clamp(128, 4096).ilog2();
        Self {
            rx_ring: fill_ring / 2,
            tx_ring: fill_ring.clamp(512, 2048),
            fill_ring,
            fill_start: fill_ring,
            busy_poll: BusyPoll::Off,
        }
    }
}
