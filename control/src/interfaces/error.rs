//! Errors of opening interfaces and of binding their sockets.

use vtep_dataplane::{afxdp, packet};

/// Why the kernel refused an interface or a queue.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// AF_XDP.
    #[error(transparent)]
    AfXdp(#[from] afxdp::Error),
    /// Packet sockets.
    #[error(transparent)]
    Packet(#[from] packet::Error),
    /// The tcx programs beside packet sockets.
    #[error(transparent)]
    Tcx(#[from] packet::TcxError),
}

impl BackendError {
    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::AfXdp(error) => error.errno(),
            Self::Packet(error) => error.errno(),
            Self::Tcx(error) => error.errno(),
        }
    }
}

/// Why an interface can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The kernel refused the interface or a queue.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The interface can't serve its purpose: the host or a bridge uses it, or it is a bond.
    #[error("{0}")]
    Unsuitable(String),
    /// The worker's UMEM frames are all in use.
    #[error(
        "no frames left for another queue: a worker has {share}, and {wanted} more are needed; \
         raise [vtep.afxdp] frames"
    )]
    NoFrames {
        /// The worker's share of the frames.
        share: u32,
        /// Frames that the shortest ring needs.
        wanted: u32,
    },
}

impl InterfaceError {
    /// True when there is no such interface.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let Self::Backend(error) = self else {
            return false;
        };
        // ENODEV, ENXIO (include/uapi/asm-generic/errno-base.h).
        matches!(error.errno(), Some(19 | 6))
    }
}
