//! Interfaces with AF_XDP sockets, as `show.status` and `show.ports` report them.

use serde::{Deserialize, Serialize};

/// Role of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceRole {
    /// Carries VXLAN.
    Underlay,
    /// Carries a tenant's frames.
    Tenant,
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

/// How sockets are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindMode {
    /// The NIC reads and writes UMEM.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// An interface with AF_XDP sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceRow {
    /// Its name.
    pub interface: String,
    /// Its role.
    pub role: InterfaceRole,
    /// Null while it has no program.
    pub attach: Option<AttachMode>,
    /// Null while it has no socket.
    pub bind: Option<BindMode>,
    /// Whether frames may span several chunks (`XDP_USE_SG`). Null while it has no socket.
    pub multi_buffer: Option<bool>,
    /// Number of receive queues with sockets.
    pub queues: u32,
    /// Notes on an interface that works as configured, such as why frames are copied: one sentence
    /// each.
    pub notes: Vec<String>,
}
