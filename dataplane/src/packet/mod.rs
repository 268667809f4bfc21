//! Packet sockets (AF_PACKET): for interfaces without hardware behind them, whose senders leave
//! segmentation and checksums to the receiver. Frames come and go as these left them: superframes of
//! up to 64 KiB, with a vnet header that says how they are cut ([`vnet`]).
//!
//! ```text
//!            PacketDevice (one per interface)          Pool (one per worker)
//!
//!   frames -> fanout group -> ring, queue -> PacketPort -> chunks of the pool -> Frame -> worker
//!   frames <-   interface  <-   sendmmsg  <- PacketPort <- Frame <- worker
//! ```
//!
//! Short frames come through a ring in memory that is shared with the kernel; only a frame that is
//! longer than a slot, which stands for many, takes a system call ([`receiver`]). The kernel holds no
//! chunk between calls.
//!
//! Sources: net/packet/af_packet.c, include/linux/virtio_net.h, packet(7),
//! Documentation/networking/packet_mmap.rst.

#![expect(unsafe_code, reason = "system calls that read and write packet memory")]

mod device;
mod error;
mod gro_socket;
mod isolation;
mod port;
mod receiver;
mod ring;
mod socket;
pub mod split;
mod sys;
mod tag;
mod tcx;
mod train;
mod transmitter;
mod underlay;
pub mod vnet;

pub use self::device::PacketDevice;
pub use self::error::Error;
pub use self::isolation::Isolation;
pub use self::port::PacketPort;
pub use self::socket::{Reception, SocketId};
pub use self::tcx::TcxError;
pub use self::underlay::UnderlayFilter;

/// Frames that one system call sends at most (docs/decisions.md).
const BATCH: usize = 32;
