//! Interfaces with AF_XDP or packet sockets, as `show.status` and `show.ports` report them.

use serde::{Deserialize, Serialize};

use crate::interfaces;

/// Role of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceRole {
    /// Carries VXLAN.
    Underlay,
    /// Carries a tenant's frames.
    Tenant,
}

/// How frames enter and leave an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// By AF_XDP sockets.
    Xdp,
    /// By packet sockets.
    Packet,
}

impl Io {
    /// Its word in `vtepctl`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Xdp => interfaces::IoKind::Xdp.word(),
            Self::Packet => interfaces::IoKind::Packet.word(),
        }
    }
}

impl From<interfaces::IoKind> for Io {
    fn from(kind: interfaces::IoKind) -> Self {
        match kind {
            interfaces::IoKind::Xdp => Self::Xdp,
            interfaces::IoKind::Packet => Self::Packet,
        }
    }
}

/// How the XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the network stack (skb).
    Generic,
}

impl AttachMode {
    /// Its word in `vtepctl`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl From<interfaces::AttachMode> for AttachMode {
    fn from(mode: interfaces::AttachMode) -> Self {
        match mode {
            interfaces::AttachMode::Native => Self::Native,
            interfaces::AttachMode::Generic => Self::Generic,
        }
    }
}

/// How sockets are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindMode {
    /// The NIC reads and writes UMEM.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

impl BindMode {
    /// Its word in `vtepctl`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
        }
    }
}

impl From<interfaces::BindMode> for BindMode {
    fn from(mode: interfaces::BindMode) -> Self {
        match mode {
            interfaces::BindMode::ZeroCopy => Self::ZeroCopy,
            interfaces::BindMode::Copy => Self::Copy,
        }
    }
}

/// An interface with AF_XDP or packet sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceRow {
    /// Its name.
    pub interface: String,
    /// Its role.
    pub role: InterfaceRole,
    /// How its frames enter and leave. Null while it is not open.
    pub io: Option<Io>,
    /// Null while it has no XDP program.
    pub attach: Option<AttachMode>,
    /// Null while it has no AF_XDP socket.
    pub bind: Option<BindMode>,
    /// Whether frames may span several chunks (`XDP_USE_SG`). Null while it is not open.
    pub multi_buffer: Option<bool>,
    /// Number of receive queues with sockets, or of packet sockets.
    pub queues: u32,
    /// Notes on an interface that works as configured, such as why frames are copied: one sentence
    /// each.
    pub notes: Vec<String>,
}

/// Counters of AF_XDP sockets (`struct xdp_statistics`, linux/if_xdp.h), summed over queues and those
/// that were closed since the interface was configured. Packet sockets count only what came while their buffers were full, as `rx_ring_full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct XdpStatistics {
    /// Dropped because no chunk was free, or longer than a chunk of a socket without multi-buffer.
    pub rx_dropped: u64,
    /// Dropped for invalid descriptors in the receive direction.
    pub rx_invalid_descs: u64,
    /// Invalid descriptors in the transmit direction.
    pub tx_invalid_descs: u64,
    /// Dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times the fill ring was found empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Times the transmit ring was found empty.
    pub tx_ring_empty_descs: u64,
}

impl From<interfaces::SocketStatistics> for XdpStatistics {
    fn from(one: interfaces::SocketStatistics) -> Self {
        Self {
            rx_dropped: one.rx_dropped,
            rx_invalid_descs: one.rx_invalid,
            tx_invalid_descs: one.tx_invalid,
            rx_ring_full: one.rx_ring_full,
            rx_fill_ring_empty_descs: one.fill_ring_empty,
            tx_ring_empty_descs: one.tx_ring_empty,
        }
    }
}
