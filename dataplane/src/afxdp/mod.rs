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
//! In copy mode a received frame begins `XDP_PACKET_HEADROOM` (256) bytes into its chunk, so that the longest frame is
//! 1792 bytes with chunks of 2048 and 3840 with chunks of 4096; longer ones are dropped by the kernel and counted in
//! `rx_dropped`.

#![expect(unsafe_code, reason = "system calls, memory shared with the kernel")]

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
mod sys;
mod umem;

pub use device::{AttachMode, Mode, Program, XdpDevice, queues};
pub use error::Error;
pub use port::{SocketId, Statistics, XskPort};
pub use socket::{BindMode, BusyPoll, SocketConfig};
pub use umem::{HugePages, Umem, UmemConfig, UmemMemory};
