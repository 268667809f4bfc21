//! TCP (RFC 9293): only the offset of its checksum.
//!
//! ```text
//!  0         2         4                   8                  12
//! +---------+---------+-------------------+-------------------+
//! | source  |  dest.  |  sequence number  |   acknowledgment  |
//! +---------+---------+---------+---------+-------------------+
//! |offs.,flags| window |checksum | urgent  | options           |
//! +---------+---------+---------+---------+-------------------+
//! 12        14        16        18        20
//! ```

/// Protocol number.
pub const PROTOCOL: u8 = 6;

/// Length of a header without options, bytes.
pub const LEN: usize = 20;

/// Offset of the checksum.
pub const CHECKSUM: usize = 16;
