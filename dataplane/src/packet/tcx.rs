//! Programs at the tcx hooks of an interface, and who else has some there.

use std::io;
use std::os::fd::OwnedFd;

use crate::afxdp::{TOO_MANY_FILES, create_link, program_id};

/// A program at a hook: the hook, and the kernel's number of the program.
pub(super) type Attached = (libbpf_sys::bpf_attach_type, u32);

/// The tcx programs of an interface can't be loaded or attached. None of them remains.
#[derive(Debug, thiserror::Error)]
#[error("interface {interface}: {step}: {source}; {remedy}", remedy = self.remedy())]
pub struct TcxError {
    interface: String,
    step: &'static str,
    source: io::Error,
}

impl TcxError {
    pub(super) fn new(interface: &str, step: &'static str, source: io::Error) -> Self {
        Self {
            interface: interface.to_owned(),
            step,
            source,
        }
    }

    /// [`TcxError::new`] of an error of libbpf.
    pub(super) fn of_bpf(interface: &str, step: &'static str, error: &vtep_bpf::Error) -> Self {
        Self::new(interface, step, system_error(error))
    }

    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether the kernel has no tcx (before Linux 6.6).
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP))
    }

    fn remedy(&self) -> &'static str {
        match self.errno() {
            Some(libc::ENODEV | libc::ENXIO) => {
                "the interface does not exist in this network namespace"
            }
            Some(libc::EPERM | libc::EACCES) => "run as root or with CAP_NET_ADMIN and CAP_BPF",
            Some(libc::ERANGE) => "it has as many tcx programs as there can be: remove one",
            Some(libc::EMFILE | libc::ENFILE) => TOO_MANY_FILES,
            Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                "packet sockets need Linux 6.6 or later; use io = \"xdp\", on the underlay underlay-io = \"xdp\""
            }
            _ => "see `dmesg`",
        }
    }
}

/// The side of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Ingress,
    Egress,
}

impl Hook {
    const fn kind(self) -> libbpf_sys::bpf_attach_type {
        match self {
            Self::Ingress => libbpf_sys::BPF_TCX_INGRESS,
            Self::Egress => libbpf_sys::BPF_TCX_EGRESS,
        }
    }
}

/// An attached program; dropping it detaches the program.
#[derive(Debug)]
pub(super) struct TcxLink {
    hook: Hook,
    /// The kernel's number of the program.
    program: u32,
    _link: OwnedFd,
}

impl TcxLink {
    /// Attaches a program to the interface `name` with this index, before all others of the hook.
    pub(super) fn attach(
        (name, ifindex): (&str, u32),
        hook: Hook,
        program: Result<OwnedFd, vtep_bpf::Error>,
    ) -> Result<Self, TcxError> {
        let program = program.map_err(|error| system_error(&error));
        let link = program.and_then(|program| {
            Ok(Self {
                hook,
                program: program_id(&program)?,
                _link: create_link(&program, ifindex, hook.kind(), libbpf_sys::BPF_F_BEFORE)?,
            })
        });
        let step = match hook {
            Hook::Ingress => "attach a program to tcx ingress",
            Hook::Egress => "attach a program to tcx egress",
        };
        link.map_err(|source| TcxError::new(name, step, source))
    }

    /// What is attached.
    pub(super) const fn attached(&self) -> Attached {
        (self.hook.kind(), self.program)
    }
}

/// The system's error that libbpf's is about.
pub(super) fn system_error(error: &vtep_bpf::Error) -> io::Error {
    vtep_bpf::errno(error).map_or_else(
        || io::Error::other(format!("{error:#}")),
        io::Error::from_raw_os_error,
    )
}
