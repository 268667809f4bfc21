//! AF_XDP sockets: move frames between a device queue and user space without a copy in user space.
//!
//! ```text
//!            XdpDevice (one per device)                   Umem: chunks of 2048 or 4096 bytes
//!   frames -> XDP program -> XSKMAP[queue] -> XskPort       Pool (one per worker): its free chunks
//!
//!   Pool.alloc -> fill ring -> kernel -> rx ring -> Frame -> worker -> Frame -> tx ring -> kernel
//!        ^                                                                               |
//!        +---------------------------- completion ring <-------------------------------+
//! ```
//!
//! Sources: Documentation/networking/af_xdp.rst, include/uapi/linux/if_xdp.h, net/xdp/xsk.c. Every
//! descriptor from the kernel is checked against the record of its chunk
//! ([`crate::frame::buffer`]), in release builds too: a chunk has one holder at a time.
//!
//! In copy mode the kernel leaves the first `XDP_PACKET_HEADROOM` (256) bytes of each chunk free,
//! so that a chunk of 2048 bytes holds 1792 bytes of a frame and one of 4096 holds 3840. A longer
//! frame is received as several descriptors, all but the last with `XDP_PKT_CONTD`, and sent
//! likewise ([`crate::frame::chain`]). A kernel without `XDP_USE_SG` (before Linux 6.6) drops
//! longer frames and counts them in `rx_dropped`.

#![expect(unsafe_code, reason = "system calls, memory shared with the kernel")]

mod attach;
mod buffer;
mod device;
mod error;
#[cfg(test)]
mod fake;
mod interface;
mod options;
mod port;
mod probe;
mod ring;
mod rings;
// Their packet memory is a real mapping, which miri does not support.
#[cfg(all(test, not(miri)))]
mod rings_tests;
mod shared_tx;
mod socket;
mod stall;
mod statistics;
mod sys;
mod umem;

pub use vtep_bpf::Drops;

pub(crate) use self::attach::create_link;
pub use self::attach::{AttachMode, Mode, attached_program};
pub use self::buffer::Misfit;
pub use self::device::{ENDPOINT_LIMIT, Program, VlanTags, XdpDevice, no_zero_copy, queues};
pub use self::error::Error;
pub(crate) use self::error::TOO_MANY_FILES;
pub(crate) use self::interface::Interface;
pub use self::options::{BindMode, BusyPoll, HugePages, SocketConfig, UmemConfig};
pub use self::port::{ClosingPort, XskPort};
pub(crate) use self::probe::program_id;
pub use self::probe::{Probe, Probed};
pub use self::statistics::{SocketId, Statistics};
pub(crate) use self::sys::{Mapping, check, get_option, set_option};
pub use self::umem::{Umem, UmemMemory};
