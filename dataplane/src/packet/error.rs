//! Errors of setting up packet sockets: which interface, why, and the remedy.

use std::io;

use crate::afxdp::TOO_MANY_FILES;

/// A setup step failed. None of it remains.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The interface can't be queried.
    #[error(transparent)]
    Interface(#[from] crate::afxdp::Error),
    /// Packet sockets don't carry the frames of this interface.
    #[error("interface {interface}: {why}")]
    Unsuitable {
        /// Its name.
        interface: String,
        /// Why, and the remedy.
        why: &'static str,
    },
    /// A socket could not be created or bound.
    #[error("interface {interface}: packet socket {number}: {step}: {source}; {remedy}", remedy = remedy(source))]
    Socket {
        /// Its name.
        interface: String,
        /// Number of the socket, from 0.
        number: u32,
        /// The failed step.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Interface(error) => error.errno(),
            Self::Unsuitable { .. } => None,
            Self::Socket { source, .. } => source.raw_os_error(),
        }
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => {
            "the interface does not exist in this network namespace any more"
        }
        Some(libc::EPERM | libc::EACCES) => "run as root or with CAP_NET_ADMIN and CAP_NET_RAW",
        Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
        Some(libc::EAFNOSUPPORT) => "the kernel is built without CONFIG_PACKET",
        Some(libc::EINVAL) => {
            "with several workers, kernels before Linux 6.13 need the link to be up: \
             `ip link set IF up`"
        }
        _ => "see `dmesg`",
    }
}
