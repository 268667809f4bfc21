//! AF_XDP sockets: frames between a device's queue and user space without a copy in user space.
//!
//! ```text
//!            XdpDevice (one a device)                      Umem (one for all): chunks of 2048 or 4096 bytes
//!   frames -> XDP program -> XSKMAP[queue] -> XskPort       Pool (one a worker) <-> its free chunks
//!
//!   Pool.take -> fill ring -> kernel -> rx ring -> Frame -> worker -> Frame -> tx ring -> kernel
//!        ^                                                                               |
//!        +---------------------------- completion ring <-------------------------------+
//! ```
//!
//! Sources: Documentation/networking/af_xdp.rst, include/uapi/linux/if_xdp.h, net/xdp/xsk.c. Every descriptor that
//! the kernel gives is checked against the [`ledger`] in release builds too: a chunk is in one place at a time.
//!
//! In copy mode the kernel leaves the first `XDP_PACKET_HEADROOM` (256) bytes of each chunk free, so that a chunk of 2048
//! takes 1792 bytes of a frame and one of 4096 takes 3840. A longer frame comes as several descriptors, all but the last
//! with `XDP_PKT_CONTD`, and leaves so ([`crate::frame::chain`]); where the kernel has no `XDP_USE_SG` (before Linux 6.6)
//! it drops longer frames and counts them in `rx_dropped`.

#![expect(unsafe_code, reason = "system calls, memory shared with the kernel")]

mod buffer;
mod device;
mod error;
#[cfg(test)]
mod fake;
mod interface;
mod ledger;
mod port;
mod ring;
mod rings;
// Its packet memory is a real mapping, which miri has not.
#[cfg(all(test, not(miri)))]
mod rings_tests;
mod socket;
mod stall;
mod sys;
mod umem;

pub use self::buffer::Misfit;
pub use self::device::{AttachMode, Mode, Program, XdpDevice, queues};
pub use self::error::Error;
pub use self::port::{SocketId, Statistics, XskPort};
pub use self::socket::{BindMode, BusyPoll, SocketConfig};
pub use self::umem::{HugePages, Umem, UmemConfig, UmemMemory};
