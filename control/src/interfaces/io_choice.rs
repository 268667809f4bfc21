//! How frames enter and leave an interface, and why.

use vtep_dataplane::packet::{PacketDevice, TcxError};

use super::Purpose;
use super::error::BackendError;
use crate::config::{InterfaceName, Io};

/// The kinds of sockets of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoKind {
    /// AF_XDP sockets.
    Xdp,
    /// Packet sockets.
    Packet,
}

impl IoKind {
    /// Its word in files and in `vtepctl`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Packet => "packet",
        }
    }
}

/// The kind that an interface gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoChoice {
    /// The kind.
    pub kind: IoKind,
    /// Why: one clause.
    pub why: &'static str,
    /// The configuration leaves the choice to vtepd.
    auto: bool,
}

impl IoChoice {
    /// The choice for an interface.
    ///
    /// # Errors
    /// When `io` is [`Io::Auto`] and the interface does not exist, or is no Ethernet.
    pub fn of(name: &InterfaceName, purpose: Purpose, io: Io) -> Result<Self, BackendError> {
        let choice = |kind, why| Self {
            kind,
            why,
            auto: false,
        };
        let configured = |kind| choice(kind, "as configured");
        Ok(match (purpose, io) {
            (Purpose::Underlay, Io::Auto) => choice(IoKind::Xdp, "the underlay has AF_XDP sockets"),
            (_, Io::Xdp) => configured(IoKind::Xdp),
            (_, Io::Packet) => configured(IoKind::Packet),
            (_, Io::Auto) => {
                let (kind, why) = match PacketDevice::open(name.as_str())?.preferred() {
                    Ok(why) => (IoKind::Packet, why),
                    Err(why) => (IoKind::Xdp, why),
                };
                Self {
                    auto: true,
                    ..choice(kind, why)
                }
            }
        })
    }

    /// Whether AF_XDP is taken instead, since the kernel can't keep the interface from the host.
    pub(super) fn falls_back(&mut self, error: &TcxError) -> bool {
        let falls_back = self.auto && error.is_unsupported();
        if falls_back {
            self.kind = IoKind::Xdp;
            self.why = "packet sockets need tcx (Linux 6.6 or later)";
        }
        falls_back
    }
}
