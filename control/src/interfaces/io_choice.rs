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

/// The reason for what `io` or `underlay-io` says.
const AS_CONFIGURED: &str = "as configured";

/// The reason for packet sockets of the underlay.
const UNDERLAY_WITHOUT_HARDWARE: &str =
    "an interface without hardware: superframes of UDP cross it as one packet";

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
    /// The choice for an interface. `names_afxdp`: the configuration sets what only AF_XDP sockets
    /// have.
    ///
    /// # Errors
    /// When `io` is [`Io::Auto`] and the interface does not exist, or is no Ethernet.
    pub fn of(
        name: &InterfaceName,
        purpose: Purpose,
        io: Io,
        names_afxdp: bool,
    ) -> Result<Self, BackendError> {
        let (kind, why) = match io {
            Io::Xdp => (IoKind::Xdp, AS_CONFIGURED),
            Io::Packet => (IoKind::Packet, AS_CONFIGURED),
            Io::Auto if purpose == Purpose::Underlay && names_afxdp => {
                (IoKind::Xdp, "[vtep.afxdp] sets mode or busy-poll")
            }
            Io::Auto => match (PacketDevice::open(name.as_str())?.preferred(), purpose) {
                (Ok(_), Purpose::Underlay) => (IoKind::Packet, UNDERLAY_WITHOUT_HARDWARE),
                (Ok(why), Purpose::Tenant | Purpose::Trunk) => (IoKind::Packet, why),
                (Err(why), _) => (IoKind::Xdp, why),
            },
        };
        let auto = io == Io::Auto;
        Ok(Self { kind, why, auto })
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
